"""The schedule of incidents, its ground truth, and what the waveforms make of it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from simulators.city import City, build_city
from simulators.climate import DAY, HOUR, night
from simulators.incidents import MINUTE, Incident, Schedule
from simulators.truth import TruthFile, read_truth
from simulators.waveforms import build_waveforms

NIGHT = int(datetime(2026, 1, 12, 12, tzinfo=UTC).timestamp() * 1000)  # 20:00 in Harbin
NOON = int(datetime(2026, 1, 12, 4, tzinfo=UTC).timestamp() * 1000)
ALWAYS = {"burst", "continuous_flow", "manhole", "supply_low", "heating_return_low", "gateway_down"}


@pytest.fixture(scope="module")
def city() -> City:
    return build_city(7)


def opening(schedule: Schedule, start: int) -> dict[str, Incident]:
    return {incident.kind: incident for incident in schedule.incidents if incident.begins <= start + MINUTE}


def planned(incidents: Iterable[Incident]) -> list[tuple[str, str, int, int, float]]:
    return [(i.id, i.subject, i.begins, i.ends, i.magnitude) for i in incidents]


def test_the_same_seed_and_start_give_the_same_incidents(city: City) -> None:
    assert planned(Schedule(city, start=NIGHT).incidents) == planned(Schedule(city, start=NIGHT).incidents)
    other = build_city(8)
    assert planned(Schedule(other, start=NIGHT).incidents) != planned(Schedule(city, start=NIGHT).incidents)


def test_a_city_opens_with_every_kind_that_the_hour_allows(city: City) -> None:
    assert set(opening(Schedule(city, start=NIGHT), NIGHT)) == ALWAYS | {"lamp_out"}
    assert set(opening(Schedule(city, start=NOON), NOON)) == ALWAYS | {"lamp_burning_by_day"}


def test_no_heating_incident_in_summer(city: City) -> None:
    july = NIGHT + 181 * DAY
    schedule = Schedule(city, start=july)
    for hour in range(48):
        schedule.advance(july + hour * HOUR)
    assert not [incident for incident in schedule.incidents if incident.kind == "heating_return_low"]


def test_incidents_go_on_for_ever_every_few_minutes(city: City) -> None:
    schedule = Schedule(city, start=NIGHT, every=4 * MINUTE)
    for minute in range(24 * 60):
        schedule.advance(NIGHT + minute * MINUTE)
    begun = [incident for incident in schedule.incidents if NIGHT + 2 * MINUTE < incident.begins <= NIGHT + DAY]
    assert 200 < len(begun) <= 360
    assert {incident.kind for incident in begun} == ALWAYS | {"lamp_out", "lamp_burning_by_day"}
    assert {i.state for i in schedule.incidents if i.ends < NIGHT + 23 * HOUR} == {"over"}


def test_no_subject_has_two_incidents_at_once(city: City) -> None:
    schedule = Schedule(city, start=NIGHT)
    for minute in range(12 * 60):
        schedule.advance(NIGHT + minute * MINUTE)
    by_device: dict[str, list[Incident]] = {}
    for incident in schedule.incidents:
        for device in incident.devices if incident.kind != "gateway_down" else (incident.subject,):
            by_device.setdefault(device, []).append(incident)
    for incidents in by_device.values():
        ordered = sorted(incidents, key=lambda incident: incident.begins)
        assert all(a.ends < b.begins for a, b in pairwise(ordered))


def test_a_second_run_keeps_what_the_first_scheduled_and_never_changes_the_past(city: City) -> None:
    written: dict[str, Incident] = {}
    first = Schedule(city, start=NIGHT, record=lambda incident: written.update({incident.id: incident}))
    restart = NIGHT + 2 * HOUR
    first.advance(restart - MINUTE)
    second = Schedule(city, start=restart, known=written.values(), not_before=restart - MINUTE)
    known = {incident.id for incident in first.incidents}
    assert planned(i for i in second.incidents if i.id in known) == planned(first.incidents)
    assert all(incident.begins >= restart - MINUTE for incident in second.incidents if incident.id not in known)


def test_meter_totals_survive_a_restart_after_a_burst(city: City) -> None:
    written: dict[str, Incident] = {}
    first = Schedule(city, start=NIGHT, record=lambda incident: written.update({incident.id: incident}))
    burst = opening(first, NIGHT)["burst"]
    later = NIGHT + 5 * HOUR
    second = Schedule(city, start=later, known=written.values(), not_before=later - MINUTE)
    before = build_waveforms(city, first.affecting)[burst.subject].values(burst.ends)["volume_total"]
    after = build_waveforms(city, second.affecting)[burst.subject].values(later)["volume_total"]
    undisturbed = build_waveforms(city)[burst.subject].values(burst.ends)["volume_total"]
    assert float(before) - float(undisturbed) == pytest.approx(
        burst.magnitude * (burst.ends - burst.begins) / HOUR, abs=0.002
    )
    assert float(after) >= float(before)


def test_the_waveforms_show_exactly_what_the_labels_say(city: City) -> None:
    """Every label is visible in the middle of its incident, and nothing is before it and after it."""
    schedule = Schedule(city, start=NIGHT)
    for minute in range(24 * 60):
        schedule.advance(NIGHT + minute * MINUTE)
    waveforms = build_waveforms(city, schedule.affecting)
    devices = {device.id: device for device in city.devices}

    def shows(incident: Incident, device: str, time: int) -> bool:
        values, facts = waveforms[device].values(time), devices[device].facts
        match incident.kind:
            case "burst":
                return float(values["flow_rate"]) > 1.25 * facts["q3"]
            case "continuous_flow":
                steps = range(time - HOUR, time + HOUR, 2 * MINUTE)
                return min(float(waveforms[device].values(step)["flow_rate"]) for step in steps) > 0
            case "lamp_out":
                return bool(values["lamp_commanded"]) and float(values["power"]) < 0.1 * facts["rated_power"]
            case "lamp_burning_by_day":
                return not values["lamp_commanded"] and float(values["power"]) > 0.5 * facts["rated_power"]
            case "manhole":
                return float(values["level"]) >= 0.8 * facts["depth"] and values["cover_open"] is True
            case "supply_low":
                return float(values["pressure"]) < 0.14
            case "heating_return_low":
                return float(values["return_temperature"]) < 35
        return False

    seen = set()
    for incident in schedule.incidents:
        if incident.kind == "gateway_down":
            continue
        others = [i for device in incident.devices for i in schedule.affecting(device) if i is not incident]
        for device in incident.devices:
            assert shows(
                incident,
                device,
                (incident.begins + incident.ends) // 2
                if incident.kind != "lamp_out"
                else incident.begins + 10 * MINUTE,
            ), incident
            for outside in (incident.begins - 2 * HOUR, incident.ends + 2 * HOUR):
                if not any(other.begins - 2 * HOUR <= outside <= other.ends + 2 * HOUR for other in others):
                    assert not shows(incident, device, outside), incident
        seen.add(incident.kind)
    assert seen == (ALWAYS - {"gateway_down"}) | {"lamp_out", "lamp_burning_by_day"}


def test_lamps_fail_by_night_and_burn_by_day_only(city: City) -> None:
    schedule = Schedule(city, start=NIGHT)
    for hour in range(48):
        schedule.advance(NIGHT + hour * HOUR)
    for incident in schedule.incidents:
        dusk, dawn = night(incident.district, incident.begins // DAY)
        if incident.kind == "lamp_out":
            assert dusk < incident.begins < dawn
        if incident.kind == "lamp_burning_by_day":
            assert not dusk < incident.begins < dawn


def test_a_gateway_is_down_exactly_while_its_incident_lasts(city: City) -> None:
    schedule = Schedule(city, start=NIGHT)
    incident = opening(schedule, NIGHT)["gateway_down"]
    assert NIGHT < incident.begins <= NIGHT + MINUTE
    assert schedule.gateway_down(incident.subject, incident.begins - 1) is None
    assert schedule.gateway_down(incident.subject, incident.begins) == incident
    assert schedule.gateway_down(incident.subject, incident.ends) is None
    assert set(incident.devices) == {device.id for device in city.devices if device.gateway == incident.subject}


def test_the_truth_file_keeps_the_last_state_and_survives_a_torn_line(city: City, tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    file = TruthFile(path)
    file.open()
    schedule = Schedule(city, start=NIGHT, record=file.write)
    burst = opening(schedule, NIGHT)["burst"]
    schedule.advance(burst.ends + 1)
    file.close()
    with path.open("ab") as torn:
        torn.write(b'{"id":"cut')
    file.open()
    file.write(burst)
    file.close()
    lines = path.read_bytes().splitlines()
    assert lines[-2] == b'{"id":"cut'
    assert read_truth(path)[burst.id] == burst
    path.write_bytes(b"\n".join(lines[:-2]) + b"\n")
    known = read_truth(path)
    assert list(known.values()) == schedule.incidents
    assert (known[burst.id].state, known[burst.id].actual_until) == ("over", burst.ends)
    assert b'"from":' in lines[0]
    assert b'"until":' in lines[0]
