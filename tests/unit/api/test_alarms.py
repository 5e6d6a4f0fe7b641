"""Alarms over HTTP: filters, pages, counts, history, and requests that rules will answer."""

from typing import Any

import httpx
import pytest
from sqlalchemy import event, select, update

from api.tables import audit_trail
from devices.model import Gateway, Zone
from rules.model import State
from rules.tables import actions, alarms
from storage.registry import Registry
from tests.api_city import NOW, City, alarm, raise_alarm

ALARM = "23010200000000000000000000000000"


async def _page(city: City, client: httpx.AsyncClient, query: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/alarms{query}", headers=city.bearer())
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(
    ("query", "states"),
    [
        ("", ["UNACK", "UNACK", "ACKED", "ACKED", "RTNUN", "RTNUN"]),
        ("?active=true", ["UNACK", "UNACK", "ACKED", "ACKED"]),
        ("?active=false", ["RTNUN", "RTNUN"]),
        ("?state=RTNUN,ACKED", ["ACKED", "ACKED", "RTNUN", "RTNUN"]),
        ("?state=RTNUN&state=UNACK", ["UNACK", "UNACK", "RTNUN", "RTNUN"]),
        ("?district=230102", ["UNACK", "ACKED", "RTNUN"]),
        ("?priority=critical,high", ["UNACK", "UNACK", "ACKED", "ACKED"]),
        ("?family=streetlight", []),
        ("?rule=wm.burst&subject=wm-230103-1", ["UNACK", "ACKED", "RTNUN"]),
        ("?q=BURST%20behind&district=230103", ["UNACK", "ACKED", "RTNUN"]),
        ("?q=%E7%88%86%E7%AE%A1%20230102", ["UNACK", "ACKED", "RTNUN"]),
        ("?q=Device%20230102", ["UNACK", "ACKED", "RTNUN"]),
        ("?q=%25", []),
        ("?q=_m-230102", []),
    ],
)
async def test_filters_choose_and_the_newest_come_first(
    city: City, client: httpx.AsyncClient, query: str, states: list[str]
) -> None:
    page = await _page(city, client, query)
    assert [item["state"] for item in page["items"]] == states
    assert page["next_cursor"] is None


async def test_pages_meet_without_gap_or_repetition_while_new_alarms_arrive(
    city: City, client: httpx.AsyncClient
) -> None:
    for number in range(10, 17):
        raise_alarm(city.engine, alarm("230102", number, raised_at=NOW - 50_000))  # the same moment: the id decides
    wanted = [item["id"] for item in (await _page(city, client, ""))["items"]]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await _page(city, client, f"?limit=3&cursor={cursor}" if cursor else "?limit=3")
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        raise_alarm(city.engine, alarm("230102", 90 + len(seen), raised_at=NOW + len(seen)))
    assert seen == wanted


async def test_counts_are_those_of_all_pages_and_ignore_the_priority_filter(
    city: City, client: httpx.AsyncClient
) -> None:
    page = await _page(city, client, "?limit=1&priority=low&active=true")
    assert page["items"] == []
    assert page["counts"] == {"critical": 2, "high": 2, "medium": 0, "low": 0}


async def test_last_seq_is_the_newest_transition(city: City, client: httpx.AsyncClient) -> None:
    seq = raise_alarm(city.engine, alarm("230102", 0, State.ACKED, version=2), "acknowledge")
    assert (await _page(city, client, ""))["last_seq"] == seq


async def test_one_alarm_comes_with_its_history(city: City, client: httpx.AsyncClient) -> None:
    raise_alarm(city.engine, alarm("230102", 0, State.ACKED, version=2, acked_by="li", acked_at=NOW), "acknowledge")
    document = (await client.get(f"/v1/alarms/{ALARM}", headers=city.bearer())).json()
    assert document["acked_by"] == "li"
    assert document["acked_at"] == "2026-01-01T00:00:00.000Z"
    assert [(step["version"], step["cause"]) for step in document["transitions"]] == [(1, "raise"), (2, "acknowledge")]


async def test_a_request_waits_for_rules_and_changes_nothing_itself(city: City, client: httpx.AsyncClient) -> None:
    body = {"kind": "comment", "seen_version": 1, "arguments": {"note": "已派人"}}
    headers = city.bearer("operator")
    answer = await client.post(f"/v1/alarms/{ALARM}/actions", json=body, headers=headers)
    assert answer.status_code == 202
    action = answer.json()
    assert (action["state"], action["actor"], action["arguments"]) == ("pending", "operator-all", {"note": "已派人"})
    assert len(action["id"]) == 32
    with city.engine.begin() as connection:
        row = connection.execute(select(actions).where(actions.c.id == action["id"])).one()
        assert (row.alarm, row.kind, row.seen_version, row.requested_at) == (ALARM, "comment", 1, NOW)
        assert connection.scalar(select(alarms.c.version).where(alarms.c.id == ALARM)) == 1
        trail = connection.execute(select(audit_trail).where(audit_trail.c.action == "alarm.action")).one()
        assert (trail.actor, trail.subject, trail.address) == ("operator-all", ALARM, "192.0.2.7")
        assert trail.detail["action"] == action["id"]
        answered = {"state": "refused", "answer": "the alarm changed", "applied_at": NOW + 5}
        connection.execute(update(actions).where(actions.c.id == action["id"]).values(answered))
    document = (await client.get(f"/v1/actions/{action['id']}", headers=headers)).json()
    assert (document["state"], document["answer"]) == ("refused", "the alarm changed")
    assert document["applied_at"] == "2026-01-01T00:00:00.005Z"


@pytest.mark.parametrize(
    ("kind", "arguments", "status"),
    [
        ("acknowledge", {}, 202),
        ("acknowledge", {"note": "seen"}, 202),
        ("unshelve", {}, 202),
        ("comment", {}, 422),
        ("comment", {"note": ""}, 422),
        ("comment", {"note": "x" * 2001}, 422),
        ("assign", {"assignee": "wang"}, 202),
        ("assign", {}, 422),
        ("shelve", {"until": "2026-01-01T08:00:00+08:00", "reason": "works"}, 202),
        ("shelve", {"until": NOW, "reason": "works"}, 202),
        ("shelve", {"until": "tomorrow", "reason": "works"}, 422),
        ("shelve", {"until": NOW}, 422),
        ("shelve", {"until": True, "reason": "works"}, 422),
        ("verdict", {"verdict": "false_alarm"}, 202),
        ("verdict", {"verdict": "maybe"}, 422),
        ("delete", {}, 422),
        ("acknowledge", {"seen": 1}, 422),
    ],
)
async def test_a_request_must_bring_what_its_kind_needs(
    city: City, client: httpx.AsyncClient, kind: str, arguments: dict[str, Any], status: int
) -> None:
    body = {"kind": kind, "seen_version": 1, "arguments": arguments}
    answer = await client.post(f"/v1/alarms/{ALARM}/actions", json=body, headers=city.bearer("operator"))
    assert answer.status_code == status, answer.text
    if "until" in arguments and status == 202:
        assert answer.json()["arguments"]["until"] == NOW


async def test_a_request_about_an_unknown_alarm_leaves_nothing(city: City, client: httpx.AsyncClient) -> None:
    body = {"kind": "acknowledge", "seen_version": 1}
    answer = await client.post(f"/v1/alarms/{'0' * 32}/actions", json=body, headers=city.bearer("operator"))
    assert answer.status_code == 404
    with city.engine.connect() as connection:
        assert connection.execute(select(actions)).all() == []


async def test_an_alarm_says_what_its_subject_and_zone_are_called(city: City, client: httpx.AsyncClient) -> None:
    Registry(city.engine).register(
        zones=[Zone(id="dma-230102", kind="dma", district="230102", name_zh="经纬街计量分区", name_en="DMA, Jingwei")],
        gateways=[Gateway(id="gw-230102", district="230102", name_zh="道里网关")],
    )
    of_zone: dict[str, Any] = {"subject_kind": "zone", "subject_id": "dma-230102", "raised_at": NOW + 3}
    of_gateway: dict[str, Any] = {
        "subject_kind": "gateway",
        "subject_id": "gw-230102",
        "zone": "",
        "raised_at": NOW + 2,
    }
    unknown: dict[str, Any] = {"subject_id": "wm-gone", "zone": "dma-gone", "raised_at": NOW + 1}
    for number, changes in enumerate((of_zone, of_gateway, unknown), 10):
        raise_alarm(city.engine, alarm("230102", number, **changes))
    page = await _page(city, client, "?limit=4&district=230102")
    assert [(item["subject"]["name"], item["zone_name"]["zh"]) for item in page["items"]] == [
        ({"zh": "经纬街计量分区", "en": "DMA, Jingwei"}, "经纬街计量分区"),
        ({"zh": "道里网关", "en": "道里网关"}, ""),
        ({"zh": "wm-gone", "en": "wm-gone"}, "dma-gone"),
        ({"zh": "设备230102", "en": "device 230102"}, "经纬街计量分区"),
    ]
    one = (await client.get(f"/v1/alarms/{ALARM}", headers=city.bearer())).json()
    assert (one["subject"]["name"]["en"], one["zone_name"]["en"]) == ("device 230102", "DMA, Jingwei")
    found = await _page(city, client, "?q=jingwei")
    assert [item["subject"]["kind"] for item in found["items"]] == ["zone"]


async def test_what_an_alarm_hides_can_be_asked_for(city: City, client: httpx.AsyncClient) -> None:
    by = "f" * 32
    raise_alarm(city.engine, alarm("230102", 10, State.DSUPR, suppressed_by=by))
    raise_alarm(city.engine, alarm("230103", 11, State.DSUPR, suppressed_by="e" * 32))
    page = await _page(city, client, f"?suppressed_by={by}")
    assert [item["id"] for item in page["items"]] == [alarm("230102", 10).id]
    assert sum(page["counts"].values()) == 1


async def test_the_names_of_a_page_cost_one_query(city: City, client: httpx.AsyncClient) -> None:
    statements: list[str] = []
    event.listen(city.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    await _page(city, client, "")
    assert len([text for text in statements if "name_zh" in text]) == 1
