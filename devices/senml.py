"""SenML JSON (RFC 8428) resolved to plain records: base fields applied, relative times made absolute.

Pure: (pack, receive time) -> records grouped by time. Base fields persist through the pack (section 4.1); a time below
2^28 s is relative to now (section 4.5.3). Raises `RejectedError(malformed)` for what is not a SenML pack.
"""

from collections.abc import Sequence
from typing import Any

from devices.errors import RejectedError
from devices.model import Milliseconds
from devices.reasons import Reason

_RELATIVE_BELOW = 2**28
_BASE_FIELDS = frozenset({"bn", "bt", "bu", "bv", "bs", "bver"})
_FIELDS = frozenset({"bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"})


def is_pack(elements: Sequence[Any]) -> bool:
    """Whether a JSON list is SenML rather than a list of native objects: its first record uses a name or base name and
    only SenML's keys.
    """
    first = elements[0] if elements else None
    return isinstance(first, dict) and ("n" in first or "bn" in first) and set(first) <= _FIELDS


def resolve(
    pack: Sequence[Any], received_at: Milliseconds
) -> list[tuple[Milliseconds | None, dict[str, tuple[Any, str | None]]]]:
    """Records as (time or None, {name: (value, unit or None)}), in order of first appearance of each time.

    A name is what follows the last separator of base name + name, since the device is known from the topic.
    """
    base: dict[str, Any] = {"bn": "", "bt": 0, "bu": None, "bv": None}
    readings: dict[Milliseconds | None, dict[str, tuple[Any, str | None]]] = {}
    for record in pack:
        if not isinstance(record, dict):
            raise RejectedError(Reason.malformed, "a SenML record must be an object")
        base.update({key: record[key] for key in base if key in record})
        if base["bt"].__class__ not in (int, float) or not isinstance(base["bn"], str):
            raise RejectedError(Reason.malformed, "bn must be text and bt a number")
        if set(record) <= _BASE_FIELDS:
            continue  # sets the base for what follows
        value = next((record[key] for key in ("v", "vb", "vs") if key in record), None)
        if base["bv"] is not None and (value is None or "v" in record):
            value = _sum(0 if value is None else value, base["bv"])
        if value is None:
            raise RejectedError(Reason.malformed, f"a SenML record without a value we keep: {sorted(record)}")
        name = f"{base['bn']}{record.get('n', '')}".replace(":", "/").rsplit("/", 1)[-1]
        if not name:
            raise RejectedError(Reason.malformed, "a SenML record without a name")
        time = _absolute(_sum(base["bt"], record.get("t", 0)), received_at, explicit="t" in record or base["bt"] != 0)
        readings.setdefault(time, {})[name] = (value, record.get("u", base["bu"]))
    return list(readings.items())


def _sum(a: Any, b: Any) -> float:
    if a.__class__ not in (int, float) or b.__class__ not in (int, float):
        raise RejectedError(Reason.malformed, "base value, base time, value and time must be numbers")
    return a + b


def _absolute(seconds: float, received_at: Milliseconds, explicit: bool) -> Milliseconds | None:
    if not explicit:
        return None
    try:
        milliseconds = round(seconds * 1000)
    except (OverflowError, ValueError) as error:
        raise RejectedError(Reason.malformed, "time out of range") from error
    return received_at + milliseconds if seconds < _RELATIVE_BELOW else milliseconds
