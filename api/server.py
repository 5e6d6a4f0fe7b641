"""Serves the application over HTTP until told to stop: open streams are ended first, so that stopping takes no time.

uvicorn ends its lifespan only after the last response, and a stream's response lasts ten minutes; hence the order here.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from api.service import Service
from devices.errors import ConfigError, SonghuaError

_STOP_S = 2
_IDLE_S = 65
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """uvicorn, without its signal handlers (the process has its own)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `ConfigError` where the address is taken or not ours."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The protocol is named because asyncio sets TCP_NODELAY only then; without it small answers wait 40 ms.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port") from error
    return listener


async def serve(app: FastAPI, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on `listener` until `stop` is set. Raises what kept the application from starting."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_STOP_S,
    )
    server = _Server(config)

    async def wait_for_stop() -> None:
        await stop.wait()
        service: Service = app.state.service
        service.feed.end_watchers()
        server.should_exit = True

    def not_startup(_record: logging.LogRecord) -> bool:
        return app.state.startup_failure is None

    waiting = asyncio.create_task(wait_for_stop())
    log = logging.getLogger("uvicorn.error")
    log.addFilter(not_startup)  # what kept the application from starting is raised; uvicorn would print it all before
    try:
        await server.serve(sockets=[listener])
    except SystemExit as ended:  # how uvicorn says that the lifespan did not start
        failure: Exception | None = app.state.startup_failure
        raise failure or SonghuaError("the API did not start") from ended
    finally:
        log.removeFilter(not_startup)
        waiting.cancel()
        listener.close()
