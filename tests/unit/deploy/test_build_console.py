"""The driver of the console's build: when it builds, with which Node, and what it says when that fails."""

from pathlib import Path

import pytest

from deploy import build_console


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ((18, 20, 4), False),
        ((20, 18, 3), False),
        ((20, 19, 0), True),
        ((21, 7, 3), False),
        ((22, 11, 0), False),
        ((22, 12, 0), True),
        ((24, 0, 0), True),
    ],
)
def test_node_is_new_enough_where_the_build_tools_say_so(version: tuple[int, int, int], enough: bool) -> None:
    assert build_console.new_enough(version) is enough


@pytest.mark.parametrize(("version", "code"), [("v20.18.3", 2), ("v20.19.0", 0), ("v24.1.0", 0), (None, 2)])
def test_the_wheel_of_node_is_asked_for_where_the_installed_one_cannot_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, code: int
) -> None:
    for name in ("node", "npm") if version else ():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build_console, "find_spec", lambda _name: None)
    monkeypatch.setattr(build_console.sys, "argv", ["build_console.py", "--has-node"])
    assert build_console.main() == code


def test_the_fingerprint_moves_with_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_console, "CONSOLE", tmp_path)
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"a")
    before = build_console.fingerprint([one])
    assert build_console.fingerprint([one]) == before
    other.write_bytes(b"a")
    assert build_console.fingerprint([other]) != before
    one.write_bytes(b"b")
    assert build_console.fingerprint([one]) != before


def test_nothing_is_run_where_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console, static = tmp_path / "console", tmp_path / "static"
    (console / "node_modules").mkdir(parents=True)
    static.mkdir()
    (console / "package-lock.json").write_text("{}")
    (console / ".npmrc").write_text("")
    monkeypatch.setattr(build_console, "CONSOLE", console)
    monkeypatch.setattr(build_console, "STATIC", static)
    monkeypatch.setattr(build_console, "STAMP", static / ".inputs")
    monkeypatch.setattr(build_console, "PACKAGES_STAMP", console / "node_modules" / ".lock")
    monkeypatch.setattr(build_console, "find_npm", lambda: (["npm"], {}))
    steps: list[str] = []

    def run(what: str, *_: object) -> None:
        steps.append(what)
        (static / "index.html").write_text("built")

    monkeypatch.setattr(build_console, "run", run)
    build_console.build()
    build_console.build()
    assert steps == ["installing packages", "building"]
    assert capsys.readouterr().out.endswith("console: up to date\n")
    (console / "main.ts").write_text("new")
    build_console.build()
    assert steps == ["installing packages", "building", "building"]


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("npm warn old\nnpm error code EUSAGE\nnpm error more\n", "npm error code EUSAGE"),
        (
            "vite\n\x1b[31merror during build:\x1b[39m\nBuild failed with 1 error:\n\n[PARSE] x\n",
            "error during build: Build failed with 1 error: [PARSE] x",
        ),
        ("one\ntwo\n", "two"),
        ("", "it said nothing"),
    ],
)
def test_the_complaint_is_the_line_that_says_why(output: str, line: str) -> None:
    assert build_console.complaint(output) == line
