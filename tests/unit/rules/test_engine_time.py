"""Event time, clocks and crashes: RELIABILITY rows 22 and 23, late and replayed readings, backlogs, silence and our
outages.
"""

from pathlib import Path

import pytest

from devices.model import Device, Reading
from rules.engine import Engine
from rules.model import SnapshotMismatch, State
from rules.snapshot import VERSION
from tests.unit.rules.engine_world import (
    CATALOGUE,
    HOUR,
    SILENCE,
    at,
    batch,
    device,
    play,
    reading,
    registry,
    rule,
    rules,
    said,
)

HIGH = rule("t.high", "flow_rate > 2", "on_delay: 60s", "off_delay: 30s")
NOW = rule("t.now", "flow_rate > 2")


def engine(folder: Path, *texts: str, devices: list[Device] | None = None, lateness: int = 0) -> Engine:
    return Engine(rules(folder, *texts), CATALOGUE, registry(devices or [device()]), lateness=lateness)


def steady(of: Device, flow: float, begin: int, end: int, every: int = 60, shift: float = 0) -> list[Reading]:
    return [reading(of, t, t + shift, flow_rate=flow) for t in range(begin, end + 1, every)]


def test_a_hold_completes_by_the_clock_while_the_last_sample_is_fresh(tmp_path: Path) -> None:
    subject = engine(tmp_path, HIGH)
    transitions = play(subject, [reading(device(), 0, flow_rate=3)], 70)
    assert said(transitions) == [("t.high", "m1", "UNACK", 60)]
    assert transitions[0].recorded_at == at(60)


def test_a_hold_does_not_complete_by_the_clock_on_a_sample_older_than_one_and_a_half_intervals(tmp_path: Path) -> None:
    subject = engine(tmp_path, HIGH, devices=[device(interval=30_000)])
    assert play(subject, [reading(device(interval=30_000), 0, flow_rate=3)], 300) == []


def test_raised_at_is_the_same_whether_the_clock_or_a_sample_noticed(tmp_path: Path) -> None:
    of = device()
    by_clock = play(engine(tmp_path, HIGH), steady(of, 3, 0, 60, shift=5), 200)
    by_sample = engine(tmp_path, HIGH).process(batch(*steady(of, 3, 0, 120)))
    assert by_clock[0].alarm.id == by_sample[0].alarm.id
    assert by_clock[0].alarm.raised_at == by_sample[0].alarm.raised_at == at(60)


def test_a_late_reading_neither_pages_nor_clears(tmp_path: Path) -> None:
    of = device()
    subject = engine(tmp_path, NOW)
    assert subject.process(batch(reading(of, 100, flow_rate=1), reading(of, 50, 101, flow_rate=9))) == []
    raised = subject.process(batch(reading(of, 160, flow_rate=3)))
    assert said(raised) == [("t.now", "m1", "UNACK", 160)]
    assert subject.process(batch(reading(of, 150, 161, flow_rate=0))) == []
    assert subject.counters.late == 2


def test_a_duplicate_is_nothing_but_the_rest_of_a_split_reading_counts(tmp_path: Path) -> None:
    of = device()
    subject = engine(tmp_path, NOW, rule("t.press", "pressure < 0.1"))
    first, second = reading(of, 0, flow_rate=3), reading(of, 0, 1, pressure=0.05)
    assert said(subject.process(batch(first))) == [("t.now", "m1", "UNACK", 0)]
    assert subject.process(batch(reading(of, 0, 1, flow_rate=3))) == []
    assert said(subject.process(batch(second))) == [("t.press", "m1", "UNACK", 0)]
    assert subject.counters.duplicate == 1


def test_an_absent_property_leaves_the_condition_as_it_is(tmp_path: Path) -> None:
    of = device()
    subject = engine(tmp_path, NOW)
    transitions = subject.process(
        batch(reading(of, 0, flow_rate=3), reading(of, 60, pressure=0.3), reading(of, 120, flow_rate=1))
    )
    assert said(transitions) == [("t.now", "m1", "UNACK", 0), ("t.now", "m1", "RTNUN", 120)]


def test_replayed_readings_never_alarm_and_do_not_count_as_heard(tmp_path: Path) -> None:
    of = device()
    subject = engine(tmp_path, NOW, SILENCE)
    play(subject, [reading(of, 0, flow_rate=1)], 60)
    transitions = play(subject, [reading(of, t, flow_rate=9, replayed=True) for t in range(61, 200, 30)], 200, start=61)
    assert said(transitions) == [("device.silence", "m1", "UNACK", 180)]
    assert subject.counters.replayed == 5


