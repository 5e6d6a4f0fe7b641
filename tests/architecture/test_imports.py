"""The arrows between rooms (`[tool.importlinter]`) hold."""

from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent.parent


def test_rooms_import_only_what_they_may(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename="pyproject.toml", cache_dir=None)
    assert code == 0, capfd.readouterr().out
