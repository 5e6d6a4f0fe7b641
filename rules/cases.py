"""Cases: what a pack must and must not raise, written beside it as `<pack>.test.yaml` and run on the production
engine.

A case is one YAML document: devices (zones where a rule needs them), series of readings by simulated time, and the
transitions expected, all of them and no others. `run_cases(paths)` runs the cases beside the given packs,
`lint(paths)` checks the packs; both are what `songhua rules test|lint` print. Owns nothing; unreadable files are
results, not exceptions.

    case: burst pages after ten minutes
    devices: {m1: {family: water_meter, interval: 1m, facts: {q3: 2.5}}}
    series:
      - {from: 0m, to: 20m, every: 1m, values: {flow_rate: 3.5}}     # or at: 5m; a list of values is used one by one
    until: 30m
    expect:
      - {rule: water_meter.burst, at: 10m, state: UNACK}
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from devices.catalogue import Catalogue
from devices.catalogue import load as load_catalogue
from devices.errors import ConfigError
from devices.model import DecodedBatch, Device, Gateway, GatewayStatus, Milliseconds, Reading, Zone
from rules.engine import Engine
from rules.language import duration, duration_text
from rules.model import State, Transition
from rules.pack import Finding, Rule, load, read
from storage.registry import RegistryView

_SUFFIX = ".test.yaml"


def _offset(value: object) -> int:
    return 0 if value == 0 else duration(str(value))


Offset = Annotated[int, BeforeValidator(_offset)]
Value = float | bool | str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CaseDevice(_Part):
    """A device of a case; coordinates default to the middle of Harbin."""

    family: str
    interval: Offset = 60_000
    facts: dict[str, float] = {}
    zone: str = ""
    gateway: str = "g1"
    lon: float = 126.53
    lat: float = 45.80


class Series(_Part):
    """Readings of one device: at one time, or from..to every. Received `delay` later, or all together at `received`
    (an upload).
    """

    device: str = ""
    at: Offset | None = None
    start: Offset = Field(default=0, alias="from")
    to: Offset = 0
    every: Offset = 60_000
    delay: Offset = 0
    received: Offset | None = None
    quality: str = "ok"
    values: dict[str, Value | list[Value]]

    def times(self) -> Iterator[tuple[int, int]]:
        """(number, offset in ms) of every reading."""
        yield from enumerate([self.at] if self.at is not None else range(self.start, self.to + 1, max(self.every, 1)))


class CaseStatus(_Part):
    """A gateway's status message; without `at` in the payload, as a will is."""

    gateway: str = "g1"
    at: Offset
    state: Literal["online", "offline"]
    session: str = "s1"


class Expected(_Part):
    """One transition: its event time, the state it leads to, and whether it pages (where said)."""

    rule: str
    at: Offset
    state: State
    subject: str = ""
    notify: bool | None = None


class Case(_Part):
    """One case; see the module."""

    case: str = Field(min_length=1)
    devices: dict[str, CaseDevice] = Field(min_length=1)
    zones: dict[str, str] = {}  # zone -> kind
    start: datetime = datetime.fromisoformat("2026-01-05T10:00:00+08:00")
    series: list[Series] = []
    statuses: list[CaseStatus] = []
    until: Offset
    tick: Offset = 5_000
    lateness: Offset = 0
    rules: list[str] = []  # only these are judged; all of the pack by default
    expect: list[Expected]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one case; `detail` says what differed, in lines of `+ unexpected` and `- missing`."""

    path: str
    line: int
    name: str
    passed: bool
    detail: str = ""


def lint(paths: Iterable[Path], known_facts: Mapping[str, Collection[str]] | None = None) -> list[Finding]:
    """Everything wrong or doubtful in the packs, in order of file and line."""
    _, findings = read(packs_of(paths), load_catalogue(), known_facts)
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.column))


def packs_of(paths: Iterable[Path]) -> list[Path]:
    """Folders stand for the packs in them, a file of cases for the pack that it lies beside."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [item for item in sorted(path.glob("*.yaml")) if not item.name.endswith(_SUFFIX)]
        elif path.name.endswith(_SUFFIX):
            found.append(path.with_name(path.name.removesuffix(_SUFFIX) + ".yaml"))
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def run_cases(paths: Iterable[Path]) -> list[CaseResult]:
    """Run every case beside the packs."""
    catalogue = load_catalogue()
    results: list[CaseResult] = []
    for pack in packs_of(paths):
        beside = pack.with_name(pack.name.removesuffix(".yaml") + _SUFFIX)
        try:
            rules = load([pack], catalogue)
            text = beside.read_text(encoding="utf-8") if beside.exists() else ""
            nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        except (ConfigError, OSError, yaml.YAMLError) as error:
            results.append(CaseResult(str(pack), 1, "cannot be read", False, str(error)))
            continue
        results += [_run_document(str(beside), node, rules, catalogue) for node in nodes]
    return results


