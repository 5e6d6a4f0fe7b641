"""One simulated device as the network sees it: its waveform seen through its clock, its counters and its bad habits.

Most clocks are right to a second, some are minutes off, one device in the city lives in 1970. A few repeat messages
exactly, a few hold readings back and deliver them after newer ones. Gives `Message`s in the native payload format;
raises nothing.
"""

import random
from collections.abc import Iterator

import msgspec

from devices.model import Device, Milliseconds
from simulators.chance import key_of, share
from simulators.city import City
from simulators.outbox import LARGEST_LIST, Message
from simulators.readings import Waveform

HISTORY_STEP = 10 * 60_000  # ms
_DUPLICATES = 0.03  # share of messages published twice
_HELD_BACK = 5  # readings in a late batch
_encode = msgspec.json.Encoder().encode


def device_without_clock(city: City) -> str:
    """The one device whose clock starts at 1970 whenever it boots; a pressure point, so that no total is at stake."""
    points = [device.id for device in city.devices if device.family == "pipe_supply" and "inflow" not in device.facts]
    return min(points or [city.devices[0].id], key=lambda device: key_of(city.seed, "1970", device))


class Sensor:
    """`interval` in ms; `booted` is the true time of this run's start."""

    def __init__(
        self,
        device: Device,
        waveform: Waveform,
        *,
        seed: int,
        interval: Milliseconds,
        booted: Milliseconds,
        clockless: bool,
    ) -> None:
        key = key_of(seed, "habits", device.id)
        self.device = device
        self.interval = interval
        self.topic = f"songhua/v1/{device.district}/{device.gateway}/{device.id}/up"
        self._waveform = waveform
        self._skew = int((share(key, 1) - 0.5) * 1600)
        if share(key, 2) < 0.03:
            self._skew = int((1 + 3 * share(key, 3)) * 60_000) * (1 if share(key, 4) < 0.5 else -1)
        self._unset = booted if clockless else None
        counts = share(key, 5) < 0.3
        self._boot = f"{key_of(device.id, booted) & 0xFFFFFFFF:08x}" if counts else None
        self._sequence = 0
        # A held-back reading would look like a gap of the sequence until it arrives.
        self._holds_back = share(key, 6) < 0.04 and not counts
        self._left = 0  # measurements until the late batch goes out
        self._held: list[tuple[Milliseconds, bytes]] = []
        self._chance = random.Random(key)

    def clock(self, time: Milliseconds) -> Milliseconds:
        """What the device's own clock shows at true time `time`."""
        return time + self._skew if self._unset is None else time - self._unset

    def reading(self, time: Milliseconds) -> bytes:
        """One encoded reading; counts up the sequence where the device has one."""
        values = {"t": self.clock(time), **self._waveform.values(time)}
        if self._boot is not None:
            values |= {"boot_id": self._boot, "seq": self._sequence}
            self._sequence += 1
        return _encode(values)

    def history(self, after: Milliseconds, until: Milliseconds) -> Iterator[Message]:
        """Stored readings in (after, until] on the device's ten-minute grid; a device without a clock has none."""
        if self._unset is not None:
            return
        times = range((after // HISTORY_STEP + 1) * HISTORY_STEP, until + 1, HISTORY_STEP)
        for start in range(0, len(times), LARGEST_LIST):
            part = times[start : start + LARGEST_LIST]
            yield Message(self.topic, [self.reading(time) for time in part], part[0])

    def measure(self, time: Milliseconds) -> list[Message]:
        """What the device sends at `time`: usually one message, sometimes none, the same twice, or a late batch after
        it.
        """
        element = self.reading(time)
        if self._holds_back and not self._left and self._chance.random() < 0.05:
            self._left = 2 * _HELD_BACK
        if self._left:
            self._left -= 1
            if self._left % 2:  # every other one, so that the device is late but not silent
                self._held.append((time, element))
                return []
        messages = [Message(self.topic, [element], time)]
        if self._held and not self._left:
            messages.append(Message(self.topic, [held for _, held in self._held], self._held[0][0]))
            self._held.clear()
        elif self._chance.random() < _DUPLICATES:
            messages.append(Message(self.topic, [element], time))
        return messages
