"""Quantities as people write them in settings and options: durations (`90s`) and sizes (`512MiB`, `2GiB`).

Durations become milliseconds (int), sizes become bytes (int). A text that is neither raises `ValueError` with what was
expected.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from devices.durations import milliseconds
from devices.errors import ConfigError

_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(_BYTES)})\s*")


def parse_duration(text: str) -> int:
    """`text` in milliseconds."""
    try:
        return milliseconds(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def parse_size(text: str) -> int:
    """`text` in bytes."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size; expected a number and one of {', '.join(_BYTES)}, such as 2GiB")
    return round(float(match[1]) * _BYTES[match[2]])


def format_size(size: int) -> str:
    """The shortest exact form: 2147483648 -> `2GiB`."""
    unit = max((name for name, factor in _BYTES.items() if size % factor == 0), key=_BYTES.__getitem__)
    return f"{size // _BYTES[unit]}{unit}"


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(_duration), Field(ge=0, json_schema_extra={"quantity": "duration"})]
Size = Annotated[int, BeforeValidator(_size), Field(ge=0, json_schema_extra={"quantity": "size"})]
