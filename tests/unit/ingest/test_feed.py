"""Consumers go at their own pace: from memory near the head, from the journal behind it, again after a failure."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from devices.errors import TransientError
from devices.model import DecodedBatch
from devices.reasons import Reason
from ingest import consumer as consumer_module
from ingest.consumer import ConsumerTask
from ingest.feed import Feed
from storage.journal import Message
from storage.segments import SegmentJournal


def messages(count: int) -> list[Message]:
    return [Message("native", "t", b"%d" % i, 1, False, False, 1, 1, 1000 + i) for i in range(count)]


class Counting:
    """Decodes to empty batches and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, first: int, taken: Sequence[Message], provision: bool = False) -> DecodedBatch:
        self.calls += 1
        clock = max((m.received_at for m in taken), default=0)
        return DecodedBatch(first, first + len(taken) - 1, clock, len(taken), [], [], [])


class Recording:
    name = "recording"
    position = 0

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self.ranges: list[tuple[int, int]] = []
        self.idles = 0
        self.failures = 0

    async def start(self) -> int:
        return self.after

    async def accept(self, batch: DecodedBatch) -> None:
        if self.failures:
            self.failures -= 1
            raise TransientError("not now")
        self.ranges.append((batch.first, batch.last))

    async def idle(self, now: int) -> None:
        self.idles += 1


@pytest.fixture
def journal(tmp_path: Path) -> SegmentJournal:
    journal = SegmentJournal(tmp_path / "journal", quota_bytes=64 << 20)
    journal.start()
    return journal


async def fill(feed: Feed, journal: SegmentJournal, decode: Counting, *sizes: int) -> None:
    for size in sizes:
        batch = messages(size)
        last = journal.append(batch)
        await feed.publish(decode(last - size + 1, batch))


async def test_a_consumer_at_the_head_gets_what_the_live_path_decoded(journal: SegmentJournal) -> None:
    decode = Counting()
    feed = Feed(journal, decode)
    await fill(feed, journal, decode, 3)
    first = await feed.next(0, 1)
    await fill(feed, journal, decode, 2)
    second = await feed.next(3, 1)
    assert first is not None and second is not None
    assert ((first.first, first.last), (second.first, second.last)) == ((1, 3), (4, 5))
    assert decode.calls == 2
    assert await feed.next(5, 0.01) is None


async def test_small_batches_that_wait_come_as_one(journal: SegmentJournal) -> None:
    decode = Counting()
    feed = Feed(journal, decode, read_size=20)
    await fill(feed, journal, decode, *[3] * 10)
    whole = await feed.next(4, 1)
    assert whole is not None
    assert (whole.first, whole.last, whole.messages) == (5, 24, 20)
    assert decode.calls == 10


async def test_a_consumer_in_the_middle_of_a_batch_gets_its_rest(journal: SegmentJournal) -> None:
    decode = Counting()
    feed = Feed(journal, decode)
    await fill(feed, journal, decode, 5)
    rest = await feed.next(2, 1)
    assert rest is not None
    assert (rest.first, rest.last) == (3, 5)


async def test_a_consumer_behind_the_window_reads_the_journal_up_to_the_frontier(journal: SegmentJournal) -> None:
    decode = Counting()
    feed = Feed(journal, decode, window=4)
    await fill(feed, journal, decode, 3, 3, 3)
    after, seen = 0, []
    while (batch := await feed.next(after, 0.01)) is not None:
        seen.append((batch.first, batch.last))
        after = batch.last
    assert seen[0][0] == 1
    assert seen[-1][1] == 9
    assert all(b[0] == a[1] + 1 for a, b in pairwise(seen))


async def test_what_all_have_passed_is_forgotten_and_still_found_in_the_journal(journal: SegmentJournal) -> None:
    decode = Counting()
    feed = Feed(journal, decode)
    await fill(feed, journal, decode, 2, 2, 2)
    feed.forget(4)
    kept = await feed.next(4, 0.01)
    assert kept is not None and (kept.first, kept.last, decode.calls) == (5, 6, 3)
    again = await feed.next(0, 0.01)
    assert again is not None and (again.first, decode.calls) == (1, 4)


async def test_a_waiting_consumer_wakes_when_something_comes(journal: SegmentJournal) -> None:
    decode = Counting()
    feed = Feed(journal, decode)
    waiting = asyncio.create_task(feed.next(0, 5))
    await asyncio.sleep(0)
    await fill(feed, journal, decode, 1)
    batch = await asyncio.wait_for(waiting, 1)
    assert batch is not None and batch.last == 1


async def test_a_failing_consumer_gets_the_same_batch_again_and_holds_up_nobody(
    journal: SegmentJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_BACKOFF", (0.01, 0.02))
    decode = Counting()
    feed = Feed(journal, decode)
    troubled, healthy = Recording(), Recording()
    troubled.failures = 5
    tasks = [ConsumerTask(feed, troubled), ConsumerTask(feed, healthy)]
    running = [asyncio.create_task(task.run()) for task in tasks]
    async with asyncio.timeout(5):
        for size in (2, 2):
            await fill(feed, journal, decode, size)
            while tasks[1].position < journal.head:
                await asyncio.sleep(0)
        assert tasks[0].error == "not now"
        while tasks[0].position < 4:
            await asyncio.sleep(0.01)
    assert troubled.ranges == healthy.ranges == [(1, 2), (3, 4)]
    assert tasks[0].error == ""
    for task in running:
        task.cancel()


async def test_a_defect_of_a_consumer_is_not_swallowed(journal: SegmentJournal) -> None:
    class Broken(Recording):
        async def accept(self, batch: DecodedBatch) -> None:
            raise KeyError("defect")

    decode = Counting()
    feed = Feed(journal, decode)
    await fill(feed, journal, decode, 1)
    with pytest.raises(KeyError):
        await asyncio.wait_for(ConsumerTask(feed, Broken()).run(), 1)


async def test_every_message_of_a_damaged_stretch_keeps_one_outcome(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "journal", quota_bytes=64 << 20)
    journal.start()
    for _ in range(3):
        journal.append(messages(4))
    journal.close()
    (segment,) = (tmp_path / "journal").glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    journal = SegmentJournal(tmp_path / "journal", quota_bytes=64 << 20)
    journal.start()
    feed = Feed(journal, Counting())
    feed.start_at(journal.head)
    after, rejections, readable = 0, 0, 0
    while (batch := await feed.next(after, 0.01)) is not None:
        assert batch.first == after + 1
        rejections += sum(r.reason == Reason.damaged_record for r in batch.rejections)
        readable += batch.messages
        after = batch.last
    assert (rejections, readable, after) == (4, 8, 12)
