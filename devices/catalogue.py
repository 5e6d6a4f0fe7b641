"""The property catalogue: canonical names, UCUM units, labels and physical ranges, read from `properties.yaml`.

One generated `Values` struct per family is the carrier of a reading's values everywhere (decode, rules, stores). The
catalogue is immutable after load; `load()` raises `ConfigError` naming the property and what was expected.
"""

from functools import cache
from pathlib import Path
from typing import Literal, cast

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.errors import ConfigError
from devices.model import Values


class Property(BaseModel):
    """One observable property; `unit` is UCUM, `range` is physical (inclusive), `values` lists the words of a state."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["number", "boolean", "state"] = "number"
    unit: str = ""
    zh: str
    en: str
    range: tuple[float, float] | None = None
    values: tuple[str, ...] = ()


class Family(BaseModel):
    """A class of devices that report the same properties; its name is the measurement in the telemetry store."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    zh: str
    en: str
    properties: tuple[str, ...]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    properties: dict[str, Property]
    shared: tuple[str, ...]
    families: dict[str, Family] = Field(min_length=1)


class Catalogue:
    """Immutable view of `properties.yaml`; iterate `families`, look up `properties`, get a family's `Values` class."""

    def __init__(self, document: _Document) -> None:
        self.properties = document.properties
        self.families = {
            name: family.model_copy(update={"properties": (*family.properties, *document.shared)})
            for name, family in document.families.items()
        }
        for name, prop in self.properties.items():
            if (prop.kind == "state") != name.endswith("_state") or (prop.kind == "state") != bool(prop.values):
                raise ConfigError(
                    f"property {name}: a state has the suffix _state and a list of values, nothing else has"
                )
            if prop.kind == "number" and prop.range is None:
                raise ConfigError(f"property {name}: a number needs a physical range")
        for name, family in self.families.items():
            if unknown := [p for p in family.properties if p not in self.properties]:
                raise ConfigError(f"family {name}: unknown properties {', '.join(unknown)}")
        self._classes = {name: self._define(name) for name in self.families}

    def _define(self, family: str) -> type[Values]:
        fields = [
            (name, str | None if self.properties[name].kind == "state" else float | None, None)
            for name in self.families[family].properties
        ]
        title = "".join(word.capitalize() for word in family.split("_"))
        return cast(
            type[Values],
            msgspec.defstruct(f"{title}Values", fields, bases=(Values,), gc=False, module=__name__),
        )

    def values_class(self, family: str) -> type[Values]:
        """The struct with one attribute per property of `family` (float, or str for states; None = not reported)."""
        return self._classes[family]


@cache
def load() -> Catalogue:
    """Read the shipped catalogue once per process."""
    text = Path(__file__).with_name("properties.yaml").read_text(encoding="utf-8")
    try:
        return Catalogue(_Document.model_validate(yaml.safe_load(text)))
    except ValidationError as error:
        raise ConfigError(f"properties.yaml: {error}") from error
