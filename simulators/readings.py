"""What a waveform is: the values a device would report at a time, as the native payload names them."""

from typing import Protocol, TypeAlias

from devices.model import Milliseconds

Values: TypeAlias = dict[str, float | bool | str]


class Waveform(Protocol):
    """One device's behaviour: a pure function of (true) time, given its seed and incidents."""

    def values(self, time: Milliseconds) -> Values:
        """Canonical property names and units; a property that says nothing at that time is left out."""
        ...
