"""The live stream over real HTTP: resuming without gap or repetition, its lifetime, scoping, and a prompt stop."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest

from api.credentials import create_login_code, revoke_token
from api.server import listen, serve
from devices.errors import ConfigError
from rules.model import State
from tests import parts
from tests.api_city import City, alarm, raise_alarm


class Event:
    """One server-sent event as parsed from the wire."""

    def __init__(self, text: str) -> None:
        fields = dict(line.split(": ", 1) for line in text.splitlines())
        self.name = fields.get("event", "")
        self.id = int(fields["id"]) if "id" in fields else None
        self.data = json.loads(fields["data"]) if "data" in fields else None


class Server:
    """A running server over a city, on a free port."""

    def __init__(self, city: City, **options: Any) -> None:
        self.city = city
        self.app = city.create_app(**options)
        self._listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(serve(self.app, self._listener, self._stop))

    async def stop(self) -> float:
        """Stop it; gives how many seconds that took."""
        begun = time.monotonic()
        self._stop.set()
        await asyncio.wait_for(self._task, 10)
        return time.monotonic() - begun

    @asynccontextmanager
    async def events(
        self, query: str = "", districts: list[str] | None = None, last_event_id: int | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of one connection."""
        headers = self.city.bearer("viewer", districts)
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=20) as client,
            client.stream("GET", f"/v1/stream{query}", headers=headers) as answer,
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["cache-control"] == "no-store"
            yield _parse(answer)


async def _parse(answer: httpx.Response) -> AsyncIterator[Event]:
    waiting = ""
    async for text in answer.aiter_text():
        waiting += text
        while "\n\n" in waiting:
            block, _, waiting = waiting.partition("\n\n")
            if not block.startswith((":", "retry:")):
                yield Event(block)


async def _change(city: City, district: str, version: int) -> int:
    return await asyncio.to_thread(raise_alarm, city.engine, alarm(district, 7, State.UNACK, version=version))


async def _next(events: AsyncIterator[Event], name: str) -> Event:
    async with asyncio.timeout(10):
        async for event in events:
            if event.name == name:
                return event
    raise AssertionError(f"the stream ended without {name}")


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(str(tmp_path / "songhua.db"))


@pytest.fixture
async def server(city: City) -> AsyncIterator[Server]:
    server = Server(city)
    yield server
    await server.stop()


async def test_status_comes_at_once_and_alarms_as_they_happen(city: City, server: Server) -> None:
    async with server.events() as events:
        first = await anext(events)
        assert (first.name, first.data["devices"]) == ("status", 4)
        seq = await _change(city, "230102", 1)
        event = await _next(events, "alarm")
        assert event.id == event.data["seq"] == seq
        assert (event.data["cause"], event.data["alarm"]["district"]) == ("raise", "230102")
        assert (await _next(events, "status")).id is None


async def test_a_client_that_comes_back_again_and_again_gets_each_transition_exactly_once(
    city: City, server: Server
) -> None:
    written: list[int] = []
    finished = asyncio.Event()

    async def write() -> None:
        for version in range(1, 121):
            written.append(await _change(city, "230102", version))
            await asyncio.sleep(0.01)
        finished.set()

    async with server.events() as events:
        await anext(events)
        writing = asyncio.create_task(write())
        received = [(await _next(events, "alarm")).data["seq"]]
    by_header = True
    while not finished.is_set() or received[-1] < written[-1]:
        query, header = ("", received[-1]) if by_header else (f"?last_seq={received[-1]}", None)
        by_header = not by_header
        async with server.events(query, last_event_id=header) as events:
            for _ in range(7):
                if finished.is_set() and received[-1] == written[-1]:
                    break
                received.append((await _next(events, "alarm")).data["seq"])
    await writing
    assert received == written


async def test_a_list_and_the_stream_after_its_last_seq_miss_nothing(city: City, server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=city.bearer()) as client:
        for version in range(1, 11):
            written = await _change(city, "230102", version)
            # Within the feed's own poll interval: the list is ahead of the feed.
            last_seq = (await client.get("/v1/alarms?limit=1")).json()["last_seq"]
            assert last_seq == written
            async with server.events(f"?last_seq={last_seq}") as events:
                following = await _change(city, "230103", version)
                assert (await _next(events, "alarm")).data["seq"] == following


async def test_a_scoped_stream_tells_nothing_of_other_districts(city: City, server: Server) -> None:
    before = await _change(city, "230102", 1)
    async with server.events(districts=["230103"], last_event_id=before - 1) as events:
        assert (await anext(events)).data["alarms_active"] == 2
        await _change(city, "230102", 2)
        mine = await _change(city, "230103", 1)
        event = await _next(events, "alarm")
        assert (event.data["seq"], event.data["alarm"]["district"]) == (mine, "230103")


