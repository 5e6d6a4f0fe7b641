"""One process per directory: an advisory lock (flock) that the kernel drops with its holder, however that ends."""

import fcntl
import os
from pathlib import Path

from devices.errors import ConfigError


class DirectoryLock:
    """`acquire` and `release` the file `lock` in `directory`, which holds the process id of whoever has it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1

    def acquire(self) -> None:
        """Raises `ConfigError` naming the process that holds it."""
        self._descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(f"journal {self._directory} is in use by process {holder}") from None
        os.pwrite(self._descriptor, f"{os.getpid():<20d}".encode(), 0)

    @property
    def held(self) -> bool:
        """Whether we have it."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Let another process have it; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
