"""Latency at offered loads: publish to stored, and publish to alarm published, through the whole service.

    python -m bench.latency [--rates 500,5000] [--seconds N] [--json]

Runs `songhua ingest` (embedded stores, lateness 0) against a real mosquitto while `songhua simulate` offers the load.
Probe devices publish beside it: one reading that opens a manhole, once per device. Stored is when a reader of the
telemetry store sees it (asked every 2 ms), alarm is when the transition arrives over MQTT.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiomqtt

from devices.model import Device
from ingest.endpoint import Endpoint
from songhua import migrations
from storage.metadata import open_engine
from storage.registry import Registry
from storage.stores import open_store
from tests.parts import mosquitto

BUDGET_MS = 250.0  # p99 at 5,000 messages/s
_FAMILY = "pipe_drainage"
_ASK_EVERY = 0.002  # s
_PATIENCE = 10.0  # s for one probe


def probes(count: int) -> list[Device]:
    """Manholes that nobody else reports."""
    shared = {"family": _FAMILY, "profile": "songhua/drain-1", "district": "230102", "zone": "230102"}
    facts = {"depth": 3.0, "dry_level": 0.3}
    return [
        Device(id=f"probe-{index}", gateway="probe-gw", interval=60_000, facts=facts, **shared)
        for index in range(count)
    ]


@contextmanager
def service(broker_url: str, var: Path) -> Iterator[None]:
    """The ingest process, as `songhua ingest` runs it."""
    environment = os.environ | {"SONGHUA_BROKER_URL": broker_url, "SONGHUA_VAR": str(var)}
    process = subprocess.Popen([sys.executable, "-m", "songhua", "ingest"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def load(broker_url: str, var: Path, rate: int) -> Iterator[None]:
    """`rate` readings per second of 2,000 devices, from another process."""
    command = [sys.executable, "-m", "songhua", "simulate", "--devices", "2000", "--rate", str(rate), "--seed", "7"]
    environment = os.environ | {"SONGHUA_VAR": str(var)}
    process = subprocess.Popen(
        [*command, "--broker", broker_url], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


async def measure(broker_url: str, var: Path, devices: list[Device], seconds: float) -> dict[str, list[float]]:
    """Milliseconds to stored and to alarm for each probe, published evenly over `seconds`."""
    store = open_store(f"sqlite:///{var / 'telemetry.db'}")
    await store.start()
    endpoint = Endpoint.parse(broker_url)
    published: dict[str, float] = {}
    alarmed: dict[str, float] = {}
    stored: dict[str, float] = {}
    async with aiomqtt.Client(endpoint.host, endpoint.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe("songhua/v1/alarms/#", qos=1)

        async def listen() -> None:
            async for message in client.messages:
                alarm = json.loads(bytes(message.payload))["alarm"]  # type: ignore[arg-type]
                if alarm["rule"] == "pipe_drainage.cover_open":
                    alarmed.setdefault(alarm["subject"]["id"], time.perf_counter())

        async def watch(device: str) -> None:
            async with asyncio.timeout(_PATIENCE):
                while not await store.latest(_FAMILY, devices=[device]):
                    await asyncio.sleep(_ASK_EVERY)
            stored[device] = time.perf_counter()

        listening = asyncio.create_task(listen())
        watching = []
        for device in devices:
            topic = f"songhua/v1/{device.district}/{device.gateway}/{device.id}/up"
            payload = json.dumps({"t": time.time_ns() // 1_000_000, "cover_open": True, "level": 0.3})
            published[device.id] = time.perf_counter()
            await client.publish(topic, payload, qos=1)
            watching.append(asyncio.create_task(watch(device.id)))
            await asyncio.sleep(seconds / len(devices))
        await asyncio.gather(*watching)
        deadline = time.monotonic() + _PATIENCE
        while len(alarmed) < len(devices) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        listening.cancel()
    await store.close()
    return {
        "stored": [(stored[name] - at) * 1000 for name, at in published.items()],
        "alarm": [(alarmed[name] - at) * 1000 for name, at in published.items() if name in alarmed],
    }


def run(rate: int, seconds: float, count: int = 200) -> dict[str, Any]:
    """One load: percentiles in ms and how many probes arrived."""
    with mosquitto(max_queued_messages=0, persistence=False) as broker, tempfile.TemporaryDirectory() as directory:
        var = Path(directory)
        devices = probes(count)
        engine = open_engine(f"sqlite:///{var / 'songhua.db'}")
        migrations.upgrade(engine)
        Registry(engine).register(devices=devices)
        engine.dispose()
        with service(broker.url, var), load(broker.url, var, rate):
            time.sleep(8)  # the load's devices are registered and its rate is reached
            times = asyncio.run(measure(broker.url, var, devices, seconds))
    return {"rate": rate, "probes": count} | {name: _percentiles(values) for name, values in times.items()}


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in _SHARES.items()}
    return {"seen": len(ordered)} | at


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rates", default="500,5000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    results = [run(int(rate), given.seconds) for rate in given.rates.split(",")]
    if given.json:
        print(json.dumps(results))
        return
    print(f"{'offered msg/s':>14}  {'to':<7}{'seen':>6}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}   budget")
    for result in results:
        for name in ("stored", "alarm"):
            row = result[name]
            budget = ""
            if result["rate"] >= 5000:
                budget = f"p99 <= {BUDGET_MS:.0f} ms " + ("met" if row["p99"] <= BUDGET_MS else "MISSED")
            figures = "".join(f"{row[share]:>9.1f}" for share in _SHARES)
            print(f"{result['rate']:>14,}  {name:<7}{row['seen']:>6}{figures}   {budget}")


if __name__ == "__main__":
    main()
