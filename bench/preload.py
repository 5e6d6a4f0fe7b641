"""Fills ingest's persistent session at a broker: subscribe, go away, publish; a drain then finds it all queued."""

import asyncio

import mqtt5

from bench.workload import messages
from ingest.connection import Subscription
from ingest.endpoint import Endpoint
from ingest.inbox import Inbox
from ingest.routing import FILTERS, source_of
from ingest.session import Session
from simulators.city import City

_IDENTIFIERS = 60_000


def new_session(url: str, client_id: str) -> tuple[Session, Inbox]:
    """A session as ingest has it, not yet connected."""
    inbox = Inbox()
    return Session(Endpoint.parse(url), client_id, [Subscription(name) for name in FILTERS], source_of, inbox), inbox


async def preload(url: str, client_id: str, city: City, count: int) -> None:
    """Leave `count` messages of `city` queued for `client_id` at the broker; returns when all are acknowledged."""
    session, _ = new_session(url, client_id)
    connected = asyncio.Event()
    session.on_link = lambda up, resumed: connected.set()
    await session.start()
    await connected.wait()
    await asyncio.sleep(0.3)  # SUBACK
    await session.stop()
    endpoint = Endpoint.parse(url)
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.write(mqtt5.ConnectPacket("bench-preload", clean_start=True, keep_alive=600).write())
    await reader.read(100)
    acknowledged = asyncio.create_task(_count_acknowledgements(reader, count))
    for index, (topic, payload) in enumerate(messages(city, count)):
        identifier = index % _IDENTIFIERS + 1
        packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=identifier)
        writer.write(packet.write())
        if index % 500 == 0:
            await writer.drain()
    await acknowledged
    writer.write(mqtt5.DisconnectPacket().write())
    writer.close()


async def _count_acknowledgements(reader: asyncio.StreamReader, count: int) -> None:
    buffer, seen = bytearray(), 0
    while seen < count:
        buffer += await reader.read(1 << 20)
        used = 0
        while len(buffer) - used >= 2 and len(buffer) - used >= 2 + buffer[used + 1]:
            seen += buffer[used] == 0x40
            used += 2 + buffer[used + 1]
        del buffer[:used]
