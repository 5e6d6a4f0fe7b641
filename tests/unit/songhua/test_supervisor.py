"""The supervisor with small real processes as children."""

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devices.errors import ConfigError
from songhua import supervisor as room
from songhua.supervisor import ChildSpec, Supervisor

# Tells that it is up by making a file, and appends its name to a list when it is told to stop.
POLITE = """
    import signal, sys, time
    from pathlib import Path
    folder, name = Path(sys.argv[1]), sys.argv[2]
    def stop(*_):
        with open(folder / "stopped", "a") as file:
            file.write(name + "\\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    (folder / name).write_text(str(time.monotonic_ns()))
    signal.pause()
"""
STUBBORN = """
    import signal, sys, time
    from pathlib import Path
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (Path(sys.argv[1]) / sys.argv[2]).touch()
    time.sleep(600)
"""
WITH_GRANDCHILD = """
    import subprocess, sys, time
    from pathlib import Path
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(sys.argv[1]) / sys.argv[2]).write_text(str(grandchild.pid))
    time.sleep(600)
"""


class Scene:
    """A folder where children leave their marks, and what the supervisor said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[tuple[str, str]] = []

    def spec(self, name: str, source: str, *, after: tuple[str, ...] = (), stop_within: float = 5.0) -> ChildSpec:
        command = (sys.executable, "-c", textwrap.dedent(source), str(self.folder), name)
        return ChildSpec(name, command, self.exists(name), after, stop_within)

    def exists(self, name: str) -> Callable[[int], Awaitable[bool]]:
        async def ready(since: int) -> bool:
            path = self.folder / name
            return path.exists() and path.stat().st_mtime_ns // 1_000_000 >= since - 1000

        return ready

    @asynccontextmanager
    async def running(self, *specs: ChildSpec) -> AsyncIterator[Supervisor]:
        supervisor = Supervisor(specs, os.environ, lambda source, line: self.said.append((source, line)))
        try:
            await supervisor.start()
            yield supervisor
        finally:
            await supervisor.stop()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def pid_of(supervisor: Supervisor, name: str) -> int:
    process = supervisor.children[name].process
    assert process is not None
    return process.pid


async def test_a_child_starts_after_what_it_needs_and_all_stop_in_reverse_order(scene: Scene) -> None:
    specs = [
        scene.spec("broker", POLITE),
        scene.spec("ingest", POLITE, after=("broker",)),
        scene.spec("simulator", POLITE, after=("ingest",)),
    ]
    async with scene.running(*specs) as supervisor:
        assert supervisor.healthy
    started = [int((scene.folder / name).read_text()) for name in ("broker", "ingest", "simulator")]
    assert started == sorted(started)
    assert (scene.folder / "stopped").read_text().split() == ["simulator", "ingest", "broker"]


async def test_a_child_that_dies_is_started_again_and_it_is_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FIRST_DELAY", 0.05)
    async with scene.running(scene.spec("ingest", POLITE)) as supervisor:
        first = pid_of(supervisor, "ingest")
        (scene.folder / "ingest").unlink()
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.children["ingest"].restarts == 1 and supervisor.healthy)
        assert pid_of(supervisor, "ingest") != first
    assert ("ingest", "was ended by SIGKILL; starting again in 0.05 s") in scene.said


async def test_the_delay_before_a_restart_doubles(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FIRST_DELAY", 0.01)
    supervisor = Supervisor(
        [scene.spec("api", "raise SystemExit(1)")], os.environ, lambda source, line: scene.said.append((source, line))
    )
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: supervisor.children["api"].restarts >= 3)
    await supervisor.stop()
    starting.cancel()
    delays = [float(line.rpartition(" in ")[2].removesuffix(" s")) for _, line in scene.said]
    assert delays[:3] == [0.01, 0.02, 0.04]
    assert scene.said[0][1].startswith("ended with exit code 1")


async def test_a_child_that_refuses_its_settings_ends_the_start_with_its_words(scene: Scene) -> None:
    refusing = scene.spec("api", "import sys; print('SONGHUA_X: wrong', file=sys.stderr); sys.exit(2)")
    with pytest.raises(ConfigError, match="SONGHUA_X: wrong"):
        async with scene.running(scene.spec("broker", POLITE), refusing):
            raise AssertionError("the start must fail")


async def test_a_child_that_does_not_stop_is_killed_after_its_deadline(scene: Scene) -> None:
    async with scene.running(scene.spec("ingest", STUBBORN, stop_within=0.2)) as supervisor:
        pid = pid_of(supervisor, "ingest")
    assert not alive(pid)
    assert ("ingest", "did not stop within 0.2 s; killed") in scene.said


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
async def test_what_a_child_started_does_not_outlive_it(scene: Scene, crash: bool) -> None:
    async with scene.running(scene.spec("broker", WITH_GRANDCHILD)) as supervisor:
        await until(lambda: (scene.folder / "broker").read_text().isdigit())
        grandchild = int((scene.folder / "broker").read_text())
        if crash:
            os.kill(pid_of(supervisor, "broker"), signal.SIGKILL)
            await until(lambda: not alive(grandchild))
    await until(lambda: not alive(grandchild))


async def test_kill_ends_even_a_stubborn_child_at_once(scene: Scene) -> None:
    async with scene.running(scene.spec("ingest", STUBBORN, stop_within=600)) as supervisor:
        pid = pid_of(supervisor, "ingest")
        stopping = asyncio.create_task(supervisor.stop())
        supervisor.kill()
        await asyncio.wait_for(stopping, 10)
    assert not alive(pid)


async def test_long_output_without_a_line_end_does_not_block_a_child(scene: Scene) -> None:
    source = f"import sys; sys.stdout.write('x' * 1_000_000); sys.stdout.flush()\n{textwrap.dedent(POLITE)}"
    async with scene.running(scene.spec("ingest", source)) as supervisor:
        assert supervisor.healthy


async def test_no_child_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    child = "import os, sys, time; from songhua.orphans import die_with_parent; die_with_parent(int(sys.argv[1]));"
    child += "print(os.getpid(), flush=True); time.sleep(600)"
    parent = textwrap.dedent("""
        import asyncio, os, sys
        from songhua.supervisor import ChildSpec, Supervisor
        async def never(since): return False
        spec = ChildSpec("child", (sys.executable, "-c", sys.argv[1], str(os.getpid())), never)
        asyncio.run(Supervisor([spec], os.environ, lambda source, line: print(line, flush=True)).start())
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent, child, stdout=asyncio.subprocess.PIPE, cwd=Path(room.__file__).parent.parent
    )
    assert process.stdout is not None
    pid = int(await asyncio.wait_for(process.stdout.readline(), 30))
    assert alive(pid)
    process.kill()
    await process.wait()
    await until(lambda: not alive(pid))