def test_yesterdays_upload_is_evaluated_in_order_and_pages_once_at_its_end(tmp_path: Path) -> None:
    of = device(interval=HOUR)
    upload = [reading(of, t * 3600, 30 * 3600, flow_rate=3 if t >= 20 else 1) for t in range(24)]
    subject = engine(tmp_path, rule("t.high", "flow_rate > 2", "on_delay: 2h"), devices=[of])
    assert subject.process(batch(*upload)) == []
    transitions = play(subject, [], 30 * 3600 + 60, start=30 * 3600)
    assert said(transitions) == [("t.high", "m1", "UNACK", 22 * 3600)]
    assert transitions[0].notify
    assert transitions[0].recorded_at == at(30 * 3600 + 10)


def test_an_episode_inside_a_backlog_is_recorded_without_paging(tmp_path: Path) -> None:
    of = device(interval=HOUR)
    upload = [reading(of, t * 3600, 30 * 3600, flow_rate=3 if 5 <= t < 9 else 1) for t in range(24)]
    transitions = engine(tmp_path, NOW, devices=[of]).process(batch(*upload))
    assert said(transitions) == [("t.now", "m1", "UNACK", 5 * 3600), ("t.now", "m1", "RTNUN", 9 * 3600)]
    assert [t.notify for t in transitions] == [False, False]


def test_a_device_whose_clock_is_slow_still_pages_within_a_minute(tmp_path: Path) -> None:
    of = device(interval=5_000)
    slow = [reading(of, t, t + 600, flow_rate=3) for t in range(0, 300, 5)]
    transitions = play(engine(tmp_path, NOW, devices=[of]), slow, 900, start=600)
    assert [t.notify for t in transitions] == [True]
    assert transitions[0].recorded_at <= at(600 + 61)


@pytest.mark.parametrize("step", [-3600, 3600])
def test_row_22_a_step_of_the_server_clock_raises_nothing(tmp_path: Path, step: int) -> None:
    """Devices with good clocks report 0.5 m3/h; one holds a condition for 20 of its 60 s when our clock steps."""
    devices = [device(f"m{n}", interval=10_000) for n in range(5)]
    subject = engine(tmp_path, HIGH, SILENCE, devices=devices)
    before = [item for of in devices for item in steady(of, 0.5, 0, 300, 10)]
    before += [reading(devices[0], 295, flow_rate=3)]
    assert play(subject, before, 300) == []
    after = [item for of in devices for item in steady(of, 0.5, 310, 900, 10, shift=step)]
    assert play(subject, after, 900 + step, start=301 + step) == []
    back = [item for of in devices for item in steady(of, 0.5, 910, 1500, 10)]
    assert play(subject, back, 1500, start=901) == []
    assert subject.counters.clock_steps >= 2


def test_row_22_a_clock_in_1970_or_2099_replaced_by_ours_raises_nothing(tmp_path: Path) -> None:
    of = device(interval=10_000)
    subject = engine(tmp_path, HIGH, NOW, SILENCE, devices=[of])
    items = [reading(of, t, flow_rate=0.5, quality="clock" if 100 <= t < 300 else "ok") for t in range(0, 600, 10)]
    assert play(subject, items, 600) == []


def test_after_a_wrong_clock_of_ours_the_watermark_comes_back(tmp_path: Path) -> None:
    """Without device time our own clock is event time: an hour ahead, it must not make the next hour late."""
    of = device(interval=10_000)
    subject = engine(tmp_path, NOW, devices=[of])
    subject.process(batch(reading(of, 4000, flow_rate=1)))
    assert said(subject.process(batch(reading(of, 410, flow_rate=3)))) == [("t.now", "m1", "UNACK", 410)]


@pytest.mark.parametrize("down", [1, 4, 15])
def test_row_23_killed_halfway_through_a_hold_it_fires_on_time(tmp_path: Path, down: int) -> None:
    of = device(interval=15_000)
    first = engine(tmp_path, HIGH, SILENCE, devices=[of])
    samples = steady(of, 3, 0, 200, 15)
    before = [item for item in samples if item.received_at <= at(30)]
    assert play(first, before, 30) == []
    second = engine(tmp_path, HIGH, SILENCE, devices=[of])
    second.restore(first.snapshot())
    second.outage(at(30), at(30 + down))
    transitions = play(second, samples[len(before) :], 200, start=30 + down)
    assert said(transitions) == [("t.high", "m1", "UNACK", 60)]
    assert at(60) <= transitions[0].recorded_at <= at(65)


def test_row_23_killed_while_firing_there_is_no_new_episode_and_the_return_is_sent(tmp_path: Path) -> None:
    of = device(interval=15_000)
    first = engine(tmp_path, HIGH, devices=[of])
    raised = play(first, steady(of, 3, 0, 90, 15), 90)
    second = engine(tmp_path, HIGH, devices=[of])
    second.restore(first.snapshot())
    assert dict(second.active) == dict(first.active)
    transitions = play(second, steady(of, 3, 105, 150, 15) + steady(of, 1, 165, 240, 15), 240, start=95)
    assert said(transitions) == [("t.high", "m1", "RTNUN", 195)]
    assert transitions[0].alarm.id == raised[0].alarm.id
    assert transitions[0].notify


