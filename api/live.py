"""Live readings of the devices that somebody watches: one MQTT connection of this process, subscribed device by device.

Receives what ingest publishes on `songhua/v1/live/{district}/{family}/{device}` and hands it to the feed. Best effort:
a broker that is away is asked again with jitter, what was said meanwhile is not missed by anybody; the same after an
error that nobody expected. Connects while somebody watches, not before.
"""

import asyncio
import random
import secrets
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated
from urllib.parse import unquote, urlsplit

import aiomqtt
import msgspec
import structlog

from api.feed import sse
from api.parameters import LATEST_MOMENT
from devices.model import Milliseconds
from rules.documents import rfc3339

_log = structlog.get_logger("api")
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 15.0


class LiveReading(msgspec.Struct):
    """A normalised reading as published by ingest; `time` in ms since the epoch."""

    device: str
    time: Annotated[Milliseconds, msgspec.Meta(ge=0, le=LATEST_MOMENT)]
    values: dict[str, float | str]
    quality: str = "ok"


_decoder = msgspec.json.Decoder(LiveReading)


class LiveReadings:
    """`offer(device, event)` receives every reading of a watched device.

    `broker_url` is `mqtt(s)://user:password@host:port`.
    """

    def __init__(self, broker_url: str, offer: Callable[[str, bytes], None]) -> None:
        self._address = urlsplit(broker_url)
        self._offer = offer
        self._watched: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Be ready to connect."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Disconnect; safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def watch(self, device: str) -> None:
        """One more watches this device."""
        self._watched[device] += 1
        self._changed.set()

    def unwatch(self, device: str) -> None:
        """One fewer watches it."""
        self._watched[device] -= 1
        if self._watched[device] <= 0:
            del self._watched[device]
        self._changed.set()

    async def _run(self) -> None:
        wait = _FIRST_WAIT_S
        while True:
            await self._changed.wait()
            if not self._watched:
                self._changed.clear()
                continue
            try:
                async with self._client() as client:
                    wait = _FIRST_WAIT_S
                    await self._relay(client)
                continue
            except (aiomqtt.MqttError, OSError) as error:
                _log.info("no live readings", error=str(error))
            except Exception:
                _log.exception("no live readings after an unexpected error")
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(_LONGEST_WAIT_S, wait * 2)
            self._changed.set()

    def _client(self) -> aiomqtt.Client:
        address = self._address
        tls = address.scheme == "mqtts"
        return aiomqtt.Client(
            address.hostname or "127.0.0.1",
            address.port or (8883 if tls else 1883),
            username=unquote(address.username) if address.username else None,
            password=unquote(address.password) if address.password else None,
            identifier=f"songhua-api-{secrets.token_hex(4)}",
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=ssl.create_default_context() if tls else None,
            timeout=10,
        )

    async def _relay(self, client: aiomqtt.Client) -> None:
        """Until nobody watches any more or the connection breaks."""
        listening = asyncio.create_task(self._listen(client))
        subscribed: set[str] = set()
        try:
            while self._watched:
                self._changed.clear()
                wanted = set(self._watched)
                for device in wanted - subscribed:
                    await client.subscribe(f"songhua/v1/live/+/+/{device}", qos=0)
                for device in subscribed - wanted:
                    await client.unsubscribe(f"songhua/v1/live/+/+/{device}")
                subscribed = wanted
                changing = asyncio.create_task(self._changed.wait())
                done, _ = await asyncio.wait({listening, changing}, return_when=asyncio.FIRST_COMPLETED)
                changing.cancel()
                if listening in done:
                    listening.result()
                    return
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            if (reading := decode_reading(str(message.topic), payload)) is not None:
                self._offer(reading.device, reading_event(reading))


def decode_reading(topic: str, payload: bytes) -> LiveReading | None:
    """What ingest publishes; None for anything else, also where topic and payload name different devices."""
    try:
        reading = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return reading if topic.rpartition("/")[2] == reading.device else None


def reading_event(reading: LiveReading) -> bytes:
    """The same shape as an item of `/v1/latest`."""
    document = {
        "device": reading.device,
        "time": rfc3339(reading.time),
        "values": reading.values,
        "quality": reading.quality,
    }
    return sse("reading", document)
