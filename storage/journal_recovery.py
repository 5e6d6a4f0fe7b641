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
    """Segments oldest first, and the newest sequence in use.

    If `appendable`, the newest segment goes on at its `end`: behind that, `torn_bytes` are to be cut; records
    between offset `confirmed` and `end` are whole, but nothing proves that they are on the disk.
    """

    segments: tuple[Segment, ...]
    head: int
    trimmed: int
    appendable: bool
    torn_bytes: int
    confirmed: int


def survey(directory: Path, bounds: Bounds | None, boot: bytes) -> Survey:
    """Look at `directory` without changing it. `bounds` is None where they are unknown, `boot` the present boot id."""
    segments = _list(directory)
    first = segments[-1].first if segments else 0
    acknowledged = bounds.acknowledged if bounds else 0
    last, end, confirmed, lost = _read_through(directory, segments[-1], acknowledged) if segments else (0, 0, 0, 0)
    if bounds is None:
        trimmed = segments[0].first - 1 if segments else 0
        head = last + lost
    else:
        trimmed = bounds.trimmed
        head = max(last, acknowledged)
        if not bounds.exact(boot):
            head = max(head, bounds.reserved if bounds.newest > first else min(last + lost, bounds.reserved))
    if not segments or head > last:
        return Survey(segments, head, trimmed, False, 0, 0)
    torn, segments[-1].end = segments[-1].end - end, end
    return Survey(segments, head, trimmed, True, torn, confirmed)


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


def _read_through(directory: Path, segment: Segment, acknowledged: int) -> tuple[int, int, int, int]:
    """Last sequence; offset behind its record; the same for what was acknowledged; how many messages the rest may
    hold.
    """
    last, end, confirmed = segment.first - 1, 0, 0
    descriptor = os.open(directory / segment.name, os.O_RDONLY)
    try:
        window = Window(descriptor, segment.end)
        for item in walk(window, segment.sync, 0, segment.first, UNBOUNDED):
            if isinstance(item, Record):
                last, end = item.last, item.end
                confirmed = end if last <= acknowledged else confirmed
        rest = segment.end - end
        lost = lost_in_tail(segment.sync, window.at(end, min(rest, HEADER_BYTES)), rest, last + 1) if rest else 0
    finally:
        os.close(descriptor)
    return last, end, confirmed, lost
