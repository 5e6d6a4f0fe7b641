"""Unit conversion, durations and the catalogue they serve."""

import pytest

from devices.catalogue import load
from devices.durations import milliseconds
from devices.errors import ConfigError
from devices.model import reported
from devices.units import conversion


@pytest.mark.parametrize(
    ("value", "unit", "canonical", "expected"),
    [
        (300, "L/h", "m3/h", 0.3),
        (1, "L/s", "m3/h", 3.6),
        (40, "m[H2O]", "MPa", 0.392266),
        (5, "bar", "MPa", 0.5),
        (300, "K", "Cel", 26.85),
        (212, "[degF]", "Cel", 100),
        (1, "W", "kW", 0.001),
        (15, "mm", "cm", 1.5),
        (1, "mg/L", "mg/m3", 1000),
    ],
)
def test_values_convert_to_canonical_units(value: float, unit: str, canonical: str, expected: float) -> None:
    factor, offset = conversion(unit, canonical)
    assert value * factor + offset == pytest.approx(expected)


@pytest.mark.parametrize(("unit", "canonical"), [("Cel", "m3"), ("furlong", "m"), ("V", "%")])
def test_a_unit_of_another_quantity_is_refused(unit: str, canonical: str) -> None:
    with pytest.raises(ConfigError):
        conversion(unit, canonical)


@pytest.mark.parametrize(("text", "expected"), [("90s", 90_000), ("1.5h", 5_400_000), ("7d", 604_800_000), ("5ms", 5)])
def test_durations_are_milliseconds(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "s", "-5s", "1 year", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no duration"):
        milliseconds(text)


def test_every_family_has_its_own_struct_of_its_properties() -> None:
    catalogue = load()
    for family, definition in catalogue.families.items():
        values = catalogue.values_class(family)()
        assert values.__struct_fields__ == definition.properties
        assert reported(values) == {}


def test_every_property_is_labelled_in_both_languages_and_used() -> None:
    catalogue = load()
    used = {name for family in catalogue.families.values() for name in family.properties}
    assert used == set(catalogue.properties)
    assert all(prop.zh and prop.en for prop in catalogue.properties.values())
