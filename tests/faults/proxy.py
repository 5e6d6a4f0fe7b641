"""A store with faults: an HTTP proxy in front of a real InfluxDB that refuses, hangs, cuts replies or answers errors.

Runs in a thread of its own. `fault` decides about each write before it is forwarded; everything else passes. One
connection carries one request, so that a reply can be cut without touching the next.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

Fault = Literal["pass", "hang", "cut", "500", "429"]
RETRY_AFTER = 0.2  # s
_READINGS = b"precision=ms"  # marks of alarms have nanoseconds
_ERRORS = {
    "500": b'HTTP/1.1 500 Internal Server Error\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"error":"fault"}',
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %.1f\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    % RETRY_AFTER,
}


class Proxy:
    """See the module docstring. `writes` are those of readings; `given_up` are the seconds that callers waited on a
    request that hung.
    """

    def __init__(self, upstream: int) -> None:
        self.fault: Callable[[], Fault] = lambda: "pass"
        self.writes: list[tuple[float, Fault]] = []
        self.given_up: list[float] = []
        self.port = 0
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def accept(self) -> None:
        """Listen, on the same port as before."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def refuse(self) -> None:
        """Refuse connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_length(head))
            fault = self.fault() if head.startswith(b"POST /write") else "pass"
            if _READINGS in head.partition(b"\r\n")[0]:
                self.writes.append((time.monotonic(), fault))
            if fault == "hang":
                started = time.monotonic()
                await reader.read()
                self.given_up.append(time.monotonic() - started)
            elif fault in _ERRORS:
                writer.write(_ERRORS[fault])
            else:
                answer = await self._forward(head, body)
                if fault == "pass":
                    writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream, limit=1 << 24)
        lines = [line for line in head.rstrip().split(b"\r\n") if not line.lower().startswith(b"connection:")]
        writer.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
