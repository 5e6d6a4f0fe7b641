"""A snapshot survives crashes and damage: whole, or not there, with the older one standing in."""

from pathlib import Path

import pytest

from devices.errors import ConfigError
from storage.snapshots import Snapshot, SnapshotStore


def snapshot(sequence: int, state: bytes = b"state") -> Snapshot:
    return Snapshot(sequence=sequence, stamp=sequence * 10, created_at=1, state=state)


def opened(directory: Path) -> SnapshotStore:
    store = SnapshotStore(directory)
    store.start()
    return store


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.snapshot"))


def test_nothing_saved_gives_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path / "new")
    assert list(store.load()) == []
    assert store.oldest == (0, 0)


def test_newest_comes_first_and_only_two_are_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for sequence in (5, 7, 9):
        store.save(snapshot(sequence, bytes([sequence]) * 1000))
    assert list(opened(tmp_path).load()) == [snapshot(9, b"\x09" * 1000), snapshot(7, b"\x07" * 1000)]
    assert len(files(tmp_path)) == 2


def test_nothing_may_be_trimmed_until_the_older_one_can_stand_in(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save(snapshot(5))
    assert store.oldest == (0, 0)
    store.save(snapshot(7))
    assert store.oldest == (5, 50)
    store.save(snapshot(9))
    assert store.oldest == (7, 70)
    again = opened(tmp_path)
    list(again.load())
    assert again.oldest == (7, 70)


def test_two_snapshots_at_one_sequence_are_told_apart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save(Snapshot(5, 50, 1, b"before the tick"))
    store.save(Snapshot(5, 60, 1, b"after the tick"))
    assert [s.state for s in opened(tmp_path).load()] == [b"after the tick", b"before the tick"]


def test_every_single_flipped_byte_is_found(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save(snapshot(5, b"older"))
    store.save(snapshot(7, b"newer"))
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        newest.write_bytes(damaged)
        again = opened(tmp_path)
        assert [s.sequence for s in again.load()] == [5], position
        assert again.damaged == 1


def test_every_truncation_is_found(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save(snapshot(5, b"older"))
    store.save(snapshot(7, b"newer"))
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    for length in range(len(whole)):
        newest.write_bytes(whole[:length])
        assert [s.sequence for s in opened(tmp_path).load()] == [5], length


def test_a_damaged_file_is_not_counted_among_the_two(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save(snapshot(5))
    store.save(snapshot(7))
    files(tmp_path)[-1].write_bytes(b"damaged")
    again = opened(tmp_path)
    list(again.load())
    assert again.oldest == (0, 0)
    again.save(snapshot(8))
    assert again.oldest == (5, 50)
    assert [s.sequence for s in opened(tmp_path).load()] == [8, 5]


def test_a_crash_before_the_rename_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    store.save(snapshot(5))

    def crash(self: Path, target: Path) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(OSError, match="power cut"):
            store.save(snapshot(7))
    again = opened(tmp_path)
    assert [s.sequence for s in again.load()] == [5]
    assert list(tmp_path.glob("*.partial")) == []


def test_discarded_snapshots_are_gone(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save(snapshot(5))
    store.save(snapshot(7))
    store.discard()
    assert store.oldest == (0, 0)
    assert list(opened(tmp_path).load()) == []


def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="not writable"):
        SnapshotStore(tmp_path / "file" / "rules").start()
