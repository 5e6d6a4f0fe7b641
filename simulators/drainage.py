"""Waveform of a sewer manhole: dry-weather level through the day, velocity and flow with it, gases, and the cover.

In a `manhole` incident the level backs up within five minutes to a share of the depth, the water slows down and the
cover is open. Canonical units (m, m/s, m3/h, % LEL). Pure function of time and incidents; raises nothing.
"""

from collections.abc import Sequence

from devices.model import Device, Milliseconds
from simulators.chance import Noise, key_of, share
from simulators.climate import HOUR
from simulators.demand import Register
from simulators.incidents import Incident
from simulators.readings import Values
from simulators.water import battery_voltage, signal_power

_RISE = 5 * 60_000  # ms in which a blocked sewer backs up


class Manhole:
    """A manhole with `facts.depth` (invert to cover) and `facts.dry_level`, both in m."""

    __slots__ = ("_depth", "_dry", "_incidents", "_key", "_noise", "_sewage")

    def __init__(self, device: Device, seed: int, incidents: Sequence[Incident]) -> None:
        self._key = key_of(seed, device.id)
        self._noise = Noise(self._key)
        self._incidents = incidents
        self._depth = device.facts.get("depth", 3.0)
        self._dry = device.facts.get("dry_level", 0.1 * self._depth)
        self._sewage = Register(self._key, "sewer", 24.0)

    def values(self, time: Milliseconds) -> Values:
        draw = self._sewage.read(time)[0]  # share of the mean hour
        level = self._dry * (0.55 + 0.45 * draw + 0.02 * self._noise.at(time // 1000))
        velocity = 0.35 + 0.35 * draw + 0.02 * self._noise.at(time // 1000 + 1)
        open_cover = False
        for incident in self._incidents:
            if incident.begins <= time < incident.ends:
                rise = incident.strength(time, _RISE)
                open_cover = True
                level += (incident.magnitude * self._depth - level) * rise
                velocity *= 1 - 0.9 * rise
        level = max(0.01, level)
        width = 0.6  # m, of the channel
        return {
            "level": round(level, 3),
            "cover_distance": round(self._depth - level, 3),
            "velocity": round(velocity, 2),
            "flow_rate": round(velocity * level * width * 3600, 1),
            "methane": round(1.2 + 1.5 * share(self._key, 3) + 0.3 * self._noise.smooth(time / HOUR), 1),
            "hydrogen_sulfide": round(0.8 + 1.0 * share(self._key, 4) + 0.2 * self._noise.smooth(time / HOUR + 0.5), 1),
            "oxygen": round(20.5 + 0.1 * self._noise.smooth(time / HOUR + 0.3), 1),
            "cover_open": open_cover,
            "tilt": round(1.0 + 2 * share(self._key, 5) + (18.0 if open_cover else 0.0), 1),
            "battery_voltage": battery_voltage(self._key, time),
            "rsrp": signal_power(self._key, self._noise, time),
        }
