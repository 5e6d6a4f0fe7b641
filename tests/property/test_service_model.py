"""The service against a ground truth: any sequence of receiving, writing, failing, crashing and asking for actions.

Real are the journal (on a disk that forgets what was not synced), decoding, the feed, ledger, store consumer, rules
consumer with the engine, and the outbox over SQLite; doubles are the broker, the telemetry store and the targets. The
model keeps every message that it handed over and works out by itself what must have become of it. After every step the
counters must say exactly that; in the end the store, the alarms and the notifications must be those of a run without
any trouble. TEST_LONG=1 runs 2,000 sequences.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Protocol, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import insert, select

from devices.errors import PartialWriteError, TransientError
from devices.model import DecodedBatch, Reading
from devices.profile import load_profiles
from ingest import accounting, store_consumer
from ingest.decode import Decoder
from ingest.device_time import DeviceClock
from ingest.feed import Feed
from ingest.ledger import Ledger
from ingest.routing import Router
from ingest.store_consumer import StoreConsumer
from rules import committer
from rules.consumer import RulesConsumer
from rules.documents import Notification
from rules.engine import Engine
from rules.model import Action, Transition
from rules.outbox import Lane, Retry
from rules.outbox_rows import OutboxRows, Outcome
from rules.pack import Rule
from rules.repository import RulesRepository
from rules.tables import actions, alarms, outbox, transitions
from storage.journal import Message
from storage.metadata import metadata, open_engine
from storage.registry import Registry, RegistryView
from storage.snapshots import SnapshotStore
from tests.effort import examples
from tests.faults.power_cut import Machine
from tests.unit.rules import engine_world as city

T = TypeVar("T")
Trouble = Literal["away", "reply lost"]
Kind = Literal["reading", "refused", "poison", "control"]

METERS = [city.device(f"m{n}", profile="songhua/wm-15") for n in range(3)]
FLOWS = (1.0, 2.0, 3.5, 4.5)
REFUSED = 7.0  # m3/h: the store takes no such reading
TROUBLES: list[tuple[Trouble, ...]] = [(), ("away",), ("reply lost",), ("away", "reply lost")]
POISON = (b"", b"not json", b'{"t":%d,"flow_rate":"fast"}', b'{"t":%d,"flow_rate":1e9}', b'{"t":%d}')


@dataclass(frozen=True)
class Element:
    """One outcome that a message owes: of a reading its device, time and flow."""

    kind: Kind
    device: str = ""
    time: int = 0
    flow: float = 0.0


@dataclass
class Sent:
    """A message as the broker holds it until it is acknowledged."""

    topic: str
    payload: bytes
    at: int
    elements: list[Element]
    delivered: bool = False


@dataclass
class Truth:
    """What must have become of the readings of a stretch of the journal, in journal order."""

    counts: Counter[str] = field(default_factory=Counter)
    points: dict[tuple[str, int], float] = field(default_factory=dict)
    _known: dict[tuple[str, int], float] = field(default_factory=dict)
    _newest: dict[str, int] = field(default_factory=dict)

    def add(self, element: Element) -> None:
        key = (element.device, element.time)
        self.counts["readings"] += 1
        known = self._known.get(key)
        if known == element.flow:
            self.counts["duplicate"] += 1
            return
        self.counts["conflicts"] += known is not None
        self._known[key] = element.flow
        late = element.time < self._newest.get(element.device, 0)
        self._newest[element.device] = max(element.time, self._newest.get(element.device, 0))
        if element.kind == "refused":
            self.counts["rejected"] += 1
        else:
            self.counts["late" if late else "stored"] += 1
            self.points[key] = element.flow


class Store:
    """Keeps points by key, as every store does; is away, or loses its answer, when told to."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, int], float] = {}
        self.trouble: deque[Trouble] = deque()

    async def write(self, readings: Sequence[Reading]) -> None:
        trouble = self.trouble.popleft() if self.trouble else None
        if trouble == "away":
            raise TransientError("away")
        refused = {}
        for index, reading in enumerate(readings):
            flow = reading.values.flow_rate  # type: ignore[attr-defined]
            if flow == REFUSED:
                refused[index] = "refused"
            else:
                self.points[reading.device.id, reading.time] = flow
        if trouble:
            raise TransientError("reply lost")
        if refused:
            raise PartialWriteError(refused)


