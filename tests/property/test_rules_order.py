"""Event time against arrival (RELIABILITY row 20): duplicates and a shuffle change no episode, and late data changes
no past one.
"""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.model import Device, Reading
from rules.engine import Engine
from rules.model import Transition
from tests.effort import examples
from tests.unit.rules.engine_world import CATALOGUE, SILENCE, device, play, reading, registry, rule, rules

RULES = (
    rule("t.high", "flow_rate > 2.5", "on_delay: 60s", "off_delay: 45s"),
    rule("t.now", "flow_rate > 4", "deadband: 0"),
    rule("t.mean", "mean(flow_rate, '2m') > 2.2", "off_delay: 30s"),
    rule("t.drop", "drop(pressure, '60s') > 0.05", "off_delay: 20s"),
    rule("t.both", "flow_rate > 3 and pressure < 0.25", "on_delay: 30s"),
)
Episode = tuple[str, str, int, int | None]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> list:  # type: ignore[type-arg]
    return rules(Path(tmp_path_factory.mktemp("pack")), *RULES)


def episodes(transitions: list[Transition]) -> list[Episode]:
    """(rule, subject, raised_at, returned_at) of every episode, as its last transition left it."""
    last = {t.alarm.id: t.alarm for t in transitions}
    return sorted(((a.rule, a.subject_id, a.raised_at, a.returned_at) for a in last.values()), key=str)


def flows(seed: int, of: Device, count: int, every: int) -> list[Reading]:
    """A random walk that crosses every setpoint, some readings partial."""
    chance = random.Random(seed)
    flow, pressure, items = 1.0, 0.3, []
    for number in range(count):
        flow = min(max(flow + chance.uniform(-1.5, 1.5), 0.0), 6.0)
        pressure = min(max(pressure + chance.uniform(-0.06, 0.06), 0.1), 0.5)
        values = {"flow_rate": round(flow, 2), "pressure": round(pressure, 3)}
        if chance.random() < 0.15:
            del values[chance.choice(sorted(values))]
        items.append(reading(of, number * every, **values))
    return items


@settings(max_examples=examples(40, 400), deadline=None)
@given(seed=st.integers(0, 2**32), every=st.sampled_from([5, 10, 30, 60]))
def test_duplicates_and_a_shuffle_of_a_minute_give_the_episodes_of_the_ordered_run(
    pack: list,
    seed: int,
    every: int,  # type: ignore[type-arg]
) -> None:
    devices = [device(f"m{n}", interval=every * 1000) for n in range(3)]
    count = 1200 // every
    ordered = [item for n, of in enumerate(devices) for item in flows(seed + n, of, count, every)]
    chance = random.Random(seed)
    shuffled = []
    for item in ordered:
        for _ in range(2):
            shift = 60_000 + round(chance.uniform(-60_000, 60_000))
            shuffled.append(
                Reading(
                    item.device, item.time, item.values, item.time + shift, item.gateway
                )  # received late, never early
            )
    until = count * every + 600
    in_order = play(Engine(pack, CATALOGUE, registry(devices), lateness=90_000), ordered, until, every=5)
    out_of_order = play(Engine(pack, CATALOGUE, registry(devices), lateness=90_000), shuffled, until, every=5)
    assert episodes(out_of_order) == episodes(in_order)


@settings(max_examples=examples(40, 400), deadline=None)
@given(seed=st.integers(0, 2**32), every=st.sampled_from([10, 60]))
def test_the_reorder_wait_changes_no_episode_of_an_ordered_run(
    pack: list,
    seed: int,
    every: int,  # type: ignore[type-arg]
) -> None:
    of = device(interval=every * 1000)
    items = flows(seed, of, 1200 // every, every)
    at_once = play(Engine(pack, CATALOGUE, registry([of])), items, 2000, every=1)
    waiting = play(Engine(pack, CATALOGUE, registry([of]), lateness=90_000), items, 2000, every=1)
    assert episodes(at_once) == episodes(waiting)


@settings(max_examples=examples(40, 400), deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_late_readings_and_duplicates_change_nothing(pack: list, seed: int, data: st.DataObject) -> None:  # type: ignore[type-arg]
    of = device(interval=10_000)
    items = flows(seed, of, 100, 10)
    late = []
    for item in data.draw(st.lists(st.sampled_from(items), max_size=20)):
        after = item.received_at + data.draw(st.integers(10_001, 300_000))
        late.append(Reading(of, item.time - data.draw(st.sampled_from([0, 1, 5000])), item.values, after, item.gateway))
    clean, noisy = Engine(pack, CATALOGUE, registry([of])), Engine(pack, CATALOGUE, registry([of]))
    assert episodes(play(noisy, [*items, *late], 1500)) == episodes(play(clean, items, 1500))
    assert noisy.counters.late + noisy.counters.duplicate == len(late)


@settings(max_examples=examples(20, 200), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_silence_counts_receptions_whatever_their_order(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    pack = rules(tmp_path_factory.mktemp("pack"), SILENCE)
    of = device(interval=30_000)
    items = flows(seed, of, 20, 30)
    chance = random.Random(seed)
    shuffled = [Reading(of, chance.choice(items).time, item.values, item.received_at, item.gateway) for item in items]
    for order in (items, shuffled):
        transitions = play(Engine(pack, CATALOGUE, registry([of])), order, 900, every=1)
        assert [t.at for t in transitions if t.cause == "raise"] == [items[-1].received_at + 90_000]
