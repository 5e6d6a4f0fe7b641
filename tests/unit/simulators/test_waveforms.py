"""What the simulated devices report through a day, a night and the seasons."""

from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest

from devices.catalogue import load as load_catalogue
from devices.model import Device
from devices.profile import load_profiles
from simulators.city import City, build_city
from simulators.climate import heating_season, night, outdoor_temperature
from simulators.readings import Waveform
from simulators.waveforms import build_waveforms

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WINTER = int(datetime(2026, 1, 12, 16, tzinfo=UTC).timestamp() * 1000)  # midnight in Harbin
SUMMER = int(datetime(2026, 7, 12, 16, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(scope="module")
def city() -> City:
    return build_city(7)


@pytest.fixture(scope="module")
def waveforms(city: City) -> dict[str, Waveform]:
    return build_waveforms(city)


def of(city: City, family: str, fact: str | None = None) -> list[Device]:
    return [d for d in city.devices if d.family == family and (fact is None or fact in d.facts)]


def number(waveform: Waveform, time: int, name: str) -> float:
    value = waveform.values(time)[name]
    assert isinstance(value, float | int)
    return value


def test_a_reading_depends_on_seed_device_and_time_only(city: City, waveforms: dict[str, Waveform]) -> None:
    again = build_waveforms(build_city(7))
    other = build_waveforms(build_city(8))
    late_first = [again[device.id].values(WINTER + DAY) for device in city.devices]
    assert late_first == [waveforms[device.id].values(WINTER + DAY) for device in city.devices]
    for device in city.devices:
        assert again[device.id].values(WINTER) == waveforms[device.id].values(WINTER)
    assert other[city.devices[0].id].values(WINTER) != waveforms[city.devices[0].id].values(WINTER)


@pytest.mark.parametrize("start", [WINTER, SUMMER])
def test_every_reading_decodes_with_its_profile_and_lies_in_the_physical_range(
    city: City, waveforms: dict[str, Waveform], start: int
) -> None:
    profiles, catalogue = load_profiles(), load_catalogue()
    for device in city.devices:
        profile = profiles[device.profile]
        for time in range(start, start + DAY, 97 * MINUTE):
            values = waveforms[device.id].values(time)
            assert set(values) <= set(profile.keys), device.id
            assert not profile.convert(profile.decode(msgspec.json.encode(values))), (device.id, values)
            for name, value in values.items():
                if limits := catalogue.properties[name].range:
                    assert limits[0] <= float(value) <= limits[1], (device.id, name, value)


@pytest.mark.parametrize("family", ["water_meter", "streetlight", "lighting_cabinet", "pipe_supply"])
def test_totals_never_fall(city: City, waveforms: dict[str, Waveform], family: str) -> None:
    total = "volume_total" if family in ("water_meter", "pipe_supply") else "energy_total"
    devices = of(city, family, "inflow" if family == "pipe_supply" else None)[:12]
    for device in devices:
        # Across midnight in Harbin, midnight in UTC, dusk, dimming and dawn.
        readings = [number(waveforms[device.id], WINTER + minutes * MINUTE, total) for minutes in range(0, 4 * 1440, 7)]
        assert all(after >= before for before, after in pairwise(readings)), device.id


def test_a_meter_total_is_the_integral_of_its_flow(city: City, waveforms: dict[str, Waveform]) -> None:
    for device in of(city, "water_meter")[:40]:
        waveform = waveforms[device.id]
        drawn = sum(number(waveform, WINTER + minutes * MINUTE, "flow_rate") / 30 for minutes in range(0, 1440, 2))
        counted = number(waveform, WINTER + DAY, "volume_total") - number(waveform, WINTER, "volume_total")
        assert counted == pytest.approx(drawn, abs=0.025), device.id  # both are rounded to litres


def test_lamp_energy_is_the_integral_of_its_power(city: City, waveforms: dict[str, Waveform]) -> None:
    for device in of(city, "streetlight")[:10]:
        waveform = waveforms[device.id]
        used = sum(number(waveform, WINTER + minutes * MINUTE, "power") / 60_000 for minutes in range(1440))
        counted = number(waveform, WINTER + DAY, "energy_total") - number(waveform, WINTER, "energy_total")
        assert counted == pytest.approx(used, rel=0.02), device.id


def test_homes_draw_by_day_and_have_idle_hours(city: City, waveforms: dict[str, Waveform]) -> None:
    by_day = by_night = 0.0
    for device in (d for d in of(city, "water_meter") if d.facts["q3"] < 10):
        flows = [number(waveforms[device.id], WINTER + minutes * MINUTE, "flow_rate") for minutes in range(0, 1440, 2)]
        hours = [max(flows[hour * 30 : hour * 30 + 30]) for hour in range(24)]
        assert min(hours) == 0.0, device.id
        assert max(flows) < device.facts["q3"], device.id
        assert 0.05 < sum(flows) / 30 < 1.0, device.id
        by_night += sum(flows[30 * 2 : 30 * 4])
        by_day += sum(flows[30 * 18 : 30 * 20])
    assert by_night < 0.05 * by_day


def test_an_inflow_meter_balances_with_its_meters_plus_a_small_leak(city: City, waveforms: dict[str, Waveform]) -> None:
    for inflow in of(city, "pipe_supply", "inflow"):
        meters = [device for device in of(city, "water_meter") if device.zone == inflow.zone]

        def used(ids: list[str]) -> float:
            ends = (WINTER, WINTER + 3 * DAY)
            before, after = (sum(number(waveforms[each], end, "volume_total") for each in ids) for end in ends)
            return after - before

        delivered, metered = used([inflow.id]), used([meter.id for meter in meters])
        assert 0.02 < (delivered - metered) / delivered < 0.20, inflow.id


@pytest.mark.parametrize("start", [WINTER, SUMMER])
def test_lamps_follow_the_sun(city: City, waveforms: dict[str, Waveform], start: int) -> None:
    for device in of(city, "streetlight"):
        dusk, dawn = night(device.district, start // DAY)
        rated = device.facts["rated_power"]
        for time in range(dusk + 20 * MINUTE, dawn - 20 * MINUTE, 31 * MINUTE):
            values = waveforms[device.id].values(time)
            assert values["lamp_commanded"] is True
            assert values["lamp_state"] == "on"
            assert number(waveforms[device.id], time, "power") == pytest.approx(
                rated * number(waveforms[device.id], time, "dim_level") / 100, rel=0.06
            )
        for time in range(dawn + 10 * MINUTE, dusk + DAY - 10 * MINUTE, 31 * MINUTE):
            values = waveforms[device.id].values(time)
            assert (values["lamp_commanded"], values["lamp_state"]) == (False, "off")
            assert number(waveforms[device.id], time, "power") < 1


def test_harbin_nights_are_as_long_as_they_are() -> None:
    def local(time: int) -> str:
        return datetime.fromtimestamp(time / 1000 + 8 * 3600, UTC).strftime("%H:%M")

    assert local(night("230103", int(datetime(2026, 12, 10, tzinfo=UTC).timestamp()) // 86_400)[0]) in (
        "15:48",
        "15:49",
        "15:50",
    )
    assert local(night("230103", int(datetime(2026, 6, 21, tzinfo=UTC).timestamp()) // 86_400)[0]) in (
        "19:25",
        "19:26",
        "19:27",
    )


def test_a_cabinet_reports_the_sum_of_its_lamps(city: City, waveforms: dict[str, Waveform]) -> None:
    for cabinet in of(city, "lighting_cabinet"):
        lamps = [device for device in of(city, "streetlight") if device.zone == cabinet.zone]
        for time in (WINTER, WINTER + 12 * HOUR):
            total = sum(number(waveforms[lamp.id], time, "power") for lamp in lamps)
            assert number(waveforms[cabinet.id], time, "power") == pytest.approx(total + 18, abs=1.0)


def test_heating_follows_the_weather_in_the_season_and_rests_outside(
    city: City, waveforms: dict[str, Waveform]
) -> None:
    for device in (d for d in of(city, "pipe_heating") if "indoor" not in d.facts):
        winter, summer = waveforms[device.id].values(WINTER), waveforms[device.id].values(SUMMER)
        assert 36 < float(winter["return_temperature"]) < float(winter["supply_temperature"]) < 120
        assert float(winter["flow_rate"]) > 0.7 * device.facts["design_flow"]
        assert float(summer["flow_rate"]) == 0
        assert float(summer["supply_temperature"]) < 25
    assert heating_season(WINTER)
    assert not heating_season(SUMMER)
    assert -30 < outdoor_temperature(WINTER) < -8
    assert 15 < outdoor_temperature(SUMMER) < 35


def test_sewers_are_low_and_safe_when_nothing_happens(city: City, waveforms: dict[str, Waveform]) -> None:
    for device in of(city, "pipe_drainage"):
        for time in range(WINTER, WINTER + DAY, 53 * MINUTE):
            values = waveforms[device.id].values(time)
            assert float(values["level"]) < 0.3 * device.facts["depth"]
            assert float(values["level"]) + float(values["cover_distance"]) == pytest.approx(
                device.facts["depth"], abs=0.002
            )
            assert float(values["methane"]) < 5
            assert values["cover_open"] is False
