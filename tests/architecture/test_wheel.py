"""The wheel carries what the service needs beside its code: packs, profiles, catalogue, maps, migrations, console."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("devices", "storage", "ingest", "rules", "api", "simulators", "songhua")


def missing(reason: str) -> None:
    """Skip, or on CI fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in the wheel, built from a copy so that nothing is left in the checkout."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"][0]
    if int(version("setuptools").split(".")[0]) < int(needed.partition(">=")[2]):
        missing(f"needs {needed}, this environment has {version('setuptools')}; run make setup")
    place = tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        ignored = shutil.ignore_patterns("node_modules", "__pycache__")
        shutil.copytree(ROOT / room, place / "source" / room, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(place), str(place / "source")], check=True, timeout=300)
    (built,) = place.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_every_module_and_every_data_file_of_the_rooms_is_in_it(wheel: set[str]) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for pattern in ("*.py", "*.yaml")
        for path in (ROOT / room).rglob(pattern)
        if not {"node_modules", "console", "static"} & set(path.relative_to(ROOT).parts)
        and not path.name.endswith(".test.yaml")
    }
    assert "devices/properties.yaml" in wanted and any(name.startswith("rules/packs/") for name in wanted)
    assert wanted - wheel == set()


def test_the_built_console_is_in_it(wheel: set[str]) -> None:
    static = ROOT / "api" / "static"
    if not static.is_dir():
        missing("the console is not built; run make setup")
    files = [path for path in static.rglob("*") if path.is_file() and not path.name.startswith(".")]
    built = {str(path.relative_to(ROOT)) for path in files}
    assert "api/static/index.html" in built
    assert built - wheel == set()


def test_nothing_else_is_in_it(wheel: set[str]) -> None:
    strangers = {name.split("/")[0] for name in wheel} - set(ROOMS)
    assert all(name.endswith(".dist-info") for name in strangers)
    assert not [name for name in wheel if "node_modules" in name or name.startswith("api/console")]
