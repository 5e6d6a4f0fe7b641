"""The embedded telemetry store beyond the common contract: roll-ups, other processes, full disks."""

import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.errors import ConfigError, TransientError
from devices.model import Device
from storage import sqlite_schema
from storage.points import TIME_LIMIT
from storage.sqlite_aggregates import aggregate
from storage.sqlite_schema import WEEK, connect, table_of, week_of, week_start
from storage.sqlite_store import SqliteStore
from storage.sqlite_writer import SqliteWriter
from storage.telemetry import Aggregate
from tests.samples import DAY, HOUR, NEW_YEAR, device, reading

_METERS = [device(name) for name in ("a", "b", "c")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


@pytest.fixture
def writer(path: Path) -> Iterator[SqliteWriter]:
    writer = SqliteWriter(path)
    writer.open()
    yield writer
    writer.close()


def roll_up(writer: SqliteWriter) -> None:
    while writer.roll_up():
        pass


@settings(deadline=None)
@given(st.integers(0, 7000 * 52))
def test_weeks_begin_on_monday_and_hold_their_time(day: int) -> None:
    time = min(day * DAY, TIME_LIMIT - 1)
    week = week_of(time)
    assert week_start(week) <= time < week_start(week) + WEEK
    assert (week_start(week) // DAY + 3) % 7 == 0


def test_a_week_is_named_as_in_iso_8601() -> None:
    assert table_of("water_meter", week_of(NEW_YEAR)) == "water_meter_2026w01"
    assert table_of("water_meter", week_of(NEW_YEAR + 4 * DAY)) == "water_meter_2026w02"
    assert table_of("water_meter", week_of(NEW_YEAR - 4 * DAY)) == "water_meter_2025w52"


_OFFSETS = st.integers(0, 5 * 60) | st.integers(10_000, 10_300) | st.integers(0, 200).map(lambda hour: hour * 60)
_WRITES = st.lists(st.tuples(st.sampled_from(_METERS), _OFFSETS, st.integers(-9, 9)), min_size=1, max_size=12)


_FUNCTIONS: dict[Aggregate, Callable[[list[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "sum": sum,
    "count": len,
    "min": min,
    "max": max,
}


@settings(max_examples=60, deadline=None)
@given(st.lists(_WRITES | st.integers(1, 3), max_size=10), st.randoms(use_true_random=False))
def test_aggregates_are_right_however_far_the_roll_ups_have_come(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[Device, int, int]] | int], chance: random.Random
) -> None:
    writer = SqliteWriter(tmp_path_factory.mktemp("store") / "telemetry.db")
    writer.open()
    stored: dict[tuple[str, int], float] = {}
    for step in steps:
        if isinstance(step, int):
            for _ in range(step):
                writer.roll_up()
            continue
        batch = [reading(meter, NEW_YEAR + minute * 60_000, flow_rate=float(value)) for meter, minute, value in step]
        writer.write(batch)
        stored |= {(r.device.id, r.time): r.values.flow_rate for r in batch}  # type: ignore[attr-defined]
    start = NEW_YEAR + chance.randrange(0, 400) * 60_000
    end = start + chance.randrange(1, 11_000) * 60_000
    bucket = chance.choice([HOUR, 3 * HOUR, DAY, 1_800_000])
    names = chance.sample(["a", "b", "c"], 2)
    cells: dict[int, list[float]] = {}
    for (name, time), value in stored.items():
        if name in names and start <= time < end:
            cells.setdefault(time // bucket * bucket, []).append(value)
    with closing(connect(writer.path, read_only=True)) as reader:
        for function, of in _FUNCTIONS.items():
            series = aggregate(reader, "water_meter", names, ["flow_rate"], start, end, bucket, function)
            found = dict(zip(series.times, series.columns["flow_rate"], strict=True))
            assert {time: value for time, value in found.items() if value is not None} == pytest.approx(
                {time: of(values) for time, values in cells.items()}
            ), function
    writer.close()


def test_whole_hours_are_answered_without_their_points(writer: SqliteWriter, path: Path) -> None:
    minutes = range(6 * 60)
    writer.write([reading(m, NEW_YEAR + i * 60_000, flow_rate=float(i)) for m in _METERS for i in minutes])
    roll_up(writer)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("delete from water_meter_2026w01 where time < ?", (NEW_YEAR + 5 * HOUR,))
        connection.commit()
    with closing(connect(path, read_only=True)) as reader:
        question = (reader, "water_meter", ["a", "b"], ["flow_rate"], NEW_YEAR, NEW_YEAR + 6 * HOUR, HOUR)
        assert aggregate(*question, "mean").columns["flow_rate"] == [60.0 * hour + 29.5 for hour in range(6)]
        writer.write([reading(_METERS[0], NEW_YEAR + HOUR, flow_rate=7.0)])
        late = aggregate(*question, "count").columns["flow_rate"]
        assert late[1] == 61.0  # of `a` only the late point, as its hour is stale; of `b` the roll-up
        roll_up(writer)
        assert aggregate(*question, "count").columns["flow_rate"] == late


async def test_old_points_are_rolled_up_in_the_background(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    await store.write([reading(m, NEW_YEAR + i * 600_000, flow_rate=1.0) for m in _METERS for i in range(60)])
    with closing(sqlite3.connect(path)) as connection:
        while connection.execute("select through from rollups").fetchone()[0] < NEW_YEAR + 8 * HOUR:
            await store.ready()
        assert connection.execute("select count(*) from water_meter_2026w01_hourly").fetchone()[0] >= 24
    await store.close()


_OTHER = """
import asyncio, sys
from pathlib import Path
from storage.sqlite_store import SqliteStore
from tests.samples import NEW_YEAR, device, reading

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.start()
    meters = [device(f"m{i}") for i in range(100)]
    for step in range(10_000):
        await store.write([reading(m, NEW_YEAR + step * 60_000, flow_rate=float(step)) for m in meters])
        print(step + 1, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to the same file and prints the number of acknowledged batches."""
    with subprocess.Popen([sys.executable, "-c", _OTHER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


async def test_another_process_writes_is_read_meanwhile_and_killed(path: Path, other: subprocess.Popen[str]) -> None:
    assert other.stdout is not None
    reader = SqliteStore(path)
    await reader.start()  # both create the file at the same time
    acknowledged = 0
    while acknowledged < 60:
        acknowledged = int(other.stdout.readline())
        assert await reader.count("water_meter") >= acknowledged * 100
        latest = await reader.latest("water_meter")
        assert len(latest) == 100
        assert min(p.time for p in latest) >= NEW_YEAR + (acknowledged - 1) * 60_000
    other.kill()
    acknowledged = max([acknowledged, *map(int, other.stdout.read().split())])
    assert await reader.count() >= acknowledged * 100
    await reader.write([reading(device("after"), NEW_YEAR, flow_rate=1.0)])
    await reader.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


async def test_two_stores_on_one_file_see_each_others_tables(path: Path) -> None:
    one, two = SqliteStore(path), SqliteStore(path)
    await one.start()
    await two.start()
    await one.write([reading(_METERS[0], NEW_YEAR, flow_rate=1.0)])
    await two.write([reading(_METERS[0], NEW_YEAR, pressure=1.0), reading(_METERS[1], NEW_YEAR, pressure=2.0)])
    await one.write([reading(_METERS[1], NEW_YEAR, flow_rate=2.0)])
    await two.retain(NEW_YEAR + 30 * DAY)
    assert await one.count() == 0
    await one.write([reading(_METERS[0], NEW_YEAR, flow_rate=3.0)])
    assert [p.values for p in await two.latest("water_meter")] == [{"flow_rate": 3.0}]
    await one.close()
    await two.close()


async def test_a_property_that_the_catalogue_gained_gets_its_column(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    await store.write([reading(_METERS[0], NEW_YEAR, flow_rate=1.0)])
    await store.close()
    with closing(sqlite3.connect(path)) as connection:  # as if written by an earlier version
        for table in ("water_meter_latest", "water_meter_2026w01"):
            connection.execute(f"alter table {table} drop column pressure")
        connection.execute("delete from properties where name = 'pressure'")
        connection.commit()
    await store.start()
    await store.write([reading(_METERS[0], NEW_YEAR + 1, pressure=0.5)])
    series = await store.range("water_meter", "a", ["pressure", "flow_rate"], NEW_YEAR, NEW_YEAR + 2)
    assert series.columns == {"pressure": [None, 0.5], "flow_rate": [1.0, None]}
    await store.close()


@pytest.fixture
def unusable(tmp_path: Path) -> list[Path]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_bytes(b"not a database" * 1000)
    (tmp_path / "file").touch()
    return [tmp_path / "folder", tmp_path / "text", tmp_path / "file" / "telemetry.db"]


async def test_a_path_that_cannot_be_a_database_is_a_configuration_error(unusable: list[Path]) -> None:
    for path in unusable:
        store = SqliteStore(path)
        with pytest.raises(ConfigError, match=path.name):
            await store.start()
        await store.close()


async def test_a_locked_file_is_transient(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "BUSY_SECONDS", 0.05)
    store = SqliteStore(path)
    await store.start()
    batch = [reading(_METERS[0], NEW_YEAR, flow_rate=1.0)]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(TransientError, match="locked"):
            await store.write(batch)
        assert await store.count() == 0
        other.execute("rollback")
    await store.write(batch)
    assert await store.count() == 1
    await store.close()


async def test_a_full_disk_is_transient_and_loses_nothing(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    await store.write([reading(_METERS[0], NEW_YEAR, flow_rate=1.0)])
    connection = store._writer._connection
    connection.execute("pragma max_page_count = 1")  # never below what is used now
    batch = [reading(device(f"m{i}"), NEW_YEAR + 7 * DAY, flow_rate=1.0) for i in range(5000)]
    with pytest.raises(TransientError, match="full"):
        await store.write(batch)
    assert await store.count() == 1
    connection.execute("pragma max_page_count = 1000000")
    await store.write(batch)
    assert await store.count() == 5001
    await store.close()


async def test_sync_leaves_the_fast_mode_on(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    for _ in range(2):
        await store.sync()
    assert store._writer._connection.execute("pragma synchronous").fetchone() == (1,)
    await store.close()


async def test_retention_keeps_aggregates_right(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    times = [NEW_YEAR + day * DAY for day in range(30)]
    await store.write([reading(_METERS[0], time, flow_rate=1.0) for time in times])
    roll_up(store._writer)
    await store.write([reading(_METERS[0], times[0] + 1, flow_rate=1.0)])  # stale, and about to go
    await store.retain(NEW_YEAR + 15 * DAY)
    kept = week_start(week_of(NEW_YEAR + 15 * DAY))
    series = await store.aggregate("water_meter", ["a"], ["flow_rate"], NEW_YEAR, NEW_YEAR + 30 * DAY, DAY, "count")
    assert series.columns["flow_rate"] == [1.0 if time >= kept else None for time in times]
    await store.close()
