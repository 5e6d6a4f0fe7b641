"""Gaps in the sequence numbers of devices that have them (`boot_id` and `seq`): what was sent and never arrived.

A number that is skipped is missing at once and lost when nobody brought it within the grace period (late batches and
device-side replay do). Bounded: at most `MISSING_PER_DEVICE` numbers are remembered per device, older ones count as
lost.
"""

from collections import deque
from dataclasses import dataclass, field

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
        for reading in batch.readings:
            seq = reading.values.seq  # type: ignore[attr-defined]
            if seq is not None and not reading.replayed:
                self._follow(reading.device.id, reading.values.boot_id, seq, batch.clock)  # type: ignore[attr-defined]
        while self._expiry and self._expiry[0][0] + GRACE <= batch.clock:
            _, stream, number = self._expiry.popleft()
            if stream.missing.pop(number, None) is not None:
                self.missing -= 1
                self.lost += 1

    def _follow(self, device: str, boot: object, seq: int, now: Milliseconds) -> None:
        stream = self._streams.get(device)
        if stream is None or stream.boot != boot:
            # a new boot starts its own numbering; what the old one still owes stays on its list until it expires
            self._streams[device] = _Stream(boot, seq)
        elif seq == stream.highest + 1:
            stream.highest = seq
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
