"""The engine's state as bytes: what a restart loads before it replays the journal from the snapshot's position.

`dump` and `load` know every part of the engine; they translate the bits of conditions through rule names, so that a
changed pack keeps the state of its unchanged rules. A snapshot of another format version, or damaged bytes, raises
`SnapshotMismatch`: the caller then starts empty and replays from what the journal keeps.
"""

from typing import Any

import msgspec

from devices.model import Device, Reading, Values
from rules.engine import Counters, Engine
from rules.lifecycle import Episode, Key
from rules.model import Alarm, SnapshotMismatch
from rules.root_cause import GatewayState
from rules.subjects import DEFERRED, SILENT, SUPPRESSED, DeviceSubject, Hold, Subject

VERSION = 2
_GONE = "规则已变更 / the rule was changed or removed"


class _Conditions(msgspec.Struct, array_like=True):
    """The bits and holds of a subject, by the number of the rule in the snapshot's list for its family."""

    on: int
    up: int
    pending: dict[int, Hold]


class _Waiting(msgspec.Struct, array_like=True):
    time: int
    values: dict[str, float | str]
    received_at: int
    gateway: str
    sequence: int
    index: int
    quality: str
    awake: int


class _Device(msgspec.Struct, array_like=True):
    id: str
    device: Device | None  # only where the registry does not know it
    family: str
    conditions: _Conditions
    watch: int
    time: int
    last: dict[str, float | str] | None
    heard: int
    listened: int
    learnt: int
    gaps: list[int] | None
    gateway: str
    others: dict[str, int] | None
    windows: list[tuple[tuple[str, str, int], list[Any]]]
    buffer: list[_Waiting]


class _Zone(msgspec.Struct, array_like=True):
    rule: str
    zone: str
    conditions: _Conditions
    open: dict[int, dict[str, tuple[int, list[float]]]]
    remaining: list[str] | None
    time: int
    last: tuple[int, float] | None


class _Snapshot(msgspec.Struct):
    rules: dict[str, str]  # rule -> fingerprint
    families: dict[str, list[str]]  # rule of each bit
    clock: int
    awake: int
    deaf: int
    listened: int
    outage_end: int
    devices: list[_Device]
    zones: list[_Zone]
    gateways: list[GatewayState]
    episodes: list[Episode]
    ended: list[Alarm]
    graces: list[tuple[str, str, str, int]]
    transitions: dict[str, int]
    counters: Counters


class _Envelope(msgspec.Struct):
    version: int
    state: msgspec.Raw


def dump(engine: Engine) -> bytes:
    """The engine's whole state; about 300 bytes per device that has no windows."""
    state = _Snapshot(
        rules={rule.id: rule.fingerprint for rule in engine.rules.values()},
        families={name: [rule.id for rule in family.rules] for name, family in engine.families.items()},
        clock=engine.clock,
        awake=engine.awake,
        deaf=engine.deaf,
        listened=engine.listened,
        outage_end=engine.outage_end,
        devices=[_device(subject, subject.id not in engine.registry.devices) for subject in engine.devices.values()],
        zones=[
            _Zone(
                rule,
                zone,
                _conditions(subject),
                {start: {m: (t, list(v)) for m, (t, v) in window.items()} for start, window in subject.open.items()},
                sorted(subject.remaining) if subject.remaining is not None else None,
                subject.time,
                subject.last,
            )
            for (rule, zone), subject in engine.zones.subjects.items()
        ],
        gateways=list(engine.root_cause.gateways.states.values()),
        episodes=list(engine.lifecycle.episodes.values()),
        ended=list(engine.lifecycle.ended.values()),
        graces=[(*key, until) for key, until in engine.root_cause.graces.items()],
        transitions=engine.lifecycle.transitions_by_rule,
        counters=engine.counters,
    )
    encoder = msgspec.msgpack.Encoder()
    return encoder.encode(_Envelope(VERSION, msgspec.Raw(encoder.encode(state))))


