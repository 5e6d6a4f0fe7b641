"""Waveforms of district heating: exchange stations on the weather curve, and room temperature points.

Supply = 75 + 1.3 (5 - outdoor), return = 43 + 0.55 (5 - outdoor), degrees Celsius, within limits; outside the season
the network stands still at ground temperature under static pressure. Pure functions of time and incidents; raise
nothing.
"""

from collections.abc import Sequence

from devices.model import Device, Milliseconds
from simulators.chance import Noise, key_of, share
from simulators.climate import HOUR, ground_temperature, heating_season, outdoor_temperature
from simulators.incidents import Incident
from simulators.readings import Values

_FALL = 8 * 60_000  # ms in which a return line cools after its circulation is lost
_THROTTLED = 0.55  # share of the flow that is lost when the return runs cold
_WATER = 1.16  # kW per m3/h and K


class HeatStation:
    """An exchange station with `facts.design_flow` (m3/h) and `facts.design_supply_pressure` (MPa)."""

    __slots__ = ("_flow", "_incidents", "_key", "_noise", "_pressure")

    def __init__(self, device: Device, seed: int, incidents: Sequence[Incident]) -> None:
        self._key = key_of(seed, device.id)
        self._noise = Noise(self._key)
        self._incidents = incidents
        self._flow = device.facts.get("design_flow", 200.0)
        self._pressure = device.facts.get("design_supply_pressure", 0.8)

    def values(self, time: Milliseconds) -> Values:
        outdoor = outdoor_temperature(time)
        second = time // 1000
        noise = self._noise
        if heating_season(time):
            load = 5 - outdoor
            supply = (
                min(115.0, max(66.0, 75 + 1.3 * load)) + 0.3 * noise.smooth(time / 600_000) + 0.1 * noise.at(second)
            )
            back = min(62.0, max(40.0, 43 + 0.55 * load)) + 2 * (share(self._key, 1) - 0.5) + 0.1 * noise.at(second + 1)
            flow = self._flow * (0.88 + 0.05 * share(self._key, 2) + 0.01 * noise.at(second + 2))
            pressure = self._pressure * (0.98 + 0.004 * noise.at(second + 3))
            back_pressure = pressure - 0.30 - 0.08 * share(self._key, 3)
            makeup = flow * 0.0002 * (1 + 0.2 * noise.smooth(time / HOUR))
        else:
            supply = ground_temperature(time) + 2 + 0.1 * noise.at(second)
            back = supply - 0.3
            flow = makeup = 0.0
            pressure = 0.45 * self._pressure + 0.001 * noise.at(second + 3)
            back_pressure = pressure - 0.002
        for incident in self._incidents:
            loss = incident.strength(time, _FALL)
            back += (incident.magnitude - back) * loss
            flow *= 1 - _THROTTLED * loss
        return {
            "supply_temperature": round(supply, 1),
            "return_temperature": round(back, 1),
            "supply_pressure": round(pressure, 3),
            "return_pressure": round(back_pressure, 3),
            "flow_rate": round(flow, 1),
            "makeup_flow": round(makeup, 3),
            "outdoor_temperature": round(outdoor + 0.1 * noise.at(second + 4), 1),
            "heat_power": round(max(0.0, flow * _WATER * (supply - back)), 1),
        }


class RoomPoint:
    """A thermometer in a flat: 20 to 23 degrees in the season, following the weather outside it."""

    __slots__ = ("_key", "_noise")

    def __init__(self, device: Device, seed: int) -> None:
        self._key = key_of(seed, device.id)
        self._noise = Noise(self._key)

    def values(self, time: Milliseconds) -> Values:
        comfort = 20.3 + 2.4 * share(self._key, 1) + 0.4 * self._noise.smooth(time / (2 * HOUR))
        outdoor = outdoor_temperature(time)
        room = comfort if heating_season(time) else max(comfort - 2.5, 0.6 * comfort + 0.4 * (outdoor + 4))
        return {"room_temperature": round(room, 1), "outdoor_temperature": round(outdoor, 1)}
