"""The engine: readings and gateway statuses in, alarm transitions out. Pure and synchronous; time is always a
parameter.

Receives `DecodedBatch`es in journal order, ticks of the wall clock, and people's actions; gives `Transition`s. Owns
the state of every device, zone, gateway and episode, and writes it out as a snapshot. The same sequence of calls
gives the same transitions. A tick that changed nothing leaves no trace in the state, so the caller records only those
with `tick_mattered`, and repeats them on replay.

Event time governs (DESIGN §6): a reading behind its device's watermark is late and neither pages nor clears; a
duplicate is nothing. The *running clock* follows the processing clock while it moves by up to a minute a call and
stands still through clock steps: clock-driven holds and the reorder wait are measured by it. The *listening clock*
leaves out our own outages as well: silence is measured by it. Raises nothing for any input; `restore` raises
`SnapshotMismatch`, and the caller then replays from what the journal keeps.
"""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any

import msgspec

from devices.catalogue import Catalogue
from devices.model import DecodedBatch, Device, Milliseconds, Reading
from rules import evidence, explain, places, reorder
from rules.fusion import FamilyPrograms
from rules.holds import Holds
from rules.lifecycle import Key, Lifecycle
from rules.model import Action, Alarm, Transition
from rules.pack import Rule
from rules.root_cause import RootCause
from rules.scopes import ReadingScope, ZoneScope
from rules.silence import Cadence
from rules.subjects import DEFERRED, IN_ZONE, SILENT, SUPPRESSED, DeviceSubject, Hold, Subject
from rules.zones import Zones, ZoneSubject, holds_now
from storage.registry import RegistryView

_PLAUSIBLE_STEP = 60_000  # a longer way between two calls is a clock step or our own outage
_HEARTBEAT = 15_000  # ticks this far from the last recorded call are recorded themselves
_TRUSTED_AHEAD = 300_000  # a watermark further ahead of the receive time came from a wrong clock
_BACKLOG_QUIET = 10_000  # nothing received from the device for this long: its backlog is over
_BACKLOG_PATIENCE = 60_000
_BACKLOG_INTERVALS = 2


