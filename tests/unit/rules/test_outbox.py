"""The outbox: at least once under one key, in order per alarm, each target on its own."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.errors import TransientError
from rules import outbox as outbox_module
from rules.documents import Notification
from rules.notifiers import Undeliverable
from rules.outbox import Outbox, Retry
from rules.outbox_rows import OutboxRows
from rules.repository import dead_notifications
from tests.unit.rules.recording_notifier import RecordingNotifier, Rows, down

QUICK = Retry(first=0.002, longest=0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_POLL", 0.01)
    monkeypatch.setattr(outbox_module, "_CLOSING", 0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_every_target_gets_every_notification_once(tmp_path: Path) -> None:
    log, webhook = RecordingNotifier("log"), RecordingNotifier("webhook")
    rows = Rows(tmp_path, log, webhook)
    rows.add(("a", 1), ("b", 1))
    outbox = Outbox(rows.engine, [log, webhook])
    await outbox.start()
    await until(lambda: set(rows.states().values()) == {"sent"})
    await outbox.close()
    assert sorted(log.attempts) == ["a:1:log", "b:1:log"]
    assert sorted(webhook.attempts) == ["a:1:webhook", "b:1:webhook"]
    assert [lane.sent for lane in outbox.lanes] == [2, 2]
    assert log.closed
    assert webhook.closed


async def test_a_lane_that_fails_is_seen_by_whoever_watches(tmp_path: Path) -> None:
    log = RecordingNotifier()
    outbox = Outbox(Rows(tmp_path, log).engine, [log])

    async def defect() -> bool:
        raise KeyError("defect")

    outbox.lanes[0].step = defect  # type: ignore[method-assign]
    await outbox.start()
    (ended,), _ = await asyncio.wait(outbox.tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(KeyError, match="defect"):
        ended.result()
    await outbox.close()


async def test_a_wake_delivers_without_waiting_for_the_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_POLL", 3600.0)
    log = RecordingNotifier()
    rows = Rows(tmp_path, log)
    outbox = Outbox(rows.engine, [log])
    await outbox.start()
    await asyncio.sleep(0.05)
    rows.add(("a", 1))
    outbox.wake()
    await until(lambda: log.received == ["a:1:log"])
    await outbox.close()


async def test_a_hanging_target_delays_no_other(tmp_path: Path) -> None:
    log, webhook = RecordingNotifier("log"), RecordingNotifier("webhook")
    webhook.hang = asyncio.Event()
    rows = Rows(tmp_path, log, webhook)
    rows.add(*((f"a{n}", 1) for n in range(20)))
    outbox = Outbox(rows.engine, [webhook, log], retry=QUICK)
    await outbox.start()
    await until(lambda: len(log.received) == 20)
    assert webhook.received == []
    webhook.hang.set()
    await until(lambda: set(rows.states().values()) == {"sent"})
    await outbox.close()


async def test_versions_of_an_alarm_arrive_in_order_through_failures(tmp_path: Path) -> None:
    chance = random.Random(1)
    log = RecordingNotifier()

    def flaky(notification: Notification) -> None:
        if chance.random() < 0.5:
            raise TransientError("now and then")

    log.hook = flaky
    rows = Rows(tmp_path, log)
    for version in range(1, 6):
        rows.add(*((name, version) for name in "abcd"))
    outbox = Outbox(rows.engine, [log], retry=QUICK)
    await outbox.start()
    await until(lambda: set(rows.states().values()) == {"sent"})
    await outbox.close()
    assert sorted(log.received) == sorted(f"{name}:{version}:log" for name in "abcd" for version in range(1, 6))
    for name in "abcd":
        versions = [key for key in log.received if key.startswith(name)]
        assert versions == sorted(versions)
    assert outbox.lanes[0].failed == len(log.attempts) - 20


async def test_a_target_that_comes_back_gets_everything_with_few_repetitions(tmp_path: Path) -> None:
    log, webhook = RecordingNotifier("log"), RecordingNotifier("webhook")
    webhook.hook = down
    rows = Rows(tmp_path, log, webhook)
    rows.add(*((f"a{n}", 1) for n in range(50)))
    outbox = Outbox(rows.engine, [webhook, log], retry=QUICK)
    await outbox.start()
    await until(lambda: len(log.received) == 50 and len(webhook.attempts) > 20)
    webhook.hook = lambda notification: None
    await until(lambda: set(rows.states().values()) == {"sent"})
    await outbox.close()
    assert sorted(webhook.received) == sorted(f"a{n}:1:webhook" for n in range(50))
    assert webhook.received == list(dict.fromkeys(webhook.received))


async def test_a_dead_target_is_probed_one_at_a_time(tmp_path: Path) -> None:
    log = RecordingNotifier()
    log.hook = down
    rows = Rows(tmp_path, log)
    rows.add(*((f"a{n:02}", 1) for n in range(30)))
    lane = Outbox(rows.engine, [log], clock=lambda: 10_000_000).lanes[0]
    await lane.step()
    assert len(log.attempts) == 8
    await lane.step()
    assert len(log.attempts) == 9
    assert len(set(log.attempts)) == 9


async def test_a_kill_between_send_and_mark_sends_the_same_key_again(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def killed(self: OutboxRows, outcomes: object) -> None:
        raise Killed

    log = RecordingNotifier()
    rows = Rows(tmp_path, log)
    expected: list[str] = []
    for round_ in range(50):
        rows.add((f"a{round_:02}", 1))
        expected += [f"a{round_:02}:1:log"] * 2
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OutboxRows, "mark", killed)
            with pytest.raises(Killed):
                await Outbox(rows.engine, [log]).lanes[0].step()
        await Outbox(rows.engine, [log]).lanes[0].step()
    assert log.received == expected
    assert set(rows.states().values()) == {"sent"}


async def test_what_was_sent_is_marked_when_the_database_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = 3
    mark = OutboxRows.mark

    def sometimes(self: OutboxRows, outcomes: list[outbox_module.Outcome]) -> None:
        nonlocal away
        away -= 1
        if away >= 0:
            raise TransientError("away")
        mark(self, outcomes)

    monkeypatch.setattr(OutboxRows, "mark", sometimes)
    log = RecordingNotifier()
    rows = Rows(tmp_path, log)
    rows.add(("a", 1))
    outbox = Outbox(rows.engine, [log])
    await outbox.start()
    await until(lambda: rows.states() == {"a:1:log": "sent"})
    await outbox.close()
    assert log.attempts == ["a:1:log"]


async def test_a_refusal_for_good_is_visible_and_the_next_version_goes(tmp_path: Path) -> None:
    log = RecordingNotifier()

    def refuse(notification: Notification) -> None:
        if notification.id == "a:1:log":
            raise Undeliverable("HTTP 400")

    log.hook = refuse
    rows = Rows(tmp_path, log)
    rows.add(("a", 1))
    rows.add(("a", 2))
    outbox = Outbox(rows.engine, [log])
    await outbox.start()
    await until(lambda: rows.states() == {"a:1:log": "dead", "a:2:log": "sent"})
    await outbox.close()
    given_up = rows.row("a:1:log")
    assert given_up["error"] == "HTTP 400"
    assert dead_notifications(rows.engine, given_up["sent_at"]) == (1, 1)  # type: ignore[arg-type]
    assert dead_notifications(rows.engine, given_up["sent_at"] + 1) == (1, 0)  # type: ignore[operator]
    assert (outbox.lanes[0].dead, outbox.lanes[0].sent) == (1, 1)


async def test_attempts_are_bounded(tmp_path: Path) -> None:
    log = RecordingNotifier()
    log.hook = down
    rows = Rows(tmp_path, log)
    rows.add(("a", 1))
    outbox = Outbox(rows.engine, [log], retry=Retry(first=0.001, longest=0.002, attempts=4))
    await outbox.start()
    await until(lambda: rows.states() == {"a:1:log": "dead"})
    await outbox.close()
    assert log.attempts == ["a:1:log"] * 4
    assert rows.row("a:1:log")["attempts"] == 4


async def test_a_notification_its_target_chokes_on_does_not_hold_up_the_others(tmp_path: Path) -> None:
    log = RecordingNotifier()

    def choke(notification: Notification) -> None:
        if notification.id == "a:1:log":
            raise RuntimeError("a defect of the notifier")

    log.hook = choke
    rows = Rows(tmp_path, log)
    rows.add(("a", 1))
    outbox = Outbox(rows.engine, [log], retry=QUICK)
    await outbox.start()
    await until(lambda: len(log.attempts) > 3)
    rows.add(*((f"b{n}", 1) for n in range(20)))
    outbox.wake()
    await until(lambda: len(log.received) == 20)
    await outbox.close()
    assert rows.states()["a:1:log"] == "pending"


async def test_the_target_says_when_to_come_again(tmp_path: Path) -> None:
    log = RecordingNotifier()

    def busy(notification: Notification) -> None:
        raise TransientError("HTTP 429", retry_after=40)

    log.hook = busy
    rows = Rows(tmp_path, log)
    rows.add(("a", 1))
    await Outbox(rows.engine, [log], retry=QUICK, clock=lambda: 1_000_000).lanes[0].step()
    assert rows.row("a:1:log")["next_attempt_at"] == 1_040_000


def test_back_off_grows_with_jitter_up_to_its_bound() -> None:
    retry = Retry(first=1.0, longest=60.0)
    for failures, bound in ((1, 1.0), (3, 4.0), (6, 32.0), (10, 60.0), (5000, 60.0)):
        delays = {retry.delay(failures) for _ in range(50)}
        assert all(bound / 2 <= delay <= bound for delay in delays)
        assert len(delays) > 1


async def test_news_of_the_service_leaves_without_the_database(tmp_path: Path) -> None:
    log, webhook = RecordingNotifier("log"), RecordingNotifier("webhook")
    failures = 2

    def flaky(notification: Notification) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise TransientError("not yet")

    webhook.hook = flaky
    engine = Rows(tmp_path, log).engine
    (tmp_path / "songhua.db").unlink()
    outbox = Outbox(engine, [log, webhook], retry=QUICK)
    outbox.send_unstored("database_down", {"zh": "数据库不可用", "en": "Database unavailable"}, "2026-01-01T00:00:00Z")
    await until(lambda: len(log.received) == len(webhook.received) == 1)
    assert log.received == ["database_down:2026-01-01T00:00:00Z:log"]
    assert outbox.unstored_sent == 2
    await outbox.close()


async def test_old_sent_rows_are_forgotten_and_others_kept(tmp_path: Path) -> None:
    log = RecordingNotifier()
    rows = Rows(tmp_path, log)
    rows.add(("a", 1))
    await Outbox(rows.engine, [log], clock=lambda: 5_000).lanes[0].step()
    rows.add(("b", 1))
    assert OutboxRows(rows.engine).forget_sent(5_000) == 0
    assert OutboxRows(rows.engine).forget_sent(5_001) == 1
    assert rows.states() == {"b:1:log": "pending"}
