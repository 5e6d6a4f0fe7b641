"""The path of one message, as docs/architecture.md lists it, stays short: at most 7 modules and 700 lines of code.

Blank lines, comments and docstrings are not counted: they are what makes it readable, not what has to be understood.
"""

import ast
import io
import re
import tokenize
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


def lines_of_code(source: str) -> int:
    """Physical lines that hold code."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def test_docstrings_and_comments_are_no_code() -> None:
    assert lines_of_code('"""Doc.\n\nMore.\n"""\n\nx = 1  # why\n# why\ndef f():\n    """Doc."""\n    return x\n') == 3


def test_the_path_of_one_message_is_short() -> None:
    path = listed()
    assert 3 <= len(path) <= MODULES
    lines = {str(module.relative_to(ROOT)): lines_of_code(module.read_text(encoding="utf-8")) for module in path}
    assert sum(lines.values()) <= LINES, lines


def test_the_path_leads_from_the_broker_to_store_and_rules() -> None:
    names = [module.relative_to(ROOT).parts[0] for module in listed()]
    assert names[0] == "ingest"
    assert "storage" in names
