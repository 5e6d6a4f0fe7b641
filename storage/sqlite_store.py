"""The embedded telemetry store (`TelemetryStore` on SQLite): one file, one writer thread, a few reader threads.

Receives readings in batches, gives points and series. Owns the file: one process writes it, any number read it at the
same time (write-ahead log). Raises `ConfigError` from `start` where the file cannot be used, `PartialWriteError` for
readings that no store can hold, `TransientError` for everything that may pass (locked, disk full, not started), which
the caller retries. Tables: `storage.sqlite_schema`.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from devices.errors import ConfigError, TransientError
from devices.model import Milliseconds, Reading
from storage import sqlite_aggregates, sqlite_queries
from storage.sqlite_schema import connect
from storage.sqlite_writer import SqliteWriter
from storage.telemetry import Aggregate, AlarmMark, Point, Series

log = structlog.get_logger(__name__)

_READERS = 3
_READY_SECONDS = 2.0
_OPEN_SECONDS = 5.0

T = TypeVar("T")


class SqliteStore:
    """See the module docstring and the port. `path` is created if it is missing, with its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads: _Threads | None = None
        self._writer = SqliteWriter(path)
        self._written = asyncio.Event()
        self._rolling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._threads is not None:
            return
        threads = _Threads(self.path)
        try:
            await threads.write(self._open)
        except BaseException:
            threads.close()
            raise
        self._threads = threads
        self._rolling = asyncio.create_task(self._roll_up(threads))

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is None or self._rolling is None:
            return
        self._rolling.cancel()
        await asyncio.wait([self._rolling])
        await threads.write(self._writer.close)
        await asyncio.to_thread(threads.close)

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._started().read(
                    lambda connection: connection.execute("select count(*) from devices").fetchone()
                )
        except TimeoutError:
            raise TransientError(f"{self.path} did not answer within {_READY_SECONDS} s") from None

    async def write(self, readings: Sequence[Reading]) -> None:
        await self._started().write(lambda: self._writer.write(readings))
        self._written.set()

    async def sync(self) -> None:
        await self._started().write(self._writer.sync)

    async def mark(self, marks: Sequence[AlarmMark]) -> None:
        await self._started().write(lambda: self._writer.mark(marks))

    async def retain(self, since: Milliseconds) -> None:
        await self._started().write(lambda: self._writer.retain(since))

    async def latest(
        self, family: str, *, district: str | None = None, devices: Sequence[str] | None = None, limit: int = 100_000
    ) -> list[Point]:
        return await self._started().read(lambda c: sqlite_queries.latest(c, family, district, devices, limit))

    async def range(
        self,
        family: str,
        device: str,
        properties: Sequence[str],
        start: Milliseconds,
        end: Milliseconds,
        *,
        limit: int = 100_000,
    ) -> Series:
        return await self._started().read(
            lambda c: sqlite_queries.points(c, family, device, properties, start, end, limit)
        )

    async def aggregate(
        self,
        family: str,
        devices: Sequence[str],
        properties: Sequence[str],
        start: Milliseconds,
        end: Milliseconds,
        bucket: Milliseconds,
        function: Aggregate,
    ) -> Series:
        return await self._started().read(
            lambda c: sqlite_aggregates.aggregate(c, family, devices, properties, start, end, bucket, function)
        )

    async def count(
        self, family: str | None = None, *, start: Milliseconds | None = None, end: Milliseconds | None = None
    ) -> int:
        return await self._started().read(lambda c: sqlite_queries.count(c, family, start, end))

    def _open(self) -> None:
        deadline = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return self._writer.open()
            except sqlite3.OperationalError as error:
                # Two processes that create the file together: SQLite does not wait while the log is being set up.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise self._unusable(error) from error
                time.sleep(0.05)
            except (OSError, sqlite3.Error) as error:
                raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(f"telemetry store {self.path}: {error}; expected a SQLite file that can be written")

    async def _roll_up(self, threads: "_Threads") -> None:
        """Bring the roll-ups up to date after writes, in slices between them."""
        while True:
            await self._written.wait()
            self._written.clear()
            try:
                while await threads.write(self._writer.roll_up):
                    pass
            except TransientError as error:
                log.warning("telemetry.rollups_delayed", error=str(error))

    def _started(self) -> "_Threads":
        if self._threads is None:
            raise TransientError(f"telemetry store {self.path} is not started")
        return self._threads


class _Threads:
    """One thread for the writer, a few with a connection each for readers. SQLite's errors come out as transient."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(_READERS, "store-reader")
        self._own = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def write(self, job: Callable[[], T]) -> T:
        return await self._run(self._writer, job)

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(self._readers, lambda: question(self._connection()))

    def close(self) -> None:
        """Wait for what is under way, then close the readers' connections."""
        self._writer.shutdown()
        self._readers.shutdown()
        while self._connections:
            self._connections.pop().close()

    async def _run(self, executor: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        try:
            pending = asyncio.get_running_loop().run_in_executor(executor, job)
        except RuntimeError as error:
            raise TransientError(f"telemetry store {self.path} is being closed") from error
        try:
            return await pending
        except sqlite3.Error as error:
            raise TransientError(f"telemetry store {self.path}: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._own, "connection"):
            self._own.connection = connect(self.path, read_only=True)
            self._connections.append(self._own.connection)
        connection: sqlite3.Connection = self._own.connection
        return connection
