"""Make or complete the virtual environment: `setup_venv.py DIRECTORY LOCK`.

Installs exactly what the lock file lists, checked by hash, then this checkout itself without looking anything up
again. Where packages come from is the machine's business (`PIP_*`, pip.conf); nothing here names a registry. Standard
library only.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    directory, lock = Path(sys.argv[1]), ROOT / sys.argv[2]
    python = directory / "bin" / "python"
    if not works(python):
        print(f"making {directory} with Python {sys.version.split()[0]}", flush=True)
        try:
            venv.create(directory, with_pip=True, clear=True)
        except (subprocess.CalledProcessError, ImportError):
            print(
                "songhua: this Python cannot make virtual environments, its ensurepip is missing. "
                "On Debian: apt-get install python3-venv",
                file=sys.stderr,
            )
            return 2
    wanted = sum(1 for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line and line[0].isalpha())
    print(f"installing {wanted} packages of {lock.name}", flush=True)
    install(python, wanted, "--require-hashes", "--requirement", str(lock))
    install(python, 0, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    return 0


def works(python: Path) -> bool:
    """Whether this environment's pip runs; a half-made or moved environment is made again."""
    if not python.exists():
        return False
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def install(python: Path, wanted: int, *arguments: str) -> None:
    """Run pip, showing which package it is at; its whole output where it fails."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    output = []
    seen = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            output.append(line)
            if wanted and line.startswith("Collecting "):
                seen += 1
                report(f"  {seen}/{wanted} {line.split()[1]}", done=False)
            elif wanted and line.startswith("Installing collected packages"):
                report("  unpacking", done=True)
    if pip.returncode:
        sys.stderr.write("".join(output))
        sys.exit(pip.returncode)


def report(text: str, *, done: bool) -> None:
    """One line that overwrites itself on a terminal; only the last one elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="\n" if done else "", flush=True)
    elif done:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
