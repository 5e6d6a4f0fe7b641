"""`songhua up --demo` as a person runs it: a city comes alive, everything is accounted for, nothing is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts import free_port

ROOT = Path(__file__).resolve().parent.parent.parent


class City:
    """One data directory and the ports of its own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.output = var.parent / "output"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SONGHUA_")} | {
            "SONGHUA_VAR": str(var),
            "SONGHUA_API_PORT": str(free_port()),
            "SONGHUA_BROKER_PORT": str(free_port()),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "songhua", "up", "--demo", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self.process

    def status(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "songhua", "status", "--json"]
        result = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, check=False, timeout=60)
        document: dict[str, Any] = json.loads(result.stdout) if result.stdout else {}
        return document

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def processes(self) -> dict[str, list[int]]:
        """Living processes of this city by name, found by the data directory in their environment."""
        found: dict[str, list[int]] = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if f"SONGHUA_VAR={self.var}".encode() not in (place / "environ").read_bytes().split(b"\0"):
                    continue
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if "songhua.process" in words:
                found.setdefault(words[words.index("songhua.process") + 1], []).append(int(place.name))
            elif words != [""]:
                found.setdefault("up", []).append(int(place.name))
        return found

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s:\n{self.said()}"
            time.sleep(0.1)


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    city = City(tmp_path / "var")
    yield city
    if city.process is not None and city.process.poll() is None:
        city.process.terminate()
        city.process.wait(60)


def balance(document: dict[str, Any]) -> tuple[int, int]:
    outcomes = ("stored", "late", "duplicate", "quarantined", "control", "pending")
    return document["received"], sum(document[name] for name in outcomes)


def test_a_city_comes_alive_and_a_second_start_continues_it(city: City) -> None:
    process = city.start()
    city.wait(lambda: "/login#code=" in city.said(), 30, "the login link")
    city.wait(lambda: (city.status().get("stored") or 0) > 1_000, 40, "1,000 stored readings")
    city.wait(lambda: (city.status().get("alarms_active") or 0) >= 1, 40, "an active alarm")
    first = city.status()
    received, outcomes = balance(first)
    assert received == outcomes
    assert first["lost"] == 0
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, city.said()
    assert city.processes() == {}

    process = city.start()
    city.wait(lambda: (city.status().get("stored") or 0) >= first["stored"], 60, "the counters of the first run")
    city.wait(lambda: city.status().get("received", 0) > first["received"], 60, "new readings in the second run")
    second = city.status()
    received, outcomes = balance(second)
    assert received == outcomes
    assert second["lost"] == 0
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, city.said()
    assert city.processes() == {}


def test_a_crashed_child_is_restarted_and_a_signal_still_stops_everything(city: City) -> None:
    process = city.start()
    city.wait(lambda: "/login#code=" in city.said(), 30, "the start")
    (victim,) = city.processes()["ingest"]
    os.kill(victim, signal.SIGKILL)
    city.wait(lambda: "ingest: was ended by SIGKILL" in city.said(), 30, "word of the crash")
    city.wait(lambda: city.processes().get("ingest", [victim]) != [victim], 40, "the restart")
    city.wait(lambda: city.status().get("health", {}).get("state") == "ok", 60, "health")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, city.said()
    assert city.processes() == {}


def test_nothing_outlives_a_supervisor_that_was_killed(city: City) -> None:
    process = city.start()
    city.wait(lambda: "/login#code=" in city.said(), 30, "the start")
    assert set(city.processes()) == {"up", "broker", "api", "ingest", "simulator"}
    process.kill()
    process.wait(10)
    city.wait(lambda: city.processes() == {}, 20, "the end of every process")


def test_the_password_of_the_embedded_broker_appears_in_no_output(city: City) -> None:
    process = city.start("--exit-after", "8s")
    process.wait(60)
    password = (city.var / "broker" / "password").read_text()
    logs = "".join(path.read_text(errors="replace") for path in (city.var / "log").iterdir())
    assert re.search(r"\S", logs)
    assert password not in city.said() + logs
