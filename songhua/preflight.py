"""What must hold before anything is started; each failure is one `ConfigError` line that says what to do.

Checked: the data directory can be written and no other `songhua up` uses it, the ports are free (and who holds one
that is not), an external broker answers. Blocking, used once at start.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from devices.errors import ConfigError
from songhua.settings import Settings, variable, without_password

BROKER_PATIENCE = 5.0  # s
_RETRY_EVERY = 0.25  # s


@contextlib.contextmanager
def claim(var: Path) -> Iterator[None]:
    """Hold the data directory for this supervisor; raises `ConfigError` if it cannot be written or is in use."""
    lock = var / "up.lock"
    try:
        var.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"{variable('var')}: cannot write in {var}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise ConfigError(
                f"{variable('var')}: {var} is in use by another `songhua up` (process {holder})"
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise ConfigError(f"{variable('var')}: cannot write in {var}: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)


def check_port(host: str, port: int, setting: str) -> None:
    """Raise `ConfigError` naming `setting` where `host:port` cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        holder = _holder(port)
        held = f", held by {holder}" if holder else ""
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"cannot listen on {host}:{port} ({reason}{held}); choose another port with {variable(setting)}"
        ) from error


def check_broker(url: str, say: Callable[[str], None]) -> None:
    """Wait a little for an external broker; raise `ConfigError` where none answers."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 1883
    deadline = time.monotonic() + BROKER_PATIENCE
    told = False
    while True:
        try:
            with socket.create_connection((host, port), timeout=BROKER_PATIENCE):
                return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"{variable('broker_url')}: no broker answers at {host}:{port} "
                    f"({(error.strerror or str(error)).lower()}); start it or correct {without_password(url)}"
                ) from error
        if not told:
            say(f"waiting up to {BROKER_PATIENCE:.0f} s for the broker at {host}:{port}")
            told = True
        time.sleep(_RETRY_EVERY)


def check(settings: Settings, say: Callable[[str], None]) -> None:
    """All checks but the claim of `var`."""
    check_port(settings.api_host, settings.api_port, "api_port")
    if settings.broker_url:
        check_broker(settings.broker_url, say)
    else:
        from songhua.broker import HOST

        check_port(HOST, settings.broker_port, "broker_port")


def _holder(port: int) -> str | None:
    """Name and process id of what listens on `port`, as far as Linux tells this user."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()) in inodes:
                process = descriptor.parent.parent
                return f"{(process / 'comm').read_text().strip()}, process {process.name}"
    return None
