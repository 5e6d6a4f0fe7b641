"""`songhua up`: a whole city in one command.

Checks what must hold, starts the processes, shows how it goes, and stops everything on Ctrl-C, SIGTERM or after
`exit_after`. The exit code is 0 where all was well, 1 where something was unhealthy at the end of `exit_after`, 2
(`ConfigError`) where a person must change something. It is the parent of every process and owns none of their data.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable

from api.credentials import CODE_LIFETIME
from devices.errors import TransientError
from devices.model import Milliseconds
from songhua import broker, console, exit_codes, preflight, status
from songhua.outlook import Observer
from songhua.settings import Settings, variable
from songhua.supervisor import ChildSpec, Supervisor
from songhua.terminal import Terminal, open_terminal
from storage.metadata import open_engine

_LOOK_EVERY = 1.0  # s
_USER = _ROLE = "admin"


def run(settings: Settings, *, demo: bool, exit_after: Milliseconds | None) -> int:
    """Run until told to stop; returns the exit code. Raises `ConfigError`."""
    with preflight.claim(settings.var):
        preflight.check(settings, lambda line: print(f"songhua: {line}", flush=True))
        return asyncio.run(_City(settings, demo).serve(exit_after))


def environment(settings: Settings) -> dict[str, str]:
    """What children start with: this process's environment, and what was decided here."""
    decided = {variable("var"): str(settings.var), variable("broker_url"): broker.url(settings)}
    return {name: value for name, value in os.environ.items() if name.upper() not in decided} | decided


class _City:
    """The processes, their terminal and the database they report to, for the time of one `songhua up`."""

    def __init__(self, settings: Settings, demo: bool) -> None:
        self._settings = settings
        self._address = console.address(settings)
        self._engine = open_engine(settings.relational_url)
        self._supervisor = Supervisor(self._specs(settings, demo), environment(settings), self._say)
        self._observer = Observer(self._engine)
        self._stop = asyncio.Event()
        self._link = ("", 0.0)
        self._terminal: Terminal = open_terminal(settings.language)

    async def serve(self, exit_after: Milliseconds | None) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        timer = None if exit_after is None else loop.call_later(exit_after / 1000, self._stop.set)
        stopping = asyncio.create_task(self._stop.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
            while not self._stop.is_set():
                await self._look()
                await asyncio.wait([stopping], timeout=_LOOK_EVERY)
            timed_out = timer is not None and timer.when() <= loop.time()
            return await self._verdict() if timed_out else exit_codes.DONE
        finally:
            starting.cancel()
            stopping.cancel()
            self._say("songhua", "stopping")
            await self._supervisor.stop()
            with contextlib.suppress(OSError):
                self._terminal.close()

    def _on_signal(self) -> None:
        """The first asks for an orderly stop, the second no longer waits."""
        if self._stop.is_set():
            self._supervisor.kill()
        self._stop.set()

    async def _start(self) -> None:
        began = time.monotonic()
        self._say("songhua", f"starting {', '.join(self._supervisor.children)}")
        await self._supervisor.start()
        self._say("songhua", f"running after {time.monotonic() - began:.1f} s; open the console, valid once:")
        try:
            link = await asyncio.to_thread(console.login_link, self._settings, self._engine, _USER, _ROLE)
        except TransientError as error:
            self._say("songhua", f"no login link ({error}); ask for one with `songhua token link`")
            return
        self._link = (link, time.monotonic() + CODE_LIFETIME / 1000)
        self._say("songhua", link)

    async def _look(self) -> None:
        states = {child.spec.name: child.state for child in self._supervisor.children.values()}
        link, valid_until = self._link
        shown = link if time.monotonic() < valid_until else self._address
        try:
            outlook = await asyncio.to_thread(self._observer.look, states, shown)
        except TransientError as error:
            self._say("songhua", str(error))
            return
        with contextlib.suppress(OSError):
            self._terminal.show(outlook)

    async def _verdict(self) -> int:
        """The exit code at the end of `exit_after`."""
        try:
            health = (await asyncio.to_thread(status.read, self._engine))["health"]
        except TransientError as error:
            self._say("songhua", str(error))
            return exit_codes.FAILED
        if health["state"] == "ok" and self._supervisor.healthy:
            return exit_codes.DONE
        unwell = [f"{child.spec.name} is {child.state}" for child in self._supervisor.children.values() if not child.up]
        self._say("songhua", "unhealthy: " + "; ".join([reason["en"] for reason in health["reasons"]] + unwell))
        return exit_codes.FAILED

    def _say(self, source: str, line: str) -> None:
        """A terminal that went away must not keep the city from running or stopping."""
        with contextlib.suppress(OSError):
            self._terminal.say(source, line)

    def _specs(self, settings: Settings, demo: bool) -> list[ChildSpec]:
        """The processes in the order in which they are stopped last to first."""
        specs = []
        first: tuple[str, ...] = ()
        if not settings.broker_url:
            specs.append(ChildSpec("broker", _command("broker"), _accepts(broker.HOST, settings.broker_port)))
            first = ("broker",)
        specs.append(ChildSpec("api", _command("api"), _answers(f"{self._address}/healthz"), first))
        specs.append(ChildSpec("ingest", _command("ingest"), self._reports("ingest"), first))
        if demo:
            specs.append(ChildSpec("simulator", _command("simulator"), self._reports("simulator"), ("ingest",)))
        return specs

    def _reports(self, process: str) -> Callable[[Milliseconds], Awaitable[bool]]:
        """Ready once the process has written its row."""

        async def ready(since: Milliseconds) -> bool:
            try:
                at = await asyncio.to_thread(status.reported_at, self._engine, process)
            except TransientError:
                return False
            return at is not None and at >= since

        return ready


def _command(process: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "songhua.process", process, "--parent", str(os.getpid()))


def _accepts(host: str, port: int) -> Callable[[Milliseconds], Awaitable[bool]]:
    """Ready once the port accepts a connection."""

    async def ready(_since: Milliseconds) -> bool:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        return True

    return ready


def _answers(url: str) -> Callable[[Milliseconds], Awaitable[bool]]:
    """Ready once HTTP answers, whatever it says."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    async def ready(_since: Milliseconds) -> bool:
        return await asyncio.to_thread(ask)

    return ready
