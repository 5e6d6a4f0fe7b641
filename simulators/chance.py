"""Deterministic chance: numbers that look random and depend on nothing but their key.

The waveforms draw all noise from here, so that the same device at the same time always reports the same value: a
restarted simulator, a re-sent history and a test see one and the same city. Pure; raises nothing.
"""

import random
from hashlib import blake2b

_SIZE = 8192
_MASK = _SIZE - 1


def _gaussian_table() -> tuple[float, ...]:
    source = random.Random("songhua/chance")
    return tuple(max(-3.0, min(3.0, source.gauss(0.0, 1.0))) for _ in range(_SIZE))


_TABLE = _gaussian_table()


def key_of(*parts: object) -> int:
    """A 64-bit number for a name; stable between processes, Python versions and machines."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def share(key: int, index: int = 0) -> float:
    """A number in [0, 1) for (key, index); for constants of a device, such as its share of a range."""
    mixed = (key + index * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)


class Noise:
    """Standard normal noise (clipped at 3) over integer steps, walked through a table with a stride and a phase of
    its own.

    Two keys give two unrelated walks; one costs a table look-up, which is what a load generator can afford.
    """

    __slots__ = ("_phase", "_stride")

    def __init__(self, key: int) -> None:
        self._phase = key & 0xFFFFFFFFFF
        self._stride = (key >> 24) & 0xFFFFF | 0x10001

    def at(self, step: int) -> float:
        """White noise: unrelated from step to step."""
        return _TABLE[(step * self._stride + self._phase >> 5) & _MASK]

    def smooth(self, position: float) -> float:
        """Slow noise: the white noise of the neighbouring whole positions, interpolated."""
        step = int(position // 1)
        start = step * self._stride + self._phase
        low = _TABLE[(start >> 5) & _MASK]
        return low + (_TABLE[(start + self._stride >> 5) & _MASK] - low) * (position - step)
