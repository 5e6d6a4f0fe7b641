"""What every `TelemetryStore` promises, run over each implementation: SQLite and a real InfluxDB 1.x."""

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from devices.errors import PartialWriteError, TransientError
from devices.model import Reading
from storage.influx_http import Address, InfluxHttp, number
from storage.stores import open_store
from storage.telemetry import Aggregate, AlarmMark, TelemetryStore
from tests.samples import DAY, HOUR, NEW_YEAR, device, reading

# Ids that a careless writer would let break out of a tag, a string or a statement.
HOSTILE = [
    "松北-01 号井",
    "a b",
    "a,b=c",
    "a\\,b",
    "a\\ b",
    'say "hi"',
    "it's",
    "';drop table devices;--",
    'x" OR "a"="a',
    "a\\\\b",
    "\\'x",
    "%s %b {0}",
    "=,= ,",
    "emoji 🚰",
    "e\u0301",
    "\u2028line",
]


@pytest.fixture(params=["sqlite", pytest.param("influxdb", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new folder/telemetry.db"
    return f"influxdb+v1://127.0.0.1:{request.getfixturevalue('influxdb').port}/test_{uuid4().hex}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[TelemetryStore]:
    store = open_store(url)
    await store.start()
    yield store
    await store.close()


async def test_a_reading_comes_back_as_it_was_written(store: TelemetryStore) -> None:
    values: dict[str, Any] = {
        "volume_total": 12.5,
        "flow_rate": 0.1 + 0.2,
        "tamper": 0.0,
        "valve_state": "open",
    }
    await store.write([reading(device(), NEW_YEAR, quality="clock", **values)])
    (point,) = await store.latest("water_meter")
    assert (point.device, point.time, point.quality) == ("meter-1", NEW_YEAR, "clock")
    assert point.values == values
    assert all(type(value) in (float, str) for value in point.values.values())


async def test_writing_the_same_batch_again_changes_nothing(store: TelemetryStore) -> None:
    batch = [reading(device(f"m{i}"), NEW_YEAR + i, flow_rate=float(i)) for i in range(50)]
    for _ in range(3):
        await store.write(batch)
    assert await store.count("water_meter") == 50
    assert sorted(p.values["flow_rate"] for p in await store.latest("water_meter")) == [float(i) for i in range(50)]


async def test_the_last_value_written_for_a_time_wins(store: TelemetryStore) -> None:
    meter = device()
    await store.write([reading(meter, NEW_YEAR, flow_rate=1.0), reading(meter, NEW_YEAR, flow_rate=2.0)])
    await store.write([reading(meter, NEW_YEAR, flow_rate=3.0)])
    assert (await store.range("water_meter", "meter-1", ["flow_rate"], NEW_YEAR, NEW_YEAR + 1)).columns == {
        "flow_rate": [3.0]
    }
    assert [p.values for p in await store.latest("water_meter")] == [{"flow_rate": 3.0}]


async def test_a_second_report_for_a_time_merges_into_the_first(store: TelemetryStore) -> None:
    meter = device()
    await store.write([reading(meter, NEW_YEAR, flow_rate=1.0, pressure=0.4)])
    await store.write([reading(meter, NEW_YEAR, flow_rate=2.0, valve_state="open", quality="range")])
    expected = {"flow_rate": 2.0, "pressure": 0.4, "valve_state": "open"}
    assert [(p.values, p.quality) for p in await store.latest("water_meter")] == [(expected, "range")]
    series = await store.range("water_meter", "meter-1", list(expected), NEW_YEAR, NEW_YEAR + 1)
    assert series.columns == {name: [value] for name, value in expected.items()}


async def test_two_reports_for_a_time_in_one_batch_merge_too(store: TelemetryStore) -> None:
    meter = device()
    await store.write([reading(meter, NEW_YEAR, flow_rate=1.0), reading(meter, NEW_YEAR, pressure=0.4)])
    assert [p.values for p in await store.latest("water_meter")] == [{"flow_rate": 1.0, "pressure": 0.4}]
    assert await store.count() == 1


async def test_latest_ignores_late_arrivals_and_older_properties(store: TelemetryStore) -> None:
    meter = device()
    await store.write([reading(meter, NEW_YEAR + 2000, flow_rate=2.0)])
    await store.write([reading(meter, NEW_YEAR + 1000, flow_rate=1.0, pressure=0.4)])
    (point,) = await store.latest("water_meter")
    assert (point.time, point.values) == (NEW_YEAR + 2000, {"flow_rate": 2.0})


async def test_latest_across_weeks(store: TelemetryStore) -> None:
    meters = [device("a"), device("b")]
    await store.write(
        [reading(m, NEW_YEAR + week * 7 * DAY, flow_rate=float(week)) for week in (2, 0, 1) for m in meters]
    )
    assert {p.device: p.values["flow_rate"] for p in await store.latest("water_meter")} == {"a": 2.0, "b": 2.0}


async def test_latest_of_a_district_of_devices_and_limited(store: TelemetryStore) -> None:
    readings = [
        reading(device(f"m{i}", district="230102" if i % 2 else "230103"), NEW_YEAR, flow_rate=float(i))
        for i in range(10)
    ]
    await store.write(readings)
    assert {p.device for p in await store.latest("water_meter", district="230103")} == {"m0", "m2", "m4", "m6", "m8"}
    assert {p.device for p in await store.latest("water_meter", devices=["m1", "m2", "nobody"])} == {"m1", "m2"}
    assert {p.device for p in await store.latest("water_meter", district="230103", devices=["m1", "m2"])} == {"m2"}
    assert len(await store.latest("water_meter", limit=3)) == 3
    assert len(await store.latest("water_meter", district="230102", limit=3)) == 3
    assert await store.latest("water_meter", district="999999") == []
    assert await store.latest("streetlight") == []


async def test_a_device_that_moved_is_only_in_its_new_district(store: TelemetryStore) -> None:
    await store.write([reading(device(district="230102", zone="z1"), NEW_YEAR, flow_rate=1.0)])
    await store.write([reading(device(district="230103", zone="z2"), NEW_YEAR + 1, flow_rate=2.0)])
    assert await store.latest("water_meter", district="230102") == []
    assert [p.values for p in await store.latest("water_meter", district="230103")] == [{"flow_rate": 2.0}]
    assert [p.values for p in await store.latest("water_meter")] == [{"flow_rate": 2.0}]
    assert (await store.range("water_meter", "meter-1", ["flow_rate"], 0, 2 * NEW_YEAR)).columns == {
        "flow_rate": [1.0, 2.0]
    }


async def test_a_range_is_half_open_ascending_and_limited(store: TelemetryStore) -> None:
    meter = device()
    times = [NEW_YEAR + step * DAY for step in (9, 0, 5, 4, 8, 1)]
    await store.write([reading(meter, time, flow_rate=float(time)) for time in times])
    await store.write([reading(meter, NEW_YEAR + 2 * DAY, pressure=0.4)])
    series = await store.range("water_meter", "meter-1", ["flow_rate"], NEW_YEAR, NEW_YEAR + 9 * DAY)
    assert series.times == [NEW_YEAR + step * DAY for step in (0, 1, 4, 5, 8)]
    assert series.columns == {"flow_rate": [float(time) for time in series.times]}
    limited = await store.range("water_meter", "meter-1", ["flow_rate"], NEW_YEAR, NEW_YEAR + 9 * DAY, limit=4)
    assert limited.times == series.times[:4]


async def test_a_range_of_two_properties_has_holes(store: TelemetryStore) -> None:
    meter = device()
    await store.write([reading(meter, NEW_YEAR, flow_rate=1.0), reading(meter, NEW_YEAR + 1, valve_state="closed")])
    series = await store.range("water_meter", "meter-1", ["flow_rate", "valve_state"], NEW_YEAR, NEW_YEAR + 2)
    assert series.columns == {"flow_rate": [1.0, None], "valve_state": [None, "closed"]}


@pytest.mark.parametrize("bucket", [60_000, 1_700_000, HOUR, 6 * HOUR, 7 * DAY])
async def test_aggregates_agree_with_arithmetic(store: TelemetryStore, bucket: int) -> None:
    chance = random.Random(bucket)
    points = {
        (name, NEW_YEAR + chance.randrange(0, 200 * 60) * 60_000 + offset): round(chance.uniform(-5, 5), 3)
        for offset, name in enumerate(("a", "b", "c"))  # so that no two devices report at the same instant
        for _ in range(200)
    }
    batch = [reading(device(name), time, flow_rate=value) for (name, time), value in points.items()]
    chance.shuffle(batch)
    await store.write(batch[:400])
    await store.write(batch[300:])
    start, end = NEW_YEAR + 10 * HOUR + 1_234_567, NEW_YEAR + 190 * HOUR + 61
    end = min(end, start + 2000 * bucket)
    reckon: dict[Aggregate, Callable[[list[float]], float]] = {
        "mean": lambda values: sum(values) / len(values),
        "min": min,
        "max": max,
        "sum": sum,
        "count": len,
        "first": lambda values: values[0],
        "last": lambda values: values[-1],
    }
    cells: dict[int, list[float]] = {}
    for (name, time), value in sorted(points.items(), key=lambda item: item[0][1]):
        if name != "c" and start <= time < end:
            cells.setdefault(time // bucket * bucket, []).append(value)
    grid = list(range(start // bucket * bucket, end, bucket))
    for function, of in reckon.items():
        series = await store.aggregate("water_meter", ["a", "b", "x"], ["flow_rate"], start, end, bucket, function)
        assert series.times == grid
        expected = [of(cells[time]) if time in cells else None for time in grid]
        assert series.columns["flow_rate"] == pytest.approx(expected), function


async def test_aggregates_of_two_properties_and_of_nothing(store: TelemetryStore) -> None:
    meter = device()
    await store.write([reading(meter, NEW_YEAR + HOUR, flow_rate=0.0), reading(meter, NEW_YEAR, pressure=0.4)])
    series = await store.aggregate(
        "water_meter", ["meter-1"], ["flow_rate", "pressure", "tilt"], NEW_YEAR, NEW_YEAR + 2 * HOUR, HOUR, "mean"
    )
    assert series.columns == {"flow_rate": [None, 0.0], "pressure": [0.4, None], "tilt": [None, None]}
    for devices in ([], ["nobody"]):
        series = await store.aggregate("water_meter", devices, ["tilt"], NEW_YEAR, NEW_YEAR + HOUR, HOUR, "count")
        assert (series.times, series.columns) == ([NEW_YEAR], {"tilt": [None]})


async def test_questions_that_make_no_sense_are_refused(store: TelemetryStore) -> None:
    period = (NEW_YEAR, NEW_YEAR + HOUR)
    with pytest.raises(ValueError, match="nonsense"):
        await store.range("water_meter", "meter-1", ['nonsense" from x'], *period)
    with pytest.raises(ValueError, match="family 'kettle'"):
        await store.latest("kettle")
    with pytest.raises(ValueError, match="family 'kettle'"):
        await store.count("kettle")
    with pytest.raises(ValueError, match="no number valve_state"):
        await store.aggregate("water_meter", ["meter-1"], ["valve_state"], *period, HOUR, "mean")
    with pytest.raises(ValueError, match="not a period"):
        await store.aggregate("water_meter", ["meter-1"], ["tilt"], *period, 0, "mean")
    with pytest.raises(ValueError, match="more than"):
        await store.aggregate("water_meter", ["meter-1"], ["tilt"], *period, 1, "mean")


async def test_counting(store: TelemetryStore) -> None:
    await store.write([reading(device(), NEW_YEAR + step * 3 * DAY, flow_rate=1.0) for step in range(5)])
    await store.write([reading(device("lamp-1", "streetlight"), NEW_YEAR + 3 * DAY, power=60.0, lamp_state="on")])
    assert await store.count() == 6
    assert await store.count("water_meter") == 5
    assert await store.count("streetlight") == 1
    assert await store.count("pipe_supply") == 0
    assert await store.count(start=NEW_YEAR + 3 * DAY) == 5
    assert await store.count("water_meter", start=NEW_YEAR + 1, end=NEW_YEAR + 9 * DAY) == 2


async def test_two_families_in_one_batch(store: TelemetryStore) -> None:
    lamp, meter = device("lamp-1", "streetlight"), device("meter-1")
    await store.write([reading(lamp, NEW_YEAR, lamp_state="on", power=60.0), reading(meter, NEW_YEAR, flow_rate=1.0)])
    assert [p.values for p in await store.latest("streetlight")] == [{"lamp_state": "on", "power": 60.0}]
    assert [p.values for p in await store.latest("water_meter")] == [{"flow_rate": 1.0}]


async def test_hostile_and_unicode_ids_stay_themselves(store: TelemetryStore) -> None:
    meters = [device(name, district=name, zone=name) for name in HOSTILE]
    batch = [reading(m, NEW_YEAR + i, flow_rate=float(i), gateway=m.id) for i, m in enumerate(meters)]
    await store.write(batch)
    assert await store.count() == len(HOSTILE)
    for index, name in enumerate(HOSTILE):
        expected = [(name, {"flow_rate": float(index)})]
        assert [(p.device, p.values) for p in await store.latest("water_meter", devices=[name])] == expected
        assert [(p.device, p.values) for p in await store.latest("water_meter", district=name)] == expected
        assert (await store.range("water_meter", name, ["flow_rate"], 0, 2 * NEW_YEAR)).times == [NEW_YEAR + index]


async def test_many_hostile_ids_in_one_question(store: TelemetryStore) -> None:
    meters = [device(name) for name in HOSTILE]
    await store.write([reading(m, NEW_YEAR, flow_rate=float(2**i)) for i, m in enumerate(meters)])
    for chosen in (HOSTILE, HOSTILE[::2], HOSTILE[1::2]):
        assert {p.device for p in await store.latest("water_meter", devices=chosen)} == set(chosen)
        series = await store.aggregate("water_meter", chosen, ["flow_rate"], NEW_YEAR, NEW_YEAR + 1, HOUR, "sum")
        assert series.columns["flow_rate"] == [sum(2.0 ** HOSTILE.index(name) for name in chosen)]
    nobody = ["", "/", ".*", "line\nbreak", "\\"]
    assert await store.latest("water_meter", devices=nobody) == []


REFUSED: list[tuple[Reading, str]] = [
    (reading(device(), NEW_YEAR, flow_rate="high"), "flow_rate"),
    (reading(device(), NEW_YEAR, flow_rate='1,x="y" 5\nwater_meter,device=z tilt=1'), "flow_rate"),
    (reading(device(), NEW_YEAR, flow_rate=float("nan")), "flow_rate"),
    (reading(device(), NEW_YEAR, flow_rate=float("-inf"), pressure=1.0), "flow_rate"),
    (reading(device(), NEW_YEAR, flow_rate=10**400), "flow_rate"),
    (reading(device(), NEW_YEAR, valve_state=1.0), "valve_state"),
    (reading(device(), NEW_YEAR, valve_state="op\nen"), "valve_state"),
    (reading(device(), NEW_YEAR, valve_state="\ud800"), "valve_state"),
    (reading(device("line\nbreak"), NEW_YEAR, flow_rate=1.0), "line"),
    (reading(device("ends in \\"), NEW_YEAR, flow_rate=1.0), "ends in"),
    (reading(device(""), NEW_YEAR, flow_rate=1.0), "empty"),
    (reading(device(zone="\x00"), NEW_YEAR, flow_rate=1.0), "x00"),
    (reading(device(), NEW_YEAR, gateway="g\n", flow_rate=1.0), "g"),
    (reading(device(), -1, flow_rate=1.0), "time -1"),
    (reading(device(), 10**17, flow_rate=1.0), "time"),
]


@pytest.mark.parametrize(("bad", "words"), REFUSED, ids=range(len(REFUSED)))
async def test_what_cannot_be_held_is_refused_with_words_and_the_rest_is_written(
    store: TelemetryStore, bad: Reading, words: str
) -> None:
    good = [reading(device(f"m{i}"), NEW_YEAR + i, flow_rate=float(i), valve_state="open") for i in range(9)]
    for _ in range(2):
        with pytest.raises(PartialWriteError) as caught:
            await store.write([*good[:4], bad, *good[4:]])
        assert list(caught.value.rejected) == [4]
        assert words in caught.value.rejected[4]
    assert {p.device for p in await store.latest("water_meter")} == {f"m{i}" for i in range(9)}


async def test_whole_numbers_booleans_and_extremes_are_floats(store: TelemetryStore) -> None:
    values = [5, 0.0, -0.0, 1e-300, 1.7976931348623157e308, 5e-324, float(2**53), 0.1]
    await store.write([reading(device(), NEW_YEAR + i, flow_rate=value) for i, value in enumerate(values)])
    series = await store.range("water_meter", "meter-1", ["flow_rate"], NEW_YEAR, NEW_YEAR + len(values))
    assert series.columns["flow_rate"] == values
    assert all(type(value) is float for value in series.columns["flow_rate"])


async def test_a_large_batch_is_written_whole(store: TelemetryStore) -> None:
    batch = [reading(device(f"m{i % 700}"), NEW_YEAR + i, flow_rate=float(i)) for i in range(12_345)]
    await store.write(batch)
    assert await store.count() == 12_345
    assert len(await store.latest("water_meter")) == 700


async def test_nothing_to_write(store: TelemetryStore) -> None:
    await store.write([])
    await store.mark([])
    await store.sync()
    assert await store.count() == 0
    assert await store.latest("water_meter", devices=[]) == []
    assert (await store.range("water_meter", "meter-1", [], 0, NEW_YEAR)).times == []
    assert (await store.range("water_meter", "meter-1", ["tilt"], 0, NEW_YEAR)).columns == {"tilt": []}


async def test_a_reading_without_values_is_still_a_point(store: TelemetryStore) -> None:
    await store.write([reading(device(), NEW_YEAR)])
    assert await store.count() == 1
    assert [p.values for p in await store.latest("water_meter")] == [{}]


async def test_retention_drops_whole_old_partitions_only(store: TelemetryStore) -> None:
    old, new = device("old"), device("new")
    await store.write([reading(old, NEW_YEAR, flow_rate=1.0), reading(new, NEW_YEAR + 1, flow_rate=1.0)])
    await store.write([reading(new, NEW_YEAR + 60 * DAY, flow_rate=2.0)])
    await store.retain(NEW_YEAR + 60 * DAY)
    assert await store.count() == 1
    assert [p.device for p in await store.latest("water_meter")] == ["new"]
    assert (await store.range("water_meter", "new", ["flow_rate"], 0, 2 * NEW_YEAR)).columns == {"flow_rate": [2.0]}
    await store.write([reading(old, NEW_YEAR, flow_rate=3.0)])
    assert await store.count() == 2


async def test_marks_of_one_instant_are_all_kept(store: TelemetryStore, url: str) -> None:
    marks = [
        AlarmMark(NEW_YEAR, name, "wm.burst", state, "critical", '表后爆管\n"now"')
        for name in (*HOSTILE, "ends in \\", "line\nbreak")
        for state in ("UNACK", "RTNUN", "NORM")
    ]
    for _ in range(2):
        await store.mark(marks)
    assert await _marks(url) == len(marks)


async def test_points_survive_a_restart_of_the_service(store: TelemetryStore, url: str) -> None:
    await store.write([reading(device(), NEW_YEAR, flow_rate=1.0)])
    await store.sync()
    await store.close()
    again = open_store(url)
    await again.start()
    await again.write([reading(device(), NEW_YEAR + 1, flow_rate=2.0), reading(device("new"), NEW_YEAR, flow_rate=1.0)])
    assert await again.count() == 3
    await again.close()


async def test_it_can_be_started_twice_closed_twice_and_not_used_outside(url: str) -> None:
    store = open_store(url)
    with pytest.raises(TransientError, match="not started"):
        await store.write([reading(device(), NEW_YEAR, flow_rate=1.0)])
    with pytest.raises(TransientError, match="not started"):
        await store.ready()
    await store.close()
    await store.start()
    await store.start()
    await store.ready()
    await store.close()
    await store.close()
    with pytest.raises(TransientError, match="not started"):
        await store.latest("water_meter")
    await store.start()
    await store.ready()
    await store.close()


async def _marks(url: str) -> int:
    """How many alarm marks are stored; no port method reads them, boards do."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            return int(connection.execute("select count(*) from alarms").fetchone()[0])
    host, _, database = url.removeprefix("influxdb+v1://").partition("/")
    http = InfluxHttp(Address("127.0.0.1", int(host.rpartition(":")[2]), database))
    http.start()
    (series,) = await http.query("select count(text) from alarms")
    await http.close()
    return int(number(series.values[0][1]))
