"""How water is drawn through a day, and registers that integrate exactly what flows.

A `Register` gives flow and total as closed functions of time: the total at midnight is a line with a bounded wobble,
and within the day it follows one of a few hundred prepared day patterns whose shares add up to 1. So a total never
falls, never drifts from its flow, and needs no history. Volumes in m3, flows in m3/h, days in Asia/Shanghai. Raises
nothing.
"""

import random
from array import array
from functools import cache
from itertools import accumulate

from devices.model import Milliseconds
from simulators.chance import Noise, share
from simulators.climate import CHINA, DAY, HOUR

SLOT = 2 * 60_000  # ms; flow is constant within a slot
SLOTS = DAY // SLOT
_FIRST_DAY = 20_089  # 2025-01-01: totals start near zero
_WOBBLE = 0.35  # of a day's volume: days differ by up to this share either way

# Relative chance of drawing water by hour of the day (0..23).
_HOME = (
    0.12,
    0.05,
    0.02,
    0.02,
    0.05,
    0.6,
    2.4,
    3.2,
    2.0,
    1.1,
    1.0,
    1.5,
    1.8,
    1.0,
    0.8,
    0.8,
    1.1,
    1.9,
    3.0,
    3.2,
    2.7,
    2.2,
    1.4,
    0.5,
)
_PUBLIC = (0, 0, 0, 0, 0, 0, 0.4, 1.5, 3.0, 3.2, 3.0, 3.4, 3.6, 2.6, 2.8, 3.0, 2.8, 2.2, 1.2, 0.8, 0.4, 0.1, 0, 0)
_SEWER = (
    0.6,
    0.45,
    0.35,
    0.3,
    0.3,
    0.4,
    0.8,
    1.3,
    1.5,
    1.35,
    1.2,
    1.15,
    1.25,
    1.2,
    1.05,
    1.0,
    1.0,
    1.1,
    1.3,
    1.5,
    1.5,
    1.35,
    1.1,
    0.85,
)
# (litres, slots) of one draw: toilet, tap, kitchen, washing machine, shower
_DRAWS = ((6, 1), (3, 1), (8, 2), (28, 4), (45, 5))
_DRAW_CHANCE = (10, 14, 7, 1, 2)


class DayPattern:
    """Shares of a day's volume: `flow[slot]` per hour within the slot, `before[slot]` drawn until the slot begins."""

    __slots__ = ("before", "flow")

    def __init__(self, weights: list[float]) -> None:
        total = sum(weights)
        self.flow = array("d", (weight / total / (SLOT / HOUR) for weight in weights))
        self.before = array("d", accumulate((weight / total for weight in weights), initial=0.0))


def _drawn(chance: random.Random, hours: tuple[float, ...], draws: int) -> list[float]:
    """Separate draws of water: long stretches of zero, as behind a household meter."""
    weights = [0.0] * SLOTS
    for hour in chance.choices(range(24), hours, k=draws):
        litres, length = chance.choices(_DRAWS, _DRAW_CHANCE)[0]
        start = (hour * HOUR + chance.randrange(HOUR)) // SLOT
        for slot in range(start, start + length):
            weights[slot % SLOTS] += litres * chance.uniform(0.7, 1.3) / length
    return weights


def _steady(chance: random.Random, hours: tuple[float, ...]) -> list[float]:
    """A large mixed flow: hours interpolated, a little slow variation."""
    noise = Noise(chance.getrandbits(64))
    weights = []
    for slot in range(SLOTS):
        hour, rest = divmod(slot * SLOT / HOUR, 1)
        low, high = hours[int(hour)], hours[int(hour + 1) % 24]
        weights.append((low + (high - low) * rest) * (1 + 0.05 * noise.smooth(slot / 9)))
    return weights


@cache
def day_patterns(kind: str) -> tuple[DayPattern, ...]:
    """The prepared days of a kind of user: home | public | sewer."""
    chance = random.Random(f"songhua/demand/{kind}")
    if kind == "home":
        return tuple(DayPattern(_drawn(chance, _HOME, chance.randint(22, 40))) for _ in range(128))
    if kind == "public":
        return tuple(DayPattern(_drawn(chance, _PUBLIC, chance.randint(120, 200))) for _ in range(32))
    return tuple(DayPattern(_steady(chance, _SEWER)) for _ in range(16))


class Register:
    """Flow and total of one user; `daily` is the mean volume of a day in m3, `offset` the total before counting
    began.
    """

    __slots__ = ("_daily", "_day", "_key", "_midnight", "_offset", "_pattern", "_patterns", "_volume")

    def __init__(self, key: int, kind: str, daily: float, offset: float = 0.0) -> None:
        self._key = key
        self._daily = daily
        self._offset = offset
        self._patterns = day_patterns(kind)
        self._day = -1
        self._midnight = self._volume = 0.0
        self._pattern = self._patterns[0]

    def _at_midnight(self, day: int) -> float:
        return self._offset + self._daily * (day - _FIRST_DAY + _WOBBLE * share(self._key, day))

    def read(self, time: Milliseconds) -> tuple[float, float]:
        """(flow in m3/h, total in m3)."""
        day, within = divmod(time + CHINA, DAY)
        if day != self._day:
            self._day = day
            self._midnight = self._at_midnight(day)
            self._volume = self._at_midnight(day + 1) - self._midnight
            self._pattern = self._patterns[int(share(self._key, ~day) * len(self._patterns))]
        slot = within // SLOT
        flow = self._pattern.flow[slot] * self._volume
        return flow, self._midnight + self._pattern.before[slot] * self._volume + flow * (within - slot * SLOT) / HOUR
