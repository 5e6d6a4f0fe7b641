"""One drain of a preloaded session, in its own process so that its CPU time is its own.

KIND `ack` only acknowledges; `full` is the whole ingest process as it ships (journal with fsync, decode, every shipped
rule, outbox) with the telemetry store of the given URL. Prints one JSON line.
"""

import argparse
import asyncio
import gc
import json
import resource
import time
from pathlib import Path

import uvloop

from bench.preload import new_session
from bench.workload import city
from songhua import migrations
from songhua.ingest_parts import CLIENT_ID
from songhua.ingest_process import IngestProcess
from songhua.settings import Settings
from storage.metadata import open_engine
from storage.registry import Registry


async def acknowledge_only(url: str, count: int) -> dict[str, float]:
    """What a subscriber can do at most here: read and acknowledge in batches."""
    session, inbox = new_session(url, CLIENT_ID)
    clock = _Clock()
    session.on_link = lambda up, resumed: clock.begin()
    await session.start()
    taken = 0
    while taken < count:
        messages = await inbox.receive()
        inbox.acknowledge(messages)
        taken += len(messages)
    figures = clock.figures(count)
    await session.stop()
    return figures


async def full_path(settings: Settings, count: int, devices: int) -> dict[str, float]:
    """The ingest process until store and rules have passed the last message."""
    settings.var.mkdir(parents=True, exist_ok=True)
    engine = open_engine(settings.relational_url)
    migrations.upgrade(engine)
    fleet = city(devices)
    Registry(engine).register(zones=fleet.zones, gateways=fleet.gateways, devices=fleet.devices)
    process = IngestProcess(settings)
    parts = process.parts
    clock = _Clock()
    note_link = parts.session.on_link

    def connected(up: bool, resumed: bool) -> None:
        clock.begin()
        note_link(up, resumed)

    parts.session.on_link = connected
    await process.start()
    while min(parts.store_task.position, parts.rules_task.position) < count:
        await asyncio.sleep(0.02)
        for task in process.tasks:
            if task.done():
                task.result()
    figures = clock.figures(count)
    figures["stored"] = parts.store.stored
    await process.stop()
    return figures


class _Clock:
    """Wall and CPU time since the connection to the broker was there: starting up is not part of a drain."""

    def begin(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def figures(self, count: int) -> dict[str, float]:
        return {
            "messages_per_second": count / (time.perf_counter() - self._wall),
            "cpu_us_per_message": (time.process_time() - self._cpu) / count * 1e6,
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def main() -> None:
    """The command line of the measuring process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("ack", "full"))
    parser.add_argument("url")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--var", type=Path)
    parser.add_argument("--store", default="null:")
    given = parser.parse_args()
    gc.set_threshold(50_000, 50, 50)
    if given.kind == "ack":
        figures = uvloop.run(acknowledge_only(given.url, given.count))
    else:
        settings = Settings(var=given.var, broker_url=given.url).model_copy(update={"store_url": given.store})
        figures = uvloop.run(full_path(settings, given.count, given.devices))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
