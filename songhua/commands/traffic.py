"""Sending data: `songhua simulate` (a city of any size at any rate) and `songhua replay` (a recording)."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from devices.errors import ConfigError
from devices.model import Device, Gateway, Zone
from songhua.commands.options import Broker, Register, Var, duration
from songhua.exit_codes import FAILED
from songhua.settings import Settings, load

_PATIENCE = 5.0  # s for a broker to come up
_RETRY_EVERY = 0.25  # s


def simulate(
    devices: Annotated[int, typer.Option(min=1, help="How many devices.")] = 1_000,
    rate: Annotated[
        float, typer.Option(min=0, help="Readings per second over all devices; 0 = as fast as it goes.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="The same seed is the same city.")] = 1,
    for_: Annotated[
        int | None, typer.Option("--for", metavar="60s", parser=duration, help="How long. Default: until Ctrl-C.")
    ] = None,
    messages: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many readings.", show_default=False)
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Append a line `device time` for each acknowledged reading.", show_default=False
        ),
    ] = None,
    broker: Broker = None,
    register: Register = None,
    var: Var = None,
) -> None:
    """Publish a simulated city's readings to a broker, at any rate."""
    from simulators.city import build_city
    from simulators.load import run_load

    settings = load(var=var)
    if _registry_wanted(settings, register):
        city = build_city(seed, devices)
        _register(settings, city.zones, city.gateways, city.devices)

    async def run() -> int:
        stop, url = _stop_on_signal(), _broker_url(settings, broker)
        await _reach(url)
        lasting = None if for_ is None else timedelta(milliseconds=for_)
        report = await run_load(
            devices,
            rate,
            seed,
            url,
            messages=messages,
            duration=lasting,
            log=log,
            stop=stop,
        )
        print(
            f"{report.acknowledged:,} readings acknowledged in {report.seconds:,.1f} s ({report.rate:,.0f}/s), "
            f"{report.refused:,} refused, {report.unheard:,} unheard, {report.unacknowledged:,} unacknowledged"
        )
        return int(report.acknowledged < report.made)

    sys.exit(_run(run))


def replay(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A recording, CSV or Parquet.")],
    map_file: Annotated[Path, typer.Option("--map", exists=True, dir_okay=False, help="Which column is what (YAML).")],
    speed: Annotated[float, typer.Option(min=0, help="Recorded time over real time; 0 = as fast as it goes.")] = 0,
    as_live: Annotated[
        bool, typer.Option("--as-live", help="As if it happened now, so that alarms are raised.")
    ] = False,
    broker: Broker = None,
    register: Register = None,
    var: Var = None,
) -> None:
    """Send a recording through MQTT as the devices that its map names; as history unless --as-live."""
    from simulators.recording_map import inventory
    from simulators.replay import replay as send

    settings = load(var=var)
    known = inventory(map_file)
    if _registry_wanted(settings, register):
        _register(settings, known.zones, known.gateways, known.devices)

    async def run() -> int:
        stop, url = _stop_on_signal(), _broker_url(settings, broker)
        await _reach(url)
        report = await send(file, map_file, broker_url=url, speed=speed, as_live=as_live, stop=stop)
        print(
            f"{report.rows:,} rows, {report.readings:,} readings in {report.messages:,} messages, "
            f"{report.acknowledged_readings:,} acknowledged in {report.seconds:,.1f} s ({report.rate:,.0f}/s)"
        )
        return int(report.acknowledged_readings < report.readings)

    sys.exit(_run(run))


def _run(work: Callable[[], Coroutine[None, None, int]]) -> int:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(work())
        except asyncio.CancelledError:
            return FAILED


async def _reach(url: str) -> None:
    """Connect once: a broker that is away or refuses us is tried for ever later, but at the start it is said.

    Raises `ConfigError`.
    """
    import aiomqtt

    from simulators.broker import broker_address

    address = broker_address(url)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            async with aiomqtt.Client(
                address.host,
                address.port,
                username=address.username,
                password=address.password,
                protocol=aiomqtt.ProtocolVersion.V5,
                timeout=_PATIENCE,
            ):
                return
        except aiomqtt.MqttError as error:
            code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
            if code is not None and not isinstance(code, int):  # what a CONNACK says
                raise ConfigError(f"the broker at {address!r} refuses us: {code}") from error
            if time.monotonic() >= deadline:
                raise ConfigError(f"no broker answers at {address!r}: {error}") from error
            await asyncio.sleep(_RETRY_EVERY)


def _register(
    settings: Settings, zones: Iterable[Zone], gateways: Iterable[Gateway], devices: Iterable[Device]
) -> None:
    from songhua.database import open_existing
    from storage.registry import Registry

    Registry(open_existing(settings)).register(zones=zones, gateways=gateways, devices=devices)


def _stop_on_signal() -> asyncio.Event:
    """Set by the first signal; the second one no longer waits for what is in flight."""
    stop, task = asyncio.Event(), asyncio.current_task()
    assert task is not None

    def stop_or_cancel() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop_or_cancel)
    return stop


def _broker_url(settings: Settings, given: str | None) -> str:
    from songhua.broker import url

    return given or url(settings)


def _registry_wanted(settings: Settings, register: bool | None) -> bool:
    """As asked; unasked, where there is a city to register in."""
    from songhua.database import open_existing

    if register is not None:
        return register
    try:
        open_existing(settings)
    except ConfigError:
        return False
    return True
