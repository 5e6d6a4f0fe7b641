"""From an inventory to behaviour: one waveform per device, wired to its neighbours and its incidents.

Receives the city and the schedule, gives a `Waveform` per device id. Owns nothing afterwards; raises `KeyError` only
for a family that the simulator does not know, which is a fault in the city's builder.
"""

from collections.abc import Callable, Sequence

from devices.model import Device
from simulators.city import City
from simulators.drainage import Manhole
from simulators.heating import HeatStation, RoomPoint
from simulators.incidents import Incident
from simulators.lighting import Cabinet, Lamp
from simulators.readings import Waveform
from simulators.water import SupplySensor, WaterMeter

Affecting = Callable[[str], Sequence[Incident]]


def untroubled(device: str) -> Sequence[Incident]:
    """A city in which nothing happens."""
    return ()


def build_waveforms(city: City, affecting: Affecting = untroubled) -> dict[str, Waveform]:
    """A waveform for every device; `affecting(id)` gives the live list of a device's incidents."""
    seed = city.seed
    waveforms: dict[str, Waveform] = {}
    meters: dict[str, list[WaterMeter]] = {}
    lamps: dict[str, list[Lamp]] = {}
    for device in city.devices:
        if device.family == "water_meter":
            meter = WaterMeter(device, seed, affecting(device.id))
            meters.setdefault(device.zone, []).append(meter)
            waveforms[device.id] = meter
        elif device.family == "streetlight":
            lamp = Lamp(device, seed, affecting(device.id))
            lamps.setdefault(device.zone, []).append(lamp)
            waveforms[device.id] = lamp

    def of_others(device: Device) -> Waveform:
        match device.family:
            case "lighting_cabinet":
                return Cabinet(device, seed, lamps.get(device.zone, []))
            case "pipe_supply":
                return SupplySensor(device, seed, affecting(device.id), meters.get(device.zone, []))
            case "pipe_drainage":
                return Manhole(device, seed, affecting(device.id))
            case "pipe_heating":
                return (
                    RoomPoint(device, seed)
                    if "indoor" in device.facts
                    else HeatStation(device, seed, affecting(device.id))
                )
        raise KeyError(device.family)

    for device in city.devices:
        if device.id not in waveforms:
            waveforms[device.id] = of_others(device)
    return waveforms
