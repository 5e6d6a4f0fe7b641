"""Query parameters as types: what a client may write, checked once, named in the error when it is wrong.

Moments are ISO 8601 with an offset or ms since the epoch; lists are comma-separated or repeated; cursors are opaque.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from fastapi import Path, Query
from pydantic import BeforeValidator, WithJsonSchema

from api.problems import invalid
from devices.durations import milliseconds
from devices.errors import ConfigError
from devices.model import Milliseconds

LATEST_MOMENT: Milliseconds = 253_402_300_799_999  # the last ms of the year 9999
_ID = r"^[^\x00-\x1f\x7f]*$"


def parse_moment(text: object) -> Milliseconds:
    """ms since the epoch; raises `ValueError` with what was expected."""
    expected = ValueError("expected ISO 8601 with an offset, such as 2026-01-01T08:00:00+08:00, or ms since the epoch")
    if not isinstance(text, str) or len(text) > 40:
        raise expected
    if text.isascii() and text.isdigit():
        moment = int(text)
    else:
        try:
            # A `+` that was not percent-encoded arrives as a space.
            parsed = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            if parsed.tzinfo is None:
                raise expected
            moment = round(parsed.timestamp() * 1000)
        except (ValueError, OverflowError):
            raise expected from None
    if not 0 <= moment <= LATEST_MOMENT:
        raise ValueError("expected a moment between 1970 and 9999")
    return moment


def _parse_bucket(text: object) -> Milliseconds:
    if not isinstance(text, str) or len(text) > 20:
        raise ValueError("expected a duration")
    try:
        bucket = int(text) if text.isascii() and text.isdigit() else milliseconds(text)
    except (ConfigError, ValueError, OverflowError):
        raise ValueError("expected a duration such as 5m, 1h or 1d, or ms") from None
    if not 1_000 <= bucket <= 366 * 86_400_000:
        raise ValueError("expected a duration from 1s to 366d")
    return bucket


def _split(given: object) -> object:
    """`a,b`, or the parameter repeated, as one list."""
    texts = given if isinstance(given, list) else [given]
    return [part for text in texts if isinstance(text, str) for part in text.split(",") if part]


CommaSeparated = BeforeValidator(_split)
Moment: TypeAlias = Annotated[
    Milliseconds,
    BeforeValidator(parse_moment),
    WithJsonSchema({"type": "string", "description": "ISO 8601 with an offset, or ms since the epoch."}),
]
Bucket: TypeAlias = Annotated[
    Milliseconds,
    BeforeValidator(_parse_bucket),
    WithJsonSchema({"type": "string", "description": "A duration (5m, 1h, 1d) or ms, from 1 s to 366 d."}),
]
District: TypeAlias = Annotated[str, Query(pattern="^[0-9]{6}$", description="GB/T 2260 code, such as 230102.")]
Identifier: TypeAlias = Annotated[str, Query(max_length=64, pattern=_ID)]
PathIdentifier: TypeAlias = Annotated[str, Path(max_length=64, pattern=_ID)]
Search: TypeAlias = Annotated[
    str, Query(max_length=64, pattern=_ID, description="Part of an identifier or a name, in any case.")
]
PageSize: TypeAlias = Annotated[int, Query(ge=1, le=1000, description="Most items in one page.")]
PageCursor: TypeAlias = Annotated[
    str, Query(max_length=400, description="`next_cursor` of the page before; opaque. Absent: the first page.")
]


def encode_cursor(*key: str | int) -> str:
    """Where a page ended: the sort key of its last item, as opaque text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str | None, types: Sequence[type]) -> list[Any] | None:
    """The key that `encode_cursor` was given, None for the first page; raises `Problem` for what no page ever said."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = msgspec.json.decode(raw)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        key = None
    if not isinstance(key, list) or [type(part) for part in key] != list(types):
        raise invalid("cursor", "expected the next_cursor of the page before")
    if any(abs(part) >= 2**63 if isinstance(part, int) else "\x00" in part for part in key):
        raise invalid("cursor", "expected the next_cursor of the page before")
    return key
