"""One process of the service: broker, ingest, api or simulator.

The supervisor runs `python -m songhua.process NAME --parent PID`; a person runs `songhua NAME`. Both end in `run`,
which sets up logging, turns SIGTERM and SIGINT into an orderly stop, and gives the exit code: 0 stopped, 1 failed, 2
`ConfigError`. A supervised process never outlives its supervisor. Nothing here imports the command line, so that
children start fast.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

from devices.errors import ConfigError, TransientError
from songhua import exit_codes, logs
from songhua.orphans import die_with_parent
from songhua.settings import Settings, load

Coroutine: TypeAlias = Callable[[Settings, asyncio.Event], Awaitable[None]]


def _ingest() -> Coroutine:
    from songhua.ingest_process import run_ingest

    return run_ingest


def _api() -> Coroutine:
    from songhua.api_process import run_api

    return run_api


def _simulator() -> Coroutine:
    from songhua.simulator_process import run_simulator

    return run_simulator


LOADERS: dict[str, Callable[[], Coroutine]] = {"ingest": _ingest, "api": _api, "simulator": _simulator}
NAMES = ("broker", *LOADERS)


def run(name: str, settings: Settings, *, supervised: bool = False) -> int:
    """Run the process `name` until it is told to stop; returns its exit code."""
    logs.configure(name, settings, supervised=supervised)
    log = structlog.get_logger(name)
    try:
        if name == "broker":
            from songhua.broker import serve

            serve(settings)
        else:
            _run_until_stopped(LOADERS[name](), settings)
    except ConfigError as error:
        log.error(str(error))
        return exit_codes.CONFIG
    except TransientError as error:
        log.error(str(error))
        return exit_codes.FAILED
    except Exception:
        log.exception("stopped by an unexpected error")
        return exit_codes.FAILED
    return exit_codes.DONE


def _run_until_stopped(process: Coroutine, settings: Settings) -> None:
    import uvloop

    async def session() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await process(settings, stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(session())


def main() -> int:
    """The supervisor's entry: arguments are exactly `NAME --parent PID`."""
    name, _, parent = sys.argv[1:]
    die_with_parent(int(parent))
    try:
        settings = load()
    except ConfigError as error:
        print(f"songhua: {error}", file=sys.stderr)
        return exit_codes.CONFIG
    return run(name, settings, supervised=True)


if __name__ == "__main__":
    sys.exit(main())
