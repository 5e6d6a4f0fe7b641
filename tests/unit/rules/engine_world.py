"""A small city for tests of the rules engine: devices, readings by seconds, rules from one-line texts."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from devices.catalogue import load
from devices.model import DecodedBatch, Device, Gateway, GatewayStatus, Reading, Zone
from rules.engine import Engine
from rules.model import Action, Transition
from rules.pack import Rule
from rules.pack import load as load_packs
from storage.registry import RegistryView

CATALOGUE = load()
T0 = 1_767_225_600_000  # 2026-01-01T00:00:00Z, in ms
SECOND = 1_000
MINUTE = 60_000
HOUR = 3_600_000

SILENCE = "rule: device.silence\nsilence: cadence\npriority: medium"
GATEWAY = "rule: gateway.down\ngateway: down\non_delay: 10s\npriority: high"


def device(identity: str = "m1", **changes: Any) -> Device:
    """A water meter that reports every minute, unless changed."""
    given: dict[str, Any] = {
        "id": identity,
        "family": "water_meter",
        "profile": "test/1",
        "district": "230102",
        "zone": "z1",
        "gateway": "g1",
        "interval": MINUTE,
        "facts": {"q3": 2.5},
        "lon": 126.53,
        "lat": 45.8,
    }
    return Device(**(given | changes))


def registry(devices: Iterable[Device], zones: Sequence[Zone] = (), revision: int = 1) -> RegistryView:
    """A registry view of these devices and the gateways they name."""
    known = {item.id: item for item in devices}
    children: dict[str, list[str]] = {}
    members: dict[str, list[str]] = {}
    for item in known.values():
        children.setdefault(item.gateway, []).append(item.id)
        members.setdefault(item.zone, []).append(item.id)
    gateways = {name: Gateway(id=name, district="230102") for name in children}
    return RegistryView(revision, known, gateways, {zone.id: zone for zone in zones}, children, members)


def rules(folder: Path, *texts: str) -> list[Rule]:
    """Rules from short texts: what a document needs beyond its trigger is added."""
    rest = textwrap.dedent(
        """
        title: {zh: 规则, en: Rule}
        explanation: {zh: "{value}", en: "{value} against {setpoint}"}
        advice: {zh: 处置, en: act}
        """
    )
    path = folder / "pack.yaml"
    path.write_text("---\n".join(textwrap.dedent(text).strip() + "\n" + rest for text in texts), encoding="utf-8")
    return load_packs([path], CATALOGUE)


def rule(name: str, when: str, *more: str, family: str = "water_meter", priority: str = "high") -> str:
    """The text of one expression rule; `more` are further lines."""
    return "\n".join(
        (f"rule: {name}", f"applies_to: {{family: {family}}}", f'when: "{when}"', f"priority: {priority}", *more)
    )


def reading(
    of: Device,
    second: float,
    received: float | None = None,
    *,
    gateway: str | None = None,
    quality: str = "ok",
    replayed: bool = False,
    sequence: int = 0,
    **values: float | str,
) -> Reading:
    """A reading at `second` after T0, received at `received` (the same second unless said)."""
    return Reading(
        device=of,
        time=T0 + round(second * SECOND),
        values=CATALOGUE.values_class(of.family)(
            **{k: v if isinstance(v, str) else float(v) for k, v in values.items()}
        ),
        received_at=T0 + round((second if received is None else received) * SECOND),
        gateway=gateway or of.gateway,
        quality=quality,
        replayed=replayed,
        sequence=sequence,
    )


def status(state: str, session: str, second: float, gateway: str = "g1", **more: Any) -> GatewayStatus:
    """A gateway's status as a will would say it."""
    return GatewayStatus(gateway, "230102", state, session, None, T0 + round(second * SECOND), **more)  # type: ignore[arg-type]


def batch(*items: Reading | GatewayStatus) -> DecodedBatch:
    """One batch, sequences in the order given."""
    for sequence, item in enumerate(items, 1):
        item.sequence = sequence
    readings = [item for item in items if isinstance(item, Reading)]
    statuses = [item for item in items if isinstance(item, GatewayStatus)]
    clock = max((item.received_at for item in items), default=0)
    return DecodedBatch(1, len(items), clock, len(items), readings, statuses, [])


def at(second: float) -> int:
    """`second` after T0 in ms."""
    return T0 + round(second * SECOND)


def play(
    engine: Engine, items: Iterable[Reading | GatewayStatus], until: float, *, start: float = 0, every: float = 1
) -> list[Transition]:
    """Feed items in order of reception with a tick every second, up to `until`."""
    transitions: list[Transition] = []
    waiting = sorted(items, key=lambda item: item.received_at)
    place = 0
    steps = round((until - start) / every)
    for step in range(steps + 1):
        now = at(start + step * every)
        while place < len(waiting) and waiting[place].received_at <= now:
            transitions += engine.process(batch(waiting[place]))
            place += 1
        transitions += engine.tick(now)
    return transitions


def said(transitions: Iterable[Transition]) -> list[tuple[str, str, str, float]]:
    """(rule, subject, state, seconds after T0) of each transition."""
    return [(t.alarm.rule, t.alarm.subject_id, str(t.to_state), (t.at - T0) / SECOND) for t in transitions]


def action(kind: str, transition: Transition, seen: int | None = None, **arguments: Any) -> Action:
    """A person's action on the alarm of a transition."""
    version = transition.alarm.version if seen is None else seen
    return Action(
        id="a1",
        alarm=transition.alarm.id,
        kind=kind,
        actor="li",
        seen_version=version,
        arguments=arguments,  # type: ignore[arg-type]
    )
