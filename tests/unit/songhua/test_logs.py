"""Logging and single processes: what reaches the file, what reaches the terminal, which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SOURCE = """
import logging, sys, structlog
from pathlib import Path
from songhua import logs
from songhua.settings import load
logs.configure("ingest", load(), supervised=sys.argv[1] == "supervised")
log = structlog.get_logger("ingest")
log.debug("not wanted")
log.info("journal opened", 读数=3)
logging.getLogger("uvicorn.error").warning("from a %s", "library")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
"""


def run(var: Path, mode: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONGHUA_")}
    return subprocess.run(
        [sys.executable, "-c", SOURCE, mode],
        cwd=ROOT,
        env=clean | {"SONGHUA_VAR": str(var)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_file_has_json_lines_with_time_level_process_and_trace(tmp_path: Path) -> None:
    run(tmp_path, "alone")
    lines = [json.loads(line) for line in (tmp_path / "log" / "ingest.log").read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["journal opened", "from a library", "broken"]
    assert lines[0]["读数"] == 3 and lines[0]["level"] == "info" and lines[0]["logger"] == "ingest"
    assert lines[0]["time"].endswith("Z")
    assert "ZeroDivisionError" in lines[2]["exception"]


def test_the_terminal_of_a_single_process_shows_what_happens(tmp_path: Path) -> None:
    shown = run(tmp_path, "alone").stderr
    assert "journal opened" in shown and "from a library" in shown and "ZeroDivisionError" in shown
    assert "not wanted" not in shown


def test_under_the_supervisor_only_warnings_are_shown_without_time_and_name(tmp_path: Path) -> None:
    lines = run(tmp_path, "supervised").stderr.splitlines()
    assert lines[:3] == ["from a library", "broken", "Traceback (most recent call last):"]


def test_the_level_of_the_file_is_a_setting(tmp_path: Path) -> None:
    run(tmp_path, "alone", SONGHUA_LOG_LEVEL="error")
    events = [json.loads(line)["event"] for line in (tmp_path / "log" / "ingest.log").read_text().splitlines()]
    assert events == ["broken"]


@pytest.mark.parametrize("supervised", [True, False])
def test_a_process_that_refuses_its_settings_says_so_in_its_last_line_and_exits_with_2(
    tmp_path: Path, supervised: bool
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONGHUA_")}
    arguments = ["songhua.process", "api", "--parent", str(os.getpid())] if supervised else ["songhua", "api"]
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=clean | {"SONGHUA_VAR": str(tmp_path), "SONGHUA_API_HOST": "192.0.2.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "cannot listen on 192.0.2.1:8080" in result.stderr.splitlines()[-1]
