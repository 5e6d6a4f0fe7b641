"""The path of one message, as docs/architecture.md lists it, stays short: at most 7 modules and 700 lines."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = 7
LINES = 700


def listed() -> list[Path]:
    """The modules of the numbered list under the heading that names the message path, in order."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    match = re.search(r"^##+ [^\n]*path of (?:one|a) message[^\n]*\n(.*?)(?=^##+ |\Z)", text, re.M | re.S | re.I)
    assert match, "docs/architecture.md has no heading 'The path of one message'"
    return [ROOT / name for name in re.findall(r"^\d+\. `([a-z_]+/[a-z0-9_/]+\.py)`", match[1], re.M)]


def test_the_path_of_one_message_is_short() -> None:
    path = listed()
    assert 3 <= len(path) <= MODULES
    lines = {str(module.relative_to(ROOT)): len(module.read_text(encoding="utf-8").splitlines()) for module in path}
    assert sum(lines.values()) <= LINES, lines


def test_the_path_leads_from_the_broker_to_store_and_rules() -> None:
    names = [module.relative_to(ROOT).parts[0] for module in listed()]
    assert names[0] == "ingest"
    assert "storage" in names
