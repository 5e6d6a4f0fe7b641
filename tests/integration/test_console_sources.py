"""The console's sources: its own checks and tests pass, and its client is the one that the API describes today."""

import os
import subprocess
from collections.abc import Callable

import pytest

from api.openapi import export
from deploy.build_console import CONSOLE, PACKAGES, BuildError, find_npm

DESCRIPTION = CONSOLE / "openapi.json"
RENEW = "renew them: python -m api.openapi > api/console/openapi.json && npm --prefix api/console run client"


@pytest.fixture
def npm() -> Callable[..., str]:
    """Runs npm in the console's folder and gives what it printed; a failure is the test's failure."""
    try:
        command, environment = find_npm()
    except BuildError as error:
        return _absent(str(error))
    if not PACKAGES.is_dir():
        return _absent("the console's packages are not installed (deploy/build_console.py)")

    def run(*arguments: str) -> str:
        step = subprocess.run(
            [*command, "--silent", *arguments],
            cwd=CONSOLE,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert step.returncode == 0, step.stdout + step.stderr
        return step.stdout

    return run


def _absent(reason: str) -> Callable[..., str]:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; on CI every part must be present")
    pytest.skip(reason)


def test_the_committed_description_is_the_apis() -> None:
    assert DESCRIPTION.read_text(encoding="utf-8") == export(), RENEW


@pytest.mark.real
def test_the_client_is_generated_from_the_description(npm: Callable[..., str]) -> None:
    npm("run", "client", "--", "--check")


@pytest.mark.real
def test_types_are_sound(npm: Callable[..., str]) -> None:
    npm("run", "check")


@pytest.mark.real
def test_the_pure_parts_do_what_they_say(npm: Callable[..., str]) -> None:
    assert "failed" not in npm("test")


def test_the_lock_file_names_no_registry() -> None:
    lock = (CONSOLE / "package-lock.json").read_text(encoding="utf-8")
    assert lock.count('"integrity"') > 50
    assert '"resolved"' not in lock
