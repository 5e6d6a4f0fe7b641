"""The reorder buffer of a device whose source may deliver out of order (lateness > 0): readings leave it in event
time, once each.

A reading leaves when the device's newest event time is a wait ahead of it, or when the running clock is a wait past
its arrival. The wait is 4/3 of the lateness: a shuffle of +/- 60 s sets two readings up to 120 s apart, and lateness
90 s must sort it. What is behind the last one that left is late. Owns only the order of `DeviceSubject.buffer`; the
engine's timers call back.
"""

from bisect import bisect_left, insort

from devices.model import Milliseconds, Reading
from rules.subjects import DeviceSubject


def wait(lateness: Milliseconds) -> Milliseconds:
    """How long a reading may wait for its predecessors."""
    return lateness * 4 // 3


def put(subject: DeviceSubject, reading: Reading, awake: Milliseconds) -> bool:
    """Keep a reading for later; False where it is an exact duplicate of one that waits."""
    buffer = subject.buffer
    if buffer is None:
        buffer = subject.buffer = []
    place = bisect_left(buffer, (reading.time,))
    while place < len(buffer) and buffer[place][0] == reading.time:
        if buffer[place][4].values == reading.values:
            return False
        place += 1
    insort(buffer, (reading.time, reading.sequence, reading.index, awake, reading), key=lambda item: item[:3])
    return True


def passed(subject: DeviceSubject) -> list[Reading]:
    """What the device's own newest event time has released, oldest first."""
    buffer = subject.buffer
    if not buffer:
        return []
    return _take(subject, bisect_left(buffer, (buffer[-1][0] - subject.lateness + 1,)))


def waited(subject: DeviceSubject, awake: Milliseconds) -> list[Reading]:
    """What the clock has released, oldest first: everything up to the newest reading that waited long enough."""
    horizon = awake - subject.lateness
    waiting = subject.buffer or ()
    return _take(subject, max((place + 1 for place, item in enumerate(waiting) if item[3] <= horizon), default=0))


def _take(subject: DeviceSubject, count: int) -> list[Reading]:
    if not count or subject.buffer is None:
        return []
    taken = [item[4] for item in subject.buffer[:count]]
    subject.buffer = subject.buffer[count:] or None
    return taken
