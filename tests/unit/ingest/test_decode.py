"""Each element of a payload has exactly one outcome, with a reason where it is refused."""

import json

import pytest

from devices.model import Device
from devices.profile import load_profiles
from devices.reasons import Reason
from ingest.decode import Decoder
from ingest.device_time import DeviceClock
from ingest.elements import MAX_ELEMENTS, MAX_PAYLOAD
from ingest.routing import Router, UnknownDevices, source_of
from storage.journal import Message
from storage.registry import RegistryView

NOW = 1_767_225_600_000
TOPIC = "songhua/v1/230102/gw-1/wm-1/up"


def meter(name: str = "wm-1") -> Device:
    return Device(
        id=name,
        family="water_meter",
        profile="songhua/wm-15",
        district="230102",
        zone="dma-1",
        gateway="gw-1",
        interval=15_000,
    )


@pytest.fixture
def decoder() -> Decoder:
    router = Router(load_profiles())
    router.set_registry(RegistryView(1, {"wm-1": meter()}))
    return Decoder(router, DeviceClock())


def message(payload: bytes | str | object, topic: str = TOPIC, *, retain: bool = False) -> Message:
    if not isinstance(payload, bytes | str):
        payload = json.dumps(payload)
    raw = payload.encode() if isinstance(payload, str) else payload
    return Message(source_of(topic), topic, raw, 1, retain, False, 1, 1, NOW)


def refusal(decoder: Decoder, payload: bytes | str | object, topic: str = TOPIC) -> tuple[str, str]:
    batch = decoder.decode(7, [message(payload, topic)], True)
    assert batch.readings == []
    (rejection,) = batch.rejections
    assert (rejection.sequence, rejection.index) == (7, 0)
    return rejection.reason, rejection.detail


def test_an_object_becomes_one_reading_in_canonical_values(decoder: Decoder) -> None:
    batch = decoder.decode(7, [message({"t": NOW - 1000, "flow_rate": 0.3, "tamper": True, "valve_state": "open"})])
    (reading,) = batch.readings
    assert reading.device.id == "wm-1"
    assert (reading.time, reading.received_at, reading.sequence, reading.quality) == (NOW - 1000, NOW, 7, "ok")
    assert (reading.values.flow_rate, reading.values.tamper, reading.values.valve_state) == (0.3, 1.0, "open")
    assert reading.values.pressure is None
    assert (batch.first, batch.last, batch.messages, batch.clock) == (7, 7, 1, NOW)


def test_a_list_keeps_the_order_and_each_element_its_own_outcome(decoder: Decoder) -> None:
    payload = [{"t": NOW - 2000, "flow_rate": 1}, {"t": NOW, "flow_rate": "x"}, {"t": NOW - 1000, "flow_rate": 2}]
    batch = decoder.decode(1, [message(payload)])
    assert [(r.index, r.time, r.values.flow_rate) for r in batch.readings] == [
        (0, NOW - 2000, 1.0),
        (2, NOW - 1000, 2.0),
    ]
    assert [(r.index, r.reason) for r in batch.rejections] == [(1, Reason.invalid_value)]


def test_a_list_from_a_device_with_a_wrong_clock_keeps_its_offsets(decoder: Decoder) -> None:
    batch = decoder.decode(1, [message([{"t": 0, "flow_rate": 1}, {"t": 60_000, "flow_rate": 2}])])
    assert [(r.time, r.quality) for r in batch.readings] == [(NOW - 60_000, "clock"), (NOW, "clock")]


def test_senml_is_resolved_with_base_fields_units_and_relative_times(decoder: Decoder) -> None:
    pack = [
        {"bn": "urn:dev:mac:0024befffe804ff1:", "bt": NOW / 1000, "n": "flow_rate", "u": "L/h", "v": 300},
        {"n": "valve_state", "vs": "open"},
        {"n": "flow_rate", "t": -60, "u": "m3/h", "v": 1},
    ]
    batch = decoder.decode(1, [message(pack)])
    assert [(r.time, r.values.flow_rate, r.values.valve_state) for r in batch.readings] == [
        (NOW, pytest.approx(0.3), "open"),
        (NOW - 60_000, 1.0, None),
    ]


