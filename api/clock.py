"""The wall clock as a value that is passed in, so that tests and replays choose the time."""

import time
from collections.abc import Callable
from typing import TypeAlias

from devices.model import Milliseconds

Clock: TypeAlias = Callable[[], Milliseconds]


def wall_clock() -> Milliseconds:
    """Now, in ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
