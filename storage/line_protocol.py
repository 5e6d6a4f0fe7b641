"""InfluxDB's line protocol: readings and alarm marks to lines, safe against whatever a device id or a value contains.

Receives `Reading`s, gives one line each: measurement = family; tags device, district, zone; fields = quality, gateway,
profile and the reported properties (floats, words as strings); time in ms. Owns the encoded heads of the devices it has
seen and one generated function per class of values. Raises nothing: what no line can express comes back as a refusal.
Syntax: InfluxDB 1.x, "line protocol reference".
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from devices.catalogue import load
from devices.model import Device, Reading, Values, reported_fields
from storage.points import TIME_LIMIT, UNFIT, identity_refusal, is_word, sift
from storage.telemetry import AlarmMark

_TAG = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_STRING = str.maketrans({'"': r"\"", "\\": r"\\"})
_STATES = {state: i for i, state in enumerate(("NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV"))}

# As short as it can be read back, like `repr`, in a third of the time; what is not finite becomes null.
_number = msgspec.json.Encoder().encode

_Add = Callable[[bytes], None]


class Encoded(NamedTuple):
    """`body` has a line per reading of `readings`; `indices[i]` is where readings[i] was in the batch; `refused` maps
    the index of every other one to the reason.
    """

    body: bytes
    readings: Sequence[Reading]
    indices: Sequence[int]
    refused: dict[int, str]


class LineEncoder:
    """Encodes batches of readings. Not shared between threads."""

    def __init__(self) -> None:
        self._heads: dict[str, _Head] = {}
        self._origins: dict[tuple[str, str, str], bytes] = {}
        self._writers = _Writers()

    def encode(self, readings: Sequence[Reading]) -> Encoded:
        """One line per reading, in order."""
        try:
            body = self._body(readings)
            if b"=null" not in body:
                return Encoded(body, readings, range(len(readings)), {})
        except (TypeError, ValueError, OverflowError, LookupError):
            pass
        # Something looked wrong: look at each reading.
        kept, indices, refused = sift(readings)
        return Encoded(self._body(kept), kept, indices, refused)

    def _body(self, readings: Sequence[Reading]) -> bytes:
        pieces: list[bytes] = []
        add, heads, writers = pieces.append, self._heads.get, self._writers
        for reading in readings:
            device, values = reading.device, reading.values
            head = heads(device.id)
            if (
                head is None
                or head.device is not device
                or head.gateway != reading.gateway
                or head.quality != reading.quality
            ):
                head = self._meet(reading)
            time = reading.time
            if not 0 <= time < TIME_LIMIT:
                raise ValueError(time)
            add(head.tags)
            add(head.origin)
            writers[type(values)](values, add)
            add(b" %d\n" % time)
        return b"".join(pieces)

    def _meet(self, reading: Reading) -> "_Head":
        if words := identity_refusal(reading):
            raise ValueError(words)
        device = reading.device
        tags = _tags(device.family, device=device.id, district=device.district, zone=device.zone)
        origin = (reading.quality, reading.gateway, device.profile)
        if origin not in self._origins:
            self._origins[origin] = b" quality=%b,gateway=%b,profile=%b" % tuple(_string(text) for text in origin)
        head = _Head(device, reading.gateway, reading.quality, tags, self._origins[origin])
        self._heads[device.id] = head
        return head


class _Head(NamedTuple):
    """What all lines of a device share while the same gateway hears it with the same quality."""

    device: Device
    gateway: str
    quality: str
    tags: bytes
    origin: bytes


_Write = Callable[[Values, _Add], None]


class _Writers(dict[type[Values], _Write]):
    """One straight-line function per class of values, generated when it is first seen."""

    def __missing__(self, cls: type[Values]) -> _Write:
        lines = ["def write(values, add):"]
        for name in reported_fields(cls()):
            text = "words[value]" if name.endswith("_state") else "number(value + 0.0)"
            lines += [
                f"    value = values.{name}",
                "    if value is not None:",
                f"        add(b',{name}=%b' % {text})",
            ]
        names: dict[str, Any] = {"words": _WORDS, "number": _number}
        exec(compile("\n".join(lines), f"<lines of {cls.__name__}>", "exec"), names)
        return self.setdefault(cls, names["write"])


class _Words(dict[str, bytes]):
    """The words of the catalogue as string fields; any other is looked at each time."""

    def __missing__(self, word: str) -> bytes:
        if not is_word(word):
            raise TypeError(word)
        return _string(word)


def mark_line(mark: AlarmMark) -> bytes:
    """An alarm transition as a line with its time in ns. The state is in the last digits, where no board sees it:
    two transitions of an alarm within a millisecond would overwrite each other otherwise.
    """
    subject, rule, text = (UNFIT.sub(" ", text) for text in (mark.subject, mark.rule, mark.text))
    fields = b"state=%b,priority=%b,text=%b" % (_string(mark.state), _string(mark.priority), _string(text))
    time = mark.time * 1_000_000 + _STATES[mark.state]
    return b"%b %b %d\n" % (_tags("alarms", subject=subject, rule=rule), fields, time)


def _tags(measurement: str, **tags: str) -> bytes:
    texts = [f",{name}={text.translate(_TAG)}" for name, text in tags.items() if text]
    return (measurement + "".join(texts)).encode()


def _string(text: str) -> bytes:
    return b'"%b"' % text.translate(_STRING).encode()


_WORDS = _Words((word, _string(word)) for known in load().properties.values() for word in known.values)
