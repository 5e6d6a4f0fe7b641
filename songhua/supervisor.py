"""The supervisor: keeps the processes of one city running and stops them in order.

It starts a child when what it needs is ready, restarts one that dies (with a growing delay, and says so), and stops
all in the reverse order of their list, each with a deadline and then SIGKILL. Children live in sessions of their own,
so that Ctrl-C in the terminal reaches the supervisor alone. A child that ends with the exit code for a wrong setting
before it was ever ready ends the start with `ConfigError`: trying again would not help.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from devices.errors import ConfigError
from devices.model import Milliseconds
from songhua import exit_codes

FIRST_DELAY = 0.5  # s
LONGEST_DELAY = 30.0  # s
STEADY_AFTER = 60.0  # s of life after which a crash counts as the first again
_PATIENCE = 5.0  # s until a slow start is mentioned
_LOOK_EVERY = 0.05  # s
_LAST_WORDS = 1.0  # s to read what an ended child printed
_LONGEST_LINE = 1 << 16  # bytes


@dataclass(frozen=True)
class ChildSpec:
    """How to start one process; `after` names what must be ready before it.

    `ready` is asked again and again whether the process that was started at the given time (ms since the epoch) is up.
    `stop_within` is in seconds.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[Milliseconds], Awaitable[bool]]
    after: Sequence[str] = ()
    stop_within: float = 10.0


@dataclass
class Child:
    """A supervised process: its state as shown to people, and its handle while it runs."""

    spec: ChildSpec
    state: Literal["waiting", "starting", "running", "restarting", "stopped"] = "waiting"
    restarts: int = 0
    last_line: str = ""
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def up(self) -> bool:
        """Running and ready."""
        return self.state == "running"


class Supervisor:
    """Owns the children. `say` receives (process name, line) for people: what a child prints and what happens to it."""

    def __init__(
        self, specs: Sequence[ChildSpec], environment: Mapping[str, str], say: Callable[[str, str], None]
    ) -> None:
        self.children = {spec.name: Child(spec) for spec in specs}
        self._environment = dict(environment)
        self._say = say
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()

    @property
    def healthy(self) -> bool:
        """Whether every child is up and ready."""
        return all(child.up for child in self.children.values())

    async def start(self) -> None:
        """Start everything; returns when all are ready. Raises `ConfigError` where a child refuses its settings."""
        self._keepers = {
            child.spec.name: asyncio.create_task(self._keep(child), name=f"keep {child.spec.name}")
            for child in self.children.values()
        }
        everything = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait([everything, *self._keepers.values()], return_when=asyncio.FIRST_COMPLETED)
        finally:
            everything.cancel()
        for keeper in self._keepers.values():
            if keeper.done():
                keeper.result()

    async def stop(self) -> None:
        """Stop all, last first; returns when no child (and nothing that a child started) is left."""
        for child in reversed(self.children.values()):
            self._stopping.add(child.spec.name)
            await self._terminate(child)
            keeper = self._keepers.get(child.spec.name)
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
            child.state = "stopped"

    def kill(self) -> None:
        """SIGKILL to everything at once: the second Ctrl-C."""
        self._stopping.update(self.children)
        for child in self.children.values():
            _kill_group(child)

    async def _all_ready(self) -> None:
        for child in self.children.values():
            await child.ready.wait()

    async def _keep(self, child: Child) -> None:
        for name in child.spec.after:
            await self.children[name].ready.wait()
        delay = FIRST_DELAY
        while child.spec.name not in self._stopping:
            started = time.monotonic()
            code = await self._live(child)
            if child.spec.name in self._stopping:
                return
            if code == exit_codes.CONFIG and not child.ready.is_set():
                raise ConfigError(child.last_line or f"{child.spec.name} refused its settings")
            if time.monotonic() - started > STEADY_AFTER:
                delay = FIRST_DELAY
            child.state = "restarting"
            child.restarts += 1
            self._say(child.spec.name, f"{_ending(code)}; starting again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _live(self, child: Child) -> int:
        """One life of a child, from its start to its end; returns its exit code."""
        child.state = "starting"
        # A pipe of our own: asyncio reports the end of a process only when nobody holds its pipes any more, and what
        # the process started may.
        output, inlet = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *child.spec.command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=inlet,
                stderr=inlet,
                start_new_session=True,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(inlet)
        child.process = process
        relay = asyncio.create_task(self._relay(child, output))
        readiness = asyncio.create_task(self._await_ready(child))
        try:
            return await process.wait()
        finally:
            readiness.cancel()
            _kill_group(child)
            child.process = None
            await asyncio.wait([relay], timeout=_LAST_WORDS)
            relay.cancel()

    async def _relay(self, child: Child, output: int) -> None:
        """Pass on what the child prints, line by line; a pipe that nobody reads would stop the child."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", 0))
        try:
            await self._read_lines(child, reader)
        finally:
            pipe.close()

    async def _read_lines(self, child: Child, reader: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await reader.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                if text := line.decode("utf-8", "replace").rstrip():
                    child.last_line = text
                    self._say(child.spec.name, text)

    async def _await_ready(self, child: Child) -> None:
        since = time.time_ns() // 1_000_000
        mention_at = time.monotonic() + _PATIENCE
        while not await child.spec.ready(since):
            if time.monotonic() > mention_at:
                self._say(child.spec.name, "is slow to start; still waiting")
                mention_at = float("inf")
            await asyncio.sleep(_LOOK_EVERY)
        child.state = "running"
        child.ready.set()

    async def _terminate(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), child.spec.stop_within)
        except TimeoutError:
            self._say(child.spec.name, f"did not stop within {child.spec.stop_within:g} s; killed")
            _kill_group(child)
            await process.wait()


def _kill_group(child: Child) -> None:
    """The child and whatever it started; the group bears the child's process id and may outlive it."""
    if child.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
