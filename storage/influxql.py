"""InfluxQL statements, with every name and every word quoted.

Receives names, words and times, gives text; owns and raises nothing. Syntax: InfluxDB 1.x, "InfluxQL reference";
2.x and 3.x answer the same on `/query`.
"""

import re
from collections.abc import Sequence

from devices.model import Milliseconds


def name(text: str) -> str:
    """An identifier."""
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") + '"'


def word(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", r"\\").replace("'", r"\'").replace("\n", r"\n") + "'"


def names(texts: Sequence[str]) -> str:
    return ", ".join(name(text) for text in texts)


def among(tag: str, values: Sequence[str]) -> str:
    """A condition: the tag has one of the values. The server takes quadratic time for a chain of `or`."""
    if len(values) == 1:
        return f"{name(tag)} = {word(values[0])}"
    return f"{name(tag)} =~ /^(?:{'|'.join(_literal(value) for value in values)})$/"


def other_than(tag: str, value: str) -> str:
    """A condition: the tag has any other value."""
    return f"{name(tag)} != {word(value)}"


def where(*conditions: str) -> str:
    """The clause, empty if every condition is."""
    present = [condition for condition in conditions if condition]
    return f" where {' and '.join(present)}" if present else ""


def period(start: Milliseconds | None, end: Milliseconds | None) -> str:
    """A condition: start <= time < end."""
    bounds = [f"time >= {start:d}ms" if start is not None else "", f"time < {end:d}ms" if end is not None else ""]
    return " and ".join(bound for bound in bounds if bound)


def _literal(text: str) -> str:
    """An expression that matches only `text`; no character is left that means anything to RE2 or to the scanner."""
    return re.sub("[^A-Za-z0-9]", lambda match: rf"\x{{{ord(match[0]):x}}}", text)
