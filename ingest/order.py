"""Order within a series: which readings are new, late, repeated, or contradict one that came before.

Late means behind this device's own newest reading by more than `lateness`; it is stored like any other. A duplicate
says again what is known and changes nothing; a conflict says something else about the same instant, and the last one
wins. Deterministic over the journal: fed the same readings in the same order it answers the same.
"""

from collections.abc import Sequence

import msgspec

from devices.model import Milliseconds, Reading, Values, reported_fields

_REMEMBERED = (
    200_000  # readings; a repetition older than that counts as late and is written again, which changes nothing
)


class Sorted(msgspec.Struct):
    """What a batch holds: `write` goes to the store in order, `late` are the places in it of late readings, `conflicts`
    the earlier readings that lost.
    """

    write: list[Reading]
    late: set[int]
    duplicate: int
    conflicts: list[Reading]


class SeriesOrder:
    """Watermarks of all series, and the recent readings to compare repetitions with (two generations)."""

    def __init__(self, lateness: Milliseconds = 0, remembered: int = _REMEMBERED) -> None:
        self._lateness = lateness
        self._half = remembered // 2
        self._began = self._began_old = 0  # sequences of the first reading of each generation
        self._watermarks: dict[str, Milliseconds] = {}
        self._young: dict[tuple[str, Milliseconds], Reading] = {}
        self._old: dict[tuple[str, Milliseconds], Reading] = {}

    def sort(self, readings: Sequence[Reading]) -> Sorted:
        """Decide on each reading, in journal order, and remember it."""
        result = Sorted([], set(), 0, [])
        write, watermarks, lateness = result.write, self._watermarks, self._lateness
        if readings and not self._young:
            self._began = readings[0].sequence
        for reading in readings:
            device, time = reading.device.id, reading.time
            newest = watermarks.get(device, 0)
            if time > newest:
                watermarks[device] = time
            else:
                earlier = self._young.get((device, time)) or self._old.get((device, time))
                if earlier is not None:
                    relation = _compare(earlier.values, reading.values)
                    if relation == "same":
                        result.duplicate += 1
                        continue
                    if relation == "conflict":
                        result.conflicts.append(earlier)
                if time < newest - lateness:
                    result.late.add(len(write))
            write.append(reading)
            self._young[device, time] = reading
        if len(self._young) > self._half:
            self._old, self._young, self._began_old = self._young, {}, self._began
        return result

    def snapshot(self) -> bytes:
        """The watermarks; recent readings are found again in the journal."""
        return msgspec.msgpack.encode(self._watermarks)

    def restore(self, data: bytes) -> None:
        """What `snapshot` gave."""
        self._watermarks = msgspec.msgpack.decode(data, type=dict[str, int])

    @property
    def oldest(self) -> int:
        """Journal sequence of the oldest reading that is remembered: after a restart the journal is sorted again from
        here. 0 before the first.
        """
        return self._began_old if self._old else self._began


def _compare(earlier: Values, later: Values) -> str:
    """`same` if the later adds nothing, `conflict` if it contradicts a value, `more` if it only adds properties."""
    added = False
    for name in reported_fields(later):
        value = getattr(later, name)
        if value is not None:
            known = getattr(earlier, name)
            if known is None:
                added = True
            elif known != value:
                return "conflict"
    return "more" if added else "same"
