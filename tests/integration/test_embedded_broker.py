"""The embedded broker as it is configured: who may come in, and that it goes when it is told to."""

import asyncio
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest

from songhua import broker
from songhua.settings import Settings, load
from tests.parts import free_port

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(var=tmp_path / "var", broker_port=free_port())


@pytest.fixture
def running(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | {"SONGHUA_VAR": str(settings.var), "SONGHUA_BROKER_PORT": str(settings.broker_port)}
    process = subprocess.Popen([sys.executable, "-m", "songhua", "broker"], cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


async def connect(settings: Settings, password: str) -> None:
    """Connect with a subscription, publish to it and see the message come back."""
    client = aiomqtt.Client(
        broker.HOST,
        settings.broker_port,
        username="songhua",
        password=password,
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=2,
    )
    async with client:
        await client.subscribe("city/#", qos=1)
        await client.publish("city/a", b"hello", qos=1)
        async for message in client.messages:
            assert message.payload == b"hello"
            return


async def connect_when_up(settings: Settings, password: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            return await connect(settings, password)
        except aiomqtt.MqttError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def test_only_the_password_of_this_data_directory_opens_it(
    settings: Settings, running: "subprocess.Popen[bytes]"
) -> None:
    password = broker.url(settings).split(":")[2].partition("@")[0]
    await connect_when_up(settings, password)
    for wrong in ("", "songhua", password[:-1]):
        with pytest.raises(aiomqtt.MqttError):
            await connect(settings, wrong)
    running.terminate()
    assert running.wait(5) != 0
    with pytest.raises(aiomqtt.MqttError):
        await connect(settings, password)


def songhua(settings: Settings, *arguments: str) -> str:
    """A command in another terminal, with the same data directory."""
    environment = os.environ | {"SONGHUA_VAR": str(settings.var), "SONGHUA_BROKER_PORT": str(settings.broker_port)}
    command = [sys.executable, "-m", "songhua", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


async def test_commands_in_another_terminal_find_the_broker_of_the_same_data_directory(
    settings: Settings, running: "subprocess.Popen[bytes]"
) -> None:
    await connect_when_up(settings, broker.url(settings).split(":")[2].partition("@")[0])
    simulated = songhua(settings, "simulate", "--devices", "20", "--rate", "200", "--for", "1s")
    assert ", 0 unacknowledged" in simulated and not simulated.startswith("0 readings")
    data = ROOT / "tests" / "data"
    replayed = songhua(settings, "replay", str(data / "recording.csv"), "--map", str(data / "recording.yaml"))
    rows = len((data / "recording.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert replayed.startswith(f"{rows:,} rows, ")
    made, acknowledged = re.findall(r"([\d,]+) (?:readings|acknowledged)", replayed)
    assert made == acknowledged != "0"
    assert not settings.var.joinpath("songhua.db").exists(), "no city was started, so nothing was registered"


def test_the_password_is_made_once_and_readable_by_its_owner_alone(settings: Settings) -> None:
    first = broker.url(settings)
    assert broker.url(settings) == first
    assert len(first) > 50
    file = settings.var / "broker" / "password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_broker_that_was_set_is_used_as_it_is(tmp_path: Path) -> None:
    assert broker.url(load(var=tmp_path, broker_url="mqtt://a:b@host:1884")) == "mqtt://a:b@host:1884"
    assert list(tmp_path.iterdir()) == []
