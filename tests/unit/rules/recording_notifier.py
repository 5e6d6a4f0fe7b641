"""Targets for outbox tests, and rows for them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, select

from devices.errors import TransientError
from rules.documents import Notification
from rules.effects import Effects
from rules.model import State
from rules.notifiers import Notifier
from rules.repository import RulesRepository
from rules.tables import outbox
from storage.metadata import metadata, open_engine
from tests.unit.rules.test_repository import alarm, transition


class RecordingNotifier:
    """Keeps what it was sent; `hook` runs before each and may raise or wait."""

    mirrors = False

    def __init__(self, name: str = "log") -> None:
        self.name = name
        self.received: list[str] = []
        self.attempts: list[str] = []
        self.hook: Callable[[Notification], object] = lambda notification: None
        self.hang: asyncio.Event | None = None
        self.closed = False

    async def send(self, notification: Notification) -> None:
        self.attempts.append(notification.id)
        self.hook(notification)
        if self.hang is not None:
            await self.hang.wait()
        self.received.append(notification.id)

    async def close(self) -> None:
        self.closed = True


def down(notification: Notification) -> None:
    raise TransientError("connection refused")


class Rows:
    """A database with an outbox."""

    def __init__(self, directory: Path, *targets: Notifier) -> None:
        self.engine: Engine = open_engine(f"sqlite:///{directory / 'songhua.db'}")
        metadata.create_all(self.engine)
        self._repository = RulesRepository(self.engine, targets)
        self._sequence = 0

    def add(self, *changes: tuple[str, int]) -> None:
        """Transitions (alarm, version), committed as rules commits them."""
        self._sequence += 1
        found = [transition(alarm(name, State.UNACK, version)) for name, version in changes]
        self._repository.commit(Effects(self._sequence, {}, found), self._sequence)

    def states(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            return {row.id: row.state for row in connection.execute(select(outbox).order_by(outbox.c.id))}

    def row(self, identity: str) -> dict[str, object]:
        with self.engine.connect() as connection:
            return dict(connection.execute(select(outbox).where(outbox.c.id == identity)).mappings().one())
