"""`songhua up --demo` between mosquitto with our configuration and InfluxDB 1.x, both restarted meanwhile."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import aiomqtt
import pytest

from tests.faults import store
from tests.faults.rig import broker_options
from tests.integration.test_up import ROOT, City, balance
from tests.parts import Part, free_port

DATABASE = "city"
ACL = ROOT / "deploy" / "mosquitto" / "songhua.acl"


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    city = City(tmp_path / "var")
    yield city
    if city.process is not None and city.process.poll() is None:
        city.process.kill()
        city.wait(lambda: city.processes() == {}, 10, "the end of every process")


@pytest.mark.real
def test_a_city_loses_nothing_while_its_broker_and_its_store_are_restarted(
    city: City, start_mosquitto: Callable[..., Part], own_influxdb: Part
) -> None:
    broker, influxdb = start_mosquitto(**broker_options()), own_influxdb
    city.environment |= {
        "SONGHUA_BROKER_URL": broker.url,
        "SONGHUA_STORE_URL": f"influxdb+v1://127.0.0.1:{influxdb.port}/{DATABASE}",
    }
    process = city.start()
    city.wait(lambda: counted(city) > 300, 40, "the first readings")

    broker.stop()
    time.sleep(1)
    broker.start()
    before = counted(city)
    city.wait(lambda: counted(city) > before, 20, "readings after the broker's restart")

    influxdb.stop()
    time.sleep(3)
    assert city.status()["pending"] > 0
    influxdb.start()
    city.wait(lambda: counted(city) > 1_000 and (city.status()["alarms_active"] or 0) >= 1, 40, "1,000 and an alarm")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, city.said()
    assert city.processes() == {}

    final = finished(city)  # a stop in the middle of a write leaves something to write again
    received, outcomes = balance(final)
    assert received == outcomes
    assert (final["lost"], final["pending"], final["quarantined"]) == (0, 0, 0)
    assert final["sessions_lost"] == 0
    with closing(sqlite3.connect(city.var / "songhua.db")) as connection:
        (tallies,) = connection.execute("select tallies from cursors where consumer = 'store'").fetchone()
        (changes,) = connection.execute("select count(*) from transitions where cause != 'comment'").fetchone()
        unsent = connection.execute("select id, target, state from outbox where state != 'sent'").fetchall()
    conflicts = json.loads(tallies)["conflicts"]
    stored = store.rows(city.environment["SONGHUA_STORE_URL"])
    assert set(stored.values()) == {1}
    assert len(stored) == final["stored"] + final["late"] - conflicts
    assert unsent == []
    marks = store.query(influxdb.url, "select count(state) from alarms", DATABASE)
    assert marks["series"][0]["values"][0][1] == changes > 0


def counted(city: City) -> int:
    """Stored readings; every answer must balance."""
    document = city.status()
    if document.get("received") is None:
        return 0
    received, outcomes = balance(document)
    assert received == outcomes
    return int(document["stored"])


def finished(city: City) -> dict[str, int]:
    """The counters after ingest alone has gone through all that waited."""
    with (city.var.parent / "ingest").open("ab") as output:
        ingest = subprocess.Popen(
            [sys.executable, "-m", "songhua", "ingest"],
            cwd=ROOT,
            env=city.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    documents: list[dict[str, int]] = []

    def through() -> bool:
        with closing(sqlite3.connect(city.var / "songhua.db")) as connection:
            row = connection.execute("select document from process_status where process = 'ingest'").fetchone()
            (waiting,) = connection.execute("select count(*) from outbox where state = 'pending'").fetchone()
        documents.append(json.loads(row[0]) if row else {"stopped": True})
        # until it reports, the row still has what the ingest before it said when it stopped
        return not documents[-1].get("stopped") and documents[-1]["pending"] == waiting == 0

    try:
        city.wait(through, 30, "an empty journal and outbox")
        ingest.terminate()
        assert ingest.wait(20) == 0
        return documents[-1]
    finally:
        ingest.kill()
        ingest.wait()


@pytest.mark.real
async def test_a_gateway_speaks_for_itself_alone_and_never_for_the_service(
    start_mosquitto: Callable[..., Part],
) -> None:
    users = {"songhua": "s", "gw-1": "g"}
    broker = start_mosquitto(users=users, acl_file=ACL, **broker_options())
    heard: dict[str, bytes] = {}
    async with (
        aiomqtt.Client("127.0.0.1", broker.port, username="songhua", password="s") as service,
        aiomqtt.Client(
            "127.0.0.1", broker.port, username="gw-1", password="g", protocol=aiomqtt.ProtocolVersion.V5
        ) as gateway,
    ):
        await service.subscribe("songhua/#", qos=1)
        allowed = ("230102/gw-1/wm-1/up", "history/230102/gw-1/wm-1/up", "230102/gw-1/status", "230102/gw-1/wm-1/ack")
        refused = ("230102/gw-2/wm-1/up", "alarms/230102/a", "live/230102/water_meter/wm-1", "230102/gw-1/wm-1/down")
        for topic in (*refused, *allowed):
            await gateway.publish(f"songhua/v1/{topic}", b"{}", qos=1)
        await service.publish("songhua/v1/alarms/230102/a", b"ours", qos=1)
        async for message in service.messages:
            assert isinstance(message.payload, bytes)
            heard[str(message.topic).removeprefix("songhua/v1/")] = message.payload
            if message.payload == b"ours":
                break
    assert heard == dict.fromkeys(allowed, b"{}") | {"alarms/230102/a": b"ours"}


@pytest.mark.real
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("STORE_URL", "influxdb+v1://admin:wrong@{influxdb}/city", "authorization failed"),
        ("STORE_URL", "influxdb+v1://{influxdb}/city", "authentication credentials"),
        ("DATABASE_URL", "sqlite:////proc/nowhere/songhua.db", "unable to open database file"),
        ("DATABASE_URL", "oracle://host/songhua", "expected sqlite"),
        ("BROKER_URL", "mqtt://127.0.0.1:{nobody}", "no broker answers"),
    ],
)
def test_what_keeps_the_city_from_starting_is_one_line_and_exit_code_2(
    tmp_path: Path, start_influxdb: Callable[..., Part], setting: str, value: str, words: str
) -> None:
    address = f"127.0.0.1:{start_influxdb(users={'admin': 'right'}).port}" if "{influxdb}" in value else ""
    city = City(tmp_path / "var")
    wrong = value.format(influxdb=address, nobody=free_port())
    result = subprocess.run(
        [sys.executable, "-m", "songhua", "up"],
        cwd=ROOT,
        env=os.environ | city.environment | {f"SONGHUA_{setting}": wrong},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2, result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("songhua: ") and words in line
    assert "Traceback" not in result.stdout
    assert city.processes() == {}
