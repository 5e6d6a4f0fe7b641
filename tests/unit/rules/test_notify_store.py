"""Alarm transitions become marks in a real telemetry store."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from devices.errors import PartialWriteError, TransientError
from rules.documents import Notification, build_notification
from rules.model import State
from rules.notifiers import Undeliverable
from rules.notify_store import StoreNotifier
from storage.sqlite_store import SqliteStore
from storage.telemetry import AlarmMark
from tests.unit.rules.test_repository import alarm, transition


def marks(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select subject, rule, time, state, priority, text from alarms").fetchall()


async def test_each_change_of_state_is_one_mark_however_often_it_is_sent(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "telemetry.db")
    await store.start()
    notifier = StoreNotifier(store)
    raised = transition(alarm("a", State.UNACK))
    for _ in range(2):
        await notifier.send(build_notification(raised, notifier.name))
    commented = msgspec.structs.replace(transition(alarm("a", State.UNACK), cause="comment"), at=5)
    await notifier.send(build_notification(commented, notifier.name))
    await notifier.send(Notification(id="x", kind="database_down", at="x", title={"zh": "", "en": ""}))
    await store.close()
    words = "表后爆管 / Burst behind the meter"
    assert marks(store.path) == [("d1", raised.alarm.rule, raised.at, "UNACK", "high", words)]


async def test_a_store_that_is_away_is_asked_again(tmp_path: Path) -> None:
    notifier = StoreNotifier(SqliteStore(tmp_path / "telemetry.db"))
    with pytest.raises(TransientError):
        await notifier.send(build_notification(transition(alarm("a", State.UNACK)), notifier.name))


async def test_a_mark_that_the_store_refuses_is_given_up() -> None:
    class Refusing:
        async def mark(self, marks: list[AlarmMark]) -> None:
            raise PartialWriteError({0: "field type conflict"})

    with pytest.raises(Undeliverable, match="field type conflict"):
        await StoreNotifier(Refusing()).send(build_notification(transition(alarm("a", State.UNACK)), "store"))
