"""What must never be committed: addresses of registries, paths of a machine, names that explain nothing."""

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Names of hosts that package managers fetch from, in pieces, so that this file passes its own test.
_HOSTS = {
    "Python": ("pypi", "org"),
    "Python files": ("files", "pythonhosted", "org"),
    "npm": ("registry", "npmjs", "org"),
    "yarn": ("registry", "yarnpkg", "com"),
    "npm mirror": ("registry", "npmmirror", "com"),
    "Debian": ("deb", "debian", "org"),
    "Debian security": ("security", "debian", "org"),
}
_NO_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}


def committed() -> list[Path]:
    """Files that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in committed():
        try:
            found.append((path.relative_to(ROOT), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    assert len(found) > 50, "the list of committed files cannot be right"
    return found


def configured_hosts() -> set[str]:
    """Hosts that this machine's own pip configuration and environment name."""
    words = [value for name, value in os.environ.items() if name.upper().startswith(("PIP_", "NPM_CONFIG_", "UV_"))]
    for place in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        if place.is_file():
            parser = configparser.RawConfigParser()
            parser.read(place)
            words += [value for section in parser.sections() for _, value in parser.items(section)]
    return {host for word in words for host in re.findall(r"https?://(?:[^@/\s]*@)?([^/:\s]+)", word)}


def test_no_file_names_a_package_registry() -> None:
    hosts = {".".join(parts) for parts in _HOSTS.values()} | configured_hosts()
    pattern = re.compile("|".join(re.escape(host) for host in sorted(hosts)))
    assert pattern.search("https://" + ".".join(_HOSTS["npm"])), "the pattern cannot find what it looks for"
    named = [f"{path}: {match[0]}" for path, text in texts() if (match := pattern.search(text))]
    assert named == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-console.lock"])
def test_every_package_of_a_lock_file_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    pinned = re.findall(r"^([A-Za-z0-9][\w.-]*)==", text, re.MULTILINE)
    blocks = re.split(r"^(?=[A-Za-z0-9][\w.-]*==)", text, flags=re.MULTILINE)[1:]
    assert len(pinned) > 10
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert not re.search(r"--(index-url|extra-index-url|find-links|trusted-host)|https?://", text)


def test_no_file_names_a_path_of_a_machine() -> None:
    here = [f"{place}/" for place in (ROOT, Path.home()) if place != Path("/")]
    homes = [rf"(?<![\w.~$}}*])/{folder}/\w" for folder in ("home", "Users", "root")]
    pattern = re.compile("|".join([re.escape(place) for place in here] + homes))
    assert pattern.search('"/' + 'home/li/songhua"'), "the pattern cannot find what it looks for"
    named = [f"{path}: {match[0]}" for path, text in texts() if (match := pattern.search(text))]
    assert named == []


def test_no_file_has_a_name_that_explains_nothing() -> None:
    source = {".py", ".ts", ".svelte", ".yaml", ".sh"}
    assert [
        str(path) for path in committed() if path.suffix in source and path.name.split(".")[0].lower() in _NO_NAMES
    ] == []


def test_every_link_between_documents_leads_somewhere() -> None:
    links = [
        (path, target.partition("#")[0])
        for path, text in texts()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if not re.match(r"[a-z]+:|#", target)
    ]
    assert len(links) > 20
    assert [f"{path}: {target}" for path, target in links if not (ROOT / path.parent / target).exists()] == []


def test_every_module_says_what_it_is() -> None:
    silent = []
    for path in committed():
        relative = path.relative_to(ROOT)
        if path.suffix == ".py" and "versions" not in relative.parts:
            first = next((line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()), '"""')
            if not first.startswith(('"""', 'r"""')):
                silent.append(str(relative))
    assert silent == []
