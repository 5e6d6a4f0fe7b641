"""Tables of the embedded telemetry store: their names, their DDL and the weeks they are cut into.

Per family: `{family}_{ISO week}` holds the points (a column per property), `{family}_{ISO week}_hourly` the roll-ups of
that week, `{family}_latest` the newest point of each device, `{family}_stale` the device hours whose roll-up is out of
date. Devices and origins (who heard it, with which profile, zone, district and quality) are interned as integers.
Column and table names come only from the catalogue and the calendar. Raises `sqlite3.Error` as it comes.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from devices.catalogue import load
from devices.model import Milliseconds
from storage.points import TIME_LIMIT, numbers, states

HOUR: Milliseconds = 3_600_000
WEEK: Milliseconds = 168 * HOUR
# 1970-01-01 was a Thursday; ISO weeks begin on Mondays.
_MONDAY: Milliseconds = 96 * HOUR

KEY = ("device", "time", "origin")

# How long a call waits for another process that writes.
BUSY_SECONDS = 5.0


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode (transactions are explicit), usable from any one thread at a time."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-65536", "wal_autocheckpoint=4000"):
        connection.execute(f"pragma {pragma}")
    connection.execute(f"pragma query_only={'on' if read_only else 'off'}")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "immediate") -> Iterator[None]:
    """Commit at the end, roll back on any error. A `deferred` one gives readers a single snapshot."""
    connection.execute(f"begin {kind}")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


@cache
def columns(family: str) -> tuple[str, ...]:
    """The properties of `family` as columns: numbers first, then words."""
    return numbers(family) + states(family)


def week_of(time: Milliseconds) -> int:
    """The number of the ISO week that `time` lies in, counted from the one of 1970-01-01."""
    return (time + WEEK - _MONDAY) // WEEK


def week_start(week: int) -> Milliseconds:
    return week * WEEK - WEEK + _MONDAY


@cache
def table_of(family: str, week: int) -> str:
    """`water_meter_2026w01`"""
    year, number, _ = datetime.fromtimestamp(week_start(week) / 1000, UTC).isocalendar()
    return f"{family}_{year}w{number:02}"


def weeks(
    connection: sqlite3.Connection, family: str, start: Milliseconds = 0, end: Milliseconds = TIME_LIMIT
) -> list[int]:
    """The weeks of `family` that have a table and overlap [start, end), ascending."""
    names = connection.execute("select name from sqlite_schema where type = 'table' and name glob ?", (f"{family}_*",))
    found = []
    for (name,) in names:
        if match := re.fullmatch(rf"{family}_(\d{{4}})w(\d\d)", name):
            year, number = int(match[1]), int(match[2])
            first = datetime.fromisocalendar(year, number, 1).replace(tzinfo=UTC)
            week = week_of(int(first.timestamp()) * 1000)
            if week_start(week) < end and week_start(week + 1) > start:
                found.append(week)
    return sorted(found)


def create(connection: sqlite3.Connection) -> None:
    """Create what is missing, and the columns that the catalogue gained since a table was made."""
    with transaction(connection):
        connection.execute(
            "create table if not exists devices (id integer primary key, name text not null unique) strict"
        )
        connection.execute(
            "create table if not exists origins (id integer primary key, gateway text not null, profile text not null,"
            " zone text not null, district text not null, quality text not null,"
            " unique (gateway, profile, zone, district, quality)) strict"
        )
        connection.execute(
            "create table if not exists alarms (subject text not null, rule text not null, time integer not null,"
            " state text not null, priority text not null, text text not null,"
            " primary key (subject, rule, time, state)) without rowid, strict"
        )
        connection.execute(
            "create table if not exists rollups (family text primary key, newest integer not null,"
            " through integer not null, target integer not null, device integer not null) without rowid, strict"
        )
        connection.execute("create table if not exists properties (id integer primary key, name text unique) strict")
        names = [(name,) for name in load().properties]
        connection.executemany("insert into properties (name) values (?) on conflict do nothing", names)
        connection.execute("create table if not exists syncs (id integer primary key, count integer not null) strict")
        for family in load().families:
            connection.execute(
                f"create table if not exists {family}_latest ({_columns(family)}, primary key (device)) strict"
            )
            connection.execute(
                f"create table if not exists {family}_stale (device integer, hour integer, primary key (device, hour))"
                " without rowid, strict"
            )
            _add_columns(connection, family, f"{family}_latest")
            for week in weeks(connection, family):
                _add_columns(connection, family, table_of(family, week))


def create_week(connection: sqlite3.Connection, family: str, week: int) -> None:
    """The two tables of a week, if they are missing."""
    table = table_of(family, week)
    connection.execute(
        f"create table if not exists {table} ({_columns(family)}, primary key (device, time)) without rowid, strict"
    )
    connection.execute(
        f"create table if not exists {table}_hourly (property integer, device integer, hour integer,"
        " total real not null, n integer not null, low real not null, high real not null,"
        " primary key (property, device, hour)) without rowid, strict"
    )


def property_ids(connection: sqlite3.Connection) -> dict[str, int]:
    """The numbers that stand for properties in the roll-ups; they stay when the catalogue is rearranged."""
    return dict(connection.execute("select name, id from properties"))


def _columns(family: str) -> str:
    kinds = (f"{name} {'real' if name in numbers(family) else 'text'}" for name in columns(family))
    return ", ".join(["device integer not null", "time integer not null", "origin integer not null", *kinds])


def _add_columns(connection: sqlite3.Connection, family: str, table: str) -> None:
    present = {row[1] for row in connection.execute(f"pragma table_info({table})")}
    for name in columns(family):
        if name not in present:
            connection.execute(f"alter table {table} add column {name} {'real' if name in numbers(family) else 'text'}")
