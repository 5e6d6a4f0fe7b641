"""Every answer is what OpenAPI says it is: no field more, none less, none of another type."""

import json
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

import api
from api.app import describable_app
from api.live import decode_reading, reading_event
from api.openapi import describe, export
from api.schemas import LatestOfDevice
from tests.api_city import City

ANSWERS = [
    ("/v1/session", "/v1/session"),
    ("/v1/overview", "/v1/overview"),
    ("/v1/districts", "/v1/districts"),
    ("/v1/families", "/v1/families"),
    ("/v1/zones", "/v1/zones"),
    ("/v1/gateways", "/v1/gateways"),
    ("/v1/devices", "/v1/devices?limit=1"),
    ("/v1/devices/{device}", "/v1/devices/wm-230102-1"),
    ("/v1/devices/{device}/readings", "/v1/devices/wm-230102-1/readings"),
    ("/v1/latest", "/v1/latest"),
    ("/v1/alarms", "/v1/alarms?limit=1"),
    ("/v1/alarms/{alarm}", "/v1/alarms/23010200000000000000000000000000"),
    ("/v1/actions/{action}", "/v1/actions/action-1"),
    ("/v1/status", "/v1/status"),
    ("/v1/quarantine", "/v1/quarantine?limit=1"),
    ("/v1/quarantine/{partition}/{sequence}/{element}", "/v1/quarantine/0/230102/0"),
    ("/healthz", "/healthz"),
    ("/readyz", "/readyz"),
]
WITHOUT_MODEL = {"/metrics", "/openapi.json", "/v1/stream"}


def _models() -> dict[str, type[BaseModel]]:
    contexts = iter_route_contexts(describable_app().routes)
    routes = [context.original_route for context in contexts if "GET" in (context.methods or ())]
    return {
        route.path: route.response_model
        for route in routes
        if isinstance(route, APIRoute) and route.path not in WITHOUT_MODEL
    }


def test_every_route_that_gives_a_document_is_checked_here() -> None:
    assert set(_models()) == {template for template, _ in ANSWERS}


@pytest.mark.parametrize(("template", "path"), ANSWERS)
async def test_the_answer_is_the_document_described(
    city: City, client: httpx.AsyncClient, template: str, path: str
) -> None:
    city.request_action("action-1", "23010200000000000000000000000000")
    answer = await client.get(path, headers=city.bearer("admin"))
    assert answer.status_code == 200
    model = _models()[template]
    document = model.model_validate_json(answer.content)
    items = getattr(document, "items", None)
    assert items is None or items
    assert document.model_dump(mode="json", by_alias=True).keys() == answer.json().keys()


def test_the_export_is_stable_and_names_every_operation_once() -> None:
    assert export() == export()
    operations = [operation for path in json.loads(export())["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert {"list_alarms", "get_alarm", "request_action", "list_devices", "list_readings", "log_in"} <= set(names)
    assert all(operation["summary"] and operation["description"] for operation in operations)


def test_the_console_is_built_against_this_description() -> None:
    committed = Path(api.__file__).parent / "console" / "openapi.json"
    assert committed.read_text(encoding="utf-8") == export(), "python -m api.openapi > api/console/openapi.json"


def test_every_refusal_is_described_as_a_problem_document() -> None:
    paths = describe(describable_app())["paths"]
    for path in paths.values():
        for operation in path.values():
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
            assert "422" not in operation["responses"]


def test_the_live_reading_has_the_shape_of_a_latest_one() -> None:
    payload = b'{"device":"wm-1","time":1767225600123,"values":{"flow_rate":0.3,"valve_state":"open"},"quality":"ok"}'
    reading = decode_reading("songhua/v1/live/230102/water_meter/wm-1", payload)
    assert reading is not None
    event = reading_event(reading)
    assert event.startswith(b"event: reading\ndata: ")
    document = LatestOfDevice.model_validate_json(event.removeprefix(b"event: reading\ndata: "))
    assert (document.device, document.time.isoformat()) == ("wm-1", "2026-01-01T00:00:00.123000+00:00")


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("songhua/v1/live/230102/water_meter/wm-2", b'{"device":"wm-1","time":1,"values":{}}'),
        ("songhua/v1/live/230102/water_meter/wm-1", b'{"device":"wm-1","time":1e300,"values":{}}'),
        ("songhua/v1/live/230102/water_meter/wm-1", b'{"device":"wm-1","time":253402300800000,"values":{}}'),
        ("songhua/v1/live/230102/water_meter/wm-1", b"\xff"),
        ("songhua/v1/live/230102/water_meter/wm-1", b""),
    ],
)
def test_a_live_reading_that_is_not_one_is_left_out(topic: str, payload: bytes) -> None:
    assert decode_reading(topic, payload) is None
