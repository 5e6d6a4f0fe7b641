"""The live path where the journal takes nothing."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from devices.errors import TransientError
from devices.profile import load_profiles
from ingest import pipeline as pipeline_module
from ingest.decode import Decoder
from ingest.device_time import DeviceClock
from ingest.feed import Feed
from ingest.inbox import Inbox
from ingest.ledger import Ledger
from ingest.pipeline import Pipeline
from ingest.routing import Router
from storage.journal import Message
from storage.metadata import metadata, open_engine
from storage.segments import SegmentJournal

MESSAGE = Message("songhua", "songhua/v1/230102/gw/m/up", b"{}", 1, False, False, 1, 1, 1_767_225_600_000)


class StubbornJournal(SegmentJournal):
    refuses = False

    def append(self, messages: Sequence[Message]) -> int:
        if self.refuses:
            raise TransientError("the disk is full")
        return super().append(messages)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_while_the_journal_refuses_it_says_why_and_since_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "_DISK_RETRY", 0.01)
    journal = StubbornJournal(tmp_path / "journal", quota_bytes=1 << 24, keep_bytes=0)
    journal.start()
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    metadata.create_all(engine)
    clock = DeviceClock()
    decoder = Decoder(Router(load_profiles()), clock)
    inbox, ledger, feed = Inbox(), Ledger(engine, clock), Feed(journal, decoder.decode)
    await ledger.start()
    feed.start_at(0)

    async def refresh() -> None:
        return None

    pipeline = Pipeline(inbox, journal, decoder, ledger, feed, refresh)
    running = asyncio.create_task(pipeline.run())
    journal.refuses = True
    inbox.deliver([MESSAGE])
    await until(lambda: pipeline.refused_since is not None)
    assert "full" in pipeline.journal_error
    await asyncio.sleep(0.05)
    assert pipeline.refused_since == MESSAGE.received_at
    journal.refuses = False
    await until(lambda: journal.head == 1)
    assert (pipeline.journal_error, pipeline.refused_since) == ("", None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    journal.close()
    engine.dispose()
