"""Real parts from the Linux distribution (InfluxDB 1.x, mosquitto), started for a test and gone after it.

Each function is a context manager independent of pytest: it writes a configuration into a temporary directory, starts
the program on a free port of 127.0.0.1, waits until it answers and yields a `Part`. `stop`, `kill` and `start` keep
port and data, so that a test can restart what it talks to. `PartMissing` is raised where the program is not installed.
"""

import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import getuid
from pathlib import Path

_START_SECONDS = 30
_STOP_SECONDS = 15


class PartMissing(Exception):
    """The program is not installed here; the text says which one and where it comes from."""


class Part:
    """A program with its own directory and port. `url` is where it listens, `process` its current incarnation."""

    def __init__(self, command: list[str], url: str, directory: Path, answers: Callable[[], bool]) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.directory = directory
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._answers = answers

    def start(self) -> None:
        """Start it on its data and wait until it answers. Raises `RuntimeError` with the end of its log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command[0]} did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait; kill it if it does not."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """End it without warning (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def influxdb(*, users: Mapping[str, str] | None = None) -> Iterator[Part]:
    """InfluxDB 1.x at `http://127.0.0.1:port`; `users` (name -> password) turn on authentication."""
    program = _find("influxd", "influxdb")
    with _directory() as directory:
        port = free_port()
        authentication = str(bool(users)).lower()
        configuration = directory / "influxdb.conf"
        configuration.write_text(f"""\
reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {authentication}
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
""")
        url = f"http://127.0.0.1:{port}"
        part = Part([program, "run", "-config", str(configuration)], url, directory, lambda: _pings(url))
        with _running(part):
            _create_users(url, users or {})
            yield part


@contextmanager
def mosquitto(*, users: Mapping[str, str] | None = None, **options: str | int | bool | Path) -> Iterator[Part]:
    """mosquitto at `mqtt://127.0.0.1:port`, persisting into its directory unless told otherwise.

    `options` are lines of its configuration, e.g. `max_queued_messages=100_000`, `autosave_interval=1`,
    `persistence=False`. With `users` (name -> password) it refuses everybody else, otherwise it is open.
    """
    program = _find("mosquitto", "mosquitto")
    with _directory() as directory:
        port = free_port()
        settings: dict[str, str | int | bool | Path] = {
            "listener": f"{port} 127.0.0.1",
            "user": pwd.getpwuid(getuid()).pw_name,
            "allow_anonymous": not users,
            "persistence": True,
            "persistence_location": f"{directory}/",
            "log_dest": "stdout",
        }
        if users:
            settings["password_file"] = directory / "passwords"
            (directory / "passwords").touch(mode=0o600)
            for name, password in users.items():
                subprocess.run(
                    [_find("mosquitto_passwd", "mosquitto"), "-b", str(directory / "passwords"), name, password],
                    check=True,
                )
        lines = [f"{name} {_word(value)}\n" for name, value in (settings | options).items()]
        configuration = directory / "mosquitto.conf"
        configuration.write_text("".join(lines))
        part = Part([program, "-c", str(configuration)], f"mqtt://127.0.0.1:{port}", directory, lambda: _listens(port))
        with _running(part):
            yield part


def _find(program: str, package: str) -> str:
    path = shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin") or shutil.which(program)
    if path is None:
        raise PartMissing(f"{program} is not installed (Debian package {package})")
    return path


def _word(value: str | int | bool | Path) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="songhua-part-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _running(part: Part) -> Iterator[None]:
    part.start()
    try:
        yield
    finally:
        part.stop()


def _pings(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=1) as response:
            return bool(response.status == 204)
    except OSError:
        return False


def _create_users(url: str, users: Mapping[str, str]) -> None:
    # InfluxDB takes the first administrator without credentials and nothing else until there is one.
    credentials: dict[str, str] = {}
    for name, password in users.items():
        privileges = "" if credentials else " WITH ALL PRIVILEGES"
        statement = f"CREATE USER \"{name}\" WITH PASSWORD '{password}'{privileges}"
        form = urllib.parse.urlencode({"q": statement}).encode()
        urllib.request.urlopen(f"{url}/query?{urllib.parse.urlencode(credentials)}", data=form, timeout=10).close()
        credentials = credentials or {"u": name, "p": password}


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
