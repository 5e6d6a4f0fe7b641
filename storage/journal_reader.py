"""Reading the embedded journal: from any sequence on, across segments, around damage.

Receives the segments and the head as they were when a read began, gives a `Batch`. Owns nothing on disk; keeps in
memory where the last readers stopped, so that one who follows in order finds its place at once (another place is
found by walking its segment). Raises `OSError` only where the machine is at fault (no descriptors left); what the
disk spoilt comes back as `Damage`.
"""

import os
import threading
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from storage.journal import ORDINARY_BYTES, Batch, Damage
from storage.journal_record import Gap, Record, Window, decode_body, walk
from storage.journal_recovery import Segment

_PLACES = 64


class JournalReader:
    """`damage_seen` holds (file, offset) of every damaged stretch met so far."""

    def __init__(self, directory: Path) -> None:
        self.damage_seen: set[tuple[str, int]] = set()
        self._directory = directory
        self._places: dict[int, tuple[Segment, int]] = {}  # sequence a reader stopped at -> where the next one begins
        self._placing = threading.Lock()

    def read(self, segments: Sequence[Segment], head: int, position: int, limit: int) -> Batch:
        """Up to about `limit` messages after `position` (which is before `head`); see `SegmentJournal.read`."""
        batch, size = Batch(position + 1, [], []), 0
        place: tuple[Segment, int] | None = None
        with closing(self._walk(segments, head, position)) as items:
            for segment, item in items:
                if item.last <= position:
                    continue
                messages = decode_body(item) if isinstance(item, Record) else None
                if messages is not None:
                    batch.messages += messages[max(0, batch.first - item.first) :]
                    size += item.end - item.offset
                elif batch.messages:
                    break
                else:
                    batch.damage.append(self._damage(segment, item))
                    batch.first = item.last + 1
                place = (segment, item.end) if segment else None
                if len(batch.messages) >= limit or size >= limit * ORDINARY_BYTES:
                    break
        if place:
            self._remember(batch.first + len(batch.messages) - 1, place)
        return batch

    def _walk(
        self, segments: Sequence[Segment], head: int, position: int
    ) -> Generator[tuple[Segment | None, Record | Gap], None, None]:
        """All that accounts for `position + 1` .. `head`, in order. A Gap before the oldest segment comes with None."""
        oldest = segments[0].first if segments else head + 1
        if position + 1 < oldest:
            yield None, Gap(0, 0, position + 1, oldest - 1, "segment is missing")
        known, known_offset = self._places.get(position, (None, 0))
        start = max(0, bisect_right(segments, position + 1, key=lambda segment: segment.first) - 1)
        for index in range(start, len(segments)):
            segment = segments[index]
            ceiling = segments[index + 1].first if index + 1 < len(segments) else head + 1
            offset, expected = (known_offset, position + 1) if segment is known else (0, segment.first)
            with self._opened(segment) as descriptor:
                window = Window(descriptor, segment.end)
                for item in walk(window, segment.sync, offset, expected, ceiling):
                    yield segment, item

    @contextmanager
    def _opened(self, segment: Segment) -> Iterator[int]:
        """A descriptor to read from, -1 where the file is gone."""
        try:
            descriptor = os.open(self._directory / segment.name, os.O_RDONLY)
        except FileNotFoundError:
            yield -1
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _damage(self, segment: Segment | None, item: Record | Gap) -> Damage:
        name = segment.name if segment else ""
        detail = item.detail if isinstance(item, Gap) else "record does not decode"
        self.damage_seen.add((name, item.offset))
        return Damage(name, item.offset, item.end - item.offset, item.first, item.last, detail)

    def _remember(self, sequence: int, place: tuple[Segment, int]) -> None:
        with self._placing:
            self._places.pop(sequence, None)
            self._places[sequence] = place
            if len(self._places) > _PLACES:
                del self._places[next(iter(self._places))]
