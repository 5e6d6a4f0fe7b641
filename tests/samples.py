"""Devices and readings for tests: short to write, real types."""

from typing import Any

from devices.catalogue import load
from devices.model import Device, Milliseconds, Reading

HOUR: Milliseconds = 3_600_000
DAY: Milliseconds = 24 * HOUR
NEW_YEAR: Milliseconds = 1_767_225_600_000  # 2026-01-01T00:00Z, a Thursday


def device(
    name: str = "meter-1", family: str = "water_meter", *, district: str = "230102", zone: str = "dma-1"
) -> Device:
    """A device whose profile need not exist."""
    return Device(
        id=name, family=family, profile="test/any", district=district, zone=zone, gateway="gw-1", interval=60_000
    )


def reading(of: Device, time: Milliseconds, *, gateway: str = "gw-1", quality: str = "ok", **values: Any) -> Reading:
    """A reading of `of`; values are not checked, so that a test can report nonsense."""
    reported = load().values_class(of.family)(**values)
    return Reading(device=of, time=time, values=reported, received_at=time, gateway=gateway, quality=quality)
