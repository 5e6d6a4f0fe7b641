"""A consumer of the feed, and the task that drives it: one batch after the other, each until it is taken.

A `TransientError` of a consumer means: the same batch again, after a back-off, while all others go on. Any other error
is a defect and ends the process.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import structlog

from devices.errors import TransientError
from devices.model import DecodedBatch, Milliseconds
from ingest.feed import Feed

log = structlog.get_logger(__name__)

_BACKOFF = (0.1, 5.0)  # s
_IDLE = 0.25  # s between idle calls at the head


class Consumer(Protocol):
    """Something with its own position in the journal; see the module docstring."""

    name: str

    async def start(self) -> int:
        """Load what it kept; the journal sequence after which it wants batches."""

    async def accept(self, batch: DecodedBatch) -> None:
        """Take one batch. What must be durable it commits itself. May raise `TransientError`."""

    async def idle(self, now: Milliseconds) -> None:
        """Called at the head, at least every 500 ms, with the wall clock."""

    @property
    def position(self) -> int:
        """Everything up to here needs no journal any more: the bound for trimming."""


class ConsumerTask:
    """Drives one consumer along the feed for ever; keeps what health wants to know of it."""

    def __init__(self, feed: Feed, consumer: Consumer) -> None:
        self._feed = feed
        self.consumer = consumer
        self.position = 0  # last sequence it accepted (in memory; `consumer.position` is the durable one)
        self.started = asyncio.Event()  # its tallies are loaded
        self.failing_since: float | None = None
        self.error = ""

    async def run(self) -> None:
        """Until cancelled. Any other error is a defect and ends the process; the supervisor starts it anew."""
        self.position = await self.consumer.start()
        self.started.set()
        while True:
            batch = await self._feed.next(self.position, _IDLE)
            if batch is not None:
                await self._persist(partial(self.consumer.accept, batch))
                self.position = batch.last
            if self.position >= self._feed.frontier:
                await self._persist(lambda: self.consumer.idle(time.time_ns() // 1_000_000))
            await asyncio.sleep(0)

    async def _persist(self, call: Callable[[], Awaitable[None]]) -> None:
        delay = _BACKOFF[0]
        while True:
            try:
                await call()
                if self.failing_since is not None:
                    log.info("consumer.recovered", consumer=self.consumer.name, position=self.position)
                self.failing_since, self.error = None, ""
                return
            except TransientError as error:
                if self.failing_since is None:  # log once on failure and once on recovery
                    log.warning("consumer.failing", consumer=self.consumer.name, error=str(error))
                    self.failing_since = time.time()
                self.error = str(error)
                await asyncio.sleep(error.retry_after or delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _BACKOFF[1])
