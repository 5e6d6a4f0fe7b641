"""The consumer that writes readings to the telemetry store and tells what became of each.

Cursor and tallies are committed a few times a second, after the store's acknowledgement; what was written but not yet
committed is written again after a restart, onto itself. Sorting (late, duplicate, conflict) must answer then as it did
before: the watermarks are a snapshot, and the recent past is sorted again from the journal without being written.
Raises `TransientError` to the feed where the store cannot take a batch now.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import Engine

from devices.errors import PartialWriteError, TransientError
from devices.model import DecodedBatch, Milliseconds, Reading, Rejection
from devices.reasons import Reason
from ingest.order import SeriesOrder, Sorted
from storage import verdicts
from storage.snapshots import Snapshot, SnapshotStore
from storage.telemetry import TelemetryStore

log = structlog.get_logger(__name__)

_COMMIT_EVERY = 0.2  # s
_SNAPSHOT_EVERY = 30.0  # s
_TALLIES = ("readings", "stored", "late", "duplicate", "rejected", "damaged", "conflicts")


class StoreConsumer:
    """See the module docstring. `readings` counts what came in up to `sequence`, the others what became of it."""

    name = "store"

    def __init__(self, store: TelemetryStore, engine: Engine, snapshots: Path, lateness: Milliseconds = 0) -> None:
        self._store = store
        self._engine = engine
        self._order = SeriesOrder(lateness)
        self._snapshots = SnapshotStore(snapshots)
        self._covered = 0  # sequence of the newest snapshot
        self._snapshot_due = time.monotonic() + _SNAPSHOT_EVERY
        self._commit_due = 0.0
        self._committed = 0
        self._ledger_began = 0  # what lies behind it the ledger counts itself in this life of the process
        self._sorted: tuple[int, Sorted] | None = None  # of the batch in work: sorting must not happen twice
        self._refused: list[Rejection] = []
        self._overwritten: list[Rejection] = []
        self.sequence = 0
        self.readings = self.stored = self.late = self.duplicate = self.rejected = self.damaged = self.conflicts = 0
        self.database_error = ""

    async def start(self) -> int:
        """Load tallies and watermarks; batches up to the cursor will only be sorted."""
        self._committed, tallies = await asyncio.to_thread(verdicts.load_cursor, self._engine, self.name)
        self._ledger_began, _ = await asyncio.to_thread(verdicts.load_cursor, self._engine, "ledger")
        self.sequence = self._committed
        for name in _TALLIES:
            setattr(self, name, tallies.get(name, 0))
        await asyncio.to_thread(self._snapshots.start)
        snapshot = await asyncio.to_thread(lambda: next(iter(self._snapshots.load()), None))
        if snapshot is not None:
            self._covered = snapshot.sequence
            self._order.restore(snapshot.state)
        return max(0, min(self._covered, int(tallies.get("oldest", self._committed)) - 1))

    @property
    def position(self) -> int:
        """Bound for trimming: committed, and covered by a snapshot."""
        return min(self._committed, self._covered)

    async def accept(self, batch: DecodedBatch) -> None:
        """Sort, write, count. After a `TransientError` the same batch comes again."""
        if batch.first <= self.sequence:
            known, batch = batch.split(self.sequence)
            if self._sorted is None:  # else it was, before the write failed
                self._order.sort(known.readings)
            if not batch.messages:
                return
        if self._sorted is None or self._sorted[0] != batch.first:
            self._sorted = (batch.first, self._order.sort(batch.readings))
        decided = self._sorted[1]
        refused = await self._write(decided.write)
        damaged = await self._newly_damaged(batch)
        self._sorted = None
        self.sequence = batch.last
        self.readings += len(batch.readings) + len(damaged)
        self.stored += len(decided.write) - len(decided.late | refused.keys())
        self.late += len(decided.late - refused.keys())
        self.duplicate += decided.duplicate
        self.rejected, self.damaged = self.rejected + len(refused), self.damaged + len(damaged)
        self.conflicts += len(decided.conflicts)
        self._refused += [*refused.values(), *damaged]
        words = "another message reported other values for the same time; the last one was kept"
        self._overwritten += [verdicts.on_reading(loser, Reason.invalid_value, words) for loser in decided.conflicts]
        await self._commit_if_due()

    async def idle(self, now: Milliseconds) -> None:
        """At the head: commit what is uncommitted, snapshot when it is time."""
        await self._commit_if_due()

    async def stop(self) -> None:
        """Commit and snapshot once more, so that the next start has nothing to repeat."""
        self._commit_due = self._snapshot_due = 0.0
        await self._commit_if_due()

    async def _write(self, readings: Sequence[Reading]) -> dict[int, Rejection]:
        try:
            if readings:
                await self._store.write(readings)
        except PartialWriteError as error:
            return {
                place: verdicts.on_reading(readings[place], Reason.store_rejected, w)
                for place, w in error.rejected.items()
            }
        return {}

    async def _newly_damaged(self, batch: DecodedBatch) -> list[Rejection]:
        """Records damaged since the ledger counted them as readings: they end in quarantine, not in silence."""
        damaged = [
            r for r in batch.rejections if r.reason == Reason.damaged_record and r.sequence <= self._ledger_began
        ]
        if not damaged:
            return []
        sequences = [rejection.sequence for rejection in damaged]
        known = await asyncio.to_thread(verdicts.known, self._engine, sequences)
        return [rejection for rejection in damaged if rejection.sequence not in known]

    async def _commit_if_due(self) -> None:
        """Move the cursor; the database being away only delays this, never the store."""
        now = time.monotonic()
        if now >= self._commit_due and self._committed < self.sequence:
            self._commit_due = now + _COMMIT_EVERY
            sequence, refused, overwritten = self.sequence, self._refused, self._overwritten
            try:
                await asyncio.to_thread(
                    verdicts.commit, self._engine, self.name, sequence, self._tallies(), refused, conflicts=overwritten
                )
            except TransientError as error:
                self.database_error = str(error)
                return
            self.database_error = ""
            self._committed = sequence
            self._refused, self._overwritten = [], []
        if now >= self._snapshot_due and self._covered < self.sequence:
            self._snapshot_due = now + _SNAPSHOT_EVERY
            state = Snapshot(self.sequence, 0, time.time_ns() // 1_000_000, self._order.snapshot())
            try:
                await asyncio.to_thread(self._snapshots.save, state)
                self._covered = state.sequence
            except OSError as error:
                log.warning("store.snapshot_failed", error=str(error))

    def _tallies(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in _TALLIES} | {"oldest": self._order.oldest or self.sequence}
