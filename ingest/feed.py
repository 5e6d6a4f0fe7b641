"""The feed: decoded batches in journal order, handed to consumers that each go at their own pace.

A consumer near the head gets what the live path decoded, from memory, and all that waits for it as one batch: a store
asked for four readings at a time never catches up. One that fell behind (outage, restart) gets the journal read and
decoded again. Nobody waits for anybody. The feed owns the memory window and the decode frontier; consumers own their
positions.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile

from devices.model import DecodedBatch, Milliseconds, Rejection
from devices.reasons import Reason
from storage.journal import Batch, Journal, Message


class Feed:
    """See the module docstring. `window` is how many decoded messages, or readings if more, stay in memory."""

    def __init__(
        self,
        journal: Journal,
        decode: Callable[[int, Sequence[Message], bool], DecodedBatch],
        *,
        window: int = 50_000,
        read_size: int = 5_000,
    ) -> None:
        self._journal = journal
        self._decode = decode
        self._window = window
        self._read_size = read_size
        self._recent: deque[DecodedBatch] = deque()
        self._kept = 0
        self._grown = asyncio.Condition()
        self.frontier = 0

    def start_at(self, sequence: int) -> None:
        """The live path will decode from here; what lies before it is read from the journal by whoever wants it."""
        self.frontier = sequence

    async def publish(self, batch: DecodedBatch) -> None:
        """The live path decoded the next batch."""
        self._recent.append(batch)
        self._kept += _size(batch)
        while self._kept > self._window and len(self._recent) > 1:
            self._kept -= _size(self._recent.popleft())
        async with self._grown:
            self.frontier = batch.last
            self._grown.notify_all()

    def forget(self, through: int) -> None:
        """Every consumer has passed `through`: what lies before it need not stay in memory."""
        while self._recent and self._recent[0].last <= through:
            self._kept -= _size(self._recent.popleft())

    async def next(self, after: int, wait: float) -> DecodedBatch | None:
        """What follows `after`, up to about `read_size` in size, or None if nothing comes within `wait` seconds."""
        if after >= self.frontier:
            async with self._grown:
                try:
                    async with asyncio.timeout(wait):
                        await self._grown.wait_for(lambda: self.frontier > after)
                except TimeoutError:
                    return None
        if self._recent and self._recent[0].first <= after + 1:
            behind = list(takewhile(lambda batch: batch.last > after, reversed(self._recent)))
            taken: list[DecodedBatch] = []
            size = 0
            while behind and size < self._read_size:
                taken.append(behind.pop())
                size += _size(taken[-1])
            batch = DecodedBatch.join(taken)
            return batch if batch.first == after + 1 else batch.split(after)[1]
        return self.read(after, self.frontier)

    def read(self, after: int, through: int, provision: bool = True) -> DecodedBatch | None:
        """Read and decode from the journal, not beyond `through`; damaged stretches become rejections."""
        found = self._journal.read(after, min(self._read_size, through - after))
        if found is None:
            return None
        batch = self._decode(found.first, found.messages, provision)
        if found.damage or found.first > after + 1:
            batch.clock = batch.clock or time.time_ns() // 1_000_000  # nothing left that tells when it came
            batch.rejections[:0] = _damaged(found, after, batch.clock)
            batch.first = after + 1
        return batch if batch.last <= through else batch.split(through)[0]


def _size(batch: DecodedBatch) -> int:
    """Messages, or readings where lists of them came."""
    return max(batch.messages, len(batch.readings))


def _damaged(found: Batch, after: int, noticed_at: Milliseconds) -> list[Rejection]:
    """One rejection for every sequence the journal no longer holds: each message keeps exactly one outcome."""
    detail = "; ".join(f"{d.file} at byte {d.offset}, {d.length} bytes: {d.detail}" for d in found.damage)[:1000]
    return [
        Rejection(sequence, 0, Reason.damaged_record, detail or "missing", "journal", "", b"", noticed_at)
        for sequence in range(after + 1, found.first)
    ]
