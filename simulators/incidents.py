"""Incidents: what goes wrong in the simulated city, where, from when until when, and how badly.

`Schedule` owns the incidents of a run: it opens with some that are already under way, then adds one every few minutes
for ever, drawn from the seed and the wall-clock slot. Waveforms read their device's incidents, gateways their own;
the truth file (`simulators.truth`) is written from here. Pure apart from its own lists; raises nothing.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from devices.model import Device, Gateway, Milliseconds
from simulators.city import City
from simulators.climate import DAY, HOUR, heating_season, night

MINUTE = 60_000
Kind = Literal[
    "burst",
    "continuous_flow",
    "lamp_out",
    "lamp_burning_by_day",
    "manhole",
    "supply_low",
    "heating_return_low",
    "gateway_down",
]


class Incident(msgspec.Struct, frozen=True, kw_only=True, rename={"begins": "from", "ends": "until"}):
    """One incident; times are ms since the epoch, true time (not the device's clock).

    `magnitude` by kind: burst and continuous_flow m3/h on top of normal use, lamp_out and lamp_burning_by_day share
    of the rated power, manhole share of the depth that the level reaches, supply_low MPa, heating_return_low Cel,
    gateway_down 1. `devices` are those whose readings show it (for a gateway: those that fall silent). `expects`
    names the alarm that a rule engine should raise, as family.condition. `state` moves from scheduled through running
    to over; `actual_from` and `actual_until` say when the simulator really entered and left it (None for a gateway
    that was not even running then).
    """

    id: str
    kind: Kind
    subject_kind: Literal["device", "zone", "gateway"]
    subject: str
    family: str
    zone: str
    district: str
    begins: Milliseconds
    ends: Milliseconds
    magnitude: float
    expects: str
    devices: tuple[str, ...]
    state: Literal["scheduled", "running", "over"] = "scheduled"
    actual_from: Milliseconds | None = None
    actual_until: Milliseconds | None = None

    def strength(self, time: Milliseconds, ramp: Milliseconds) -> float:
        """0 outside the incident, 1 inside it, linear during the first and the last `ramp` ms."""
        return max(0.0, min((time - self.begins) / ramp, (self.ends - time) / ramp, 1.0))

    def overlap(self, time: Milliseconds) -> float:
        """Hours of the incident that have passed at `time`."""
        return (min(time, self.ends) - self.begins) / HOUR if time > self.begins else 0.0


class _Sort(msgspec.Struct, frozen=True):
    """How one kind is drawn: weight, the expected alarm, duration and magnitude ranges, and how long before the start
    one is opened.
    """

    weight: int
    expects: str
    minutes: tuple[float, float]
    magnitude: tuple[float, float]
    opened_before: float | None


_SORTS: dict[Kind, _Sort] = {
    "burst": _Sort(4, "water_meter.burst", (35, 55), (1.6, 2.4), 25),
    "continuous_flow": _Sort(1, "water_meter.continuous_flow", (40 * 60, 60 * 60), (0.025, 0.07), 27 * 60),
    "lamp_out": _Sort(4, "streetlight.out", (40, 90), (0.002, 0.02), 35),
    "lamp_burning_by_day": _Sort(3, "streetlight.day_on", (60, 90), (0.9, 1.0), 55),
    "manhole": _Sort(3, "pipe_drainage.level", (15, 30), (0.86, 0.97), 15),
    "supply_low": _Sort(2, "pipe_supply.low", (30, 40), (0.07, 0.125), 25),
    "heating_return_low": _Sort(2, "pipe_heating.return_low", (100, 150), (22.0, 32.0), 85),
    "gateway_down": _Sort(2, "gateway.down", (2, 4), (1.0, 1.0), None),
}
_FIRST_GATEWAY_DROP = 40_000  # ms after the start
_HORIZON = HOUR  # incidents are scheduled this far ahead


class Schedule:
    """All incidents of a city, past ones included (their water stays on the meters' registers).

    `known` are the incidents of earlier runs. `not_before` is the time up to which readings have been published:
    nothing may begin before it, or the past would change. `every` is the mean distance between incidents in ms.
    """

    def __init__(
        self,
        city: City,
        *,
        start: Milliseconds,
        known: Iterable[Incident] = (),
        not_before: Milliseconds = 0,
        every: Milliseconds = 4 * MINUTE,
        record: Callable[[Incident], None] = lambda incident: None,
    ) -> None:
        self._city = city
        self._every = every
        self._record = record
        self._incidents: dict[str, Incident] = {}
        self._affecting: dict[str, list[Incident]] = {}
        self._open: set[str] = set()
        self._candidates = _candidates(city)
        for incident in known:
            self._keep(incident)
        self._slot = start // every
        self._open_city(start, not_before)
        self.advance(start)

    @property
    def incidents(self) -> list[Incident]:
        """In the order in which they were scheduled."""
        return list(self._incidents.values())

    def affecting(self, subject: str) -> Sequence[Incident]:
        """The incidents of a device or gateway; a live view that grows with the schedule."""
        return self._affecting.setdefault(subject, [])

    def gateway_down(self, gateway: str, time: Milliseconds) -> Incident | None:
        """The incident that keeps this gateway off the network at `time`."""
        for incident in self._affecting.get(gateway, ()):
            if incident.kind == "gateway_down" and incident.begins <= time < incident.ends:
                return incident
        return None

    def advance(self, now: Milliseconds) -> None:
        """Schedule ahead and move states on; call about once a second."""
        while self._slot * self._every < now + _HORIZON:
            self._slot += 1
            self._draw(self._slot)
        for incident in [self._incidents[key] for key in self._open]:
            # Waveforms follow the plan exactly, also in hindsight; a connection is only cut and restored now.
            hindsight = incident.kind != "gateway_down"
            if incident.state == "scheduled" and incident.ends <= now and not hindsight:
                self._update(incident, state="over")
                continue
            if incident.state == "scheduled" and incident.begins <= now:
                incident = self._update(incident, state="running", actual_from=incident.begins if hindsight else now)
            if incident.state == "running" and incident.ends <= now:
                self._update(incident, state="over", actual_until=incident.ends if hindsight else now)

    def _update(self, incident: Incident, **changes: object) -> Incident:
        changed = msgspec.structs.replace(incident, **changes)
        self._incidents[incident.id] = changed
        if changed.state == "over":
            self._open.discard(incident.id)
        self._record(changed)
        return changed

    def _keep(self, incident: Incident) -> None:
        self._incidents[incident.id] = incident
        silent = incident.kind == "gateway_down"  # its devices go on measuring
        for subject in {incident.subject} if silent else {incident.subject, *incident.devices}:
            self._affecting.setdefault(subject, []).append(incident)
        if incident.state != "over":
            self._open.add(incident.id)

    def _open_city(self, start: Milliseconds, not_before: Milliseconds) -> None:
        """Begin with one incident of every kind that the season and the hour allow, unless an earlier run left one."""
        chance = random.Random(f"{self._city.seed}/opening/{start // self._every}")
        for kind, sort in _SORTS.items():
            if any(incident.kind == kind and incident.ends > start for incident in self._incidents.values()):
                continue
            begins = (
                start + _FIRST_GATEWAY_DROP if sort.opened_before is None else start - int(sort.opened_before * MINUTE)
            )
            begins = max(begins, not_before)
            ends = max(begins + self._duration(kind, chance), start + int(chance.uniform(5, 12) * MINUTE))
            if kind == "gateway_down":
                ends = begins + 2 * MINUTE
            self._schedule(f"{start // 1000:x}-{kind}", kind, begins, ends, chance)

    def _draw(self, slot: int) -> None:
        chance = random.Random(f"{self._city.seed}/{slot}/{self._every}")
        kinds = list(_SORTS)
        kind = chance.choices(kinds, [_SORTS[kind].weight for kind in kinds])[0]
        begins = slot * self._every + chance.randrange(self._every)
        self._schedule(f"{slot * self._every // 1000:x}", kind, begins, begins + self._duration(kind, chance), chance)

    def _duration(self, kind: Kind, chance: random.Random) -> Milliseconds:
        return int(chance.uniform(*_SORTS[kind].minutes) * MINUTE)

    def _schedule(self, key: str, kind: Kind, begins: Milliseconds, ends: Milliseconds, chance: random.Random) -> None:
        """Place it on a subject that has nothing else going on then; without one, nothing happens."""
        magnitude = chance.uniform(*_SORTS[kind].magnitude)
        free = [
            subject
            for subject in self._candidates[kind]
            if not any(
                begins < other.ends + 10 * MINUTE and other.begins < ends + 10 * MINUTE for other in self._busy(subject)
            )
        ]
        if key in self._incidents or not free:
            return
        subject = chance.choice(free)
        if not _possible(kind, subject.district, begins):
            return
        if kind == "burst":
            magnitude *= subject.facts.get("q3", 2.5)
        incident = Incident(
            id=key,
            kind=kind,
            subject_kind=subject.kind,
            subject=subject.id,
            family=subject.family,
            zone=subject.zone,
            district=subject.district,
            begins=begins,
            ends=ends,
            magnitude=round(magnitude, 4),
            expects=_SORTS[kind].expects,
            devices=subject.devices,
        )
        self._keep(incident)
        self._record(incident)

    def _busy(self, subject: "_Subject") -> Iterable[Incident]:
        yield from self._affecting.get(subject.id, ())
        for device in subject.devices if subject.kind == "zone" else ():
            yield from self._affecting.get(device, ())


class _Subject(msgspec.Struct, frozen=True):
    kind: Literal["device", "zone", "gateway"]
    id: str
    family: str
    zone: str
    district: str
    devices: tuple[str, ...]
    facts: dict[str, float]


def _device(device: Device) -> _Subject:
    return _Subject("device", device.id, device.family, device.zone, device.district, (device.id,), device.facts)


def _candidates(city: City) -> dict[Kind, list[_Subject]]:
    by_family: dict[str, list[_Subject]] = {}
    by_gateway: dict[str, list[str]] = {}
    supply: dict[str, list[Device]] = {}
    for device in city.devices:
        by_gateway.setdefault(device.gateway, []).append(device.id)
        if "indoor" not in device.facts:
            by_family.setdefault(device.family, []).append(_device(device))
        if device.family == "pipe_supply":
            supply.setdefault(device.zone, []).append(device)
    homes = [meter for meter in by_family.get("water_meter", []) if meter.facts["q3"] < 10]
    lamps = by_family.get("streetlight", [])
    return {
        "burst": homes,
        "continuous_flow": homes,
        "lamp_out": lamps,
        "lamp_burning_by_day": lamps,
        "manhole": by_family.get("pipe_drainage", []),
        "supply_low": [
            _Subject("zone", zone, "pipe_supply", zone, members[0].district, tuple(d.id for d in members), {})
            for zone, members in supply.items()
        ],
        "heating_return_low": by_family.get("pipe_heating", []),
        "gateway_down": [_gateway(gateway, by_gateway.get(gateway.id, [])) for gateway in city.gateways],
    }


def _gateway(gateway: Gateway, devices: list[str]) -> _Subject:
    return _Subject("gateway", gateway.id, "gateway", "", gateway.district, tuple(devices), {})


def _possible(kind: Kind, district: str, begins: Milliseconds) -> bool:
    """Lamps fail visibly by night only, burn wrongly by day only, return temperature says something in the season
    only.
    """
    if kind in ("lamp_out", "lamp_burning_by_day"):
        dusk, dawn = night(district, begins // DAY)
        dark = dusk + 20 * MINUTE <= begins <= dawn - 40 * MINUTE
        bright = begins <= dusk - 100 * MINUTE or begins >= dawn + 40 * MINUTE
        return dark if kind == "lamp_out" else bright
    return kind != "heating_return_low" or heating_season(begins)
