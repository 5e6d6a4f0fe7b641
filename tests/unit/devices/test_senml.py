"""SenML JSON as RFC 8428 describes it, with the examples of its section 5."""

import json

import pytest

from devices import senml
from devices.errors import RejectedError

NOW = 1_767_225_600_000


def test_a_single_record_without_time_takes_the_time_of_its_arrival() -> None:
    pack = [{"n": "urn:dev:ow:10e2073a01080063", "u": "Cel", "v": 23.1}]
    assert senml.resolve(pack, NOW) == [(None, {"10e2073a01080063": (23.1, "Cel")})]


def test_base_fields_hold_for_the_records_behind_them() -> None:
    pack = [
        {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1.276020076001e9, "bu": "A", "n": "voltage", "u": "V", "v": 120.1},
        {"n": "current", "t": -5, "v": 1.2},
        {"n": "current", "t": -4, "v": 1.3},
    ]
    assert senml.resolve(pack, NOW) == [
        (1276020076001, {"voltage": (120.1, "V")}),
        (1276020071001, {"current": (1.2, "A")}),
        (1276020072001, {"current": (1.3, "A")}),
    ]


def test_small_times_are_relative_to_now() -> None:
    assert senml.resolve([{"n": "level", "v": 1, "t": -10}], NOW)[0][0] == NOW - 10_000


def test_base_value_is_added() -> None:
    assert senml.resolve([{"bn": "d/", "bv": 20}, {"n": "t", "v": 3.5}], NOW) == [(None, {"t": (23.5, None)})]


def test_text_and_booleans_are_values_too() -> None:
    pack = [{"bn": "d:", "n": "valve_state", "vs": "open"}, {"n": "tamper", "vb": False}]
    assert senml.resolve(pack, NOW) == [(None, {"valve_state": ("open", None), "tamper": (False, None)})]


@pytest.mark.parametrize(
    "pack",
    [
        "[1]",
        '[{"n":"x"}]',
        '[{"bn":"","v":1}]',
        '[{"n":"x","v":"1","bv":2}]',
        '[{"n":"x","v":1,"t":"now"}]',
        '[{"bn":7,"v":1}]',
    ],
)
def test_what_is_no_pack_is_refused(pack: str) -> None:
    with pytest.raises(RejectedError):
        senml.resolve(json.loads(pack), NOW)


def test_a_list_of_native_objects_is_not_taken_for_senml() -> None:
    assert not senml.is_pack([{"t": 1, "flow_rate": 2}])
    assert not senml.is_pack([])
    assert senml.is_pack([{"n": "flow_rate", "v": 2}])
