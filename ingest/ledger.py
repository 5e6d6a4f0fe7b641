"""The ledger: what every journalled message turned into, counted at the decode frontier, and the quarantine.

Called synchronously for each batch when it is decoded for the first time in the life of the journal (`observe`);
commits verdicts, tallies and its cursor behind the path (`run`). While the database is away the verdicts wait in
memory; above `backlog_limit` of them `full` asks the live path to stop decoding (never to stop acknowledging).
"""

import asyncio
from collections import Counter

import structlog
from sqlalchemy import Engine

from devices.errors import TransientError
from devices.model import DecodedBatch, Rejection
from ingest.device_time import DeviceClock
from ingest.sequence_gaps import SequenceGaps
from storage import verdicts

log = structlog.get_logger(__name__)

_COMMIT_EVERY = 0.2  # s


class Ledger:
    """Tallies are cumulative since the journal began and belong to `frontier`; `position` is what is committed."""

    def __init__(self, engine: Engine, clock: DeviceClock, *, backlog_limit: int = 50_000) -> None:
        self._engine = engine
        self._clock = clock
        self._limit = backlog_limit
        self._waiting: list[Rejection] = []
        self._changed = asyncio.Event()
        self.frontier = 0
        self.position = 0
        self.messages = 0
        self.readings = 0
        self.control = 0
        self.reasons: Counter[str] = Counter()
        self.gaps = SequenceGaps()
        self.error = ""

    async def start(self) -> int:
        """Load the committed tallies; decoding goes on behind the returned sequence."""
        sequence, tallies = await asyncio.to_thread(verdicts.load_cursor, self._engine, "ledger")
        self.frontier = self.position = sequence
        self.messages, self.readings = tallies.get("messages", 0), tallies.get("readings", 0)
        self.control = tallies.get("control", 0)
        self.reasons = Counter(tallies.get("reasons", {}))
        self.gaps.lost = tallies.get("lost", 0)
        if "clock" in tallies:
            self._clock.restore(tallies["clock"])
        return sequence

    def recall(self, batch: DecodedBatch) -> None:
        """After `start`: a batch from before the cursor, so that a gap which spans the restart is noticed."""
        lost = self.gaps.lost
        self.gaps.observe(batch)
        self.gaps.lost = lost  # what was lost by then is in the tallies

    @property
    def full(self) -> bool:
        """Too many verdicts wait for the database."""
        return len(self._waiting) >= self._limit

    def observe(self, batch: DecodedBatch) -> None:
        """Count one newly decoded batch. Must be called exactly once per sequence, in order."""
        if batch.first != self.frontier + 1:
            raise ValueError(f"the ledger is at {self.frontier}, the batch begins at {batch.first}")
        self.frontier = batch.last
        self.messages += batch.last - batch.first + 1
        self.readings += len(batch.readings)
        self.control += batch.control
        if batch.rejections:
            self.reasons.update(str(rejection.reason) for rejection in batch.rejections)
            self._waiting += batch.rejections
        self.gaps.observe(batch)
        self._changed.set()

    async def run(self) -> None:
        """Commit what was observed, a few times a second, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.commit()
                if self.error:
                    log.info("ledger.recovered", position=self.position)
                self.error = ""
            except TransientError as error:
                if not self.error:
                    log.warning("ledger.failing", error=str(error))
                self.error = str(error)
                self._changed.set()
            await asyncio.sleep(_COMMIT_EVERY)

    async def commit(self) -> None:
        """One transaction: waiting verdicts, tallies, cursor. Raises `TransientError`; nothing is then forgotten."""
        taken, frontier = self._waiting, self.frontier
        if frontier == self.position:
            return
        self._waiting = []
        try:
            await asyncio.to_thread(verdicts.commit, self._engine, "ledger", frontier, self._tallies(), taken)
        except BaseException:  # also a cancellation: verdicts must not be forgotten while the cursor moves past them
            self._waiting = taken + self._waiting
            raise
        self.position = frontier

    def _tallies(self) -> dict[str, object]:
        return {
            "messages": self.messages,
            "readings": self.readings,
            "control": self.control,
            "reasons": dict(self.reasons),
            "lost": self.gaps.lost,
            "clock": self._clock.state(),
        }
