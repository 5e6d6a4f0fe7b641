"""The application: routes, handlers and the parts they share, put together. Constructing it connects to nothing.

`create_app` is the room's door for the composition root; starting and stopping the parts belongs to the lifespan. A
telemetry store that does not answer at the start is asked again in the background: alarms are served meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI
from sqlalchemy import Engine

from api import alarms, devices, openapi, overview, problems, quarantine, readings, registry, sessions, status, stream
from api.authenticator import Authenticator
from api.clock import Clock, wall_clock
from api.feed import Feed
from api.live import LiveReadings
from api.metrics import RequestMetrics
from api.middleware import BodyLimit, Observation
from api.pages import ConsolePages
from api.service import Service
from api.status_document import read_status
from api.throttle import FailureThrottle
from devices.catalogue import Catalogue
from devices.errors import SonghuaError, TransientError
from storage.telemetry import TelemetryStore

STREAM_LIFETIME_S = 600.0
_LONGEST_WAIT_S = 10.0
_MODULES = (sessions, overview, registry, readings, devices, alarms, stream, status, quarantine, openapi)
_log = structlog.get_logger("api")


def create_app(
    *,
    engine: Engine,
    store: TelemetryStore,
    catalogue: Catalogue,
    static: Path | None,
    broker_url: str | None,
    trusted_origins: Sequence[str] = (),
    clock: Clock = wall_clock,
    stream_lifetime: float = STREAM_LIFETIME_S,
) -> FastAPI:
    """The whole API and, from the directory `static`, the console.

    `broker_url` (`mqtt://user:password@host:port`) feeds live readings, None or empty leaves them out.
    `trusted_origins` are further origins (`https://host`) whose pages may act with a session. `stream_lifetime` is in
    seconds.
    """
    authenticator = Authenticator(engine, clock)
    feed = Feed(engine, authenticator, lambda districts: read_status(engine, clock(), districts))
    service = Service(
        engine=engine,
        store=store,
        catalogue=catalogue,
        clock=clock,
        authenticator=authenticator,
        token_throttle=FailureThrottle(clock),
        login_throttle=FailureThrottle(clock),
        feed=feed,
        live=LiveReadings(broker_url, feed.offer_reading) if broker_url else None,
        stream_lifetime=stream_lifetime,
        request_metrics=RequestMetrics(),
        trusted_origins=tuple(trusted_origins),
    )
    app = describable_app()
    app.state.service = service
    app.state.startup_failure = None
    app.router.default = ConsolePages(static)
    app.add_middleware(BodyLimit)
    app.add_middleware(Observation, metrics=service.request_metrics)
    return app


def describable_app() -> FastAPI:
    """Routes and handlers without the parts behind them: enough to describe, not to serve."""
    app = FastAPI(
        title="songhua",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    for module in _MODULES:
        app.include_router(module.router)
    problems.install(app)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    try:
        await service.store.start()
        starting = None
    except TransientError as error:
        _log.warning("the telemetry store does not answer yet", error=str(error))
        starting = asyncio.create_task(_start_store(service.store))
    except Exception as error:
        app.state.startup_failure = error
        raise
    await service.feed.start()
    if service.live is not None:
        await service.live.start()
    try:
        yield
    finally:
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        if service.live is not None:
            await service.live.close()
        await service.feed.close()
        await service.store.close()


async def _start_store(store: TelemetryStore) -> None:
    wait = 0.5
    while True:
        await asyncio.sleep(wait)
        try:
            await store.start()
        except TransientError:
            wait = min(_LONGEST_WAIT_S, wait * 2)
        except SonghuaError as error:
            _log.error("the telemetry store cannot be used", error=str(error))
            return
        else:
            _log.info("the telemetry store answers")
            return
