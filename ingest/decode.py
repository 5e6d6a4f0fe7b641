"""Decode and normalise: journal messages in, a `DecodedBatch` out. Pure and synchronous; time is a parameter.

A native payload is a JSON object (here, the fast path) or several elements (`ingest.elements`). Each element has
exactly one outcome: a `Reading` in canonical units and in trusted time, or a `Rejection` with its reason. Raises
`UnknownDevices` (see `ingest.routing`), nothing else.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from devices.errors import RejectedError
from devices.model import DecodedBatch, GatewayStatus, Reading, Rejection
from devices.reasons import Reason
from ingest.device_time import FUTURE, PAST, DeviceClock
from ingest.elements import add_flag, check_identity, decode_elements, explain
from ingest.routing import Router
from storage.journal import Message

_KEPT_PAYLOAD = 64 * 1024  # bytes of a refused payload kept beside its verdict; the journal keeps the whole


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
        readings, routes, judge, agreeing = batch.readings, self.router.routes, self._clock.judge, 0
        self._clock.begin()
        for sequence, message in enumerate(messages, first):
            payload, received_at = message.payload, message.received_at
            try:
                route = routes.get(message.topic) or self.router.find(message, provision)
                if route is None:
                    self._control(batch, sequence, message)
                elif payload[:1] == b"{":
                    values = route.decode(payload)
                    dropped = route.convert(values)
                    time, quality = values.t, "ok"
                    if time.__class__ is int and -PAST <= time - received_at <= FUTURE:
                        agreeing += 1
                    else:
                        time, quality = judge(time, received_at, sequence, route.history)
                    if dropped:
                        quality = add_flag(quality, "range")
                    if values.device is not None:
                        check_identity(values, route)
                    replayed = message.retain or route.history
                    readings.append(
                        Reading(route.device, time, values, received_at, route.gateway, sequence, 0, quality, replayed)
                    )
                else:
                    accepted, refused = decode_elements(message, route, self._clock, sequence)
                    readings += accepted
                    for element in refused:
                        _reject(batch, sequence, message, element.error, element.index, element.payload)
            except RejectedError as error:
                _reject(batch, sequence, message, error)
            except msgspec.MsgspecError as error:
                _reject(batch, sequence, message, explain(error, payload))
            except RecursionError:
                _reject(batch, sequence, message, RejectedError(Reason.malformed, "nested too deeply"))
        batch.clock = max((message.received_at for message in messages), default=0)
        batch.clock = max((message.received_at for message in messages), default=0)
        if self._clock.review(first, batch.last, agreeing, batch.clock):
            return self.decode(first, messages, provision)
        return batch

    def _control(self, batch: DecodedBatch, sequence: int, message: Message) -> None:
        status = _status.decode(message.payload)
        district, gateway = message.topic.split("/")[2:4]
        at, session = self._clock.parse(status.at), status.session[:64]
        batch.control += 1
        batch.statuses.append(
            GatewayStatus(gateway, district, status.state, session, at, message.received_at, sequence, message.retain)
        )


def _reject(
    batch: DecodedBatch,
    sequence: int,
    message: Message,
    error: RejectedError,
    index: int = 0,
    payload: bytes | None = None,
) -> None:
    kept = (message.payload if payload is None else payload)[:_KEPT_PAYLOAD]
    levels = message.topic.split("/")
    device = levels[-2][:64] if levels[-1:] == ["up"] else None
    detail, received_at = error.detail[:1000], message.received_at
    batch.rejections.append(
        Rejection(sequence, index, error.reason, detail, message.source, message.topic, kept, received_at, device)
    )
