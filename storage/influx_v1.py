"""The telemetry store on InfluxDB 1.x: measurement = family, written as line protocol, read by InfluxQL.

Receives readings in batches of any size, gives points and series. Owns the database it is pointed at and creates it if
it may. Raises `ConfigError` from `start` where a person must change something, `PartialWriteError` with the server's
words for points that it refused (a refused request is halved until they are found; all others are written), and
`TransientError` for everything that may pass, within 10 s: the caller retries, which overwrites each point by itself.
"""

import builtins
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from devices.catalogue import load
from devices.errors import ConfigError, PartialWriteError, TransientError
from devices.model import Milliseconds, Reading
from storage import buckets, influxql
from storage.influx_http import Address, Denied, InfluxHttp, Missing, Refused, SeriesRows, TooLarge, number
from storage.line_protocol import LineEncoder, mark_line
from storage.telemetry import Aggregate, AlarmMark, Point, Series

_POINTS = 5_000
_SERIES = 20_000
_READY_SECONDS = 2.0


class InfluxV1Store:
    """See the module docstring and the port."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = InfluxHttp(address)
        self._encoder = LineEncoder()

    async def start(self) -> None:
        self._http.start()
        try:
            if not await self._http.ping(_READY_SECONDS):
                raise ConfigError(f"telemetry store: what answers at {self.address.base} is not InfluxDB 1.x")
            await self._ensure_database()
        except Denied as error:
            raise ConfigError(
                f"telemetry store: {error}; expected a user who may use {self.address.database}"
            ) from error

    async def close(self) -> None:
        await self._http.close()

    async def ready(self) -> None:
        await self._http.ping(_READY_SECONDS)

    async def write(self, readings: Sequence[Reading]) -> None:
        refused: dict[int, str] = {}
        for first in range(0, len(readings), _POINTS):
            batch = self._encoder.encode(readings[first : first + _POINTS])
            refused |= {first + index: words for index, words in batch.refused.items()}
            if batch.readings:
                found = await self._find_refused(batch.readings, batch.body)
                refused |= {first + batch.indices[index]: words for index, words in found.items()}
        if refused:
            raise PartialWriteError(refused)

    async def sync(self) -> None:
        """Nothing to do: InfluxDB acknowledges after the fsync of its log (`wal-fsync-delay` is 0 by default)."""

    async def mark(self, marks: Sequence[AlarmMark]) -> None:
        if not marks:
            return
        try:
            await self._send(b"".join(map(mark_line, marks)), "ns")
        except (Refused, TooLarge) as error:
            raise PartialWriteError(dict.fromkeys(range(len(marks)), str(error))) from error

    async def latest(
        self, family: str, *, district: str | None = None, devices: Sequence[str] | None = None, limit: int = 100_000
    ) -> list[Point]:
        buckets.check_properties(family, ())
        if devices is not None and not devices:
            return []
        chosen = influxql.among("device", devices) if devices is not None else ""
        if district is None:
            return await self._newest(family, limit, chosen)
        points = await self._newest(family, limit, chosen, influxql.among("district", [district]))
        # The series of a device that moved stay under its former district: its newest point may be elsewhere.
        statement = f"show tag values from {influxql.name(family)} with key = device"
        elsewhere = await self._query(statement + influxql.where(chosen, influxql.other_than("district", district)))
        moved = {str(row[1]) for series in elsewhere for row in series.values}.intersection(p.device for p in points)
        newest = {p.device: p.time for p in await self.latest(family, devices=list(moved))}
        return [point for point in points if newest.get(point.device, point.time) == point.time]

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
        buckets.check_properties(family, properties)
        rows = []
        if properties:
            condition = influxql.where(influxql.among("device", [device]), influxql.period(start, end))
            statement = f"select {influxql.names(properties)} from {influxql.name(family)}{condition}"
            rows = [
                r for series in await self._query(f"{statement} order by time limit {limit:d}") for r in series.values
            ]
        columns = {name: [row[index] for row in rows] for index, name in enumerate(properties, start=1)}
        return Series([int(number(row[0])) for row in rows], columns)

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
        buckets.check_properties(family, properties, numeric=True)
        grid = buckets.starts(start, end, bucket)
        cells: dict[str, dict[Milliseconds, float]] = {name: {} for name in properties}
        if properties and devices and grid:
            wanted = ", ".join(f"{function}({influxql.name(name)})" for name in properties)
            condition = influxql.where(influxql.among("device", devices), influxql.period(start, end))
            statement = (
                f"select {wanted} from {influxql.name(family)}{condition} group by time({bucket:d}ms) fill(none)"
            )
            for series in await self._query(statement):
                for time, *values in series.values:
                    for name, value in zip(properties, values, strict=True):
                        if value is not None and not (function == "count" and value == 0):
                            cells[name][int(number(time))] = number(value)
        return buckets.fill(grid, properties, cells)

    async def count(
        self, family: str | None = None, *, start: Milliseconds | None = None, end: Milliseconds | None = None
    ) -> int:
        families = influxql.names(buckets.families(family))
        condition = influxql.where(influxql.period(start, end))
        found = await self._query(f"select count(quality) from {families}{condition}")
        return sum(int(number(series.values[0][1])) for series in found)

    async def retain(self, since: Milliseconds) -> None:
        """Drop the shards that ended by `since`, if the retention policy keeps everything for ever."""
        database = influxql.name(self.address.database)
        policies = await self._query(f"show retention policies on {database}")
        columns = [dict(zip(series.columns, row, strict=True)) for series in policies for row in series.values]
        endless = {policy["name"] for policy in columns if policy["duration"] == "0s"}
        for series in await self._query("show shards"):
            for row in series.values:
                shard = dict(zip(series.columns, row, strict=True))
                ours = shard["database"] == self.address.database and shard["retention_policy"] in endless
                if ours and datetime.fromisoformat(str(shard["end_time"])).timestamp() * 1000 <= since:
                    await self._query(f"drop shard {int(number(shard['id']))}")

    async def _newest(self, family: str, limit: int, *conditions: str) -> list[Point]:
        """The newest point of each device under the conditions, in pages that are each answered in time."""
        fields = influxql.names(["quality", *load().families[family].properties])
        statement = f"select {fields} from {influxql.name(family)}{influxql.where(*conditions)}"
        points: dict[str, Point] = {}
        for offset in builtins.range(0, limit, _SERIES):
            size = min(_SERIES, limit - offset)
            page = f" group by device order by time desc limit 1 slimit {size:d} soffset {offset:d}"
            found = _points(await self._query(statement + page))
            points |= {point.device: point for point in found}
            if len(found) < size:
                break
        return list(points.values())

    async def _find_refused(self, readings: Sequence[Reading], body: bytes) -> dict[int, str]:
        """Write all lines; which of them were refused, found by halving."""
        try:
            await self._send(body, "ms")
            return {}
        except Refused as error:
            words, all_refused = str(error), f"dropped={len(readings)}" in str(error)
        except TooLarge as error:
            words, all_refused = str(error), False
        if len(readings) == 1 or all_refused:
            return dict.fromkeys(range(len(readings)), words)
        half = len(readings) // 2
        first = await self._find_refused(readings[:half], self._encoder.encode(readings[:half]).body)
        second = await self._find_refused(readings[half:], self._encoder.encode(readings[half:]).body)
        return first | {half + index: words for index, words in second.items()}

    async def _ensure_database(self) -> None:
        """See whether the database exists and may be used; create it if it does not."""
        try:
            await self._http.query(f"show retention policies on {influxql.name(self.address.database)}")
        except Missing:
            await self._http.query(f"create database {influxql.name(self.address.database)}")

    async def _send(self, body: bytes, precision: str) -> None:
        try:
            await self._http.write(body, precision)
        except Denied as error:
            raise TransientError(str(error)) from error
        except Missing as error:
            await self._recreate(error)

    async def _query(self, statement: str) -> list[SeriesRows]:
        try:
            return await self._http.query(statement)
        except Denied as error:
            raise TransientError(str(error)) from error
        except Missing as error:
            return await self._recreate(error)

    async def _recreate(self, error: Missing) -> NoReturn:
        """Somebody dropped the database: make it again, so that the caller's retry finds it."""
        try:
            await self._ensure_database()
        except (Denied, Missing) as failure:
            raise TransientError(str(failure)) from error
        raise TransientError(f"InfluxDB at {self.address.base}: {error}; it was created again") from error


def _points(found: Sequence[SeriesRows]) -> list[Point]:
    """The newest row of each series grouped by device: time, quality, properties."""
    points = []
    for series in found:
        time, quality, *values = series.values[0]
        reported = {name: v for name, v in zip(series.columns[2:], values, strict=True) if v is not None}
        points.append(Point(series.tags["device"], int(number(time)), reported, str(quality)))
    return points
