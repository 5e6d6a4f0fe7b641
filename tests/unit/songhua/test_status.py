"""The status document and the quarantine as the command line reads them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.exc import StatementError
from sqlalchemy.pool import QueuePool

from devices.errors import ConfigError, TransientError
from songhua import heartbeat, migrations, quarantine, status
from songhua.database import open_existing
from songhua.settings import load
from storage.metadata import open_engine
from storage.tables import process_status, verdicts

NOW = 1_767_225_600_000
COUNTERS = {"received": 12, "stored": 10, "quarantined": 2, "lost": 0}
INGEST: dict[str, Any] = COUNTERS | {"health": {"state": "ok", "reasons": []}}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    migrations.upgrade(engine)
    return engine


def report(engine: Engine, process: str, at: int, document: dict[str, Any]) -> None:
    with engine.begin() as connection:
        connection.execute(insert(process_status).values(process=process, at=at, document=document))


def test_a_fresh_row_is_shown_as_it_is(engine: Engine) -> None:
    report(engine, "ingest", NOW - 4_000, INGEST)
    document = status.read(engine, NOW)
    assert {name: document[name] for name in COUNTERS} == COUNTERS
    assert document["health"] == {"state": "ok", "reasons": []}


def test_an_old_row_means_that_nobody_answers(engine: Engine) -> None:
    report(engine, "ingest", NOW - 6_000, INGEST)
    report(engine, "api", NOW, {})
    health = status.read(engine, NOW)["health"]
    assert health["state"] == "down"
    assert len(health["reasons"]) == 1
    assert {"code", "zh", "en"} <= set(health["reasons"][0])
    assert "ingest" in health["reasons"][0]["en"] and "ingest" in health["reasons"][0]["zh"]


def test_down_stays_down_when_somebody_is_silent_too(engine: Engine) -> None:
    report(engine, "ingest", NOW - 6_000, INGEST | {"health": {"state": "down", "reasons": [{"code": "disk"}]}})
    health = status.read(engine, NOW)["health"]
    assert health["state"] == "down"
    codes = [reason["code"] for reason in health["reasons"]]
    assert codes == ["ingest_not_answering", "disk"]


def test_without_ingest_the_service_is_down(engine: Engine) -> None:
    assert status.read(engine, NOW)["health"]["state"] == "down"


def test_a_database_without_tables_is_a_transient_error(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        status.read(open_engine(f"sqlite:///{tmp_path / 'empty.db'}"), NOW)


def test_a_stopped_ingest_leaves_its_last_totals_and_says_that_it_is_stopped(engine: Engine) -> None:
    report(engine, "ingest", NOW - 3_600_000, INGEST | {"stopped": True})
    document = status.read(engine, NOW)
    assert {name: document[name] for name in COUNTERS} == COUNTERS
    assert document["health"]["state"] == "down"
    assert [reason["code"] for reason in document["health"]["reasons"]] == ["ingest_stopped"]


def test_another_process_that_stopped_on_purpose_is_no_reason(engine: Engine) -> None:
    report(engine, "ingest", NOW, INGEST)
    report(engine, "simulator", NOW - 3_600_000, {"stopped": True})
    assert status.read(engine, NOW)["health"] == {"state": "ok", "reasons": []}


async def test_a_process_renews_its_row_and_marks_it_when_it_stops(engine: Engine) -> None:
    stop = asyncio.Event()
    beating = asyncio.create_task(heartbeat.beat(engine, "api", lambda: {"streams": 3}, stop))
    while (at := await asyncio.to_thread(status.reported_at, engine, "api")) is None:
        await asyncio.sleep(0.01)
    while await asyncio.to_thread(status.reported_at, engine, "api") == at:
        await asyncio.sleep(0.05)
    stop.set()
    await beating
    with engine.connect() as connection:
        assert connection.scalar(select(process_status.c.document)) == {"streams": 3, "stopped": True}
    beating = asyncio.create_task(heartbeat.beat(engine, "api", lambda: {"streams": 4}, stop := asyncio.Event()))
    await asyncio.sleep(0.2)
    with engine.connect() as connection:
        assert connection.scalar(select(process_status.c.document)) == {"streams": 4}
    stop.set()
    await beating


async def test_a_database_that_is_away_does_not_end_the_heartbeat(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'later.db'}")
    stop = asyncio.Event()
    beating = asyncio.create_task(heartbeat.beat(engine, "api", dict, stop))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(migrations.upgrade, engine)
    while await asyncio.to_thread(status.reported_at, engine, "api") is None:
        await asyncio.sleep(0.05)
    stop.set()
    await beating


async def test_a_database_whose_connections_are_all_taken_does_not_end_the_heartbeat(tmp_path: Path) -> None:
    engine = create_engine(
        f"sqlite:///{tmp_path / 'busy.db'}", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    await asyncio.to_thread(migrations.upgrade, engine)
    stop = asyncio.Event()
    with engine.connect():
        with pytest.raises(TransientError):
            await asyncio.to_thread(status.read, engine, NOW)
        beating = asyncio.create_task(heartbeat.beat(engine, "api", dict, stop))
        await asyncio.sleep(0.1)
        assert not beating.done()
    observer = create_engine(f"sqlite:///{tmp_path / 'busy.db'}")  # the beat needs the one connection for itself
    while await asyncio.to_thread(status.reported_at, observer, "api") is None:
        await asyncio.sleep(0.05)
    stop.set()
    await beating


async def test_a_heartbeat_that_fails_stops_its_process(engine: Engine) -> None:
    stop = asyncio.Event()
    beating = heartbeat.start(engine, "api", lambda: {"streams": object()}, stop)
    await asyncio.wait_for(stop.wait(), 10)
    with pytest.raises(StatementError):
        await beating


def quarantined(engine: Engine, sequence: int, **changes: Any) -> None:
    row = {
        "partition": 0,
        "sequence": sequence,
        "element": 0,
        "outcome": "quarantined",
        "reason": "malformed",
        "detail": "not JSON",
        "source": "native",
        "topic": "songhua/v1/230102/gw/d/up",
        "payload": b"{",
        "device": None,
        "profile_revision": "",
        "received_at": NOW + sequence,
        "discarded": False,
    }
    with engine.begin() as connection:
        connection.execute(insert(verdicts).values(**(row | changes)))


def test_the_quarantine_is_listed_newest_first_and_filtered(engine: Engine) -> None:
    quarantined(engine, 1)
    quarantined(engine, 2, reason="unknown_device", device="wm-1")
    quarantined(engine, 3, outcome="conflict")
    listed = quarantine.newest(engine, reason=None, device=None, limit=10)
    conflicts = quarantine.newest(engine, reason=None, device=None, limit=10, outcome="conflict")
    assert [verdict.key for verdict in conflicts] == ["0/3/0"]
    assert quarantine.find(engine, "0/3/0") is None
    assert quarantine.find(engine, "0/3/0", outcome="conflict") == conflicts[0]
    assert [verdict.key for verdict in listed] == ["0/2/0", "0/1/0"]
    assert [v.key for v in quarantine.newest(engine, reason="malformed", device=None, limit=10)] == ["0/1/0"]
    assert [v.key for v in quarantine.newest(engine, reason=None, device="wm-1", limit=10)] == ["0/2/0"]
    assert len(quarantine.newest(engine, reason=None, device=None, limit=1)) == 1


def test_a_payload_is_text_where_it_can_be_and_hexadecimal_elsewhere(engine: Engine) -> None:
    quarantined(engine, 1, payload="水".encode())
    quarantined(engine, 2, payload=b"\xff\x00")
    text, binary = quarantine.find(engine, "0/1/0"), quarantine.find(engine, "0/2/0")
    assert text is not None and text.as_json()["payload"] == "水"
    assert binary is not None and binary.as_json()["payload_hex"] == "ff00"
    assert json.dumps(binary.as_json())


def test_a_key_that_is_none_is_refused_and_an_unknown_one_is_nothing(engine: Engine) -> None:
    assert quarantine.find(engine, "0/99/0") is None
    with pytest.raises(ConfigError, match="PARTITION/SEQUENCE/ELEMENT"):
        quarantine.find(engine, "99")


def test_looking_at_a_city_never_creates_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no city in"):
        open_existing(load(var=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_version_is_not_touched(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('0000')")
    with pytest.raises(ConfigError, match=f"has schema 0000, this songhua needs {migrations.HEAD}"):
        open_existing(load(var=tmp_path))
