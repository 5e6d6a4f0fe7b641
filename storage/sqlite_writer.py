"""The writing side of the embedded telemetry store: one connection, used by one thread.

Receives readings and alarm marks, gives rows; owns the numbers of devices and origins it has seen, and the roll-ups.
Writing a point again merges it into the stored one, property by property, as InfluxDB does. Raises `PartialWriteError`
for readings that no store can hold, `sqlite3.Error` for everything else.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from devices.catalogue import load
from devices.errors import PartialWriteError
from devices.model import Milliseconds, Reading, Values
from devices.profile import LARGEST_EXACT_INTEGER
from storage.points import TIME_LIMIT, identity_refusal, numbers, sift, states
from storage.sqlite_rollups import Rollups
from storage.sqlite_schema import (
    HOUR,
    KEY,
    columns,
    connect,
    create,
    create_week,
    table_of,
    transaction,
    week_of,
    week_start,
    weeks,
)
from storage.telemetry import AlarmMark

_Row = tuple[Any, ...]

# Rows per statement. Each statement gives up the interpreter lock once: with a busy event loop beside it, a row per
# statement would also take the lock 5,000 times per batch.
_ROWS = (1000, 100, 10, 1)
_VARIABLES = 32_766


class SqliteWriter:
    """See the module docstring. `open` creates what is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._devices: dict[str, int] = {}
        self._origins: dict[tuple[str, ...], int] = {}
        self._weeks: set[tuple[str, int]] = set()
        self._schema = -1

    def open(self) -> None:
        self._connection = connect(self.path)
        create(self._connection)
        self._rollups = Rollups(self._connection)

    def close(self) -> None:
        self._connection.close()

    def write(self, readings: Sequence[Reading]) -> None:
        """All or nothing, except for readings that cannot be held."""
        refused: dict[int, str] = {}
        try:
            with transaction(self._connection):
                try:
                    tables = self._arrange(readings)
                except (TypeError, ValueError, OverflowError, LookupError):
                    kept, _, refused = sift(readings)
                    tables = self._arrange(kept, sifted=True)
                self._look_for_weeks()
                for (family, week), rows in tables.items():
                    self._store(family, week, rows)
        except BaseException:
            self._forget()
            raise
        if refused:
            raise PartialWriteError(refused)

    def mark(self, marks: Sequence[AlarmMark]) -> None:
        rows = [(mark.subject, mark.rule, mark.time, mark.state, mark.priority, mark.text) for mark in marks]
        with transaction(self._connection):
            self._connection.executemany("insert or replace into alarms values (?, ?, ?, ?, ?, ?)", rows)

    def sync(self) -> None:
        """Commit once with a full sync: the write-ahead log is one file, so all earlier commits are on the disk too.
        A checkpoint would do the same, but has to wait for readers.
        """
        self._connection.execute("pragma synchronous=FULL")
        try:
            with transaction(self._connection):
                self._connection.execute("insert into syncs values (1, 1) on conflict do update set count = count + 1")
        finally:
            self._connection.execute("pragma synchronous=NORMAL")

    def retain(self, since: Milliseconds) -> None:
        """Drop the weeks that ended by `since`, and what was derived from them."""
        with transaction(self._connection):
            self._look_for_weeks()
            for family, week in list(self._weeks):
                if week_start(week + 1) <= since:
                    table = table_of(family, week)
                    self._connection.execute(f"drop table {table}")
                    self._connection.execute(f"drop table {table}_hourly")
            kept_from = week_start(week_of(since))
            for family in {family for family, _ in self._weeks}:
                self._connection.execute(f"delete from {family}_latest where time < ?", (kept_from,))
                self._connection.execute(f"delete from {family}_stale where hour < ?", (kept_from // HOUR,))
            self._connection.execute("delete from alarms where time < ?", (kept_from,))

    def roll_up(self) -> bool:
        """A slice of a few milliseconds of roll-ups; False if nothing is due."""
        return self._rollups.advance()

    def _arrange(self, readings: Sequence[Reading], *, sifted: bool = False) -> dict[tuple[str, int], list[_Row]]:
        """Rows by table. Unless they are sifted, a doubtful one raises `TypeError` or `ValueError`."""
        tables: dict[tuple[str, int], list[_Row]] = defaultdict(list)
        devices, origins = self._devices.get, self._origins.get
        for reading in readings:
            device, time = reading.device, reading.time
            origin = (reading.gateway, device.profile, device.zone, device.district, reading.quality)
            device_id, origin_id = devices(device.id), origins(origin)
            if device_id is None or origin_id is None:
                device_id, origin_id = self._meet(reading, origin)
            shape = _shape(device.family)
            values = shape.values(reading.values)
            if not sifted and not shape.beyond_doubt(time, values):
                raise ValueError("needs a closer look")
            tables[device.family, week_of(time)].append((device_id, time, origin_id, *values))
        return tables

    def _meet(self, reading: Reading, origin: tuple[str, ...]) -> tuple[int, int]:
        """The numbers of a device or an origin seen for the first time since `open`."""
        if words := identity_refusal(reading):
            raise ValueError(words)
        execute = self._connection.execute
        name = reading.device.id
        execute("insert into devices (name) values (?) on conflict do nothing", (name,))
        (device_id,) = execute("select id from devices where name = ?", (name,)).fetchone()
        execute(
            "insert into origins (gateway, profile, zone, district, quality) values (?, ?, ?, ?, ?)"
            " on conflict do nothing",
            origin,
        )
        (origin_id,) = execute(
            "select id from origins where (gateway, profile, zone, district, quality) = (?, ?, ?, ?, ?)", origin
        ).fetchone()
        self._devices[name], self._origins[origin] = device_id, origin_id
        return device_id, origin_id

    def _store(self, family: str, week: int, rows: list[_Row]) -> None:
        if (family, week) not in self._weeks:
            create_week(self._connection, family, week)
            self._look_for_weeks()
        rows.sort(key=itemgetter(0, 1))
        self._upsert(_merge_points, family, table_of(family, week), rows)
        self._upsert(_keep_newest, family, f"{family}_latest", _newest(rows))
        self._rollups.written(family, rows)

    def _upsert(self, statement: Callable[[str, str, int], str], family: str, table: str, rows: list[_Row]) -> None:
        done = 0
        for size in _ROWS:
            while len(rows) - done >= size and size * len(rows[0]) <= _VARIABLES:
                values = list(chain.from_iterable(rows[done : done + size]))
                self._connection.execute(statement(family, table, size), values)
                done += size

    def _look_for_weeks(self) -> None:
        """Notice tables that came or went, whoever did it."""
        (schema,) = self._connection.execute("pragma schema_version").fetchone()
        if schema != self._schema:
            self._weeks = {(family, week) for family in load().families for week in weeks(self._connection, family)}
            self._schema = schema

    def _forget(self) -> None:
        """After a rollback nothing learnt in the transaction is true."""
        self._devices.clear()
        self._origins.clear()
        self._weeks.clear()
        self._schema = -1


class _Shape(NamedTuple):
    """How the values of a family become a row: numbers first, then words; `words` are the known ones and None."""

    values: Callable[[Values], tuple[Any, ...]]
    numbers: int
    words: frozenset[str | None]

    def beyond_doubt(self, time: Milliseconds, values: tuple[Any, ...]) -> bool:
        """Whether a row can be stored without a closer look; raises `TypeError` where a number is a word."""
        # Not a number, infinite or absurd: the sum shows it, at a fraction of the price of a test per value.
        total = sum(filter(None, values[: self.numbers]))
        plain = -LARGEST_EXACT_INTEGER < total < LARGEST_EXACT_INTEGER
        return plain and 0 <= time < TIME_LIMIT and self.words.issuperset(values[self.numbers :])


@cache
def _shape(family: str) -> _Shape:
    properties = load().properties
    words = frozenset(word for name in states(family) for word in properties[name].values)
    return _Shape(attrgetter(*columns(family)), len(numbers(family)), words | {None})


def _newest(rows: list[_Row]) -> list[_Row]:
    """The newest row of each device; `rows` are sorted by device and time, rows of the same time are merged."""
    newest: dict[int, _Row] = {}
    for row in rows:
        known = newest.get(row[0])
        if known is not None and known[1] == row[1]:
            row = tuple(old if new is None else new for old, new in zip(known, row, strict=True))
        newest[row[0]] = row
    return list(newest.values())


@cache
def _merge_points(family: str, table: str, size: int) -> str:
    merged = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in columns(family))
    return f"{_insert(family, table, size)} on conflict (device, time) do update set origin = excluded.origin, {merged}"


@cache
def _keep_newest(family: str, table: str, size: int) -> str:
    merged = ", ".join(
        f"{name} = iif(excluded.time > time, excluded.{name}, coalesce(excluded.{name}, {name}))"
        for name in columns(family)
    )
    return (
        f"{_insert(family, table, size)} on conflict (device) do update"
        f" set time = excluded.time, origin = excluded.origin, {merged} where excluded.time >= time"
    )


def _insert(family: str, table: str, size: int) -> str:
    names = (*KEY, *columns(family))
    row = f"({', '.join('?' * len(names))})"
    return f"insert into {table} ({', '.join(names)}) values {', '.join([row] * size)}"
