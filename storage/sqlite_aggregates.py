"""Aggregates of the embedded telemetry store: one value per bucket and property over many devices.

Receives a connection and the question of `TelemetryStore.aggregate`, gives a series from one snapshot; owns nothing.
Whole hours come from the roll-ups where these are complete and not stale, everything else from the points, and both
meet in `_Cells`. Raises `sqlite3.Error`, and `ValueError` for a question that makes no sense (see `storage.buckets`).
"""

import operator
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

from devices.model import Milliseconds
from storage import buckets
from storage.sqlite_queries import as_json
from storage.sqlite_schema import HOUR, property_ids, table_of, transaction, weeks
from storage.telemetry import Aggregate, Series


class _Part(NamedTuple):
    """Something known of a piece of a bucket, null if it has no value there, that joins with the same of another."""

    of_points: str
    of_rollups: str
    join: Callable[[float, float], float]


_SUM = _Part("sum(w.{})", "sum(total)", operator.add)
_COUNT = _Part("nullif(count(w.{}), 0)", "sum(n)", operator.add)
_PARTS: dict[str, tuple[_Part, ...]] = {
    "mean": (_SUM, _COUNT),
    "sum": (_SUM,),
    "count": (_COUNT,),
    "min": (_Part("min(w.{})", "min(low)", min),),
    "max": (_Part("max(w.{})", "max(high)", max),),
}


class _Question(NamedTuple):
    connection: sqlite3.Connection
    family: str
    devices: str  # numbers of the devices, as JSON
    properties: Sequence[str]
    start: Milliseconds
    end: Milliseconds
    bucket: Milliseconds


_OF_DEVICES = "device in (select value from json_each(?))"

_Cells = dict[str, dict[Milliseconds, tuple[float, ...]]]


def aggregate(
    connection: sqlite3.Connection,
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
    if not properties or not devices:
        return buckets.fill(grid, properties, {})
    with transaction(connection, "deferred"):
        known = "select id from devices where name in (select value from json_each(?))"
        ids = [row[0] for row in connection.execute(known, (as_json(devices),))]
        question = _Question(connection, family, as_json(ids), properties, start, end, bucket)
        cells = _edges(question, function) if function in ("first", "last") else _totals(question, _PARTS[function])
    values = {
        name: {time: parts[0] / parts[1] if function == "mean" else parts[0] for time, parts in column.items()}
        for name, column in cells.items()
    }
    return buckets.fill(grid, properties, values)


def _totals(question: _Question, parts: Sequence[_Part]) -> _Cells:
    first, last = _rolled(question)
    cells: _Cells = {name: {} for name in question.properties}
    _add_points(question, parts, cells, question.start, first)
    _add_points(question, parts, cells, last, question.end)
    if first < last:
        stale = _any_stale(question, first, last)
        _add_rollups(question, parts, cells, first, last, stale=stale)
        if stale:
            _add_points(question, parts, cells, first, last, stale=True)
    return cells


def _rolled(question: _Question) -> tuple[Milliseconds, Milliseconds]:
    """The whole hours [first, last) that roll-ups can answer; empty at `start` if they cannot help."""
    row = question.connection.execute("select through from rollups where family = ?", (question.family,)).fetchone()
    first = -(-question.start // HOUR) * HOUR
    last = min(question.end // HOUR * HOUR, row[0] if row else 0)
    return (first, last) if question.bucket % HOUR == 0 and first < last else (question.start, question.start)


def _any_stale(question: _Question, start: Milliseconds, end: Milliseconds) -> bool:
    statement = f"select 1 from {question.family}_stale where {_OF_DEVICES} and hour >= ? and hour < ? limit 1"
    parameters = (question.devices, start // HOUR, end // HOUR)
    return question.connection.execute(statement, parameters).fetchone() is not None


def _add_rollups(
    question: _Question,
    parts: Sequence[_Part],
    cells: _Cells,
    start: Milliseconds,
    end: Milliseconds,
    *,
    stale: bool,
) -> None:
    family, bucket = question.family, question.bucket
    fresh = (
        f" and not exists (select 1 from {family}_stale s where s.device = h.device and s.hour = h.hour)"
        if stale
        else ""
    )
    ids = property_ids(question.connection)
    for week in weeks(question.connection, family, start, end):
        statement = (
            f"select hour * {HOUR} / {bucket:d} * {bucket:d}, {', '.join(part.of_rollups for part in parts)}"
            f" from {table_of(family, week)}_hourly h"
            f" where property = ? and {_OF_DEVICES} and hour >= ? and hour < ?{fresh} group by 1"
        )
        for name in question.properties:
            parameters = (ids[name], question.devices, start // HOUR, end // HOUR)
            for time, *found in question.connection.execute(statement, parameters):
                _join(parts, cells[name], time, found)


def _add_points(
    question: _Question,
    parts: Sequence[_Part],
    cells: _Cells,
    start: Milliseconds,
    end: Milliseconds,
    *,
    stale: bool = False,
) -> None:
    """Add the points in [start, end), or only those of stale device hours."""
    family, bucket, size = question.family, question.bucket, len(parts)
    wanted = ", ".join(part.of_points.format(name) for name in question.properties for part in parts)
    for week in weeks(question.connection, family, start, end):
        source = f"{table_of(family, week)} w where {_OF_DEVICES} and w.time >= ? and w.time < ?"
        parameters = (question.devices, start, end)
        if stale:
            source = (
                f"{family}_stale s cross join {table_of(family, week)} w on w.device = s.device"
                f" and w.time >= s.hour * {HOUR} and w.time < (s.hour + 1) * {HOUR}"
                f" where s.{_OF_DEVICES} and s.hour >= ? and s.hour < ?"
            )
            parameters = (question.devices, start // HOUR, end // HOUR)
        statement = f"select w.time / {bucket:d} * {bucket:d}, {wanted} from {source} group by 1"
        for time, *found in question.connection.execute(statement, parameters):
            for index, name in enumerate(question.properties):
                _join(parts, cells[name], time, found[index * size : (index + 1) * size])


def _join(parts: Sequence[_Part], column: dict[Milliseconds, tuple[float, ...]], time: int, found: list[float]) -> None:
    if found[0] is None:
        return
    known = column.get(time)
    column[time] = (
        tuple(found)
        if known is None
        else tuple(part.join(a, b) for part, a, b in zip(parts, known, found, strict=True))
    )


def _edges(question: _Question, function: Aggregate) -> _Cells:
    """The first or last value of each bucket; SQLite takes the bare column from the row that has the extreme time."""
    extreme = "min" if function == "first" else "max"
    cells: _Cells = {name: {} for name in question.properties}
    for week in weeks(question.connection, question.family, question.start, question.end):
        for name, column in cells.items():
            statement = (
                f"select time / {question.bucket:d} * {question.bucket:d}, {name}, {extreme}(time)"
                f" from {table_of(question.family, week)}"
                f" where {_OF_DEVICES} and time >= ? and time < ? and {name} is not null group by 1"
            )
            for time, value, at in question.connection.execute(
                statement, (question.devices, question.start, question.end)
            ):
                if time not in column or (at < column[time][1]) == (function == "first"):
                    column[time] = (value, at)
    return cells
