"""The samples kept as evidence: numbers only, one per time, never too many."""

import msgspec

from rules.explain import MAX_SAMPLES, keep_sample


def test_a_condition_that_is_true_is_kept_as_a_number_that_a_snapshot_can_hold() -> None:
    samples: list[list[float]] = []
    keep_sample(samples, 1, True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(samples), type=list[list[int | float]]) == [[1, 1.0]]


def test_the_last_word_about_a_time_counts_and_text_is_no_sample() -> None:
    samples: list[list[float]] = []
    keep_sample(samples, 1, 2.0)
    keep_sample(samples, 1, 3.0)
    keep_sample(samples, 2, "open")
    assert samples == [[1, 3.0]]


def test_many_samples_are_thinned_and_both_ends_stay() -> None:
    samples: list[list[float]] = []
    for time in range(1000):
        keep_sample(samples, time, float(time))
    assert len(samples) <= MAX_SAMPLES
    assert (samples[0][0], samples[-1][0]) == (0, 999)