async def test_a_number_from_another_database_asks_for_a_reload(city: City, server: Server) -> None:
    newest = await _change(city, "230102", 1)
    async with server.events(last_event_id=newest + 1000) as events:
        assert (await _next(events, "reset")).data == {"last_seq": newest}
        following = await _change(city, "230102", 2)
        assert (await _next(events, "alarm")).data["seq"] == following


async def test_the_stream_renews_itself_at_the_end_of_its_lifetime(city: City) -> None:
    server = Server(city, stream_lifetime=0.5)
    async with server.events() as events:
        names = [event.name async for event in events]
    assert names[-1] == "renew"
    assert await server.stop() < 2


async def test_a_stop_with_open_streams_takes_less_than_two_seconds(city: City) -> None:
    server = Server(city)
    opened = [server.events() for _ in range(20)]
    streams = [await stream.__aenter__() for stream in opened]
    for events in streams:
        await anext(events)
    assert await server.stop() < 2
    for events in streams:
        assert [event.data async for event in events if event.name == "end"] == [{"reason": "stopping"}]
    for stream in opened:
        await stream.__aexit__(None, None, None)


async def test_a_stop_does_not_wait_for_a_client_that_does_not_read(city: City) -> None:
    server = Server(city)
    port = int(server.url.rpartition(":")[2])
    async with server.events() as events:
        await anext(events)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    request = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {city.token()}\r\n\r\n"
    writer.write(request.encode())
    await writer.drain()
    version = 0
    while server.app.state.service.feed.watching and version < 3_000:
        for _ in range(100):
            version += 1
            raised = alarm("230102", 7, State.UNACK, version=version, explanation_en="x" * 20_000)
            await asyncio.to_thread(raise_alarm, city.engine, raised)
        await asyncio.sleep(0.5)
    assert server.app.state.service.feed.watching == 0, "the slow client was kept"
    assert await server.stop() < 5
    writer.transport.abort()
    assert reader is not None


async def test_a_revoked_token_loses_its_open_stream_within_five_seconds(city: City, server: Server) -> None:
    async with server.events() as events:
        await anext(events)
        await asyncio.to_thread(revoke_token, city.engine, "viewer-all")
        assert (await asyncio.wait_for(_next(events, "end"), 5)).data == {"reason": "logged_out"}


async def test_the_cookie_opens_the_stream_and_nothing_does_without_one(city: City, server: Server) -> None:
    code = create_login_code(city.engine, "li", "viewer", now=city.clock.now)
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/v1/stream")).status_code == 401
        assert (await client.post("/v1/session", json={"code": code})).status_code == 200
        async with client.stream("GET", "/v1/stream") as answer:
            assert answer.status_code == 200
            assert (await anext(_parse(answer))).name == "status"


async def test_a_device_that_may_not_be_seen_is_not_watched(city: City, server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=city.bearer("viewer", ["230102"])) as client:
        for device in ("wm-230103-1", "none"):
            assert (await client.get(f"/v1/stream?device={device}")).status_code == 404
        for query in ("?last_seq=-1", "?last_seq=x", f"?last_seq={2**63}"):
            assert (await client.get(f"/v1/stream{query}")).status_code == 422


@pytest.mark.real
async def test_live_readings_of_the_watched_device_survive_a_restart_of_the_broker(
    city: City, start_mosquitto: Callable[..., parts.Part]
) -> None:
    broker = start_mosquitto()
    server = Server(city, broker_url=broker.url)

    async def publish() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            for number in range(200):
                for device in ("wm-230102-1", "wm-230103-1"):
                    reading = {"device": device, "time": 1_767_225_600_000 + number, "values": {"flow_rate": number}}
                    topic = f"songhua/v1/live/{device[3:9]}/water_meter/{device}"
                    await client.publish(topic, json.dumps(reading))
                await asyncio.sleep(0.05)

    async with server.events("?device=wm-230102-1") as events:
        for _ in range(2):
            publishing = asyncio.create_task(publish())
            seen = [await _next(events, "reading") for _ in range(5)]
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            assert {event.data["device"] for event in seen} == {"wm-230102-1"}
            assert seen[0].data["quality"] == "ok"
            assert seen[0].data["time"].startswith("2026-01-01T00:00:0")
            broker.stop()
            broker.start()
    assert await server.stop() < 2


async def test_a_port_that_is_taken_is_a_configuration_error() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="choose another port"):
        listen("127.0.0.1", taken.getsockname()[1])


async def test_small_answers_leave_at_once() -> None:
    """Accepted connections have TCP_NODELAY: a client's delayed acknowledgement must not hold answers back."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    async with await asyncio.start_server(meet, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await accepted != 0
        writer.close()