class Target:
    """Keeps what it was sent."""

    def __init__(self, name: str, mirrors: bool) -> None:
        self.name = name
        self.mirrors = mirrors
        self.received: list[str] = []

    async def send(self, notification: Notification) -> None:
        self.received.append(notification.id)

    async def close(self) -> None:
        pass


class Crash(BaseException):
    """The process is killed here."""


class Rows(OutboxRows):
    """Dies between sending and marking when `dying`."""

    dying = False

    def mark(self, outcomes: Sequence[Outcome]) -> None:
        if self.dying and outcomes:
            raise Crash
        super().mark(outcomes)


class World(Protocol):
    """What outlives a process."""

    root: Path
    machine: Machine
    now: int
    view: RegistryView
    pack: list[Rule]
    store: Store
    targets: list[Target]

    def wake(self) -> None: ...
    def send_unstored(self, kind: str, title: dict[str, str], at: str) -> None: ...


class Process:
    """One life of the ingest process: everything that a kill destroys."""

    def __init__(self, world: World, snapshot_every: float) -> None:
        self.journal = world.machine.journal
        self.engine = open_engine(f"sqlite:///{world.root / 'songhua.db'}")
        self.registry = Registry(self.engine)
        router = Router(load_profiles())
        router.set_registry(world.view)
        device_clock = DeviceClock()
        self.ledger = Ledger(self.engine, device_clock)
        self.feed = Feed(self.journal, Decoder(router, device_clock).decode)
        self.store = StoreConsumer(world.store, self.engine, world.root / "store")  # type: ignore[arg-type]
        self.rules = RulesConsumer(
            Engine(world.pack, city.CATALOGUE, world.view),
            RulesRepository(self.engine, world.targets),
            SnapshotStore(world.root / "rules"),
            self.registry,
            world,
            snapshot_every=snapshot_every,
            poll_every=3600.0,
            clock=lambda: world.now,
        )
        self.rows = Rows(self.engine)
        self.lanes = [Lane(self.rows, target, Retry(), lambda: world.now) for target in world.targets]
        self.store_position = self.rules_position = 0
        self._store_batch: DecodedBatch | None = None

    async def start(self) -> None:
        await self.ledger.start()
        self.feed.start_at(self.ledger.frontier)
        self.store_position = await self.store.start()
        self.rules_position = await self.rules.start()

    async def decode(self) -> None:
        """The live path behind the journal, one step."""
        batch = self.feed.read(self.feed.frontier, self.journal.head)
        if batch is not None:
            self.ledger.observe(batch)
            await self.feed.publish(batch)

    async def write(self) -> bool:
        """One batch to the store; whether there was one that it took."""
        batch = self._store_batch or await self.feed.next(self.store_position, 0)
        if batch is None:
            await self.store.idle(0)
            return False
        self._store_batch = batch  # after a failure the same batch comes again
        await self.store.accept(batch)
        self._store_batch, self.store_position = None, batch.last
        return True

    async def evaluate(self, now: int) -> bool:
        """One batch to the rules, or the time; whether there was a batch."""
        batch = await self.feed.next(self.rules_position, 0)
        if batch is not None:
            await self.rules.accept(batch)
            self.rules_position = batch.last
        if self.rules_position >= self.feed.frontier:
            await self.rules.idle(now)
        return batch is not None


class ServiceModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # syncs cost nothing there
        self.root = Path(tempfile.mkdtemp(prefix="service-model-", dir=memory if memory.is_dir() else None))
        self.patch = pytest.MonkeyPatch()
        self.monotonic = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.monotonic, time_ns=lambda: self.now * 1_000_000)
        self.patch.setattr(store_consumer, "time", clock)
        self.patch.setattr(committer, "_UNHURRIED", 0.0)
        self.loop = asyncio.new_event_loop()
        # One thread takes its work in order, so that a kill can wait for what is inside the database.
        self.loop.set_default_executor(ThreadPoolExecutor(1))
        self.now: int = city.T0
        self.view = city.registry(METERS)
        self.pack = city.rules(
            self.root,
            city.rule("t.high", "flow_rate > 3"),
            city.rule("t.mean", "mean(flow_rate, '20s') > 2", "deadband: 0"),
        )
        self.store = Store()
        self.targets = [Target("log", False), Target("mqtt", True)]
        self.broker: deque[Sent] = deque()
        self.journalled: list[Sent] = []  # by sequence
        self.asked = itertools.count()

    @initialize()
    def begin(self) -> None:
        (self.root / "journal").mkdir()
        self.machine = Machine(self.root / "journal", self.patch)
        engine = open_engine(f"sqlite:///{self.root / 'songhua.db'}")
        metadata.create_all(engine)
        Registry(engine).register(devices=METERS)
        engine.dispose()
        self.live(3600.0)

    def teardown(self) -> None:
        try:
            if hasattr(self, "process"):
                self.finish()
        finally:
            if hasattr(self, "process"):
                self.run(self.abandon())
                self.machine.disk.kill()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.patch.undo()
            shutil.rmtree(self.root)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def wake(self) -> None:
        """Of the outbox: lanes are stepped by the model."""

    def send_unstored(self, kind: str, title: dict[str, str], at: str) -> None:
        raise AssertionError(f"the database was never away: {kind}")

    def live(self, snapshot_every: float) -> None:
        self.process = Process(self, snapshot_every)
        self.run(self.process.start())

    async def abandon(self) -> None:
        """Kill: nothing is flushed; what is inside a transaction ends there before anybody else begins."""
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(lambda: None)
        self.process.engine.dispose()

    # --- what devices send

    def publish(self, topic: str, payload: bytes, *elements: Element) -> None:
        self.broker.append(Sent(topic, payload, self.now, list(elements)))

    def telemetry(self, meter: int, payload: bytes, *elements: Element) -> None:
        self.publish(f"songhua/v1/230102/g1/m{meter}/up", payload, *elements)

    @rule(meter=st.integers(0, 2), flow=st.sampled_from((*FLOWS, REFUSED)), later=st.integers(1, 5_000))
    def report(self, meter: int, flow: float, later: int) -> None:
        self.now += later
        self.telemetry(meter, b'{"t":%d,"flow_rate":%.1f}' % (self.now, flow), element(meter, self.now, flow))

    @rule(meter=st.integers(0, 2), flow=st.sampled_from((*FLOWS, REFUSED)), back=st.integers(1, 3))
    def report_the_past(self, meter: int, flow: float, back: int) -> None:
        """A time that was reported before, or one between: late, repeated or contradicting."""
        times = [e.time for sent in (*self.journalled, *self.broker) for e in sent.elements if e.device == f"m{meter}"]
        moment = times[-min(back, len(times))] if times else self.now - back * 1_000
        self.telemetry(meter, b'{"t":%d,"flow_rate":%.1f}' % (moment, flow), element(meter, moment, flow))

    @rule(meter=st.integers(0, 2), flows=st.lists(st.sampled_from((*FLOWS, REFUSED)), min_size=1, max_size=4))
    def report_a_list(self, meter: int, flows: list[float]) -> None:
        """Stored and forwarded, with one element that is none."""
        self.now += 4_000
        times = [self.now - 1_000 * (len(flows) - index) for index in range(len(flows))]
        texts = [b'{"t":%d,"flow_rate":%.1f}' % item for item in zip(times, flows, strict=True)]
        payload = b"[" + b",".join([*texts, b'{"flow_rate":"fast"}']) + b"]"
        readings = [element(meter, *item) for item in zip(times, flows, strict=True)]
        self.telemetry(meter, payload, *readings, Element("poison"))

    @rule(meter=st.integers(0, 2), payload=st.sampled_from(POISON))
    def poison(self, meter: int, payload: bytes) -> None:
        self.telemetry(meter, payload % self.now if b"%d" in payload else payload, Element("poison"))

    @rule(online=st.booleans())
    def gateway(self, online: bool) -> None:
        state = b'{"state":"%b","session":"s"}' % (b"online" if online else b"offline")
        self.publish("songhua/v1/230102/g1/status", state, Element("control"))

    # --- what the service does

    @precondition(lambda self: self.broker)
    @rule(count=st.integers(1, 6), acknowledged=st.booleans(), power=st.booleans())
    def receive(self, count: int, acknowledged: bool, power: bool) -> None:
        """Journal some messages and acknowledge them, or die before that, so that they come again."""
        taken = list(itertools.islice(self.broker, count))
        messages = [
            Message("native", sent.topic, sent.payload, 1, False, sent.delivered, number, 1, sent.at)
            for number, sent in enumerate(taken, 1)
        ]
        self.process.journal.append(messages)
        self.journalled += taken
        if acknowledged:
            for _ in taken:
                self.broker.popleft()
            return
        for sent in taken:
            sent.delivered = True
        self.crash(power, 0.0)

    @rule(later=st.sampled_from([0.0, 0.3, 31.0]))
    def keep_up(self, later: float) -> None:
        """What happens all day: everything that has come goes through every part."""
        while self.broker:
            self.receive(6, True, False)
        self.decode()
        self.commit_the_ledger()
        self.write((), later)
        self.evaluate()
        self.commit_the_rules()
        for lane in range(len(self.targets)):
            self.deliver(lane)

    @rule()
    def decode(self) -> None:
        self.run(self.process.decode())

    @rule()
    def commit_the_ledger(self) -> None:
        self.run(self.process.ledger.commit())

    @rule(
        trouble=st.sampled_from([(), ("away",), ("reply lost",), ("away", "reply lost")]),
        later=st.sampled_from([0.0, 0.3, 31.0]),
    )
    def write(self, trouble: Sequence[Trouble], later: float) -> None:
        self.monotonic += later
        self.store.trouble.extend(trouble)
        for _ in range(len(trouble) + 1):
            try:
                self.run(self.process.write())
            except TransientError:
                continue
        self.store.trouble.clear()

    @rule()
    def fail_to_write(self) -> None:
        self.store.trouble.append("away")
        try:
            self.run(self.process.write())
        except TransientError:
            pass
        self.store.trouble.clear()

    @rule()
    def evaluate(self) -> None:
        self.run(self.process.evaluate(self.now))

    @rule()
    def commit_the_rules(self) -> None:
        self.run(self.settle())

    async def settle(self) -> None:
        """Until what the rules handed over is in the database."""
        rules = self.process.rules
        async with asyncio.timeout(20):
            while rules.backlog or rules.committed < self.process.rules_position:
                await rules.idle(self.now)
                await asyncio.sleep(0)
                await asyncio.to_thread(lambda: None)

    @rule(kind=st.sampled_from(["acknowledge", "comment"]), which=st.integers(0, 9), stale=st.booleans())
    def ask(self, kind: str, which: int, stale: bool) -> None:
        """A person acts on an alarm as the database shows it, or as it was before."""
        with self.process.engine.begin() as connection:
            known = connection.execute(select(alarms.c.id, alarms.c.version).order_by(alarms.c.id)).all()
            if not known:
                return
            alarm, version = known[which % len(known)]
            request = {
                "id": f"{next(self.asked):08}",
                "alarm": alarm,
                "kind": kind,
                "actor": "li",
                "seen_version": version - stale,
                "arguments": {"note": "seen"},
                "requested_at": self.now,
            }
            connection.execute(insert(actions).values(request))
        self.run(self.process.rules.refresh())

    @rule(lane=st.integers(0, 1))
    def deliver(self, lane: int) -> None:
        self.run(self.process.lanes[lane].step())

    @rule(lane=st.integers(0, 1))
    def die_between_sending_and_marking(self, lane: int) -> None:
        self.process.rows.dying = True
        try:
            self.run(self.process.lanes[lane].step())
        except Crash:
            pass
        self.crash(False, 3600.0)

    @rule(power=st.booleans(), snapshot_every=st.sampled_from([0.0, 3600.0]))
    def crash(self, power: bool, snapshot_every: float) -> None:
        """The process is killed, or the machine's power fails; then it starts again."""
        self.run(self.abandon())
        if power:
            self.machine.power_cut()
        else:
            self.machine.kill()
        self.live(snapshot_every)

    @rule()
    def stop_and_start(self) -> None:
        """In good order, as SIGTERM does."""
        self.run(self.process.ledger.commit())
        self.run(self.process.store.stop())
        self.run(self.process.rules.stop())
        self.run(self.abandon())
        self.process.journal.close()
        self.machine.kill()
        self.live(0.0)

    # --- what must hold

    def truth(self, sequence: int) -> Truth:
        """What must have become of readings up to `sequence`."""
        truth = Truth()
        for sent in self.journalled[:sequence]:
            for each in sent.elements:
                if each.kind in ("reading", "refused"):
                    truth.add(each)
        return truth

    @invariant()
    def every_message_has_one_outcome(self) -> None:
        if not hasattr(self, "process"):
            return
        process = self.process
        assert process.journal.head == len(self.journalled)
        document = accounting.counters(process.journal, process.ledger, process.store)
        assert accounting.difference(document) == 0
        frontier, written = process.ledger.frontier, process.store.sequence
        decoded = Counter(each.kind for sent in self.journalled[:frontier] for each in sent.elements)
        truth = self.truth(written).counts
        assert {name: document[name] for name in ("stored", "late", "duplicate")} == {
            name: truth[name] for name in ("stored", "late", "duplicate")
        }
        assert document["control"] == decoded["control"]
        assert document["quarantined"] == decoded["poison"] + truth["rejected"]
        assert process.store.conflicts == truth["conflicts"]
        undecoded = len(self.journalled) - frontier
        if written <= frontier:  # else the ledger repeats a little after a start
            assert document["pending"] == undecoded + decoded["reading"] + decoded["refused"] - truth["readings"] >= 0
            assert document["received"] == undecoded + decoded.total()

    @invariant()
    def nothing_counted_is_missing(self) -> None:
        """The committed place of the store never lies ahead of what the store has."""
        if hasattr(self, "process"):
            for key in self.truth(self.process.store.position).points:
                assert key in self.store.points

    def finish(self) -> None:
        """Let everything through without trouble, then compare with a run that never had any."""
        while self.broker:
            self.receive(6, True, False)
        process = self.process
        while process.feed.frontier < process.journal.head:
            self.decode()
        while self.run(process.write()):
            pass
        while self.run(process.evaluate(self.now)):
            pass
        self.run(process.rules.refresh())
        self.run(process.evaluate(self.now))
        self.run(self.settle())
        for lane in process.lanes:
            while self.run(lane.step()):
                pass
        self.every_message_has_one_outcome()
        document = accounting.counters(process.journal, process.ledger, process.store)
        assert document["pending"] == 0
        truth = self.truth(len(self.journalled))
        assert self.store.points == truth.points
        self.compare_with_an_undisturbed_run()

    def compare_with_an_undisturbed_run(self) -> None:
        with self.process.engine.connect() as connection:
            asked = [row._asdict() for row in connection.execute(select(actions).order_by(actions.c.applied_at))]
            told = {
                (row.alarm, row.version, row.from_state, row.to_state, row.cause, row.at)
                for row in connection.execute(select(transitions))
            }
            rows = {row.id: row.state for row in connection.execute(select(outbox))}
            held = {row.id: (row.version, row.state) for row in connection.execute(select(alarms))}
        expected = self.undisturbed(asked)
        assert told == {(t.alarm.id, t.alarm.version, t.from_state, t.to_state, t.cause, t.at) for t in expected}
        assert held == {t.alarm.id: (t.alarm.version, t.to_state) for t in expected}
        assert rows == {
            f"{t.alarm.id}:{t.alarm.version}:{target.name}": "sent"
            for t in expected
            for target in self.targets
            if t.notify or target.mirrors
        }
        for target in self.targets:
            assert set(target.received) == {name for name in rows if name.endswith(f":{target.name}")}
            order: dict[str, list[int]] = {}
            for name in dict.fromkeys(target.received):
                alarm, version, _ = name.split(":")
                order.setdefault(alarm, []).append(int(version))
            assert all(versions == sorted(versions) for versions in order.values())

    def undisturbed(self, asked: list[dict[str, Any]]) -> list[Transition]:
        """What an engine says that sees the journal once, people's actions at the places where they were applied."""
        router = Router(load_profiles())
        router.set_registry(self.view)
        decoder, engine = Decoder(router, DeviceClock()), Engine(self.pack, city.CATALOGUE, self.view)
        found: list[Transition] = []
        for sequence in range(len(self.journalled) + 1):
            if sequence:
                sent = self.journalled[sequence - 1]
                message = Message("native", sent.topic, sent.payload, 1, False, False, 1, 1, sent.at)
                found += engine.process(decoder.decode(sequence, [message]))
            for row in asked:
                if row["applied_sequence"] == sequence:
                    request = Action(**{name: row[name] for name in Action.__struct_fields__})
                    refusal, caused = engine.apply(request, row["applied_at"])
                    assert (row["state"], row["answer"]) == ("refused" if refusal else "applied", refusal)
                    found += caused
        assert all(row["state"] != "pending" for row in asked)
        return [msgspec.structs.replace(each) for each in found]


def element(meter: int, time: int, flow: float) -> Element:
    return Element("refused" if flow == REFUSED else "reading", f"m{meter}", time, flow)


TestServiceModel = ServiceModel.TestCase
TestServiceModel.settings = settings(
    max_examples=examples(60, 2_000),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