def test_silence_is_judged_by_reception_and_never_by_event_time(tmp_path: Path) -> None:
    of = device(interval=10_000)
    subject = engine(tmp_path, SILENCE, devices=[of])
    items = [reading(of, t - 5000, t, flow_rate=1) for t in range(0, 200, 10)]
    transitions = play(subject, items, 300)
    assert said(transitions) == [("device.silence", "m1", "UNACK", 220)]
    evidence = transitions[0].alarm.evidence
    assert (evidence["setpoint"], evidence["unit"]) == (30, "s")


def test_our_own_outage_is_not_silence(tmp_path: Path) -> None:
    of = device(interval=10_000)
    subject = engine(tmp_path, SILENCE, devices=[of])
    assert play(subject, steady(of, 1, 0, 100, 10), 105) == []
    for second in range(106, 180):  # the broker cannot be reached; the caller says so before every tick
        subject.outage(at(105), at(second))
        assert subject.tick(at(second)) == []
    assert play(subject, steady(of, 1, 185, 300, 10), 300, start=180) == []
    assert subject.devices["m1"].learnt == 10_000


def test_a_restart_after_an_hour_is_not_silence(tmp_path: Path) -> None:
    of = device(interval=10_000)
    first = engine(tmp_path, SILENCE, devices=[of])
    play(first, steady(of, 1, 0, 100, 10), 100)
    second = engine(tmp_path, SILENCE, devices=[of])
    second.restore(first.snapshot())
    assert play(second, steady(of, 1, 3705, 3900, 10), 3900, start=3700) == []


def test_the_learnt_interval_follows_the_device_and_never_falls_below_nominal(tmp_path: Path) -> None:
    of = device(interval=10_000)
    subject = engine(tmp_path, SILENCE, devices=[of])
    play(subject, steady(of, 1, 0, 60, 2), 60)
    assert subject.devices["m1"].learnt == 10_000
    play(subject, steady(of, 1, 80, 320, 20), 320, start=61)
    assert subject.devices["m1"].learnt == 20_000
    play(subject, steady(of, 1, 330, 400, 10), 400, start=321)
    assert subject.devices["m1"].learnt == 10_000


def test_a_device_never_heard_is_not_silent_and_a_removed_one_returns(tmp_path: Path) -> None:
    one, other = device("m1", interval=10_000), device("m2", interval=10_000)
    subject = engine(tmp_path, SILENCE, devices=[one, other])
    transitions = play(subject, steady(one, 1, 0, 50, 10), 200)
    assert said(transitions) == [("device.silence", "m1", "UNACK", 80)]
    subject.set_registry(registry([other], revision=2))
    returned = subject.tick(at(201))
    assert [(t.to_state, t.cause, t.note) for t in returned] == [(State.RTNUN, "return", "设备已移除 / device removed")]


def test_a_snapshot_of_another_format_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    subject = engine(tmp_path, NOW)
    subject.process(batch(reading(device(), 0, flow_rate=3)))
    active = dict(subject.active)
    whole, version = subject.snapshot(), b"version" + bytes([VERSION])
    assert version in whole
    for damaged in (b"", b"\xff", whole[:-5], whole.replace(version, b"version\x63")):
        with pytest.raises(SnapshotMismatch):
            subject.restore(damaged)
    assert dict(subject.active) == active


def test_a_changed_pack_keeps_the_state_of_unchanged_rules(tmp_path: Path) -> None:
    first = engine(tmp_path, NOW, rule("t.gone", "pressure < 0.2"), rule("t.kept", "pressure < 0.3"))
    first.process(batch(reading(device(), 0, flow_rate=3, pressure=0.1)))
    second = engine(tmp_path, rule("t.kept", "pressure < 0.3"), NOW.replace("flow_rate > 2", "flow_rate > 2.5"))
    second.restore(first.snapshot())
    transitions = second.tick(at(1))
    assert sorted((t.alarm.rule, t.to_state) for t in transitions) == [("t.gone", "RTNUN"), ("t.now", "RTNUN")]
    after = second.process(batch(reading(device(), 60, flow_rate=3, pressure=0.1)))
    assert [(t.alarm.rule, t.cause) for t in after] == [("t.now", "reraise")]


def test_lateness_may_differ_per_profile(tmp_path: Path) -> None:
    slow, fast = device("m1", profile="late/1"), device("m2")
    subject = Engine(rules(tmp_path, NOW), CATALOGUE, registry([slow, fast]), lateness={"late/1": 30_000})
    items = [item for of in (slow, fast) for item in (reading(of, 60, flow_rate=1), reading(of, 50, 61, flow_rate=3))]
    assert said(play(subject, items, 200)) == [("t.now", "m1", "UNACK", 50), ("t.now", "m1", "RTNUN", 60)]
