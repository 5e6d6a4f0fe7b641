"""Every error of the HTTP API as a problem document (RFC 9457, `application/problem+json`).

`Problem` is what routes raise; the handlers here turn it, validation errors, unknown paths, an unavailable database or
store, and the unexpected into the same shape. Input is never echoed, so nothing a client sent comes back as content.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.security_headers import NO_STORE, SECURITY_HEADERS
from devices.errors import TransientError
from storage.metadata import UNAVAILABLE

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger("api")


class Problem(HTTPException):
    """An expected refusal: `detail` says what was wrong and what was expected, `errors` name parameters."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(status_code=status, detail=detail, headers=headers)
        self.errors = errors


def not_found(what: str) -> Problem:
    """404, also for what exists in a district that the asker may not see."""
    return Problem(HTTPStatus.NOT_FOUND, f"no such {what}")


def invalid(parameter: str, expected: str, where: str = "query") -> Problem:
    """422 naming one parameter and what was expected of it."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{where} {parameter}: {expected}",
        errors=[{"parameter": parameter, "in": where, "expected": expected}],
    )


def problem_response(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> Response:
    """The document itself; `type` is a stable name made of the status, for programs to switch on."""
    title = HTTPStatus(status).phrase
    document: dict[str, Any] = {
        "type": f"urn:songhua:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if errors:
        document["errors"] = errors
    return Response(msgspec.json.encode(document), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers on `app`."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    for unavailable in (TransientError, *UNAVAILABLE):
        app.add_exception_handler(unavailable, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    errors = error.errors if isinstance(error, Problem) else None
    return problem_response(error.status_code, error.detail, error.headers, errors)


async def _not_valid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [_describe(item) for item in error.errors()[:20]]
    detail = "; ".join(f"{item['in']} {item['parameter']}: {item['expected']}".replace("  ", " ") for item in errors)
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _describe(item: Mapping[str, Any]) -> dict[str, str]:
    """Pydantic's finding without the input: where it is, and what was expected there."""
    where, *path = (str(part) for part in item["loc"])
    expected = (
        "JSON"
        if item["type"] == "json_invalid"
        else item["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    )
    known = [part for part in path if part.isidentifier() and len(part) <= 64] if item["type"] != "json_invalid" else []
    return {"parameter": ".".join(known), "in": where, "expected": expected}


async def _unavailable(request: Request, error: Exception) -> Response:
    _log.warning("not available", path=request.url.path, error=str(error)[:300])
    what = "a part of the service" if isinstance(error, TransientError) else "the relational database"
    return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, f"{what} does not answer", {"Retry-After": "2"})


async def _unexpected(request: Request, error: Exception) -> Response:
    """Answered outside our middleware, so the headers are added here."""
    _log.error("unexpected error", path=request.url.path, exc_info=error)
    headers = {**SECURITY_HEADERS, **NO_STORE}
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected error; it was logged", headers)
