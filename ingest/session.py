"""The MQTT 5 session: a persistent subscription whose messages are acknowledged only once they are durable.

Receives PUBLISH packets, gives `Message`s in arrival order (`receive`), sends PUBACKs in that order (`acknowledge`).
Owns the socket, the connection generation and keep-alive; reconnects by itself with jittered back-off and never raises
for the network. Flow control is not reading the socket: brokers miscount receive maximum. A message carries the
generation of its connection, so that a late acknowledgement never confirms another message with the same packet id.
Clauses of MQTT 5.0: 3.1.2.4 (clean start), 3.1.2.11.2 (session expiry), 4.4 (delivery retry), 4.6 (order of PUBACKs).
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote, urlsplit

import mqtt5
import structlog

from devices.errors import ConfigError
from storage.journal import Message

log = structlog.get_logger(__name__)

_PUBACK = [b"\x40\x02" + identifier.to_bytes(2, "big") for identifier in range(65536)]
_PINGREQ = b"\xc0\x00"
_CONNECT_TIMEOUT = 5.0  # s until CONNACK
_BACKOFF = (0.1, 5.0)  # s, first and longest


@dataclass(frozen=True)
class Endpoint:
    """Where the broker is, from a URL `mqtt://user:password@host:port` (`mqtts` for TLS)."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Raises `ConfigError` for anything else."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == -1 or parts.path not in ("", "/"):
            given = f"scheme {parts.scheme!r}, host {parts.hostname!r}"  # never the whole URL: it may hold a password
            raise ConfigError(f"broker URL: expected mqtt://user:password@host:port, got {given}")
        tls = parts.scheme == "mqtts"
        return cls(
            parts.hostname,
            port or (8883 if tls else 1883),
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            tls,
        )


@dataclass(frozen=True)
class Subscription:
    """A topic filter; `retained_always` asks for retained messages at every connect, not only at the first."""

    filter: str
    retained_always: bool = False


