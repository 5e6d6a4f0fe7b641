"""CPU time per message of each stage of the path, each stage alone over the same messages, in one process."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mqtt5

from bench.workload import city, messages
from devices.catalogue import load as load_catalogue
from devices.model import DecodedBatch
from devices.profile import load_profiles
from ingest.decode import Decoder
from ingest.device_time import DeviceClock
from ingest.inbox import Inbox
from ingest.order import SeriesOrder
from ingest.packets import parse
from ingest.routing import Router, source_of
from rules import pack
from rules.engine import Engine
from storage.journal import Message
from storage.line_protocol import LineEncoder
from storage.registry import RegistryView
from storage.segments import SegmentJournal

_BATCH = 1_000


class _Sink:
    def write(self, data: bytes) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


def measure(count: int, devices: int) -> dict[str, float]:
    """us of CPU per message by stage, in the order of the path."""
    fleet = city(devices)
    view = RegistryView(1, {device.id: device for device in fleet.devices})
    wire = [
        mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=index % 60_000 + 1).write()
        for index, (topic, payload) in enumerate(messages(fleet, count))
    ]
    reads = [bytearray(b"".join(wire[start : start + _BATCH])) for start in range(0, count, _BATCH)]
    now = time.time_ns() // 1_000_000
    figures: dict[str, float] = {}

    def stage(name: str, work: Callable[[], object]) -> None:
        started = time.process_time()
        work()
        figures[name] = (time.process_time() - started) / count * 1e6

    arrived: list[list[Message]] = []
    stage("read MQTT packets", lambda: arrived.extend(parse(read, source_of, 1, now)[0] for read in reads))
    with tempfile.TemporaryDirectory(prefix="songhua-bench-") as directory:
        journal = SegmentJournal(Path(directory), quota_bytes=8 << 30)
        journal.start()
        stage("journal with fsync", lambda: [journal.append(batch) for batch in arrived])
        journal.close()
    inbox = asyncio.run(_inbox())
    stage("acknowledge", lambda: [inbox.acknowledge(batch) for batch in arrived])

    router = Router(load_profiles())
    router.set_registry(view)
    decoder = Decoder(router, DeviceClock())
    decoder.decode(1, arrived[0])  # routes are made once per topic
    decoded: list[DecodedBatch] = []
    stage("decode and normalise", lambda: decoded.extend(_decode(decoder, arrived)))
    order = SeriesOrder()
    stage("sort out late and repeated", lambda: [order.sort(batch.readings) for batch in decoded])
    encoder = LineEncoder()
    stage("line protocol", lambda: [encoder.encode(batch.readings) for batch in decoded])
    catalogue = load_catalogue()
    engine = Engine(pack.load(pack.shipped(), catalogue), catalogue, view)
    stage("rules", lambda: [engine.process(batch) for batch in decoded])
    figures["sum"] = sum(figures.values())
    return figures


async def _inbox() -> Inbox:
    inbox = Inbox()
    inbox.generation = 1
    inbox.attach(_Sink())
    return inbox


def _decode(decoder: Decoder, arrived: list[list[Message]]) -> list[DecodedBatch]:
    batches, first = [], 1
    for messages_ in arrived:
        batches.append(decoder.decode(first, messages_))
        first += len(messages_)
    return batches
