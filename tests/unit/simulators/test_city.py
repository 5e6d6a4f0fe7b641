"""The simulated city's inventory."""

import math
from collections import Counter
from itertools import pairwise

import pytest

from devices.errors import ConfigError
from devices.model import Device, Gateway, Zone
from devices.profile import load_profiles
from simulators.city import City, build_city
from simulators.geography import DISTRICTS, METRES_PER_DEGREE


@pytest.fixture(scope="module")
def city() -> City:
    return build_city(7)


def metres(lon: float, lat: float, other_lon: float, other_lat: float) -> float:
    east = (lon - other_lon) * METRES_PER_DEGREE * math.cos(math.radians(lat))
    return math.hypot(east, (lat - other_lat) * METRES_PER_DEGREE)


def test_the_same_seed_builds_the_same_city_and_another_seed_another() -> None:
    def inventory(seed: int) -> list[object]:
        built = build_city(seed, 120)
        return [
            {field: getattr(each, field) for field in each.__struct_fields__}
            for each in (*built.zones, *built.gateways, *built.devices)
        ]

    assert inventory(3) == inventory(3)
    assert inventory(3) != inventory(4)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 560, 3_000])
def test_a_city_has_exactly_the_devices_asked_for_and_every_reference_resolves(size: int) -> None:
    built = build_city(1, size)
    zones, gateways = {zone.id: zone for zone in built.zones}, {gateway.id: gateway for gateway in built.gateways}
    assert len(built.devices) == len({device.id for device in built.devices}) == size
    assert len(zones) == len(built.zones)
    assert len(gateways) == len(built.gateways)
    for device in built.devices:
        assert zones[device.zone].district == gateways[device.gateway].district == device.district
    assert all(zone.parent in zones for zone in built.zones if zone.kind != "district")


def test_a_city_without_devices_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        build_city(1, 0)


def test_the_default_city_has_two_districts_three_counties_and_all_families(city: City) -> None:
    districts = {zone.id for zone in city.zones if zone.kind == "district"}
    assert districts == {"230102", "230103", "230123", "230125", "230126"}
    assert len(city.gateways) >= 10
    assert len(city.devices) >= 500
    for district in districts:
        families = {device.family for device in city.devices if device.district == district}
        assert families == {profile.family for profile in load_profiles().values()}


def test_every_gateway_serves_a_fair_part_of_its_district(city: City) -> None:
    served = Counter(device.gateway for device in city.devices)
    assert set(served) == {gateway.id for gateway in city.gateways}
    assert max(served.values()) < 2 * min(served.values())


def test_every_circuit_has_its_cabinet_which_knows_its_lamps(city: City) -> None:
    for zone in (zone for zone in city.zones if zone.kind == "circuit"):
        lamps = [d for d in city.devices if d.zone == zone.id and d.family == "streetlight"]
        (cabinet,) = [d for d in city.devices if d.zone == zone.id and d.family == "lighting_cabinet"]
        assert cabinet.facts["lamps"] == len(lamps)
        assert cabinet.facts["rated_power"] == sum(lamp.facts["rated_power"] for lamp in lamps)


def test_every_dma_has_meters_and_one_inflow_meter(city: City) -> None:
    for zone in (zone for zone in city.zones if zone.kind == "dma"):
        members = [device for device in city.devices if device.zone == zone.id]
        assert sum("inflow" in device.facts for device in members) == 1
        assert sum(device.family == "water_meter" for device in members) > 10


def test_devices_stand_in_their_district_along_streets_and_not_in_one_heap(city: City) -> None:
    centres = {district.code: district for district in DISTRICTS}
    for device in city.devices:
        centre = centres[device.district]
        assert device.lon is not None
        assert device.lat is not None
        assert metres(device.lon, device.lat, centre.lon, centre.lat) < 3_000
    for code in centres:
        places = [(device.lon or 0, device.lat or 0) for device in city.devices if device.district == code]
        assert len(set(places)) > 0.95 * len(places)
        assert max(metres(*a, *places[0]) for a in places) > 600
    circuit = next(zone.id for zone in city.zones if zone.kind == "circuit")
    lamps = [(d.lon or 0, d.lat or 0) for d in city.devices if d.zone == circuit and d.family == "streetlight"]
    assert all(25 < metres(*a, *b) < 80 for a, b in pairwise(lamps))


def test_everything_has_a_chinese_and_an_english_name(city: City) -> None:
    everything: list[Zone | Gateway | Device] = [*city.zones, *city.gateways, *city.devices]
    for each in everything:
        assert any("\u4e00" <= letter <= "\u9fff" for letter in each.name_zh), each.id
        assert each.name_en.isascii(), each.id
        assert each.name_en, each.id


def test_profiles_and_families_agree(city: City) -> None:
    profiles = load_profiles()
    assert all(profiles[device.profile].family == device.family for device in city.devices)
