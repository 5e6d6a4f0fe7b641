"""The embedded journal on spoilt files: what is reported, what is skipped, and that sequences never go back."""

import errno
import os
import random
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from storage.journal import Damage, Message
from storage.journal_bounds import Bounds
from storage.journal_record import HEADER_BYTES, encode_body, encode_header
from storage.segments import SegmentJournal
from tests.faults import journal_damage
from tests.faults.journal_damage import Recorder, read_through, segment_files, telemetry

LARGE = 1 << 30


def opened(directory: Path) -> SegmentJournal:
    journal = SegmentJournal(directory, quota_bytes=LARGE, segment_bytes=8192)
    journal.start()
    return journal


def filled(directory: Path, records: int = 30) -> Recorder:
    """A closed journal of several segments and what is where in it."""
    journal = opened(directory)
    recorder = Recorder(journal, directory)
    for seed in range(records):
        recorder.append(telemetry(random.Random(seed), 4))
    journal.close()
    return recorder


def spoil(path: Path, offset: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def flip(path: Path, offset: int) -> None:
    spoil(path, offset, bytes([path.read_bytes()[offset] ^ 0x10]))


def damages(journal: SegmentJournal) -> list[Damage]:
    found: list[Damage] = []
    after = 0
    while part := journal.read(after, 10):
        found += part.damage
        after = part.first + len(part.messages) - 1
    return found


@pytest.mark.parametrize("offset", [*range(HEADER_BYTES), HEADER_BYTES, HEADER_BYTES + 100])
def test_one_flipped_bit_anywhere_in_a_record_loses_that_record_alone(tmp_path: Path, offset: int) -> None:
    recorder = filled(tmp_path)
    hit = recorder.extents[2]
    flip(tmp_path / hit.file, hit.start + offset)
    journal = opened(tmp_path)
    assert damages(journal) == [
        Damage(
            hit.file,
            hit.start,
            hit.end - hit.start,
            hit.first,
            hit.last,
            "body fails its checksum" if offset >= HEADER_BYTES else "header fails its checksum",
        )
    ]
    found, reported = read_through(journal)
    assert reported == set(range(hit.first, hit.last + 1))
    assert found == {s: m for s, m in recorder.messages.items() if s not in reported}
    assert journal.damage == 1
    journal.close()


def test_damage_is_reported_again_after_a_restart_and_in_every_pass(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    flip(tmp_path / recorder.extents[5].file, recorder.extents[5].start)
    journal = opened(tmp_path)
    first = damages(journal)
    assert damages(journal) == first
    assert journal.damage == len(first) == 1
    journal.close()
    assert damages(opened(tmp_path)) == first


def test_damage_opens_a_batch_and_never_stands_inside_one(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    hit = recorder.extents[1]
    flip(tmp_path / hit.file, hit.start + 50)
    journal = opened(tmp_path)
    before = journal.read(0, 1000)
    assert before is not None
    assert (before.first, len(before.messages), before.damage) == (1, 4, [])
    behind = journal.read(4, 1000)
    assert behind is not None
    assert [(d.first, d.last) for d in behind.damage] == [(5, 8)]
    assert behind.first == 9
    inside = journal.read(6, 1000)
    assert inside is not None
    assert inside.damage == behind.damage
    beyond = journal.read(8, 1000)
    assert beyond is not None
    assert (beyond.first, beyond.damage) == (9, [])
    journal.close()


def test_a_truncated_middle_segment_is_reported_up_to_the_next(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    victim = segment_files(tmp_path)[1]
    inside = [e for e in recorder.extents if e.file == victim.name]
    os.truncate(victim, inside[2].start)
    journal = opened(tmp_path)
    assert [(d.first, d.last, d.detail) for d in damages(journal)] == [
        (inside[2].first, inside[-1].last, "segment ends early")
    ]
    journal.close()


@pytest.mark.parametrize("keep_records", [0, 1])
@pytest.mark.parametrize("extra", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 9])
def test_a_truncated_newest_segment_never_gives_its_sequences_away(
    tmp_path: Path, keep_records: int, extra: int
) -> None:
    recorder = filled(tmp_path)
    head = max(recorder.messages)
    victim = segment_files(tmp_path)[-1]
    inside = [e for e in recorder.extents if e.file == victim.name]
    os.truncate(victim, inside[keep_records].start + extra)
    journal = opened(tmp_path)
    assert journal.head == head
    assert journal.torn == 0
    expected = [(inside[keep_records].first, head)]
    assert [(d.first, d.last) for d in damages(journal)] == expected
    fresh = telemetry(random.Random(9), 3)
    assert journal.append(fresh) == head + 3
    assert [(d.first, d.last) for d in damages(journal)] == expected
    journal.close()
    again = opened(tmp_path)
    assert [(d.first, d.last) for d in damages(again)] == expected
    assert read_through(again, head)[0] == dict(enumerate(fresh, head + 1))
    again.close()


def test_damage_up_to_the_head_comes_without_messages(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    last = recorder.extents[-1]
    flip(tmp_path / last.file, last.start)
    journal = opened(tmp_path)
    part = journal.read(last.first - 1, 10)
    assert part is not None
    assert part.messages == []
    assert part.first == last.last + 1 == journal.head + 1
    assert journal.read(part.first - 1, 10) is None
    journal.close()


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_deleted_segment_is_reported_and_its_sequences_stay_taken(tmp_path: Path, which: int) -> None:
    recorder = filled(tmp_path)
    victim = segment_files(tmp_path)[which]
    lost = {s for e in recorder.extents if e.file == victim.name for s in range(e.first, e.last + 1)}
    victim.unlink()
    journal = opened(tmp_path)
    assert journal.head == max(recorder.messages)
    assert read_through(journal)[1] == lost
    journal.close()


def test_all_segments_deleted_leaves_the_head_where_it_was(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    for path in segment_files(tmp_path):
        path.unlink()
    journal = opened(tmp_path)
    assert journal.head == max(recorder.messages)
    assert [(d.first, d.last) for d in damages(journal)] == [(1, journal.head)]
    assert journal.append(telemetry(random.Random(1), 1)) == max(recorder.messages) + 1
    journal.close()


def test_a_segment_deleted_while_reading_is_damage_not_a_crash(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    journal = opened(tmp_path)
    victim = segment_files(tmp_path)[1]
    victim.unlink()
    lost = {s for e in recorder.extents if e.file == victim.name for s in range(e.first, e.last + 1)}
    assert read_through(journal)[1] == lost
    journal.close()


def test_trimmed_messages_are_not_missing(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = opened(tmp_path)
    journal.trim(60)
    assert journal.tail > 1
    assert damages(journal) == []
    journal.close()
    segment_files(tmp_path)[0].unlink()
    journal = opened(tmp_path)
    assert len(damages(journal)) == 1
    journal.close()


def test_pages_the_disk_cannot_read_lose_their_records_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = filled(tmp_path)
    hit = next(e for e in recorder.extents if e.file == recorder.extents[0].file and e.end > 4096)

    class BadSector:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def pread(self, descriptor: int, length: int, offset: int) -> bytes:
            if Path(f"/proc/self/fd/{descriptor}").readlink().name == hit.file and offset <= 4096 < offset + length:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return os.pread(descriptor, length, offset)

    monkeypatch.setattr("storage.journal_record.os", BadSector())
    journal = opened(tmp_path)
    found, reported = read_through(journal)
    bad_page = {
        s
        for e in recorder.extents
        if e.file == hit.file and e.start < 8192 and e.end > 4096
        for s in range(e.first, e.last + 1)
    }
    assert reported == bad_page
    assert found == {s: m for s, m in recorder.messages.items() if s not in bad_page}
    journal.close()


def test_a_record_inside_a_payload_is_never_taken_for_one(tmp_path: Path) -> None:
    forged = telemetry(random.Random(66), 2)
    body = encode_body(forged)
    payload = encode_header(b"shj\x01" + bytes(8), 1, 2, body) + body
    journal = opened(tmp_path)
    recorder = Recorder(journal, tmp_path)
    for _ in range(3):
        recorder.append([Message("native", "t", payload, 1, False, False, 1, 1, 1)])
    journal.close()
    for extent in recorder.extents[:2]:
        flip(tmp_path / extent.file, extent.start)
    journal = opened(tmp_path)
    found, reported = read_through(journal)
    assert reported == {1, 2}
    assert found == {3: recorder.messages[3]}
    journal.close()


def test_a_record_written_over_a_later_one_is_not_read_twice(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    recorder = Recorder(journal, tmp_path)
    message = telemetry(random.Random(1), 1)[0]
    for _ in range(4):
        recorder.append([message])
    journal.close()
    stray, hit = recorder.extents[0], recorder.extents[2]
    path = tmp_path / hit.file
    spoil(path, hit.start, path.read_bytes()[stray.start : stray.end])
    journal = opened(tmp_path)
    found, reported = read_through(journal)
    assert reported == {3}
    assert found.keys() == {1, 2, 4}
    journal.close()


def test_what_stands_behind_the_end_of_a_segment_is_not_read_even_where_its_end_is_damaged(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    victim = segment_files(tmp_path)[0]
    last = [e for e in recorder.extents if e.file == victim.name][-1]
    body = encode_body(telemetry(random.Random(66), 4))
    refused = encode_header(victim.read_bytes()[:12], last.last + 1, 4, body) + body
    spoil(victim, last.end, refused)
    flip(victim, last.start)
    journal = opened(tmp_path)
    found, reported = read_through(journal)
    assert reported == set(range(last.first, last.last + 1))
    assert found == {s: m for s, m in recorder.messages.items() if s not in reported}
    journal.close()


def test_a_whole_record_that_does_not_decode_is_damage(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    recorder = Recorder(journal, tmp_path)
    for seed in range(3):
        recorder.append(telemetry(random.Random(seed), 4))
    journal.close()
    hit = recorder.extents[1]
    path = tmp_path / hit.file
    data = path.read_bytes()
    body = b"\xa3" + data[hit.start + HEADER_BYTES + 1 : hit.end]
    spoil(path, hit.start, encode_header(data[hit.start : hit.start + 12], hit.first, 4, body) + body)
    journal = opened(tmp_path)
    assert [(d.first, d.last, d.detail) for d in damages(journal)] == [(5, 8, "record does not decode")]
    assert set(read_through(journal)[0]) == {1, 2, 3, 4, 9, 10, 11, 12}
    journal.close()


@pytest.mark.parametrize("content", [b"", b"x", bytes(64), b"shb\x01" + bytes(200)])
def test_spoilt_bounds_lose_nothing_that_is_in_the_segments(tmp_path: Path, content: bytes) -> None:
    recorder = filled(tmp_path)
    (tmp_path / "bounds").write_bytes(content)
    journal = opened(tmp_path)
    assert journal.head == max(recorder.messages)
    assert read_through(journal) == (recorder.messages, set())
    journal.close()


def test_any_flipped_bit_of_the_bounds_is_noticed() -> None:
    packed = Bounds(1, 2, 3, 4, bytes(range(16))).pack()
    assert Bounds.unpack(packed) == Bounds(1, 2, 3, 4, bytes(range(16)))
    for bit in range(len(packed) * 8):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << bit % 8
        assert Bounds.unpack(bytes(changed)) is None


def test_without_bounds_a_record_that_ends_early_is_cut_and_counted(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    last = recorder.extents[-1]
    os.truncate(tmp_path / last.file, last.end - 3)
    (tmp_path / "bounds").unlink()
    journal = opened(tmp_path)
    assert (journal.head, journal.torn) == (last.first - 1, 1)
    assert damages(journal) == []
    assert journal.append(telemetry(random.Random(5), 2)) == last.first + 1
    assert set(read_through(journal)[0]) == set(range(1, last.first + 2))
    journal.close()


@pytest.mark.parametrize("offset", [0, 14, HEADER_BYTES + 5])
def test_without_bounds_a_damaged_end_skips_all_it_can_have_held(tmp_path: Path, offset: int) -> None:
    recorder = filled(tmp_path)
    last = recorder.extents[-1]
    flip(tmp_path / last.file, last.start + offset)
    (tmp_path / "bounds").unlink()
    journal = opened(tmp_path)
    assert journal.head >= last.last
    assert journal.torn == 0
    if offset >= HEADER_BYTES:
        assert journal.head == last.last
    assert [d.first for d in damages(journal)] == [last.first]
    journal.close()


def test_without_bounds_a_newest_segment_of_zeros_skips_all_it_can_have_held(tmp_path: Path) -> None:
    recorder = filled(tmp_path)
    newest = segment_files(tmp_path)[-1]
    newest.write_bytes(bytes(newest.stat().st_size))
    (tmp_path / "bounds").unlink()
    journal = opened(tmp_path)
    assert journal.head >= max(recorder.messages)
    journal.close()


def test_after_a_power_cut_a_lost_newest_segment_skips_all_it_was_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    recorder = Recorder(journal, tmp_path)
    stale = b""
    for seed in range(30):
        newest = segment_files(tmp_path)[-1:]
        recorder.append(telemetry(random.Random(seed), 4))
        if segment_files(tmp_path)[-1:] != newest:
            stale = (tmp_path / "bounds").read_bytes()
    journal.close()
    (tmp_path / "bounds").write_bytes(stale)
    segment_files(tmp_path)[-1].unlink()
    monkeypatch.setattr("storage.segments.boot_id", lambda: bytes(range(16)))
    again = opened(tmp_path)
    assert again.head >= max(recorder.messages)
    assert again.append(telemetry(random.Random(5), 1)) > max(recorder.messages)
    again.close()


def test_row_16_a_hundred_of_each_damage_start_and_nothing_wrong_is_read() -> None:
    figures = journal_damage.run(100, seed=16)
    assert journal_damage.sound(figures), figures
    assert {f["cases"] for f in figures.values()} == {100}


def test_row_16_would_notice_a_journal_without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoChecksum:
        @staticmethod
        def value(_data: bytes) -> int:
            return 0

    monkeypatch.setattr("storage.journal_record.google_crc32c", NoChecksum)
    assert google_crc32c.value(b"x") != 0
    assert not journal_damage.sound(journal_damage.run(30, seed=16))
