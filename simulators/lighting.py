"""Waveforms of public lighting: lamps that follow the sun, and the cabinet that feeds their circuit.

A circuit goes on some minutes after sunset and off some minutes before sunrise; between 23:00 and 05:00 lamps are
dimmed to 60 %. Energy is the exact integral of rated power over these hours. Pure functions of time and incidents;
raise nothing.
"""

from collections.abc import Sequence
from datetime import date
from functools import cache

from devices.model import Device, Milliseconds
from simulators.chance import Noise, key_of, share
from simulators.climate import CHINA, DAY, FIRST_NIGHT, HOUR, night, outdoor_temperature
from simulators.incidents import Incident
from simulators.readings import Values

_MINUTE = 60_000
_DIMMED = 0.6
_FIRST_DAY = (FIRST_NIGHT - date(1970, 1, 1)).days
_DIM_FROM, _DIM_UNTIL = 23 * HOUR - CHINA, 29 * HOUR - CHINA  # within the UTC day that holds the night


def switching(district: str, day: int, delay: Milliseconds) -> tuple[Milliseconds, Milliseconds]:
    """(on, off) of a circuit in the night of UTC day `day`; `delay` shifts both, as relays differ."""
    dusk, dawn = night(district, day)
    return dusk + 8 * _MINUTE + delay, dawn - 12 * _MINUTE + delay


def _burnt(on: Milliseconds, off: Milliseconds, midnight: Milliseconds, time: Milliseconds) -> float:
    """Hours at full power that one night's burning until `time` is worth."""
    until = min(time, off)
    if until <= on:
        return 0.0
    dimmed = min(until, midnight + _DIM_UNTIL) - max(on, midnight + _DIM_FROM)
    return (until - on - max(0, dimmed) * (1 - _DIMMED)) / HOUR


@cache
def _nights(district: str) -> list[float]:
    """Full-power hours burnt before each day since `FIRST_NIGHT`; grows on demand."""
    return [0.0]


def burning_hours(district: str, delay: Milliseconds, time: Milliseconds) -> float:
    """Full-power hours since `FIRST_NIGHT` at `time`."""
    day = time // DAY
    before = _nights(district)
    while len(before) <= day - _FIRST_DAY:
        earlier = _FIRST_DAY + len(before) - 1
        on, off = switching(district, earlier, 0)
        before.append(before[-1] + _burnt(on, off, earlier * DAY, off))
    on, off = switching(district, day, delay)
    # The delay moves a night along the clock, not its length; only the dimmed part must move with it.
    return before[day - _FIRST_DAY] + _burnt(on, off, day * DAY + delay, time)


class Lamp:
    """A lamp with `facts.rated_power` in W; one that is out stays commanded on, one burning by day commanded off."""

    __slots__ = ("_delay", "_district", "_incidents", "_key", "_noise", "_rated")

    def __init__(self, device: Device, seed: int, incidents: Sequence[Incident]) -> None:
        self._key = key_of(seed, device.id)
        self._noise = Noise(self._key)
        self._incidents = incidents
        self._district = device.district
        self._rated = device.facts.get("rated_power", 120.0)
        self._delay = circuit_delay(seed, device.zone)

    def commanded(self, time: Milliseconds) -> bool:
        on, off = switching(self._district, time // DAY, self._delay)
        return on <= time < off

    def level(self, time: Milliseconds) -> float:
        """The commanded share of rated power: 0, 0.6 or 1."""
        if not self.commanded(time):
            return 0.0
        return _DIMMED if _DIM_FROM <= time % DAY - self._delay < _DIM_UNTIL else 1.0

    def power(self, time: Milliseconds) -> float:
        """Active power in W."""
        for incident in self._incidents:
            if incident.begins <= time < incident.ends:
                if incident.kind == "lamp_burning_by_day" or self.commanded(time):
                    return self._rated * incident.magnitude
                return 0.3
        level = self.level(time)
        return self._rated * level * (1 + 0.012 * self._noise.at(time // 5000)) if level else 0.3

    def energy(self, time: Milliseconds) -> float:
        """kW.h since the first night; a lamp that is out counts nothing, one that burns by day counts on."""
        hours = burning_hours(self._district, self._delay, time)
        for incident in self._incidents:
            if time > incident.begins:
                until = min(time, incident.ends)
                normal = burning_hours(self._district, self._delay, until)
                normal -= burning_hours(self._district, self._delay, incident.begins)
                if incident.kind == "lamp_out":
                    hours -= normal * (1 - incident.magnitude)
                else:
                    hours += max(0.0, incident.overlap(time) - normal) * incident.magnitude
        return self._rated / 1000 * hours

    def values(self, time: Milliseconds) -> Values:
        power, level = self.power(time), self.level(time)
        burning = power > 0.1 * self._rated
        voltage = mains_voltage(self._noise, self._key, time)
        values: Values = {
            "lamp_commanded": level > 0,
            "lamp_state": "on" if burning else "fault" if level else "off",
            "dim_level": round(100 * level),
            "power": round(power, 1),
            "energy_total": round(self.energy(time), 3),
            "voltage": round(voltage, 1),
            "current": round(power / (voltage * 0.95), 3),
            "leakage_current": round(2 + 4 * share(self._key, 3) + 0.3 * self._noise.smooth(time / HOUR), 1),
        }
        if burning:
            values["power_factor"] = round(0.95 + 0.008 * self._noise.smooth(time / HOUR + 0.5), 3)
        return values


class Cabinet:
    """The feed of a circuit: phase values and the sum of its lamps, which hang on the three phases in turn."""

    __slots__ = ("_delay", "_district", "_key", "_lamps", "_noise")

    def __init__(self, device: Device, seed: int, lamps: Sequence[Lamp]) -> None:
        self._key = key_of(seed, device.id)
        self._noise = Noise(self._key)
        self._district = device.district
        self._lamps = lamps
        self._delay = circuit_delay(seed, device.zone)

    def values(self, time: Milliseconds) -> Values:
        on, off = switching(self._district, time // DAY, self._delay)
        voltage = mains_voltage(self._noise, self._key, time)
        powers = [lamp.power(time) for lamp in self._lamps]
        power = sum(powers) + 18.0
        values: Values = {
            "contactor_commanded": on <= time < off,
            "door_open": False,
            "power": round(power, 1),
            "energy_total": round(sum(lamp.energy(time) for lamp in self._lamps), 3),
            "leakage_current": round(6 + 6 * share(self._key, 3) + 0.5 * self._noise.smooth(time / HOUR), 1),
            "enclosure_temperature": round(outdoor_temperature(time) + 6.0, 1),
        }
        for phase, name in enumerate("abc"):
            phase_voltage = voltage + 0.8 * self._noise.at(time // 1000 + phase * 7919)
            values[f"voltage_{name}"] = round(phase_voltage, 1)
            values[f"current_{name}"] = round((sum(powers[phase::3]) + 6.0) / (phase_voltage * 0.95), 3)
        if on <= time < off:
            values["power_factor"] = round(0.94 + 0.008 * self._noise.smooth(time / HOUR + 0.5), 3)
        return values


def mains_voltage(noise: Noise, key: int, time: Milliseconds) -> float:
    """Volts: 220 nominal, a few volts of place and hour; well inside 198-235."""
    return 221 + 5 * (share(key, 2) - 0.5) + 2.0 * noise.smooth(time / HOUR) + 0.5 * noise.at(time // 1000)


def circuit_delay(seed: int, zone: str) -> Milliseconds:
    """Up to 4 minutes, the same for a cabinet and its lamps."""
    return int(4 * _MINUTE * share(key_of(seed, zone)))
