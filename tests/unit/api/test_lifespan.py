"""Starting and stopping: construction touches nothing, a store that is away does not keep alarms from being served."""

import asyncio
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.server import listen, serve
from devices.catalogue import load
from devices.errors import ConfigError
from storage.metadata import open_engine
from tests.api_city import City, MemoryStore


class Misconfigured(MemoryStore):
    """A store whose address is wrong."""

    async def start(self) -> None:
        raise ConfigError("no such database")


def test_constructing_the_application_connects_to_nothing(tmp_path: Path) -> None:
    database = tmp_path / "absent" / "songhua.db"
    create_app(
        engine=open_engine(f"sqlite:///{database}"),
        store=Misconfigured(),
        catalogue=load(),
        static=tmp_path / "absent",
        broker_url="mqtt://127.0.0.1:1",
    )
    assert list(tmp_path.iterdir()) == []


async def test_a_store_that_is_away_is_started_later_and_alarms_are_served_meanwhile(city: City) -> None:
    city.store.away = True
    transport = httpx.ASGITransport(city.app)
    async with (
        city.app.router.lifespan_context(city.app),
        httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client,
    ):
        assert (await client.get("/v1/alarms", headers=city.bearer())).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["state"]) == (200, "degraded")  # alarms are served without it
        assert city.store.started == 0
        city.store.away = False
        async with asyncio.timeout(10):
            while city.store.started == 0:
                await asyncio.sleep(0.05)
        assert (await client.get("/readyz")).status_code == 200


async def test_a_wrong_setting_of_the_store_stops_the_start_with_its_own_words(city: City) -> None:
    app = create_app(engine=city.engine, store=Misconfigured(), catalogue=load(), static=None, broker_url=None)
    with pytest.raises(ConfigError, match="no such database"):
        await asyncio.wait_for(serve(app, listen("127.0.0.1", 0), asyncio.Event()), 10)


async def test_serving_ends_when_told_and_frees_the_port(city: City) -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(city.app, listener, stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
    stop.set()
    await asyncio.wait_for(serving, 10)
    listen("127.0.0.1", port).close()
