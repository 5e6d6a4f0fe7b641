"""The process that plays the demo city: registers its inventory, then runs its gateways against the broker.

The city is the same at every start (one seed), so that a second start continues the first one. Its incidents go to
`var/truth.jsonl`. Raises `ConfigError` for an address that cannot be one; a broker that is away is waited for.
"""

import asyncio
from dataclasses import asdict
from typing import Any

from simulators.city import City, build_city
from simulators.fleet import run_city
from simulators.gateway import FleetCounts
from songhua import broker, heartbeat, migrations
from songhua.settings import Settings
from storage.metadata import open_engine
from storage.registry import Registry

SEED = 1
PROCESS = "simulator"


async def run_simulator(settings: Settings, stop: asyncio.Event) -> None:
    """Run the demo city until `stop`."""
    engine = open_engine(settings.relational_url)
    city = build_city(SEED)
    counts = FleetCounts()

    def document() -> dict[str, Any]:
        return {"devices": len(city.devices), "gateways": len(city.gateways)} | asdict(counts)

    await asyncio.to_thread(migrations.upgrade, engine)
    await asyncio.to_thread(register, Registry(engine), city)
    beating = heartbeat.start(engine, PROCESS, document, stop)
    try:
        await run_city(city, broker.url(settings), truth=settings.var / "truth.jsonl", stop=stop, counts=counts)
    finally:
        stop.set()
        await beating


def register(registry: Registry, city: City) -> None:
    """Make the city's zones, gateways and devices known; the same again changes nothing. Blocking."""
    registry.register(zones=city.zones, gateways=city.gateways, devices=city.devices)
