"""Rules over zones: windows of event time over the members of a circuit, a DMA or a loop.

A window closes when every live member has reported up to its end, or `zone_lateness` after its end by the clock;
windows close in order. It carries its coverage (members that reported in it / all members); below the rule's minimum
it says nothing: one dead meter never stalls a DMA, and a partial sum never counts as a loss. A member's last reading
in the window counts. Owns the windows; tells the engine's `closed` what the aggregates are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from devices.catalogue import Catalogue
from devices.model import Device, Milliseconds, Reading
from rules.fusion import contribution
from rules.interpret import UnknownValueError, condition
from rules.language import ZONE_FUNCTIONS, Call, Node, Property, walk
from rules.pack import Rule
from rules.scopes import ZoneScope
from rules.subjects import Subject
from storage.registry import RegistryView

_NAMED = 20


class ZoneSubject(Subject):
    """One rule over one zone. `open[start][member]` holds (event time, values of the arguments); `time` is the end of
    the last closed.
    """

    __slots__ = ("last", "members", "open", "remaining", "rule", "time", "zone")
    kind = "zone"

    def __init__(self, rule: Rule, zone: str, members: tuple[str, ...]) -> None:
        super().__init__(f"{rule.id}\x1f{zone}", (rule,), rule.window)
        self.rule = rule
        self.zone = zone
        self.members = members
        self.open: dict[int, dict[str, tuple[int, tuple[float, ...]]]] = {}
        self.remaining: set[str] | None = (
            None  # live members that the first open window waits for; None = not yet counted
        )
        self.time = -1
        self.last: tuple[int, float] | None = None


class ZoneMember:
    """A device's part in one zone rule; stands in for the subject in generated code."""

    __slots__ = ("constants", "contribute", "device", "windows", "zone")

    def __init__(self, zone: ZoneSubject, device: Device, contribute: Any, constants: tuple[float, ...]) -> None:
        self.zone = zone
        self.device = device
        self.contribute = contribute
        self.constants = constants
        self.windows = ()


