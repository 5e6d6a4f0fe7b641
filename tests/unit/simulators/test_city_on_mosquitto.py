"""The living city against a real broker: statuses, wills, outages, restarts."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from simulators.city import City, build_city
from simulators.fleet import run_city
from simulators.gateway import FleetCounts
from simulators.incidents import MINUTE, Incident
from simulators.truth import TruthFile, read_truth
from tests.parts import Part

pytestmark = pytest.mark.real


class Listener:
    """Everything published, as an observer with a persistent session sees it."""

    def __init__(self) -> None:
        self.statuses: list[tuple[str, dict[str, Any]]] = []
        self.readings: Counter[tuple[str, int]] = Counter()
        self.sequences: dict[str, set[int]] = {}
        self.lists = 0

    def of(self, gateway: str) -> list[dict[str, Any]]:
        return [status for name, status in self.statuses if name == gateway]

    async def listen(self, port: int) -> None:
        while True:
            try:
                async with aiomqtt.Client("127.0.0.1", port, identifier="listener", clean_session=False) as client:
                    await client.subscribe("songhua/v1/#", qos=1)
                    async for message in client.messages:
                        self.take(message)
            except aiomqtt.MqttError:
                await asyncio.sleep(0.1)

    def take(self, message: aiomqtt.Message) -> None:
        levels = str(message.topic).split("/")
        assert isinstance(message.payload, bytes)
        payload = json.loads(message.payload)
        if levels[-1] == "status":
            self.statuses.append((levels[3], payload))
            return
        self.lists += isinstance(payload, list)
        for element in payload if isinstance(payload, list) else [payload]:
            self.readings[levels[4], element["t"]] += 1
            if "seq" in element:
                self.sequences.setdefault(levels[4], set()).add(element["seq"])


@asynccontextmanager
async def living(
    city: City, broker: Part, truth: Path, listener: Listener, history: timedelta = timedelta(0)
) -> AsyncIterator[FleetCounts]:
    stop, counts = asyncio.Event(), FleetCounts()
    listening = asyncio.create_task(listener.listen(broker.port))
    await asyncio.sleep(0.3)
    running = asyncio.create_task(
        run_city(city, broker.url, truth=truth, stop=stop, history=history, interval_factor=0.02, counts=counts)
    )
    try:
        yield counts
        stop.set()
        await asyncio.wait_for(running, 20)
        await eventually(lambda: sum(listener.readings.values()) >= counts.readings)
    finally:
        running.cancel()
        listening.cancel()
        await asyncio.gather(running, listening, return_exceptions=True)


async def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def test_gateways_come_online_deliver_history_and_leave_without_an_alarm(mosquitto: Part, tmp_path: Path) -> None:
    city, listener = build_city(7, 40), Listener()
    async with living(city, mosquitto, tmp_path / "truth.jsonl", listener, history=timedelta(hours=25)) as counts:
        await eventually(lambda: counts.readings > 6_500)
    assert counts.waiting == counts.dropped == counts.connected == 0
    assert sum(listener.readings.values()) >= counts.readings
    assert listener.lists >= 39  # all but the device without a clock
    sessions = set()
    for gateway in city.gateways:
        (online,) = listener.of(gateway.id)
        assert online["state"] == "online"
        assert online["at"] > 1_700_000_000_000
        sessions.add(online["session"])
    assert len(sessions) == len(city.gateways)
    assert {incident.kind for incident in read_truth(tmp_path / "truth.jsonl").values()} >= {"burst", "gateway_down"}


async def test_a_gateway_incident_ends_in_the_will_and_a_new_session(mosquitto: Part, tmp_path: Path) -> None:
    city, listener, truth = build_city(7, 40), Listener(), tmp_path / "truth.jsonl"
    gateway = city.gateways[0]
    file = TruthFile(truth)
    file.open()
    begins = time.time_ns() // 1_000_000 + 2_500
    file.write(
        Incident(
            id="test-drop",
            kind="gateway_down",
            subject_kind="gateway",
            subject=gateway.id,
            family="gateway",
            zone="",
            district=gateway.district,
            begins=begins,
            ends=begins + 2_000,
            magnitude=1.0,
            expects="gateway.down",
            devices=(),
        )
    )
    file.close()
    async with living(city, mosquitto, truth, listener) as counts:
        await eventually(lambda: len(listener.of(gateway.id)) == 3)
        await eventually(lambda: counts.connected == len(city.gateways))
        await asyncio.sleep(1.5)  # the books are kept once a second
    first, will, second = listener.of(gateway.id)
    assert will == {"state": "offline", "session": first["session"]}
    assert second["state"] == "online"
    assert second["session"] != first["session"]
    assert second["at"] >= begins + 2_000
    assert all(len(listener.of(other.id)) == 1 for other in city.gateways[1:])
    incident = read_truth(truth)["test-drop"]
    assert incident.state == "over"
    assert incident.actual_from is not None
    assert incident.actual_until is not None
    assert begins <= incident.actual_from < begins + 2_000 <= incident.actual_until


async def test_a_broker_restart_loses_nothing_that_was_measured(mosquitto: Part, tmp_path: Path) -> None:
    city, listener = build_city(7, 40), Listener()
    async with living(city, mosquitto, tmp_path / "truth.jsonl", listener) as counts:
        await eventually(lambda: counts.readings > 200)
        mosquitto.stop()
        await asyncio.sleep(1.5)
        before = counts.readings
        mosquitto.start()
        await eventually(lambda: counts.connected == len(city.gateways) and counts.readings > before + 300)
    assert counts.reconnects >= len(city.gateways)
    assert counts.waiting == counts.dropped == 0
    assert len(listener.sequences) > 5
    for device, numbers in listener.sequences.items():
        assert numbers == set(range(max(numbers) + 1)), device


async def test_a_second_run_continues_where_the_first_stopped(mosquitto: Part, tmp_path: Path) -> None:
    city, truth = build_city(7, 40), tmp_path / "truth.jsonl"
    first, second = Listener(), Listener()
    async with living(city, mosquitto, truth, first, history=timedelta(hours=2)) as counts:
        await eventually(lambda: counts.readings > 700)
    opened = read_truth(truth)
    async with living(city, mosquitto, truth, second, history=timedelta(hours=2)) as counts:
        await eventually(lambda: counts.readings > 100)
    newest = max(moment for _, moment in first.readings)
    clockless = {name for name, moment in second.readings if moment < 1_000_000_000_000}
    assert len(clockless) <= 1
    assert all(moment > newest - 10 * MINUTE for name, moment in second.readings if name not in clockless)
    again = read_truth(truth)
    assert {key: (i.subject, i.begins, i.ends) for key, i in again.items() if key in opened} == {
        key: (i.subject, i.begins, i.ends) for key, i in opened.items()
    }
    # What is under way is not opened a second time.
    assert sum(incident.kind == "continuous_flow" and incident.begins < newest for incident in again.values()) == 1
