"""The InfluxDB 1.x store beyond the common contract: a real server that refuses, restarts and asks for passwords, and a
server in between that fails in every way a server can.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any
from uuid import uuid4

import pytest

from devices.errors import ConfigError, PartialWriteError, TransientError
from devices.model import Reading
from storage import influx_http, influx_v1
from storage.influx_http import Address, InfluxHttp
from storage.influx_v1 import InfluxV1Store
from tests import parts
from tests.http_double import FaultyServer, answer, hang, hang_up
from tests.samples import NEW_YEAR, device, reading

pytestmark = pytest.mark.real


def batch(size: int, **values: Any) -> list[Reading]:
    return [reading(device(f"m{i}"), NEW_YEAR + i, flow_rate=float(i), **values) for i in range(size)]


def address(part: parts.Part) -> Address:
    return Address("127.0.0.1", part.port, f"test_{uuid4().hex}")


@pytest.fixture
async def store(influxdb: parts.Part) -> AsyncIterator[InfluxV1Store]:
    store = InfluxV1Store(address(influxdb))
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def faulty(influxdb: parts.Part) -> AsyncIterator[FaultyServer]:
    async with FaultyServer(influxdb.url) as server:
        yield server


@pytest.fixture
async def exposed(faulty: FaultyServer) -> AsyncIterator[InfluxV1Store]:
    """A started store whose next requests run into `faulty.faults`."""
    store = InfluxV1Store(Address("127.0.0.1", faulty.port, f"test_{uuid4().hex}"))
    await store.start()
    faulty.requests.clear()
    yield store
    await store.close()


async def make_tilt_a_string(store: InfluxV1Store) -> None:
    """From now on the server refuses every point of the week that reports a tilt."""
    http = InfluxHttp(store.address)
    http.start()
    await http.write(f'water_meter,device=spoiler tilt="text",quality="ok" {NEW_YEAR}'.encode(), "ms")
    await http.close()


@pytest.mark.parametrize("bad", [[0], [499], [7, 8, 300], list(range(0, 500, 25))])
async def test_points_of_the_wrong_type_are_found_and_all_others_written(store: InfluxV1Store, bad: list[int]) -> None:
    await make_tilt_a_string(store)
    readings = batch(500)
    for index in bad:
        readings[index] = reading(device(f"m{index}"), NEW_YEAR + index, flow_rate=1.0, tilt=3.0)
    for _ in range(2):
        with pytest.raises(PartialWriteError) as caught:
            await store.write(readings)
        assert sorted(caught.value.rejected) == bad
        assert all("field type conflict" in words and "tilt" in words for words in caught.value.rejected.values())
    assert await store.count("water_meter") == 1 + 500 - len(bad)


async def test_a_batch_that_is_refused_whole_takes_one_request(exposed: InfluxV1Store, faulty: FaultyServer) -> None:
    await make_tilt_a_string(exposed)
    faulty.requests.clear()
    with pytest.raises(PartialWriteError) as caught:
        await exposed.write(batch(500, tilt=1.0))
    assert sorted(caught.value.rejected) == list(range(500))
    assert len(faulty.requests) == 1


async def test_refusals_of_ours_and_of_the_server_keep_their_places(store: InfluxV1Store) -> None:
    await make_tilt_a_string(store)
    readings = batch(7000)
    readings[10] = reading(device("m10"), NEW_YEAR, flow_rate=float("nan"))
    readings[20] = reading(device("m20"), NEW_YEAR, tilt=1.0)
    readings[6000] = reading(device("line\nbreak"), NEW_YEAR, flow_rate=1.0)
    readings[6500] = reading(device("m6500"), NEW_YEAR, tilt=1.0)
    with pytest.raises(PartialWriteError) as caught:
        await store.write(readings)
    assert sorted(caught.value.rejected) == [10, 20, 6000, 6500]
    assert await store.count() == 1 + 7000 - 4


async def test_the_latest_points_come_in_pages(
    exposed: InfluxV1Store, faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influx_v1, "_SERIES", 40)
    await exposed.write(batch(100))
    for limit, size, pages in ((1000, 100, 3), (80, 80, 2), (50, 50, 2), (7, 7, 1), (0, 0, 0)):
        faulty.requests.clear()
        points = await exposed.latest("water_meter", limit=limit)
        assert len({point.device for point in points}) == size
        assert len(faulty.requests) == pages


async def test_the_server_restarts_midway(own_influxdb: parts.Part) -> None:
    store = InfluxV1Store(address(own_influxdb))
    await store.start()
    await store.write(batch(100))
    own_influxdb.kill()
    for call in (store.write(batch(200)), store.ready(), store.latest("water_meter"), store.count()):
        began = time.monotonic()
        with pytest.raises(TransientError):
            await call
        assert time.monotonic() - began < 10
    own_influxdb.start()
    await store.write(batch(200))
    await store.ready()
    assert await store.count() == 200
    await store.close()


async def test_an_unreachable_server_is_transient_at_start(own_influxdb: parts.Part) -> None:
    own_influxdb.stop()
    store = InfluxV1Store(address(own_influxdb))
    with pytest.raises(TransientError):
        await store.start()
    with pytest.raises(TransientError):
        await store.write(batch(1))
    own_influxdb.start()
    await store.start()
    await store.write(batch(1))
    await store.close()


async def test_a_dropped_database_is_made_again(store: InfluxV1Store) -> None:
    await store.write(batch(10))
    http = InfluxHttp(store.address)
    http.start()
    await http.query(f'drop database "{store.address.database}"')
    await http.close()
    with pytest.raises(TransientError, match="created again"):
        await store.write(batch(10))
    await store.write(batch(10))
    assert await store.count() == 10


async def test_credentials(start_influxdb: Callable[..., parts.Part]) -> None:
    part = start_influxdb(users={"admin": "s3cret", "nobody": "n0thing"})
    good = Address("127.0.0.1", part.port, "songhua", "admin", "s3cret")
    store = InfluxV1Store(good)
    await store.start()
    await store.write(batch(10))
    assert await store.count() == 10
    await store.close()
    for user, password in (("admin", "wr0ng"), ("stranger", "gu3ss"), ("", ""), ("nobody", "n0thing")):
        refused = InfluxV1Store(good._replace(user=user, password=password))
        with pytest.raises(ConfigError, match="expected a user who may use songhua") as caught:
            await refused.start()
        assert not password or password not in str(caught.value)
        with pytest.raises(TransientError):
            await refused.write(batch(1))
        await refused.close()


async def test_something_that_is_not_influxdb_is_a_configuration_error(faulty: FaultyServer) -> None:
    faulty.faults = [answer("200 OK", "<html>hello</html>")]
    store = InfluxV1Store(Address("127.0.0.1", faulty.port, "x"))
    with pytest.raises(ConfigError, match="not InfluxDB"):
        await store.start()
    await store.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (answer("500 Internal Server Error", '{"error":"engine: disk full"}'), "disk full"),
        (answer("503 Service Unavailable", "<html>busy</html>"), "busy"),
        (answer("429 Too Many Requests"), "429"),
        (answer("400 Bad Request", "<html>a proxy does not like you</html>"), "proxy"),
        (
            answer(
                "400 Bad Request", '{"error":"partial write: max-series-per-database limit exceeded: (9) dropped=5"}'
            ),
            "limit",
        ),
        (answer("401 Unauthorized", '{"error":"authorization failed"}'), "authorization failed"),
        (answer("403 Forbidden", '{"error":"not authorized"}'), "not authorized"),
        (answer("302 Found", Location="http://example.org/"), "302"),
        (answer("200 OK", "welcome to the hotel network"), "200"),
        (hang_up, "disconnected"),
    ],
)
async def test_a_failure_is_transient_and_condemns_no_point(
    exposed: InfluxV1Store, faulty: FaultyServer, fault: object, words: str
) -> None:
    faulty.faults = [fault]  # type: ignore[list-item]
    with pytest.raises(TransientError, match=words):
        await exposed.write(batch(50))
    assert len(faulty.requests) == 1  # it is the caller who retries
    await exposed.write(batch(50))
    assert await exposed.count() == 50


@pytest.mark.parametrize(
    "fault",
    [
        answer("200 OK", "not json"),
        answer("200 OK", '{"results":[{"error":"timeout"}]}'),
        answer(
            "200 OK", '{"results":[{"series":[{"name":"water_meter","columns":["time","count"],"values":[[0,"x"]]}]}]}'
        ),
        answer("500 Internal Server Error"),
        hang_up,
    ],
)
async def test_a_strange_answer_to_a_question_is_transient(
    exposed: InfluxV1Store, faulty: FaultyServer, fault: object
) -> None:
    await exposed.write(batch(5))
    faulty.faults = [fault]  # type: ignore[list-item]
    with pytest.raises(TransientError):
        await exposed.count()
    assert await exposed.count() == 5


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("0.5", 0.5, 0.5), (formatdate(time.time() + 3000, usegmt=True), 1000, 3000), ("-1", 0, 0)],
)
async def test_the_server_says_when_to_come_again(
    exposed: InfluxV1Store, faulty: FaultyServer, header: str, low: float, high: float
) -> None:
    faulty.faults = [answer("429 Too Many Requests", Retry_After=header)]
    with pytest.raises(TransientError) as caught:
        await exposed.write(batch(1))
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high
    faulty.faults = [answer("503 Service Unavailable", Retry_After="tomorrow")]
    with pytest.raises(TransientError) as caught:
        await exposed.write(batch(1))
    assert caught.value.retry_after is None


async def test_a_server_that_hangs_is_given_up(
    exposed: InfluxV1Store, faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert influx_http._SECONDS <= 10
    monkeypatch.setattr(influx_http, "_SECONDS", 0.2)
    faulty.faults = [hang, hang]
    with pytest.raises(TransientError, match="no answer"):
        await exposed.write(batch(1))
    with pytest.raises(TransientError, match="no answer"):
        await exposed.count()
    await exposed.write(batch(1))
    assert await exposed.count() == 1


async def test_a_server_that_trickles_is_given_up(
    exposed: InfluxV1Store, faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps every time-out between bytes from firing."""
    monkeypatch.setattr(influx_http, "_SECONDS", 0.3)
    listener = await asyncio.start_server(_trickle, "127.0.0.1", 0)
    store = InfluxV1Store(Address("127.0.0.1", listener.sockets[0].getsockname()[1], "x"))
    with pytest.raises(TransientError, match="no answer"):
        await asyncio.wait_for(store.start(), 5)
    await store.close()
    listener.close()


