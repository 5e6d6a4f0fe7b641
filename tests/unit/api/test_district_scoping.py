"""A credential for some districts learns nothing of the others: every route, role and district, counts included.

The oracle is a city that consists of nothing but the district: there, the whole city's credential must get the same
answers.
"""

from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import describable_app
from api.openapi import describe
from tests import api_city
from tests.api_city import DISTRICTS, City

SPECIFICATION = describe(describable_app())["paths"]
# Not compared: they describe the service or the credential itself, or never end (integration tests open the stream).
APART = {"/v1/session", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/stream"}
PATHS = sorted(path for path, operations in SPECIFICATION.items() if "get" in operations and path not in APART)
# The numbers of a stored transition are the city's: the same for whoever looks.
OF_THE_CITY = {"last_seq", "seq", *api_city.COUNTERS, "quarantined_by_reason", "store_lag_s", "rules_lag_s"}
EXAMPLES = {
    "alarm": ["{district}00000000000000000000000000", "{district}00000000000000000000000002"],
    "device": ["wm-{district}-1", "lamp-{district}-1"],
    "action": ["action-{district}"],
    "partition": ["0"],
    "sequence": ["{district}"],
    "element": ["0", "1"],
}
QUERIES = {
    "district": ["{district}"],
    "family": ["water_meter"],
    "zone": ["dma-{district}"],
    "gateway": ["gw-{district}"],
    "device": ["wm-{district}-1"],
    "subject": ["wm-{district}-1"],
    "q": ["{district}", "wm"],
    "active": ["true"],
    "limit": ["1"],
    "properties": ["flow_rate"],
    "reason": ["malformed"],
}


def _requests(path: str, district: str) -> list[str]:
    """Every example of the path, alone and with every query parameter that the specification knows."""
    paths = [path]
    for name, values in EXAMPLES.items():
        if f"{{{name}}}" in path:
            paths = [whole.replace(f"{{{name}}}", value) for whole in paths for value in values]
    known = [parameter["name"] for parameter in SPECIFICATION[path]["get"].get("parameters", [])]
    queries = ["", *(f"?{name}={value}" for name in known for value in QUERIES.get(name, []))]
    return [(whole + query).replace("{district}", district) for whole in paths for query in queries]


def _comparable(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _comparable(value) for key, value in document.items() if key not in OF_THE_CITY}
    if isinstance(document, list):
        return [_comparable(value) for value in document]
    return document


async def _ask(city: City, path: str, role: str, districts: list[str] | None) -> httpx.Response:
    transport = httpx.ASGITransport(city.app, client=("192.0.2.7", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client:
        return await client.get(path, headers=city.bearer(role, districts))


def _act(city: City, district: str) -> None:
    city.request_action(f"action-{district}", f"{district}00000000000000000000000000")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> City:
    city = City(str(tmp_path_factory.mktemp("whole") / "songhua.db"))
    for district in DISTRICTS:
        _act(city, district)
    return city


@pytest.fixture(scope="module", params=DISTRICTS)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, City]:
    directory: Path = tmp_path_factory.mktemp(request.param)
    city = City(str(directory / "songhua.db"), districts=(request.param,))
    _act(city, request.param)
    return request.param, city


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
@pytest.mark.parametrize("path", PATHS)
async def test_the_answers_are_those_of_a_city_without_the_other_districts(
    whole: City, alone: tuple[str, City], path: str, role: str
) -> None:
    district, city = alone
    for asked_for in DISTRICTS:
        for request in _requests(path, asked_for):
            scoped = await _ask(whole, request, role, [district])
            oracle = await _ask(city, request, role, None)
            assert scoped.status_code == oracle.status_code, request
            assert _comparable(scoped.json()) == _comparable(oracle.json()), request
            if asked_for == district:
                (other,) = set(DISTRICTS) - {district}
                assert other not in scoped.text, request


@pytest.mark.parametrize("path", PATHS)
async def test_a_credential_without_districts_sees_nothing(whole: City, path: str) -> None:
    for district in DISTRICTS:
        for request in _requests(path, district):
            answer = await _ask(whole, request, "admin", [])
            assert not any(known in answer.text for known in DISTRICTS), request


async def test_the_comparison_would_notice_a_leak(whole: City, alone: tuple[str, City]) -> None:
    district, city = alone
    leaky = await _ask(whole, "/v1/devices", "viewer", None)
    oracle = await _ask(city, "/v1/devices", "viewer", None)
    assert district in leaky.text
    assert _comparable(leaky.json()) != _comparable(oracle.json())


async def test_an_action_on_an_alarm_of_another_district_is_refused_like_an_unknown_alarm(whole: City) -> None:
    transport = httpx.ASGITransport(whole.app)
    body = {"kind": "acknowledge", "seen_version": 1}
    async with httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client:
        headers = whole.bearer("operator", ["230102"])
        answers = [
            await client.post(f"/v1/alarms/{alarm}/actions", headers=headers, json=body)
            for alarm in ("23010300000000000000000000000000", "0" * 32)
        ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()


async def test_a_quarantined_message_placed_in_two_districts_is_shown_to_neither(whole: City) -> None:
    whole.quarantine(7, topic="songhua/v1/230102/gw/wm-230103-1/up", device="wm-230103-1")
    whole.quarantine(8, topic="SONGHUA/V1/230102/gw/x/up", device=None)
    whole.quarantine(9, topic="application/1/device/2/event/up", device="wm-230102-1")
    seen = {}
    for scope in (["230102"], ["230103"], ["230102", "230103"], None):
        answer = await _ask(whole, "/v1/quarantine?limit=1000", "operator", scope)
        seen[tuple(scope or ())] = {item["sequence"] for item in answer.json()["items"]} & {7, 8, 9}
    assert seen == {("230102",): {9}, ("230103",): set(), ("230102", "230103"): {7, 9}, (): {7, 8, 9}}
