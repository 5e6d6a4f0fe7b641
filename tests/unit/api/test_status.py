"""The status document, probes and metrics tell the truth, also about a process that no longer speaks."""

import re

import httpx
import pytest
from sqlalchemy import delete, text

from api.metrics import METRICS
from api.openapi import describe
from storage.tables import process_status
from tests.api_city import NOW, City, ingest_document, report

REASON = {
    "code": "ingest_not_answering",
    "zh": "ingest 进程没有响应",
    "en": "the ingest process does not answer",
}


async def test_the_document_is_what_ingest_says(city: City, client: httpx.AsyncClient) -> None:
    document = (await client.get("/v1/status", headers=city.bearer())).json()
    assert document == ingest_document()


async def test_a_scoped_session_sees_its_own_counts(city: City, client: httpx.AsyncClient) -> None:
    document = (await client.get("/v1/status", headers=city.bearer("viewer", ["230102"]))).json()
    counts = {"alarms_active": 2, "alarms_unacknowledged": 2, "devices": 2, "gateways_online": 1}
    assert document == ingest_document(**counts)


async def test_a_silent_ingest_is_down_and_entities_are_counted_in_the_tables(
    city: City, client: httpx.AsyncClient
) -> None:
    report(city.engine, ingest_document(devices=99, alarms_active=99))
    city.clock.now += 5_000
    assert (await client.get("/v1/status", headers=city.bearer())).json()["devices"] == 99
    city.clock.now += 1
    document = (await client.get("/v1/status", headers=city.bearer())).json()
    assert document["health"] == {"state": "down", "reasons": [REASON]}
    assert (document["devices"], document["alarms_active"], document["received"]) == (4, 4, 1)


async def test_other_silent_processes_are_named_too(city: City, client: httpx.AsyncClient) -> None:
    report(city.engine, {}, at=NOW - 6_000, process="simulator")
    health = (await client.get("/v1/status", headers=city.bearer())).json()["health"]
    assert (health["state"], [reason["code"] for reason in health["reasons"]]) == (
        "degraded",
        ["simulator_not_answering"],
    )


async def test_reasons_of_ingest_are_kept_and_down_stays_down(city: City, client: httpx.AsyncClient) -> None:
    reason = {"code": "broker", "zh": "断开", "en": "disconnected"}
    report(city.engine, ingest_document(health={"state": "down", "reasons": [reason]}), at=NOW - 6_000)
    health = (await client.get("/v1/status", headers=city.bearer())).json()["health"]
    assert health == {"state": "down", "reasons": [REASON, reason]}


async def test_before_ingest_ever_ran_there_are_zeros_and_a_reason(city: City, client: httpx.AsyncClient) -> None:
    with city.engine.begin() as connection:
        connection.execute(delete(process_status))
    document = (await client.get("/v1/status", headers=city.bearer())).json()
    assert (document["received"], document["store_lag_s"], document["devices"]) == (0, None, 4)
    assert document["health"] == {"state": "down", "reasons": [REASON]}


async def test_alive_says_nothing_of_the_others(city: City, client: httpx.AsyncClient) -> None:
    city.store.away = True
    with city.engine.begin() as connection:
        connection.execute(text("DROP TABLE process_status"))
    assert (await client.get("/healthz")).json() == {"status": "ok"}


