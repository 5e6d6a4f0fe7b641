"""Whose clock is believed, and when ours is not."""

import pytest

from ingest.device_time import FUTURE, PAST, DeviceClock

NOW = 1_767_225_600_000
HOUR = 3_600_000


@pytest.mark.parametrize("t", [NOW, NOW - PAST, NOW + FUTURE, "2026-01-01T08:00:00+08:00", float(NOW)])
def test_a_plausible_device_time_is_kept(t: int | float | str) -> None:
    time, quality = DeviceClock().judge(t, NOW, 1, False)
    assert quality == "ok"
    assert NOW - PAST <= time <= NOW + FUTURE


@pytest.mark.parametrize("t", [0, NOW - PAST - 1, NOW + FUTURE + 1, 4_070_908_800_000])
def test_an_implausible_device_time_is_replaced_and_flagged(t: int) -> None:
    clock = DeviceClock()
    assert clock.judge(t, NOW, 1, False) == (NOW, "clock")
    assert clock.replaced == 1


def test_history_keeps_its_times_whatever_they_are() -> None:
    assert DeviceClock().judge(0, NOW, 1, True) == (0, "ok")
    assert DeviceClock().shift([0, 5], NOW, 1, True) == 0


def hear(clock: DeviceClock, first: int, offsets: list[int]) -> list[tuple[int, str]]:
    """A batch as the decoder gives it to the clock: judged, reviewed, and judged again if the review asks for it."""

    def judge() -> list[tuple[int, str]]:
        return [clock.judge(NOW + offset, NOW, first + i, False) for i, offset in enumerate(offsets)]

    clock.begin()
    judged = judge()
    return judge() if clock.review(first, first + len(offsets) - 1, 0, NOW) else judged


@pytest.mark.parametrize("offset", [HOUR, 60 * 365 * 24 * HOUR, -8 * 24 * HOUR])
def test_most_devices_on_one_side_of_us_mean_that_our_clock_is_wrong(offset: int) -> None:
    clock = DeviceClock()
    assert hear(clock, 1, [offset] * 40) == [(NOW + offset, "ok")] * 40  # nothing is replaced, from the first on
    assert clock.distrusted
    assert hear(clock, 41, [offset + 1000]) == [(NOW + offset + 1000, "ok")]


def test_a_device_that_fits_neither_our_clock_nor_the_others_is_replaced() -> None:
    clock = DeviceClock()
    hear(clock, 1, [HOUR] * 40)
    assert hear(clock, 41, [70 * 365 * 24 * HOUR, -30 * 24 * HOUR]) == [(NOW, "clock")] * 2


def test_reading_the_journal_again_decides_as_the_first_time_also_in_the_next_process() -> None:
    clock, again = DeviceClock(), DeviceClock()
    first = hear(clock, 1, [0] * 30) + hear(clock, 31, [HOUR] * 300)
    again.restore(clock.state())
    for reader in (clock, again):
        assert hear(reader, 1, [0] * 30) + hear(reader, 31, [HOUR] * 300) == first
    assert clock.distrusted and again.distrusted


def test_a_corrected_clock_is_trusted_again() -> None:
    clock = DeviceClock()
    hear(clock, 1, [HOUR] * 40)
    for first in range(41, 1000, 50):
        hear(clock, first, [0] * 50)
    assert not clock.distrusted


@pytest.mark.parametrize("size", [1, 20, 2000])
def test_a_few_devices_with_bad_clocks_are_no_reason_to_doubt_ourselves(size: int) -> None:
    clock = DeviceClock()
    for first in range(1, 4001, size):
        offsets = [70 * 365 * 24 * HOUR if (first + i) % 40 == 0 else 0 for i in range(size)]
        judged = hear(clock, first, offsets)
        assert [quality for _, quality in judged] == ["clock" if offset else "ok" for offset in offsets]
        assert not clock.distrusted


def test_a_clock_of_ours_that_jumped_back_makes_nothing_old() -> None:
    clock = DeviceClock()
    clock.begin()
    clock.judge(NOW, NOW, 1, False)
    clock.review(1, 1, 0, NOW)
    clock.begin()
    assert clock.judge(NOW + 15_000, NOW - HOUR + 15_000, 2, False) == (NOW + 15_000, "ok")
    assert clock.judge(NOW + 2 * HOUR, NOW - HOUR + 15_000, 3, False)[1] == "clock"
    clock.review(2, 3, 0, NOW - HOUR + 15_000)
    again = DeviceClock()
    again.restore(clock.state())
    assert again.judge(NOW + 15_000, NOW - HOUR + 15_000, 2, False) == (NOW + 15_000, "ok")
