"""What the names of an expression stand for: at a reading of a device, or at the close of a zone's window.

Read-only views for `rules.interpret`, built where an alarm needs its evidence; they own nothing.
"""

from collections.abc import Mapping

from devices.model import Reading
from rules import moment
from rules.fusion import window_key
from rules.interpret import UnknownValueError, evaluate
from rules.language import Call
from rules.subjects import DeviceSubject


class ReadingScope:
    """A device's reading and windows, as its fused step saw them."""

    __slots__ = ("_reading", "_subject")

    def __init__(self, subject: DeviceSubject, reading: Reading) -> None:
        self._subject = subject
        self._reading = reading

    def property(self, name: str) -> float | str:
        value = getattr(self._reading.values, name)
        if value is None:
            raise UnknownValueError(name)
        return value  # type: ignore[no-any-return]

    def before(self, name: str) -> float | str:
        value = getattr(self._subject.last, name, None)
        if value is None:
            raise UnknownValueError(name)
        return value  # type: ignore[no-any-return]

    def fact(self, name: str) -> float:
        facts = self._subject.device.facts
        if name not in facts:
            raise UnknownValueError(name)
        return facts[name]

    def call(self, node: Call) -> float | bool:
        match node.name:
            case "abs":
                assert node.argument is not None
                value = evaluate(node.argument, self)
                assert not isinstance(value, str)
                return abs(value)
            case "hour":
                return moment.hour(self._reading.time)
            case "day_of_year":
                return moment.day_of_year(self._reading.time)
            case "sun_elevation":
                device = self._subject.device
                return moment.sun_elevation(self._reading.time, device.lon, device.lat)
            case "flagged":
                return node.word in self._reading.quality
        known = self._subject.windows[self._subject.program.windows.index(window_key(node))].value
        if known is None:
            raise UnknownValueError(node.name)
        return known >= node.window / 1000 if node.name == "stale" else known


class ZoneScope:
    """The aggregates of one closed window of a zone."""

    __slots__ = ("_aggregates",)

    def __init__(self, aggregates: Mapping[Call, float]) -> None:
        self._aggregates = aggregates

    def property(self, name: str) -> float | str:
        raise UnknownValueError(name)

    def before(self, name: str) -> float | str:
        raise UnknownValueError(name)

    def fact(self, name: str) -> float:
        raise UnknownValueError(name)

    def call(self, node: Call) -> float | bool:
        if node.name == "abs":
            assert node.argument is not None
            value = evaluate(node.argument, self)
            assert not isinstance(value, str)
            return abs(value)
        if node not in self._aggregates:
            raise UnknownValueError(node.name)
        return self._aggregates[node]
