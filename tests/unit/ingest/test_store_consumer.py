"""Ledger and store consumer over a real database: tallies belong to cursors, and a restart repeats without doubling."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from devices.catalogue import load
from devices.errors import PartialWriteError, TransientError
from devices.model import DecodedBatch, Device, Reading, Rejection
from devices.profile import load_profiles
from devices.reasons import Reason
from ingest.accounting import counters, difference
from ingest.device_time import DeviceClock
from ingest.ledger import Ledger
from ingest.store_consumer import StoreConsumer
from storage import tables, verdicts
from storage.journal import Message
from storage.metadata import metadata, open_engine
from storage.segments import SegmentJournal

_WIRE = load_profiles()["songhua/wm-15"].wire
_METER = load().values_class("water_meter")
_DEVICE = Device(
    id="wm-1", family="water_meter", profile="songhua/wm-15", district="230102", zone="z", gateway="g", interval=1000
)


class Store:
    """Keeps points by key, as every store does; refuses and fails when told to."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, int], object] = {}
        self.refuse: set[int] = set()  # times
        self.failures = 0
        self.writes = 0

    async def write(self, readings: Sequence[Reading]) -> None:
        if self.failures:
            self.failures -= 1
            raise TransientError("away")
        self.writes += len(readings)
        refused = {i: "field type conflict" for i, r in enumerate(readings) if r.time in self.refuse}
        self.points |= {(r.device.id, r.time): r.values for i, r in enumerate(readings) if i not in refused}
        if refused:
            raise PartialWriteError(refused)


def batch(first: int, *times: int, rejections: int = 0, flow: float = 1.0) -> DecodedBatch:
    readings = [
        Reading(_DEVICE, time, _WIRE(flow_rate=flow), 5_000 + i, "g", first + i)  # type: ignore[call-arg]
        for i, time in enumerate(times)
    ]
    refused = [
        Rejection(first + len(times) + i, 0, Reason.malformed, "bad", "native", "t", b"\x00", 5_000)
        for i in range(rejections)
    ]
    count = len(times) + rejections
    return DecodedBatch(first, first + count - 1, 5_000, count, readings, [], refused)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(f"sqlite:///{tmp_path}/songhua.db")
    metadata.create_all(engine)
    return engine


def consumer(engine: Engine, tmp_path: Path, store: Store) -> StoreConsumer:
    return StoreConsumer(store, engine, tmp_path / "store")  # type: ignore[arg-type]


async def test_each_reading_is_counted_as_exactly_one_thing(engine: Engine, tmp_path: Path) -> None:
    store = Store()
    store.refuse = {3}
    work = consumer(engine, tmp_path, store)
    await work.start()
    await work.accept(batch(1, 1, 2, 2, 3, 1, 5, 4))
    assert (work.stored, work.late, work.duplicate, work.rejected, work.readings) == (3, 1, 2, 1, 7)
    await work.stop()
    with engine.connect() as connection:
        row = connection.execute(select(tables.verdicts)).mappings().one()
    assert (row["reason"], row["detail"], row["sequence"]) == ("store_rejected", "field type conflict", 4)


async def test_a_late_reading_that_the_store_refuses_is_refused_and_not_late(engine: Engine, tmp_path: Path) -> None:
    store = Store()
    store.refuse = {3}
    work = consumer(engine, tmp_path, store)
    await work.start()
    await work.accept(batch(1, 5, 3, 4))
    assert (work.stored, work.late, work.rejected, work.readings) == (1, 1, 1, 3)


async def test_a_batch_that_failed_comes_again_and_is_not_taken_for_a_repetition(
    engine: Engine, tmp_path: Path
) -> None:
    store = Store()
    store.failures = 2
    work = consumer(engine, tmp_path, store)
    await work.start()
    again = batch(1, 1, 2, 3)
    for _ in range(2):
        with pytest.raises(TransientError):
            await work.accept(again)
        assert work.readings == 0
    await work.accept(again)
    assert (work.stored, work.duplicate, len(store.points)) == (3, 0, 3)


async def test_after_a_kill_what_was_not_committed_is_written_again_onto_itself(engine: Engine, tmp_path: Path) -> None:
    store = Store()
    work = consumer(engine, tmp_path, store)
    await work.start()
    journal = [batch(1, 1, 2), batch(3, 2, 1), batch(5, 7, 6)]
    await work.accept(journal[0])  # committed: the first commit is due at once
    await work.accept(journal[1])
    await work.accept(journal[2])  # written, its cursor not yet
    expected = (work.stored, work.late, work.duplicate)
    assert work.position == 0

    restarted = consumer(engine, tmp_path, store)
    after = await restarted.start()
    assert after == 0
    assert restarted.sequence < 6
    for item in journal:
        if item.last > after:
            await restarted.accept(item)
    assert (restarted.stored, restarted.late, restarted.duplicate) == expected == (3, 1, 2)
    assert len(store.points) == 4


