"""The port `TelemetryStore`: what every telemetry store promises, whatever is behind it.

Implementations: `storage.sqlite_store.SqliteStore` (embedded), `storage.influx_v1.InfluxV1Store` (InfluxDB 1.x). One
contract suite (`tests/contract/test_telemetry_store.py`) runs over all of them. A point's identity is (family, device,
time): writing it again overwrites it, so a retry never doubles anything; a property that the second report lacks keeps
its value. Stores never retry; the consumer that calls them does. A question that makes no sense (a property that the
family does not have, more than 100,000 buckets) is a `ValueError`.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from devices.model import Milliseconds, Reading

Aggregate = Literal["mean", "min", "max", "sum", "count", "first", "last"]


class Point(msgspec.Struct):
    """A stored reading as read back: property -> value (float, or str for `*_state`), and its quality flags."""

    device: str
    time: Milliseconds
    values: dict[str, float | str]
    quality: str = "ok"


class Series(msgspec.Struct):
    """Columns for a chart: `times[i]` belongs to `columns[property][i]`; None where nothing was reported (or the bucket
    is empty).
    """

    times: list[Milliseconds]
    columns: dict[str, list[float | str | None]]


class AlarmMark(msgspec.Struct):
    """One alarm transition as an annotation (measurement `alarms`, tags subject and rule); identity is (subject, rule,
    time, state).
    """

    time: Milliseconds
    subject: str
    rule: str
    state: str
    priority: str
    text: str


class TelemetryStore(Protocol):
    """Idempotent writes by (family, device, time); see the module docstring. All methods may raise `TransientError`."""

    async def start(self) -> None:
        """Connect and create what is missing. Raises `ConfigError` where the address or the credentials are wrong."""

    async def close(self) -> None:
        """Release connections; safe to call twice."""

    async def ready(self) -> None:
        """Return if the store answers, raise `TransientError` with its words otherwise; bounded to 2 s."""

    async def write(self, readings: Sequence[Reading]) -> None:
        """Write all; returns only when the store has acknowledged. Raises `PartialWriteError` (the rest is written),
        `TransientError`.
        """

    async def sync(self) -> None:
        """Everything acknowledged before this call survives power loss when it returns (asked before the journal is
        trimmed).
        """

    async def mark(self, marks: Sequence[AlarmMark]) -> None:
        """Write alarm transitions for board annotations."""

    async def latest(
        self, family: str, *, district: str | None = None, devices: Sequence[str] | None = None, limit: int = 100_000
    ) -> list[Point]:
        """The newest point of each device by phenomenon time (a late arrival never replaces a newer one): what was
        reported then, not each property's last value. With `district`: of the devices whose newest point is from there.
        In no particular order.
        """

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
        """Raw values in [start, end), ascending; a time at which none of `properties` was reported is left out."""

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
        """One value per bucket over all values of all `devices`, None where there is none (for a count too); buckets
        start at multiples of `bucket` since the epoch. Numbers only.
        """

    async def count(
        self, family: str | None = None, *, start: Milliseconds | None = None, end: Milliseconds | None = None
    ) -> int:
        """Stored readings (points), for status and proofs."""

    async def retain(self, since: Milliseconds) -> None:
        """Drop what is older than `since` where the store keeps no retention policy of its own; coarse (whole
        partitions).
        """
