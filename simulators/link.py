"""A publishing MQTT 5 connection for load: thousands of messages in flight, every PUBACK reported.

Uses the mqtt5 codec directly because a full client (paho 6,000, aiomqtt fewer messages a second and process here) is
slower than the service it should load. One `Link` is one connection and lives until it is lost: it gives back what
was not acknowledged, and its owner sends that again on the next one. Raises `LinkError` from `connect`; afterwards
the future `lost` is set. OASIS MQTT 5.0 sections 3.3, 3.4 and 4.4.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

import mqtt5

from devices.model import Milliseconds
from simulators.broker import BrokerAddress

_KEEP_ALIVE = 30  # seconds
_CONNECT_SECONDS = 10.0
_LARGEST_PACKET = 1 << 20  # what a broker may send to a publisher


class LinkError(Exception):
    """The broker cannot be reached or refuses the connection; worth another attempt later."""


class Delivery(NamedTuple):
    """One reading on its way; (device, time) is its key in the service."""

    topic: str
    payload: bytes
    device: str
    time: Milliseconds


Acknowledged = Callable[[list[Delivery], int, int], None]
"""Receives the accepted deliveries, the number refused by the broker and the number without any subscriber."""


class Link(asyncio.Protocol):
    """One connection; use `connect`."""

    def __init__(self, window: int, acknowledged: Acknowledged) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._window = window
        self._acknowledged = acknowledged
        self._flying: dict[int, Delivery] = {}
        self._next_id = 0
        self._tail = b""
        self._transport: asyncio.Transport
        self._congested = False
        self._heard = time.monotonic()

    @classmethod
    async def connect(cls, address: BrokerAddress, client: str, window: int, acknowledged: Acknowledged) -> "Link":
        """Connect with a clean start; `window` is the largest number in flight, the broker may grant less."""
        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_connection(lambda: cls(window, acknowledged), address.host, address.port)
        except OSError as error:
            raise LinkError(f"{address!r}: {error}") from error
        link._transport.write(
            mqtt5.ConnectPacket(
                client,
                username=address.username,
                password=address.password.encode() if address.password is not None else None,
                clean_start=True,
                keep_alive=_KEEP_ALIVE,
            ).write()
        )
        try:
            await asyncio.wait_for(asyncio.shield(link._opened), _CONNECT_SECONDS)
        except TimeoutError:
            link.abort()
            raise LinkError(f"{address!r}: no CONNACK") from None
        return link

    @property
    def free(self) -> int:
        """How many more messages may be sent now."""
        return 0 if self._congested or self.lost.done() else self._window - len(self._flying)

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    @property
    def unacknowledged(self) -> list[Delivery]:
        """In the order in which they were sent."""
        return list(self._flying.values())

    def send(self, deliveries: Iterable[Delivery]) -> None:
        """Publish with QoS 1; at most `free` of them."""
        packets = []
        for delivery in deliveries:
            self._next_id = self._next_id % 65_535 + 1
            while self._next_id in self._flying:
                self._next_id = self._next_id % 65_535 + 1
            self._flying[self._next_id] = delivery
            packets.append(
                mqtt5.PublishPacket(
                    delivery.topic, delivery.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._next_id
                ).write()
            )
        self._transport.write(b"".join(packets))

    def keep_alive(self) -> None:
        """Call every few seconds: pings a quiet broker, gives up on a silent one."""
        silence = time.monotonic() - self._heard
        if silence > 1.5 * _KEEP_ALIVE:
            self.abort()
        elif silence > _KEEP_ALIVE / 3:
            self._transport.write(mqtt5.PingReqPacket().write())

    def close(self) -> None:
        """DISCONNECT and close."""
        self._transport.write(mqtt5.DisconnectPacket().write())
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(LinkError(f"connection closed by the broker{f': {exc}' if exc else ''}"))
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        view = memoryview(self._tail + data if self._tail else data)
        offset = 0
        accepted: list[Delivery] = []
        refused = unheard = 0
        try:
            while offset < len(view):
                packet, length = mqtt5.read(view[offset:])
                offset += length
                if isinstance(packet, mqtt5.PubAckPacket):
                    delivery = self._flying.pop(packet.packet_id, None)
                    if delivery is None:
                        continue
                    if packet.reason_code == mqtt5.PubAckReasonCode.SUCCESS:
                        accepted.append(delivery)
                    elif packet.reason_code == mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS:
                        unheard += 1
                    else:
                        refused += 1
                else:
                    self._other(packet)
        except IndexError:
            pass  # the rest of this packet has not arrived yet
        except ValueError:
            self.abort()
        self._tail = bytes(view[offset:])
        if len(self._tail) > _LARGEST_PACKET:
            self.abort()
        if accepted or refused or unheard:
            self._acknowledged(accepted, refused, unheard)

    def _other(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket) and not self._opened.done():
            if packet.reason_code == mqtt5.ConnAckReasonCode.SUCCESS:
                self._window = min(self._window, packet.receive_max)
                self._opened.set_result(None)
            else:
                self._opened.set_exception(LinkError(f"the broker refuses the connection: {packet.reason_code!r}"))
                self.abort()
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self.abort()
