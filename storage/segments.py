"""The embedded journal: append-only segment files in one directory, all that stands between a PUBACK and a lost
message.

Receives batches of `Message` from its one appender and gives them back to any number of readers. Owns the
directory: `lock` (flock, one process), `bounds` (`storage.journal_bounds`) and the segments
(`storage.journal_record`), each named by its first sequence and its random mark. Raises `ConfigError` at start (a
person must act) and `TransientError` from `append` and `trim` (the caller retries). Damage is never an error:
readers get it as `Damage` and go on behind it.

Sequences never go back. A batch counts from the moment its fsync returned. After a failed fsync the kernel may have
dropped the pages and call the next fsync a success; so that segment is left for good, its unacknowledged end is cut
off, and the retry writes the batch anew into another file. What a file holds at or past the first sequence of the
next segment is such a remnant and is ignored. A damaged newest segment stays as evidence; the next append opens
another behind the newest sequence in use.

One thread appends. `read` and `trim` may run in other threads meanwhile: readers see only what is durable.
"""

import errno
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from devices.errors import ConfigError, TransientError
from storage.directory_lock import DirectoryLock
from storage.journal import Batch, Message
from storage.journal_bounds import BOUNDS_BYTES, Bounds, boot_id
from storage.journal_reader import JournalReader
from storage.journal_record import HEADER_BYTES, MARK_BYTES, SMALLEST_MESSAGE_BYTES, encode_body, encode_header
from storage.journal_recovery import Segment, survey

_FULL = (errno.ENOSPC, errno.EDQUOT)