def load(engine: Engine, data: bytes) -> list[tuple[Key, str]]:
    """Fill a fresh engine. Returns the episodes that can no longer return by themselves, each with the reason."""
    try:
        envelope = msgspec.msgpack.decode(data, type=_Envelope)
        if envelope.version != VERSION:
            raise SnapshotMismatch(f"snapshot of format {envelope.version}; expected format {VERSION}")
        state = msgspec.msgpack.decode(envelope.state, type=_Snapshot)
    except msgspec.MsgspecError as error:
        raise SnapshotMismatch(f"not a snapshot of the rules engine: {error}") from error
    kept = {
        name
        for name, print_ in state.rules.items()
        if name in engine.rules and engine.rules[name].fingerprint == print_
    }
    engine.set_running_clock(state.clock, state.awake)
    engine.deaf, engine.listened, engine.outage_end = state.deaf, state.listened, state.outage_end
    engine.counters = state.counters
    engine.lifecycle.restore(state.episodes, state.ended)
    engine.lifecycle.transitions_by_rule = state.transitions
    engine.root_cause.gateways.restore(state.gateways)
    engine.root_cause.graces = {(rule, kind, identity): until for rule, kind, identity, until in state.graces}  # type: ignore[misc]
    for record in state.devices:
        device = engine.registry.devices.get(record.id, record.device)
        if device is not None and device.family == record.family:
            _load_device(engine, device, record, state.families.get(record.family, []), kept)
    for zone in state.zones:
        known = engine.zones.subjects.get((zone.rule, zone.zone))
        if known is not None and zone.rule in kept:
            _load_conditions(known, zone.conditions, [zone.rule], kept)
            known.open = {
                start: {m: (t, tuple(v)) for m, (t, v) in window.items()} for start, window in zone.open.items()
            }
            known.remaining = set(zone.remaining) if zone.remaining is not None else None
            known.time, known.last = zone.time, zone.last
    engine.rebuild()
    return [(key, _GONE) for key in engine.lifecycle.episodes if not _returns(engine, key, kept)]


def _returns(engine: Engine, key: Key, kept: set[str]) -> bool:
    """Whether something in the engine still ends this episode."""
    rule, kind, identity = key
    if rule not in kept:
        return False
    if kind == "device":
        return identity in engine.devices
    return kind != "zone" or (rule, identity) in engine.zones.subjects


def _conditions(subject: Subject) -> _Conditions:
    return _Conditions(subject.on, subject.up, subject.pending or {})


def _device(subject: DeviceSubject, alone: bool) -> _Device:
    return _Device(
        subject.id,
        subject.device if alone else None,
        subject.device.family,
        _conditions(subject),
        subject.watch,
        subject.time,
        _known(subject.last) if subject.last is not None else None,
        subject.heard,
        subject.listened,
        subject.learnt,
        subject.gaps,
        subject.gateway,
        subject.others,
        [(key, window.dump()) for key, window in zip(subject.program.windows, subject.windows, strict=True)],
        [
            _Waiting(r.time, _known(r.values), r.received_at, r.gateway, r.sequence, r.index, r.quality, awake)
            for _, _, _, awake, r in subject.buffer or ()
        ],
    )


def _load_device(engine: Engine, device: Device, record: _Device, bits: list[str], kept: set[str]) -> None:
    subject = engine.bind(device)
    values_class = engine.catalogue.values_class(device.family)
    subject.time, subject.heard, subject.listened = record.time, record.heard, record.listened
    subject.learnt, subject.gaps = max(record.learnt, device.interval), record.gaps
    subject.gateway, subject.others = record.gateway, record.others
    subject.watch |= record.watch & (SUPPRESSED | DEFERRED | SILENT)
    subject.last = _values(values_class, record.last) if record.last is not None else None
    engine.cadence.expect(subject)
    _load_conditions(subject, record.conditions, bits, kept)
    windows = dict(record.windows)
    for key, window in zip(subject.program.windows, subject.windows, strict=True):
        if key in windows:
            window.load(windows[key])
    waiting = [
        (w.time, w.sequence, w.index, w.awake, _reading(device, w, _values(values_class, w.values)))
        for w in record.buffer
    ]
    subject.buffer = waiting or None


def _load_conditions(subject: Subject, saved: _Conditions, bits: list[str], kept: set[str]) -> None:
    if not (saved.on or saved.up or saved.pending):
        return
    places = {rule.id: bit for bit, rule in enumerate(subject.rules)}
    for old, name in enumerate(bits):
        bit = places.get(name)
        if bit is None or name not in kept:
            continue
        subject.on |= (saved.on >> old & 1) << bit
        subject.up |= (saved.up >> old & 1) << bit
        if old in saved.pending:
            subject.hold(bit, saved.pending[old])


def _known(values: Values) -> dict[str, float | str]:
    return {name: value for name in values.__struct_fields__ if (value := getattr(values, name)) is not None}


def _values(values_class: type[Values], known: dict[str, float | str]) -> Values:
    fields = set(values_class.__struct_fields__)
    return values_class(**{name: float(v) if isinstance(v, int) else v for name, v in known.items() if name in fields})


def _reading(device: Device, waiting: _Waiting, values: Values) -> Reading:
    return Reading(
        device=device,
        time=waiting.time,
        values=values,
        received_at=waiting.received_at,
        gateway=waiting.gateway,
        sequence=waiting.sequence,
        index=waiting.index,
        quality=waiting.quality,
    )
