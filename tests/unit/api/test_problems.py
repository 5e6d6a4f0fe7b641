"""Every refusal is a problem document (RFC 9457) that says what was wrong, and never what the client sent."""

import httpx
import pytest
from sqlalchemy import text

from api.schemas import ProblemDocument
from tests.api_city import City

CANARY = "canary<script>"
JSON = {"Content-Type": "application/json"}


def _problem(answer: httpx.Response, status: int) -> ProblemDocument:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert CANARY not in answer.text
    document = ProblemDocument.model_validate(answer.json())
    assert document.status == status
    return document


@pytest.mark.parametrize(
    ("path", "parameter", "expected"),
    [
        ("/v1/devices?limit=0", "limit", "greater than or equal to 1"),
        ("/v1/devices?limit=1001", "limit", "less than or equal to 1000"),
        (f"/v1/devices?limit={CANARY}", "limit", "integer"),
        (f"/v1/devices?limit={'9' * 400}", "limit", ""),
        (f"/v1/devices?district={CANARY}", "district", "pattern"),
        ("/v1/devices?cursor=%21", "cursor", "next_cursor"),
        ("/v1/devices?cursor=WzFd", "cursor", "next_cursor"),
        ("/v1/devices?q=%00", "q", "pattern"),
        ("/v1/alarms?state=ALARM", "state", "'UNACK'"),
        ("/v1/alarms?priority=urgent", "priority", "'critical'"),
        ("/v1/alarms?active=maybe", "active", "boolean"),
        ("/v1/alarms?cursor=WyJhIiwiYiJd", "cursor", "next_cursor"),
        ("/v1/latest?family=toaster", "family", "water_meter"),
        ("/v1/devices/wm-230102-1/readings?start=yesterday", "start", "ISO 8601"),
        ("/v1/devices/wm-230102-1/readings?start=2026-01-01T00:00:00", "start", "offset"),
        ("/v1/devices/wm-230102-1/readings?start=2&end=1", "start", "before end"),
        ("/v1/devices/wm-230102-1/readings?end=0", "start", "before end"),
        ("/v1/devices/wm-230102-1/readings?end=99999999999999999", "end", "between 1970 and 9999"),
        ("/v1/devices/wm-230102-1/readings?bucket=1y", "bucket", "duration"),
        ("/v1/devices/wm-230102-1/readings?bucket=1", "bucket", "from 1s"),
        ("/v1/devices/wm-230102-1/readings?bucket=1s&start=0", "bucket", "20000 buckets"),
        ("/v1/devices/wm-230102-1/readings?function=median", "function", "'mean'"),
        (f"/v1/devices/wm-230102-1/readings?properties=flow_rate,{CANARY}", "properties", "flow_rate"),
        ("/v1/devices/wm-230102-1/readings?properties=valve_state&bucket=1h", "properties", "numbers"),
        ("/v1/quarantine?reason=bad", "reason", "'malformed'"),
        ("/v1/quarantine/0/x/0", "sequence", "integer"),
    ],
)
async def test_a_bad_parameter_is_named_with_what_was_expected(
    city: City, client: httpx.AsyncClient, path: str, parameter: str, expected: str
) -> None:
    answer = await client.get(path, headers=city.bearer("admin"))
    document = _problem(answer, 422)
    assert document.errors is not None
    assert document.errors[0].parameter == parameter
    assert expected in document.errors[0].expected
    assert parameter in document.detail


@pytest.mark.parametrize(
    "path",
    ["/v1/nothing", "/v1/devices/x", "/v1/alarms/x", "/v1/actions/x", "/v1/quarantine/0/1/2", "/v1/devices/x/readings"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_does_not_exist_is_404_or_405(city: City, client: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await client.request(method, path, headers=city.bearer("admin"))
    _problem(answer, 404 if method == "GET" or path == "/v1/nothing" else 405)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[" * 100_000, 422),
        (b'{"kind": "acknowledge", "seen_version": NaN}', 422),
        (b'{"kind": "acknowledge", "seen_version": 1' + b"0" * 5000 + b"}", 422),
        (b'{"kind": "comment", "seen_version": 1, "arguments": {"note": "\\ud800"}}', 422),
        (b'{"kind": "comment", "seen_version": 1, "arguments": {"note": "\xff"}}', 422),
        (b'{"kind": "\xff"}', 422),
    ],
)
async def test_a_body_that_is_no_sound_json_is_refused(
    city: City, client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    headers = city.bearer("operator") | {"Content-Type": "application/json"}
    answer = await client.post("/v1/alarms/23010200000000000000000000000000/actions", content=body, headers=headers)
    assert answer.status_code in (400, status)
    _problem(answer, answer.status_code)


async def test_a_body_that_is_too_large_is_413_whether_announced_or_not(client: httpx.AsyncClient) -> None:
    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(11):
            yield b" " * 100_000

    _problem(await client.post("/v1/session", content=b" " * 1_000_001), 413)
    _problem(await client.post("/v1/session", content=chunks()), 413)
    _problem(await client.post("/v1/session", content=b"{}", headers={"Content-Length": "9" * 30}), 413)
    _problem(await client.post("/v1/session", content=b'{"code": "x"}', headers=JSON), 401)


async def test_a_database_that_does_not_answer_is_503(city: City, client: httpx.AsyncClient) -> None:
    headers = city.bearer()
    await client.get("/v1/status", headers=headers)
    with city.engine.begin() as connection:
        connection.execute(text("ALTER TABLE devices RENAME TO gone"))
    document = _problem(await client.get("/v1/devices", headers=headers), 503)
    assert "database" in document.detail
    assert "gone" not in document.detail


async def test_a_store_that_does_not_answer_is_503_for_readings_only(city: City, client: httpx.AsyncClient) -> None:
    headers = city.bearer()
    city.store.away = True
    for path in ("/v1/latest", "/v1/devices/wm-230102-1/readings"):
        _problem(await client.get(path, headers=headers), 503)
    page = await client.get("/v1/devices", headers=headers)
    assert page.status_code == 200
    assert page.json()["latest_error"] is True
    assert {item["latest"] for item in page.json()["items"]} == {None}
    assert (await client.get("/v1/alarms", headers=headers)).status_code == 200


async def test_the_unexpected_is_500_without_its_words_and_with_all_headers(city: City) -> None:
    def explode() -> None:
        raise RuntimeError(CANARY)

    city.app.add_api_route("/v1/explosion", explode)
    transport = httpx.ASGITransport(city.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client:
        answer = await client.get("/v1/explosion")
    _problem(answer, 500)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
