"""What one device remembers of one property over event time: bounded windows behind `mean`, `min`, `delta`, ...

Each receives the readings of one device in ascending event time through `push(time, value)` and gives its result, or
None while it does not know yet; `value` keeps the last result. At most 12 buckets a window (some 300 bytes), whatever
the reporting interval, so a window is exact to 1/12 of its length. A gap of more than a third of a window begins it
again. Own their state and nothing else; `dump` and `load` are for snapshots. Raise nothing.
"""

from array import array
from collections.abc import Sequence
from typing import Any, Protocol

BUCKETS = 12
_HOUR = 3_600_000
_UTC8 = 8 * _HOUR
_NOTHING = float("inf")


class Window(Protocol):
    """A window over one property of one device."""

    value: float | None

    def push(self, time: int, value: float) -> float | None:
        """Take a reading at `time` (ms) and return the window's result, None while unknown."""

    def samples(self) -> list[list[float]]:
        """[[ms, value], ...] of what the window saw, oldest first, for evidence."""

    def dump(self) -> list[Any]: ...

    def load(self, state: Sequence[Any]) -> None: ...


class Extreme:
    """`min` (sign 1) and `max` (sign -1) over a fully watched window. `closed` holds bucket numbers and their
    extremes.
    """

    __slots__ = ("bucket", "closed", "current", "first", "last", "past", "sign", "value", "width", "window")

    def __init__(self, window: int, sign: float) -> None:
        self.window = window
        self.width = max(window // BUCKETS, 1)
        self.sign = sign
        self.closed = array("d")
        self.bucket = self.first = self.last = -window
        self.past = self.current = _NOTHING
        self.value: float | None = None

    def push(self, time: int, value: float) -> float | None:
        signed = value * self.sign
        bucket = time // self.width
        if bucket != self.bucket:
            self._turn(time, bucket)
            self.current = signed
        elif signed < self.current:
            self.current = signed
        self.last = time
        self.value = self._result(time, signed, self.past if self.past < self.current else self.current)
        return self.value

    def _result(self, time: int, _signed: float, lowest: float) -> float | None:
        return lowest * self.sign if time - self.first >= self.window else None

    def _turn(self, time: int, bucket: int) -> None:
        """The current bucket is over: keep it, and drop those that ended before the window."""
        if time - self.last > self.window // 3:
            self.first = time
        closed = self.closed
        if self.current != _NOTHING:
            closed.extend((self.bucket, self.current))
        horizon = (time - self.window) // self.width
        expired = 0
        while expired < len(closed) and closed[expired] < horizon:
            expired += 2
        if expired:
            del closed[:expired]
        self.past = min(closed[1::2], default=_NOTHING)
        self.bucket = bucket

    def samples(self) -> list[list[float]]:
        kept = [*self.closed, self.bucket, self.current] if self.current != _NOTHING else []
        return [[int(kept[i]) * self.width, kept[i + 1] * self.sign] for i in range(0, len(kept), 2)]

    def dump(self) -> list[Any]:
        return [list(self.closed), self.bucket, self.current, self.past, self.first, self.last, self.value]

    def load(self, state: Sequence[Any]) -> None:
        closed, self.bucket, self.current, self.past, self.first, self.last, self.value = state
        self.closed = array("d", closed)


class Swing(Extreme):
    """`drop` (sign -1), `rise` (sign 1): how far the value is from the extreme of what the window saw."""

    __slots__ = ()

    def _result(self, _time: int, signed: float, lowest: float) -> float | None:
        return signed - lowest


class Mean:
    """`mean`: arithmetic mean of the samples of a fully watched window. `closed` holds bucket numbers, sums, counts."""

    __slots__ = ("bucket", "closed", "count", "first", "last", "newest", "past", "total", "value", "width", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.width = max(window // BUCKETS, 1)
        self.closed = array("d")
        self.bucket = self.first = self.last = -window
        self.total = self.newest = 0.0
        self.count = 0
        self.past = (0.0, 0.0)  # sum and count of the closed buckets
        self.value: float | None = None

    def push(self, time: int, value: float) -> float | None:
        bucket = time // self.width
        if bucket != self.bucket:
            self._turn(time, bucket)
        if time == self.last:
            self.total += value - self.newest
        else:
            self.total += value
            self.count += 1
        self.newest = value
        self.last = time
        if time - self.first >= self.window:
            total, count = self.past
            self.value = (total + self.total) / (count + self.count)
        else:
            self.value = None
        return self.value

    def _turn(self, time: int, bucket: int) -> None:
        if time - self.last > self.window // 3:
            self.first = time
        closed = self.closed
        if self.count:
            closed.extend((self.bucket, self.total, self.count))
        horizon = (time - self.window) // self.width
        expired = 0
        while expired < len(closed) and closed[expired] < horizon:
            expired += 3
        if expired:
            del closed[:expired]
        self.past = (sum(closed[1::3]), sum(closed[2::3]))
        self.bucket, self.total, self.count = bucket, 0.0, 0

    def samples(self) -> list[list[float]]:
        kept = [*self.closed, self.bucket, self.total, self.count] if self.count else []
        return [[int(kept[i]) * self.width, kept[i + 1] / kept[i + 2]] for i in range(0, len(kept), 3)]

    def dump(self) -> list[Any]:
        numbers = [self.bucket, self.total, self.count, self.newest, self.first, self.last, self.value]
        return [list(self.closed), list(self.past), *numbers]

    def load(self, state: Sequence[Any]) -> None:
        closed, past, self.bucket, self.total, self.count, self.newest, self.first, self.last, self.value = state
        self.closed, self.past = array("d", closed), (past[0], past[1])


class Lag:
    """`delta` and `rate`: the present value against the newest one that is at least a window old (less than two).

    `kept` holds times and values, at most one a bucket.
    """

    __slots__ = ("hourly", "kept", "value", "width", "window")

    def __init__(self, window: int, hourly: bool) -> None:
        self.window = window
        self.width = max(window // BUCKETS, 1)
        self.hourly = hourly
        self.kept = array("d")
        self.value: float | None = None

    def push(self, time: int, value: float) -> float | None:
        kept = self.kept
        old = 0
        while old + 2 < len(kept) and kept[old + 2] <= time - self.window:
            old += 2
        if old:
            del kept[:old]
        if kept and kept[-2] == time:
            kept[-1] = value
        elif not kept or time - kept[-2] >= self.width:
            kept.extend((time, value))
        elapsed = time - kept[0]
        if self.window <= elapsed < 2 * self.window:
            change = value - kept[1]
            self.value = change * _HOUR / elapsed if self.hourly else change
        else:
            self.value = None
        return self.value

    def samples(self) -> list[list[float]]:
        return [[int(self.kept[i]), self.kept[i + 1]] for i in range(0, len(self.kept), 2)]

    def dump(self) -> list[Any]:
        return [list(self.kept), self.value]

    def load(self, state: Sequence[Any]) -> None:
        kept, self.value = state
        self.kept = array("d", kept)


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

    def push(self, time: int, value: float) -> float | None:
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
            return Extreme(window, 1.0)
        case "max":
            return Extreme(window, -1.0)
        case "drop":
            return Swing(window, -1.0)
        case "rise":
            return Swing(window, 1.0)
        case "mean":
            return Mean(window)
        case "delta" | "rate":
            return Lag(window, function == "rate")
        case "baseline":
            return Baseline()
        case "age" | "stale":
            return Seen()
    raise ValueError(f"{function} keeps no window")
