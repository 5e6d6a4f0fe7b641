"""The record of the embedded journal: one batch of messages in a segment file, able to be found and checked on its
own.

A segment is nothing but records back to back. A record is a header of 36 bytes, little endian, and a MessagePack
body, an array of `Message`:

    sync mark 12 | first sequence u64 | messages u32 | body length u32 | body CRC32C u32 | header CRC32C u32 | body

The sync mark is the format's version and eight random bytes of the segment. It is what a reader looks for after
damage, and as nobody outside knows it, no payload can pass itself off as a record. This module is pure but for
`Window`, which reads. Damage raises nothing: a stretch that fails its checks becomes a `Gap`.
"""

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import google_crc32c
import msgspec

from storage.journal import Message

MARK_BYTES = 8
HEADER_BYTES = 36
SMALLEST_MESSAGE_BYTES = (
    12  # an encoded message with every text empty and every number one byte: bounds how many fit in a stretch
)
UNBOUNDED = 1 << 63

_FORMAT = b"shj\x01"
_HEADER = struct.Struct("<12sQIIII")
_CHECKED_HEADER_BYTES = HEADER_BYTES - 4
_CHUNK_BYTES = 64 * 1024
_PAGE_BYTES = 4096
_TOP_BODY_BYTES = 1 << 30

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


class Record(NamedTuple):
    """A record whose header and body passed their checks; `end` is the offset after it, `body` is not decoded yet."""

    offset: int
    end: int
    first: int
    last: int
    body: bytes


class Gap(NamedTuple):
    """Where sequences `first` .. `last` should be and are not: bytes `offset` to `end`, which may be none, hold
    nothing readable.
    """

    offset: int
    end: int
    first: int
    last: int
    detail: str


class Header(NamedTuple):
    """The fields of a header that passed its own check."""

    first: int
    messages: int
    body_bytes: int
    body_crc: int


class Window:
    """Reads one segment up to `size` through a moving chunk.

    Pages that the disk refuses to read (EIO) come back as zeros, so that the records around them are still found. A
    descriptor of -1 stands for a file that is gone: nothing can be read.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self._descriptor = descriptor
        self._base = 0
        self._chunk = b""

    def at(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`, fewer at the end of the segment."""
        start = offset - self._base
        if start < 0 or start + length > len(self._chunk):
            self._base, start = offset, 0
            self._chunk = self._read(offset, min(max(length, _CHUNK_BYTES), self.size - offset))
        return self._chunk[start : start + length]

    def _read(self, offset: int, length: int) -> bytes:
        if self._descriptor < 0 or length <= 0:
            return b""
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            if length <= _PAGE_BYTES:
                return bytes(length)
            pages = range(offset, offset + length, _PAGE_BYTES)
            return b"".join(self._read(page, min(_PAGE_BYTES, offset + length - page)) for page in pages)


def sync_of(mark: bytes) -> bytes:
    """The sync mark of a segment whose random part is `mark` (8 bytes)."""
    return _FORMAT + mark


def encode_body(messages: Sequence[Message]) -> bytes:
    """The body of one record; raises `ValueError` above 1 GiB (the caller's batch is out of all proportion)."""
    body = _encoder.encode(messages if isinstance(messages, list) else list(messages))
    if len(body) > _TOP_BODY_BYTES:
        raise ValueError(f"a batch of {len(body)} bytes does not fit into one journal record")
    return body


def encode_header(sync: bytes, first: int, messages: int, body: bytes) -> bytes:
    """The header that goes in front of `body`; sequences `first` .. `first + messages - 1`."""
    checked = _HEADER.pack(sync, first, messages, len(body), google_crc32c.value(body), 0)[:_CHECKED_HEADER_BYTES]
    return checked + struct.pack("<I", google_crc32c.value(checked))


