"""The inventory of the simulated city: zones, gateways and devices with names, coordinates and facts.

`build_city(seed, devices)` is deterministic and works from one device to 100,000. The mix is about 45 % water meters in
DMAs, 30 % streetlights on circuits with one lighting cabinet each, and pipe sensors of supply, drainage and heating.
Owns nothing; raises `ConfigError` for an impossible size.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from msgspec import structs

from devices.errors import ConfigError
from devices.model import Device, Gateway, Zone
from simulators.geography import DISTRICTS, STREET_LENGTH, District, Street, streets

METERS_PER_DMA = 36
LAMPS_PER_CIRCUIT = 14
SENSORS_PER_ZONE = 12
DEVICES_PER_GATEWAY = 55
INTERVALS = {  # ms, of the demo; a real meter reports once a day
    "water_meter": 20_000,
    "streetlight": 20_000,
    "lighting_cabinet": 15_000,
    "pipe_supply": 10_000,
    "pipe_drainage": 15_000,
    "pipe_heating": 15_000,
}
_PROFILES = {
    "water_meter": ("wm", "songhua/wm-15"),
    "streetlight": ("lamp", "songhua/lamp-1"),
    "lighting_cabinet": ("cab", "songhua/cabinet-1"),
    "pipe_supply": ("sup", "songhua/pipe-s1"),
    "pipe_drainage": ("drn", "songhua/drain-1"),
    "pipe_heating": ("het", "songhua/heat-1"),
}


@dataclass(frozen=True, slots=True)
class City:
    """The inventory, ready for registration; devices refer to zones and gateways by id."""

    seed: int
    zones: list[Zone]
    gateways: list[Gateway]
    devices: list[Device]


@dataclass(frozen=True, slots=True)
class _Quota:
    """How many devices of each family one district gets."""

    meters: int
    lamps: int
    cabinets: int
    supply: int
    drainage: int
    heating: int


def build_city(seed: int, devices: int = 560) -> City:
    """The city of this seed with exactly `devices` devices. Raises `ConfigError` when `devices` is below 1."""
    if devices < 1:
        raise ConfigError(f"a city needs at least 1 device, not {devices}")
    city = City(seed, [], [], [])
    for district, size in zip(DISTRICTS, _apportion(devices), strict=True):
        _Builder(city, district, random.Random(f"{seed}/{district.code}"), len(str(devices))).build(size)
    return city


def _apportion(devices: int) -> list[int]:
    """Split by weight; the remainder goes to the first districts."""
    sizes = [int(devices * district.weight) for district in DISTRICTS]
    for index in range(devices - sum(sizes)):
        sizes[index % len(sizes)] += 1
    return sizes


def _quota(size: int) -> _Quota:
    meters, lamps = round(0.45 * size), round(0.30 * size)
    cabinets = min(math.ceil(lamps / LAMPS_PER_CIRCUIT), size - meters - lamps)
    sensors = size - meters - lamps - cabinets
    supply = math.ceil(sensors * 0.36)
    drainage = (sensors - supply) // 2
    return _Quota(meters, lamps, cabinets, supply, drainage, sensors - supply - drainage)


def _chunks(total: int, largest: int) -> list[int]:
    """`total` in equal parts of at most `largest`."""
    parts = math.ceil(total / largest)
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


class _Builder:
    """Builds one district into the city; zones take a street each, in random order around the centre."""

    def __init__(self, city: City, district: District, chance: random.Random, digits: int) -> None:
        self._city = city
        self._district = district
        self._chance = chance
        self._digits = max(4, digits)
        self._numbers: dict[str, Iterator[int]] = {}
        self._placed: list[Device] = []

    def build(self, size: int) -> None:
        district, quota = self._district, _quota(size)
        self._city.zones.append(
            Zone(id=district.code, kind="district", district=district.code, name_zh=district.zh, name_en=district.en)
        )
        plans: list[Callable[[Street], None]] = []
        dmas = _chunks(quota.meters, METERS_PER_DMA) or [0] * bool(quota.supply)
        supply = _spread(quota.supply, len(dmas))
        plans += [_plan(self._dma, meters, sensors) for meters, sensors in zip(dmas, supply, strict=True)]
        circuits = _chunks(quota.lamps, LAMPS_PER_CIRCUIT)
        cabinets = _spread(quota.cabinets, len(circuits))
        plans += [_plan(self._circuit, lamps, cabinet) for lamps, cabinet in zip(circuits, cabinets, strict=True)]
        plans += [_plan(self._catchment, part) for part in _chunks(quota.drainage, SENSORS_PER_ZONE)]
        plans += [_plan(self._loop, part) for part in _chunks(quota.heating, SENSORS_PER_ZONE)]
        self._chance.shuffle(plans)
        town = list(islice(streets(district), len(plans)))
        for plan, street in zip(plans, town, strict=True):
            plan(street)
        self._add_gateways(size, town)

    def _add_gateways(self, size: int, town: list[Street]) -> None:
        """Neighbouring streets share a gateway."""
        gateways = max(2, math.ceil(size / DEVICES_PER_GATEWAY))
        for index in range(gateways):
            street = town[index * len(town) // gateways] if town else next(streets(self._district))
            lon, lat = street.place(STREET_LENGTH / 2, 15)
            self._city.gateways.append(
                Gateway(
                    id=f"gw-{self._district.code}-{index + 1:02d}",
                    district=self._district.code,
                    name_zh=f"{street.zh}{index + 1}号网关",
                    name_en=f"Gateway {index + 1}, {street.en}",
                    lon=lon,
                    lat=lat,
                )
            )
        for index, device in enumerate(self._placed):
            gateway = f"gw-{self._district.code}-{index * gateways // size + 1:02d}"
            self._city.devices.append(structs.replace(device, gateway=gateway))

    def _zone(self, kind: str, street: Street, zh: str, en: str) -> str:
        number = next(self._numbers.setdefault(kind, count(1)))
        zone = Zone(
            id=f"{kind}-{self._district.code}-{number:02d}",
            kind=kind,
            district=self._district.code,
            parent=self._district.code,
            name_zh=f"{street.zh}{zh}",
            name_en=f"{en}, {street.en}",
        )
        self._city.zones.append(zone)
        return zone.id

    def _add(
        self, family: str, zone: str, place: tuple[float, float], zh: str, en: str, facts: dict[str, float]
    ) -> None:
        prefix, profile = _PROFILES[family]
        number = next(self._numbers.setdefault(prefix, count(1)))
        self._placed.append(
            Device(
                id=f"{prefix}-{self._district.code}-{number:0{self._digits}d}",
                family=family,
                profile=profile,
                district=self._district.code,
                zone=zone,
                gateway="",
                interval=INTERVALS[family],
                facts=facts,
                name_zh=zh,
                name_en=en,
                lon=place[0],
                lat=place[1],
            )
        )

    def _dma(self, street: Street, meters: int, sensors: int) -> None:
        chance, zone = self._chance, self._zone("dma", street, "计量分区", "DMA")
        buildings = [
            (chance.uniform(20, STREET_LENGTH - 20), chance.choice((-1, 1)) * chance.uniform(22, 70)) for _ in range(8)
        ]
        for _ in range(meters):
            number = chance.randrange(len(buildings))
            along, aside = buildings[number]
            place = street.place(along + chance.uniform(-9, 9), aside + chance.uniform(-6, 6))
            house = 2 * number + (1 if aside > 0 else 2)
            if chance.random() < 0.05:
                zh, en = chance.choice((("学校", "school"), ("商铺", "shop"), ("办公楼", "offices")))
                self._add(
                    "water_meter",
                    zone,
                    place,
                    f"{street.zh}{house}号{zh}水表",
                    f"Water meter, {house} {street.en}, {en}",
                    {"q3": 16.0},
                )
            else:
                unit, flat = chance.randint(1, 4), 100 * chance.randint(1, 7) + chance.randint(1, 3)
                self._add(
                    "water_meter",
                    zone,
                    place,
                    f"{street.zh}{house}号{unit}单元{flat}室水表",
                    f"Water meter, {house} {street.en}, unit {unit}, flat {flat}",
                    {"q3": 2.5},
                )
        for index in range(sensors):
            facts = {"design_pressure": round(chance.uniform(0.30, 0.38), 2)}
            if index == 0:
                place, zh, en = street.place(2, 4), "分区进水流量计", "DMA inflow meter"
                facts["inflow"] = 1.0
            else:
                place = street.place(chance.uniform(20, STREET_LENGTH - 20), chance.choice((-5, 5)))
                zh, en = f"{index}号供水压力监测点", f"Supply pressure point {index}"
            self._add("pipe_supply", zone, place, f"{street.zh}{zh}", f"{en}, {street.en}", facts)

    def _circuit(self, street: Street, lamps: int, cabinets: int) -> None:
        zone = self._zone("circuit", street, "照明回路", "Lighting circuit")
        rated = float(self._chance.choice((70, 100, 120, 150)))
        gap = (STREET_LENGTH - 20) / max(1, lamps)
        for number in range(1, lamps + 1):
            place = street.place(number * gap, 7 if number % 2 else -7)
            self._add(
                "streetlight",
                zone,
                place,
                f"{street.zh}{number}号路灯",
                f"Streetlight {number}, {street.en}",
                {"rated_power": rated},
            )
        for _ in range(cabinets):
            self._add(
                "lighting_cabinet",
                zone,
                street.place(6, 9),
                f"{street.zh}照明配电柜",
                f"Lighting cabinet, {street.en}",
                {"lamps": float(lamps), "rated_power": lamps * rated},
            )

    def _catchment(self, street: Street, sensors: int) -> None:
        zone = self._zone("catchment", street, "排水分区", "Catchment")
        for number in range(1, sensors + 1):
            place = street.place(number * STREET_LENGTH / (sensors + 1), self._chance.uniform(-2, 2))
            depth = round(self._chance.uniform(2.4, 4.2), 2)
            facts = {"depth": depth, "dry_level": round(depth * self._chance.uniform(0.08, 0.14), 3)}
            self._add(
                "pipe_drainage",
                zone,
                place,
                f"{street.zh}{number}号污水井",
                f"Sewer manhole {number}, {street.en}",
                facts,
            )

    def _loop(self, street: Street, sensors: int) -> None:
        chance, zone = self._chance, self._zone("loop", street, "供热环路", "Heating loop")
        for number in range(1, sensors + 1):
            place = street.place(
                chance.uniform(15, STREET_LENGTH - 15), chance.choice((-1, 1)) * chance.uniform(12, 60)
            )
            facts = {"design_flow": float(chance.randrange(120, 300, 10)), "design_supply_pressure": 0.8}
            if number % 4 == 0:
                facts["indoor"] = 1.0
                zh, en = f"{number}号室温监测点", f"Room temperature point {number}"
            else:
                zh, en = f"{number}号换热站", f"Heat exchange station {number}"
            self._add("pipe_heating", zone, place, f"{street.zh}{zh}", f"{en}, {street.en}", facts)


def _spread(total: int, places: int) -> list[int]:
    return [total * (place + 1) // places - total * place // places for place in range(places)]


def _plan(build: Callable[..., None], *sizes: int) -> Callable[[Street], None]:
    return lambda street: build(street, *sizes)
