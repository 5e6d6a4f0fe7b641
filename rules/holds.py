"""on_delay and off_delay: conditions become alarms when they have lasted, in event time.

A hold completes when event time has passed its end, or when the clock has and the last sample is younger than 1.5
reporting intervals. Both ways give the same raised_at: start of the condition + on_delay. A sample speaks for 1.5
intervals; a condition that was seen true and whose next sample came later than that counts only up to there. Owns the
timers (derived from the holds of the subjects); tells its `Outcome` what completed. Raises nothing.
"""

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Protocol

from devices.model import Milliseconds
from rules.subjects import VALIDITY, Hold, Subject


class Outcome(Protocol):
    """Who is told that a hold completed."""

    def raised(self, subject: Subject, bit: int, hold: Hold, at: Milliseconds) -> None: ...

    def returned(self, subject: Subject, bit: int, at: Milliseconds) -> None: ...


class Holds:
    """Runs the holds of all subjects.

    Its clock is the running clock (`awake`), which stands still through clock steps and our own outages; `offset` is
    what to add to it for the processing clock. A hold remembers the offset of its last sample, so that a step of the
    server's clock completes nothing.
    """

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._timers: list[tuple[Milliseconds, str, str, int]] = []
        self._subjects: dict[tuple[str, str], Subject] = {}
        self.awake: Milliseconds = 0
        self.offset: Milliseconds = 0

    def flip(self, subject: Subject, bit: int, time: Milliseconds, hold: Hold) -> None:
        """The condition of rule `bit` changed at `time`; `hold` carries its evidence where it became true."""
        subject.on ^= 1 << bit
        subject.release(bit)
        true, raised = bool(subject.on & 1 << bit), bool(subject.up & 1 << bit)
        if true == raised:
            return
        rule = subject.rules[bit]
        hold.start = hold.seen = time
        hold.offset = self.offset
        hold.due = time + (rule.on_delay if true else rule.off_delay)
        if hold.due <= time:
            self._finish(subject, bit, hold)
        else:
            subject.hold(bit, hold)
            self._arm(subject, bit, hold, self._key(subject, hold))

    def complete(self, subject: Subject, time: Milliseconds) -> None:
        """Event time has come to `time`: finish what ended before, as far as samples spoke for it. Before the reading
        is evaluated.
        """
        validity = VALIDITY * subject.interval
        for bit, hold in sorted((subject.pending or {}).items()):
            if hold.due <= time and hold.due <= hold.seen + validity:
                subject.release(bit)
                self._finish(subject, bit, hold)

    def seen(self, subject: Subject, bit: int, time: Milliseconds) -> None:
        """A sample at `time` confirmed what the hold of `bit` is waiting for."""
        hold = (subject.pending or {})[bit]
        hold.seen = time
        hold.offset = self.offset
        if hold.due <= time:
            subject.release(bit)
            self._finish(subject, bit, hold)
        elif hold.armed < 0:
            self._arm(subject, bit, hold, self._key(subject, hold))

    def tick(self) -> bool:
        """The running clock moved: finish holds that are due and whose last sample is fresh enough to speak for the
        present. Whether anything changed.
        """
        changed = False
        while self._timers and self._timers[0][0] <= self.awake:
            key, kind, identity, bit = heappop(self._timers)
            subject = self._subjects.get((kind, identity))
            hold = subject.pending.get(bit) if subject is not None and subject.pending else None
            if subject is None or hold is None or hold.armed != key:
                continue
            changed = True
            if self._key(subject, hold) > self.awake:
                self._arm(subject, bit, hold, self._key(subject, hold))
                continue
            until = hold.seen + VALIDITY * subject.interval
            # A sample may have come one wait late, and waited once more for its predecessors.
            present = self.awake + self.offset - 2 * subject.lateness
            if hold.due > until or present > until:
                hold.armed = -1
            elif (release := subject.blocked(hold.due)) is not None:
                self._arm(subject, bit, hold, release)
            else:
                subject.release(bit)
                self._finish(subject, bit, hold)
        return changed

    def forget(self, subject: Subject) -> None:
        """The subject is gone."""
        self._subjects.pop((subject.kind, subject.id), None)

    def rebuild(self, subjects: Iterable[Subject]) -> None:
        """Derive the timers again (after a restore)."""
        self._timers, self._subjects = [], {}
        for subject in subjects:
            for bit, hold in (subject.pending or {}).items():
                if hold.armed >= 0:
                    self._arm(subject, bit, hold, hold.armed)

    def _finish(self, subject: Subject, bit: int, hold: Hold) -> None:
        if subject.on & 1 << bit:
            subject.up |= 1 << bit
            self._outcome.raised(subject, bit, hold, hold.due)
        else:
            subject.up &= ~(1 << bit)
            self._outcome.returned(subject, bit, hold.due)

    @staticmethod
    def _key(subject: Subject, hold: Hold) -> Milliseconds:
        return hold.due + subject.lateness - hold.offset

    def _arm(self, subject: Subject, bit: int, hold: Hold, at: Milliseconds) -> None:
        hold.armed = at
        self._subjects[subject.kind, subject.id] = subject
        heappush(self._timers, (at, subject.kind, subject.id, bit))
