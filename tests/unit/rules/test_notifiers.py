"""The log and MQTT targets."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator

import aiomqtt
import pytest

from devices.errors import ConfigError, TransientError
from rules.documents import Notification, build_notification
from rules.model import State
from rules.notify_log import LogNotifier
from rules.notify_mqtt import MqttNotifier, topic_of
from tests import parts
from tests.unit.rules.test_repository import alarm, transition

RAISED = build_notification(transition(alarm("a", State.UNACK)), "mqtt")
DOWN = Notification(id="database_down:x:mqtt", kind="database_down", at="x", title={"zh": "数据库", "en": "Database"})


async def test_a_log_line_is_one_json_object_in_both_languages() -> None:
    stream = io.StringIO()
    notifier = LogNotifier(stream)
    await notifier.send(RAISED)
    await notifier.send(DOWN)
    raised, down = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert raised["title"] == {"zh": "表后爆管", "en": "Burst behind the meter"}
    assert (raised["subject"], raised["priority"], raised["state"]) == ({"kind": "device", "id": "d1"}, "high", "UNACK")
    assert down["kind"] == "database_down"
    assert "表后爆管" in stream.getvalue()


async def test_text_from_outside_cannot_forge_a_log_line() -> None:
    stream = io.StringIO()
    forged = alarm("a", State.UNACK)
    forged.title_en = 'x\n{"event": "notification", "id": "forged"}\x1b[2J'
    await LogNotifier(stream).send(build_notification(transition(forged), "log"))
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


async def test_a_full_disk_is_transient() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(TransientError, match="No space"):
        await LogNotifier(Full()).send(RAISED)


def test_topics() -> None:
    assert topic_of(RAISED) == "songhua/v1/alarms/230102/a"
    assert topic_of(DOWN) == "songhua/v1/alarms/system/database_down"


@pytest.mark.parametrize("url", ["", "http://host", "mqtt://", "mqtt://host:port", "host:1883"])
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        MqttNotifier(url)


@pytest.fixture
def broker(start_mosquitto: Callable[..., parts.Part]) -> Iterator[parts.Part]:
    yield start_mosquitto(users={"songhua": "p@ss/word"})


@pytest.mark.real
async def test_mosquitto_receives_the_transition(broker: parts.Part) -> None:
    port = int(broker.url.rsplit(":", 1)[1])
    notifier = MqttNotifier(f"mqtt://songhua:p%40ss%2Fword@127.0.0.1:{port}")
    async with aiomqtt.Client("127.0.0.1", port, username="songhua", password="p@ss/word") as subscriber:
        await subscriber.subscribe("songhua/v1/alarms/#", qos=1)
        await asyncio.gather(*(notifier.send(RAISED) for _ in range(3)))
        async with asyncio.timeout(10):
            message = await anext(subscriber.messages)
    assert str(message.topic) == "songhua/v1/alarms/230102/a"
    assert (message.qos, message.retain) == (1, False)
    assert isinstance(message.payload, bytes)
    document = json.loads(message.payload)
    assert (document["id"], document["notify"], document["alarm"]["state"]) == ("a:1:mqtt", True, "UNACK")
    await notifier.close()


@pytest.mark.real
async def test_a_broker_that_restarts_is_found_again(broker: parts.Part) -> None:
    port = int(broker.url.rsplit(":", 1)[1])
    notifier = MqttNotifier(f"mqtt://songhua:p%40ss%2Fword@127.0.0.1:{port}")
    await notifier.send(RAISED)
    await asyncio.to_thread(broker.stop)
    for _ in range(2):
        with pytest.raises(TransientError, match="mqtt"):
            await notifier.send(RAISED)
    await asyncio.to_thread(broker.start)
    await notifier.send(RAISED)
    await notifier.close()


@pytest.mark.real
async def test_a_wrong_password_is_transient_and_holds_nothing(broker: parts.Part) -> None:
    port = int(broker.url.rsplit(":", 1)[1])
    notifier = MqttNotifier(f"mqtt://songhua:wrong@127.0.0.1:{port}")
    with pytest.raises(TransientError, match="mqtt"):
        await notifier.send(RAISED)
    await notifier.close()