class Session:
    """See the module docstring. `window`: how many messages may wait unjournalled before the socket is not read."""

    def __init__(
        self,
        endpoint: Endpoint,
        client_id: str,
        subscriptions: Sequence[Subscription],
        source_of: Callable[[str], str],
        *,
        window: int = 10_000,
        keep_alive: int = 15,
        session_expiry: int = 7 * 24 * 3600,
        receive_maximum: int = 10_000,
        max_packet: int = 4 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._client_id = client_id
        self._subscriptions = subscriptions
        self._source_of = source_of
        self.window = window
        self._keep_alive = keep_alive
        self._session_expiry = session_expiry
        self._receive_maximum = receive_maximum
        self._max_packet = max_packet
        self._clock = clock
        self._pending: list[Message] = []
        self._arrived = asyncio.Event()
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self.generation = 0
        self.connected_since: float | None = None
        self.last_error = "not connected yet"
        self.received = 0
        self.sessions_lost = 0  # the broker had forgotten us: what it queued meanwhile is gone
        self.on_link: Callable[[bool, bool], None] = lambda connected, resumed: None

    async def start(self) -> None:
        """Begin connecting in the background; returns at once."""
        self._task = asyncio.create_task(self._stay_connected(), name="mqtt session")

    async def stop(self) -> None:
        """Disconnect and keep the session at the broker; what is unacknowledged comes again next time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._connection is not None:
            self._connection.disconnect()

    @property
    def connected(self) -> bool:
        """Whether messages can arrive now."""
        return self.connected_since is not None

    async def receive(self) -> list[Message]:
        """Wait for messages and take all that have arrived."""
        while not self._pending:
            self._arrived.clear()
            await self._arrived.wait()
        taken, self._pending = self._pending, []
        if self._connection is not None:
            self._connection.resume()
        return taken

    def put_back(self, messages: list[Message]) -> None:
        """Return what could not be journalled; it stays in front. The socket rests until it has been taken again."""
        self._pending = messages + self._pending
        self._arrived.set()
        if self._connection is not None and len(self._pending) >= self.window:
            self._connection.pause()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """PUBACK what is durable, in order, in one write. Messages of an earlier connection wait for redelivery."""
        if self._connection is not None:
            now = self.generation
            self._connection.write(b"".join([_PUBACK[m.packet_id] for m in messages if m.qos and m.generation == now]))

    async def _stay_connected(self) -> None:
        delay = _BACKOFF[0]
        while True:
            self.generation += 1
            connection = _Connection(self)
            try:
                await connection.run()
                delay = _BACKOFF[0]
            except (OSError, TimeoutError, ConnectionError, ssl.SSLError) as error:
                self._report(f"{type(error).__name__}: {error}")
            finally:
                was_connected, self.connected_since = self.connected_since, None
                if was_connected is not None:
                    self.on_link(False, False)
            if was_connected is not None:
                delay = _BACKOFF[0]
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _BACKOFF[1])

    def _report(self, error: str) -> None:
        if error != self.last_error:  # once per kind of failure, not once per attempt
            log.warning("mqtt.disconnected", error=error, host=self._endpoint.host, port=self._endpoint.port)
        self.last_error = error

    def _established(self, resumed: bool) -> None:
        self.connected_since = self._clock()
        self.last_error = ""
        if not resumed and self.generation > 1:
            self.sessions_lost += 1
        log.info("mqtt.connected", generation=self.generation, session_present=resumed)
        self.on_link(True, resumed)

    def _deliver(self, messages: list[Message]) -> int:
        self._pending += messages
        self.received += len(messages)
        self._arrived.set()
        return len(self._pending)


class _Connection(asyncio.Protocol):
    """One TCP connection: its buffer, its handshake and its keep-alive."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connack: asyncio.Future[mqtt5.ConnAckPacket] = asyncio.get_running_loop().create_future()
        self._reading = True
        self._heard = time.monotonic()
        self._sent = self._heard

    async def run(self) -> None:
        """Connect, subscribe, and return or raise when the connection has ended."""
        session, endpoint = self._session, self._session._endpoint
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if endpoint.tls else None
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            await loop.create_connection(lambda: self, endpoint.host, endpoint.port, ssl=context)
            connect = mqtt5.ConnectPacket(
                session._client_id,
                username=endpoint.username,
                password=endpoint.password.encode() if endpoint.password else None,
                clean_start=False,
                keep_alive=session._keep_alive,
                session_expiry_interval=session._session_expiry,
                receive_max=session._receive_maximum,
                max_packet_size=session._max_packet,
            )
            self.write(connect.write())
            connack = await self._connack
        try:
            if connack.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                reason = connack.reason_code.name
                raise ConnectionError(f"the broker refused us: {reason} {connack.reason_str or ''}".strip())
            self._subscribe()
            session._established(connack.session_present)
            await self._watch(connack.server_keep_alive or session._keep_alive)
        finally:
            self.abort()

    def _subscribe(self) -> None:
        filters = [
            mqtt5.TopicFilter(
                subscription.filter,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_as_published=False,  # so that retain = 1 means: stored earlier, not fresh
                retain_handling=mqtt5.RetainHandling.SEND_ALWAYS
                if subscription.retained_always
                else mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for subscription in self._session._subscriptions
        ]
        self.write(mqtt5.SubscribePacket(1, filters).write())

    async def _watch(self, keep_alive: int) -> None:
        """Ping when quiet; a peer silent for 1.5 x keep-alive is gone, whatever TCP thinks (half-open connections)."""
        while True:
            try:
                await asyncio.wait_for(asyncio.shield(self._closed), timeout=keep_alive / 4)
                return
            except TimeoutError:
                now = time.monotonic()
            if self._reading and now - self._heard > keep_alive * 1.5:
                raise ConnectionError(f"the broker has not answered for {now - self._heard:.0f} s")
            if now - self._sent > keep_alive / 2 or now - self._heard > keep_alive / 2:
                self.write(_PINGREQ)

    def write(self, data: bytes) -> None:
        """Send; silently nothing on a closed connection, since what was not confirmed comes again."""
        if data and self._transport is not None and not self._transport.is_closing():
            self._sent = time.monotonic()
            self._transport.write(data)

    def disconnect(self) -> None:
        """Say goodbye (normal disconnection keeps the session) and close."""
        self.write(b"\xe0\x00")
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading: the broker fills its window and its queue, which is ours to size."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._heard = time.monotonic()
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._session._connection = self  # messages may arrive in the same read as CONNACK

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        if not self._connack.done():
            self._connack.set_exception(ConnectionError("the broker closed the connection without CONNACK"))
        if error is not None or self._session._connection is self:
            self._session._report(f"connection lost: {error}" if error else "connection closed by the broker")

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._buffer += data
        try:
            messages, used = self._parse()
        except ValueError as error:
            self._session._report(f"protocol error from the broker: {error}")
            self.abort()
            return
        del self._buffer[:used]
        if len(self._buffer) > self._session._max_packet + 5:
            self._session._report(f"the broker announced a packet above {self._session._max_packet} bytes")
            self.abort()
        elif messages and self._session._deliver(messages) >= self._session.window:
            self.pause()

    def _parse(self) -> tuple[list[Message], int]:
        """All complete packets of the buffer: (messages, bytes used). Raises `ValueError` for a malformed packet."""
        messages: list[Message] = []
        session, publish = self._session, mqtt5.PublishPacket
        generation, source_of = session.generation, session._source_of
        received_at = int(session._clock() * 1000)
        used, end = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while used < end:
                try:
                    packet, length = mqtt5.read(view[used:])
                except IndexError:
                    break
                except BaseException as error:
                    # invalid UTF-8 makes the codec panic with a BaseException of its own
                    if type(error).__name__ != "PanicException":
                        raise
                    raise ValueError(f"codec: {error}") from None
                used += length
                if type(packet) is publish:
                    topic, identifier = packet.topic, packet.packet_id
                    if identifier == 0:
                        raise ValueError("PUBLISH with packet identifier 0")
                    user = packet.user_properties
                    messages.append(
                        Message(
                            source_of(topic),
                            topic,
                            packet.payload,
                            0 if identifier is None else 1,
                            packet.retain,
                            packet.duplicate,
                            identifier or 0,
                            generation,
                            received_at,
                            dict(user) if user else None,
                        )
                    )
                else:
                    self._control(packet)
        return messages, used

    def _control(self, packet: object) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            if not self._connack.done():
                self._connack.set_result(packet)
        elif isinstance(packet, mqtt5.SubAckPacket):
            if refused := [code.name for code in packet.reason_codes if int(code) >= 128]:
                raise ValueError(f"subscription refused: {', '.join(refused)}")
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise ValueError(f"disconnected by the broker: {packet.reason_code.name}")
