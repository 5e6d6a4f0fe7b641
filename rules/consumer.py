"""The rules consumer: drives the engine along the journal, and brings it back to the same state after a crash.

Receives decoded batches in journal order, and between them the inputs that are not in the journal: the time, people's
actions, our own outages. Gives effects to the committer. Owns the engine and the place (journal sequence, stamp) it has
reached.

A start restores the newest snapshot that is whole and fits, then repeats the journal from there up to the cursor,
with every recorded input at the place where it came in the first run; nothing of that is committed again, for it is.
Behind the cursor it is live. `accept` raises `TransientError` while too many effects wait for the database; the feed
brings the batch again.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from devices.errors import TransientError
from devices.model import DecodedBatch, Milliseconds
from rules.committer import Committer, Messenger
from rules.effects import Cursor, Input, Outage, Place, Request, Tick
from rules.gateway_sessions import GatewaySessions
from rules.model import Action, Alarm, SnapshotMismatch, Transition
from rules.reconciliation import differences
from rules.repository import CONSUMER, RulesRepository
from storage.registry import Registry, RegistryView
from storage.snapshots import Snapshot, SnapshotStore

log = structlog.get_logger(__name__)

_TICK_EVERY = 200  # ms
_RETRY_START = 1.0  # s
_SHARE = 20  # a snapshot may take at most one part in so many of the time
_REMEMBERED = 10_000  # answered actions that a read begun earlier may still show as pending


class RulesEngine(Protocol):
    """The pure engine (`rules.engine`): the same inputs in the same order give the same transitions and state.

    How the journal is cut into batches is not an input: a replay is cut differently. A tick after which `tick_mattered`
    is False left no trace and need not be repeated. `restore` raises `SnapshotMismatch`.
    """

    @property
    def active(self) -> Mapping[str, Alarm]: ...
    @property
    def tick_mattered(self) -> bool: ...
    def process(self, batch: DecodedBatch) -> list[Transition]: ...
    def tick(self, now: Milliseconds) -> list[Transition]: ...
    def apply(self, action: Action, now: Milliseconds) -> tuple[str | None, list[Transition]]: ...
    def outage(self, start: Milliseconds, end: Milliseconds) -> None: ...
    def set_registry(self, view: RegistryView) -> None: ...
    def snapshot(self) -> bytes: ...
    def restore(self, data: bytes) -> None: ...


def _now() -> Milliseconds:
    return time.time_ns() // 1_000_000


class RulesConsumer:
    """See the module docstring. `snapshot_every` and `poll_every` in seconds, `backlog_limit` in rows."""

    name = CONSUMER

    def __init__(
        self,
        rules: RulesEngine,
        repository: RulesRepository,
        snapshots: SnapshotStore,
        registry: Registry,
        messenger: Messenger,
        *,
        snapshot_every: float = 60.0,
        snapshot_messages: int = 500_000,
        poll_every: float = 0.25,
        backlog_limit: int = 10_000,
        clock: Callable[[], Milliseconds] = _now,
    ) -> None:
        self._rules = rules
        self._repository = repository
        self._snapshots = snapshots
        self._registry = registry
        self._committer = Committer(repository, snapshots, messenger, clock, limit=backlog_limit)
        self._snapshot_every = snapshot_every
        self._snapshot_messages = snapshot_messages
        self._poll_every = poll_every
        self._clock = clock
        self._watcher: asyncio.Task[None] | None = None

        self._sequence = 0
        self._stamp: Milliseconds = 0
        self._ticked_at: Milliseconds = 0
        self._live = False
        self._cursor = Cursor()
        self._recorded: deque[Input] = deque()
        self._committed_alarms: dict[str, Alarm] = {}
        self._gateways = GatewaySessions()
        self._tallies: Counter[str] = Counter()

        self._view = RegistryView()
        self._newer_view: RegistryView | None = None
        self._requests: list[Action] = []
        self._answered: dict[str, None] = {}
        self._outages: list[tuple[Milliseconds, Milliseconds]] = []

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
        self._sequence, self._stamp = place
        self._snapshot_sequence, self._snapshot_taken = place[0], time.monotonic()
        self._committer.start(self._cursor)
        self._watcher = asyncio.create_task(self._watch(), name="rules-watcher")
        return self._sequence

    def _load(self) -> Place:
        self._snapshots.start()
        self._view = self._registry.load()
        self._rules.set_registry(self._view)
        self._cursor = self._repository.cursor()
        self._tallies = Counter(self._cursor.tallies)
        self._committed_alarms = self._repository.open_alarms()
        self._gateways = GatewaySessions(self._repository.gateway_states())
        place = self._restore()
        self._recorded = deque(self._repository.inputs_after(place))
        return place

    def _restore(self) -> Place:
        for snapshot in self._snapshots.load():
            try:
                self._rules.restore(snapshot.state)
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
        while rest is not None and rest.last > self._sequence:
            if rest.first <= self._sequence:
                rest = rest.split(self._sequence)[1]
            self._catch_up(rest.first)
            end = self._boundary(rest)
            piece, rest = rest.split(end) if end < rest.last else (rest, None)
            self._process(piece)
        self._between_batches(self._clock())

    async def idle(self, now: Milliseconds) -> None:
        """At the head: tell the engine the time, unless the head is not yet where the last run ended."""
        if self._watcher is not None and self._watcher.done():
            self._watcher.result()
        if self._sequence < self._cursor.sequence or self._committer.full:
            return
        self._catch_up(self._sequence + 1)
        if not 0 <= now - self._ticked_at < _TICK_EVERY:
            self._ticked_at = now
            self._tick(max(now, self._stamp + 1))
        self._between_batches(now)

    def note_outage(self, start: Milliseconds, end: Milliseconds) -> None:
        """Nothing could be heard between the two: silence in that time says nothing about a device."""
        self._outages.append((start, end))

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

    def _boundary(self, batch: DecodedBatch) -> int:
        """The sequence at which the first run was interrupted by an input, or reached the cursor; else the end."""
        ends = [batch.last]
        if self._recorded:
            ends.append(self._recorded[0].sequence)
        if not self._live:
            ends.append(self._cursor.sequence)
        return min(end for end in ends if end >= batch.first)

    def _catch_up(self, following: int) -> None:
        """Apply recorded inputs that came before sequence `following`; go live behind the cursor."""
        while self._recorded and self._recorded[0].sequence < following:
            item = self._recorded.popleft()
            self._stamp = item.stamp
            self._give(item)
        if not self._live and following > self._cursor.sequence:
            self._go_live()

    def _go_live(self) -> None:
        self._live = True
        now = self._clock()
        if self._cursor.updated_at is not None:
            self._record(Outage(self._sequence, self._next_stamp(now), self._cursor.updated_at, now))
        found = differences(self._committed_alarms, self._rules.active, now)
        if found:
            log.warning("rules.replay_differs", alarms=[transition.alarm.id for transition in found])
        self._committer.pending.transitions += found
        self._committed_alarms = {}

    def _process(self, piece: DecodedBatch) -> None:
        transitions = self._rules.process(piece)
        self._sequence, self._stamp = piece.last, 0
        if not self._live:
            return
        effects = self._committer.pending
        effects.transitions += transitions
        for status in piece.statuses:
            if (state := self._gateways.apply(status)) is not None:
                effects.gateways[state.gateway] = state
        self._tallies["readings"] += len(piece.readings)
        self._tallies["statuses"] += len(piece.statuses)
        self._count(transitions)

    def _count(self, transitions: list[Transition]) -> None:
        self._tallies["transitions"] += len(transitions)
        self._tallies["raised"] += sum(transition.cause == "raise" for transition in transitions)
        self._committer.pending.sequence = self._sequence
        self._committer.pending.tallies = dict(self._tallies)

    def _give(self, item: Input) -> tuple[str | None, list[Transition]]:
        match item:
            case Tick():
                return None, self._rules.tick(item.stamp)
            case Outage():
                self._rules.outage(item.start, item.end)
                return None, []
            case Request():
                return self._rules.apply(item.action, item.stamp)

    def _tick(self, stamp: Milliseconds) -> None:
        transitions = self._rules.tick(stamp)
        if self._rules.tick_mattered:
            self._stamp = stamp
            self._note(Tick(self._sequence, stamp), transitions)

    def _record(self, item: Input) -> None:
        """Give the engine an input and note it."""
        refusal, transitions = self._give(item)
        if isinstance(item, Request):
            item = Request(item.sequence, item.stamp, item.action, refusal)
        self._note(item, transitions)

    def _note(self, item: Input, transitions: list[Transition]) -> None:
        """An input is committed with what it caused."""
        effects = self._committer.pending
        effects.inputs.append(item)
        effects.transitions += transitions
        self._count(transitions)

    def _next_stamp(self, now: Milliseconds) -> Milliseconds:
        self._stamp = max(now, self._stamp + 1)
        return self._stamp

    def _between_batches(self, now: Milliseconds) -> None:
        if not self._live:
            return
        for start, end in self._outages:
            self._record(Outage(self._sequence, self._next_stamp(now), start, end))
        self._outages = []
        for action in self._requests:
            if action.id not in self._answered:
                self._answered[action.id] = None
                self._record(Request(self._sequence, self._next_stamp(now), action))
        self._requests = []
        while len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]
        if self._newer_view is not None and self._newer_view.revision != self._view.revision:
            self._view = self._newer_view
            self._rules.set_registry(self._view)
        if self._snapshot_is_due() and self._committer.takes_snapshots:
            self._take_snapshot()
        self._committer.nudge()

    def _snapshot_is_due(self) -> bool:
        age = time.monotonic() - self._snapshot_taken
        many = self._sequence - self._snapshot_sequence >= self._snapshot_messages
        return (many or age >= self._snapshot_every) and age >= self._snapshot_cost * _SHARE

    def _take_snapshot(self) -> None:
        self._snapshot_taken = time.monotonic()
        state = self._rules.snapshot()
        self._snapshot_cost = time.monotonic() - self._snapshot_taken
        self._snapshot_sequence = self._sequence
        self._committer.pending.snapshot = Snapshot(self._sequence, self._stamp, self._clock(), state)

    async def _watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except TransientError as error:
                log.warning("rules.cannot_read_requests", error=str(error))
            await asyncio.sleep(self._poll_every)
