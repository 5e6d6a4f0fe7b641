"""`songhua replay` of a recording into a real broker, ingest and store: every reading arrives once, none is late."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators.recording_map import inventory
from tests.faults import store
from tests.faults.rig import broker_options
from tests.faults.service import OUTCOMES, ROOT, Service
from tests.parts import Part

RECORDING, MAP = ROOT / "tests/data/recording.csv", ROOT / "tests/data/recording.yaml"
READINGS = 288 * 6 - 12  # rows x devices, less the hour in which the sewer sensor was silent
LTOWN, LTOWN_MAP = ROOT.parent / "shared/data/ltown/ltown_2018_leaks.parquet", ROOT / "simulators/maps/ltown.yaml"
LTOWN_ROWS = 6_000  # three weeks of its year, in 5 minutes
MOST_MEMORY = 512  # MB


@pytest.fixture
def broker(start_mosquitto: Callable[..., Part]) -> Part:
    return start_mosquitto(**broker_options())


@pytest.fixture
def start_service(tmp_path: Path, broker: Part) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(**settings: str) -> Service:
        service = Service(tmp_path / "var", broker.url, **settings)
        started.append(service)
        service.start()
        service.wait_connected()
        return service

    yield start
    for service in started:
        service.kill()


def replay(service: Service, recording: Path, mapping: Path, *options: str) -> str:
    """Run the command to its end; what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONGHUA_")}
    result = subprocess.run(
        [sys.executable, "-m", "songhua", "replay", str(recording), "--map", str(mapping), *options],
        cwd=ROOT,
        env=clean | service.settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def settled(service: Service, readings: int, seconds: float = 60) -> dict[str, Any]:
    """The balance once `readings` have come and each has an outcome."""
    document = service.wait(
        lambda d: bool(d["received"] >= readings and d["pending"] == 0 and d["rules_lag_s"] == 0), seconds, "the end"
    )
    assert service.unbalanced == []
    return {name: document[name] for name in (*OUTCOMES, "received", "lost")}


def all_stored(readings: int) -> dict[str, int]:
    return dict.fromkeys((*OUTCOMES, "lost"), 0) | {"received": readings, "stored": readings}


@pytest.mark.real
def test_history_is_stored_once_in_its_own_time_and_raises_no_alarm(
    start_service: Callable[..., Service], own_influxdb: Part
) -> None:
    url = f"influxdb+v1://127.0.0.1:{own_influxdb.port}/history"
    service = start_service(store_url=url)
    said = replay(service, RECORDING, MAP)
    assert f"{READINGS:,} readings" in said and f"{READINGS:,} acknowledged" in said
    assert settled(service, READINGS) == all_stored(READINGS)
    stored = store.rows(url)
    assert set(stored.values()) == {1}
    assert {device for device, _ in stored} == {device.id for device in inventory(MAP).devices}
    midnight = 1_768_147_200_000  # 2026-01-12 in Harbin, the first row
    assert {time for _, time in stored} == {midnight + row * 300_000 for row in range(288)}

    replay(service, RECORDING, MAP)
    assert settled(service, 2 * READINGS) == all_stored(READINGS) | {
        "received": 2 * READINGS,
        "duplicate": READINGS,
    }
    assert store.rows(url) == stored
    assert service.rows("select id from alarms") == []
    service.stop()


@pytest.mark.real
def test_as_live_the_recording_is_moved_to_now_and_rules_see_it(start_service: Callable[..., Service]) -> None:
    service = start_service()
    replay(service, RECORDING, MAP, "--as-live")
    assert settled(service, READINGS) == all_stored(READINGS)
    stored = store.rows(f"sqlite:///{service.var / 'telemetry.db'}")
    sent = service.started_at * 1000
    assert len(stored) == stored.total() == READINGS
    assert sent <= max(time for _, time in stored) <= sent + 60_000
    service.stop()
    assert service.tallies()["rules"]["readings"] == READINGS


@pytest.mark.real
@pytest.mark.parametrize("kind", ["sqlite", "influxdb"])
def test_weeks_of_a_town_are_stored_whole_in_bounded_memory(
    start_service: Callable[..., Service], start_influxdb: Callable[..., Part], tmp_path: Path, kind: str
) -> None:
    if not LTOWN.exists():
        pytest.skip("the L-Town recording lies beside the checkout only where it is developed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs the extra sim")
    part = tmp_path / "weeks.parquet"
    parquet.write_table(parquet.read_table(LTOWN).slice(0, LTOWN_ROWS), part)
    url = f"sqlite:///{tmp_path / 'var' / 'telemetry.db'}"
    if kind == "influxdb":
        url = f"influxdb+v1://127.0.0.1:{start_influxdb().port}/town"
    service = start_service(store_url=url if kind == "influxdb" else "")
    readings = LTOWN_ROWS * 38
    replay(service, part, LTOWN_MAP)
    assert settled(service, readings) == all_stored(readings)
    assert service.memory() < MOST_MEMORY
    assert service.rows("select id from alarms") == []
    assert service.stop() < 10  # the supervisor waits no longer
    stored = store.rows(url)
    assert (len(stored), stored.total()) == (readings, readings)


@pytest.mark.real
@pytest.mark.parametrize(
    ("columns", "mapping", "words"),
    [
        ("when,p", MAP, "recording.csv: no column 'time'; there are when, p"),
        (None, RECORDING, "recording.csv, line 1: document: Input should be a valid dictionary"),
    ],
)
def test_a_recording_that_does_not_fit_its_map_is_one_line_and_exit_code_2(
    tmp_path: Path, broker: Part, columns: str | None, mapping: Path, words: str
) -> None:
    recording = RECORDING
    if columns is not None:
        recording = tmp_path / "recording.csv"
        recording.write_text(f"{columns}\n2026-01-01 00:00:00,1\n")
    assert_refused(("replay", str(recording), "--map", str(mapping), "--broker", broker.url), tmp_path, words)


@pytest.mark.real
def test_a_broker_that_is_away_or_refuses_us_is_one_line_and_exit_code_2(
    tmp_path: Path, start_mosquitto: Callable[..., Part]
) -> None:
    broker = start_mosquitto(users={"songhua": "right"})
    wrong = f"mqtt://songhua:wrong@127.0.0.1:{broker.port}"
    for command in (("replay", str(RECORDING), "--map", str(MAP)), ("simulate", "--for", "1s")):
        assert_refused((*command, "--broker", wrong), tmp_path, "refuses us: Not authorized")
    broker.stop()
    assert_refused((*command, "--broker", wrong), tmp_path, f"no broker answers at 127.0.0.1:{broker.port}")


def assert_refused(arguments: tuple[str, ...], var: Path, words: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONGHUA_")}
    result = subprocess.run(
        [sys.executable, "-m", "songhua", *arguments],
        cwd=ROOT,
        env=clean | {"SONGHUA_VAR": str(var)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("songhua: ") and words in line
    assert "wrong" not in line
