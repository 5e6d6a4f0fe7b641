"""Load: a city of any size at any rate from one process, with a log of every reading that the broker acknowledged.

`run_load` shares the devices of `build_city(seed, devices)` among a few connections and publishes their readings in
turn, QoS 1, native payload, no gateway statuses. It keeps to the offered rate, also across an outage (it catches up),
and sends again what was not acknowledged. A line of the log ("device time") is written and flushed only after PUBACK:
whoever reads it may ask the service for every key. Connection errors are retried for ever; `ConfigError` for
impossible parameters.
"""

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec

from devices.errors import ConfigError
from simulators.broker import BrokerAddress, broker_address
from simulators.city import City, build_city
from simulators.link import Delivery, Link, LinkError
from simulators.waveforms import build_waveforms

_TICK = 0.002  # seconds between looks at the clock
_BURST = 1_000  # readings made before the sockets get their turn
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to connect
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class LoadReport:
    """Totals of a run. `acknowledged` are accepted PUBACKs; `refused` and `unheard` (no subscriber) are not among
    them.
    """

    made: int = 0
    acknowledged: int = 0
    refused: int = 0
    unheard: int = 0
    resent: int = 0
    reconnects: int = 0
    unacknowledged: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Acknowledged readings per second."""
        return self.acknowledged / self.seconds if self.seconds else 0.0


async def run_load(
    devices: int,
    rate: float,
    seed: int,
    broker_url: str,
    *,
    messages: int | None = None,
    duration: timedelta | None = None,
    clients: int = 8,
    window: int = 1_000,
    log: Path | None = None,
    stop: asyncio.Event | None = None,
    drain: timedelta = timedelta(seconds=60),
    report: LoadReport | None = None,
) -> LoadReport:
    """Publish until `messages` readings are made, `duration` is over or `stop` is set, then wait for the last
    PUBACKs.

    `rate` is readings per second over all devices, 0 = as fast as the broker acknowledges with `window` in flight on
    each of `clients` connections. After the end at most `drain` is waited for what is still unacknowledged. `report`
    is kept up to date.
    """
    if rate < 0 or clients < 1 or not 1 <= window <= 65_535:
        raise ConfigError("load needs a rate >= 0, at least one client and a window of 1 to 65535")
    report = report if report is not None else LoadReport()
    stop = stop or asyncio.Event()
    address = broker_address(broker_url)
    city = build_city(seed, devices)
    try:
        file = log.open("ab") if log is not None else None
    except OSError as error:
        raise ConfigError(f"cannot write the log {log}: {error.strerror}") from error
    try:
        senders = [_Sender(address, window, report, file) for _ in range(min(clients, devices))]
        source = _Source(city, senders)
        tasks = [asyncio.create_task(sender.run()) for sender in senders]
        started = time.monotonic()
        try:
            await _produce(source, rate, messages, duration, stop, report, window)
            deadline = time.monotonic() + drain.total_seconds()
            while any(sender.backlog for sender in senders) and time.monotonic() < deadline:
                await asyncio.wait(tasks, timeout=_TICK)
        finally:
            report.seconds = time.monotonic() - started
            report.unacknowledged = sum(sender.backlog for sender in senders)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        if file is not None:
            file.close()
    return report


async def _produce(
    source: "_Source",
    rate: float,
    messages: int | None,
    duration: timedelta | None,
    stop: asyncio.Event,
    report: LoadReport,
    window: int,
) -> None:
    """Make readings when they are due; no more than two windows a client may wait, so that memory stays bounded."""
    started = time.monotonic()
    most = 2 * window * len(source.senders)
    while not stop.is_set():
        elapsed = time.monotonic() - started
        if duration is not None and elapsed >= duration.total_seconds():
            return
        due = int(rate * elapsed) - report.made if rate else _BURST
        room = most - sum(sender.backlog for sender in source.senders)
        count = min(due, room, _BURST if messages is None else min(_BURST, messages - report.made))
        if count > 0:
            source.make(count)
            report.made += count
        if messages is not None and report.made >= messages:
            return
        await asyncio.sleep(0 if count == _BURST else _TICK)


class _Source:
    """Takes the devices in turn; a device never reports the same time twice."""

    def __init__(self, city: City, senders: list["_Sender"]) -> None:
        self.senders = senders
        waveforms = build_waveforms(city)
        order = list(city.devices)
        random.Random(city.seed).shuffle(order)
        self._devices = [
            (device.id, f"songhua/v1/{device.district}/{device.gateway}/{device.id}/up", waveforms[device.id].values)
            for device in order
        ]
        self._last = [0] * len(order)
        self._next = 0

    def make(self, count: int) -> None:
        now = time.time_ns() // 1_000_000
        for _ in range(count):
            index = self._next
            self._next = (index + 1) % len(self._devices)
            device, topic, values = self._devices[index]
            moment = self._last[index] = max(now, self._last[index] + 1)
            payload = _encode({"t": moment, **values(moment)})
            self.senders[index % len(self.senders)].queue.append(Delivery(topic, payload, device, moment))
        for sender in self.senders:
            sender.pump()


class _Sender:
    """Keeps one connection up and everything unacknowledged in memory."""

    def __init__(self, address: BrokerAddress, window: int, report: LoadReport, log: BinaryIO | None) -> None:
        self.queue: deque[Delivery] = deque()
        self._address = address
        self._window = window
        self._report = report
        self._log = log
        self._link: Link | None = None
        self._name = f"songhua-load-{uuid.uuid4().hex[:12]}"

    @property
    def backlog(self) -> int:
        """Readings made but not acknowledged."""
        return len(self.queue) + (self._link.in_flight if self._link else 0)

    async def run(self) -> None:
        pause = _SHORTEST_PAUSE
        try:
            while True:
                before = self._report.acknowledged
                try:
                    await self._serve()
                except LinkError:
                    pass
                self._report.reconnects += 1
                # A broker that takes the connection but no message is as absent as one that does not listen.
                pause = _SHORTEST_PAUSE if self._report.acknowledged > before else min(_LONGEST_PAUSE, 2 * pause)
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        finally:
            if self._link is not None:
                self._link.close()

    async def _serve(self) -> None:
        """One connection from its beginning to its loss."""
        self._link = await Link.connect(self._address, self._name, self._window, self._acknowledged)
        self.pump()
        while not self._link.lost.done():
            await asyncio.wait({self._link.lost}, timeout=5)
            self._link.keep_alive()
        unsent = self._link.unacknowledged
        self._link = None
        self.queue.extendleft(reversed(unsent))
        self._report.resent += len(unsent)

    def pump(self) -> None:
        """Send what the window allows."""
        if self._link is not None and self.queue:
            count = min(self._link.free, len(self.queue))
            if count > 0:
                self._link.send([self.queue.popleft() for _ in range(count)])

    def _acknowledged(self, accepted: list[Delivery], refused: int, unheard: int) -> None:
        self._report.acknowledged += len(accepted)
        self._report.refused += refused
        self._report.unheard += unheard
        if self._log is not None and accepted:
            self._log.write(_lines(accepted))
            self._log.flush()
        self.pump()


def _lines(accepted: Iterable[Delivery]) -> bytes:
    return "".join(f"{delivery.device} {delivery.time}\n" for delivery in accepted).encode()