class Counters(msgspec.Struct):
    """What the engine did since it was made or restored."""

    evaluated: int = 0  # readings whose conditions were looked at
    late: int = 0
    duplicate: int = 0
    replayed: int = 0  # never alarmed: retained, history, operator replay
    clock_steps: int = 0


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Millions of objects that all live on: looking through them again and again would double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Family:
    """The rules of one family: bit i of a subject is `rules[i]`."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rule for rule in rules if rule.kind == "device" and name in rule.families)
        self.expressions = tuple(rule.when[name] for rule in self.rules)
        self.programs = FamilyPrograms([(rule.when[name], rule.deadband) for rule in self.rules])
        self.silence = next((rule for rule in rules if rule.kind == "silence" and name in rule.families), None)


class Engine:
    """See the module. `lateness` (ms) is one figure, or one per profile or family (others 0)."""

    def __init__(
        self,
        rules: Sequence[Rule],
        catalogue: Catalogue,
        registry: RegistryView,
        *,
        lateness: Mapping[str, int] | int = 0,
    ) -> None:
        self.rules = {rule.id: rule for rule in rules}
        self.catalogue = catalogue
        self.counters = Counters()
        self.tick_mattered = False
        self.families = {name: _Family(name, rules) for name in catalogue.families}
        self.devices: dict[str, DeviceSubject] = {}
        self.lifecycle = Lifecycle()
        self.cadence = Cadence()
        self.holds = Holds(self)
        self.zones = Zones([rule for rule in rules if rule.kind == "zone"], self._live, self._window_closed)
        gateway_rule = next((rule for rule in rules if rule.kind == "gateway"), None)
        self.root_cause = RootCause(gateway_rule, self.devices, self.lifecycle)
        self.clock: Milliseconds = 0
        self.awake: Milliseconds = 0
        self.deaf: Milliseconds = 0  # how much of the running clock nothing could reach us
        self.listened: Milliseconds = 0  # listening clock when anything was last received
        self.outage_end: Milliseconds = 0
        self._lateness = lateness
        self.registry = registry
        self._releases: list[tuple[Milliseconds, str]] = []
        self._backlog: Milliseconds | None = None  # event time of the reading being evaluated where it is old
        self._constants: dict[tuple[float, ...], tuple[float, ...]] = {}
        self._orphans: list[tuple[Key, str]] = []
        self._mattered = False
        self.zones.set_registry(registry)

    @property
    def listening(self) -> Milliseconds:
        """The listening clock: the running clock less our own outages."""
        return self.awake - self.deaf

    @property
    def active(self) -> Mapping[str, Alarm]:
        """Alarms that are not NORM, by id."""
        return self.lifecycle.active

    @property
    def transitions_by_rule(self) -> Mapping[str, int]:
        """Transitions since the engine was made, by rule."""
        return self.lifecycle.transitions_by_rule

    def set_registry(self, view: RegistryView) -> None:
        """A new registry revision. State of known devices is kept; devices that were removed return from their
        alarms.
        """
        removed = [
            identity for identity in self.registry.devices if identity not in view.devices and identity in self.devices
        ]
        self.registry = view
        for identity in removed:
            subject = self.devices.pop(identity)
            self.holds.forget(subject)
            self._orphans += [(key, "设备已移除 / device removed") for key in self._keys(subject)]
        for zone in self.zones.set_registry(view):
            self.holds.forget(zone)
            self._orphans.append(((zone.rule.id, "zone", zone.zone), "区域已变更 / the zone was changed or removed"))
        for identity, subject in self.devices.items():
            self.bind(view.devices.get(identity, subject.device), subject)
        if removed:
            self.rebuild()

    def process(self, batch: DecodedBatch) -> list[Transition]:
        """Evaluate readings and statuses in sequence order, each at the clock of its reception.

        How the journal is cut into batches changes nothing; what only the passing of time makes due waits for `tick`.
        """
        readings, done = batch.readings, 0
        for status in batch.statuses:
            upto = done
            while upto < len(readings) and readings[upto].sequence < status.sequence:
                upto += 1
            self._read(readings[done:upto])
            done = upto
            self._move(status.received_at)
            self.root_cause.take(status, self.listening)
        self._read(readings[done:] if done else readings)
        self._backlog = None
        return self.lifecycle.take()

    def tick(self, now: Milliseconds) -> list[Transition]:
        """The wall clock is at `now`. Sets `tick_mattered`: whether a replay must repeat this call."""
        kept = (self.clock, self.awake)
        self._mattered = not 0 <= now - self.clock < _HEARTBEAT
        self._move(now)
        self._advance()
        transitions = self.lifecycle.take()
        self.tick_mattered = self._mattered or bool(transitions)
        if not self.tick_mattered:
            self.set_running_clock(*kept)
        return transitions

    def apply(self, action: Action, now: Milliseconds) -> tuple[str | None, list[Transition]]:
        """Do what a person asked: (why it was refused or None, transitions)."""
        self.lifecycle.clock = now
        answer = self.lifecycle.apply(action, now)
        self.lifecycle.clock = self.clock
        return answer, self.lifecycle.take()

    def outage(self, start: Milliseconds, end: Milliseconds) -> None:
        """Nothing could reach us in [start, end] (processing clock): not silence. While it lasts, call it before each
        tick with end = now.
        """
        start = max(start, self.outage_end)
        if end <= start:
            return
        self.outage_end = end
        before, clock = self.awake, self.clock
        if end > clock:
            self._move(end)
        deaf = min(end - start, max(clock - start, 0) + self.awake - before)
        self.deaf += min(deaf, self.listening - self.listened)

    def snapshot(self) -> bytes:
        """The whole state, for `restore` into an engine of the same service."""
        from rules import snapshot

        with _collector_paused():
            return snapshot.dump(self)

    def restore(self, data: bytes) -> None:
        """Take over a snapshot. Rules may have changed meanwhile: state of unchanged ones is kept, alarms of vanished
        ones return.
        """
        from rules import snapshot

        with _collector_paused():
            self._orphans += snapshot.load(self, data)

    def rebuild(self) -> None:
        """Derive timers and deadlines again from the state (after a restore)."""
        self.holds.rebuild([*self.devices.values(), *self.zones.subjects.values()])
        self.zones.rebuild()
        self.cadence.rebuild(
            subject for subject in self.devices.values() if self.families[subject.device.family].silence
        )
        self._releases = sorted(
            (item[3] + subject.lateness, subject.id)
            for subject in self.devices.values()
            for item in subject.buffer or ()
        )

    # --- time

    def _move(self, now: Milliseconds) -> None:
        step = now - self.clock
        if 0 < step <= _PLAUSIBLE_STEP:
            self.set_running_clock(now, self.awake + step)
        elif step > 0 or step < -_PLAUSIBLE_STEP:
            self.counters.clock_steps += self.clock > 0
            self.set_running_clock(now, self.awake)

    def set_running_clock(self, clock: Milliseconds, awake: Milliseconds) -> None:
        """Processing clock and running clock, for all parts."""
        self.clock = self.lifecycle.clock = clock
        self.awake = self.holds.awake = awake
        self.holds.offset = clock - awake

    def _advance(self) -> None:
        """Whatever is due at the present clock."""
        self._backlog = None
        while self._orphans:
            key, note = self._orphans.pop()
            self.lifecycle.return_(key, self.clock, note=note)
            self._mattered = True
        released = set()
        while self._releases and self._releases[0][0] <= self.awake:
            released.add(heappop(self._releases)[1])
        for identity in sorted(released & self.devices.keys()):
            if ready := reorder.waited(self.devices[identity], self.awake):
                self._mattered = True
                self._evaluate_all(self.devices[identity], ready)
        self._mattered |= self.holds.tick()
        self._mattered |= self.root_cause.tick(self.clock, self.listening, self.registry)
        for subject in self.cadence.due(self.listening):
            self._silent(subject)
        self._mattered |= self.zones.tick(self.clock)
        if self.lifecycle.kept:
            self._end_backlogs()
        if self.lifecycle.shelved:
            self.lifecycle.expire_shelves(self.clock)

    # --- readings

    def _read(self, readings: Iterable[Reading]) -> None:
        devices, listening, received = self.devices, self.listening, -1
        evaluated = 0
        for reading in readings:
            if reading.received_at != received:
                received = reading.received_at
                self._move(received)
                listening = self.listened = self.listening
            if reading.replayed:
                self.counters.replayed += 1
                continue
            device = reading.device
            subject = devices.get(device.id)
            if subject is None or subject.device is not device:
                subject = self.bind(device, subject)
            gap = listening - subject.listened
            subject.listened = listening
            subject.heard = reading.received_at
            if gap > subject.expected:
                self._resumed(subject, gap, reading)
            if reading.gateway != subject.gateway:
                self._via(subject, reading.gateway)
            if subject.lateness:
                self._reorder(subject, reading)
                continue
            time = reading.time
            if time <= subject.time and not self._again(subject, reading):
                continue
            if time >= subject.due:
                self._complete(subject, reading)
            evaluated += 1
            changed = subject.step(subject, reading)
            if changed or subject.watch:
                self._settle(subject, reading, changed)
            subject.time = time
            subject.last = reading.values
        self.counters.evaluated += evaluated

    def bind(self, device: Device, known: DeviceSubject | None = None) -> DeviceSubject:
        """The subject of a device as it is now registered; its state is kept while it stays in its family."""
        family = self.families[device.family]
        subject = known
        if subject is None or subject.device.family != device.family:
            if subject is not None:
                self._orphans += [
                    (key, "设备类别已变更 / the device changed its family") for key in self._keys(subject)
                ]
            subject = self.devices[device.id] = DeviceSubject(device, family.rules)
            subject.listened = self.listening
            self.cadence.expect(subject)
            if family.silence is not None:
                self.cadence.watch(subject)
        program = family.programs.program(device.facts)
        if getattr(subject, "program", None) is not program:
            old = dict(zip(subject.program.windows, subject.windows, strict=True)) if known is subject else {}
            subject.windows = [
                old.get(key) or fresh for key, fresh in zip(program.windows, program.make_windows(), strict=True)
            ]
            subject.program, subject.step = program, program.step
            self._drop(subject, ~program.mask)
        constants = program.constants(device.facts)
        subject.constants = self._constants.setdefault(constants, constants)
        subject.device, subject.interval = device, device.interval
        subject.learnt = max(subject.learnt, device.interval)
        subject.lateness = reorder.wait(self._lateness_of(device))
        subject.zones = self.zones.members_of(device)
        subject.watch = subject.watch | IN_ZONE if subject.zones else subject.watch & ~IN_ZONE
        return subject

    def _keys(self, subject: DeviceSubject) -> Iterator[Key]:
        """Keys of the episodes that a device may have."""
        for rule in subject.rules:
            yield rule.id, "device", subject.id
        if (silence := self.families[subject.device.family].silence) is not None:
            yield silence.id, "device", subject.id

    def _lateness_of(self, device: Device) -> int:
        if isinstance(self._lateness, int):
            return self._lateness
        return self._lateness.get(device.profile, self._lateness.get(device.family, 0))

    def _drop(self, subject: DeviceSubject, bits: int) -> None:
        """Rules that no longer apply to a device: their alarms return."""
        if not bits & (subject.on | subject.up):
            return
        for bit, rule in enumerate(subject.rules):
            if bits & 1 << bit and (subject.on | subject.up) & 1 << bit:
                subject.release(bit)
                subject.on &= ~(1 << bit)
                subject.up &= ~(1 << bit)
                self._orphans.append(((rule.id, "device", subject.id), "规则不再适用 / the rule no longer applies"))

    def _resumed(self, subject: DeviceSubject, gap: Milliseconds, reading: Reading) -> None:
        """A gap worth learning from ended."""
        self.cadence.learn(subject, gap)
        if subject.watch & SILENT:
            subject.watch &= ~SILENT
            rule = self.families[subject.device.family].silence
            if rule is not None:
                self.lifecycle.return_((rule.id, "device", subject.id), reading.received_at)
                self.cadence.watch(subject)

    def _via(self, subject: DeviceSubject, gateway: str) -> None:
        """Another gateway heard the device this time."""
        others = subject.others or {}
        others.pop(gateway, None)
        if len(others) >= 8:
            del others[min(others, key=lambda name: (others[name], name))]
        others[subject.gateway] = subject.listened
        subject.others, subject.gateway = others, gateway

    def _reorder(self, subject: DeviceSubject, reading: Reading) -> None:
        if reading.time <= subject.time and not self._again(subject, reading):
            return
        if not reorder.put(subject, reading, self.awake):
            self.counters.duplicate += 1
            return
        heappush(self._releases, (self.awake + subject.lateness, subject.id))
        self._evaluate_all(subject, reorder.passed(subject))

    def _evaluate_all(self, subject: DeviceSubject, readings: Iterable[Reading]) -> None:
        for reading in readings:
            if reading.time >= subject.due:
                self._complete(subject, reading)
            self.counters.evaluated += 1
            changed = subject.step(subject, reading)
            if changed or subject.watch:
                self._settle(subject, reading, changed)
            subject.time = reading.time
            subject.last = reading.values

    def _again(self, subject: DeviceSubject, reading: Reading) -> bool:
        """Whether a reading not ahead of the watermark is to be evaluated: the rest of a split one, or the first
        after a wrong clock.
        """
        if reading.time == subject.time:
            if reading.values != subject.last:
                return True
            self.counters.duplicate += 1
            return False
        if subject.time > reading.received_at + _TRUSTED_AHEAD:
            for bit in list(subject.pending or ()):
                subject.release(bit)
                subject.on ^= 1 << bit
            subject.windows = subject.program.make_windows()
            return True
        self.counters.late += 1
        return False

    def _complete(self, subject: DeviceSubject, reading: Reading) -> None:
        self._backlog = self._backlog_time(subject, reading)
        self.holds.complete(subject, reading.time)

    def _backlog_time(self, subject: DeviceSubject, reading: Reading) -> Milliseconds | None:
        old = _BACKLOG_INTERVALS * subject.interval + subject.lateness
        return reading.time if reading.received_at - reading.time > old else None

    def _settle(self, subject: DeviceSubject, reading: Reading, changed: int) -> None:
        """What a reading means beyond its unchanged bits."""
        self._backlog = self._backlog_time(subject, reading)
        if subject.watch & DEFERRED and self._backlog is None:
            self._announce(subject)
        scope = ReadingScope(subject, reading)
        bits = changed
        while bits:
            bit = (bits & -bits).bit_length() - 1
            bits &= bits - 1
            becomes_true = not subject.on & 1 << bit
            hold = evidence.witnessed(subject, bit, reading, scope, self.catalogue) if becomes_true else Hold(0, 0, 0)
            self.holds.flip(subject, bit, reading.time, hold)
        if subject.pending:
            self._confirm(subject, reading, scope, changed)
        if subject.watch & SUPPRESSED:
            self.root_cause.show(subject, self._keys(subject), reading.time)
        for member in subject.zones:
            self.zones.report(member, reading)

    def _confirm(self, subject: DeviceSubject, reading: Reading, scope: ReadingScope, changed: int) -> None:
        """Holds that this reading did not change, but speaks for."""
        for bit, hold in sorted((subject.pending or {}).items()):
            expression = subject.rules[bit].when[subject.device.family]
            if changed & 1 << bit or any(getattr(reading.values, name) is None for name in expression.inputs):
                continue
            if subject.on & 1 << bit:
                evidence.confirmed(subject, bit, hold, reading, scope)
            self.holds.seen(subject, bit, reading.time)

    # --- what completed holds mean (rules.holds.Outcome)

    def raised(self, subject: Subject, bit: int, hold: Hold, at: Milliseconds) -> None:
        """A condition lasted for its on_delay."""
        rule, found = subject.rules[bit], hold.evidence | {"samples": hold.samples}
        if isinstance(subject, ZoneSubject):
            place = places.of_zone(self.registry.zones[subject.zone], subject.rule.families[0])
            self.lifecycle.raise_(rule, place, hold.start, at, found)
        elif isinstance(subject, DeviceSubject):
            if self._backlog is not None:
                subject.watch |= DEFERRED
            by = self.root_cause.suppressor(subject, rule)
            place = places.of_device(subject)
            self.lifecycle.raise_(rule, place, hold.start, at, found, suppressed_by=by, keep=self._backlog)

    def returned(self, subject: Subject, bit: int, at: Milliseconds) -> None:
        """A condition was away for its off_delay."""
        identity = subject.zone if isinstance(subject, ZoneSubject) else subject.id
        self.lifecycle.return_((subject.rules[bit].id, subject.kind, identity), at, notify=self._backlog is None)

    # --- backlogs

    def _announce(self, subject: DeviceSubject) -> None:
        subject.watch &= ~DEFERRED
        for key in self._keys(subject):
            self.lifecycle.announce(key)

    def _end_backlogs(self) -> None:
        """Page what is still active where a backlog is over: the device is quiet, or it no longer catches up."""
        for key in sorted(self.lifecycle.kept):
            subject, kept = self.devices.get(key[2]), self.lifecycle.episodes[key].kept
            if subject is None or kept is None:
                continue
            passed = self.clock - kept.clock
            quiet = self.listening - subject.listened >= _BACKLOG_QUIET
            if quiet or (passed >= _BACKLOG_PATIENCE and subject.time - kept.time <= 2 * passed):
                self._announce(subject)

    # --- silence, gateways, zones

    def _silent(self, subject: DeviceSubject) -> None:
        rule = self.families[subject.device.family].silence
        if rule is None or self.devices.get(subject.id) is not subject:
            return
        if self.cadence.ahead(self.root_cause.gateways.graced(subject)):
            self.cadence.watch(subject)
            return
        subject.watch |= SILENT
        self.zones.gone(subject.zones)
        allowed = self.cadence.allowed(subject)
        quiet = self.listening - subject.listened
        by = self.root_cause.suppressor(subject, rule)
        at = self.clock - (quiet - allowed)
        found = evidence.of_silence(quiet, allowed)
        self.lifecycle.raise_(rule, places.of_device(subject), subject.heard, at, found, suppressed_by=by)

    def _live(self, members: Iterable[str]) -> Iterator[str]:
        """Members that a window may wait for: all but those known to be silent."""
        for identity in members:
            subject = self.devices.get(identity)
            if subject is None or not subject.watch & SILENT:
                yield identity

    def _window_closed(self, zone: ZoneSubject, end: Milliseconds, scope: ZoneScope, seen: dict[str, Any]) -> None:
        """A window of a zone closed with enough coverage: its condition at its end."""
        self._backlog = None
        expression = next(iter(zone.rule.when.values()))
        if end >= zone.due:
            self.holds.complete(zone, end)
        now = holds_now(zone, expression.root, scope)
        if now is None:
            return
        hold = evidence.of_zone(zone, end, scope, seen, self.catalogue)
        if now != bool(zone.on & 1):
            self.holds.flip(zone, 0, end, hold or Hold(0, 0, 0))
        elif zone.pending:
            if zone.on & 1 and hold is not None:
                zone.pending[0].evidence = hold.evidence
                explain.keep_sample(zone.pending[0].samples, end, hold.evidence["value"])
            self.holds.seen(zone, 0, end)
