"""One TCP connection to the broker: handshake, subscription, keep-alive, and reading into the inbox.

Lives for one generation of the session. Every way to fail is an `OSError` with words for people: refused, unanswered,
malformed, closed. Clauses of MQTT 5.0: 3.1 (CONNECT), 3.8.3.1 (subscription options), 3.1.2.10 (keep-alive).
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import mqtt5

from ingest.endpoint import Endpoint
from ingest.inbox import Inbox
from ingest.packets import parse

_CONNECT_TIMEOUT = 5.0  # s until CONNACK
_SUBACK_TIMEOUT = 10.0  # s; queued messages may come first
_ASK_AFTER = 1.0  # s without a byte: a broker that has nothing for us must be told from one that hangs
_PINGREQ = b"\xc0\x00"
_DISCONNECT = b"\xe0\x00"  # normal disconnection: the broker keeps the session


@dataclass(frozen=True)
class Subscription:
    """A topic filter; `retained_always` asks for retained messages at every connect, not only at the first."""

    filter: str
    retained_always: bool = False


@dataclass(frozen=True)
class ConnectOptions:
    """What CONNECT and SUBSCRIBE say; times in seconds, sizes in bytes."""

    client_id: str
    subscriptions: Sequence[Subscription]
    keep_alive: int
    session_expiry: int = 7 * 24 * 3600
    receive_maximum: int = 10_000
    max_packet: int = 4 * 1024 * 1024


class Connection(asyncio.Protocol):
    """See the module docstring. `open`, then `watch` until it ends. `heard` is when bytes last came (monotonic, s)."""

    def __init__(
        self, options: ConnectOptions, inbox: Inbox, source_of: Callable[[str], str], clock: Callable[[], float]
    ) -> None:
        self._options = options
        self._inbox = inbox
        self._generation = inbox.generation
        self._source_of = source_of
        self._clock = clock
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = loop.create_future()  # why
        self._connack: asyncio.Future[mqtt5.ConnAckPacket] = loop.create_future()
        self._subscribed = False
        self._reading = True
        self._keep_alive = options.keep_alive
        self.heard = self._sent = time.monotonic()

    async def open(self, endpoint: Endpoint) -> bool:
        """Connect and subscribe; returns whether the broker still had our session. Raises `OSError`."""
        options = self._options
        context = ssl.create_default_context() if endpoint.tls else None
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self, endpoint.host, endpoint.port, ssl=context)
            connect = mqtt5.ConnectPacket(
                options.client_id,
                username=endpoint.username,
                password=endpoint.password.encode() if endpoint.password else None,
                clean_start=False,
                keep_alive=options.keep_alive,
                session_expiry_interval=options.session_expiry,
                receive_max=options.receive_maximum,
                max_packet_size=options.max_packet,
            )
            self.write(connect.write())
            connack = await self._connack
        if connack.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise ConnectionError(
                f"the broker refused us: {connack.reason_code.name} {connack.reason_str or ''}".strip()
            )
        self._keep_alive = connack.server_keep_alive or options.keep_alive
        self._subscribe()
        return connack.session_present

    async def watch(self) -> None:
        """Ping when quiet, until the connection ends; then raise `OSError` with the reason.

        A peer silent for 1.5 x keep-alive is gone, whatever TCP thinks (half-open connections).
        """
        limit = self._keep_alive
        opened = time.monotonic()
        ask_after = min(_ASK_AFTER, limit / 4)
        while True:
            await asyncio.wait([self._ended], timeout=ask_after)
            if self._ended.done():
                raise ConnectionError(self._ended.result())
            if not self._subscribed and self._reading and time.monotonic() - opened > _SUBACK_TIMEOUT:
                raise ConnectionError("the broker has not confirmed the subscription")
            silent = time.monotonic() - self.heard
            if self._reading and silent > limit * 1.5:
                raise ConnectionError(f"the broker has not answered for {silent:.0f} s")
            if silent >= ask_after or time.monotonic() - self._sent > limit / 2:
                self.write(_PINGREQ)

    def write(self, data: bytes) -> None:
        """Send; nothing on a closed connection, since what was not confirmed comes again."""
        if data and self._transport is not None and not self._transport.is_closing():
            self._sent = time.monotonic()
            self._transport.write(data)

    def disconnect(self) -> None:
        """Say goodbye and close once everything is sent."""
        self.write(_DISCONNECT)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection; a closing one is left to send what it still has."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading: the broker fills its window and its queue, which are ours to size."""
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self.heard = time.monotonic()
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.Protocol: from here on messages may arrive, even in the same read as CONNACK."""
        self._transport = cast(asyncio.Transport, transport)
        self._inbox.attach(self)

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio.Protocol."""
        self._end(f"connection lost: {error}" if error else "the broker closed the connection")

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol: everything complete goes to the inbox, the rest waits for more."""
        self.heard = time.monotonic()
        self._buffer += data
        try:
            messages, others, used = parse(self._buffer, self._source_of, self._generation, int(self._clock() * 1000))
            del self._buffer[:used]
            for packet in others:
                self._control(packet)
            if len(self._buffer) > self._options.max_packet + 5:
                raise ValueError(f"a packet above {self._options.max_packet} bytes was announced")
        except ValueError as error:
            self._end(f"protocol error of the broker: {error}")
            return
        if messages:
            self._inbox.deliver(messages)

    def _subscribe(self) -> None:
        once, always = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS, mqtt5.RetainHandling.SEND_ALWAYS
        filters = [
            mqtt5.TopicFilter(
                subscription.filter,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_as_published=False,  # so that retain = 1 means: stored earlier, not fresh
                retain_handling=always if subscription.retained_always else once,
            )
            for subscription in self._options.subscriptions
        ]
        self.write(mqtt5.SubscribePacket(1, filters).write())

    def _control(self, packet: object) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket) and not self._connack.done():
            self._connack.set_result(packet)
        elif isinstance(packet, mqtt5.SubAckPacket):
            if refused := [code.name for code in packet.reason_codes if int(code) >= 128]:
                raise ValueError(f"subscription refused: {', '.join(refused)}")
            self._subscribed = True
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise ValueError(f"disconnected: {packet.reason_code.name}")

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
        if not self._connack.done():
            self._connack.set_exception(ConnectionError(f"no CONNACK: {reason}"))
            self._connack.exception()  # seen, whether or not anybody waits
        self.abort()
