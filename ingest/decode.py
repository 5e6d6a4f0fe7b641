"""Decode and normalise: journal messages in, a `DecodedBatch` out. Pure and synchronous; time is a parameter.

The payload of a native source is a JSON object, a list of them (stored-and-forwarded history) or SenML JSON. Each
element has exactly one outcome: a `Reading` in canonical units and in trusted time, or a `Rejection` with its reason.
Raises `UnknownDevices` (see `ingest.routing`), nothing else.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from devices import senml
from devices.errors import ConfigError, RejectedError
from devices.model import DecodedBatch, GatewayStatus, Reading, Rejection
from devices.profile import CompiledProfile
from devices.reasons import Reason
from devices.units import conversion
from ingest.device_time import DeviceClock
from ingest.routing import Route, Router
from storage.journal import Message

MAX_PAYLOAD = 1024 * 1024
MAX_ELEMENTS = 10_000
_KEPT_PAYLOAD = 64 * 1024  # bytes of a refused payload kept beside its verdict; the journal keeps the whole
_object = msgspec.json.Decoder(dict[str, Any])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_anything = msgspec.json.Decoder(list[Any])


class Status(msgspec.Struct):
    """Payload of `.../{gateway}/status`; a will has no time."""

    state: Literal["online", "offline"]
    session: str = ""
    at: int | float | str | None = None


_status = msgspec.json.Decoder(Status)


class Decoder:
    """See the module docstring; `router` keeps the topics, `clock` judges times."""

    def __init__(self, router: Router, clock: DeviceClock) -> None:
        self.router = router
        self._clock = clock

    def decode(self, first: int, messages: Sequence[Message], provision: bool = False) -> DecodedBatch:
        """Everything the messages with sequences `first`, `first + 1`, ... turn into."""
        batch = DecodedBatch(first, first + len(messages) - 1, 0, len(messages), [], [], [])
        readings, routes, judge = batch.readings, self.router.routes, self._clock.judge
        for sequence, message in enumerate(messages, first):
            topic, payload, received_at = message.topic, message.payload, message.received_at
            try:
                route = routes.get(topic) or self.router.find(message, provision)
                if route is None:
                    self._control(batch, sequence, message)
                elif payload[:1] == b"{":
                    values = route.decode(payload)
                    dropped = route.convert(values)
                    time, quality = judge(values.t, received_at, sequence, route.history)
                    if dropped:
                        quality = _flag(quality, "range")
                    if values.device is not None and values.device != route.device.id:
                        raise RejectedError(Reason.identity_mismatch, f"the payload names device {values.device!r:.80}")
                    readings.append(
                        Reading(
                            route.device,
                            time,
                            values,
                            received_at,
                            route.gateway,
                            sequence,
                            0,
                            quality,
                            message.retain or route.history,
                        )
                    )
                else:
                    self._list(batch, sequence, message, route)
            except RejectedError as error:
                self._reject(batch, sequence, 0, error, message)
            except msgspec.MsgspecError as error:
                self._reject(batch, sequence, 0, _explain(error, payload), message)
            except RecursionError:
                self._reject(batch, sequence, 0, RejectedError(Reason.malformed, "nested too deeply"), message)
        batch.clock = max((message.received_at for message in messages), default=0)
        return batch

    def _list(self, batch: DecodedBatch, sequence: int, message: Message, route: Route) -> None:
        """A JSON list: SenML, or native objects whose times keep their offsets to the newest one."""
        if len(message.payload) > MAX_PAYLOAD:
            raise RejectedError(Reason.too_large, f"{len(message.payload)} bytes, at most {MAX_PAYLOAD} are accepted")
        single = message.payload.lstrip()[:1] == b"{"  # an object behind white space
        raw = [msgspec.Raw(message.payload)] if single else _elements.decode(message.payload)
        if not raw:
            raise RejectedError(Reason.no_values, "an empty list")
        if len(raw) > MAX_ELEMENTS:
            raise RejectedError(Reason.history_too_long, f"{len(raw)} elements, at most {MAX_ELEMENTS} are accepted")
        if bytes(raw[0])[:1] == b"{" and senml.is_pack([_object.decode(raw[0])]):
            candidates = self._senml(batch, sequence, message, route)
        else:
            candidates = self._natives(batch, sequence, message, route, raw)
        times = [self._clock.parse(values.t) for _, values, _ in candidates]
        shift = self._clock.shift([t for t in times if t is not None], message.received_at, sequence, route.history)
        replayed = message.retain or route.history
        for (index, values, dropped), time in zip(candidates, times, strict=True):
            quality = "clock" if shift and time is not None else "ok"
            at = message.received_at if time is None else time + shift
            reading = Reading(route.device, at, values, message.received_at, route.gateway, sequence, index)
            reading.quality = _flag(quality, "range") if dropped else quality
            reading.replayed = replayed
            batch.readings.append(reading)

    def _natives(
        self, batch: DecodedBatch, sequence: int, message: Message, route: Route, raw: Sequence[msgspec.Raw]
    ) -> list[tuple[int, Any, bool]]:
        accepted = []
        for index, element in enumerate(raw):
            try:
                values = route.decode(bytes(element))
                if values.device is not None and values.device != route.device.id:
                    raise RejectedError(Reason.identity_mismatch, f"the element names device {values.device!r:.80}")
                self._clock.parse(values.t)
                accepted.append((index, values, route.convert(values)))
            except RejectedError as error:
                self._reject(batch, sequence, index, error, message, bytes(element))
            except msgspec.MsgspecError as error:
                self._reject(batch, sequence, index, _explain(error, bytes(element)), message, bytes(element))
        return accepted

    def _senml(self, batch: DecodedBatch, sequence: int, message: Message, route: Route) -> list[tuple[int, Any, bool]]:
        accepted = []
        profile = route.profile
        pack = _anything.decode(message.payload)
        for index, (time, record) in enumerate(senml.resolve(pack, message.received_at)):
            try:
                plain: dict[str, object] = {"t": time}
                for name, (value, unit) in record.items():
                    plain[name] = _in_unit(profile, name, value, unit)
                values = profile.from_mapping(plain)
                accepted.append((index, values, route.convert(values)))
            except RejectedError as error:
                self._reject(batch, sequence, index, error, message)
        return accepted

    def _control(self, batch: DecodedBatch, sequence: int, message: Message) -> None:
        status = _status.decode(message.payload)
        district, gateway = message.topic.split("/")[2:4]
        at = self._clock.parse(status.at)
        batch.control += 1
        batch.statuses.append(
            GatewayStatus(
                gateway, district, status.state, status.session[:64], at, message.received_at, sequence, message.retain
            )
        )

    def _reject(
        self,
        batch: DecodedBatch,
        sequence: int,
        index: int,
        error: RejectedError,
        message: Message,
        payload: bytes | None = None,
    ) -> None:
        kept = (message.payload if payload is None else payload)[:_KEPT_PAYLOAD]
        levels = message.topic.split("/")
        device = levels[-2][:64] if levels[-1:] == ["up"] else None
        batch.rejections.append(
            Rejection(
                sequence,
                index,
                error.reason,
                error.detail[:1000],
                message.source,
                message.topic,
                kept,
                message.received_at,
                device,
            )
        )


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


def _flag(quality: str, flag: str) -> str:
    return flag if quality == "ok" else f"{quality},{flag}"


def _explain(error: msgspec.MsgspecError, payload: bytes) -> RejectedError:
    """msgspec's words, as one of our reasons: a wrong type is an invalid value, anything else is malformed."""
    if isinstance(error, msgspec.ValidationError) and payload[:1] in (b"{", b"["):
        return RejectedError(Reason.invalid_value, str(error))
    return RejectedError(Reason.malformed, str(error) if payload else "empty payload")
