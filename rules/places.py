"""Where an alarm belongs: subject, family, district, zone, gateway and position, copied into it when it is raised."""

from dataclasses import dataclass

from devices.model import Gateway, Zone
from rules.model import SubjectKind
from rules.subjects import DeviceSubject


@dataclass(frozen=True, slots=True)
class Place:
    """The columns of an alarm that say where it is; position as registered, with its coordinate reference system."""

    kind: SubjectKind
    id: str
    family: str = ""
    district: str = ""
    zone: str = ""
    gateway: str = ""
    name_zh: str = ""
    name_en: str = ""
    lon: float | None = None
    lat: float | None = None
    crs: str | None = None


def of_device(subject: DeviceSubject) -> Place:
    """A device, with the gateway that heard it last."""
    device = subject.device
    return Place(
        "device",
        device.id,
        device.family,
        device.district,
        device.zone,
        subject.gateway,
        device.name_zh,
        device.name_en,
        device.lon,
        device.lat,
        device.crs if device.lon is not None else None,
    )


def of_zone(zone: Zone, family: str) -> Place:
    """A zone, for a rule over its members of `family`."""
    return Place("zone", zone.id, family, zone.district, zone.id, "", zone.name_zh, zone.name_en)


def of_gateway(identity: str, district: str, known: Gateway | None) -> Place:
    """A gateway, as registered or (where it is not) as its status topic names it."""
    if known is None:
        return Place("gateway", identity, district=district, gateway=identity)
    crs = known.crs if known.lon is not None else None
    names = (known.name_zh, known.name_en)
    return Place("gateway", identity, "", known.district, "", identity, *names, known.lon, known.lat, crs)
