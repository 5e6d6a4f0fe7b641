"""The living city: all gateways of an inventory publishing to a broker, with incidents under way and their truth on
file.

`run_city` owns the truth file and, beside it, a small state file that says up to when each gateway has published; a
second run continues from there, with the same incidents and therefore the same totals. A broker that is away is
waited for. Raises `ConfigError` for a wrong broker URL and `OSError` when the files cannot be written.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from devices.model import Milliseconds
from simulators.broker import broker_address
from simulators.city import City
from simulators.gateway import FleetCounts, GatewayClient, wall_clock
from simulators.incidents import Schedule
from simulators.sensor import Sensor, device_without_clock
from simulators.truth import TruthFile, read_truth
from simulators.waveforms import build_waveforms

HISTORY = timedelta(hours=25)  # a little more than the day that 24 h rules look back


class _Progress(msgspec.Struct):
    """The state file: whose progress it is, and the true time (ms) before which each gateway's readings are at the
    broker.
    """

    seed: int
    devices: int
    published_until: dict[str, Milliseconds]


async def run_city(
    city: City,
    broker_url: str,
    *,
    truth: Path,
    stop: asyncio.Event,
    history: timedelta = HISTORY,
    interval_factor: float = 1.0,
    incident_every: timedelta = timedelta(minutes=4),
    counts: FleetCounts | None = None,
) -> FleetCounts:
    """Run the city until `stop` is set; returns (and keeps up to date, if given) the totals.

    `history` is how far back the stored readings of a first run reach; `interval_factor` stretches every device's
    interval; an incident begins about every `incident_every`. Incidents are appended to `truth`.
    """
    counts = counts if counts is not None else FleetCounts()
    address = broker_address(broker_url)
    state_file = truth.with_suffix(".state.json")
    published_until = _read_progress(state_file, city)
    now = wall_clock()
    file = TruthFile(truth)
    file.open()
    try:
        schedule = Schedule(
            city,
            start=now,
            known=read_truth(truth).values(),
            not_before=max(published_until.values(), default=0),
            every=int(incident_every.total_seconds() * 1000),
            record=file.write,
        )
        sensors = _sensors(city, schedule, interval_factor, now)
        clients = [
            GatewayClient(gateway, sensors.get(gateway.id, []), address, schedule, counts) for gateway in city.gateways
        ]
        earliest = now - int(history.total_seconds() * 1000)
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.run(max(earliest, published_until.get(client.id, 0)), stop))
            tasks.create_task(_keep_books(schedule, clients, counts, state_file, city, stop))
        _enter(clients, counts, state_file, city)
    finally:
        file.close()
    return counts


def _sensors(city: City, schedule: Schedule, interval_factor: float, now: Milliseconds) -> dict[str, list[Sensor]]:
    waveforms = build_waveforms(city, schedule.affecting)
    clockless = device_without_clock(city)
    sensors: dict[str, list[Sensor]] = {}
    for device in city.devices:
        sensors.setdefault(device.gateway, []).append(
            Sensor(
                device,
                waveforms[device.id],
                seed=city.seed,
                interval=max(1, int(device.interval * interval_factor)),
                booted=now,
                clockless=device.id == clockless,
            )
        )
    return sensors


async def _keep_books(
    schedule: Schedule,
    clients: list[GatewayClient],
    counts: FleetCounts,
    state_file: Path,
    city: City,
    stop: asyncio.Event,
) -> None:
    while not stop.is_set():
        schedule.advance(wall_clock())
        _enter(clients, counts, state_file, city)
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            pass


def _enter(clients: list[GatewayClient], counts: FleetCounts, state_file: Path, city: City) -> None:
    counts.waiting = sum(client.waiting for client in clients)
    counts.dropped = sum(client.dropped for client in clients)
    _write_progress(state_file, city, clients)


def _read_progress(path: Path, city: City) -> Mapping[str, Milliseconds]:
    """Empty for a first run, and for the progress of another city."""
    try:
        progress = msgspec.json.decode(path.read_bytes(), type=_Progress)
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
    same = (progress.seed, progress.devices) == (city.seed, len(city.devices))
    return progress.published_until if same else {}


def _write_progress(path: Path, city: City, clients: list[GatewayClient]) -> None:
    progress = _Progress(city.seed, len(city.devices), {client.id: client.published_until for client in clients})
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(progress))
    fresh.replace(path)
