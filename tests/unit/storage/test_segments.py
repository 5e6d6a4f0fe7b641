"""The embedded journal seen from its port: order, restart, trimming, quota, one holder, concurrent reading."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from devices.errors import ConfigError, TransientError
from storage.journal import Journal, Message
from storage.journal_bounds import Bounds
from storage.segments import SegmentJournal
from tests.faults.journal_damage import read_through, segment_files, telemetry

LARGE = 1 << 30


def opened(directory: Path, **options: int) -> SegmentJournal:
    journal = SegmentJournal(directory, **({"quota_bytes": LARGE} | options))
    journal.start()
    return journal


def batch(count: int, seed: int = 1) -> list[Message]:
    return telemetry(random.Random(seed), count)


def test_a_message_comes_back_field_by_field(tmp_path: Path) -> None:
    journal: Journal = opened(tmp_path)
    message = Message("主", "a/b", b"\x00\xff", 2, True, True, 65_535, 1 << 40, 1_767_225_600_000, {"键": "值", "": ""})
    journal.append([message])
    found = journal.read(0, 10)
    assert found is not None
    assert found.messages == [message]
    journal.close()


def test_sequences_count_from_one_without_gaps(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert (journal.head, journal.tail, journal.size) == (0, 1, 0)
    assert [journal.append(batch(n)) for n in (3, 1, 5)] == [3, 4, 9]
    assert (journal.head, journal.tail) == (9, 1)
    assert journal.size == journal.bytes == sum(path.stat().st_size for path in segment_files(tmp_path))
    assert journal.records == 3
    journal.close()


def test_an_empty_batch_writes_nothing(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert journal.append([]) == 0
    assert segment_files(tmp_path) == []
    journal.close()


def test_any_sequence_of_messages_is_taken(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    messages = batch(4)
    journal.append(tuple(messages))
    assert list(read_through(journal)[0].values()) == messages
    journal.close()


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_reading_from_any_position_gives_the_rest(tmp_path: Path, limit: int) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    messages = batch(120)
    for start in range(0, 120, 8):
        journal.append(messages[start : start + 8])
    for after in range(121):
        found: list[Message] = []
        position = after
        while part := journal.read(position, limit):
            assert part.first == position + 1
            assert part.damage == []
            found += part.messages
            position = part.first + len(part.messages) - 1
        assert found == messages[after:]
    journal.close()


def test_reading_stops_at_the_limit_with_whole_records(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for seed in range(5):
        journal.append(batch(10, seed))
    part = journal.read(0, 15)
    assert part is not None
    assert len(part.messages) == 20
    journal.close()


def test_restart_continues_where_it_ended(tmp_path: Path) -> None:
    first = opened(tmp_path, segment_bytes=4096)
    messages = batch(90)
    for start in range(0, 90, 9):
        first.append(messages[start : start + 9])
    first.close()
    first.close()
    second = opened(tmp_path, segment_bytes=4096)
    assert second.head == 90
    more = batch(5, seed=2)
    assert second.append(more) == 95
    assert list(read_through(second)[0].values()) == messages + more
    assert second.torn == 0
    second.close()


def test_a_reader_at_the_head_gets_what_is_appended_next(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=2048)
    position = 0
    for seed in range(30):
        messages = batch(3, seed)
        journal.append(messages)
        part = journal.read(position, 100)
        assert part is not None
        assert part.messages == messages
        position += 3
        assert journal.read(position, 100) is None
    journal.close()


def test_trim_unlinks_whole_segments_only(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    messages = batch(200)
    for start in range(0, 200, 5):
        journal.append(messages[start : start + 5])
    before = len(segment_files(tmp_path))
    journal.trim(100)
    assert 1 < journal.tail <= 101
    assert 0 < len(segment_files(tmp_path)) < before
    assert journal.size == sum(path.stat().st_size for path in segment_files(tmp_path))
    found, damaged = read_through(journal)
    assert damaged == set()
    assert found == {s: messages[s - 1] for s in range(journal.tail, 201)}
    journal.trim(200)
    assert len(segment_files(tmp_path)) == 1
    tail = journal.tail
    journal.close()
    again = opened(tmp_path, segment_bytes=4096)
    assert (again.tail, again.head) == (tail, 200)
    assert read_through(again)[1] == set()
    again.close()


def test_a_reader_behind_everything_trimmed_is_sent_to_the_head(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(batch(3))
    journal.close()
    for path in segment_files(tmp_path):
        path.unlink()
    (tmp_path / "bounds").write_bytes(Bounds(3, 3, 1, 3, bytes(16)).pack())
    journal = opened(tmp_path)
    part = journal.read(0, 10)
    assert part is not None
    assert (part.first, part.messages, part.damage) == (4, [], [])
    assert journal.read(3, 10) is None
    journal.close()


def test_trim_keeps_the_newest_bytes(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=4096, keep_bytes=20_000)
    for seed in range(100):
        journal.append(batch(5, seed))
    journal.trim(journal.head)
    assert 20_000 <= journal.size < 20_000 + 2 * 4096 + 4096
    journal.close()


def test_quota_refuses_until_trimmed_and_needs_no_restart(tmp_path: Path) -> None:
    journal = opened(tmp_path, quota_bytes=40_000)
    with pytest.raises(TransientError, match="quota"):
        for seed in range(1000):
            journal.append(batch(5, seed))
    head, size = journal.head, journal.size
    assert size <= 40_000
    with pytest.raises(TransientError):
        journal.append(batch(50))
    assert (journal.head, journal.size) == (head, size)
    journal.trim(head)
    assert journal.append(batch(5)) == head + 5
    journal.close()


def test_keeping_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        SegmentJournal(tmp_path, quota_bytes=100, keep_bytes=100)


def test_construction_touches_nothing(tmp_path: Path) -> None:
    SegmentJournal(tmp_path / "journal", quota_bytes=LARGE)
    assert list(tmp_path.iterdir()) == []


def test_appending_before_start_or_after_close_is_an_error(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path, quota_bytes=LARGE)
    with pytest.raises(RuntimeError):
        journal.append(batch(1))
    journal.start()
    journal.append(batch(1))
    journal.close()
    with pytest.raises(RuntimeError):
        journal.append(batch(1))


def test_a_second_process_is_refused_by_name_of_the_holder(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    program = (
        "import sys; from pathlib import Path; from storage.segments import SegmentJournal\n"
        "from devices.errors import ConfigError\n"
        "try: SegmentJournal(Path(sys.argv[1]), quota_bytes=1<<20).start()\n"
        "except ConfigError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert f"in use by process {os.getpid()}" in said.stdout
    assert journal.append(batch(2)) == 2
    journal.close()
    assert opened(tmp_path).head == 2


def test_a_directory_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="file"):
        SegmentJournal(tmp_path / "file", quota_bytes=LARGE).start()


def test_foreign_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "notes.segment").write_text("mine")
    journal = opened(tmp_path)
    journal.append(batch(3))
    journal.trim(3)
    journal.close()
    assert opened(tmp_path).head == 3
    assert (tmp_path / "notes.segment").read_text() == "mine"


def test_readers_in_other_threads_see_only_whole_durable_batches(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=16_384)
    messages = batch(4_000)
    done = threading.Event()
    problems: list[str] = []

    def follow() -> None:
        position = 0
        while position < len(messages):
            part = journal.read(position, 50)
            if part is None:
                if done.wait(0.001) and position >= journal.head:
                    break
                continue
            if part.damage or part.messages != messages[part.first - 1 : part.first - 1 + len(part.messages)]:
                problems.append(f"after {position}: {part.damage}")
                break
            position = part.first + len(part.messages) - 1
        if position != len(messages):
            problems.append(f"stopped at {position}")

    readers = [threading.Thread(target=follow) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(0, 4_000, 20):
        journal.append(messages[start : start + 20])
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    journal.close()
