"""Which readings a telemetry store can hold at all: one answer for every store, so that they refuse the same ones.

Receives readings, gives the words of a refusal or None; owns and raises nothing. The limits are those of the strictest
store we serve, InfluxDB's line protocol: a tag can neither hold a line break nor end in a backslash, a time is a 64-bit
count of nanoseconds, a number is finite.
"""

import math
import re
from collections.abc import Sequence
from functools import cache

from devices.catalogue import load
from devices.model import Milliseconds, Reading
from devices.profile import LARGEST_EXACT_INTEGER

TIME_LIMIT: Milliseconds = (2**63 - 1) // 1_000_000

# What identities and words must not contain.
UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]|\\\\$")


def sift(readings: Sequence[Reading]) -> tuple[list[Reading], list[int], dict[int, str]]:
    """What can be held, where it was in the batch, and the index of everything else with the reason."""
    refused = {index: words for index, reading in enumerate(readings) if (words := refusal(reading))}
    indices = [index for index in range(len(readings)) if index not in refused]
    return [readings[index] for index in indices], indices, refused


def refusal(reading: Reading) -> str | None:
    """Why no store can hold this reading, in words for the quarantine; None if it can be held."""
    if words := identity_refusal(reading):
        return words
    if not 0 <= reading.time < TIME_LIMIT:
        return f"time {reading.time} ms is outside 1970..2262"
    for name in states(reading.device.family):
        value = getattr(reading.values, name)
        if value is not None and not is_word(value):
            return f"{name}: expected a word, got {value!r}"
    for name in numbers(reading.device.family):
        value = getattr(reading.values, name)
        if value is not None and not _is_number(value):
            return f"{name}: expected a finite number, got {str(value)[:100]!r}"
    return None


def identity_refusal(reading: Reading) -> str | None:
    """Why the device or what surrounds it cannot be stored, whatever it reports; None if it can."""
    device = reading.device
    if device.family not in load().families:
        return f"family {device.family!r} is not in the catalogue"
    if not device.id:
        return "the device id is empty"
    for text in (device.id, device.district, device.zone, device.profile, reading.gateway, reading.quality):
        if UNFIT.search(text):
            return f"{text!r} has a control character or ends in a backslash"
    return None


def is_word(value: object) -> bool:
    """Whether it can be stored as the value of a state."""
    return isinstance(value, str) and not UNFIT.search(value)


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) <= LARGEST_EXACT_INTEGER
    return isinstance(value, float) and math.isfinite(value)


@cache
def numbers(family: str) -> tuple[str, ...]:
    """The properties of `family` that are stored as floats (numbers and booleans), in catalogue order."""
    catalogue = load()
    return tuple(name for name in catalogue.families[family].properties if catalogue.properties[name].kind != "state")


@cache
def states(family: str) -> tuple[str, ...]:
    """The properties of `family` that are stored as words."""
    catalogue = load()
    return tuple(name for name in catalogue.families[family].properties if catalogue.properties[name].kind == "state")
