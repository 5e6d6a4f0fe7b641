"""Every shipped device profile: its examples decode to what they say, its names and units are the catalogue's."""

from pathlib import Path

import pytest

from devices import profile as profiles
from devices.catalogue import load as load_catalogue
from devices.errors import ConfigError, RejectedError
from devices.model import Device, reported
from devices.profile import CompiledProfile, load_profiles, parse_profile
from ingest.decode import Decoder
from ingest.device_time import DeviceClock
from ingest.routing import Router
from storage.journal import Message
from storage.registry import RegistryView

_SHIPPED = load_profiles()
_FILES = sorted(Path(profiles.__file__).with_name("profiles").glob("*.yaml"))


def decode(compiled: CompiledProfile, payload: str) -> dict[str, float | str]:
    """The values of a payload's first time, through the same path as a message from the broker."""
    device = Device(
        id="d-1", family=compiled.family, profile=compiled.id, district="230102", zone="z", gateway="g", interval=1
    )
    router = Router({compiled.id: compiled})
    router.set_registry(RegistryView(1, {"d-1": device}))
    message = Message(
        "native", "songhua/v1/230102/g/d-1/up", payload.encode(), 1, False, False, 1, 1, 1_767_225_600_000
    )
    batch = Decoder(router, DeviceClock()).decode(1, [message])
    assert not batch.rejections, batch.rejections
    return reported(batch.readings[0].values)


@pytest.mark.parametrize("compiled", _SHIPPED.values(), ids=_SHIPPED.keys())
def test_every_example_decodes_to_what_it_says(compiled: CompiledProfile) -> None:
    for example in compiled.examples:
        assert decode(compiled, example.payload) == pytest.approx(example.expect)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_a_file_is_named_after_its_profile(path: Path) -> None:
    document = parse_profile(path.read_text(encoding="utf-8"), path.name)
    assert path.stem == document.profile.replace("/", "-")
    assert set(document.title) == {"zh", "en"}


def test_no_two_profiles_understand_the_same_keys() -> None:
    keys = [tuple(sorted(compiled.keys)) for compiled in _SHIPPED.values()]
    assert len(set(keys)) == len(keys)


_TEMPLATE = """
profile: acme/wm-20
title: {zh: 示例水表, en: Example water meter}
family: water_meter
codec: {type: json}
interval: 1h
properties:
  volume_total: {from: totalM3}
  flow_rate: {from: flow, unit: L/h}
facts: {q3: 2.5}
examples:
  - payload: '{"t":1767225600000,"totalM3":12.5,"flow":300}'
    expect: {volume_total: 12.5, flow_rate: 0.3}
"""


def test_a_model_with_its_own_names_and_units_is_one_file() -> None:
    compiled = CompiledProfile(parse_profile(_TEMPLATE, "acme.yaml"), load_catalogue())
    assert decode(compiled, compiled.examples[0].payload) == pytest.approx({"volume_total": 12.5, "flow_rate": 0.3})
    with pytest.raises(RejectedError):  # a canonical name that this model does not use means something else
        compiled.convert(compiled.decode(b'{"pressure":null}'))


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("family: water_meters", "family: water_meter\n", "expected one of"),
        ("unit: furlong", "unit: L/h", "expected one of m3/h"),
        ("interval: soon", "interval: 1h", "no duration"),
        ("volume_totals:", "volume_total:", "not among the properties"),
        ("from: seq", "from: flow", "reserved"),
        ("colour: red\nfamily:", "family:", "colour"),
    ],
)
def test_a_wrong_profile_says_what_was_expected(wrong: str, right: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CompiledProfile(parse_profile(_TEMPLATE.replace(right.strip(), wrong), "acme.yaml"), load_catalogue())
