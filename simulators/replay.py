"""Replay of a recording through MQTT, as the devices that its map names.

As history (the default) every reading keeps its original time and goes to `songhua/v1/history/...`, where it is
stored and never alarmed. As live, times are moved to the present and readings go to the devices' ordinary topics. One
reading is one (device, time); readings travel in lists of up to 200 a message, at most a few messages in flight, and
what the broker did not acknowledge is sent again. Raises `ConfigError` for a wrong map, file or URL; a broker that is
away is waited for.
"""

import asyncio
import random
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import msgspec

from devices.errors import ConfigError
from devices.model import Device, Milliseconds
from simulators.broker import BrokerAddress, broker_address
from simulators.delivery import deliver, watched
from simulators.outbox import Message, Outbox
from simulators.recording import Block, read_recording, span
from simulators.recording_map import Inventory, RecordingMap, inventory, load_map

__all__ = ["Inventory", "ReplayReport", "inventory", "replay"]

_OLDEST_LIVE = 7 * 86_400_000 - 3_600_000  # ms; older device times are not believed, an hour is kept in hand
_MOST_WAITING = 20_000  # readings in memory
_LONGEST_PAUSE = 5.0  # seconds between attempts to connect
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class ReplayReport:
    """Totals of a replay: rows read, readings and messages made, and how many of these the broker acknowledged."""

    rows: int = 0
    readings: int = 0
    messages: int = 0
    acknowledged_readings: int = 0
    acknowledged_messages: int = 0
    reconnects: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Acknowledged readings per second."""
        return self.acknowledged_readings / self.seconds if self.seconds else 0.0


async def replay(
    file: Path,
    map_file: Path,
    *,
    broker_url: str,
    speed: float = 0.0,
    as_live: bool = False,
    stop: asyncio.Event | None = None,
    report: ReplayReport | None = None,
) -> ReplayReport:
    """Send the recording `file` as `map_file` says; returns when all of it is acknowledged or `stop` is set.

    `speed` is recorded time over real time; 0 means as fast as the broker takes it. `as_live` with a speed lets the
    recording start now, each reading bearing the time at which it is sent; with speed 0 the recording ends now and
    must be shorter than a week, because older device times are not believed. `report` is kept up to date.
    """
    if speed < 0:
        raise ConfigError("the speed of a replay is 0 (as fast as possible) or more")
    report = report if report is not None else ReplayReport()
    stop = stop or asyncio.Event()
    address = broker_address(broker_url)
    recording = load_map(map_file)
    shift = await asyncio.to_thread(_shift, file, recording, speed) if as_live else _unshifted
    outbox = Outbox(limit=10 * _MOST_WAITING)
    started = time.monotonic()
    sender = asyncio.create_task(_send(outbox, address, report))
    try:
        feeder = _Feeder(map_file, recording, outbox, report, history=not as_live, shift=shift)
        for block in read_recording(file, recording):
            await feeder.feed(block, speed, stop, sender)
            if stop.is_set():
                break
        while len(outbox) and not stop.is_set():
            await _look_after(sender)
    finally:
        report.seconds = time.monotonic() - started
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
    return report


def _unshifted(moment: Milliseconds) -> Milliseconds:
    return moment


def _shift(file: Path, recording: RecordingMap, speed: float) -> Callable[[Milliseconds], Milliseconds]:
    """The clock of a recording replayed as live."""
    first, last = span(file, recording)
    now = time.time_ns() // 1_000_000
    if speed:
        return lambda moment: now + int((moment - first) / speed)
    if last - first > _OLDEST_LIVE:
        days = (last - first) / 86_400_000
        raise ConfigError(
            f"{file.name}: {days:.0f} days cannot be replayed as live at speed 0, because device times older than "
            "7 days are not believed; give a speed, or replay it as history"
        )
    return lambda moment: moment + now - last


async def _look_after(sender: asyncio.Task[None], seconds: float = 0.005) -> None:
    """Wait a little; a sender that died passes its error on."""
    done, _ = await asyncio.wait({sender}, timeout=seconds)
    for task in done:
        task.result()


class _Feeder:
    """Turns blocks of rows into messages, when they are due."""

    def __init__(
        self,
        map_file: Path,
        recording: RecordingMap,
        outbox: Outbox,
        report: ReplayReport,
        *,
        history: bool,
        shift: Callable[[Milliseconds], Milliseconds],
    ) -> None:
        self._outbox = outbox
        self._report = report
        self._shift = shift
        self._started = time.monotonic()
        self._first: Milliseconds | None = None
        prefix = "songhua/v1/history" if history else "songhua/v1"
        # per device: its topic, and (property, index of the column) of each of its series
        self._devices = [
            (
                _topic(prefix, device),
                [
                    (series.property, index)
                    for index, series in enumerate(recording.series)
                    if series.device == device.id
                ],
            )
            for device in inventory(map_file).devices
        ]

    async def feed(self, block: Block, speed: float, stop: asyncio.Event, sender: asyncio.Task[None]) -> None:
        """Queue every row of the block when it is due, all at once where speed is 0."""
        first = self._first = block.times[0] if self._first is None else self._first
        sent = 0
        while sent < len(block.times) and not stop.is_set():
            if len(self._outbox) > _MOST_WAITING:
                await _look_after(sender)
                continue
            due = len(block.times)
            if speed:
                elapsed = (time.monotonic() - self._started) * 1000
                due = bisect_right(block.times, first + elapsed * speed)
                if due == sent:
                    ahead = (block.times[sent] - first) / speed - elapsed
                    await _look_after(sender, min(1.0, ahead / 1000 + 0.001))
                    continue
            for message in self._messages(block, sent, due):
                self._outbox.add(message)
                self._report.messages += 1
                self._report.readings += len(message.elements)
            self._report.rows += due - sent
            sent = due

    def _messages(self, block: Block, start: int, end: int) -> Iterator[Message]:
        times = [self._shift(moment) for moment in block.times[start:end]]
        for topic, series in self._devices:
            columns = [(name, block.columns[index][start:end]) for name, index in series]
            elements = []
            for row, moment in enumerate(times):
                values = {name: column[row] for name, column in columns if column[row] is not None}
                if values:
                    elements.append(_encode({"t": moment, **values}))
            if elements:
                yield Message(topic, elements, times[0])


def _topic(prefix: str, device: Device) -> str:
    return f"{prefix}/{device.district}/{device.gateway}/{device.id}/up"


async def _send(outbox: Outbox, address: BrokerAddress, report: ReplayReport) -> None:
    """Deliver for ever; reconnects with back-off."""
    pause, name = 0.1, f"songhua-replay-{uuid.uuid4().hex[:12]}"
    while True:
        try:
            async with (
                aiomqtt.Client(
                    address.host,
                    address.port,
                    username=address.username,
                    password=address.password,
                    identifier=name,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    clean_start=True,
                ) as client,
                watched(client) as lost,
            ):
                client.pending_calls_threshold = 100
                while True:
                    sent = await deliver(client, outbox, lost)
                    if not sent:
                        await asyncio.sleep(0.002)
                        continue
                    pause = 0.1
                    report.acknowledged_messages += len(sent)
                    report.acknowledged_readings += sum(len(message.elements) for message in sent)
        except aiomqtt.MqttError:
            report.reconnects += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(_LONGEST_PAUSE, 2 * pause)
