"""Silence: a device that stopped reporting, judged against what it really does. The only rule that uses receive time.

The interval of each device is learnt from the gaps between receptions (the middle of the last five, never below the
profile's nominal one), so that a meter which uploads once a day is not called silent every night. Time is the
*running clock*: it advances with the processing clock while that moves plausibly, and stands still through our own
outages and clock steps, so that neither is taken for silence. Owns a coarse wheel of deadlines, derived from the
subjects; raises nothing.
"""

from collections.abc import Iterator

from devices.model import Milliseconds
from rules.subjects import SILENT, DeviceSubject

_SLOT = 5_000
_DAY = 86_400_000
_REMEMBERED = 5
_USUAL = 1.25  # a gap up to this many nominal intervals teaches nothing new


class Cadence:
    """Knows when each watched device would be silent."""

    def __init__(self) -> None:
        self._wheel: dict[int, list[DeviceSubject]] = {}
        self._turned = -1

    @staticmethod
    def allowed(subject: DeviceSubject) -> Milliseconds:
        """How long the device may be quiet: three learnt intervals, 48 h for a daily one, never less than two."""
        return max(2 * subject.learnt, min(3 * subject.learnt, 2 * _DAY))

    def learn(self, subject: DeviceSubject, gap: Milliseconds) -> None:
        """Take one gap between receptions (listening clock) into account."""
        nominal = subject.device.interval
        gaps = subject.gaps
        if gaps is None:
            gaps = [nominal] * (_REMEMBERED - 1)
        gaps = [*gaps, gap][-_REMEMBERED:]
        settled = len(gaps) == _REMEMBERED and max(gaps) <= _USUAL * nominal
        subject.gaps = None if settled else gaps
        subject.learnt = nominal if settled else max(nominal, sorted(gaps)[len(gaps) // 2])
        self.expect(subject)

    @staticmethod
    def expect(subject: DeviceSubject) -> None:
        """Set the gap from which on `learn` wants to be asked."""
        nominal = subject.device.interval
        subject.expected = int(_USUAL * nominal) if subject.gaps is None else nominal // 2

    def watch(self, subject: DeviceSubject) -> None:
        """Look at the device when its time would be up."""
        self._wheel.setdefault(self._slot(subject), []).append(subject)

    def _slot(self, subject: DeviceSubject) -> int:
        return (subject.listened + self.allowed(subject)) // _SLOT + 1

    def ahead(self, moment: Milliseconds) -> bool:
        """Whether `moment` lies in the slot looked at last, or later: no tick of a slot may find what another did not,
        because a replay leaves some of them out.
        """
        return moment // _SLOT >= self._turned

    def due(self, listening: Milliseconds) -> Iterator[DeviceSubject]:
        """Devices quiet for longer than allowed at listening clock `listening`, in order of name; each is given once,
        then no longer watched.
        """
        present = listening // _SLOT
        if present == self._turned:
            return
        self._turned = present
        quiet: list[DeviceSubject] = []
        for slot in [slot for slot in self._wheel if slot <= present]:
            for subject in self._wheel.pop(slot):
                if subject.watch & SILENT:
                    continue
                if self._slot(subject) <= present:
                    quiet.append(subject)
                else:
                    self.watch(subject)
        yield from sorted(quiet, key=lambda subject: subject.id)

    def rebuild(self, subjects: Iterator[DeviceSubject]) -> None:
        """Start over with these devices (after a restore, or when devices were removed)."""
        self._wheel = {}
        self._turned = -1
        for subject in subjects:
            if not subject.watch & SILENT:
                self.watch(subject)
