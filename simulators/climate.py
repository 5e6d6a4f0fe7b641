"""Harbin's sky and weather as functions of time: nights by the sun, outdoor temperature, the heating season.

Sun times come from astral (never fixed hours: sunset is 15:49 in December and 19:26 in June). Temperatures follow the
city's monthly means with a daily swing and spells of several days. Pure functions of time and place; raise nothing.
"""

import math
from datetime import UTC, date, datetime, timedelta
from functools import cache

from astral import Observer
from astral.sun import sunrise, sunset

from devices.model import Milliseconds
from simulators.chance import Noise, key_of
from simulators.geography import DISTRICTS

HOUR = 3_600_000
DAY = 24 * HOUR
CHINA = 8 * HOUR  # Asia/Shanghai has no summer time
FIRST_NIGHT = date(2025, 1, 1)  # lamp energy is counted from here

_EPOCH = date(1970, 1, 1)
_OBSERVERS = {district.code: Observer(district.lat, district.lon) for district in DISTRICTS}
_SPELLS = Noise(key_of("climate", "spells"))


@cache
def night(district: str, day: int) -> tuple[Milliseconds, Milliseconds]:
    """(sunset, sunrise) of the night that lies within UTC day `day` (days since 1970): at this longitude each UTC day
    holds one.
    """
    when, observer = _EPOCH + timedelta(days=day), _OBSERVERS[district]
    return int(sunset(observer, when).timestamp() * 1000), int(sunrise(observer, when).timestamp() * 1000)


def local_date(time: Milliseconds) -> date:
    """The calendar date in Asia/Shanghai."""
    return datetime.fromtimestamp((time + CHINA) / 1000, UTC).date()


def heating_season(time: Milliseconds) -> bool:
    """Harbin heats from 20 October to 20 April."""
    today = local_date(time)
    return (today.month, today.day) >= (10, 20) or (today.month, today.day) <= (4, 20)


def outdoor_temperature(time: Milliseconds) -> float:
    """Degrees Celsius: about -18 in mid January, +23 in mid July, 4 degrees of daily swing, spells of a few days."""
    days = time / DAY
    season = 2.5 - 20.5 * math.cos((days - 19.0) * (2 * math.pi / 365.2425))
    return (
        season
        - 4.0 * math.cos((time + CHINA - 3 * HOUR) % DAY * (2 * math.pi / DAY))
        + 3.5 * _SPELLS.smooth(days / 1.7)
    )


def ground_temperature(time: Milliseconds) -> float:
    """Degrees Celsius of water in buried pipes: 6 in March, 15 in September."""
    return 10.5 - 4.5 * math.cos((time / DAY - 75.0) * (2 * math.pi / 365.2425))