def test_a_value_outside_its_physical_range_is_dropped_and_flagged(decoder: Decoder) -> None:
    batch = decoder.decode(1, [message({"t": NOW, "flow_rate": 1, "water_temperature": 900})])
    (reading,) = batch.readings
    assert (reading.values.water_temperature, reading.values.flow_rate, reading.quality) == (None, 1.0, "range")


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        (b"", Reason.malformed, "empty"),
        (b"\xff\xfe", Reason.malformed, "malformed"),
        (b'{"flow_rate":', Reason.malformed, "truncated"),
        (b"[" * 100_000, Reason.malformed, "nested"),
        (b'{"flow_rate":NaN}', Reason.malformed, "invalid"),
        (b'{"flow_rate":1e999}', Reason.invalid_value, "out of range"),
        (b'{"flow_rate":true}', Reason.invalid_value, "bool"),
        (b'{"flow_rate":"1"}', Reason.invalid_value, "flow_rate"),
        (b'{"volume_total":9007199254740993}', Reason.invalid_value, "2^53"),
        (b'{"water_temperature":900}', Reason.out_of_range, "water_temperature"),
        (b'{"valve_state":"ajar"}', Reason.out_of_range, "valve_state"),
        (b'{"colour":1}', Reason.no_values, "no property"),
        (b"[]", Reason.no_values, "empty list"),
        (b'{"t":"yesterday","flow_rate":1}', Reason.invalid_value, "yesterday"),
        (b'{"t":"2026-01-01T00:00:00","flow_rate":1}', Reason.invalid_value, "offset"),
        (b'{"t":1e300,"flow_rate":1}', Reason.invalid_value, "milliseconds"),
        (b'{"device":"wm-2","flow_rate":1}', Reason.identity_mismatch, "wm-2"),
        (b'"text"', Reason.malformed, "array"),
    ],
)
def test_what_cannot_be_a_reading_is_refused_with_a_reason(
    decoder: Decoder, payload: bytes, reason: Reason, words: str
) -> None:
    found, detail = refusal(decoder, payload)
    assert found == reason
    assert words.lower() in detail.lower()


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("songhua/v1/230103/gw-1/wm-1/up", Reason.identity_mismatch),
        ("songhua/v1/23010/gw-1/wm-1/up", Reason.invalid_topic),
        ("songhua/v1/230102/gw-1/wm 1/up", Reason.invalid_topic),
        ("songhua/v1/230102//wm-1/up", Reason.invalid_topic),
        ("songhua/v1/230102/gw-1/" + "x" * 65 + "/up", Reason.invalid_topic),
        ("songhua/v1/230102/gw-1/ｗm-1/up", Reason.invalid_topic),
        ("songhua/v1/live/230102/water_meter/up", Reason.invalid_topic),
        ("$SYS/broker/uptime", Reason.unknown_topic),
        ("songhua/v1/230102/gw-1/wm-1/ack", Reason.unknown_topic),
    ],
)
def test_a_topic_that_names_no_device_of_ours_is_refused(decoder: Decoder, topic: str, reason: Reason) -> None:
    assert refusal(decoder, {"flow_rate": 1}, topic)[0] == reason


def test_too_many_elements_and_too_large_a_list_are_refused(decoder: Decoder) -> None:
    assert refusal(decoder, "[" + ",".join(["{}"] * (MAX_ELEMENTS + 1)) + "]")[0] == Reason.history_too_long
    assert refusal(decoder, b"[" + b" " * MAX_PAYLOAD + b"]")[0] == Reason.too_large


def test_an_unknown_device_stops_the_batch_until_the_registry_was_asked(decoder: Decoder) -> None:
    new = message({"pressure": 0.3, "flow_rate": 4, "turbidity": 1}, "songhua/v1/230103/gw-9/new-1/up")
    with pytest.raises(UnknownDevices):
        decoder.decode(1, [new])
    batch = decoder.decode(1, [new], True)
    assert batch.readings[0].device.profile == "songhua/pipe-s1"
    assert set(decoder.router.provisioned) == {"new-1"}


def test_an_unknown_device_that_no_profile_fits_is_refused(decoder: Decoder) -> None:
    assert refusal(decoder, {"colour": "red"}, "songhua/v1/230103/gw-9/new-1/up")[0] == Reason.unknown_device


def test_retained_and_historical_readings_are_marked_as_replayed(decoder: Decoder) -> None:
    old = {"t": NOW - 400 * 24 * 3600 * 1000, "flow_rate": 1}
    history = message(old, "songhua/v1/history/230102/gw-1/wm-1/up")
    batch = decoder.decode(1, [history, message({"t": NOW, "flow_rate": 1}, retain=True), message({"flow_rate": 1})])
    assert [r.replayed for r in batch.readings] == [True, True, False]
    assert (batch.readings[0].time, batch.readings[0].quality) == (old["t"], "ok")


def test_a_status_is_control_and_keeps_its_session(decoder: Decoder) -> None:
    topic = "songhua/v1/230102/gw-1/status"
    batch = decoder.decode(
        1,
        [
            message({"state": "online", "session": "a", "at": NOW}, topic),
            message({"state": "offline", "session": "a"}, topic),
        ],
    )
    assert [(s.gateway, s.state, s.session, s.at) for s in batch.statuses] == [
        ("gw-1", "online", "a", NOW),
        ("gw-1", "offline", "a", None),
    ]
    assert batch.control == 2
    assert refusal(decoder, {"state": "asleep"}, topic)[0] == Reason.invalid_value


def test_a_new_registry_revision_changes_what_a_topic_means(decoder: Decoder) -> None:
    decoder.decode(1, [message({"flow_rate": 1})])
    moved = Device(**{**{f: getattr(meter(), f) for f in Device.__struct_fields__}, "zone": "dma-2"})
    decoder.router.set_registry(RegistryView(2, {"wm-1": moved}))
    assert decoder.decode(2, [message({"flow_rate": 1})]).readings[0].device.zone == "dma-2"
