"""Windows over event time against what they mean, on random series; their memory is bounded whatever the cadence."""

import random
from collections.abc import Callable

import pytest

from rules.windows import BUCKETS, Baseline, make

WINDOW = 1_200_000  # 20 min, in ms
WIDTH = WINDOW // BUCKETS


def series(seed: int, count: int, step: int) -> list[tuple[int, float]]:
    chance = random.Random(seed)
    time, values = 0, []
    for _ in range(count):
        time += chance.randint(1, step)
        values.append((time, round(chance.uniform(-5, 5), 3)))
    return values


def inside(seen: list[tuple[int, float]], begin: int) -> list[float]:
    return [value for time, value in seen if time >= begin]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("function", "meaning"),
    [
        ("min", lambda values, _: min(values)),
        ("max", lambda values, _: max(values)),
        ("mean", lambda values, _: sum(values) / len(values)),
        ("drop", lambda values, now: max(values) - now),
        ("rise", lambda values, now: now - min(values)),
    ],
)
def test_a_window_means_what_it_says_to_one_bucket(
    function: str, meaning: Callable[[list[float], float], float], seed: int
) -> None:
    window = make(function, WINDOW)
    seen: list[tuple[int, float]] = []
    for time, value in series(seed, 400, 60_000):
        seen.append((time, value))
        result = window.push(time, value)
        if result is None:
            assert function in ("min", "max", "mean")
            assert time - seen[0][0] < WINDOW
            continue
        begin = (time - WINDOW) // WIDTH * WIDTH  # the bucket in which the window begins counts whole
        assert result == pytest.approx(meaning(inside(seen, begin), value))


@pytest.mark.parametrize("function", ["delta", "rate"])
def test_delta_and_rate_compare_with_a_window_ago(function: str) -> None:
    window = make(function, WINDOW)
    results = [window.push(minute * 60_000, minute * 0.5) for minute in range(60)]
    assert results[:20] == [None] * 20
    expected = 10.0 if function == "delta" else 30.0  # half a unit a minute
    assert all(result == pytest.approx(expected, rel=0.1) for result in results[20:])


@pytest.mark.parametrize("function", ["min", "max", "mean"])
def test_a_long_gap_begins_the_window_again(function: str) -> None:
    window = make(function, WINDOW)
    for minute in range(30):
        window.push(minute * 60_000, 1.0)
    assert window.value == 1.0
    assert window.push(37 * 60_000, 2.0) is None
    for minute in range(38, 57):
        assert window.push(minute * 60_000, 2.0) is None
    assert window.push(57 * 60_000, 2.0) == 2.0


@pytest.mark.parametrize("function", ["min", "max", "mean", "delta", "rate", "drop", "rise"])
def test_memory_is_bounded_and_a_dump_continues_the_same(function: str) -> None:
    first, second = make(function, WINDOW), make(function, WINDOW)
    items = series(7, 3000, 3000)
    for time, value in items[:2000]:
        first.push(time, value)
    assert sum(len(part) for part in first.dump() if isinstance(part, list)) <= 3 * (BUCKETS + 2)
    second.load(first.dump())
    assert [first.push(*item) for item in items[2000:]] == [second.push(*item) for item in items[2000:]]
    assert first.samples() == second.samples()


def test_age_counts_from_the_last_report_or_the_first_reading() -> None:
    window = make("age", 0)
    assert [window.push(second * 1000, value) for second, value in ((0, None), (30, None), (40, 1.0), (100, None))] == [
        0.0,
        30.0,
        0.0,
        60.0,
    ]


def test_a_baseline_is_known_after_three_days_and_leaves_out_today() -> None:
    baseline = Baseline()
    hour = 3_600_000
    for day in range(3):
        for of_day in range(24):
            assert baseline.push((day * 24 + of_day) * hour, 10.0 + of_day) is None
    assert baseline.push(72 * hour, 99.0) == pytest.approx(10.0)
    assert baseline.push(73 * hour, 99.0) == pytest.approx(11.0)
