"""The map of a recording: which column is which property of which device, written by a person in YAML.

`load_map` reads and checks it against the property catalogue; `inventory` gives what has to be registered. Pure apart
from reading the file; raises `ConfigError` with file, line, field and what was expected.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from devices.catalogue import load as load_catalogue
from devices.durations import milliseconds
from devices.errors import ConfigError
from devices.model import Device, Gateway, Milliseconds, Zone
from devices.units import conversion

_T = TypeVar("_T")
_IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeColumn(_Strict):
    """Where the phenomenon time is. `format`: iso | epoch_s | epoch_ms | a strptime pattern; `timezone` for times
    without one.
    """

    column: str
    format: str = "iso"
    timezone: str = "Asia/Shanghai"

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("expected the name of a time zone, such as Asia/Shanghai") from None
        return name


class MapZone(_Strict):
    id: str = Field(pattern=_IDENTIFIER)
    kind: Literal["district", "dma", "circuit", "loop", "catchment"]
    district: str = Field(pattern=r"^\d{6}$")
    parent: str | None = None
    zh: str = ""
    en: str = ""


class MapGateway(_Strict):
    id: str = Field(pattern=_IDENTIFIER)
    district: str = Field(pattern=r"^\d{6}$")
    zh: str = ""
    en: str = ""
    lon: float | None = None
    lat: float | None = None


class Series(_Strict):
    """One column. Series with the same `device` are properties of one device and share one reading a row."""

    column: str
    device: str = Field(pattern=_IDENTIFIER)
    family: str
    profile: str
    property: str
    unit: str | None = None
    zone: str
    district: str = Field(pattern=r"^\d{6}$")
    gateway: str
    facts: dict[str, float] = {}
    zh: str = ""
    en: str = ""
    lon: float | None = None
    lat: float | None = None

    @model_validator(mode="after")
    def _in_catalogue(self) -> "Series":
        catalogue = load_catalogue()
        family = catalogue.families.get(self.family)
        if family is None:
            raise ValueError(f"family: expected one of {', '.join(catalogue.families)}, not {self.family!r}")
        if self.property not in family.properties:
            raise ValueError(f"property: {self.family} has {', '.join(family.properties)}, not {self.property!r}")
        if self.unit is not None:
            try:
                conversion(self.unit, catalogue.properties[self.property].unit)
            except ConfigError as error:
                raise ValueError(f"unit: {error}") from None
        return self


class RecordingMap(_Strict):
    """One document of `simulators/maps/*.yaml`; `defaults` are completed by, or overridden in, each series."""

    time: TimeColumn
    interval: Milliseconds
    zones: tuple[MapZone, ...] = Field(min_length=1)
    gateways: tuple[MapGateway, ...] = Field(min_length=1)
    defaults: dict[str, Any] = {}
    series: tuple[Series, ...] = Field(min_length=1)

    @field_validator("interval", mode="before")
    @classmethod
    def _duration(cls, text: object) -> Milliseconds:
        try:
            return milliseconds(str(text))
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, document: Any) -> Any:
        if not isinstance(document, dict) or not isinstance(document.get("series"), list):
            return document
        defaults = document.get("defaults") or {}
        return document | {
            "series": [defaults | each if isinstance(each, dict) else each for each in document["series"]]
        }

    @model_validator(mode="after")
    def _refers(self) -> "RecordingMap":
        zones, gateways = {zone.id for zone in self.zones}, {gateway.id for gateway in self.gateways}
        columns: set[str] = set()
        devices: dict[str, Series] = {}
        for series in self.series:
            where = f"series of column {series.column!r}"
            if series.zone not in zones:
                raise ValueError(f"{where}: zone {series.zone!r} is not among zones")
            if series.gateway not in gateways:
                raise ValueError(f"{where}: gateway {series.gateway!r} is not among gateways")
            if series.column in columns:
                raise ValueError(f"{where}: the column is mapped twice")
            columns.add(series.column)
            first = devices.setdefault(series.device, series)
            for name in ("family", "profile", "zone", "district", "gateway"):
                if getattr(first, name) != getattr(series, name):
                    raise ValueError(f"{where}: {name} differs from another series of device {series.device!r}")
        return self


class Inventory(NamedTuple):
    """What a recording needs registered."""

    zones: list[Zone]
    gateways: list[Gateway]
    devices: list[Device]


def load_map(path: Path) -> RecordingMap:
    """Read and check a map. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text)
        document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path.name}: cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path.name}, line {line}: not YAML: {error.problem}") from error
    try:
        return RecordingMap.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path.name}, line {_line(tree, first['loc'])}: {place}: {message}") from error


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of `location` that the document has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _first(values: Iterable[_T | None], default: _T) -> _T:
    return next((value for value in values if value not in (None, "")), default)


def inventory(path: Path) -> Inventory:
    """Zones, gateways and devices of the map at `path`, for registration. Raises `ConfigError`."""
    recording = load_map(path)
    devices: dict[str, list[Series]] = {}
    for series in recording.series:
        devices.setdefault(series.device, []).append(series)
    return Inventory(
        [
            Zone(
                id=zone.id, kind=zone.kind, district=zone.district, parent=zone.parent, name_zh=zone.zh, name_en=zone.en
            )
            for zone in recording.zones
        ],
        [
            Gateway(id=g.id, district=g.district, name_zh=g.zh, name_en=g.en, lon=g.lon, lat=g.lat)
            for g in recording.gateways
        ],
        [
            Device(
                id=device,
                family=group[0].family,
                profile=group[0].profile,
                district=group[0].district,
                zone=group[0].zone,
                gateway=group[0].gateway,
                interval=recording.interval,
                facts={name: value for series in group for name, value in series.facts.items()},
                name_zh=_first((series.zh for series in group), ""),
                name_en=_first((series.en for series in group), ""),
                lon=_first((series.lon for series in group), None),
                lat=_first((series.lat for series in group), None),
            )
            for device, group in devices.items()
        ],
    )
