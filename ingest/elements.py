"""Payloads with several elements: stored-and-forwarded history as a JSON list, or SenML JSON (RFC 8428).

Off the fast path: each element is decoded by itself, so that a bad one costs only itself. Device times keep their
offsets to the newest element, also where the device's clock was wrong. Pure; raises `RejectedError` where the payload
as a whole is refused.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from devices import senml
from devices.errors import ConfigError, RejectedError
from devices.model import Milliseconds, Reading
from devices.profile import CompiledProfile
from devices.reasons import Reason
from devices.units import conversion
from ingest.device_time import DeviceClock
from ingest.routing import Route
from storage.journal import Message

MAX_PAYLOAD = 1024 * 1024
MAX_ELEMENTS = 10_000

_object = msgspec.json.Decoder(dict[str, Any])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_anything = msgspec.json.Decoder(list[Any])


class Refused(msgspec.Struct):
    """One element that became no reading; `payload` is its own text where it has one."""

    index: int
    error: RejectedError
    payload: bytes | None = None


class _Accepted(msgspec.Struct):
    index: int
    values: Any
    time: Milliseconds | None
    dropped: bool


def decode_elements(
    message: Message, route: Route, clock: DeviceClock, sequence: int
) -> tuple[list[Reading], list[Refused]]:
    """Readings and refusals of one message, each with its index among the elements."""
    payload = message.payload
    if len(payload) > MAX_PAYLOAD:
        raise RejectedError(Reason.too_large, f"{len(payload)} bytes, at most {MAX_PAYLOAD} are accepted")
    single = payload.lstrip()[:1] == b"{"  # an object behind white space
    elements = [payload] if single else [bytes(raw) for raw in _raws.decode(payload)]
    if not elements:
        raise RejectedError(Reason.no_values, "an empty list")
    if len(elements) > MAX_ELEMENTS:
        raise RejectedError(Reason.history_too_long, f"{len(elements)} elements, at most {MAX_ELEMENTS} are accepted")
    if elements[0][:1] == b"{" and senml.is_pack([_object.decode(elements[0])]):
        accepted, refused = _senml(message, route)
    else:
        accepted, refused = _natives(elements, route, clock)
    times = [element.time for element in accepted if element.time is not None]
    shift = clock.shift(times, message.received_at, sequence, route.history)
    readings = []
    for element in accepted:
        time = element.time
        quality = "clock" if shift and time is not None else "ok"
        readings.append(
            Reading(
                route.device,
                message.received_at if time is None else time + shift,
                element.values,
                message.received_at,
                route.gateway,
                sequence,
                element.index,
                add_flag(quality, "range") if element.dropped else quality,
                message.retain or route.history,
            )
        )
    return readings, refused


def check_identity(values: Any, route: Route) -> None:
    """A payload may repeat its device's name, and must not claim another's. Raises `RejectedError`."""
    if values.device is not None and values.device != route.device.id:
        detail = f"the payload names device {values.device!r:.80}, its topic {route.device.id}"
        raise RejectedError(Reason.identity_mismatch, detail)


def add_flag(quality: str, flag: str) -> str:
    """`quality` with one more flag."""
    return flag if quality == "ok" else f"{quality},{flag}"


def explain(error: msgspec.MsgspecError, payload: bytes) -> RejectedError:
    """msgspec's words, as one of our reasons: a wrong type is an invalid value, anything else is malformed."""
    if isinstance(error, msgspec.ValidationError) and payload[:1] in (b"{", b"["):
        return RejectedError(Reason.invalid_value, str(error))
    return RejectedError(Reason.malformed, str(error) if payload else "empty payload")


def _natives(elements: Sequence[bytes], route: Route, clock: DeviceClock) -> tuple[list[_Accepted], list[Refused]]:
    accepted, refused = [], []
    for index, element in enumerate(elements):
        try:
            values = route.decode(element)
            if values.device is not None:
                check_identity(values, route)
            accepted.append(_Accepted(index, values, clock.parse(values.t), route.convert(values)))
        except RejectedError as error:
            refused.append(Refused(index, error, element))
        except msgspec.MsgspecError as error:
            refused.append(Refused(index, explain(error, element), element))
    return accepted, refused


def _senml(message: Message, route: Route) -> tuple[list[_Accepted], list[Refused]]:
    accepted, refused = [], []
    records = senml.resolve(_anything.decode(message.payload), message.received_at)
    for index, (time, record) in enumerate(records):
        try:
            plain: dict[str, object] = {"t": time}
            for name, (value, unit) in record.items():
                plain[name] = _in_unit(route.profile, name, value, unit)
            values = route.profile.from_mapping(plain)
            accepted.append(_Accepted(index, values, time, route.convert(values)))
        except RejectedError as error:
            refused.append(Refused(index, error))
    return accepted, refused


def _in_unit(profile: CompiledProfile, key: str, value: object, unit: str | None) -> object:
    """A SenML value in the unit that the profile expects under `key`."""
    name = profile.keys.get(key)
    if unit is None or name is None or not isinstance(value, int | float) or isinstance(value, bool):
        return value
    try:
        factor, offset = conversion(unit, profile.units[name])
    except ConfigError as error:
        raise RejectedError(Reason.invalid_value, f"{key}: {error}") from error
    return value * factor + offset
