"""Unit conversion between UCUM units of one kind of quantity: value_canonical = value * factor + offset.

The table is closed: a profile that names a unit outside it is refused at load with the units that would have been
accepted.
"""

from devices.errors import ConfigError

# kind of quantity -> unit -> (factor, offset) to the first unit of the kind
_KINDS: dict[str, dict[str, tuple[float, float]]] = {
    "volume": {"m3": (1, 0), "L": (1e-3, 0), "dm3": (1e-3, 0), "hL": (0.1, 0)},
    "volume flow": {
        "m3/h": (1, 0),
        "L/h": (1e-3, 0),
        "L/min": (0.06, 0),
        "L/s": (3.6, 0),
        "m3/s": (3600, 0),
        "m3/d": (1 / 24, 0),
    },
    "pressure": {
        "MPa": (1, 0),
        "kPa": (1e-3, 0),
        "Pa": (1e-6, 0),
        "bar": (0.1, 0),
        "mbar": (1e-4, 0),
        "m[H2O]": (0.00980665, 0),
    },
    "temperature": {"Cel": (1, 0), "K": (1, -273.15), "[degF]": (5 / 9, -160 / 9)},
    "voltage": {"V": (1, 0), "mV": (1e-3, 0), "kV": (1e3, 0)},
    "current": {"A": (1, 0), "mA": (1e-3, 0)},
    "power": {"W": (1, 0), "kW": (1e3, 0), "MW": (1e6, 0)},
    "energy": {"kW.h": (1, 0), "W.h": (1e-3, 0), "MW.h": (1e3, 0), "J": (1 / 3.6e6, 0), "GJ": (1e9 / 3.6e6, 0)},
    "length": {"m": (1, 0), "cm": (1e-2, 0), "mm": (1e-3, 0)},
    "speed": {"m/s": (1, 0), "cm/s": (1e-2, 0), "km/h": (1 / 3.6, 0)},
    "ratio": {"1": (1, 0), "%": (1e-2, 0)},
    "mass concentration": {"mg/L": (1, 0), "mg/m3": (1e-3, 0), "ug/L": (1e-3, 0), "g/m3": (1, 0)},
    "angle": {"deg": (1, 0), "rad": (57.29577951308232, 0)},
}


def conversion(unit: str, canonical: str) -> tuple[float, float]:
    """(factor, offset) from `unit` to `canonical`. Raises `ConfigError` naming what would have been accepted."""
    if unit == canonical:
        return 1.0, 0.0
    for units in _KINDS.values():
        if canonical in units:
            if unit not in units:
                raise ConfigError(f"unit {unit!r} cannot become {canonical!r}; expected one of {', '.join(units)}")
            factor, offset = units[unit]
            target_factor, target_offset = units[canonical]
            return factor / target_factor, (offset - target_offset) / target_factor
    raise ConfigError(f"unit {unit!r} given where only {canonical!r} is known")
