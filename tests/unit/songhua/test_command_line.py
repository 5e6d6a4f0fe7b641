"""The command `songhua` as a person meets it: help, exit codes, one clear line."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devices import catalogue
from rules import pack
from rules.explain import explain

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def songhua(*arguments: str, var: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONGHUA_")}
    return subprocess.run(
        [sys.executable, "-m", "songhua", *arguments],
        cwd=ROOT,
        env=clean | {"SONGHUA_VAR": str(var)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "command", [["up"], ["ingest"], ["api"], ["status"], ["token", "list"], ["quarantine", "list"]]
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path, command: list[str]) -> None:
    result = songhua(*command, var=tmp_path, SONGHUA_API_PROT="1")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "songhua: SONGHUA_API_PROT: there is no such setting; did you mean SONGHUA_API_PORT?"
    ]


def test_a_taken_port_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = songhua("up", var=tmp_path, SONGHUA_API_PORT=str(port))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}" in result.stderr and f"process {os.getpid()}" in result.stderr


def test_a_directory_that_cannot_be_written_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = songhua("up", var=tmp_path / "file" / "var")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "SONGHUA_VAR" in result.stderr


def test_status_without_a_city_says_how_to_start_one(tmp_path: Path) -> None:
    result = songhua("status", var=tmp_path)
    assert result.returncode == 2
    assert "songhua up --demo" in result.stderr and len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_status_of_a_city_that_does_not_run_is_a_document_and_exit_code_1(tmp_path: Path) -> None:
    from songhua import migrations
    from storage.metadata import open_engine

    migrations.upgrade(open_engine(f"sqlite:///{tmp_path / 'songhua.db'}"))
    result = songhua("status", "--json", var=tmp_path)
    assert result.returncode == 1
    assert json.loads(result.stdout)["health"]["state"] != "ok"


def test_a_token_is_made_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    from songhua import migrations
    from storage.metadata import open_engine

    migrations.upgrade(open_engine(f"sqlite:///{tmp_path / 'songhua.db'}"))
    made = songhua(
        "token", "create", "board", "--role", "viewer", "--district", "230102", "--expires", "90d", var=tmp_path
    )
    assert made.returncode == 0 and made.stdout.startswith("shg_")
    (listed,) = json.loads(songhua("token", "list", "--json", var=tmp_path).stdout)
    assert listed["name"] == "board" and listed["districts"] == ["230102"] and listed["revoked_at"] is None
    assert made.stdout.strip() not in json.dumps(listed)
    assert songhua("token", "revoke", "board", var=tmp_path).returncode == 0
    assert songhua("token", "revoke", "board", var=tmp_path).returncode == 2
    assert songhua("token", "create", "board", "--role", "king", var=tmp_path).returncode == 2


def test_the_shipped_packs_pass_lint_and_their_cases(tmp_path: Path) -> None:
    lint, cases = songhua("rules", "lint", var=tmp_path), songhua("rules", "test", var=tmp_path)
    assert lint.returncode == 0 and "0 errors" in lint.stdout
    assert cases.returncode == 0 and cases.stdout.rstrip().endswith("0 failed"), cases.stdout


def test_a_wrong_pack_and_a_failing_case_are_exit_code_1(tmp_path: Path) -> None:
    shipped = ROOT / "rules" / "packs" / "water_meter.yaml"
    pack = tmp_path / "mine.yaml"
    pack.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "mine.test.yaml").write_text(
        "case: nothing happens and yet something is expected\n"
        "devices: {m1: {family: water_meter}}\n"
        "until: 1m\n"
        "expect: [{rule: water_meter.burst, at: 10m, state: UNACK}]\n"
    )
    failing = songhua("rules", "test", str(pack), var=tmp_path)
    assert failing.returncode == 1
    assert "mine.test.yaml:1: nothing happens" in failing.stdout and "water_meter.burst" in failing.stdout
    named = songhua("rules", "test", str(pack.with_name("mine.test.yaml")), var=tmp_path)
    assert (named.returncode, named.stdout) == (1, failing.stdout)
    pack.write_text("rule: Wrong Name\n")
    wrong = songhua("rules", "lint", str(pack), var=tmp_path)
    assert wrong.returncode == 1 and "mine.yaml:1:" in wrong.stdout


def test_a_rule_is_explained_in_both_languages_and_a_wrong_name_gets_a_hint(tmp_path: Path) -> None:
    english = songhua("rules", "explain", "water_meter.burst", "--language", "en", var=tmp_path)
    chinese = songhua("rules", "explain", "water_meter.burst", var=tmp_path, SONGHUA_LANGUAGE="zh")
    assert "Burst behind the meter" in english.stdout and "表后爆管" in chinese.stdout
    wrong = songhua("rules", "explain", "water_meter.brust", var=tmp_path)
    assert wrong.returncode == 1 and "water_meter.burst" in wrong.stderr


def test_without_a_name_every_shipped_rule_is_explained(tmp_path: Path) -> None:
    said = songhua("rules", "explain", "--language", "en", var=tmp_path)
    assert said.returncode == 0
    for rule in pack.load(pack.shipped(), catalogue.load()):
        assert explain(rule, catalogue.load())["en"] in said.stdout


def test_parquet_without_pyarrow_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    recording = tmp_path / "recording.parquet"
    recording.touch()
    source = (
        "import sys, pathlib; sys.modules['pyarrow'] = None\n"
        "from simulators.recording import read_recording; from simulators.recording_map import load_map\n"
        "next(read_recording(pathlib.Path(sys.argv[1]), load_map(pathlib.Path('tests/data/recording.yaml'))))"
    )
    failed = subprocess.run(
        [sys.executable, "-c", source, str(recording)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = failed.stderr.splitlines()[-1]
    assert "ConfigError" in said and "make setup" in said and "pip install pyarrow" in said


README_COMMANDS = sorted(
    {
        command.strip()
        for page in ("README.md", "README.zh.md", "CONTRIBUTING.md")
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("    ")
        for command in re.split(r"\s*&&\s*|\s+#\s", line)
        if re.match(r"\s*(\S*/)?songhua\s", command)
    }
)


def test_documents_name_the_command_by_its_place() -> None:
    assert README_COMMANDS
    assert [command for command in README_COMMANDS if not command.startswith(".venv/bin/songhua ")] == []


@pytest.mark.parametrize("command", README_COMMANDS)
def test_a_command_of_the_documents_is_understood(tmp_path: Path, command: str) -> None:
    """Those that only read are run; of the others, every option and file that is named exists."""
    words = shlex.split(command)[1:]
    if words[0] == "rules":
        for name in ("my-pack.yaml", "my-pack.test.yaml"):
            shutil.copy(ROOT / "rules" / "packs" / name.replace("my-pack", "water_meter"), tmp_path / name)
        words = [str(tmp_path / word) if word.startswith("my-pack") else word for word in words]
        assert songhua(*words, var=tmp_path).returncode == 0
        return
    parsed = songhua(*[word for word in words if not word.startswith("recording.")], "--help", var=tmp_path)
    assert parsed.returncode == 0
    assert all(option in parsed.stdout for option in words if option.startswith("--"))
    assert all((ROOT / word).exists() for word in words if word.startswith("simulators/"))


def test_help_names_every_command(tmp_path: Path) -> None:
    text = songhua("--help", var=tmp_path).stdout
    for command in ("up", "ingest", "api", "broker", "simulate", "replay", "status", "quarantine", "rules", "token"):
        assert command in text


def test_children_do_not_load_the_command_line() -> None:
    source = "import sys, songhua.process; sys.exit(any(name in sys.modules for name in ('typer', 'fastapi')))"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False).returncode == 0
