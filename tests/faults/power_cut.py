"""A disk that forgets: stands in for `os` in the journal and knows which bytes and names a power cut would leave.

Real files carry what the page cache holds. Beside them runs the durable image: writes wait per file until an fsync
of that file, names until an fsync of the directory. A failing fsync drops what waited and the next one succeeds
without it, as Linux does. `cut` lays the durable image out as a new directory, optionally with torn remains of what
waited.
"""

import errno
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from storage.segments import SegmentJournal

FULL = errno.ENOSPC
BROKEN = errno.EIO
SEGMENT_BYTES = 8192
SECTOR_BYTES = 512


class ForgetfulDisk:
    """Takes the place of the `os` module. `failures[call]` lists errno that the coming calls of that name raise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.failures: dict[str, list[int]] = {}
        self.short_write = False
        self._open: dict[int, str] = {}
        self._durable: dict[str, bytes] = {}
        self._names: set[str] = set()
        self._waiting: dict[str, list[tuple[int, bytes | None]]] = {}  # (offset, bytes), (length, None) truncates

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str | Path, flags: int, mode: int = 0o777) -> int:
        self._maybe_fail("open")
        descriptor = os.open(path, flags, mode)
        self._open[descriptor] = Path(path).name if Path(path) != self.directory else ""
        return descriptor

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        os.close(descriptor)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        self._maybe_fail("pwrite")
        return self._write(descriptor, bytes(data), offset)

    def pwritev(self, descriptor: int, buffers: Sequence[bytes], offset: int) -> int:
        self._maybe_fail("pwritev")
        data = b"".join(buffers)
        return self._write(descriptor, data[: len(data) // 2] if self.short_write else data, offset)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._maybe_fail("ftruncate")
        os.ftruncate(descriptor, length)
        self._waiting.setdefault(self._open[descriptor], []).append((length, None))

    def fsync(self, descriptor: int) -> None:
        self._sync("fsync", descriptor)

    def fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", descriptor)

    def kill(self) -> None:
        """What kill -9 does: descriptors close (and release the lock), everything written stays."""
        for descriptor in list(self._open):
            self.close(descriptor)

    def cut(
        self, target: Path, torn: random.Random | None = None, spoil: Callable[[Path], object] | None = None
    ) -> "ForgetfulDisk":
        """Kill, then lay out in `target` what the platter holds; returns the disk for it.

        With `torn`, waiting writes may have arrived in part and unsynced names may have survived. `spoil` gets the
        target.
        """
        names = set(self._names)
        if torn is not None:
            names |= {entry.name for entry in self.directory.iterdir() if torn.random() < 0.5}
        self.kill()
        target.mkdir()
        after = ForgetfulDisk(target)
        for name in names:
            content = self._durable.get(name, b"")
            waiting = self._waiting.get(name, [])
            if torn is not None and waiting:
                content = _apply(content, _tear(torn, waiting))
            (target / name).write_bytes(content)
        if spoil is not None:
            spoil(target)
        after.settle()
        return after

    def settle(self) -> None:
        """What the files hold now is what the platter holds: after a cut, or after damage from outside."""
        self._waiting.clear()
        self._names = {entry.name for entry in self.directory.iterdir()}
        self._durable = {name: (self.directory / name).read_bytes() for name in self._names}

    def _maybe_fail(self, name: str) -> None:
        if self.failures.get(name):
            code = self.failures[name].pop(0)
            raise OSError(code, os.strerror(code))

    def _write(self, descriptor: int, data: bytes, offset: int) -> int:
        written = os.pwrite(descriptor, data, offset)
        self._waiting.setdefault(self._open[descriptor], []).append((offset, data[:written]))
        return written

    def _sync(self, call: str, descriptor: int) -> None:
        name = self._open[descriptor]
        try:
            self._maybe_fail(call)
        except OSError:
            self._waiting.pop(name, None)
            raise
        if not name:
            self._names = {entry.name for entry in self.directory.iterdir()}
        else:
            self._durable[name] = _apply(self._durable.get(name, b""), self._waiting.pop(name, []))


def _apply(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    image = bytearray(content)
    for at, data in changes:
        if len(image) < at:
            image += bytes(at - len(image))
        if data is None:
            del image[at:]
        else:
            image[at : at + len(data)] = data
    return bytes(image)


def _tear(rng: random.Random, waiting: list[tuple[int, bytes | None]]) -> list[tuple[int, bytes | None]]:
    """Some first ones of `waiting`, the last of them in part: what a disk, which writes whole sectors, got done in
    time.
    """
    arrived = waiting[: rng.randrange(len(waiting) + 1)]
    if arrived:
        offset, data = arrived[-1]
        sector_ends = range(SECTOR_BYTES - offset % SECTOR_BYTES, len(data or b""), SECTOR_BYTES)
        if data is not None and sector_ends:
            arrived[-1] = (offset, data[: rng.choice(sector_ends)])
    return arrived


class Machine:
    """A journal on a forgetful disk. Every power cut ends in a new boot, every start after `kill` in the same one."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._root = root
        self._cuts = 0
        (root / "disk-0").mkdir()
        self.disk = ForgetfulDisk(root / "disk-0")
        self.journal = self.boot()

    def boot(self) -> SegmentJournal:
        """Start a journal on the disk as it is."""
        boot = self._cuts.to_bytes(15, "big") + b"\x01"
        self._patch.setattr("storage.segments.os", self.disk)
        self._patch.setattr("storage.directory_lock.os", self.disk)
        self._patch.setattr("storage.segments.boot_id", lambda: boot)
        self.journal = SegmentJournal(self.disk.directory, quota_bytes=1 << 30, segment_bytes=SEGMENT_BYTES)
        self.journal.start()
        return self.journal

    def power_cut(
        self, torn: random.Random | None = None, spoil: Callable[[Path], object] | None = None
    ) -> SegmentJournal:
        """Lose what was not synced (`torn`: but for remains), let `spoil` damage the rest, start again."""
        self._cuts += 1
        self.disk = self.disk.cut(self._root / f"disk-{self._cuts}", torn, spoil)
        return self.boot()

    def kill(self, spoil: Callable[[Path], object] | None = None) -> SegmentJournal:
        """End the process, let `spoil` damage the files, start again."""
        self.disk.kill()
        if spoil is not None:
            spoil(self.disk.directory)
            self.disk.settle()
        return self.boot()
