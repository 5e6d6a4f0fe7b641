"""The reading side of the embedded telemetry store: questions to one connection, each answered from one snapshot.

Receives a connection and a question of the port `TelemetryStore`, gives points, series and counts; owns nothing.
Raises `sqlite3.Error`, and `ValueError` for a question that makes no sense (see `storage.buckets`).
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from devices.model import Milliseconds
from storage import buckets
from storage.points import TIME_LIMIT
from storage.sqlite_schema import columns, table_of, transaction, week_start, weeks
from storage.telemetry import Point, Series


def latest(
    connection: sqlite3.Connection, family: str, district: str | None, devices: Sequence[str] | None, limit: int
) -> list[Point]:
    buckets.check_properties(family, ())
    names = columns(family)
    conditions, parameters = ["true"], []
    if devices is not None:
        conditions.append("d.name in (select value from json_each(?))")
        parameters.append(as_json(devices))
    if district is not None:
        conditions.append("o.district = ?")
        parameters.append(district)
    rows = connection.execute(
        f"select d.name, l.time, o.quality, {', '.join(f'l.{name}' for name in names)} from {family}_latest l"
        f" join devices d on d.id = l.device join origins o on o.id = l.origin"
        f" where {' and '.join(conditions)} limit ?",
        (*parameters, limit),
    )
    return [
        Point(device, time, {name: v for name, v in zip(names, values, strict=True) if v is not None}, quality)
        for device, time, quality, *values in rows
    ]


def points(
    connection: sqlite3.Connection,
    family: str,
    device: str,
    properties: Sequence[str],
    start: Milliseconds,
    end: Milliseconds,
    limit: int,
) -> Series:
    """Raw values in [start, end), oldest first."""
    buckets.check_properties(family, properties)
    found: list[tuple[float | str | None, ...]] = []
    reported = " or ".join(f"{name} is not null" for name in properties)
    with transaction(connection, "deferred"):
        for week in weeks(connection, family, start, end) if properties else ():
            found += connection.execute(
                f"select time, {', '.join(properties)} from {table_of(family, week)}"
                " where device = (select id from devices where name = ?) and time >= ? and time < ?"
                f" and ({reported}) order by time limit ?",
                (device, start, end, limit - len(found)),
            )
    times, *values = zip(*found, strict=True) if found else [()] * (len(properties) + 1)
    return Series(list(times), {name: list(column) for name, column in zip(properties, values, strict=True)})


def count(
    connection: sqlite3.Connection, family: str | None, start: Milliseconds | None, end: Milliseconds | None
) -> int:
    first = 0 if start is None else start
    last = TIME_LIMIT if end is None else end
    total = 0
    with transaction(connection, "deferred"):
        for name in buckets.families(family):
            for week in weeks(connection, name, first, last):
                statement = f"select count(*) from {table_of(name, week)}"
                # Without a condition SQLite counts pages' worth of rows at once.
                if first > week_start(week) or last < week_start(week + 1):
                    statement += f" where time >= {first:d} and time < {last:d}"
                total += connection.execute(statement).fetchone()[0]
    return total


def as_json(names: Sequence[str] | Sequence[int]) -> str:
    """A list as one parameter, for `json_each`."""
    return msgspec.json.encode(list(names)).decode()
