"""The buckets of a chart: where they begin, and the checks that every store makes before it fills them.

Receives a request for values, gives the starts of its buckets; owns nothing. Raises `ValueError` where the request
makes no sense (unknown property, no bucket, too many of them): the caller's mistake, never retried.
"""

from collections.abc import Mapping, Sequence

from devices.catalogue import load
from devices.model import Milliseconds
from storage.points import numbers
from storage.telemetry import Series

MOST = 100_000


def starts(start: Milliseconds, end: Milliseconds, bucket: Milliseconds) -> range:
    """The beginnings of the buckets that overlap [start, end): multiples of `bucket` since the epoch."""
    if bucket <= 0:
        raise ValueError(f"a bucket of {bucket} ms is not a period")
    found = range(start // bucket * bucket, end, bucket)
    if len(found) > MOST:
        raise ValueError(f"{len(found)} buckets are more than {MOST}; choose longer ones or a shorter period")
    return found


def fill(grid: range, properties: Sequence[str], cells: Mapping[str, Mapping[Milliseconds, float]]) -> Series:
    """A value per property and bucket, None where there is none."""
    return Series(list(grid), {name: [cells.get(name, {}).get(time) for time in grid] for name in properties})


def check_properties(family: str, properties: Sequence[str], *, numeric: bool = False) -> None:
    """Raise `ValueError` unless the family reports all of them (as numbers)."""
    families = load().families
    if family not in families:
        raise ValueError(f"family {family!r} is not in the catalogue")
    known = numbers(family) if numeric else families[family].properties
    if unknown := [name for name in properties if name not in known]:
        raise ValueError(f"{family} reports no {'number' if numeric else 'property'} {', '.join(unknown)}")


def families(family: str | None) -> list[str]:
    """The one that was asked for, or all."""
    if family is None:
        return list(load().families)
    check_properties(family, ())
    return [family]
