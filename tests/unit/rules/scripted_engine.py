"""A small deterministic engine that notices whatever a replay does differently, and the batches that drive it.

Every input is folded into a digest, which every transition carries as evidence: if a replay left out, repeated or
moved one input, an alarm raised after it would not look like the one that was committed.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from devices.model import DecodedBatch, Device, GatewayStatus, Reading, Values
from rules.model import Action, Alarm, SnapshotMismatch, State, Transition, alarm_id
from storage.registry import RegistryView

HIGH = 10.0
HOLD = 5_000  # ms of wall clock after which a pending device raises
HEARTBEAT = 280  # ms after which a tick without consequences is kept all the same

T0 = 1_767_225_600_000


class Level(Values):
    level: float | None = None


DEVICES = [
    Device(
        id=f"d{n}", family="pipe_drainage", profile="test/1", district="230102", zone="z", gateway="g", interval=1000
    )
    for n in range(4)
]


class _State(msgspec.Struct):
    digest: str = ""
    waiting: dict[str, int] = {}  # device -> since when (wall clock) its level is exactly HIGH
    alarms: dict[str, Alarm] = {}
    told: int = 0


class ScriptedEngine:
    """Above HIGH raises at once, exactly HIGH raises after HOLD by the clock, below returns."""

    def __init__(self, version: str = "1") -> None:
        self._version = version
        self._state = _State()
        self.tick_mattered = False
        self.outages: list[tuple[int, int]] = []
        self.registries: list[int] = []
        self.processed: list[tuple[int, int]] = []

    @property
    def active(self) -> dict[str, Alarm]:
        return self._state.alarms

    @property
    def digest(self) -> str:
        return self._state.digest

    def process(self, batch: DecodedBatch) -> list[Transition]:
        self.processed.append((batch.first, batch.last))
        found: list[Transition] = []
        for item in sorted([*batch.readings, *batch.statuses], key=lambda item: item.sequence):
            if isinstance(item, GatewayStatus):
                self._fold("status", item.gateway, item.session, item.state)
                continue
            assert isinstance(item.values, Level)
            self._fold("reading", item.device.id, item.time, item.values.level)
            level = item.values.level or 0.0
            self._state.waiting.pop(item.device.id, None)
            if level > HIGH:
                found += self._raise(item.device.id, item.time, item.received_at)
            elif level == HIGH:
                self._state.waiting[item.device.id] = item.received_at
            else:
                found += self._return(item.device.id, item.time, item.received_at)
        return found

    def tick(self, now: int) -> list[Transition]:
        due = [device for device, since in self._state.waiting.items() if now - since >= HOLD]
        self.tick_mattered = bool(due) or now - self._state.told >= HEARTBEAT
        if not self.tick_mattered:
            return []
        self._state.told = now
        self._fold("tick", now)
        found: list[Transition] = []
        for device in due:
            found += self._raise(device, self._state.waiting.pop(device), now)
        return found

    def apply(self, action: Action, now: int) -> tuple[str | None, list[Transition]]:
        alarm = self._state.alarms.get(action.alarm)
        if alarm is None:
            return "no such alarm", []
        if action.kind == "comment":
            self._fold("comment", action.id, now)
            return None, [self._change(alarm, alarm.state, "comment", now, now)]
        if alarm.version != action.seen_version:
            return "changed meanwhile", []
        self._fold("action", action.id, now)
        changed = self._change(alarm, State.ACKED, "acknowledge", now, now, acked_by=action.actor, acked_at=now)
        return None, [changed]

    def outage(self, start: int, end: int) -> None:
        self.outages.append((start, end))
        self._fold("outage", start, end)

    def set_registry(self, view: RegistryView) -> None:
        self.registries.append(view.revision)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode([self._version, self._state])

    def restore(self, state: bytes) -> None:
        version, rest = msgspec.msgpack.decode(state, type=tuple[str, _State])
        if version != self._version:
            raise SnapshotMismatch(f"written by version {version}")
        self._state = rest

    def _fold(self, *parts: object) -> None:
        self._state.digest = hashlib.sha256(f"{self._state.digest}{parts}".encode()).hexdigest()[:16]

    def _open(self, device: str) -> Alarm | None:
        return next((alarm for alarm in self._state.alarms.values() if alarm.subject_id == device), None)

    def _raise(self, device: str, start: int, now: int) -> list[Transition]:
        if self._open(device):
            return []
        alarm = Alarm(
            id=alarm_id("level", "device", device, start),
            rule="level",
            subject_kind="device",
            subject_id=device,
            district="230102",
            priority="high",
            state=State.NORM,
            version=0,
            raised_at=start,
            title_zh="水位高",
            title_en="Level high",
            evidence={},
            explanation_zh="",
            explanation_en="",
        )
        return [self._change(alarm, State.UNACK, "raise", start, now)]

    def _return(self, device: str, at: int, now: int) -> list[Transition]:
        alarm = self._open(device)
        return [self._change(alarm, State.NORM, "return", at, now, returned_at=at)] if alarm else []

    def _change(self, alarm: Alarm, state: State, cause: str, at: int, now: int, **fields: object) -> Transition:
        changed = msgspec.structs.replace(
            alarm, state=state, version=alarm.version + 1, evidence={"digest": self.digest}, **fields
        )
        if state == State.NORM:
            self._state.alarms.pop(alarm.id)
        else:
            self._state.alarms[alarm.id] = changed
        return Transition(alarm=changed, from_state=alarm.state, to_state=state, cause=cause, at=at, recorded_at=now)


def reading(sequence: int, device: int, level: float) -> Reading:
    at = T0 + sequence * 100
    return Reading(DEVICES[device], at, Level(level), at, "g", sequence)


def status(sequence: int, gateway: str, state: str, session: str, at: int | None) -> GatewayStatus:
    assert state in ("online", "offline")
    received = T0 + sequence * 100
    return GatewayStatus(gateway, "230102", state, session, at, received, sequence)  # type: ignore[arg-type]


def batch(items: Sequence[Reading | GatewayStatus], first: int, last: int) -> DecodedBatch:
    """The journal's stretch `first`..`last` as decoded."""
    inside = [item for item in items if first <= item.sequence <= last]
    readings = [item for item in inside if isinstance(item, Reading)]
    statuses = [item for item in inside if isinstance(item, GatewayStatus)]
    return DecodedBatch(first, last, T0 + last * 100, last - first + 1, readings, statuses, [], control=len(statuses))
