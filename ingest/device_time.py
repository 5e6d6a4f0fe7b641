"""Whose clock to believe: the device's, ours, or (when most devices disagree with us in one direction) not ours.

Device time outside [receive time - 7 d, + 5 min] is replaced by receive time and flagged `clock`; elements of a list
keep their offsets to the newest. When more than half of the recent messages are outside on the same side, it is our
clock that is wrong: their median says by how much, nothing that fits it is replaced, and `distrusted` makes health
degraded. Where our clock has just jumped back, a device that goes on from before the jump is right at once: its
readings must not seem an hour old, for a hold of a rule would then be over with the next one. Decisions are kept by
journal sequence and outlive the process (`state`, `restore`), so that reading the journal again gives the same times.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any

from devices.errors import RejectedError
from devices.model import Milliseconds
from devices.reasons import Reason

PAST = 7 * 24 * 3600 * 1000
FUTURE = 5 * 60 * 1000
_ENOUGH = 20  # messages before anything is decided
_SAMPLE = 200  # messages that one review looks back on
_LARGEST = 253_402_300_799_999  # 9999-12-31: beyond it a time is no time


class DeviceClock:
    """See the module docstring; one per process, reviewed at the decode frontier."""

    def __init__(self) -> None:
        self._since = [0]  # journal sequences from which on ...
        self._ahead = [0]  # ... devices are this much ahead of us (ms); 0 = our clock is right
        self._newest: Milliseconds = 0  # receive time
        # Where our clock jumped back: sequence of the first message behind `_newest`, and `_newest`.
        self._jumps: list[tuple[int, Milliseconds]] = []
        self._reviewed = 0
        self._agreeing = 0
        self._outside: list[int] = []  # device time - receive time of what lay outside, since the last change
        self._batch_agreeing = 0
        self._batch_outside: list[int] = []
        self.replaced = 0

    @property
    def distrusted(self) -> bool:
        """Whether our own clock is held to be wrong at present."""
        return self._ahead[-1] != 0

    def judge(
        self, t: int | float | str | None, received_at: Milliseconds, sequence: int, history: bool
    ) -> tuple[Milliseconds, str]:
        """(phenomenon time, quality) of a single object; raises `RejectedError` for a time that is none."""
        time = self.parse(t)
        if time is None:
            return received_at, "ok"
        if history or self._plausible(time, received_at, sequence):
            return time, "ok"
        self.replaced += 1
        return received_at, "clock"

    def shift(self, times: Sequence[Milliseconds], received_at: Milliseconds, sequence: int, history: bool) -> int:
        """What to add to every time of a list so that its newest element is plausible; 0 where it already is."""
        if not times or history or self._plausible(max(times), received_at, sequence):
            return 0
        self.replaced += 1
        return received_at - max(times)

    def begin(self) -> None:
        """A batch begins, or begins again: what was heard of an interrupted attempt does not count twice."""
        self._batch_agreeing, self._batch_outside = 0, []

    def review(self, first: int, last: int, agreeing: int, clock: Milliseconds) -> bool:
        """A batch was decoded for the first time, `agreeing` of its messages without a call of `judge`; `clock` is its.

        True if it changed the decision, which then holds from its first message on: decode it again.
        """
        if last <= self._reviewed:
            return False
        self._reviewed, self._newest = last, max(self._newest, clock)
        self._agreeing += agreeing + self._batch_agreeing
        self._outside += self._batch_outside
        heard = self._agreeing + len(self._outside)
        if heard < _ENOUGH:
            return False
        side = max(([o for o in self._outside if o > 0], [o for o in self._outside if o < 0]), key=len)
        wrong = len(side) > heard * (0.25 if self.distrusted else 0.5)
        changed = wrong != self.distrusted
        if changed:
            self._since.append(first)
            self._ahead.append(round(median(side)) if wrong else 0)
        if changed or heard >= _SAMPLE:
            self._agreeing, self._outside = 0, []
        return changed

    def state(self) -> dict[str, Any]:
        """Every decision so far, for `restore`."""
        decisions = {"since": self._since, "ahead": self._ahead, "jumps": self._jumps}
        return decisions | {"newest": self._newest, "reviewed": self._reviewed}

    def restore(self, state: dict[str, Any]) -> None:
        """What `state` gave."""
        self._since, self._ahead = list(state["since"]), list(state["ahead"])
        self._jumps = [(sequence, newest) for sequence, newest in state["jumps"]]
        self._newest, self._reviewed = state["newest"], state["reviewed"]

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

    def _plausible(self, time: Milliseconds, received_at: Milliseconds, sequence: int) -> bool:
        offset = time - received_at
        if -PAST <= offset <= FUTURE:
            self._batch_agreeing += 1
            return True
        self._batch_outside.append(offset)
        if offset > 0 and self._goes_on(time, received_at, sequence):
            return True
        ahead = self._ahead[bisect_right(self._since, sequence) - 1]
        return ahead != 0 and -PAST <= offset - ahead <= FUTURE

    def _goes_on(self, time: Milliseconds, received_at: Milliseconds, sequence: int) -> bool:
        """Our clock jumped back before this message, and the device agrees with what it showed until then."""
        known = self._jumps[-1][1] if self._jumps else 0
        if sequence > self._reviewed and received_at + FUTURE < self._newest != known:
            self._jumps.append((sequence, self._newest))
        place = bisect_right(self._jumps, sequence, key=lambda jump: jump[0]) - 1
        return place >= 0 and time <= self._jumps[place][1] + FUTURE
