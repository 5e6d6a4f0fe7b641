"""Alarm transitions in the telemetry store, where boards draw them as annotations over the curves.

Receives notifications; writes each change of an alarm's state as one `AlarmMark` (measurement `alarms`). It mirrors
every transition (see `rules.notifiers`); a repetition overwrites its mark. The store is started and closed by whoever
owns it: while it is away `send` raises `TransientError`, and the outbox brings the mark later, in a lane of its own
that delays neither rules nor people.
"""

from datetime import datetime
from typing import Protocol

from devices.errors import PartialWriteError
from rules.documents import Notification
from rules.notifiers import Undeliverable
from storage.telemetry import AlarmMark

_STATE_KEPT = frozenset(("commented", "assigned", "judged"))  # kinds that change no state


class MarkStore(Protocol):
    """What this target needs of a `TelemetryStore`."""

    async def mark(self, marks: list[AlarmMark]) -> None: ...


class StoreNotifier:
    """Target `store`."""

    name = "store"
    mirrors = True

    def __init__(self, store: MarkStore) -> None:
        self._store = store

    async def send(self, notification: Notification) -> None:
        """Write the mark; what stands for no change of state is passed over."""
        alarm = notification.alarm
        if alarm is None or notification.kind in _STATE_KEPT:
            return
        mark = AlarmMark(
            time=round(datetime.fromisoformat(notification.at).timestamp() * 1000),
            subject=alarm["subject"]["id"],
            rule=alarm["rule"],
            state=alarm["state"],
            priority=alarm["priority"],
            text=f"{alarm['title']['zh']} / {alarm['title']['en']}",
        )
        try:
            await self._store.mark([mark])
        except PartialWriteError as error:
            raise Undeliverable(f"store: {error.rejected[0]}") from error

    async def close(self) -> None:
        """Nothing is held."""
