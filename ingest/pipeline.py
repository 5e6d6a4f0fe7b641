"""The live path: take what arrived, make it durable, acknowledge it, decode it, hand it to the feed.

Two loops that never wait for each other's trouble. `_receive` journals and acknowledges: its only enemies are the disk
and the quota, and then it stops acknowledging and reading. `_decode` follows the journal's head, normally with the
messages still in memory; it counts each batch in the ledger once and publishes it to the feed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from devices.errors import TransientError
from devices.model import DecodedBatch, Milliseconds
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.inbox import Inbox
from ingest.ledger import Ledger
from ingest.redelivery import FirstReceiveTimes
from ingest.routing import UnknownDevices
from storage.journal import Journal, Message, portions

log = structlog.get_logger(__name__)

_BATCH = 2_000  # messages per journal record and decode step
_HANDED_OVER = 20  # batches that may wait in memory for the decode loop; more are read back from the journal
_DISK_RETRY = 1.0  # s


class Pipeline:
    """See the module docstring. `refresh` reloads the registry view (bounded in time, never raises).

    `journal_error` says why the journal takes nothing, `refused_since` when the first message that it refused came.
    """

    def __init__(
        self,
        inbox: Inbox,
        journal: Journal,
        decoder: Decoder,
        ledger: Ledger,
        feed: Feed,
        refresh: Callable[[], Awaitable[None]],
        *,
        on_batch: Callable[[DecodedBatch], None] = lambda batch: None,
    ) -> None:
        self._inbox = inbox
        self._journal = journal
        self._decoder = decoder
        self._ledger = ledger
        self._feed = feed
        self._refresh = refresh
        self._on_batch = on_batch
        self._first_times = FirstReceiveTimes(journal)
        self._handed_over: deque[tuple[int, Sequence[Message]]] = deque()
        self._appended = asyncio.Event()
        self.journal_error = ""
        self.refused_since: Milliseconds | None = None

    async def run(self) -> None:
        """Until cancelled. Ledger and feed must have been started: decoding goes on where they stand."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(), name="receive")
            group.create_task(self._follow(), name="decode")

    async def _receive(self) -> None:
        while True:
            arrived = await self._inbox.receive()
            for messages in portions(arrived, _BATCH):
                try:
                    self._keep(messages)
                except TransientError as error:
                    if self.refused_since is None:
                        log.error("journal.refused", error=str(error))
                        self.refused_since = messages[0].received_at
                    self.journal_error = str(error)
                    self._inbox.put_back(arrived)
                    await asyncio.sleep(_DISK_RETRY)
                    break
                arrived = arrived[len(messages) :]
                if self.refused_since is not None:
                    log.info("journal.recovered")
                    self.journal_error, self.refused_since = "", None
                await asyncio.sleep(0)

    def _keep(self, messages: list[Message]) -> None:
        self._first_times.restore(messages)
        last = self._journal.append(messages)
        self._inbox.acknowledge(messages)
        if len(self._handed_over) < _HANDED_OVER:
            self._handed_over.append((last - len(messages) + 1, messages))
        self._appended.set()

    async def _follow(self) -> None:
        while True:
            if self._ledger.full:
                await asyncio.sleep(0.1)
                continue
            batch = await self._next()
            if batch is None:
                self._appended.clear()
                if self._journal.head == self._feed.frontier:
                    await self._appended.wait()
                continue
            self._ledger.observe(batch)
            self._on_batch(batch)
            await self._feed.publish(batch)
            await asyncio.sleep(0)

    async def _next(self) -> DecodedBatch | None:
        """What follows the frontier: from memory where it is still there, from the journal otherwise."""
        frontier = self._feed.frontier
        while self._handed_over and self._handed_over[0][0] <= frontier + 1:
            first, messages = self._handed_over.popleft()
            if first == frontier + 1:
                return await self._decoded(partial(self._decoder.decode, first, messages))
        if self._journal.head == frontier:
            return None
        return await self._decoded(partial(self._feed.read, frontier, self._journal.head))

    async def _decoded(self, decode: Callable[[bool], DecodedBatch | None]) -> DecodedBatch | None:
        """Decode; a device the registry view lacks may have been registered a moment ago, so look before making one."""
        try:
            return decode(False)
        except UnknownDevices:
            await self._refresh()
            return decode(True)
