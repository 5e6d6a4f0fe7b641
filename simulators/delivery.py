"""Handing an outbox to the broker over aiomqtt, with acknowledgement message by message.

Shared by the simulated gateways and the replay. Raises `aiomqtt.MqttError` after everything that was not acknowledged
is back in the outbox, in its order; the caller reconnects and calls again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt

from simulators.outbox import Message, Outbox

WINDOW = 16  # messages in flight; paho holds back more than 20


@asynccontextmanager
async def watched(client: aiomqtt.Client) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the connection is lost: a publish that waits for its PUBACK does not notice by itself."""

    async def wait() -> None:
        try:
            async for _ in client.messages:
                pass
        except aiomqtt.MqttError:
            pass

    lost = asyncio.create_task(wait())
    try:
        yield lost
    finally:
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)


async def deliver(client: aiomqtt.Client, outbox: Outbox, lost: asyncio.Task[None]) -> list[Message]:
    """Publish up to `WINDOW` waiting messages with QoS 1; returns those acknowledged, empty when nothing waited."""
    if lost.done():
        raise aiomqtt.MqttError("connection lost")
    batch = outbox.take(WINDOW)
    if not batch:
        return batch
    publishes = [asyncio.create_task(client.publish(each.topic, each.payload, qos=1)) for each in batch]
    everything: asyncio.Future[list[BaseException | None]] = asyncio.gather(*publishes, return_exceptions=True)
    either: set[asyncio.Future[Any]] = {everything, lost}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sent: list[Message] = []
        unsent: list[Message] = []
        for message, publish in zip(batch, publishes, strict=True):
            acknowledged = publish.done() and not publish.cancelled() and publish.exception() is None
            (sent if acknowledged else unsent).append(message)
            publish.cancel()
        for message in sent:
            outbox.confirm(message)
        outbox.put_back(unsent)
    if unsent:
        raise aiomqtt.MqttError(f"{len(unsent)} messages were not acknowledged")
    return sent
