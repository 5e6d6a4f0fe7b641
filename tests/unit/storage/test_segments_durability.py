"""The embedded journal on a disk that forgets: what an append promises, and what it does when the disk refuses."""

import random
from pathlib import Path
from typing import Any

import pytest

from devices.errors import TransientError
from storage.journal import Message
from tests.faults.journal_damage import read_through, segment_files, telemetry
from tests.faults.power_cut import BROKEN, FULL, Machine


def batch(count: int, seed: int = 1) -> list[Message]:
    return telemetry(random.Random(seed), count)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_every_append_that_returned_survives_the_power_cut_right_after_it(machine: Machine) -> None:
    expected: dict[int, Message] = {}
    for seed in range(40):
        messages = batch(6, seed)
        last = machine.journal.append(messages)
        expected.update(enumerate(messages, last - 5))
        machine.power_cut()
        assert machine.journal.head == last
    assert read_through(machine.journal) == (expected, set())


def test_the_disk_double_notices_an_append_without_its_sync(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.journal.append(batch(3))
    monkeypatch.setattr(machine.disk, "fdatasync", lambda _descriptor: None)
    machine.journal.append(batch(3))
    assert machine.power_cut().head == 3


def test_the_disk_double_notices_a_segment_without_its_directory_sync(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.journal, "_sync_directory", lambda: None)
    machine.journal.append(batch(3))
    assert machine.power_cut().head == 0


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_in_the_middle_of_an_append_leaves_no_damage(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    known = batch(10, seed)
    machine.journal.append(known)
    lost = batch(10, seed + 1000)

    def power_fails(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine.disk, "fdatasync", power_fails)
    with pytest.raises(KeyboardInterrupt):
        machine.journal.append(lost)
    journal = machine.power_cut(torn=rng)
    found, damaged = read_through(journal)
    assert damaged == set()
    assert list(found.values()) in (known, known + lost)
    assert journal.append(batch(1)) == len(found) + 1


def test_kill_in_the_middle_of_an_append_cuts_its_tail(machine: Machine) -> None:
    machine.journal.append(batch(10))
    newest = segment_files(machine.disk.directory)[-1]
    machine.disk.kill()
    with newest.open("ab") as file:
        file.write(newest.read_bytes()[:200])
    journal = machine.boot()
    assert (journal.head, journal.torn) == (10, 1)
    assert journal.append(batch(2)) == 12
    assert read_through(journal)[1] == set()
    assert machine.kill().torn == 0


def test_a_full_disk_refuses_and_then_goes_on_without_restart(machine: Machine) -> None:
    machine.journal.append(batch(3))
    size = machine.journal.size
    machine.disk.failures["pwritev"] = [FULL] * 3
    for _ in range(3):
        with pytest.raises(TransientError, match="No space left"):
            machine.journal.append(batch(5))
    assert (machine.journal.head, machine.journal.size) == (3, size)
    assert segment_files(machine.disk.directory)[-1].stat().st_size == size
    assert machine.journal.append(batch(4)) == 7
    assert machine.power_cut().head == 7


def test_a_disk_that_fills_up_halfway_leaves_nothing_of_the_batch(machine: Machine) -> None:
    machine.journal.append(batch(3))
    size = machine.journal.size
    machine.disk.short_write = True
    machine.disk.failures["pwrite"] = [FULL]
    with pytest.raises(TransientError):
        machine.journal.append(batch(5))
    assert segment_files(machine.disk.directory)[-1].stat().st_size == size
    assert machine.journal.append(batch(4)) == 7  # still in two writes, but both succeed
    assert len(read_through(machine.power_cut())[0]) == 7


def test_a_full_disk_at_the_start_of_a_segment_refuses_and_recovers(machine: Machine) -> None:
    machine.disk.failures["open"] = [FULL]
    with pytest.raises(TransientError):
        machine.journal.append(batch(5))
    machine.disk.failures["fsync"] = [FULL]
    with pytest.raises(TransientError):
        machine.journal.append(batch(5))
    assert segment_files(machine.disk.directory) == []
    assert machine.journal.append(batch(4)) == 4
    assert machine.power_cut().head == 4


def test_after_a_failed_sync_the_batch_is_written_anew_elsewhere(machine: Machine) -> None:
    known = batch(3)
    machine.journal.append(known)
    before = segment_files(machine.disk.directory)
    machine.disk.failures["fdatasync"] = [BROKEN]
    again = batch(5, seed=2)
    with pytest.raises(TransientError, match="sync"):
        machine.journal.append(again)
    assert machine.journal.head == 3
    assert machine.journal.append(again) == 8
    assert len(segment_files(machine.disk.directory)) == len(before) + 1
    found, damaged = read_through(machine.power_cut())
    assert damaged == set()
    assert list(found.values()) == known + again


def test_a_failed_sync_of_the_very_first_batch_is_written_anew(machine: Machine) -> None:
    machine.disk.failures["fdatasync"] = [BROKEN]
    with pytest.raises(TransientError):
        machine.journal.append(batch(5))
    assert machine.journal.append(batch(5)) == 5
    assert len(read_through(machine.power_cut())[0]) == 5


def test_what_a_failed_append_left_behind_is_not_read_after_a_restart(machine: Machine) -> None:
    known = batch(3)
    machine.journal.append(known)
    machine.disk.failures["fdatasync"] = [BROKEN]
    machine.disk.failures["ftruncate"] = [BROKEN]
    with pytest.raises(TransientError):
        machine.journal.append(batch(5, seed=2))
    instead = batch(7, seed=3)
    machine.journal.append(instead)
    found, damaged = read_through(machine.kill())
    assert damaged == set()
    assert list(found.values()) == known + instead


def test_what_a_failed_sync_left_in_memory_is_written_again_before_it_is_read(machine: Machine) -> None:
    machine.disk.failures["fdatasync"] = [BROKEN]
    machine.disk.failures["ftruncate"] = [BROKEN]
    with pytest.raises(TransientError):
        machine.journal.append(batch(5))
    found, _ = read_through(machine.kill())
    assert len(found) == 5
    assert read_through(machine.power_cut()) == (found, set())


def test_a_broken_write_that_cannot_be_cut_back_is_left_for_good(machine: Machine) -> None:
    known = batch(3)
    machine.journal.append(known)
    machine.disk.short_write = True
    machine.disk.failures["pwrite"] = [BROKEN]
    machine.disk.failures["ftruncate"] = [BROKEN]
    with pytest.raises(TransientError):
        machine.journal.append(batch(5, seed=2))
    machine.disk.short_write = False
    instead = batch(7, seed=3)
    machine.journal.append(instead)
    for journal in (machine.journal, machine.kill()):
        found, damaged = read_through(journal)
        assert damaged == set()
        assert list(found.values()) == known + instead


def test_bounds_that_cannot_be_written_do_not_fail_an_append(machine: Machine) -> None:
    machine.journal.append(batch(3))
    machine.disk.failures["pwrite"] = [BROKEN]
    assert machine.journal.append(batch(3)) == 6
    assert machine.kill().head == 6


def test_a_failed_trim_can_be_repeated(machine: Machine) -> None:
    for seed in range(40):
        machine.journal.append(batch(5, seed))
    tail = machine.journal.tail
    machine.disk.failures["fsync"] = [BROKEN]
    with pytest.raises(TransientError):
        machine.journal.trim(150)
    assert machine.journal.tail == tail
    machine.journal.trim(150)
    assert machine.journal.tail > tail
    assert read_through(machine.power_cut())[1] == set()


@pytest.mark.parametrize("crash_at", ["before the files", "before the directory sync"])
def test_a_power_cut_within_a_trim_makes_nothing_look_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    for seed in range(40):
        machine.journal.append(batch(5, seed))

    def interrupted(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if crash_at == "before the files":
            patch.setattr(Path, "unlink", interrupted)
        else:
            patch.setattr(machine.journal, "_sync_directory", interrupted)
        with pytest.raises(KeyboardInterrupt):
            machine.journal.trim(150)
    for seed in range(10):
        journal = machine.power_cut(torn=random.Random(seed))
        found, damaged = read_through(journal)
        assert damaged == set()
        assert found.keys() == set(range(journal.tail, 201))
    journal.trim(200)
    assert len(segment_files(machine.disk.directory)) == 1


def test_a_clean_end_is_not_believed_after_later_appends(machine: Machine) -> None:
    machine.journal.append(batch(3))
    machine.journal.close()
    last = machine.boot().append(batch(3, seed=2))

    def spoil_last_byte(directory: Path) -> None:
        newest = segment_files(directory)[-1]
        data = newest.read_bytes()
        newest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    journal = machine.power_cut(spoil=spoil_last_byte)
    assert (journal.head, journal.torn) == (last, 0)
    assert read_through(journal)[1] == {4, 5, 6}


def test_an_append_costs_one_sync(machine: Machine) -> None:
    machine.journal.append(batch(1))
    before = machine.journal.fsyncs
    for seed in range(5):
        machine.journal.append(batch(1, seed))
    assert machine.journal.fsyncs == before + 5


def test_a_full_disk_at_start_is_transient(machine: Machine) -> None:
    machine.journal.append(batch(3))
    machine.disk.kill()
    machine.disk.failures["open"] = [FULL]
    with pytest.raises(TransientError):
        machine.boot()
    assert machine.boot().head == 3
