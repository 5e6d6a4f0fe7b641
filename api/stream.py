"""The live stream: server-sent events that survive a break without a gap and without a repetition.

`alarm` events carry the transition's sequence as their id; a client that comes back with `Last-Event-ID` (or
`last_seq`) gets what it missed from the database, then what happens. `status` comes every 2 s. The stream ends itself
with `renew` after at most 10 minutes, with `end` and a reason otherwise; `reset` means that too much was missed: load
the list again.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api.devices import visible_device
from api.feed import Feed, Watcher, sse
from api.parameters import Identifier
from api.policy import Viewer
from api.service import ServiceDep

router = APIRouter(prefix="/v1", tags=["alarms"])
HEARTBEAT_S = 15.0
_GRACE_S = 2.0
_MOST_MISSED = 5_000
_MOST_SEQ = 2**63 - 1
_Seq = Annotated[
    int | None, Query(ge=0, le=_MOST_SEQ, description="Resume after this transition (`last_seq` of a list).")
]
_LastEventId = Annotated[
    int | None, Header(alias="Last-Event-ID", ge=0, le=_MOST_SEQ, description="Wins over last_seq.")
]


class EventStream(Response):
    """Writes `events` until they end, the client goes, or a client that does not read has been given enough time.

    `leave` is called once at the end, whatever happens; `longest` is in seconds.
    """

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(
        self, watcher: Watcher, events: AsyncIterator[bytes], leave: Callable[[], None], longest: float
    ) -> None:
        super().__init__(media_type=self.media_type, headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._watcher = watcher
        self._events = events
        self._leave = leave
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI until one of writing, the client and the watcher ends."""
        tasks = [asyncio.create_task(step) for step in (self._write(send), _disconnection(receive), self._overdue())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._longest, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0] in done:
                tasks[0].result()
        finally:
            self._leave()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _overdue(self) -> None:
        await self._watcher.ended.wait()
        await asyncio.sleep(_GRACE_S)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_EXAMPLE = 'retry: 2000\n\nid: 42\nevent: alarm\ndata: {"seq":42,"cause":"raise","alarm":{...}}\n\n'
_DESCRIPTION: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {
        "description": "Events: `alarm` {seq, cause, alarm: Alarm as it is when sent}, `status` Status, `reading` "
        "LatestOfDevice (with `device`; best effort), `renew` {}, `end` {reason: slow | stopping | logged_out}, "
        "`reset` {last_seq}.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


@router.get("/stream", response_class=Response, responses=_DESCRIPTION)
async def stream_events(
    principal: Viewer,
    service: ServiceDep,
    device: Identifier | None = None,
    last_seq: _Seq = None,
    last_event_id: _LastEventId = None,
) -> Response:
    """Alarms and status as they happen; with `device` also its live readings."""
    if device is not None:
        await run_in_threadpool(visible_device, service.engine, principal, device)
    feed, live, lifetime = service.feed, service.live, service.stream_lifetime
    watcher = await feed.join(principal, device)
    if live is not None and device is not None:
        live.watch(device)

    def leave() -> None:
        feed.leave(watcher)
        if live is not None and device is not None:
            live.unwatch(device)

    after = last_seq if last_event_id is None else last_event_id
    return EventStream(watcher, _events(feed, watcher, after, lifetime), leave, lifetime + _GRACE_S)


async def _events(feed: Feed, watcher: Watcher, after: int | None, lifetime: float) -> AsyncIterator[bytes]:
    """First what was missed, then the mailbox. Lifetimes differ a little: clients must not all come back at once."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + lifetime * random.uniform(0.9, 1.0)
    yield b"retry: 2000\n\n" + await feed.status_event(watcher.principal)
    if after is not None:
        async for event in _missed(feed, watcher, after):
            yield event
    while not watcher.reason:
        left = deadline - clock()
        if left <= 0:
            yield sse("renew", {})
            return
        events = await watcher.take(min(left, HEARTBEAT_S))
        if events:
            yield b"".join(events)
        elif clock() < deadline:
            yield b": heartbeat\n\n"
    yield sse("end", {"reason": watcher.reason})


async def _missed(feed: Feed, watcher: Watcher, after: int) -> AsyncIterator[bytes]:
    """Transitions in (after, floor]. `after` may be ahead of the floor by what the feed has not read yet."""
    if after > watcher.floor:
        newest = await feed.newest()
        watcher.floor = min(after, newest)
        if after > newest:
            yield sse("reset", {"last_seq": newest})
        return
    sent = 0
    while happenings := await feed.past(watcher.principal, after, watcher.floor):
        if sent >= _MOST_MISSED:
            yield sse("reset", {"last_seq": watcher.floor})
            return
        if watcher.reason:
            return
        yield b"".join(happening.event for happening in happenings)
        after = happenings[-1].seq
        sent += len(happenings)
