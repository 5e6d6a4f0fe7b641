"""What comes again keeps the time at which it came first; what only looks the same does not."""

from pathlib import Path

import pytest

from ingest.redelivery import FirstReceiveTimes
from storage.journal import Message
from storage.segments import SegmentJournal


def message(identifier: int, generation: int, received_at: int, *, duplicate: bool = False) -> Message:
    return Message("native", "t", b'{"flow_rate":0}', 1, False, duplicate, identifier, generation, received_at)


@pytest.fixture
def journal(tmp_path: Path) -> SegmentJournal:
    journal = SegmentJournal(tmp_path / "journal", quota_bytes=64 << 20)
    journal.start()
    return journal


def test_a_redelivery_keeps_its_first_receive_time(journal: SegmentJournal) -> None:
    journal.append([message(7, 1, 1000)])
    again = message(7, 2, 9000, duplicate=True)
    FirstReceiveTimes(journal).restore([again])
    assert again.received_at == 1000


def test_the_same_words_in_another_message_are_another_event(journal: SegmentJournal) -> None:
    journal.append([message(7, 1, 1000)])
    other = message(8, 2, 9000, duplicate=True)
    FirstReceiveTimes(journal).restore([other])
    assert other.received_at == 9000


def test_identifiers_come_round_and_the_newest_counts(journal: SegmentJournal) -> None:
    journal.append([message(7, 1, 1000), message(7, 1, 2000)])
    again = message(7, 2, 9000, duplicate=True)
    FirstReceiveTimes(journal).restore([again])
    assert again.received_at == 2000


@pytest.mark.parametrize("together", [True, False])
def test_a_first_delivery_that_is_not_yet_journalled_counts_too(journal: SegmentJournal, together: bool) -> None:
    times = FirstReceiveTimes(journal)
    trigger, first, again = (
        message(1, 2, 8000, duplicate=True),
        message(7, 1, 1000),
        message(7, 2, 9000, duplicate=True),
    )
    if together:
        times.restore([first, again])
    else:
        times.restore([trigger])
        times.restore([first])
        times.restore([again])
    assert again.received_at == 1000
