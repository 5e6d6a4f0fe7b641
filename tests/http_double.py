"""An HTTP server that misbehaves on request: what stands between a client under test and a real database.

`FaultyServer` answers each request by the next of its scripted faults, and passes it on to `upstream` when the script
is empty. A fault is a coroutine function that gets the request and returns the raw reply, or None to hang up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

import httpx


@dataclass
class Request:
    """One request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Fault = Callable[[Request], Awaitable[bytes | None]]


def answer(status: str, body: str = "", **headers: str) -> Fault:
    """Replies with `status` ("429 Too Many Requests"); underscores in header names become hyphens."""
    content = body.encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    reply = "\r\n".join([*lines, "", ""]).encode() + content

    async def fault(_: Request) -> bytes:
        return reply

    return fault


async def hang(_: Request) -> bytes | None:
    """Takes the request and never answers."""
    await asyncio.Event().wait()
    return None


async def hang_up(_: Request) -> bytes | None:
    """Takes the request and closes the connection."""
    return None


@dataclass
class FaultyServer:
    """Listens on `port` between `async with`; `requests` are those that arrived."""

    upstream: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> "FaultyServer":
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(base_url=self.upstream, trust_env=False)
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def pass_on(self, request: Request) -> bytes:
        """What upstream answers."""
        response = await self._client.request(
            request.method, request.target, content=request.body, headers=self._kept(request)
        )
        head = (
            f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\nContent-Length: {len(response.content)}\r\n"
        )
        version = response.headers.get("x-influxdb-version", "")
        return f"{head}X-Influxdb-Version: {version}\r\n\r\n".encode() + response.content

    async def cut_after_commit(self, request: Request) -> bytes | None:
        """Lets upstream do its work and closes the connection instead of passing on the reply."""
        await self.pass_on(request)
        return None

    @staticmethod
    def _kept(request: Request) -> dict[str, str]:
        return {name: value for name, value in request.headers.items() if name in ("content-type", "authorization")}

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while request := await self._read(reader):
                self.requests.append(request)
                fault = self.faults.pop(0) if self.faults else self.pass_on
                reply = await fault(request)
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Request | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, target, headers, body)
