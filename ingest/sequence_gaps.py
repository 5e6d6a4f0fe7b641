"""Gaps in the sequence numbers of devices that have them (`boot_id` and `seq`): what was sent and never arrived.

A number that is skipped is missing at once and lost when nobody brought it within the grace period (late batches and
device-side replay do). Bounded: at most `MISSING_PER_DEVICE` numbers are remembered per device, older ones count as
lost.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from devices.model import DecodedBatch, Milliseconds

GRACE: Milliseconds = 10 * 60 * 1000
MISSING_PER_DEVICE = 1000


@dataclass
class _Stream:
    boot: object
    highest: int
    missing: dict[int, Milliseconds] = field(default_factory=dict)  # number -> when it was missed


class SequenceGaps:
    """`lost` is cumulative; `missing` is what is still hoped for."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._expiry: deque[tuple[Milliseconds, _Stream, int]] = deque()
        self.lost = 0
        self.missing = 0

    def observe(self, batch: DecodedBatch) -> None:
        """Follow the readings of one batch, in journal order."""
        streams, now = self._streams, batch.clock
        for reading in batch.readings:
            values: Any = reading.values
            seq = values.seq
            if seq is None or reading.replayed:
                continue
            stream = streams.get(reading.device.id)
            if stream is not None and seq == stream.highest + 1 and stream.boot == values.boot_id:
                stream.highest = seq  # by far the most frequent case
            else:
                self._follow(reading.device.id, stream, values.boot_id, seq, now)
        while self._expiry and self._expiry[0][0] + GRACE <= batch.clock:
            _, stream, number = self._expiry.popleft()
            if stream.missing.pop(number, None) is not None:
                self.missing -= 1
                self.lost += 1

    def _follow(self, device: str, stream: _Stream | None, boot: object, seq: int, now: Milliseconds) -> None:
        if stream is None or stream.boot != boot:
            # a new boot starts its own numbering; what the old one still owes stays on its list until it expires
            self._streams[device] = _Stream(boot, seq)
        elif seq <= stream.highest:
            if stream.missing.pop(seq, None) is not None:
                self.missing -= 1
        else:
            skipped = range(stream.highest + 1, seq)
            room = MISSING_PER_DEVICE - len(stream.missing)
            self.lost += max(0, len(skipped) - room)
            for number in skipped[max(0, len(skipped) - room) :]:
                stream.missing[number] = now
                self._expiry.append((now, stream, number))
                self.missing += 1
            stream.highest = seq
