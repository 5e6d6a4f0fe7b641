"""Durations as people write them (`90s`, `10m`, `24h`, `7d`), as milliseconds."""

import re

from devices.errors import ConfigError
from devices.model import Milliseconds

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def milliseconds(text: str) -> Milliseconds:
    """Raises `ConfigError` for anything but a number with one of the units ms, s, m, h, d."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no duration; expected a number and one of ms, s, m, h, d, such as 90s or 24h")
    return round(float(match[1]) * _UNITS[match[2]])
