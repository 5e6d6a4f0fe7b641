"""Lists of stored readings: few messages, much work. What bounds memory and steps must see through them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from devices.catalogue import load
from devices.model import DecodedBatch, Device, Reading
from ingest.feed import Feed
from ingest.order import SeriesOrder
from storage.journal import HEAVIEST, ORDINARY_BYTES, Message, portions, weigh
from storage.segments import SegmentJournal

_METER = load().values_class("water_meter")
_DEVICE = Device(
    id="wm-1", family="water_meter", profile="songhua/wm-15", district="230102", zone="z", gateway="g", interval=1000
)
LIST = 200  # readings in a message


def message(size: int) -> Message:
    return Message("history", "t", bytes(size), 1, False, False, 1, 1, 1_000)


def decode(first: int, taken: Sequence[Message], provision: bool = False) -> DecodedBatch:
    """Each message is a list."""
    readings = [
        Reading(_DEVICE, sequence * LIST + i, _METER(flow_rate=1.0), 1_000, "g", sequence, i)  # type: ignore[call-arg]
        for sequence in range(first, first + len(taken))
        for i in range(LIST)
    ]
    return DecodedBatch(first, first + len(taken) - 1, 1_000, len(taken), readings, [], [])


@pytest.mark.parametrize("size", [0, 277, 8_000, 1_000_000])
def test_portions_hold_everything_in_order_and_none_is_heavy(size: int) -> None:
    messages = [message(size) for _ in range(4_321)] if size < 100_000 else [message(size) for _ in range(9)]
    cut = list(portions(messages, 2_000))
    assert [each for portion in cut for each in portion] == messages
    assert all(len(portion) <= 2_000 and (weigh(portion) <= HEAVIEST or len(portion) == 1) for portion in cut)
    assert len(cut) <= 1 + 2.5 * max(len(messages) / 2_000, weigh(messages) / HEAVIEST)


def test_a_read_of_the_journal_stops_at_bytes_as_well(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "journal", quota_bytes=64 << 20)
    journal.start()
    for _ in range(20):
        journal.append([message(10 * ORDINARY_BYTES)] * 10)
    batch = journal.read(0, 200)
    assert batch is not None and len(batch.messages) == 20
    journal.close()


async def test_consumers_get_lists_a_few_at_a_time_and_memory_holds_no_more(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "journal", quota_bytes=64 << 20)
    journal.start()
    read_again: list[int] = []

    def decode_again(first: int, taken: Sequence[Message], provision: bool = False) -> DecodedBatch:
        read_again.append(first)
        return decode(first, taken)

    feed = Feed(journal, decode_again, window=10 * LIST, read_size=3 * LIST)
    for _ in range(30):
        taken = [message(LIST * 40)]
        await feed.publish(decode(journal.append(taken), taken))
    after = 20
    while (batch := await feed.next(after, 0.01)) is not None:
        assert (batch.first, len(batch.readings)) == (after + 1, min(3, 30 - after) * LIST)
        after = batch.last
    assert (after, read_again) == (30, [])
    for after in (0, 19):
        behind = await feed.next(after, 0.01)
        assert behind is not None and behind.first == after + 1
    assert read_again == [1, 20]
    journal.close()


def test_what_must_be_sorted_again_after_a_restart_begins_with_the_oldest_reading_remembered() -> None:
    before = SeriesOrder(remembered=10 * LIST)
    assert before.oldest == 0
    for sequence in range(1, 31):
        before.sort(decode(sequence, [message(0)]).readings)
    assert 5 <= 31 - before.oldest <= 12
    after = SeriesOrder(remembered=10 * LIST)
    after.restore(before.snapshot())
    for sequence in range(before.oldest, 31):
        after.sort(decode(sequence, [message(0)]).readings)
    for sequence in (1, before.oldest - 1, before.oldest, 30):
        first, second = (order.sort(decode(sequence, [message(0)]).readings) for order in (before, after))
        assert (first.duplicate, first.late) == (second.duplicate, second.late)
