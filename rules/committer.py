"""The committer: takes what the engine did to the database, in order, behind the engine's back.

Receives effects in `pending` (the consumer adds to it between two awaits); commits all that waits as one transaction
in a thread, so that the engine goes on meanwhile and a burst of batches shares one fsync. A snapshot that came with
the effects is written after their commit, never before: a snapshot ahead of the cursor would swallow alarms. Owns the
cursor `rules`.

While the database is away, effects wait here and are tried again with back-off; above `limit` rows `room` raises
`TransientError`, and the consumer takes no more batches. Once per outage every target is told so without the database.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from devices.errors import TransientError
from devices.model import Milliseconds
from rules.documents import rfc3339
from rules.effects import Cursor, Effects
from rules.repository import RulesRepository
from storage.snapshots import Snapshot, SnapshotStore

log = structlog.get_logger(__name__)

_UNHURRIED = 1.0  # s; how long a mere progress of the cursor may wait
_BACKOFF = (0.1, 5.0)  # s
_DOWN = {"zh": "数据库不可用：告警暂存，恢复后补发", "en": "Database unavailable: alarms are held and follow later"}
_UP = {"zh": "数据库已恢复", "en": "Database available again"}


class Messenger(Protocol):
    """What the committer needs of the outbox."""

    def wake(self) -> None:
        """There are new rows."""

    def send_unstored(self, kind: str, title: dict[str, str], at: str) -> None:
        """Tell every target without the database."""


class Committer:
    """See the module docstring. `grace` is how many seconds an outage lasts before people are told."""

    def __init__(
        self,
        repository: RulesRepository,
        snapshots: SnapshotStore,
        messenger: Messenger,
        clock: Callable[[], Milliseconds],
        *,
        limit: int,
        grace: float = 3.0,
    ) -> None:
        self.pending = Effects()
        self.cursor = Cursor()
        self.error = ""
        self.commits = 0
        self._repository = repository
        self._snapshots = snapshots
        self._messenger = messenger
        self._clock = clock
        self._limit = limit
        self._grace = grace
        self._in_flight = Effects()
        self._wanted = asyncio.Event()
        self._stopping = asyncio.Event()
        self._progress = asyncio.Event()
        self._committed_at = time.monotonic()
        self._failing_since: Milliseconds | None = None
        self._told = False
        self._task: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None

    def start(self, cursor: Cursor) -> None:
        """Begin behind what is committed."""
        self.cursor = cursor
        self.pending = Effects(cursor.sequence, dict(cursor.tallies))
        self._task = asyncio.create_task(self._run(), name="rules-committer")

    @property
    def backlog(self) -> int:
        """Rows that are not committed yet."""
        return self.pending.size + self._in_flight.size

    @property
    def full(self) -> bool:
        """No more should be asked of the engine."""
        return self.backlog >= self._limit

    @property
    def takes_snapshots(self) -> bool:
        """Whether a snapshot given now would be written soon."""
        return not self.error and self.pending.snapshot is None and (self._saving is None or self._saving.done())

    async def room(self) -> None:
        """Wait until not `full`; raises `TransientError` where that is up to the database, and a defect that ended the
        committer.
        """
        while self.full:
            self._raise_defect()
            if self.error:
                raise TransientError(f"{self.backlog} effects wait for the database: {self.error}")
            self._progress.clear()
            self._wanted.set()
            await self._progress.wait()

    def nudge(self) -> None:
        """Something may have been added to `pending`. Raises what ended the committer, if a defect did."""
        self._raise_defect()
        effects = self.pending
        moved = effects.sequence != self.cursor.sequence or effects.inputs
        if effects.urgent or (moved and time.monotonic() - self._committed_at >= _UNHURRIED):
            self._wanted.set()

    async def stop(self, patience: float = 5.0) -> None:
        """Commit what waits, if that takes no longer than `patience` seconds; the journal brings back the rest."""
        self._stopping.set()
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                if self._task is not None:
                    await self._task
                if self._saving is not None:
                    await self._saving

    @property
    def _unfinished(self) -> bool:
        effects = self.pending
        return bool(effects.size or effects.snapshot or effects.sequence != self.cursor.sequence)

    def _raise_defect(self) -> None:
        for task in (self._task, self._saving):
            if task is not None and task.done():
                task.result()

    async def _run(self) -> None:
        try:
            await self._commit_what_comes()
        finally:
            self._progress.set()  # nobody waits for a committer that has ended

    async def _commit_what_comes(self) -> None:
        while not self._stopping.is_set() or self._unfinished:
            await self._wanted.wait()
            if not self._stopping.is_set():
                self._wanted.clear()
            self._in_flight, self.pending = self.pending, Effects(self.pending.sequence, self.pending.tallies)
            if not await self._commit(self._in_flight):
                return
            snapshot = self._in_flight.snapshot
            self._in_flight = Effects()
            self._progress.set()
            if snapshot is not None:
                self._saving = asyncio.create_task(self._save(snapshot), name="rules-snapshot")

    async def _commit(self, effects: Effects) -> bool:
        """Whether it is committed; False only when stopping."""
        delay = _BACKOFF[0]
        while True:
            now = self._clock()
            try:
                await asyncio.to_thread(self._repository.commit, effects, now)
            except TransientError as error:
                self._failed(error)
                if self._stopping.is_set():
                    return False
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _BACKOFF[1])
                continue
            self.commits += 1
            self.cursor = Cursor(effects.sequence, effects.tallies, now)
            self._committed_at = time.monotonic()
            self._succeeded()
            if effects.transitions:
                self._messenger.wake()
            return True

    def _failed(self, error: TransientError) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
            log.error("rules.database_down", error=str(error))
        self.error = str(error)
        self._progress.set()
        if not self._told and now - self._failing_since >= self._grace * 1000:
            self._told = True
            self._messenger.send_unstored("database_down", _DOWN, rfc3339(self._failing_since) or "")

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            log.info("rules.database_up", waited=self._clock() - self._failing_since)
        if self._told:
            self._messenger.send_unstored("database_up", _UP, rfc3339(self._clock()) or "")
        self._failing_since, self._told, self.error = None, False, ""

    async def _save(self, snapshot: Snapshot) -> None:
        try:
            await asyncio.to_thread(self._snapshots.save, snapshot)
            await asyncio.to_thread(self._repository.forget_inputs, self._snapshots.oldest)
        except OSError as error:
            log.error("rules.snapshot_failed", error=str(error))
        except TransientError as error:
            log.warning("rules.inputs_kept", error=str(error))
