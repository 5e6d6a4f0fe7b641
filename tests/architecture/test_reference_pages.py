"""The reference in `docs/reference/` is what the code says, and nothing that a person meets is undocumented."""

import re
from pathlib import Path

import pytest

from songhua import reference
from songhua.settings import Settings, variable

ROOT = Path(__file__).resolve().parent.parent.parent


def test_no_page_is_stale() -> None:
    assert [path.name for path in reference.stale()] == [], "run python -m songhua.reference"


def test_a_stale_page_would_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    assert {path.stem for path in reference.stale()} == set(reference.PAGES)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{variable(name)}`" not in page] == []


def test_every_metric_that_the_code_names_is_described() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(songhua_[a-z0-9_]+)`", page))
    named = set()
    for room in ("storage", "ingest", "rules", "api", "songhua"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            named |= set(re.findall(r'"(songhua_[a-z0-9_]+_(?:total|seconds|bytes|ratio|info))"', text))
    assert named, "no metric was found in the code, so nothing was compared"
    assert named - described == set()


def test_every_setting_that_a_document_names_exists() -> None:
    known = {variable(name) for name in Settings.model_fields}
    unknown = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*")]:
        if path.is_file() and path.suffix in {".md", ".sh", ".service", ".env", ".conf", ".yaml"}:
            names = re.findall(r"\bSONGHUA_[A-Z0-9_]+\b", path.read_text(encoding="utf-8"))
            unknown += [f"{path.relative_to(ROOT)}: {name}" for name in names if name not in known]
    assert unknown == []
