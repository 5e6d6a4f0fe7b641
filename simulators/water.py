"""Waveforms of water: household and public meters, supply pressure points and DMA inflow meters.

An inflow meter reports the sum of its zone's meters plus a constant background leak, so that a water balance closes.
Canonical units (m3, m3/h, MPa). Pure functions of time and incidents; raise nothing.
"""

from collections.abc import Sequence

from devices.model import Device, Milliseconds
from simulators.chance import Noise, key_of, share
from simulators.climate import DAY, HOUR, ground_temperature
from simulators.demand import Register
from simulators.incidents import Incident
from simulators.readings import Values

_SAG = 8 * 60_000  # ms in which a failing pump lets the pressure sag; a burst would be faster
_BATTERY_LIFE = 8 * 365 * DAY
_FIRST_BATTERY = 1_735_689_600_000  # 2025-01-01


def battery_voltage(key: int, time: Milliseconds) -> float:
    """A lithium cell: 3.65 V when new, falling slowly; each device is at another age."""
    age = (time - _FIRST_BATTERY) / _BATTERY_LIFE % 1 * 0.5 + share(key, 90) * 0.5
    return round(3.66 - 0.12 * age, 2)


def signal_power(key: int, noise: Noise, time: Milliseconds) -> int:
    """RSRP in dBm: a level of the place, some fading."""
    return int(-78 - 22 * share(key, 91) + 2 * noise.at(time // 60_000))


class WaterMeter:
    """A meter with `facts.q3`: about 16 separate draws a day at home, opening hours only in a public building."""

    __slots__ = ("_incidents", "_key", "_noise", "_register")

    def __init__(self, device: Device, seed: int, incidents: Sequence[Incident]) -> None:
        self._key = key_of(seed, device.id)
        self._noise = Noise(self._key)
        self._incidents = incidents
        public = device.facts.get("q3", 2.5) > 10
        daily = 3 + 5 * share(self._key, 1) if public else 0.18 + 0.3 * share(self._key, 1)
        self._register = Register(self._key, "public" if public else "home", daily, round(400 * share(self._key, 2), 3))

    def read(self, time: Milliseconds) -> tuple[float, float]:
        """(flow in m3/h, total in m3), incidents included."""
        flow, total = self._register.read(time)
        for incident in self._incidents:
            total += incident.magnitude * incident.overlap(time)
            if incident.begins <= time < incident.ends:
                flow += incident.magnitude
        return flow, total

    def values(self, time: Milliseconds) -> Values:
        flow, total = self.read(time)
        return {
            "volume_total": round(total, 3),
            "flow_rate": round(flow, 3),
            "water_temperature": round(ground_temperature(time) + 2.5 + 0.2 * self._noise.smooth(time / HOUR), 1),
            "valve_state": "open",
            "tamper": False,
            "battery_voltage": battery_voltage(self._key, time),
            "rsrp": signal_power(self._key, self._noise, time),
        }


class SupplySensor:
    """A pressure point; with `facts.inflow` also the DMA's inflow meter. `meters` are the zone's water meters."""

    __slots__ = ("_design", "_incidents", "_inflow", "_key", "_leak", "_meters", "_noise")

    def __init__(self, device: Device, seed: int, incidents: Sequence[Incident], meters: Sequence[WaterMeter]) -> None:
        self._key = key_of(seed, device.id)
        self._noise = Noise(self._key)
        self._incidents = incidents
        self._design = device.facts.get("design_pressure", 0.35)
        self._inflow = "inflow" in device.facts
        self._meters = meters
        self._leak = (0.001 + 0.001 * share(self._key, 1)) * len(meters)  # 1-2 L/h a connection

    def values(self, time: Milliseconds) -> Values:
        # Pressure sags by some 10 % when the town draws most.
        pressure = self._design * (1.02 - 0.10 * _town_demand(time)) + 0.002 * self._noise.at(time // 1000)
        for incident in self._incidents:
            pressure += (incident.magnitude - pressure) * incident.strength(time, _SAG)
        values: Values = {
            "pressure": round(pressure, 4),
            "free_chlorine": round(0.42 + 0.06 * self._noise.smooth(time / (3 * HOUR)), 2),
            "turbidity": round(0.22 + 0.04 * self._noise.smooth(time / (2 * HOUR) + 0.5), 2),
            "water_temperature": round(ground_temperature(time), 1),
            "battery_voltage": battery_voltage(self._key, time),
            "rsrp": signal_power(self._key, self._noise, time),
        }
        if self._inflow:
            flow, total = self._leak, self._leak * (time - _FIRST_BATTERY) / HOUR
            for meter in self._meters:
                meter_flow, meter_total = meter.read(time)
                flow += meter_flow
                total += meter_total
            values["flow_rate"] = round(flow, 3)
            values["volume_total"] = round(total, 3)
        return values


class _TownDemand:
    """The town's draw as a share of its mean hour, about 0.3 to 1.6; one for all, so that neighbours sag together."""

    __slots__ = ("_register",)

    def __init__(self) -> None:
        self._register = Register(key_of("town"), "sewer", 24.0)

    def __call__(self, time: Milliseconds) -> float:
        return self._register.read(time)[0]


_town_demand = _TownDemand()