def decode_body(record: Record) -> list[Message] | None:
    """The messages of a checked record; None if its bytes are whole and still are not what the header promises."""
    try:
        messages = _decoder.decode(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return messages if len(messages) == record.last - record.first + 1 else None


def parse_header(sync: bytes, data: bytes) -> Header | str:
    """The header at the start of `data`, or why it is none."""
    if len(data) < HEADER_BYTES:
        return "incomplete header"
    mark, first, messages, body_bytes, body_crc, header_crc = _HEADER.unpack(data)
    if mark != sync or google_crc32c.value(data[:_CHECKED_HEADER_BYTES]) != header_crc:
        return "header fails its checksum"
    return Header(first, messages, body_bytes, body_crc)


def read_record(window: Window, sync: bytes, offset: int, expected: int, ceiling: int) -> Record | str:
    """The record at `offset` if it is whole and its sequences lie in `expected` .. `ceiling - 1`; otherwise why
    not.
    """
    header = parse_header(sync, window.at(offset, HEADER_BYTES))
    if isinstance(header, str):
        return header
    end = offset + HEADER_BYTES + header.body_bytes
    if end > window.size:
        return "incomplete record"
    body = window.at(offset + HEADER_BYTES, header.body_bytes)
    if len(body) < header.body_bytes:
        return "incomplete record"
    if google_crc32c.value(body) != header.body_crc:
        return "body fails its checksum"
    last = header.first + header.messages - 1
    if not expected <= header.first <= last < ceiling:
        return "record out of order"
    return Record(offset, end, header.first, last, body)


def walk(window: Window, sync: bytes, offset: int, expected: int, ceiling: int) -> Iterator[Record | Gap]:
    """Records from `offset` on, in order, and a `Gap` wherever sequences are missing, until `ceiling - 1` is
    accounted for.

    `expected` is the sequence that should stand at `offset`. What follows `ceiling - 1` in the file was never
    acknowledged (a failed write) and is not looked at. With `UNBOUNDED` the walk ends in a Gap behind the last
    record.
    """
    while expected < ceiling:
        found = read_record(window, sync, offset, expected, ceiling)
        detail = ""
        if isinstance(found, str):
            detail = found
            following = _resynchronise(window, sync, offset + 1, expected, ceiling)
            if following is None:
                detail = detail if offset < window.size else "segment ends early"
                yield Gap(offset, max(offset, window.size), expected, ceiling - 1, detail)
                return
            found = following
        if found.first > expected:
            yield Gap(offset, found.offset, expected, found.first - 1, detail or "records are missing")
        yield found
        offset, expected = found.end, found.last + 1


def _resynchronise(window: Window, sync: bytes, offset: int, expected: int, ceiling: int) -> Record | None:
    """The next whole record at or after `offset`."""
    while offset < window.size:
        chunk = window.at(offset, _CHUNK_BYTES)
        hit = chunk.find(sync)
        if hit >= 0:
            found = read_record(window, sync, offset + hit, expected, ceiling)
            if isinstance(found, Record):
                return found
            offset += hit + 1
        elif len(chunk) < _CHUNK_BYTES:
            return None
        else:
            offset += len(chunk) - len(sync) + 1
    return None


def lost_in_tail(sync: bytes, tail: bytes, tail_bytes: int, expected: int) -> int:
    """How many messages a tail that is not a whole record may have held, where nobody recorded what was
    acknowledged.

    `tail` is its beginning (a header's worth or less), `tail_bytes` its length, `expected` the sequence it should
    start with. A record that merely ends early was never acknowledged: 0. A whole record with a damaged body: as
    many as its header says. A damaged header: as many as could have fitted.
    """
    if tail_bytes < HEADER_BYTES and sync.startswith(tail[: len(sync)]):
        return 0
    header = parse_header(sync, tail)
    if isinstance(header, str):
        return max(1, (tail_bytes - HEADER_BYTES) // SMALLEST_MESSAGE_BYTES)
    beyond = tail_bytes - HEADER_BYTES - header.body_bytes
    if beyond < 0:
        return 0
    return max(0, header.first + header.messages - expected) + beyond // SMALLEST_MESSAGE_BYTES
