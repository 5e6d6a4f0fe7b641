"""What one device remembers of one property over event time: bounded windows behind `mean`, `min`, `delta`,
`baseline`, ...

Each receives the readings of one device in ascending event time through `push(time, value)` and gives its result, or
None while it does not know yet; `value` keeps the last result. At most 24 buckets a window (about 400 bytes),
whatever the reporting interval, so a window is exact to 1/24 of its length. Own their state and nothing else; `dump`
and `load` are for snapshots. Raise nothing.
"""

from array import array
from collections.abc import Sequence
from typing import Any, Protocol

BUCKETS = 24
_DAY = 86_400_000
_HOUR = 3_600_000
_UTC8 = 8 * _HOUR


class Window(Protocol):
    """A window over one property of one device."""

    value: float | None

    def push(self, time: int, value: float | None) -> float | None:
        """Take a reading at `time` (ms) and return the window's result, None while unknown."""

    def samples(self) -> list[list[float]]:
        """[[ms, value], ...] of what the window saw, oldest first, for evidence."""

    def dump(self) -> list[Any]: ...

    def load(self, state: Sequence[Any]) -> None: ...


class _Bucketed:
    """Buckets of event time with one number each; starts again after a gap of more than a third of the window."""

    __slots__ = ("first", "last", "starts", "value", "values", "width", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.width = max(window // BUCKETS, 1)
        self.first = self.last = 0
        self.starts = array("q")
        self.values = array("d")
        self.value: float | None = None

    def _full(self, time: int) -> bool:
        """Whether the whole window up to `time` has been watched; notes `time` as seen."""
        if not self.starts or time - self.last > self.window // 3:
            self.first = time
        self.last = time
        return time - self.first >= self.window

    def _expire(self, time: int) -> int:
        """Drop buckets that ended before the window; how many."""
        horizon = time - self.window - self.width
        count = 0
        while count < len(self.starts) and self.starts[count] <= horizon:
            count += 1
        if count:
            del self.starts[:count]
            del self.values[:count]
        return count

    def samples(self) -> list[list[float]]:
        return [[start, value] for start, value in zip(self.starts, self.values, strict=True)]

    def dump(self) -> list[Any]:
        return [self.first, self.last, list(self.starts), list(self.values), self.value]

    def load(self, state: Sequence[Any]) -> None:
        self.first, self.last, starts, values, self.value = state
        self.starts, self.values = array("q", starts), array("d", values)


class Extreme(_Bucketed):
    """`min` and `max` over a fully watched window."""

    __slots__ = ("best",)
    whole = True

    def __init__(self, window: int, best: Any) -> None:
        super().__init__(window)
        self.best = best

    def push(self, time: int, value: float | None) -> float | None:
        if value is None:
            return None
        full = self._full(time)
        start = time - time % self.width
        if self.starts and self.starts[-1] == start:
            self.values[-1] = self.best(self.values[-1], value)
        else:
            self._expire(time)
            self.starts.append(start)
            self.values.append(value)
        self.value = self._result(value) if full or not self.whole else None
        return self.value

    def _result(self, value: float) -> float:
        return float(self.best(self.values))


class Swing(Extreme):
    """`drop` and `rise`: distance of the present value from the extreme of what was seen within the window, however
    little that is.
    """

    __slots__ = ()
    whole = False

    def _result(self, value: float) -> float:
        return abs(float(self.best(self.values)) - value)


class Mean(_Bucketed):
    """`mean`: arithmetic mean of the samples of a fully watched window."""

    __slots__ = ("counts", "newest")

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self.counts = array("q")
        self.newest = 0.0

    def push(self, time: int, value: float | None) -> float | None:
        if value is None:
            return None
        again = bool(self.starts) and time == self.last
        full = self._full(time)
        start = time - time % self.width
        if again:
            self.values[-1] += value - self.newest
        elif self.starts and self.starts[-1] == start:
            self.values[-1] += value
            self.counts[-1] += 1
        else:
            del self.counts[: self._expire(time)]
            self.starts.append(start)
            self.values.append(value)
            self.counts.append(1)
        self.newest = value
        self.value = sum(self.values) / sum(self.counts) if full else None
        return self.value

    def samples(self) -> list[list[float]]:
        return [[start, total / n] for start, total, n in zip(self.starts, self.values, self.counts, strict=True)]

    def dump(self) -> list[Any]:
        return [*super().dump(), list(self.counts), self.newest]

    def load(self, state: Sequence[Any]) -> None:
        super().load(state[:5])
        self.counts = array("q", state[5])
        self.newest = state[6]


class Lag(_Bucketed):
    """`delta` and `rate`: the present value against the newest one that is at least a window old (less than two)."""

    __slots__ = ("hourly",)

    def __init__(self, window: int, hourly: bool) -> None:
        super().__init__(window)
        self.hourly = hourly

    def push(self, time: int, value: float | None) -> float | None:
        if value is None:
            return None
        starts, values = self.starts, self.values
        old = 0
        while old + 1 < len(starts) and starts[old + 1] <= time - self.window:
            old += 1
        if old:
            del starts[:old]
            del values[:old]
        if starts and starts[-1] == time:
            values[-1] = value
        elif not starts or time - starts[-1] >= self.width:
            starts.append(time)
            values.append(value)
        elapsed = time - starts[0]
        if self.window <= elapsed < 2 * self.window:
            change = value - values[0]
            self.value = change * _HOUR / elapsed if self.hourly else change
        else:
            self.value = None
        return self.value


class Seen:
    """`age` and `stale`: seconds since the property was last reported, counted from the device's first reading."""

    __slots__ = ("last", "value")

    def __init__(self) -> None:
        self.last = 0
        self.value: float | None = None

    def push(self, time: int, value: float | None) -> float | None:
        if value is not None or self.value is None:
            self.last = time
        self.value = (time - self.last) / 1000
        return self.value

    def samples(self) -> list[list[float]]:
        return []

    def dump(self) -> list[Any]:
        return [self.last, self.value]

    def load(self, state: Sequence[Any]) -> None:
        self.last, self.value = state


class Baseline:
    """`baseline`: what the property usually is at this hour of the day (UTC+8), known after three days; forgets over
    about a week.
    """

    __slots__ = ("count", "days", "hour", "means", "total", "value")
    _DAYS = 3
    _WEIGHT = 0.2

    def __init__(self) -> None:
        self.means = array("f", [0.0] * 24)
        self.days = bytearray(24)
        self.hour = -1
        self.total = 0.0
        self.count = 0
        self.value: float | None = None

    def push(self, time: int, value: float | None) -> float | None:
        if value is None:
            return None
        hour = (time + _UTC8) // _HOUR
        if hour != self.hour:
            if self.count:
                self._learn(self.hour % 24, self.total / self.count)
            self.hour, self.total, self.count = hour, 0.0, 0
        self.total += value
        self.count += 1
        slot = hour % 24
        self.value = self.means[slot] if self.days[slot] >= self._DAYS else None
        return self.value

    def _learn(self, slot: int, mean: float) -> None:
        days = self.days[slot]
        weight = max(self._WEIGHT, 1 / (days + 1))
        self.means[slot] += weight * (mean - self.means[slot])
        self.days[slot] = min(days + 1, 255)

    def samples(self) -> list[list[float]]:
        return []

    def dump(self) -> list[Any]:
        return [list(self.means), bytes(self.days), self.hour, self.total, self.count, self.value]

    def load(self, state: Sequence[Any]) -> None:
        means, days, self.hour, self.total, self.count, self.value = state
        self.means, self.days = array("f", means), bytearray(days)


def make(function: str, window: int) -> Window:
    """The window behind a function of the language (`rules.language.STATEFUL`)."""
    match function:
        case "min":
            return Extreme(window, min)
        case "max":
            return Extreme(window, max)
        case "drop":
            return Swing(window, max)
        case "rise":
            return Swing(window, min)
        case "mean":
            return Mean(window)
        case "delta" | "rate":
            return Lag(window, function == "rate")
        case "baseline":
            return Baseline()
        case "age" | "stale":
            return Seen()
    raise ValueError(f"{function} keeps no window")
