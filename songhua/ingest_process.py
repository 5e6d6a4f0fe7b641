"""The ingest process: starts the parts of the message path, looks after them, and stops them in order.

Starts what consumes before what produces, so that nothing waits unseen; stops in the direction in which data flows, so
that everything acknowledged is committed or safe in the journal. Between the two it trims the journal behind the
slowest consumer and keeps the registry view fresh. An unexpected error of any part ends the process; the supervisor
starts it anew.
"""

import asyncio
import gc
import time
from contextlib import suppress

import structlog

from devices.errors import TransientError
from songhua import broker, heartbeat, migrations, retention
from songhua.ingest_parts import Parts
from songhua.ingest_status import StatusDocument
from songhua.settings import Settings

log = structlog.get_logger(__name__)

_TRIM_EVERY = 5.0  # s
_REGISTRY_EVERY = 1.0  # s
_REFRESH_WITHIN = 2.0  # s
_RECALLED = 100_000  # messages before the cursor
_FIRST_CONNECT_WITHIN = 1.0  # s


async def run_ingest(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop`."""
    gc.set_threshold(50_000, 50, 50)  # the hot path makes no cycles; looking for them often only costs
    process = IngestProcess(settings)
    await process.start()
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *process.watched], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
    finally:
        stopped.cancel()
        await process.stop()


class IngestProcess:
    """See the module docstring; `tasks` run for ever, one that ends has failed."""

    def __init__(self, settings: Settings) -> None:
        self.parts = Parts(settings, self._refresh_registry)
        self.parts.session.on_link = self._link_changed
        self._status = StatusDocument(self.parts)
        self._forgetful_broker = broker.is_embedded(settings)  # it starts and ends with us, and so do its sessions
        self._retention = settings.retention
        self._revision = -1
        self._loading: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()  # once
        self._stopping = asyncio.Event()
        self._beat: asyncio.Task[None] | None = None
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the databases and the journal, start consumers, and let messages in. Raises `ConfigError`."""
        parts = self.parts
        await asyncio.to_thread(migrations.upgrade, parts.engine)
        await asyncio.to_thread(parts.journal.start)
        await self._load_registry()
        await parts.ledger.start()
        parts.feed.start_at(parts.ledger.frontier)
        await self._recall()
        await self._start_store()
        await parts.outbox.start()
        parts.session.expects_session = parts.journal.head > 0 and not self._forgetful_broker
        await parts.session.start()
        for name, work in (
            ("session", parts.session.ended()),
            ("pipeline", parts.pipeline.run()),
            ("ledger", parts.ledger.run()),
            ("store", parts.store_task.run()),
            ("rules", parts.rules_task.run()),
            ("live", parts.live.run()),
            ("trim", self._trim()),
            ("registry", self._follow_registry()),
            ("counts", self._status.follow()),
            ("retention", retention.follow(parts.telemetry, self._retention)),
        ):
            self.tasks.append(asyncio.create_task(work, name=name))
        await self._settle()
        self._beat = heartbeat.start(parts.engine, "ingest", self._status.document, self._stopping)
        log.info("ingest.started", head=parts.journal.head, frontier=parts.feed.frontier)

    @property
    def watched(self) -> list[asyncio.Task[None]]:
        """What must not end by itself: `tasks`, and what outlives them: the outbox, and the heartbeat that tells of the
        stop.
        """
        outliving = [] if self._beat is None else [self._beat]
        return [*self.tasks, *self.parts.outbox.tasks, *outliving]

    async def _settle(self) -> None:
        """Do not report before there is something to report: tallies loaded, rows counted, the broker tried."""
        tallies = asyncio.create_task(self.parts.store_task.started.wait())
        await asyncio.wait([tallies, *self.tasks], return_when=asyncio.FIRST_COMPLETED)
        tallies.cancel()
        await self._status.count()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._connected.wait(), _FIRST_CONNECT_WITHIN)

    async def stop(self) -> None:
        """Disconnect (the broker keeps the session), commit what is done, close everything."""
        parts = self.parts
        await parts.session.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for commit in (parts.ledger.commit, parts.store.stop, parts.rules.stop):
            try:
                await commit()
            except TransientError as error:
                log.warning("ingest.uncommitted", error=str(error))  # it is in the journal and comes again
        await parts.outbox.close()
        await parts.telemetry.close()
        await asyncio.to_thread(parts.journal.close)
        self._stopping.set()
        if self._beat is not None:
            await self._beat
        parts.engine.dispose()

    async def _start_store(self) -> None:
        """A store that is away delays nothing: readings wait in the journal, and it is tried again by each write."""
        try:
            await self.parts.telemetry.start()
        except TransientError as error:
            log.warning("store.not_ready", error=str(error))

    def _link_changed(self, connected: bool, resumed: bool) -> None:
        if not connected:
            return
        self._connected.set()
        if not resumed and self.parts.session.sessions_lost:
            self._status.session_lost_at = time.time()
            log.error(
                "mqtt.session_lost", detail="the broker had forgotten our session; what it had queued may be gone"
            )

    async def _recall(self) -> None:
        """Let the ledger see what came shortly before its cursor, so that a gap over the restart is noticed."""
        feed, frontier = self.parts.feed, self.parts.ledger.frontier
        after = max(self.parts.journal.tail - 1, frontier - _RECALLED, 0)
        while after < frontier and (batch := feed.read(after, frontier)) is not None:
            self.parts.ledger.recall(batch)
            after = batch.last
            await asyncio.sleep(0)

    async def _refresh_registry(self) -> None:
        """Make the view current if it is not; the path waits for a short time only, a long load is adopted later."""
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load_if_changed())
        try:
            await asyncio.wait_for(asyncio.shield(self._loading), _REFRESH_WITHIN)
        except (TransientError, TimeoutError) as error:
            log.warning("registry.unavailable", error=str(error) or "still loading")

    async def _load_if_changed(self) -> None:
        if await asyncio.to_thread(self.parts.registry.revision) != self._revision:
            await self._load_registry()

    async def _load_registry(self) -> None:
        view = await asyncio.to_thread(self.parts.registry.load)
        self._revision = view.revision
        self.parts.router.set_registry(view)

    async def _follow_registry(self) -> None:
        """Keep devices that were made from a profile match, and notice what people change."""
        registry, router = self.parts.registry, self.parts.router
        while True:
            await asyncio.sleep(_REGISTRY_EVERY)
            try:
                if router.provisioned:
                    await asyncio.to_thread(registry.adopt, list(router.provisioned.values()))
                await self._refresh_registry()
            except TransientError as error:
                log.debug("registry.unavailable", error=str(error))

    async def _trim(self) -> None:
        """Let go of what every consumer has passed: in memory at once, on disk when the store has it on its own."""
        parts = self.parts
        trimmed = 0
        while True:
            await asyncio.sleep(_TRIM_EVERY)
            parts.feed.forget(min(parts.store_task.position, parts.rules_task.position))
            bound = min(parts.ledger.position, parts.store.position, parts.rules.position)
            if bound > trimmed and parts.journal.tail <= bound:
                try:
                    await parts.telemetry.sync()
                    await asyncio.to_thread(parts.journal.trim, bound)
                    trimmed = bound
                except TransientError as error:
                    log.warning("journal.not_trimmed", error=str(error))
