"""The feed behind the stream: every transition once and in order, nobody waits for a slow watcher."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from api import feed as feed_module
from api.authenticator import Authenticator
from api.credentials import Principal, Role, fingerprint, identify, revoke_token
from api.feed import Feed, Watcher, sse
from api.status_document import read_status
from rules.model import State
from tests.api_city import NOW, City, alarm, raise_alarm


@pytest.fixture
async def feed(city: City, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Feed]:
    monkeypatch.setattr(feed_module, "POLL_S", 0.01)
    monkeypatch.setattr(feed_module, "STATUS_S", 0.02)
    feed = Feed(
        city.engine,
        Authenticator(city.engine, city.clock),
        lambda districts: read_status(city.engine, city.clock(), districts),
    )
    await feed.start()
    yield feed
    await feed.close()


def _principal(city: City, districts: list[str] | None = None) -> Principal:
    principal = identify(city.engine, fingerprint(city.token("viewer", districts)), "token", NOW)
    assert principal is not None
    return principal


def _alarms(events: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for event in events:
        head, _, data = event.partition(b"data: ")
        if b"event: alarm" in head:
            document = json.loads(data)
            assert head == f"id: {document['seq']}\nevent: alarm\n".encode()
            found.append(document)
    return found


async def _until(watcher: Watcher, count: int) -> list[dict[str, Any]]:
    received: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(received) < count:
            received += _alarms(await watcher.take(1))
    return received


async def _change(city: City, district: str, number: int) -> int:
    raised = alarm(district, 5, State.UNACK, version=number)
    return await asyncio.to_thread(raise_alarm, city.engine, raised)


async def test_watchers_receive_transitions_of_their_districts_in_order(city: City, feed: Feed) -> None:
    everybody = await feed.join(_principal(city))
    scoped = await feed.join(_principal(city, ["230103"]))
    written = [(await _change(city, ("230102", "230103")[n % 2], n + 1), n % 2) for n in range(20)]
    assert [event["seq"] for event in await _until(everybody, 20)] == [seq for seq, _ in written]
    received = await _until(scoped, 10)
    assert [event["seq"] for event in received] == [seq for seq, district in written if district == 1]
    assert {event["alarm"]["district"] for event in received} == {"230103"}
    assert {event["alarm"]["subject"]["name"]["zh"] for event in received} == {"设备230103"}
    assert {event["alarm"]["zone_name"]["zh"] for event in received} == {"dma-230103"}


async def test_past_and_mailbox_together_give_each_transition_once(city: City, feed: Feed) -> None:
    """Join at random moments while transitions are written, as clients do that come back."""
    start = (await feed.join(_principal(city))).floor
    written = []
    watchers = []

    async def write() -> None:
        for number in range(60):
            written.append(await _change(city, "230102", number + 1))
            await asyncio.sleep(random.random() * 0.01)

    async def come_back() -> None:
        await asyncio.sleep(random.random() * 0.5)
        watcher = await feed.join(_principal(city))
        watchers.append((watcher, await feed.past(watcher.principal, start, watcher.floor)))

    await asyncio.gather(write(), *(come_back() for _ in range(10)))
    for watcher, past in watchers:
        received = _alarms([happening.event for happening in past])
        received += await _until(watcher, len(written) - len(received))
        assert [event["seq"] for event in received] == written


async def test_a_watcher_that_cannot_keep_up_is_ended_and_the_others_go_on(
    city: City, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_MAILBOX", 5)
    slow = await feed.join(_principal(city))
    quick = await feed.join(_principal(city))
    for number in range(8):
        await _change(city, "230102", number + 1)
        await _until(quick, 1)
    assert slow.reason == "slow"
    assert slow.ended.is_set()
    assert quick.reason == ""


async def test_an_unexpected_error_does_not_end_the_stream(
    city: City, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = await feed.join(_principal(city))
    failed = asyncio.Event()
    read = feed._read

    def fail_once(*arguments: Any) -> Any:
        monkeypatch.setattr(feed, "_read", read)
        loop.call_soon_threadsafe(failed.set)
        raise KeyError("a column that is none")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(feed, "_read", fail_once)
    await asyncio.wait_for(failed.wait(), 10)
    seq = await _change(city, "230102", 1)
    assert [event["seq"] for event in await _until(watcher, 1)] == [seq]


async def test_the_status_is_told_and_a_newer_one_replaces_it(city: City, feed: Feed) -> None:
    watcher = await feed.join(_principal(city, ["230102"]))
    await asyncio.sleep(0.2)
    events = await watcher.take(1)
    (status,) = [event for event in events if event.startswith(b"event: status")]
    assert json.loads(status.partition(b"data: ")[2])["devices"] == 2


async def test_a_revoked_credential_ends_its_watchers_and_nothing_more_is_given(city: City, feed: Feed) -> None:
    revoked = await feed.join(_principal(city, ["230102"]))
    kept = await feed.join(_principal(city))
    await asyncio.to_thread(revoke_token, city.engine, "viewer-230102")
    await _change(city, "230102", 1)
    await asyncio.wait_for(revoked.ended.wait(), 5)
    assert revoked.reason == "logged_out"
    assert await revoked.take(0.1) == []
    assert len(await _until(kept, 1)) == 1


async def test_readings_go_to_those_who_watch_the_device_and_the_oldest_makes_room(city: City, feed: Feed) -> None:
    watching = await feed.join(_principal(city), "wm-230102-1")
    other = await feed.join(_principal(city), "wm-230103-1")
    for number in range(100):
        feed.offer_reading("wm-230102-1", sse("reading", number))
    readings = [event for event in await watching.take(1) if event.startswith(b"event: reading")]
    assert readings == [sse("reading", number) for number in range(36, 100)]
    assert not [event for event in await other.take(0.1) if event.startswith(b"event: reading")]


async def test_a_database_outage_delays_but_loses_nothing(city: City, feed: Feed) -> None:
    watcher = await feed.join(_principal(city))
    with city.engine.begin() as connection:
        connection.execute(text("ALTER TABLE transitions RENAME TO transitions_away"))
    await asyncio.sleep(0.1)
    assert watcher.reason == ""
    with city.engine.begin() as connection:
        connection.execute(text("ALTER TABLE transitions_away RENAME TO transitions"))
    seq = await _change(city, "230102", 1)
    assert [event["seq"] for event in await _until(watcher, 1)] == [seq]


async def test_stopping_ends_everybody_and_those_who_still_come(city: City, feed: Feed) -> None:
    watcher = await feed.join(_principal(city))
    feed.end_watchers()
    late = await feed.join(_principal(city))
    assert (watcher.reason, late.reason) == ("stopping", "stopping")


def test_a_principal_without_districts_sees_no_transition() -> None:
    assert not Principal("x", Role.admin, frozenset(), None, "", "token").sees("230102")
