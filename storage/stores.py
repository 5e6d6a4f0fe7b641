"""Which telemetry store a URL means.

`sqlite:///path`, `influxdb+v1://user:password@host:port/database` and `null:`. Receives the URL, gives a store that has
not been started. Raises `ConfigError` for anything else, never showing a password.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from devices.errors import ConfigError, PartialWriteError
from devices.model import Milliseconds, Reading
from storage import buckets
from storage.influx_http import Address
from storage.influx_v1 import InfluxV1Store
from storage.line_protocol import LineEncoder
from storage.sqlite_store import SqliteStore
from storage.telemetry import Aggregate, AlarmMark, Point, Series, TelemetryStore

_ACCEPTED = "sqlite:///path, influxdb+v1://user:password@host:8086/database or null:"


def open_store(url: str) -> TelemetryStore:
    """The store behind `url`; nothing is connected until its `start`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"telemetry store: {error}; accepted are {_ACCEPTED}") from error
    if url == "null:":
        return NullStore()
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return SqliteStore(Path(unquote(url.removeprefix("sqlite:///"))))
    if parts.scheme == "influxdb+v1" and parts.hostname and _database(parts):
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return InfluxV1Store(Address(parts.hostname, port or 8086, _database(parts), user, password))
    shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}" if parts.scheme else "an address without a scheme"
    raise ConfigError(f"telemetry store: cannot use {shown}; accepted are {_ACCEPTED}")


def _database(parts: SplitResult) -> str:
    return unquote(parts.path.removeprefix("/"))


class NullStore:
    """Encodes every reading as line protocol and keeps nothing: the store of benchmarks of what lies before a store."""

    def __init__(self) -> None:
        self._encoder = LineEncoder()
        self.readings = 0
        self.size = 0

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def ready(self) -> None:
        pass

    async def write(self, readings: Sequence[Reading]) -> None:
        encoded = self._encoder.encode(readings)
        self.readings += len(encoded.readings)
        self.size += len(encoded.body)
        if encoded.refused:
            raise PartialWriteError(encoded.refused)

    async def sync(self) -> None:
        pass

    async def mark(self, marks: Sequence[AlarmMark]) -> None:
        pass

    async def latest(
        self, family: str, *, district: str | None = None, devices: Sequence[str] | None = None, limit: int = 100_000
    ) -> list[Point]:
        return []

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
        return Series([], {name: [] for name in properties})

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
        return buckets.fill(buckets.starts(start, end, bucket), properties, {})

    async def count(
        self, family: str | None = None, *, start: Milliseconds | None = None, end: Milliseconds | None = None
    ) -> int:
        return 0

    async def retain(self, since: Milliseconds) -> None:
        pass