def _run_document(path: str, node: yaml.Node, rules: Sequence[Rule], catalogue: Catalogue) -> CaseResult:
    line = node.start_mark.line + 1
    try:
        case = Case.model_validate(yaml.SafeLoader("").construct_document(node))
    except (ValidationError, yaml.YAMLError) as error:
        return CaseResult(path, line, "cannot be read", False, str(error))
    try:
        seen = [_said(transition, _start(case)) for transition in run(case, rules, catalogue)]
    except ConfigError as error:
        return CaseResult(path, line, case.case, False, str(error))
    judged = set(case.rules) or {rule.id for rule in rules}
    seen = [item for item in seen if item.rule in judged]
    missing = [item for item in case.expect if not any(_matches(item, other) for other in seen)]
    surplus = [item for item in seen if not any(_matches(other, item) for other in case.expect)]
    lines = [f"- {_line(item)}" for item in missing] + [f"+ {_line(item)}" for item in surplus]
    return CaseResult(path, line, case.case, not lines, "\n".join(lines))


def run(case: Case, rules: Sequence[Rule], catalogue: Catalogue) -> list[Transition]:
    """The transitions of a case on a fresh engine, ticked through its simulated time. Raises `ConfigError` for
    unknown names.
    """
    devices = {
        identity: Device(
            id=identity,
            family=device.family,
            profile="case/1",
            district="230102",
            zone=device.zone,
            gateway=device.gateway,
            interval=device.interval,
            facts=device.facts,
            lon=device.lon,
            lat=device.lat,
        )
        for identity, device in case.devices.items()
    }
    for identity, device in devices.items():
        if device.family not in catalogue.families:
            raise ConfigError(f"device {identity}: unknown family {device.family}")
    engine = Engine(rules, catalogue, _registry(case, devices), lateness=case.lateness)
    start, events = _start(case), _events(case, devices, catalogue)
    transitions: list[Transition] = []
    place = 0
    for offset in range(0, case.until + 1, case.tick):
        while place < len(events) and events[place][0] <= start + offset:
            received, item = events[place]
            place += 1
            readings = [item] if isinstance(item, Reading) else []
            statuses = [item] if isinstance(item, GatewayStatus) else []
            transitions += engine.process(DecodedBatch(place, place, received, 1, readings, statuses, []))
        transitions += engine.tick(start + offset)
    return transitions


def _start(case: Case) -> Milliseconds:
    return int(case.start.timestamp() * 1000)


def _registry(case: Case, devices: dict[str, Device]) -> RegistryView:
    members: dict[str, list[str]] = {}
    children: dict[str, list[str]] = {}
    for device in devices.values():
        members.setdefault(device.zone, []).append(device.id)
        children.setdefault(device.gateway, []).append(device.id)
    zones = {name: Zone(id=name, kind=kind, district="230102") for name, kind in case.zones.items()}
    gateways = {name: Gateway(id=name, district="230102") for name in children}
    return RegistryView(1, devices, gateways, zones, children, members)


def _events(
    case: Case, devices: dict[str, Device], catalogue: Catalogue
) -> list[tuple[Milliseconds, Reading | GatewayStatus]]:
    """Readings and statuses in the order of their reception."""
    start = _start(case)
    events: list[tuple[Milliseconds, Reading | GatewayStatus]] = []
    for series in case.series:
        identity = series.device or next(iter(devices))
        if identity not in devices:
            raise ConfigError(f"series of unknown device {identity}")
        device = devices[identity]
        values_class = catalogue.values_class(device.family)
        for number, offset in series.times():
            chosen: dict[str, Any] = {}
            for name, value in series.values.items():
                if name not in values_class.__struct_fields__:
                    raise ConfigError(f"{device.family} has no property {name}")
                one = value[number % len(value)] if isinstance(value, list) else value
                chosen[name] = one if isinstance(one, str) else float(one)
            received = start + (offset + series.delay if series.received is None else series.received)
            reading = Reading(
                device=device,
                time=start + offset,
                values=values_class(**chosen),
                received_at=received,
                gateway=device.gateway,
                quality=series.quality,
            )
            events.append((received, reading))
    for status in case.statuses:
        at = start + status.at
        item = GatewayStatus(status.gateway, "230102", status.state, status.session, None, at)
        events.append((at, item))
    return sorted(events, key=lambda event: event[0])


def _said(transition: Transition, start: Milliseconds) -> Expected:
    alarm = transition.alarm
    return Expected.model_construct(
        rule=alarm.rule,
        at=transition.at - start,
        state=transition.to_state,
        subject=alarm.subject_id,
        notify=transition.notify,
    )


def _matches(expected: Expected, seen: Expected) -> bool:
    return (
        (expected.rule, expected.at, expected.state) == (seen.rule, seen.at, seen.state)
        and expected.subject in ("", seen.subject)
        and expected.notify in (None, seen.notify)
    )


def _line(item: Expected) -> str:
    paged = "" if item.notify is None else " paging" if item.notify else " silently"
    return f"{item.rule} {item.subject} {item.state} at {duration_text(item.at)}{paged}"
