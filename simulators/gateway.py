"""One simulated gateway: an MQTT 5 client with a will, its sensors, and a memory that outlives broken connections.

On every CONNECT it takes a new session name, publishes the retained status and then what waited; readings that the
broker has not acknowledged are sent again (QoS 1, so the broker may see some twice). In a `gateway_down` incident the
socket is cut without a DISCONNECT and the broker publishes the will. When the run stops the gateway leaves with a
DISCONNECT and no status: the simulation pauses, its gateways do not fail. Connection errors are retried for ever with
jittered back-off; nothing is raised but cancellation. OASIS MQTT 5.0 sections 3.1.2.5 (will) and 4.4 (delivery
retry).
"""

import asyncio
import heapq
import random
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import aiomqtt
import msgspec

from devices.model import Gateway, Milliseconds
from simulators.broker import BrokerAddress
from simulators.delivery import WINDOW, deliver, watched
from simulators.incidents import Schedule
from simulators.outbox import Outbox
from simulators.sensor import Sensor

_FLUSH = 2.0  # seconds granted to the outbox when the run stops
_LONGEST_PAUSE = 15.0  # seconds between attempts to connect


@dataclass(slots=True)
class FleetCounts:
    """Running totals of all gateways; `readings` and `messages` are those the broker acknowledged."""

    connected: int = 0
    reconnects: int = 0
    readings: int = 0
    messages: int = 0
    repeated: int = 0
    dropped: int = 0
    waiting: int = 0


def wall_clock() -> Milliseconds:
    return time.time_ns() // 1_000_000


class GatewayClient:
    """Runs one gateway until `stop`; `published_until` is where a later run has to take up its history."""

    def __init__(
        self,
        gateway: Gateway,
        sensors: Sequence[Sensor],
        address: BrokerAddress,
        schedule: Schedule,
        counts: FleetCounts,
    ) -> None:
        self.id = gateway.id
        self._address = address
        self._sensors = sensors
        self._schedule = schedule
        self._counts = counts
        self._status = f"songhua/v1/{gateway.district}/{gateway.id}/status"
        self._outbox = Outbox()
        self._fresh = asyncio.Event()
        self._measured_until: Milliseconds = 0

    @property
    def published_until(self) -> Milliseconds:
        """True time before which every reading is at the broker."""
        oldest = self._outbox.oldest
        return self._measured_until if oldest is None else oldest - 1

    @property
    def waiting(self) -> int:
        return len(self._outbox)

    @property
    def dropped(self) -> int:
        return self._outbox.dropped

    async def run(self, history_from: Milliseconds, stop: asyncio.Event) -> None:
        """Deliver the stored history since `history_from`, then measure and deliver until `stop`."""
        self._measured_until = min(history_from, wall_clock())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._measure(history_from, stop))
            tasks.create_task(self._stay_connected(stop))

    async def _measure(self, history_from: Milliseconds, stop: asyncio.Event) -> None:
        now = wall_clock()
        for sensor in self._sensors:
            for message in sensor.history(history_from, now):
                self._outbox.add(message)
            self._fresh.set()
            await asyncio.sleep(0)
            if stop.is_set():
                return
        self._measured_until = now
        due = [(now + int(random.random() * sensor.interval), index) for index, sensor in enumerate(self._sensors)]
        heapq.heapify(due)
        while due and not stop.is_set():
            when, index = due[0]
            if await _wait(stop, (when - wall_clock()) / 1000):
                return
            now = wall_clock()
            sensor = self._sensors[index]
            messages = sensor.measure(now)
            for message in messages:
                self._outbox.add(message)
            if len(messages) == 2 and messages[0].elements == messages[1].elements:
                self._counts.repeated += 1
            self._measured_until = now
            self._fresh.set()
            # After a suspended machine the next reading is one interval from now, not a burst of missed ones.
            heapq.heapreplace(due, (max(when, now - sensor.interval) + sensor.interval, index))

    async def _stay_connected(self, stop: asyncio.Event) -> None:
        pause = 0.25
        while not stop.is_set():
            if incident := self._schedule.gateway_down(self.id, wall_clock()):
                await _wait(stop, (incident.ends - wall_clock()) / 1000)
                continue
            session = uuid.uuid4().hex
            will = aiomqtt.Will(
                self._status, msgspec.json.encode({"state": "offline", "session": session}), qos=1, retain=True
            )
            try:
                async with aiomqtt.Client(
                    self._address.host,
                    self._address.port,
                    username=self._address.username,
                    password=self._address.password,
                    identifier=self.id,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    clean_start=True,
                    will=will,
                    keepalive=30,
                ) as client:
                    pause = 0.25
                    client.pending_calls_threshold = WINDOW
                    online = {"state": "online", "session": session, "at": wall_clock()}
                    await client.publish(self._status, msgspec.json.encode(online), qos=1, retain=True)
                    self._counts.connected += 1
                    try:
                        async with watched(client) as lost:
                            await self._deliver(client, lost, stop)
                    finally:
                        self._counts.connected -= 1
            except aiomqtt.MqttError:
                self._counts.reconnects += 1
                await _wait(stop, pause * random.uniform(0.5, 1.5))
                pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _deliver(self, client: aiomqtt.Client, lost: asyncio.Task[None], stop: asyncio.Event) -> None:
        """Publish what waits; returns when the run stops, raises `MqttError` when the connection is gone or was cut."""
        self._outbox.merge()
        give_up = None
        while True:
            if stop.is_set():
                give_up = give_up or time.monotonic() + _FLUSH
                if not len(self._outbox) or time.monotonic() > give_up:
                    return
            if self._schedule.gateway_down(self.id, wall_clock()):
                await _cut(client, lost)
            sent = await deliver(client, self._outbox, lost)
            if sent:
                self._counts.messages += len(sent)
                self._counts.readings += sum(len(message.elements) for message in sent)
                continue
            self._fresh.clear()
            try:
                await asyncio.wait_for(self._fresh.wait(), 0.25)
            except TimeoutError:
                pass


async def _cut(client: aiomqtt.Client, lost: asyncio.Task[None]) -> None:
    """Lose the network: no DISCONNECT packet, so the broker must publish the will."""
    # aiomqtt offers no way to drop a connection; its paho client gives the socket.
    connection = client._client.socket()
    if isinstance(connection, socket.socket):
        connection.shutdown(socket.SHUT_RDWR)
    await asyncio.wait({lost}, timeout=2)
    raise aiomqtt.MqttError("connection cut by an incident")


async def _wait(stop: asyncio.Event, seconds: float) -> bool:
    """Whether the run stopped within `seconds`."""
    try:
        await asyncio.wait_for(stop.wait(), max(0.0, seconds))
    except TimeoutError:
        return False
    return True
