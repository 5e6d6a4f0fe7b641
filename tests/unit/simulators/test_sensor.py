"""Clocks, sequences, duplicates and late batches of the simulated devices."""

import json
from collections import Counter
from typing import Any

import pytest

from simulators.city import City, build_city
from simulators.sensor import HISTORY_STEP, Sensor, device_without_clock
from simulators.waveforms import build_waveforms

NOW = 1_768_233_600_123


@pytest.fixture(scope="module")
def city() -> City:
    return build_city(7)


@pytest.fixture(scope="module")
def sensors(city: City) -> list[Sensor]:
    waveforms, clockless = build_waveforms(city), device_without_clock(city)
    return [
        Sensor(d, waveforms[d.id], seed=7, interval=15_000, booted=NOW, clockless=d.id == clockless)
        for d in city.devices
    ]


def sent(sensor: Sensor, start: int, count: int) -> list[list[dict[str, Any]]]:
    """What `count` measurements send, message by message."""
    messages = [m for step in range(count) for m in sensor.measure(start + step * sensor.interval)]
    return [[json.loads(element) for element in message.elements] for message in messages]


def test_most_clocks_are_right_some_are_minutes_off_and_one_lives_in_1970(sensors: list[Sensor]) -> None:
    skews = [sensor.clock(NOW + 60_000) - NOW - 60_000 for sensor in sensors]
    assert sum(abs(skew) < 1_000 for skew in skews) > 0.9 * len(skews)
    assert 3 <= sum(60_000 <= abs(skew) < 5 * 60_000 for skew in skews) < 0.07 * len(skews)
    assert sum(sensor.clock(NOW + 60_000) == 60_000 for sensor in sensors) == 1


def test_history_lies_on_a_fixed_grid_in_messages_of_bounded_size(sensors: list[Sensor]) -> None:
    after = NOW - 50 * 3_600_000
    for sensor in sensors[::25]:
        messages = list(sensor.history(after, NOW))
        times = [json.loads(element)["t"] for message in messages for element in message.elements]
        if sensor.clock(NOW) == 0:
            assert times == []
            continue
        skew = sensor.clock(NOW) - NOW
        assert len(times) == 300
        assert all((time - skew) % HISTORY_STEP == 0 for time in times)
        assert [len(message.elements) for message in messages] == [200, 100]
        assert times == sorted(set(times))


def test_the_history_of_a_second_run_repeats_the_first_exactly(city: City) -> None:
    waveforms = build_waveforms(city)
    device = city.devices[0]

    def history(booted: int) -> list[dict[str, Any]]:
        sensor = Sensor(device, waveforms[device.id], seed=7, interval=15_000, booted=booted, clockless=False)
        elements = [json.loads(e) for m in sensor.history(NOW - 86_400_000, NOW) for e in m.elements]
        return [{name: value for name, value in e.items() if name not in ("boot_id", "seq")} for e in elements]

    assert history(NOW) == history(NOW + 5_000)


def test_sequences_have_no_gap_and_only_some_devices_have_one(city: City) -> None:
    waveforms = build_waveforms(city)
    with_sequence = 0
    for device in city.devices[:200]:
        sensor = Sensor(device, waveforms[device.id], seed=7, interval=15_000, booted=NOW, clockless=False)
        history = [json.loads(element) for m in sensor.history(NOW - 3_600_000, NOW) for element in m.elements]
        live = [element for message in sent(sensor, NOW, 40) for element in message]
        if "seq" in live[0]:
            with_sequence += 1
            numbers = [element["seq"] for element in history + live]
            assert [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1]] == list(range(46))
            assert len({element["boot_id"] for element in live}) == 1
    assert 40 < with_sequence < 80


def test_a_few_messages_are_repeated_exactly_and_a_few_batches_come_late(sensors: list[Sensor]) -> None:
    repeated = late = total = 0
    for sensor in sensors:
        seen: Counter[str] = Counter()
        newest = 0
        for message in sent(sensor, NOW, 60):
            total += 1
            text = json.dumps(message)
            repeated += seen[text] > 0
            seen[text] += 1
            late += len(message) > 1 and message[-1]["t"] < newest
            newest = max(newest, *(element["t"] for element in message))
        times = {element["t"] for message in seen for element in json.loads(message)}
        held = 60 - len(times)
        assert 0 <= held <= 5
    assert 0.02 < repeated / total < 0.04
    assert late > 10
