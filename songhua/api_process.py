"""The process that serves the API and the console.

Puts the API together with the stores of this city and serves it until `stop`. Raises `ConfigError` for a taken address.
"""

import asyncio
from pathlib import Path
from typing import Any

import api
from api.app import create_app
from api.server import listen, serve
from devices import catalogue
from songhua import broker, heartbeat, migrations
from songhua.settings import Settings
from storage.metadata import open_engine
from storage.stores import open_store

PROCESS = "api"
STATIC = Path(api.__file__).parent / "static"


async def run_api(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    listener = listen(settings.api_host, settings.api_port)
    engine = open_engine(settings.relational_url)
    await asyncio.to_thread(migrations.upgrade, engine)
    app = create_app(
        engine=engine,
        store=open_store(settings.telemetry_url),
        catalogue=catalogue.load(),
        static=STATIC if STATIC.is_dir() else None,
        broker_url=broker.url(settings),
    )

    def document() -> dict[str, Any]:
        return {"streams": app.state.service.feed.watching}

    beating = heartbeat.start(engine, PROCESS, document, stop)
    try:
        await serve(app, listener, stop)
    finally:
        stop.set()
        await beating
