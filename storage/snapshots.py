"""Snapshots of a consumer's state: files that let it start again without reading its whole past.

Receives opaque bytes with the place they belong to; gives back the newest that is whole. Owns one directory and is its
only writer. A file is written beside its name, synced and renamed, so that a crash leaves the whole file or none; its
CRC32C finds what a disk did to it later, and the one before it stands in. Methods block on the disk: call them in a
thread. Raises `OSError` where the disk refuses (the caller keeps its state and tries again later) and `ConfigError` at
start.
"""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import msgspec

from devices.errors import ConfigError
from devices.model import Milliseconds

_MAGIC = b"SHSNAP01"
_HEADER = struct.Struct("<8sqqqQI")  # magic, sequence, stamp, created_at, length of the state, CRC32C of all but itself
_NAME = re.compile(r"(\d{12})\.snapshot")


class Snapshot(msgspec.Struct, frozen=True):
    """`state` as it was after the input (`sequence`, `stamp`): journal sequence, then ms of the last input at it."""

    sequence: int
    stamp: Milliseconds
    created_at: Milliseconds
    state: bytes


class SnapshotStore:
    """The newest `keep` snapshots in `directory`."""

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self._directory = directory
        self._keep = keep
        self._places: dict[int, tuple[int, Milliseconds]] = {}  # serial of a file known to be whole -> its place
        self._serial = 0
        self.damaged = 0

    def start(self) -> None:
        """Create the directory and remove what an interrupted `save` left behind."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for leftover in self._directory.glob("*.partial"):
                leftover.unlink()
        except OSError as error:
            raise ConfigError(f"snapshot directory {self._directory} is not writable: {error}") from error
        self._serial = max(self._serials(), default=0)

    def load(self) -> Iterator[Snapshot]:
        """Whole snapshots, newest first; damaged ones are counted in `damaged` and skipped."""
        for serial in sorted(self._serials(), reverse=True):
            snapshot = _parse(self._path(serial))
            if snapshot is None:
                self.damaged += 1
                continue
            self._places[serial] = (snapshot.sequence, snapshot.stamp)
            yield snapshot

    def discard(self) -> None:
        """Forget every snapshot: none of them can be restored by this version."""
        for serial in self._serials():
            self._path(serial).unlink()
        self._places.clear()

    def save(self, snapshot: Snapshot) -> None:
        """Make `snapshot` durable, then remove all but the newest `keep` that are known to be whole."""
        self._serial += 1
        path = self._path(self._serial)
        partial = path.with_suffix(".partial")
        head = _HEADER.pack(
            _MAGIC, snapshot.sequence, snapshot.stamp, snapshot.created_at, len(snapshot.state), _checksum(snapshot)
        )
        with partial.open("wb") as file:
            file.write(head)
            file.write(snapshot.state)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        self._sync_directory()
        self._places[self._serial] = (snapshot.sequence, snapshot.stamp)
        kept = sorted(self._places, reverse=True)[: self._keep]
        for serial in self._serials():
            if serial not in kept:
                self._path(serial).unlink()
        self._places = {serial: self._places[serial] for serial in kept}

    @property
    def oldest(self) -> tuple[int, Milliseconds]:
        """Place of the oldest snapshot kept, before which nothing is needed any more; (0, 0) until `keep` exist.

        Until then a single damaged file would send the consumer back to the beginning.
        """
        return min(self._places.values()) if len(self._places) >= self._keep else (0, 0)

    def _serials(self) -> list[int]:
        matches = (_NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return [int(match[1]) for match in matches if match]

    def _path(self, serial: int) -> Path:
        return self._directory / f"{serial:012d}.snapshot"

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checksum(snapshot: Snapshot) -> int:
    place = struct.pack("<qqqQ", snapshot.sequence, snapshot.stamp, snapshot.created_at, len(snapshot.state))
    return int(google_crc32c.extend(google_crc32c.value(place), snapshot.state))


def _parse(path: Path) -> Snapshot | None:
    """The snapshot in `path`; None where anything about it is wrong."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        state = file.read()
    if len(head) < _HEADER.size:
        return None
    magic, sequence, stamp, created_at, length, checksum = _HEADER.unpack(head)
    snapshot = Snapshot(sequence, stamp, created_at, state)
    if magic != _MAGIC or length != len(snapshot.state) or checksum != _checksum(snapshot):
        return None
    return snapshot
