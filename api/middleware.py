"""What happens to every request around its route: counted and timed, its body bounded, its response given our headers.

Plain ASGI, so that streams pass untouched. Cache-Control is `no-store` unless the route decided otherwise.
"""

import asyncio
import time
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import RequestMetrics
from api.problems import problem_response
from api.security_headers import NO_STORE, SECURITY_HEADERS

BODY_LIMIT = 1_000_000
_BODY_TIMEOUT_S = 10.0
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observation:
    """Counts each request under its route's template and adds the security headers."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        began = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], time.perf_counter()
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                for name, value in NO_STORE.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path_format", "other")
            self._metrics.observe(method, route, status, (began or time.perf_counter()) - started)


class BodyLimit:
    """Reads the whole body before the route runs: at most 1 MB (413), within 10 s (408)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(_read(scope, receive), _BODY_TIMEOUT_S)
        except TimeoutError:
            refusal = problem_response(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive within 10 s", _CLOSE)
            await refusal(scope, receive, send)
            return
        if body is None:
            refusal = problem_response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {BODY_LIMIT} bytes of body", _CLOSE
            )
            await refusal(scope, receive, send)
            return
        given = False

        async def receive_body() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, send)


_CLOSE = {"Connection": "close"}


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """The body, None where it is too large."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not declared.isdigit() or int(declared[:20]) > BODY_LIMIT:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_LIMIT:
            return None
        parts.append(part)
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return b"".join(parts)
