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


def test_most_devices_ahead_of_us_means_that_our_clock_is_wrong() -> None:
    clock = DeviceClock()
    for sequence in range(1, 40):
        clock.judge(NOW + HOUR, NOW, sequence, False)
    assert clock.distrusted
    assert clock.judge(NOW + HOUR, NOW, 40, False) == (NOW + HOUR, "ok")
    assert clock.judge(0, NOW, 41, False) == (NOW, "clock")  # behind us is still the device's own fault


def test_reading_the_journal_again_decides_as_the_first_time() -> None:
    clock = DeviceClock()
    first = [clock.judge(NOW + HOUR, NOW, sequence, False) for sequence in range(1, 60)]
    assert [clock.judge(NOW + HOUR, NOW, sequence, False) for sequence in range(1, 60)] == first
    assert {quality for _, quality in first} == {"ok", "clock"}


def test_a_clock_of_ours_that_jumps_back_is_distrusted_at_the_first_message() -> None:
    clock = DeviceClock()
    clock.agreed(1, 10, NOW)
    behind = NOW - HOUR
    assert clock.judge(NOW + 1_000, behind, 11, False) == (NOW + 1_000, "ok")
    assert clock.judge(NOW + HOUR, behind, 11, False) == (behind, "clock")
    assert clock.shift([NOW + 1_000], behind, 11, False) == 0
    clock.agreed(1, 11, behind)
    assert clock.judge(NOW + 1_000, behind, 12, False) == (NOW + 1_000, "ok")
    # what came before the jump is decided as it was
    assert clock.judge(NOW + 1_000, behind, 9, False) == (behind, "clock")


def test_a_corrected_clock_is_trusted_again() -> None:
    clock = DeviceClock()
    for sequence in range(1, 40):
        clock.judge(NOW + HOUR, NOW, sequence, False)
    for sequence in range(40, 400):
        clock.judge(NOW + HOUR, NOW + HOUR, sequence, False)
    assert not clock.distrusted


def test_one_device_in_the_future_is_no_reason_to_doubt_ourselves() -> None:
    clock = DeviceClock()
    for sequence in range(1, 400):
        clock.judge(NOW + HOUR if sequence % 10 == 0 else NOW, NOW, sequence, False)
    assert not clock.distrusted
