"""How hard the property tests try.

Usually enough to notice a mistake within minutes; `TEST_LONG=1 make test` tries as often as a release deserves. On
CI the same examples are tried every time, so that a run which fails does so again; chance is left to people's machines.
"""

import os

from hypothesis import HealthCheck, settings

LONG = bool(os.environ.get("TEST_LONG"))


def examples(usual: int, long: int) -> int:
    """The number of examples for a test that knows what it needs."""
    return long if LONG else usual


def choose_profile() -> None:
    """Settings of every property test that names no other. No deadlines: a busy machine is no mistake."""
    settings.register_profile(
        "songhua",
        max_examples=examples(100, 1_000),
        derandomize=bool(os.environ.get("CI")) and not LONG,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    settings.load_profile("songhua")