async def test_a_failure_at_the_first_write_after_a_kill_sorts_the_past_only_once(
    engine: Engine, tmp_path: Path
) -> None:
    store = Store()
    work = consumer(engine, tmp_path, store)
    await work.start()
    await work.accept(batch(1, 1, flow=1.0))
    restarted = consumer(engine, tmp_path, store)
    await restarted.start()
    together = DecodedBatch.join([batch(1, 1, flow=1.0), batch(2, 1, flow=2.0)])
    store.failures = 1
    with pytest.raises(TransientError):
        await restarted.accept(together)
    await restarted.accept(together)
    await restarted.accept(batch(3, 1, flow=1.0))
    assert (restarted.stored, restarted.duplicate, restarted.conflicts) == (3, 0, 2)
    assert store.points["wm-1", 1].flow_rate == 1.0  # type: ignore[attr-defined]


async def test_what_was_damaged_between_ledger_and_store_is_quarantined_as_damaged(
    engine: Engine, tmp_path: Path
) -> None:
    ledger = Ledger(engine, DeviceClock())
    await ledger.start()
    ledger.observe(batch(1, 1, 2, 3))
    await ledger.commit()
    work = consumer(engine, tmp_path, Store())
    await work.start()
    lost = [Rejection(2, 0, Reason.damaged_record, "CRC", "journal", "", b"", 5_000)]
    await work.accept(DecodedBatch(1, 3, 5_000, 2, [*batch(1, 1).readings, *batch(3, 3).readings], [], lost))
    journal = SegmentJournal(tmp_path / "journal", quota_bytes=1 << 20)
    journal.start()
    journal.append([Message("native", "t", b"", 1, False, False, 1, 1, 1)] * 3)
    document = counters(journal, ledger, work)
    journal.close()
    assert document["quarantined_by_reason"] == {"damaged_record": 1}
    assert (document["stored"], document["quarantined"], document["pending"]) == (2, 1, 0)
    assert difference(document) == 0


async def test_a_snapshot_lets_the_journal_be_trimmed(engine: Engine, tmp_path: Path) -> None:
    work = consumer(engine, tmp_path, Store())
    await work.start()
    await work.accept(batch(1, 10, 20))
    await work.stop()
    assert work.position == 2
    restarted = consumer(engine, tmp_path, Store())
    await restarted.start()
    await restarted.accept(batch(3, 15))
    assert restarted.late == 1  # the watermark outlived the process


async def test_the_earlier_of_two_contradicting_readings_is_kept_as_a_verdict(engine: Engine, tmp_path: Path) -> None:
    work = consumer(engine, tmp_path, Store())
    await work.start()
    await work.accept(batch(1, 1))
    await work.accept(batch(2, 1, flow=2.0))
    await work.stop()
    with engine.connect() as connection:
        row = connection.execute(select(tables.verdicts)).mappings().one()
    assert (row["outcome"], row["sequence"], row["payload"]) == ("conflict", 1, b'{"time":1,"flow_rate":1.0}')


async def test_a_database_that_is_away_delays_the_cursor_and_not_the_store(engine: Engine, tmp_path: Path) -> None:
    store = Store()
    work = consumer(engine, tmp_path, store)
    await work.start()
    metadata.drop_all(engine)
    await work.accept(batch(1, 1))
    assert len(store.points) == 1
    assert "no such table" in work.database_error
    metadata.create_all(engine)
    work._commit_due = 0.0
    await work.accept(batch(2, 2))
    assert work.database_error == ""


async def test_the_ledger_counts_once_and_keeps_verdicts_until_the_database_takes_them(engine: Engine) -> None:
    ledger = Ledger(engine, DeviceClock())
    await ledger.start()
    ledger.observe(batch(1, 1, 2, rejections=2))
    metadata.drop_all(engine)
    with pytest.raises(TransientError):
        await ledger.commit()
    metadata.create_all(engine)
    await ledger.commit()
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.verdicts)) == 2
    again = Ledger(engine, DeviceClock())
    assert await again.start() == 4
    assert (again.messages, again.readings, again.reasons["malformed"]) == (4, 2, 2)
    with pytest.raises(ValueError, match="the ledger is at 4"):
        again.observe(batch(4, 1))


async def test_decoding_again_after_a_kill_adds_no_verdict(engine: Engine) -> None:
    for _ in range(2):
        await asyncio.to_thread(verdicts.commit, engine, "ledger", 4, {}, batch(1, 1, rejections=3).rejections)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.verdicts)) == 3


async def test_the_ledger_is_full_rather_than_boundless(engine: Engine) -> None:
    ledger = Ledger(engine, DeviceClock(), backlog_limit=3)
    await ledger.start()
    ledger.observe(batch(1, rejections=3))
    assert ledger.full
    await ledger.commit()
    assert not ledger.full
