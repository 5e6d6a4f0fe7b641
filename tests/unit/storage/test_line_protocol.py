"""Line protocol: read back by a parser that follows InfluxDB's own scanner, whatever ids and values contain."""

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devices.model import Reading, reported
from devices.profile import load_profiles
from storage.line_protocol import LineEncoder, mark_line
from storage.points import TIME_LIMIT
from storage.telemetry import AlarmMark
from tests.samples import NEW_YEAR, device, reading

Line = tuple[str, dict[str, str], dict[str, float | str], int]

_TRICKY = st.text(st.sampled_from(list(" ,=\"'\\\n\r\t#éa1松🚰\u2028\x00\x7f\ud800")), max_size=8)
_NUMBERS = st.floats() | st.integers(-(2**60), 2**60) | st.booleans() | _TRICKY


def parse(body: bytes) -> list[Line]:
    """Lines as InfluxDB 1.x reads them: a separator counts unless the character before it is a backslash."""
    assert body.endswith(b"\n")
    return [_parse_line(line) for line in body.decode().split("\n")[:-1]]


def _parse_line(line: str) -> Line:
    key, rest = _cut(line, " ")
    fields, time = _cut(rest, " ", quotes=True)
    measurement, tags = _cut(key, ",")
    pairs = [_cut(tag, "=") for tag in _split(tags, ",")]
    values = [_cut(field, "=") for field in _split(fields, ",", quotes=True)]
    return (
        measurement,
        {name: value.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ") for name, value in pairs},
        {name: _value(value) for name, value in values},
        int(time),
    )


def _cut(text: str, separator: str, *, quotes: bool = False) -> tuple[str, str]:
    first = _split(text, separator, quotes=quotes)[0]
    return first, text[len(first) + 1 :]


def _split(text: str, separator: str, *, quotes: bool = False) -> list[str]:
    parts, quoted, start, index = [], False, 0, 0
    while index < len(text):
        if quotes and quoted and text[index] == "\\":
            index += 1
        elif quotes and text[index] == '"':
            quoted = not quoted
        elif text[index] == separator and not quoted and text[index - 1 : index] != "\\":
            parts.append(text[start:index])
            start = index + 1
        index += 1
    return [*parts, text[start:]]


def _value(text: str) -> float | str:
    if text.startswith('"'):
        assert text.endswith('"')
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return float(text)


@settings(deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": _TRICKY,
                "district": _TRICKY,
                "zone": _TRICKY,
                "gateway": _TRICKY,
                "quality": st.sampled_from(["ok", "clock", "clock,range"]),
                "time": st.integers(-2, 2**63),
                "flow_rate": st.none() | _NUMBERS,
                "pressure": st.none() | st.floats(-1, 1),
                "valve_state": st.none() | st.sampled_from(["open", "closed"]) | _TRICKY | st.floats(),
            }
        ),
        max_size=6,
    )
)
@example(
    [{"name": "a\\", "district": "", "zone": "b\\,c", "gateway": '"', "quality": "ok", "time": 5, "flow_rate": None}]
)
def test_every_line_reads_back_as_its_reading_or_is_refused(cases: list[dict[str, Any]]) -> None:
    readings = [_reading(**case) for case in cases]
    encoder = LineEncoder()
    for _ in range(2):  # the second time everything about the devices is known
        encoded = encoder.encode(readings)
        assert sorted([*encoded.indices, *encoded.refused]) == list(range(len(readings)))
        lines = parse(encoded.body) if encoded.indices else []
        assert len(lines) == len(encoded.indices)
        for index, (measurement, tags, fields, time) in zip(encoded.indices, lines, strict=True):
            expected = readings[index]
            assert (measurement, time) == ("water_meter", expected.time)
            wanted = {"device": expected.device.id, "district": expected.device.district, "zone": expected.device.zone}
            assert tags == {name: value for name, value in wanted.items() if value}
            reported = {"flow_rate": expected.values.flow_rate, "pressure": expected.values.pressure}  # type: ignore[attr-defined]
            reported["valve_state"] = expected.values.valve_state  # type: ignore[attr-defined]
            origin = {"quality": expected.quality, "gateway": expected.gateway, "profile": "test/any"}
            assert fields == origin | {name: value for name, value in reported.items() if value is not None}
        for index in encoded.refused:
            assert _is_doubtful(cases[index])


def _reading(*, name: str, district: str, zone: str, time: int, **rest: Any) -> Reading:
    return reading(device(name, district=district, zone=zone), time, **rest)


