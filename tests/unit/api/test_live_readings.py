"""The connection for live readings comes back whatever broke it."""

import asyncio
from types import TracebackType

import aiomqtt
import pytest

from api import live


class BrokenClient:
    """Fails in the way given before it is connected."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __aenter__(self) -> "BrokenClient":
        raise self._error

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None: ...


@pytest.mark.parametrize("error", [aiomqtt.MqttError("gone"), ValueError("unexpected"), OSError("no route")])
async def test_whatever_breaks_the_connection_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(live, "_FIRST_WAIT_S", 0.001)
    readings = live.LiveReadings("mqtt://127.0.0.1:1", lambda _device, _event: None)
    tries: asyncio.Queue[None] = asyncio.Queue()

    def client() -> BrokenClient:
        tries.put_nowait(None)
        return BrokenClient(error)

    monkeypatch.setattr(readings, "_client", client)
    readings.watch("wm-1")
    await readings.start()
    async with asyncio.timeout(5):
        for _ in range(3):
            await tries.get()
    await readings.close()
