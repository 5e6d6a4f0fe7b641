"""Device profiles: what a device model reports and how to decode it, one YAML file per model, compiled once into
closures.

`load_profiles()` gives every shipped profile; a `CompiledProfile` decodes one JSON object into the family's `Values` (a
generated subclass, so that nothing is copied) and brings it into canonical units. Pure and synchronous; refuses by
`RejectedError`, never by another exception.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from devices.catalogue import Catalogue, Property
from devices.catalogue import load as load_catalogue
from devices.durations import milliseconds
from devices.errors import ConfigError, RejectedError
from devices.model import Values
from devices.reasons import Reason
from devices.units import conversion

# An IEEE double counts integers exactly up to here; beyond, a meter total would be silently rounded.
LARGEST_EXACT_INTEGER = 2**53

_Text = Annotated[str, BeforeValidator(str)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where a canonical property comes from: the payload's key and the unit it is given in (default: the canonical
    one).
    """

    from_: str = Field("", alias="from")
    unit: str | None = None


class JsonCodec(_Strict):
    """A JSON object, a list of them, or SenML JSON (RFC 8428)."""

    type: Literal["json"]


class Example(_Strict):
    """A payload and the values it must decode to: test, documentation and seed in one."""

    payload: str
    expect: dict[str, float | str]


class Profile(_Strict):
    """One document of `devices/profiles/*.yaml`."""

    profile: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9.-]*$")
    title: dict[Literal["zh", "en"], str]
    family: str
    codec: JsonCodec
    interval: _Text
    properties: dict[str, Source] = Field(min_length=1)
    facts: dict[str, float] = {}
    examples: tuple[Example, ...] = Field(min_length=1)


class Envelope(msgspec.Struct, gc=False):
    """Documents the reserved keys of a native payload; every generated wire struct has these attributes besides its
    properties.
    """

    t: int | float | str | None = None
    boot_id: str | int | None = None
    seq: int | None = None
    device: str | None = None


RESERVED = Envelope.__struct_fields__


class CompiledProfile:
    """A profile ready for the hot path.

    `decode(payload)` -> wire struct (raises `msgspec.MsgspecError`); `convert(values)` brings it to canonical units in
    place, drops what is outside its physical range and returns whether anything was dropped (raises `RejectedError`
    when nothing is left or an integer is beyond 2^53). `keys` are the payload keys it understands.
    """

    def __init__(self, profile: Profile, catalogue: Catalogue) -> None:
        if profile.family not in catalogue.families:
            expected = ", ".join(catalogue.families)
            raise ConfigError(f"profile {profile.profile}: family {profile.family!r}, expected one of {expected}")
        family = catalogue.families[profile.family]
        if unknown := [name for name in profile.properties if name not in family.properties]:
            raise ConfigError(
                f"profile {profile.profile}: {', '.join(unknown)} not among the properties of {profile.family}"
            )
        self.id = profile.profile
        self.family = profile.family
        self.title = profile.title
        self.facts = profile.facts
        self.interval = milliseconds(profile.interval)
        self.examples = profile.examples
        self.revision = blake2b(profile.model_dump_json().encode(), digest_size=6).hexdigest()
        self.keys: Mapping[str, str] = {(source.from_ or name): name for name, source in profile.properties.items()}
        if clash := set(self.keys) & set(RESERVED):
            raise ConfigError(f"profile {profile.profile}: payload keys {', '.join(sorted(clash))} are reserved")
        self.units = {
            name: source.unit or catalogue.properties[name].unit for name, source in profile.properties.items()
        }
        self.wire = self._define(catalogue)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(self.wire).decode
        self.convert = _compile_convert(profile, catalogue)

    def _define(self, catalogue: Catalogue) -> type[Values]:
        """The family's struct with this model's payload keys; what the model does not report can only be null."""
        base = catalogue.values_class(self.family)
        payload_key = {name: key for key, name in self.keys.items()}
        fields = [
            (name, _wire_type(catalogue.properties[name]) if name in payload_key else None, None)
            for name in base.__struct_fields__
        ]
        reserved = [(name, Envelope.__annotations__[name], None) for name in RESERVED]
        rename = {name: payload_key.get(name, f"not reported: {name}") for name in base.__struct_fields__}
        wire = msgspec.defstruct("Wire", [*fields, *reserved], bases=(base,), gc=False, rename=rename, module=__name__)
        return cast(type[Values], wire)

    def from_mapping(self, payload: Mapping[str, object]) -> Any:
        """The same from an already decoded mapping (SenML); raises `RejectedError` for a value of the wrong type."""
        try:
            return msgspec.convert(payload, self.wire)
        except msgspec.ValidationError as error:
            raise RejectedError(Reason.invalid_value, str(error)) from error


