"""What a journal directory holds when it is opened: which segments, how far they go, whether the newest may be
continued.

Receives a directory and its bounds, gives a `Survey`, changes nothing; raises `OSError`. Older segments are taken
by their names (their records are checked when read); the newest is read through. What follows its last good record
is one of two things. A *torn tail* is an append that never returned: to be cut. *Damage* had been acknowledged: it
is kept, its sequences stay taken, and readers get it as `Damage`. With exact bounds the two are told apart for
certain. Without (power cut, bounds file lost) a record that merely ends early is a torn tail and anything else is
damage; then as many sequences are skipped as it can have held, because a consumer's cursor may stand on any of
them.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from storage.journal_bounds import Bounds
from storage.journal_record import HEADER_BYTES, UNBOUNDED, Record, Window, lost_in_tail, sync_of, walk

_NAME = re.compile(r"(\d{20})-([0-9a-f]{16})\.segment")


class Segment:
    """One file. `end` is the offset behind its last durable record; of a damaged one, its length."""

    __slots__ = ("end", "first", "name", "sync")

    def __init__(self, first: int, mark: bytes, end: int = 0) -> None:
        self.name = f"{first:020d}-{mark.hex()}.segment"
        self.first = first
        self.sync = sync_of(mark)
        self.end = end


class Survey(NamedTuple):
    """`segments` oldest first; `head`, the newest sequence in use; whether the newest segment is `appendable` at
    its `end`, behind which `torn_bytes` are to be cut.
    """

    segments: tuple[Segment, ...]
    head: int
    trimmed: int
    appendable: bool
    torn_bytes: int


def survey(directory: Path, bounds: Bounds | None, boot: bytes) -> Survey:
    """Look at `directory` without changing it. `bounds` is None where they are unknown, `boot` the present boot id."""
    segments = _list(directory)
    certain = bounds is not None and bounds.exact(boot)
    acknowledged = bounds.acknowledged if bounds else 0
    trimmed = bounds.trimmed if bounds else segments[0].first - 1 if segments else 0
    if bounds and not certain and bounds.newest > (segments[-1].first if segments else 0):
        acknowledged = max(acknowledged, bounds.reserved)
    if not segments:
        return Survey((), acknowledged, trimmed, False, 0)
    newest = segments[-1]
    last, end, lost = _read_through(directory, newest)
    head = max(last, acknowledged if certain else max(acknowledged, last + lost))
    if head > last:
        return Survey(segments, head, trimmed, False, 0)
    torn, newest.end = newest.end - end, end
    return Survey(segments, head, trimmed, True, torn)


def _list(directory: Path) -> tuple[Segment, ...]:
    """Segments by first sequence. Of two with the same, the smaller is what a failed creation left behind."""
    with os.scandir(directory) as entries:
        found = [
            Segment(int(matched[1]), bytes.fromhex(matched[2]), entry.stat().st_size)
            for entry in entries
            if (matched := _NAME.fullmatch(entry.name))
        ]
    found.sort(key=lambda segment: (segment.first, segment.end))
    return tuple({segment.first: segment for segment in found}.values())


def _read_through(directory: Path, segment: Segment) -> tuple[int, int, int]:
    """Last sequence, offset behind its record, and how many messages the rest may have held."""
    last, end = segment.first - 1, 0
    descriptor = os.open(directory / segment.name, os.O_RDONLY)
    try:
        window = Window(descriptor, segment.end)
        for item in walk(window, segment.sync, 0, segment.first, UNBOUNDED):
            if isinstance(item, Record):
                last, end = item.last, item.end
        rest = segment.end - end
        lost = lost_in_tail(segment.sync, window.at(end, min(rest, HEADER_BYTES)), rest, last + 1) if rest else 0
    finally:
        os.close(descriptor)
    return last, end, lost
