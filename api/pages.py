"""The console's files: whatever no route claims. Any page address gives `index.html`, which finds its own way.

Hashed files are kept by browsers for a year; everything else is asked for again (ETag, 304). Nothing under `/v1` is
ever a page, and a missing asset is a 404, never a page.
"""

import re
from http import HTTPStatus
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

_HASHED = re.compile(r"assets/.+-[\w-]{8,}\.[a-z0-9]+")
_NO_PAGES = re.compile(r"(v1|assets)(/|$)")


class ConsolePages:
    """An ASGI application over the directory that Vite built into; None or a missing directory: 404 with a hint."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files = None if directory is None else StaticFiles(directory=directory, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI; raises `HTTPException`, which becomes a problem document."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        response = await self._respond(scope)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope) -> Response:
        path = scope["path"].lstrip("/")
        if scope["method"] not in ("GET", "HEAD") or path.startswith("v1/"):
            raise HTTPException(HTTPStatus.NOT_FOUND, "no such path")
        if self._directory is None or self._files is None or not (self._directory / "index.html").is_file():
            raise HTTPException(HTTPStatus.NOT_FOUND, "no such path; the console is not built here")
        try:
            response = await self._files.get_response(self._files.get_path(scope), scope)
        except (HTTPException, ValueError):
            if _NO_PAGES.match(path):
                raise HTTPException(HTTPStatus.NOT_FOUND, "no such file") from None
            response = await self._files.get_response("index.html", scope)
        lasting = "public, max-age=31536000, immutable"
        response.headers["Cache-Control"] = lasting if _HASHED.fullmatch(path) else "no-cache"
        return response
