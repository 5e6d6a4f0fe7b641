"""The load generator against a real broker: the log of acknowledged readings is the truth."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import aiomqtt
import pytest

from devices.errors import ConfigError
from simulators.load import LoadReport, run_load
from tests.parts import Part

pytestmark = pytest.mark.real


async def persistent_session(port: int) -> None:
    """A subscriber that is away: the broker must keep everything for it."""
    async with aiomqtt.Client("127.0.0.1", port, identifier="reader", clean_session=False) as client:
        await client.subscribe("songhua/v1/+/+/+/up", qos=1)


async def drain(port: int, expected: int) -> Counter[str]:
    """Keys (device and time, as in the log) that the broker kept; waits until `expected` different ones came."""
    keys: Counter[str] = Counter()
    async with (
        asyncio.timeout(30),
        aiomqtt.Client("127.0.0.1", port, identifier="reader", clean_session=False) as client,
    ):
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            keys[f"{str(message.topic).split('/')[4]} {json.loads(message.payload)['t']}"] += 1
            if len(keys) == expected:
                return keys
    raise AssertionError


def logged(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def test_every_acknowledged_reading_is_logged_once_and_is_at_the_broker(
    start_mosquitto: Callable[..., Part], tmp_path: Path
) -> None:
    broker = start_mosquitto(max_queued_messages=0, max_inflight_messages=1_000)
    await persistent_session(broker.port)
    report = await run_load(50, 0, 3, broker.url, messages=5_000, clients=3, log=tmp_path / "log")
    lines = logged(tmp_path / "log")
    assert (report.made, report.acknowledged, report.unacknowledged) == (5_000, 5_000, 0)
    assert len(set(lines)) == len(lines) == 5_000
    assert len({line.split()[0] for line in lines}) == 50
    assert await drain(broker.port, 5_000) == Counter(lines)


async def test_a_broker_restart_under_load_loses_nothing(start_mosquitto: Callable[..., Part], tmp_path: Path) -> None:
    broker = start_mosquitto(max_queued_messages=0, max_inflight_messages=1_000)
    await persistent_session(broker.port)
    report = LoadReport()
    load = asyncio.create_task(
        run_load(50, 1_000, 3, broker.url, messages=3_000, clients=2, log=tmp_path / "log", report=report)
    )
    while report.acknowledged < 500:
        await asyncio.sleep(0.02)
    broker.stop()
    await asyncio.sleep(0.3)
    broker.start()
    await asyncio.wait_for(load, 30)
    assert (report.made, report.acknowledged, report.unacknowledged) == (3_000, 3_000, 0)
    assert report.reconnects >= 2
    lines = logged(tmp_path / "log")
    assert len(set(lines)) == len(lines) == 3_000
    assert set(await drain(broker.port, 3_000)) == set(lines)


async def test_readings_without_a_subscriber_are_not_logged_as_delivered(mosquitto: Part, tmp_path: Path) -> None:
    report = await run_load(10, 0, 3, mosquitto.url, messages=200, log=tmp_path / "log")
    assert (report.made, report.acknowledged, report.unheard) == (200, 0, 200)
    assert logged(tmp_path / "log") == []


async def test_a_refused_login_is_not_mistaken_for_success(
    start_mosquitto: Callable[..., Part], tmp_path: Path
) -> None:
    broker = start_mosquitto(users={"songhua": "right"})
    wrong = broker.url.replace("mqtt://", "mqtt://songhua:wrong@")
    report = await run_load(10, 0, 3, wrong, messages=50, log=tmp_path / "log", drain=timedelta(seconds=1))
    assert (report.acknowledged, report.unacknowledged) == (0, 50)
    right = broker.url.replace("mqtt://", "mqtt://songhua:right@")
    report = await run_load(10, 0, 3, right, messages=50)
    assert (report.unheard, report.unacknowledged) == (50, 0)


async def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="rate"):
        await run_load(10, -1, 3, "mqtt://127.0.0.1:1")
    with pytest.raises(ConfigError, match="expected mqtt://"):
        await run_load(10, 1, 3, "http://127.0.0.1:1")
