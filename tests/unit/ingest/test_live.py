"""The live publisher ends when it is told to, whatever its client makes of that."""

import asyncio
from typing import Any, Self

import pytest

from devices.model import DecodedBatch
from ingest import live
from ingest.endpoint import Endpoint
from tests.samples import NEW_YEAR, device, reading


class SwallowingClient:
    """Loses a cancellation that arrives together with the end of its publish, as `asyncio.wait_for` of Python 3.11."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.publishing = asyncio.Event()
        clients.append(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def publish(self, topic: str, payload: bytes, qos: int) -> None:
        self.publishing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


clients: list[SwallowingClient] = []


async def test_a_cancellation_that_the_client_loses_still_ends_the_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.aiomqtt, "Client", SwallowingClient)
    publisher = live.LivePublisher(Endpoint.parse("mqtt://127.0.0.1:1"), "test")
    publisher.offer(DecodedBatch(1, 1, NEW_YEAR, 1, [reading(device(), NEW_YEAR, flow_rate=1.0)], [], []))
    running = asyncio.create_task(publisher.run())
    while not clients:
        await asyncio.sleep(0)
    await clients[0].publishing.wait()
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=1)
    assert done == {running}
    assert running.cancelled()
