"""Whose clock to believe: the device's, ours, or (when most devices disagree with us in one direction) not ours.

Device time outside [receive time - 7 d, + 5 min] is replaced by receive time and flagged `clock`; elements of a list
keep their offsets to the newest. When more than half of at least 20 recent messages are ahead of us by more than the
tolerance, our clock is wrong: nothing is replaced and `distrusted` makes health degraded. Where our clock has just
jumped back, a device that goes on from before the jump is right at once: its readings must not seem an hour old, for a
hold of a rule would then be over with the next one. Decisions are kept by journal sequence, so that reading the journal
again within a process gives the same times.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime

from devices.errors import RejectedError
from devices.model import Milliseconds
from devices.reasons import Reason

PAST = 7 * 24 * 3600 * 1000
FUTURE = 5 * 60 * 1000
_SAMPLE = 200
_ENOUGH = 20
_LARGEST = 253_402_300_799_999  # 9999-12-31: beyond it a time is no time


class DeviceClock:
    """See the module docstring; one per process."""

    def __init__(self) -> None:
        self._heard = self._ahead = 0  # messages with a device time since the last review, and those ahead of us
        self._judged_through = 0
        self._changes = [0]  # sequences at which the decision flipped; even index = trusted from there on
        self._newest: Milliseconds = 0  # receive time
        # Where our clock jumped back: sequence of the first message behind `_newest`, and `_newest`.
        self._jumps: list[tuple[int, Milliseconds]] = []
        self.replaced = 0

    @property
    def distrusted(self) -> bool:
        """Whether our own clock is held to be wrong at present."""
        return len(self._changes) % 2 == 0

    def judge(
        self, t: int | float | str | None, received_at: Milliseconds, sequence: int, history: bool
    ) -> tuple[Milliseconds, str]:
        """(phenomenon time, quality) of a single object; raises `RejectedError` for a time that is none."""
        time = self.parse(t)
        if time is None or history:
            return (received_at, "ok") if time is None else (time, "ok")
        if received_at - PAST <= time <= received_at + FUTURE:
            self.agreed(1, sequence)
            return time, "ok"
        ahead = time > received_at
        goes_on = ahead and self._goes_on(time, received_at, sequence)
        if ahead and sequence > self._judged_through:
            self._ahead += 1
            self.agreed(1, sequence)
        if goes_on or (ahead and self._distrusted_at(sequence)):
            return time, "ok"
        self.replaced += 1
        return received_at, "clock"

    def agreed(self, heard: int, sequence: int, received_at: Milliseconds = 0) -> None:
        """`heard` messages with a device time have come up to `sequence`; reviews who is right now and then."""
        self._newest = max(self._newest, received_at)
        if sequence <= self._judged_through:
            return
        self._judged_through = sequence
        self._heard += heard
        if self._heard >= (_SAMPLE if not self._ahead or self.distrusted else _ENOUGH):
            wrong = self._ahead > self._heard * (0.25 if self.distrusted else 0.5)
            if wrong != self.distrusted:
                self._changes.append(sequence)
            self._heard = self._ahead = 0

    def shift(self, times: Sequence[Milliseconds], received_at: Milliseconds, sequence: int, history: bool) -> int:
        """What to add to every time of a list so that its newest element is plausible; 0 where it already is."""
        if not times or history:
            return 0
        newest = max(times)
        if received_at - PAST <= newest <= received_at + FUTURE:
            return 0
        if newest > received_at and (self._distrusted_at(sequence) or self._goes_on(newest, received_at, sequence)):
            return 0
        self.replaced += 1
        return received_at - newest

    @staticmethod
    def parse(t: int | float | str | None) -> Milliseconds | None:
        """ms since the epoch from a number or an ISO 8601 text with offset; raises `RejectedError`."""
        if t is None:
            return None
        if isinstance(t, str):
            try:
                moment = datetime.fromisoformat(t)
            except ValueError as error:
                raise RejectedError(Reason.invalid_value, f"t = {t!r:.60}: {error}") from error
            if moment.tzinfo is None:
                raise RejectedError(Reason.invalid_value, f"t = {t!r:.60}: expected an offset such as +08:00")
            return round(moment.timestamp() * 1000)
        if not math.isfinite(t) or abs(t) > _LARGEST:
            raise RejectedError(Reason.invalid_value, f"t = {t!r:.60}: expected milliseconds since the epoch")
        return int(t)

    def _goes_on(self, time: Milliseconds, received_at: Milliseconds, sequence: int) -> bool:
        """Our clock jumped back before this message, and the device agrees with what it showed until then."""
        known = self._jumps[-1][1] if self._jumps else 0
        if sequence > self._judged_through and received_at + FUTURE < self._newest != known:
            self._jumps.append((sequence, self._newest))
        place = bisect_right(self._jumps, sequence, key=lambda jump: jump[0]) - 1
        return place >= 0 and time <= self._jumps[place][1] + FUTURE

    def _distrusted_at(self, sequence: int) -> bool:
        return bisect_right(self._changes, sequence) % 2 == 0
