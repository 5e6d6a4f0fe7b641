"""Hourly roll-ups of the embedded telemetry store: a cache that follows the points, never a second truth.

For each device, hour and numeric property: sum, count, minimum and maximum. `through` (per family) says up to which
hour they are complete; a point written before that hour puts its device hour on the stale list in the same transaction.
Readers take roll-ups for complete hours that are not stale, points for everything else, so an answer is right however
far the roll-ups have come. `advance` does a slice of a few milliseconds at a time, in the writer's thread. A point's
value is never taken back, only overwritten or added to, so computing an hour again replaces all its rows.
"""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

from devices.catalogue import load
from devices.model import Milliseconds
from storage.points import numbers
from storage.sqlite_schema import HOUR, property_ids, table_of, transaction, weeks

# An hour is rolled up this long after it ended: stragglers would make it stale at once.
_GRACE: Milliseconds = 600_000
_SLICE = 0.010  # s
_SMALLEST, _LARGEST = 16, 20_000


class Rollups:
    """The writer's side; uses the writer's connection. Raises `sqlite3.Error`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids = property_ids(connection)
        self._chunk = 64
        connection.execute("create temp table if not exists picked (device integer, hour integer)")

    def written(self, family: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inside the transaction that wrote `rows` (device, time, ...): note what they make stale."""
        newest = max(row[1] for row in rows)
        self._connection.execute(
            "insert into rollups values (?, ?, 0, 0, 0)"
            " on conflict (family) do update set newest = max(newest, excluded.newest)",
            (family, newest),
        )
        (target,) = self._connection.execute("select target from rollups where family = ?", (family,)).fetchone()
        stale = {(row[0], row[1] // HOUR) for row in rows if row[1] < target}
        if stale:
            self._connection.executemany(f"insert into {family}_stale values (?, ?) on conflict do nothing", stale)

    def advance(self) -> bool:
        """Do one slice of what is due; False if nothing was."""
        started = time.perf_counter()
        done = any(self._refresh(family) or self._continue(family) for family in load().families)
        if done:
            factor = _SLICE / max(time.perf_counter() - started, _SLICE / 4)
            self._chunk = int(min(max(self._chunk * factor, _SMALLEST), _LARGEST))
        return done

    def _refresh(self, family: str) -> bool:
        """Compute stale device hours again."""
        connection = self._connection
        if connection.execute(f"select 1 from {family}_stale limit 1").fetchone() is None:
            return False
        with transaction(connection):
            connection.execute(f"insert into picked select device, hour from {family}_stale limit ?", (self._chunk,))
            first, last = connection.execute("select min(hour), max(hour) from picked").fetchone()
            for week in weeks(connection, family, first * HOUR, (last + 1) * HOUR):
                source = (
                    f"picked p cross join {table_of(family, week)} w on w.device = p.device"
                    f" and w.time >= p.hour * {HOUR} and w.time < (p.hour + 1) * {HOUR}"
                )
                connection.execute(self._statement(family, table_of(family, week), source))
            connection.execute(f"delete from {family}_stale where (device, hour) in (select device, hour from picked)")
            connection.execute("delete from picked")
        return True

    def _continue(self, family: str) -> bool:
        """Roll up the next devices of the pass through [through, target), or begin one if an hour has become due."""
        connection = self._connection
        row = connection.execute(
            "select newest, through, target, device from rollups where family = ?", (family,)
        ).fetchone()
        if row is None:
            return False
        newest, through, target, device = row
        if target == through:
            target = (min(newest, time.time_ns() // 1_000_000) - _GRACE) // HOUR * HOUR
            if target <= through:
                return False
        with transaction(connection):
            (last,) = connection.execute(
                f"select max(device) from (select device from {family}_latest where device > ? order by 1 limit ?)",
                (device, self._chunk),
            ).fetchone()
            if last is None:
                state: Iterable[int] = (target, target, 0)
            else:
                state = (through, target, last)
                for week in weeks(connection, family, through, target):
                    source = (
                        f"{family}_latest d cross join {table_of(family, week)} w on w.device = d.device"
                        " and d.device > :device and d.device <= :last and w.time >= :through and w.time < :target"
                    )
                    bounds = {"device": device, "last": last, "through": through, "target": target}
                    connection.execute(self._statement(family, table_of(family, week), source), bounds)
            connection.execute(
                "update rollups set through = ?, target = ?, device = ? where family = ?", (*state, family)
            )
        return True

    def _statement(self, family: str, table: str, source: str) -> str:
        """Roll up the points `w` of `source`, reading each of them once."""
        names = numbers(family)
        sums = ", ".join(
            f"sum(w.{p}) as t_{p}, count(w.{p}) as n_{p}, min(w.{p}) as l_{p}, max(w.{p}) as h_{p}" for p in names
        )
        rows = " union all ".join(
            f"select {self._ids[p]}, device, hour, t_{p}, n_{p}, l_{p}, h_{p} from hours where n_{p} > 0" for p in names
        )
        return (
            f"with hours as materialized (select w.device, w.time / {HOUR} as hour, {sums} from {source} group by 1, 2)"
            f" insert or replace into {table}_hourly {rows}"
        )
