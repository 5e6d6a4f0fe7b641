"""A database, a journal's content and a consumer over them, which can be abandoned anywhere and begun anew."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select

from devices.errors import TransientError
from devices.model import GatewayStatus, Reading
from rules.consumer import RulesConsumer
from rules.effects import Effects
from rules.repository import RulesRepository
from rules.tables import actions, alarms, outbox, transitions
from storage.metadata import metadata, open_engine
from storage.registry import Registry
from storage.snapshots import Snapshot, SnapshotStore
from tests.unit.rules.scripted_engine import T0, ScriptedEngine, batch


class Crash(BaseException):
    """The process is killed here."""


class Faults:
    """Named places in the work of the database and the snapshots; `at` runs what a test hung there."""

    def __init__(self) -> None:
        self.hooks: dict[str, Callable[[], None]] = {}
        self.seen: list[str] = []

    def at(self, place: str) -> None:
        self.seen.append(place)
        if hook := self.hooks.get(place):
            hook()


class FaultyRepository(RulesRepository):
    def __init__(self, engine: Engine, targets: Sequence[Any], faults: Faults) -> None:
        super().__init__(engine, targets)
        self._faults = faults

    def commit(self, effects: Effects, now: int) -> None:
        self._faults.at("before commit")
        super().commit(effects, now)
        self._faults.at("after commit")

    def forget_inputs(self, through: tuple[int, int]) -> None:
        self._faults.at("before forgetting")
        super().forget_inputs(through)


class FaultySnapshots(SnapshotStore):
    def __init__(self, directory: Path, faults: Faults) -> None:
        super().__init__(directory)
        self._faults = faults

    def save(self, snapshot: Snapshot) -> None:
        self._faults.at("before snapshot")
        super().save(snapshot)
        self._faults.at("after snapshot")


class Target:
    def __init__(self, name: str, mirrors: bool = False) -> None:
        self.name = name
        self.mirrors = mirrors


class Messages:
    """Stands where the outbox stands and keeps what it was asked."""

    def __init__(self) -> None:
        self.woken = 0
        self.unstored: list[str] = []

    def wake(self) -> None:
        self.woken += 1

    def send_unstored(self, kind: str, title: dict[str, str], at: str) -> None:
        assert title["zh"]
        assert title["en"]
        self.unstored.append(kind)


def refuse() -> None:
    raise TransientError("the database is away")


class World:
    """What outlives a process: the database, the snapshots, the journal's `items`, and the wall clock `now`."""

    def __init__(
        self,
        directory: Path,
        items: Sequence[Reading | GatewayStatus],
        last: int,
        make: Callable[[], Any] = ScriptedEngine,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.engine = open_engine(f"sqlite:///{directory / 'songhua.db'}")
        metadata.create_all(self.engine)
        self.directory = directory / "rules"
        self.items = items
        self.last = last
        self.now = T0
        self.faults = Faults()
        self.messages = Messages()
        self.make = make
        self.rules = make()
        self.consumer = self.consumer_over(self.rules)

    def consumer_over(self, rules: Any, **options: Any) -> RulesConsumer:
        self.rules = rules
        self.faults.hooks = {}
        options = {"snapshot_every": 3600.0, "poll_every": 3600.0} | options
        self.consumer = RulesConsumer(
            rules,
            FaultyRepository(self.engine, [Target("log"), Target("mqtt", mirrors=True)], self.faults),
            FaultySnapshots(self.directory, self.faults),
            Registry(self.engine),
            self.messages,
            clock=lambda: self.now,
            **options,
        )
        return self.consumer

    async def begin(self, **options: Any) -> RulesConsumer:
        """A new process over what the last one left."""
        # One thread takes its work in order, so that `abandon` can wait for what is inside the database.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        self.consumer_over(self.make(), **options)
        self.position = await self.consumer.start()
        return self.consumer

    async def abandon(self) -> None:
        """Kill -9: nothing is flushed; what is inside a transaction ends there before anybody else begins."""
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(lambda: None)

    async def feed(self, through: int, size: int = 3) -> None:
        """Batches of up to `size` messages, up to sequence `through`."""
        while self.position < min(through, self.last):
            end = min(self.position + size, through, self.last)
            self.now = max(self.now, T0 + end * 100)
            await self.consumer.accept(batch(self.items, self.position + 1, end))
            self.position = end

    async def idle(self, later: int = 0) -> None:
        """The wall clock moves on by `later` ms and the feed is at the head."""
        self.now += later
        await self.consumer.idle(self.now)

    async def settle(self) -> None:
        """Until everything that was handed over is committed, and snapshots are saved."""
        async with asyncio.timeout(10):
            while self.consumer.backlog or self.consumer.committed != max(self.position, self.consumer.committed):
                await asyncio.sleep(0.001)
                if not self._alive("rules-committer"):
                    raise Crash
            while self._alive("rules-snapshot"):
                await asyncio.sleep(0.001)

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """The database's files are somewhere else."""
        home = self.directory.parent
        files = list(home.glob("songhua.db*"))
        for file in files:
            file.rename(home / f"away-{file.name}")
        (home / "songhua.db").mkdir()
        self.engine.dispose()
        yield
        (home / "songhua.db").rmdir()
        for file in files:
            (home / f"away-{file.name}").rename(file)

    @staticmethod
    def _alive(name: str) -> bool:
        return any(task.get_name() == name for task in asyncio.all_tasks())

    async def pause(self) -> None:
        """Let tasks and threads go on."""
        await asyncio.sleep(0.002)

    def request(self, identity: str, alarm: str, version: int, kind: str = "acknowledge") -> None:
        row = {
            "id": identity,
            "alarm": alarm,
            "kind": kind,
            "actor": "operator",
            "seen_version": version,
            "arguments": {},
            "requested_at": self.now,
        }
        with self.engine.begin() as connection:
            connection.execute(insert(actions).values(row))

    def rows(self, table: Any) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]

    def alarms(self) -> list[dict[str, Any]]:
        return self.rows(alarms)

    def transitions(self) -> list[dict[str, Any]]:
        return self.rows(transitions)

    def outbox(self) -> list[dict[str, Any]]:
        return self.rows(outbox)
