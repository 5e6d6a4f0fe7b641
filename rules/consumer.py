"""The rules consumer: drives the engine along the journal, and brings it back to the same state after a crash.

Receives decoded batches in journal order, and between them the inputs that are not in the journal: the time, people's
actions, our own outages. Gives effects to the committer. Owns the driver of the engine.

A start restores the newest snapshot that is whole and fits, then repeats the journal from there up to the cursor,
with every recorded input at the place where it came in the first run; nothing of that is committed again, for it is.
Behind the cursor it is live. `accept` raises `TransientError` while too many effects wait for the database; the feed
brings the batch again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from devices.errors import TransientError
from devices.model import DecodedBatch, Milliseconds
from rules.committer import Committer, Messenger
from rules.driver import Driver, RulesEngine
from rules.effects import Cursor, Input, Place
from rules.gateway_sessions import GatewaySessions
from rules.model import Action, SnapshotMismatch, Transition
from rules.reconciliation import reconcile
from rules.repository import CONSUMER, RulesRepository
from storage.registry import Registry, RegistryView
from storage.snapshots import Snapshot, SnapshotStore

log = structlog.get_logger(__name__)

_TICK_EVERY = 200  # ms
_TELL_OUTAGE_EVERY = 1_000  # ms
_RETRY_START = 1.0  # s
_SHARE = 20  # a snapshot may take at most one part in so many of the time
_REMEMBERED = 10_000  # answered actions that a read begun earlier may still show as pending


def _now() -> Milliseconds:
    return time.time_ns() // 1_000_000


class RulesConsumer:
    """See the module docstring. `snapshot_every` and `poll_every` in seconds, `backlog_limit` in rows.

    `deaf_since` says since when nothing can reach us (wall clock), None while something can.
    """

    name = CONSUMER

    def __init__(
        self,
        rules: RulesEngine,
        repository: RulesRepository,
        snapshots: SnapshotStore,
        registry: Registry,
        messenger: Messenger,
        *,
        deaf_since: Callable[[], Milliseconds | None] = lambda: None,
        snapshot_every: float = 60.0,
        snapshot_messages: int = 500_000,
        poll_every: float = 0.25,
        backlog_limit: int = 10_000,
        clock: Callable[[], Milliseconds] = _now,
    ) -> None:
        self._driver = Driver(rules)
        self._repository = repository
        self._snapshots = snapshots
        self._registry = registry
        self._committer = Committer(repository, snapshots, messenger, clock, limit=backlog_limit)
        self._deaf_since = deaf_since
        self._snapshot_every = snapshot_every
        self._snapshot_messages = snapshot_messages
        self._poll_every = poll_every
        self._clock = clock
        self._watcher: asyncio.Task[None] | None = None

        self._ticked_at: Milliseconds = 0
        self._outage_told_at: Milliseconds = 0
        self._live = False
        self._cursor = Cursor()
        self._gateways = GatewaySessions()
        self._tallies: Counter[str] = Counter()

        self._view = RegistryView()
        self._newer_view: RegistryView | None = None
        self._requests: list[Action] = []
        self._answered: dict[str, None] = {}

        self._snapshot_sequence = 0
        self._snapshot_taken = 0.0
        self._snapshot_cost = 0.0

    @property
    def position(self) -> int:
        """Bound for trimming: the older of the snapshots kept, so that it can stand in for the newer."""
        return self._snapshots.oldest[0]

    @property
    def committed(self) -> int:
        """Journal sequence up to which all effects are in the database."""
        return self._committer.cursor.sequence

    @property
    def live(self) -> bool:
        """Whether the replay after the start is over."""
        return self._live

    @property
    def backlog(self) -> int:
        """Rows that wait for the database."""
        return self._committer.backlog

    @property
    def database_error(self) -> str:
        """What the database said at the last attempt, empty while it answers."""
        return self._committer.error

    @property
    def tallies(self) -> Mapping[str, int]:
        """Totals since the journal began: readings, statuses, transitions, raised."""
        return self._tallies

    async def start(self) -> int:
        """Restore; the journal sequence after which batches are wanted. Waits for the database if need be."""
        while True:
            try:
                place = await asyncio.to_thread(self._load)
                break
            except TransientError as error:
                log.error("rules.database_down", error=str(error))
                await asyncio.sleep(_RETRY_START)
        self._snapshot_sequence, self._snapshot_taken = place[0], time.monotonic()
        self._committer.start(self._cursor)
        self._watcher = asyncio.create_task(self._watch(), name="rules-watcher")
        return place[0]

    def _load(self) -> Place:
        self._snapshots.start()
        self._view = self._registry.load()
        self._driver.engine.set_registry(self._view)
        self._cursor = self._repository.cursor()
        self._tallies = Counter(self._cursor.tallies)
        self._gateways = GatewaySessions(self._repository.gateway_states())
        place = self._restore()
        self._driver.resume(place, self._repository.inputs_after(place))
        return place

    def _restore(self) -> Place:
        for snapshot in self._snapshots.load():
            try:
                self._driver.engine.restore(snapshot.state)
            except SnapshotMismatch as error:
                log.warning("rules.snapshot_does_not_fit", sequence=snapshot.sequence, error=str(error))
                continue
            return snapshot.sequence, snapshot.stamp
        self._snapshots.discard()
        return 0, 0

    async def accept(self, batch: DecodedBatch) -> None:
        """Take one batch; what of it was taken before is passed over."""
        await self._committer.room()
        rest: DecodedBatch | None = batch
        while rest is not None and rest.last > self._driver.sequence:
            if rest.first <= self._driver.sequence:
                rest = rest.split(self._driver.sequence)[1]
            await self._catch_up(rest.first)
            end = self._unbroken(rest)
            piece, rest = rest.split(end) if end < rest.last else (rest, None)
            self._process(piece)
        self._between_batches(self._clock())

    async def idle(self, now: Milliseconds) -> None:
        """At the head: tell the engine the time, unless the head is not yet where the last run ended."""
        if self._watcher is not None and self._watcher.done():
            self._watcher.result()
        if self._driver.sequence < self._cursor.sequence or self._committer.full:
            return
        await self._catch_up(self._driver.sequence + 1)
        self._tell_outage(now)
        if not 0 <= now - self._ticked_at < _TICK_EVERY:
            self._ticked_at = now
            self._add(*self._driver.tick(now))
        self._between_batches(now)

    async def refresh(self) -> None:
        """Read what people asked for and whether the registry changed; used between the next batches."""
        self._requests = await asyncio.to_thread(self._repository.pending_actions)
        if await asyncio.to_thread(self._registry.revision) != self._view.revision:
            self._newer_view = await asyncio.to_thread(self._registry.load)

    async def stop(self) -> None:
        """Commit and snapshot once more, so that the next start has little to repeat."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._live and self._committer.takes_snapshots:
            self._take_snapshot()
        await self._committer.stop()

    def _unbroken(self, batch: DecodedBatch) -> int:
        """Up to where the first run was not interrupted by an input, and did not cross the cursor."""
        end = self._driver.unbroken(batch)
        return end if self._live else min(end, self._cursor.sequence)

    async def _catch_up(self, following: int) -> None:
        """Repeat what came before sequence `following`; go live behind the cursor."""
        self._driver.repeat(following)
        if not self._live and following > self._cursor.sequence:
            await self._go_live()

    async def _go_live(self) -> None:
        held = self._driver.engine.active
        committed = await asyncio.to_thread(self._repository.open_alarms, list(held))
        self._live = True
        now = self._clock()
        if self._cursor.updated_at is not None:
            self._add(self._driver.outage(self._cursor.updated_at, now, now), [])
        found = reconcile(committed, held, now)
        if found:
            log.warning("rules.replay_differs", alarms=[transition.alarm.id for transition in found])
        self._add(None, found)

    def _tell_outage(self, now: Milliseconds) -> None:
        """Before the tick that would judge it: silence while nothing can reach us says nothing about a device."""
        since = self._deaf_since()
        if since is not None and not 0 <= now - self._outage_told_at < _TELL_OUTAGE_EVERY:
            self._outage_told_at = now
            self._add(self._driver.outage(since, now, now), [])

    def _process(self, piece: DecodedBatch) -> None:
        transitions = self._driver.process(piece)
        if not self._live:
            return
        for status in piece.statuses:
            if (state := self._gateways.apply(status)) is not None:
                self._committer.pending.gateways[state.gateway] = state
        self._tallies["readings"] += len(piece.readings)
        self._tallies["statuses"] += len(piece.statuses)
        self._add(None, transitions)

    def _add(self, item: Input | None, transitions: list[Transition]) -> None:
        """To be committed: what the engine did, with the input that caused it unless that is in the journal."""
        self._tallies["transitions"] += len(transitions)
        self._tallies["raised"] += sum(transition.cause == "raise" for transition in transitions)
        effects = self._committer.pending
        effects.sequence, effects.tallies = self._driver.sequence, dict(self._tallies)
        effects.transitions += transitions
        if item is not None:
            effects.inputs.append(item)

    def _between_batches(self, now: Milliseconds) -> None:
        if not self._live:
            return
        for action in self._requests:
            if action.id not in self._answered:
                self._answered[action.id] = None
                self._add(*self._driver.apply(action, now))
        self._requests = []
        while len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]
        if self._newer_view is not None and self._newer_view.revision != self._view.revision:
            self._view = self._newer_view
            self._driver.engine.set_registry(self._view)
        if self._snapshot_is_due() and self._committer.takes_snapshots:
            self._take_snapshot()
        self._committer.nudge()

    def _snapshot_is_due(self) -> bool:
        age = time.monotonic() - self._snapshot_taken
        many = self._driver.sequence - self._snapshot_sequence >= self._snapshot_messages
        return (many or age >= self._snapshot_every) and age >= self._snapshot_cost * _SHARE

    def _take_snapshot(self) -> None:
        self._snapshot_taken = time.monotonic()
        state = self._driver.engine.snapshot()
        self._snapshot_cost = time.monotonic() - self._snapshot_taken
        self._snapshot_sequence = self._driver.sequence
        self._committer.pending.snapshot = Snapshot(self._driver.sequence, self._driver.stamp, self._clock(), state)

    async def _watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except TransientError as error:
                log.warning("rules.cannot_read_requests", error=str(error))
            await asyncio.sleep(self._poll_every)