class Zones:
    """All zone rules over all zones of the registry. `live(members)` says who can be waited for; `closed` takes a
    window's scope.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        live: Callable[[Iterable[str]], Iterator[str]],
        closed: Callable[[ZoneSubject, int, ZoneScope, dict[str, Any]], None],
    ) -> None:
        self._live = live
        self._closed = closed
        self.subjects: dict[tuple[str, str], ZoneSubject] = {}
        self._of_device: dict[str, list[ZoneSubject]] = {}
        self._rules = rules
        self._calls: dict[str, tuple[Call, ...]] = {}
        self._contributions: dict[str, Any] = {}
        self._waiting: set[tuple[str, str]] = set()
        for rule in rules:
            nodes = next(iter(rule.when.values())).nodes()
            calls = tuple(
                dict.fromkeys(node for node in nodes if isinstance(node, Call) and node.name in ZONE_FUNCTIONS)
            )
            self._calls[rule.id] = calls
            self._contributions[rule.id] = contribution([call.argument for call in calls if call.argument is not None])

    def set_registry(self, view: RegistryView) -> list[ZoneSubject]:
        """Members of every zone of the kinds the rules ask for; nested zones count. Windows of known zones are kept;
        returns the zones that have no members any more.
        """
        self._of_device = {}
        subjects: dict[tuple[str, str], ZoneSubject] = {}
        above = {identity: tuple(_ancestors(identity, view)) for identity in view.zones}
        for rule in self._rules:
            family, facts = rule.families[0], next(iter(rule.when.values())).facts
            members: dict[str, list[str]] = {}
            for device in view.devices.values():
                if device.family == family and facts <= device.facts.keys():
                    for zone in above.get(device.zone, ()):
                        if view.zones[zone].kind == rule.zone_kind:
                            members.setdefault(zone, []).append(device.id)
            for zone, devices in members.items():
                subject = self.subjects.get((rule.id, zone)) or ZoneSubject(rule, zone, ())
                if subject.members != tuple(devices):
                    subject.members, subject.remaining = tuple(devices), None
                subjects[rule.id, zone] = subject
                for identity in devices:
                    self._of_device.setdefault(identity, []).append(subject)
        gone = [zone for key, zone in self.subjects.items() if key not in subjects]
        self.subjects = subjects
        self._waiting &= subjects.keys()
        return gone

    def members_of(self, device: Device) -> tuple[ZoneMember, ...]:
        """The zone rules that a device takes part in."""
        found = []
        for subject in self._of_device.get(device.id, ()):
            contribute, constants = self._contributions[subject.rule.id]
            found.append(ZoneMember(subject, device, contribute, constants(device.facts)))
        return tuple(found)

    def report(self, member: ZoneMember, reading: Reading) -> None:
        """A member's reading, in event time order of that member."""
        zone, length = member.zone, member.zone.interval
        start = reading.time - reading.time % length
        if start + length <= zone.time:
            return
        values = member.contribute(member, reading)
        if values is not None:
            zone.open.setdefault(start, {})[member.device.id] = (reading.time, values)
            self._waiting.add((zone.rule.id, zone.zone))
        while zone.open:
            first = min(zone.open)
            if zone.remaining is None:
                zone.remaining = set(self._live(zone.members))
            if first < start or reading.time + member.device.interval >= first + length:
                zone.remaining.discard(member.device.id)
            if zone.remaining:
                return
            self._close(zone, first)

    def gone(self, members: Sequence[ZoneMember]) -> None:
        """A member has fallen silent: no window waits for it."""
        for member in members:
            zone = member.zone
            if zone.remaining is not None:
                zone.remaining.discard(member.device.id)
                if not zone.remaining and zone.open:
                    self._close(zone, min(zone.open))

    def tick(self, now: Milliseconds) -> bool:
        """Close what is `zone_lateness` past its end. Whether there was anything."""
        closed = False
        for key in sorted(self._waiting):
            zone = self.subjects[key]
            while zone.open and (first := min(zone.open)) + zone.interval + zone.rule.zone_lateness <= now:
                self._close(zone, first)
                closed = True
        return closed

    def _close(self, zone: ZoneSubject, start: int) -> None:
        window = zone.open.pop(start)
        zone.remaining = None
        zone.time = start + zone.interval
        if not zone.open:
            self._waiting.discard((zone.rule.id, zone.zone))
        coverage = len(window) / len(zone.members) if zone.members else 0.0
        if coverage < zone.rule.coverage or not window:
            return
        calls = self._calls[zone.rule.id]
        aggregates: dict[Call, float] = {}
        column = 0
        for call in calls:
            if call.argument is None:
                aggregates[call] = coverage
                continue
            row = [window[member][1][column] if member in window else None for member in zone.members]
            aggregates[call] = _aggregate(call.name, row)
            column += 1
        named = [member for member in zone.members if member in window and any(window[member][1])] if calls else []
        self._closed(zone, zone.time, ZoneScope(aggregates), {"coverage": coverage, "members": named[:_NAMED]})

    def rebuild(self) -> None:
        """Derive which zones have open windows (after a restore)."""
        self._waiting = {key for key, zone in self.subjects.items() if zone.open}


def holds_now(zone: ZoneSubject, root: Node, scope: ZoneScope) -> bool | None:
    """The zone's condition, on its returning side while raised; None while an aggregate is unknown."""
    try:
        return condition(root, scope, zone.rule.deadband if zone.up & 1 else None)
    except UnknownValueError:
        return None


def unit_of(call: Node, catalogue: Catalogue) -> str:
    """Unit of an aggregate: that of the only property it is made of, nothing for counts."""
    if (
        isinstance(call, Call)
        and call.name in ("zone_sum", "zone_mean", "zone_min", "zone_max")
        and call.argument is not None
    ):
        names = {node.name for node in walk(call.argument) if isinstance(node, Property)}
        if len(names) == 1:
            return catalogue.properties[names.pop()].unit
    return ""


def _aggregate(name: str, row: Sequence[float | None]) -> float:
    known = [value for value in row if value is not None]
    match name:
        case "zone_sum" | "zone_count":
            return float(sum(known))
        case "zone_mean":
            return sum(known) / len(known)
        case "zone_min":
            return min(known)
        case "zone_max":
            return max(known)
    longest = run = 0
    for value in row:
        run = run + 1 if value else 0
        longest = max(longest, run)
    return float(longest)


def _ancestors(identity: str, view: RegistryView) -> Iterator[str]:
    """The zone and everything above it; a loop in the registry ends the walk."""
    seen: set[str] = set()
    current: str | None = identity
    while current is not None and current in view.zones and current not in seen:
        seen.add(current)
        yield current
        current = view.zones[current].parent
