"""Quantities as people write them: durations (`90s`, `10m`, `7d`) and sizes (`512MiB`, `2GiB`).

Durations become milliseconds (int), sizes become bytes (int). The annotated types are for settings and options; a text
that is neither raises `ValueError` saying what was expected.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

DURATION_FORM = "a number and one of ms, s, m, h, d, such as 90s"
SIZE_FORM = "a number and one of B, KiB, MiB, GiB, TiB, such as 2GiB"

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_duration(text: str) -> int:
    """`text` in milliseconds."""
    return _parse(text, _MILLISECONDS, DURATION_FORM)


def parse_size(text: str) -> int:
    """`text` in bytes."""
    return _parse(text, _BYTES, SIZE_FORM)


def format_duration(milliseconds: int) -> str:
    """The shortest exact form: 90000 -> `90s`, 3600000 -> `1h`."""
    return _format(milliseconds, _MILLISECONDS, zero="0s")


def format_size(size: int) -> str:
    """The shortest exact form: 2147483648 -> `2GiB`."""
    return _format(size, _BYTES, zero="0B")


def _parse(text: str, units: dict[str, int], form: str) -> int:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(f"expected {form}")
    return round(float(match[1]) * units[match[2]])


def _format(amount: int, units: dict[str, int], zero: str) -> str:
    if amount == 0:
        return zero
    unit = max((name for name, factor in units.items() if amount % factor == 0), key=units.__getitem__)
    return f"{amount // units[unit]}{unit}"


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(_duration), Field(ge=0, json_schema_extra={"quantity": "duration"})]
Size = Annotated[int, BeforeValidator(_size), Field(ge=0, json_schema_extra={"quantity": "size"})]
