"""The lock files hold what `pyproject.toml` asks for, and the same versions in each of them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
EXTRAS = {
    "requirements.lock": ("demo", "influxdb"),
    "requirements-dev.lock": ("demo", "influxdb", "sim", "dev"),
    "requirements-console.lock": ("console",),
}


def pins(name: str) -> dict[str, str]:
    """Version by package."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return {canonicalize_name(found[1]): found[2] for found in re.finditer(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_file_pins_what_the_project_asks_for(name: str) -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*document["build-system"]["requires"], *document["project"]["dependencies"]]
    for extra in EXTRAS[name]:
        asked += document["project"]["optional-dependencies"][extra]
    pinned = pins(name)
    unmet = []
    for requirement in map(Requirement, asked):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version):
            unmet.append(f"{requirement}: {version}")
    assert unmet == [], "run make lock"


@pytest.mark.parametrize("name", sorted(EXTRAS.keys() - {"requirements.lock"}))
def test_a_package_has_one_version_in_all_lock_files(name: str) -> None:
    running, other = pins("requirements.lock"), pins(name)
    both = running.keys() & other.keys()
    assert len(both) > 30
    assert {package for package in both if running[package] != other[package]} == set()