class SegmentJournal:
    """See the module docstring. Counters since construction: `records`, `bytes` and `fsyncs` written, `torn` tails
    cut at start.

    A segment is closed at `segment_bytes` or at a quarter of what `quota_bytes` leaves above `keep_bytes`,
    whichever is less, so that trimming can always make room. The newest `keep_bytes` survive every trim.
    """

    def __init__(
        self,
        directory: Path,
        *,
        quota_bytes: int,
        segment_bytes: int = 64 * 1024 * 1024,
        keep_bytes: int = 0,
        partition: int = 0,
    ) -> None:
        if not 0 <= keep_bytes < quota_bytes:
            raise ConfigError(f"the journal must keep less ({keep_bytes} bytes) than its quota ({quota_bytes} bytes)")
        self.partition = partition
        self.records = 0
        self.bytes = 0
        self.fsyncs = 0
        self.torn = 0
        self._directory = directory
        self._segment_bytes = min(segment_bytes, (quota_bytes - keep_bytes) // 4)
        self._quota_bytes = quota_bytes
        self._keep_bytes = keep_bytes
        self._boot = boot_id()
        self._reader = JournalReader(directory)
        self._changing = threading.Lock()  # guards what follows; never held during the fsync of an append
        self._segments: tuple[Segment, ...] = ()
        self._head = 0
        self._trimmed = 0
        self._reserved = 0
        self._size = 0
        self._lock = DirectoryLock(directory)
        self._bounds = -1
        self._writer = -1

    @property
    def head(self) -> int:
        """Sequence of the newest durable message, 0 when empty."""
        return self._head

    @property
    def tail(self) -> int:
        """Sequence of the oldest message still kept, head + 1 when nothing is kept."""
        segments = self._segments
        return max(self._trimmed + 1, segments[0].first) if segments else self._head + 1

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return self._size

    @property
    def damage(self) -> int:
        """Distinct damaged stretches that readers have met."""
        return len(self._reader.damage_seen)

    def start(self) -> None:
        """Lock, find the head, cut a tail that was never acknowledged.

        Reads the newest segment only: damage elsewhere waits for its reader. Does nothing if started already. Raises
        `ConfigError` if the directory cannot be used or another process holds it, `TransientError` if the disk is full.
        """
        if self._lock.held:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._recover()
        except OSError as error:
            self._release()
            disposition = TransientError if error.errno in _FULL else ConfigError
            raise disposition(f"journal {self._directory} cannot be opened: {error}") from error
        except ConfigError:
            self._release()
            raise

    def close(self) -> None:
        """Note a clean end and release the lock; safe to call twice."""
        if self._bounds >= 0:
            with suppress(OSError):  # every batch is durable already; the next start only knows less about the end
                self._save_bounds(self._current_bounds().closed())
                self._sync(self._bounds)
        self._release()

    def append(self, messages: Sequence[Message]) -> int:
        """Make the batch durable (one fdatasync) and return the sequence of its last message.

        Raises `TransientError` on a full quota, a full disk or a failing one; the journal is as before and usable
        at once. (If the process dies right after a failed fsync, the batch may be found at the next start. Nobody
        acknowledged it: it comes again, like any redelivery.)
        """
        if not self._lock.held:
            raise RuntimeError("the journal is not started")
        if not messages:
            return self._head
        first, last = self._head + 1, self._head + len(messages)
        body = encode_body(messages)
        length = HEADER_BYTES + len(body)
        if self._size + length > self._quota_bytes:
            raise TransientError(f"journal quota reached: {self._size} of {self._quota_bytes} bytes")
        segment = self._segment_for(length)
        self._write(segment, encode_header(segment.sync, first, len(messages), body), body)
        with self._changing:
            segment.end += length
            self._size += length
            self._head = last
            with suppress(OSError):  # the batch is durable; the next append writes the bounds again
                self._save_bounds(self._current_bounds())
        self.records += 1
        self.bytes += length
        return last

    def read(self, after: int, limit: int) -> Batch | None:
        """Up to about `limit` messages of ordinary size (whole records) with sequence > `after`; None at the head.

        Damage ends a batch and opens the next one, so `messages` are always consecutive from `first`. A batch without
        messages says that everything up to the head is damaged or trimmed. The next `after` is
        `first + len(messages) - 1` in every case.
        """
        head = self._head
        if after >= head:
            return None
        position = max(after, self._trimmed)
        return self._reader.read(self._segments, head, position, limit) if position < head else Batch(head + 1, [], [])

    def trim(self, through: int) -> None:
        """Unlink segments whose messages all have sequence <= `through`; the newest and the last `keep_bytes` stay."""
        with self._changing:
            left, drop = self._size, 0
            for segment, following in pairwise(self._segments):
                if following.first - 1 > through or left - segment.end < self._keep_bytes:
                    break
                left -= segment.end
                drop += 1
            if not drop:
                return
            dropped, kept = self._segments[:drop], self._segments[drop:]
            trimmed = kept[0].first - 1
            try:
                # First the bounds, then the files: a crash in between must not make trimmed data look missing.
                self._save_bounds(self._current_bounds()._replace(trimmed=trimmed))
                self._sync(self._bounds)
                self._trimmed, self._segments, self._size = trimmed, kept, left
                for segment in dropped:
                    (self._directory / segment.name).unlink(missing_ok=True)
                self._sync_directory()
            except OSError as error:
                raise TransientError(f"journal cannot be trimmed: {error}") from error

    def _segment_for(self, length: int) -> Segment:
        """The segment that takes the next `length` bytes, open for writing."""
        newest = self._segments[-1] if self._segments else None
        try:
            if newest and self._writer >= 0 and (newest.end == 0 or newest.end + length <= self._segment_bytes):
                return newest
            if newest and newest.first > self._head:  # nothing in it was acknowledged: use it again, empty
                self._close_writer()
                self._writer = os.open(self._directory / newest.name, os.O_RDWR)
                os.ftruncate(self._writer, 0)
                return newest
            return self._begin_segment(length)
        except OSError as error:
            self._close_writer()
            raise TransientError(f"journal cannot open a segment: {error}") from error

    def _begin_segment(self, length: int) -> Segment:
        """A new segment; its name and the bounds are durable before anything goes into it."""
        self._close_writer()
        segment = Segment(self._head + 1, os.urandom(MARK_BYTES))
        path = self._directory / segment.name
        self._writer = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            self._sync_directory()
            reserved = self._head + max(self._segment_bytes, length) // SMALLEST_MESSAGE_BYTES
            with self._changing:
                self._save_bounds(self._current_bounds()._replace(newest=segment.first, reserved=reserved))
                self._sync(self._bounds)
                self._reserved = reserved
                self._segments = (*self._segments, segment)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return segment

    def _write(self, segment: Segment, header: bytes, body: bytes) -> None:
        """Write behind the last durable record and sync; on failure cut the segment back, after a failed sync leave
        it.
        """
        try:
            written = os.pwritev(self._writer, (header, body), segment.end)
            rest = memoryview(header + body)[written:] if written < len(header) + len(body) else memoryview(b"")
            while rest:
                rest = rest[os.pwrite(self._writer, rest, segment.end + len(header) + len(body) - len(rest)) :]
        except OSError as error:
            try:
                os.ftruncate(self._writer, segment.end)
            except OSError:
                self._close_writer()
            raise TransientError(f"journal cannot write: {error}") from error
        try:
            self.fsyncs += 1
            os.fdatasync(self._writer)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._writer, segment.end)
            self._close_writer()
            raise TransientError(f"journal cannot sync: {error}") from error

    def _current_bounds(self) -> Bounds:
        newest = self._segments[-1].first if self._segments else 0
        return Bounds(self._trimmed, self._head, newest, self._reserved, self._boot)

    def _save_bounds(self, bounds: Bounds) -> None:
        os.pwrite(self._bounds, bounds.pack(), 0)

    def _sync(self, descriptor: int) -> None:
        self.fsyncs += 1
        os.fsync(descriptor)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def _recover(self) -> None:
        self._bounds = os.open(self._directory / "bounds", os.O_RDWR | os.O_CREAT, 0o640)
        found = survey(self._directory, Bounds.unpack(os.pread(self._bounds, BOUNDS_BYTES + 1, 0)), self._boot)
        self._segments, self._head, self._trimmed = found.segments, found.head, found.trimmed
        self._size = sum(segment.end for segment in found.segments)
        self._reader = JournalReader(self._directory)
        self._reserved = self._head
        if found.appendable:
            newest = self._segments[-1]
            self._writer = os.open(self._directory / newest.name, os.O_RDWR)
            self._settle(newest, found.confirmed, found.torn_bytes)
            self._reserved = newest.first - 1 + max(self._segment_bytes, newest.end) // SMALLEST_MESSAGE_BYTES
        # Durable before the first append: the note of a clean end must go, what was decided about the end must stay.
        self._save_bounds(self._current_bounds())
        self._sync(self._bounds)

    def _settle(self, newest: Segment, confirmed: int, torn_bytes: int) -> None:
        """Make the newest segment on the disk what the survey saw in memory, before anybody reads it or appends to
        it.

        Records behind `confirmed` are written again: their sync may have failed, and then only new writes reach the
        disk.
        """
        if torn_bytes:
            os.ftruncate(self._writer, newest.end)
            self.torn += 1
        if confirmed < newest.end:
            data = memoryview(os.pread(self._writer, newest.end - confirmed, confirmed))
            while data:
                data = data[os.pwrite(self._writer, data, newest.end - len(data)) :]
        if torn_bytes or confirmed < newest.end:
            self.fsyncs += 1
            os.fdatasync(self._writer)

    def _close_writer(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def _release(self) -> None:
        self._close_writer()
        if self._bounds >= 0:
            os.close(self._bounds)
            self._bounds = -1
        self._lock.release()
