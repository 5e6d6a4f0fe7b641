"""The live publisher: normalised readings to `songhua/v1/live/{district}/{family}/{device}` for whoever watches now.

Best effort by design (QoS 0): at most one reading per device and `interval`, at most `rate` a second in all; readings
that must not look fresh (history, retained, late) are left out. Nothing depends on it, so it has no cursor.
"""

import asyncio

import aiomqtt
import msgspec
import structlog

from devices.model import DecodedBatch, Milliseconds, Reading, reported
from ingest.endpoint import Endpoint

log = structlog.get_logger(__name__)

_QUEUE = 1000
_RECONNECT = 2.0  # s
_FRESH: Milliseconds = 2 * 60 * 1000


class LivePublisher:
    """A consumer that starts at the head and forgets; `run` keeps its own connection to the broker."""

    name = "live"

    def __init__(self, endpoint: Endpoint, client_id: str, *, interval: Milliseconds = 1000, rate: int = 500) -> None:
        self._endpoint = endpoint
        self._client_id = client_id
        self._interval = interval
        self._rate = rate
        self._sent: dict[str, Milliseconds] = {}
        self._queue: asyncio.Queue[Reading] = asyncio.Queue(_QUEUE)
        self._second = 0
        self._budget = rate
        self.position = 0
        self.published = 0

    def offer(self, batch: DecodedBatch) -> None:
        """Pick from a batch what is worth showing; never waits."""
        second = batch.clock // 1000
        if second != self._second:
            self._second, self._budget = second, self._rate
        for reading in batch.readings:
            if self._budget <= 0 or self._queue.full():
                return
            device, now = reading.device.id, reading.received_at
            fresh = not reading.replayed and now - reading.time < _FRESH
            if fresh and now - self._sent.get(device, 0) >= self._interval:
                self._sent[device] = now
                self._budget -= 1
                self._queue.put_nowait(reading)

    async def run(self) -> None:
        """Publish until cancelled; reconnects for ever, dropping what was not sent."""
        endpoint, said = self._endpoint, ""
        while True:
            try:
                async with aiomqtt.Client(
                    endpoint.host,
                    endpoint.port,
                    username=endpoint.username,
                    password=endpoint.password,
                    identifier=self._client_id,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    tls_params=aiomqtt.TLSParameters() if endpoint.tls else None,
                ) as client:
                    said = ""
                    # publish may lose a cancellation, as wait_for of Python 3.11 does when its result comes with it
                    while not _cancelled():
                        reading = await self._queue.get()
                        await client.publish(_topic(reading), _payload(reading), qos=0)
                        self.published += 1
                raise asyncio.CancelledError
            except aiomqtt.MqttError as error:
                if str(error) != said:  # once per kind of failure, not once per attempt
                    log.info("live.disconnected", error=str(error))
                said = str(error)
                await asyncio.sleep(_RECONNECT)


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _topic(reading: Reading) -> str:
    return f"songhua/v1/live/{reading.device.district}/{reading.device.family}/{reading.device.id}"


def _payload(reading: Reading) -> bytes:
    document = {"device": reading.device.id, "time": reading.time, "values": reported(reading.values)}
    return msgspec.json.encode({**document, "quality": reading.quality})