@pytest.mark.parametrize("broken", ["database", "ingest", "ingest_stopped", "ingest_down"])
async def test_ready_is_503_with_the_reason_while_the_service_is_down(
    city: City, client: httpx.AsyncClient, broken: str
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    code = broken
    if broken == "database":
        with city.engine.begin() as connection:
            connection.execute(text("DROP TABLE process_status"))
    elif broken == "ingest":
        city.clock.now += 5_001
        code = "ingest_not_answering"
    elif broken == "ingest_stopped":
        report(city.engine, ingest_document(stopped=True))
    else:
        reason = {"code": "broker", "zh": "断开", "en": "disconnected"}
        report(city.engine, ingest_document(health={"state": "down", "reasons": [reason]}))
        code = "broker"
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["state"] == "down"
    assert [reason["code"] for reason in answer.json()["reasons"]] == [code]
    if broken != "database":
        status = await client.get("/v1/status", headers=city.bearer())
        assert status.json()["health"] == answer.json()


async def test_a_store_that_is_away_is_degraded_and_ready_because_alarms_go_on(
    city: City, client: httpx.AsyncClient
) -> None:
    city.store.away = True
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["state"] == "degraded"
    assert [reason["code"] for reason in answer.json()["reasons"]] == ["store"]


async def test_totals_of_a_stopped_ingest_stay_in_the_metrics(city: City, client: httpx.AsyncClient) -> None:
    report(city.engine, ingest_document(stopped=True), at=NOW - 3_600_000)
    exposed = await _metrics(city, client)
    assert "\nsonghua_readings_received_total 1.0\n" in exposed
    assert '\nsonghua_health_state{state="down"} 1.0\n' in exposed


async def test_degraded_is_ready_and_says_why(city: City, client: httpx.AsyncClient) -> None:
    reason = {"code": "store_lag", "zh": "滞后", "en": "behind"}
    report(city.engine, ingest_document(health={"state": "degraded", "reasons": [reason]}))
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"state": "degraded", "reasons": [reason]})


async def _metrics(city: City, client: httpx.AsyncClient) -> str:
    answer = await client.get("/metrics", headers=city.bearer())
    assert answer.status_code == 200
    return answer.text


async def test_metrics_are_exactly_those_described(city: City, client: httpx.AsyncClient) -> None:
    exposed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", await _metrics(city, client), re.M))
    created = {name for name in exposed if name.endswith("_created")}
    assert {name: kind for name, kind in exposed.items() if name not in created} == {
        metric.name: metric.kind for metric in METRICS
    }
    for metric in METRICS:
        assert metric.name.startswith("songhua_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.zh
        assert metric.en


async def test_metrics_say_what_the_status_says(city: City, client: httpx.AsyncClient) -> None:
    exposed = await _metrics(city, client)
    for line in (
        "songhua_readings_received_total 1.0",
        "songhua_messages_journalled_total 2.0",
        "songhua_readings_missing 10.0",
        "songhua_readings_conflicting_total 11.0",
        "songhua_sessions_lost_total 12.0",
        "songhua_journal_bytes 13.0",
        'songhua_readings_quarantined_total{reason="malformed"} 6.0',
        "songhua_store_lag_seconds 0.5",
        "songhua_alarms_active 4.0",
        'songhua_health_state{state="ok"} 1.0',
        'songhua_health_state{state="down"} 0.0',
    ):
        assert f"\n{line}\n" in exposed
    described = {metric.key for metric in METRICS} - {""}
    status = describe(city.app)["components"]["schemas"]["Status"]["properties"]
    assert described == set(status) - {"quarantined"}  # it is the sum over its reasons


async def test_requests_are_counted_under_the_routes_template(city: City, client: httpx.AsyncClient) -> None:
    await client.get("/v1/devices/wm-230102-1", headers=city.bearer())
    await client.get("/v1/devices/other", headers=city.bearer())
    await client.get("/somewhere/else")
    exposed = await _metrics(city, client)
    for labels in (
        'method="GET",route="/v1/devices/{device}",status="200"',
        'method="GET",route="/v1/devices/{device}",status="404"',
        'method="GET",route="other",status="404"',
    ):
        assert f"songhua_http_requests_total{{{labels}}} 1.0" in exposed


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {"Host": "127.0.0.1:8080"}, 200),
        ("127.0.0.1", {"Host": "localhost"}, 200),
        ("::1", {"Host": "[::1]:8080"}, 200),
        ("192.0.2.7", {"Host": "127.0.0.1:8080"}, 401),
        ("127.0.0.1", {"Host": "localhost", "X-Forwarded-For": "192.0.2.7"}, 401),
        ("127.0.0.1", {"Host": "rebound.example"}, 401),
        ("127.0.0.1", {"Host": "[::1"}, 401),
    ],
)
async def test_metrics_are_for_this_machine_or_a_token(
    city: City, address: str, headers: dict[str, str], status: int
) -> None:
    transport = httpx.ASGITransport(city.app, client=(address, 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client:
        assert (await client.get("/metrics", headers=headers)).status_code == status


async def test_metrics_count_the_whole_city_and_are_refused_to_a_scoped_token(
    city: City, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/metrics", headers=city.bearer("admin", ["230102"]))).status_code == 403
