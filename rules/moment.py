"""Functions of the moment and the place: hour of the day, day of the year, elevation of the sun.

Receive event time (ms) and a device's coordinates, give plain numbers. Fixed hours are wrong for lighting: in Harbin
the sun sets at 15:51 in December and 19:26 in June, so lighting rules ask for the sun. Local time is UTC+8 all year
(GB/T 7408). Raise nothing.
"""

from datetime import UTC, datetime
from functools import lru_cache

from astral import Observer
from astral.sun import elevation

UTC8 = 8 * 3_600_000
_HOUR = 3_600_000
_MINUTE = 60_000
UNKNOWN = float("nan")  # every comparison with it is false: an unknown place never alarms


def hour(time: int) -> float:
    """Hours since local midnight, 0 <= h < 24, with its fraction."""
    return (time + UTC8) % 86_400_000 / _HOUR


def day_of_year(time: int) -> float:
    """1 on 1 January, local date."""
    return _day((time + UTC8) // 86_400_000)


def sun_elevation(time: int, lon: float | None, lat: float | None) -> float:
    """Degrees above the horizon, with refraction, to about 0.1 degree (time to the minute, place to 0.05 degree)."""
    if lon is None or lat is None:
        return UNKNOWN
    return _elevation(time // _MINUTE, round(lon * 20), round(lat * 20))


@lru_cache(maxsize=64)
def _day(days: int) -> float:
    return float(datetime.fromtimestamp(days * 86_400, UTC).timetuple().tm_yday)


@lru_cache(maxsize=4096)
def _elevation(minutes: int, lon: int, lat: int) -> float:
    moment = datetime.fromtimestamp(minutes * 60, UTC)
    return float(elevation(Observer(latitude=lat / 20, longitude=lon / 20), moment))


def quotient(left: float, right: float) -> float:
    """Division of the language: by zero it is unknown, never an error."""
    return left / right if right else UNKNOWN
