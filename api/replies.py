"""JSON bodies, encoded by msgspec straight into the response: big lists pass no model on their way out.

The pydantic models of `api.schemas` describe them for OpenAPI.
"""

from typing import Any

import msgspec
from fastapi import Response

_encoder = msgspec.json.Encoder()


def json_response(document: Any, status: int = 200) -> Response:
    """`document` (dicts, lists, structs) as `application/json`; NaN and infinities become null."""
    return Response(_encoder.encode(document), status, media_type="application/json")


def words(zh: str, en: str, default: str = "") -> dict[str, str]:
    """A text in both languages; where one is missing the other stands in, where both are, `default`."""
    return {"zh": zh or en or default, "en": en or zh or default}


def location(lon: float | None, lat: float | None, crs: str | None) -> dict[str, Any] | None:
    """A place, None unless both coordinates are known."""
    return None if lon is None or lat is None else {"lon": lon, "lat": lat, "crs": crs}