def _wire_type(prop: Property) -> Any:
    return {"number": float | None, "boolean": bool | float | None, "state": str | None}[prop.kind]


def _compile_convert(profile: Profile, catalogue: Catalogue) -> Callable[[Any], bool]:
    """Generate one straight-line function per profile: no loop, no look-up, no call per property."""
    lines = ["def convert(v):", "    dropped = None", "    empty = True"]
    constants: dict[str, object] = {"_outside": _outside, "_nothing_left": _nothing_left}
    for name, source in profile.properties.items():
        prop = catalogue.properties[name]
        lines += [f"    x = v.{name}", "    if x is not None:"]
        if prop.kind == "state":
            constants[f"_words_{name}"] = frozenset(prop.values)
            test = f"x in _words_{name}"
        elif prop.kind == "boolean":
            lines.append(f"        x = v.{name} = 1.0 if x else 0.0")
            test = ""
        else:
            factor, offset = conversion(source.unit or prop.unit, prop.unit)
            if (factor, offset) != (1.0, 0.0):
                lines.append(f"        x = v.{name} = x * {factor!r}" + (f" + {offset!r}" if offset else ""))
            low, high = prop.range or (0.0, 0.0)
            test = f"{low!r} <= x <= {high!r}"
        if test:
            drop = [f"v.{name} = None", f"dropped = _outside(dropped, {name!r}, x)"]
            lines += [
                f"        if {test}:",
                "            empty = False",
                "        else:",
                *(f"            {line}" for line in drop),
            ]
        else:
            lines.append("        empty = False")
    lines += ["    if empty:", "        _nothing_left(dropped)", "    return dropped is not None"]

    exec(compile("\n".join(lines), f"<profile {profile.profile}>", "exec"), constants)
    return constants["convert"]  # type: ignore[return-value]


def _outside(dropped: str | None, name: str, value: float | str) -> str:
    if isinstance(value, float) and abs(value) >= LARGEST_EXACT_INTEGER:
        raise RejectedError(Reason.invalid_value, f"{name} = {value!r}: a number beyond 2^53 cannot be kept exactly")
    text = f"{name} = {value!r}"[:120]
    return text if dropped is None else f"{dropped}, {text}"[:500]


def _nothing_left(dropped: str | None) -> None:
    if dropped:
        raise RejectedError(Reason.out_of_range, f"outside the physical range: {dropped}")
    raise RejectedError(Reason.no_values, "no property of the device's profile is present")


def parse_profile(text: str, name: str) -> Profile:
    """Read one YAML document. Raises `ConfigError` that names the file, the place and what was expected."""
    try:
        return Profile.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{name}: {place}: {first['msg']}") from error


@cache
def load_profiles() -> Mapping[str, CompiledProfile]:
    """Every shipped profile by its id, compiled once per process."""
    catalogue = load_catalogue()
    profiles: dict[str, CompiledProfile] = {}
    for path in sorted(Path(__file__).with_name("profiles").glob("*.yaml")):
        compiled = CompiledProfile(parse_profile(path.read_text(encoding="utf-8"), path.name), catalogue)
        if compiled.id in profiles:
            raise ConfigError(f"{path.name}: profile {compiled.id} is defined twice")
        profiles[compiled.id] = compiled
    return profiles


def match_profile(keys: Iterable[str], profiles: Mapping[str, CompiledProfile]) -> CompiledProfile | None:
    """The one profile that understands every key of a payload with the fewest keys to spare; None if none or more than
    one does.
    """
    wanted = set(keys) - set(RESERVED)
    fitting = sorted((len(p.keys), p.id) for p in profiles.values() if wanted and wanted <= set(p.keys))
    if not fitting or (len(fitting) > 1 and fitting[0][0] == fitting[1][0]):
        return None
    return profiles[fitting[0][1]]