async def _trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)
    except ConnectionError:
        writer.close()


async def test_a_reply_cut_after_the_commit_doubles_nothing(exposed: InfluxV1Store, faulty: FaultyServer) -> None:
    for _ in range(20):
        faulty.faults = [faulty.cut_after_commit]
        with pytest.raises(TransientError):
            await exposed.write(batch(50))
        await exposed.write(batch(50))
    assert await exposed.count() == 50


async def test_a_body_that_is_too_large_is_halved(exposed: InfluxV1Store, faulty: FaultyServer) -> None:
    refuse = answer("413 Request Entity Too Large", '{"error":"too large"}')
    faulty.faults = [refuse, refuse]
    await exposed.write(batch(100))
    assert await exposed.count() == 100
    assert len([r for r in faulty.requests if r.target.startswith("/write")]) == 5  # 100, 50, 25, 25, 50


async def test_a_single_point_that_is_too_large_is_refused(exposed: InfluxV1Store, faulty: FaultyServer) -> None:
    faulty.faults = [answer("413 Request Entity Too Large", "too large")]
    with pytest.raises(PartialWriteError) as caught:
        await exposed.write(batch(1))
    assert caught.value.rejected == {0: "too large"}


async def test_batches_are_cut_into_requests_of_five_thousand(exposed: InfluxV1Store, faulty: FaultyServer) -> None:
    await exposed.write(batch(12_000))
    assert [r.body.count(b"\n") for r in faulty.requests] == [5000, 5000, 2000]