def _is_doubtful(case: dict[str, Any]) -> bool:
    """Anything but ordinary readings may be refused."""
    texts = [value for value in case.values() if isinstance(value, str)]
    numbers = [value for name, value in case.items() if name in ("flow_rate", "pressure")]
    ordinary = (
        case["name"]
        and all(text.isprintable() and not text.endswith("\\") for text in texts)
        and all(value is None or (type(value) is float and math.isfinite(value)) for value in numbers)
        and not isinstance(case["valve_state"], float)
        and 0 <= case["time"] < TIME_LIMIT
    )
    return not ordinary


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_every_bit(value: float) -> None:
    ((_, _, fields, _),) = parse(LineEncoder().encode([reading(device(), NEW_YEAR, flow_rate=value)]).body)
    assert fields["flow_rate"] == value


def test_a_plain_reading() -> None:
    lamp = device("lamp-1", "streetlight", district="230103", zone="loop-7")
    body = LineEncoder().encode([reading(lamp, NEW_YEAR, lamp_state="on", power=61.5, gateway="gw-9")]).body
    assert body == (
        b"streetlight,device=lamp-1,district=230103,zone=loop-7"
        b' quality="ok",gateway="gw-9",profile="test/any",lamp_state="on",power=61.5 1767225600000\n'
    )


def test_the_envelope_of_a_payload_is_not_stored() -> None:
    profile = load_profiles()["songhua/wm-15"]
    values = profile.decode(b'{"t":1767225600000,"boot_id":"b","seq":7,"flow_rate":0.5}')
    body = LineEncoder().encode([Reading(device(), NEW_YEAR, values, NEW_YEAR, "gw-1")]).body
    ((_, _, fields, _),) = parse(body)
    assert fields == {"quality": "ok", "gateway": "gw-1", "profile": "test/any", "flow_rate": 0.5}


def test_a_device_that_changed_is_encoded_anew() -> None:
    encoder = LineEncoder()
    encoder.encode([reading(device(zone="old"), NEW_YEAR, flow_rate=1.0)])
    moved = device(zone="new")
    for changes in ({}, {"gateway": "gw-2"}, {"quality": "clock"}):
        ((_, tags, fields, _),) = parse(encoder.encode([reading(moved, NEW_YEAR, flow_rate=1.0, **changes)]).body)
        assert tags["zone"] == "new"
        assert changes.items() <= fields.items()


def test_a_value_that_looks_like_null_in_a_name_is_no_reason_to_refuse() -> None:
    encoded = LineEncoder().encode([reading(device("a=null"), NEW_YEAR, gateway="b=null", flow_rate=1.0)])
    ((_, tags, fields, _),) = parse(encoded.body)
    assert (tags["device"], fields["gateway"]) == ("a=null", "b=null")


@settings(deadline=None)
@given(_TRICKY, _TRICKY, _TRICKY)
def test_a_mark_is_one_line_and_its_state_is_part_of_its_time(subject: str, rule: str, text: str) -> None:
    times = set()
    for state in ("UNACK", "RTNUN"):
        mark = AlarmMark(NEW_YEAR, f"s{subject}", f"r{rule}", state, "high", text)
        ((measurement, tags, fields, time),) = parse(mark_line(mark))
        assert (measurement, set(tags), fields["state"]) == ("alarms", {"subject", "rule"}, state)
        assert time // 1_000_000 == NEW_YEAR
        times.add(time)
    assert len(times) == 2


def test_a_mark_of_an_unknown_state_is_an_error() -> None:
    with pytest.raises(KeyError, match="SLEEPING"):
        mark_line(AlarmMark(NEW_YEAR, "a", "b", "SLEEPING", "high", ""))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(load_profiles())),
    st.dictionaries(st.integers(0, 30), st.floats(-1e9, 1e9), max_size=8),
    st.none() | st.sampled_from(["open", "closed", "on", 'a","t":1', 'x":', ',"', "{}"]),
    st.none() | st.integers(0, 2**50),
    st.none() | st.text(max_size=5),
)
def test_what_a_profile_decoded_becomes_the_same_fields(
    profile: str, numbers: dict[int, float], word: str | None, t: int | None, boot_id: str | None
) -> None:
    wire = load_profiles()[profile].wire
    properties = load_profiles()[profile].keys.values()
    names = [name for name in properties if not name.endswith("_state")]
    states = [name for name in properties if name.endswith("_state")]
    given_values: dict[str, Any] = {names[index % len(names)]: number for index, number in numbers.items()}
    given_values |= dict.fromkeys(states[:1], word)
    values = wire(**given_values, t=t, boot_id=boot_id)
    owner = device("d-1", load_profiles()[profile].family)
    encoded = LineEncoder().encode([Reading(owner, NEW_YEAR, values, NEW_YEAR, "g")])
    if encoded.refused:
        assert not reported(values)
        return
    ((_, _, fields, _),) = parse(encoded.body)
    origin = {"quality", "gateway", "profile"}
    assert {name: value for name, value in fields.items() if name not in origin} == reported(values)
