"""Messages between the socket and the journal: taken in arrival order, acknowledged in the same order once durable.

A message carries the generation of its connection, so that a late acknowledgement never confirms another message with
the same packet identifier. Above `window` waiting messages (of ordinary size) the connection is asked to stop reading:
that is the flow control, since brokers miscount receive maximum. Clauses of MQTT 5.0: 4.4 (delivery retry), 4.6
(order of PUBACKs).
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from storage.journal import Message, weigh

_PUBACK = [b"\x40\x02" + identifier.to_bytes(2, "big") for identifier in range(65536)]


class Link(Protocol):
    """What the inbox asks of the current connection."""

    def write(self, data: bytes) -> None:
        """Send, or do nothing on a closed connection: what was not confirmed comes again."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read again."""


class Inbox:
    """See the module docstring; `generation` counts connections."""

    def __init__(self, window: int = 20_000) -> None:
        self._window = window
        self._waiting: list[Message] = []
        self._weight = 0
        self._arrived = asyncio.Event()
        self._link: Link | None = None
        self.generation = 0

    def attach(self, link: Link) -> None:
        """Messages come from here now, and acknowledgements go here."""
        self._link = link

    def deliver(self, messages: list[Message]) -> None:
        """The connection read these."""
        self._waiting += messages
        self._weight += weigh(messages)
        self._announce()

    async def receive(self) -> list[Message]:
        """Wait for messages and take all that have arrived."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        taken, self._waiting, self._weight = self._waiting, [], 0
        if self._link is not None:
            self._link.resume()
        return taken

    def put_back(self, messages: list[Message]) -> None:
        """Return what could not be made durable; it stays in front, and the socket rests while there is too much."""
        self._waiting = messages + self._waiting
        self._weight += weigh(messages)
        self._announce()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """PUBACK what is durable, in order, in one write. Messages of an earlier connection wait for redelivery."""
        if self._link is not None:
            now = self.generation
            self._link.write(b"".join([_PUBACK[m.packet_id] for m in messages if m.qos and m.generation == now]))

    def _announce(self) -> None:
        self._arrived.set()
        if self._link is not None and self._weight >= self._window:
            self._link.pause()
