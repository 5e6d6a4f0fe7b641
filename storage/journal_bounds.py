"""The journal's memory of itself: how far it was acknowledged, trimmed and reserved, in a file beside the segments.

Without it a truncated newest segment looks like one that never got further, and a start would hand out sequences
that consumers have already passed. It is written after the fsync of every append, but itself synced only at start,
when a segment begins, on trim and on close. So it is exact after a kill -9 (the page cache outlives the process)
and after a clean close; after a power cut it is a lower bound, which `exact` tells by the machine's boot id. A file
that fails its CRC counts as absent.
"""

import struct
import uuid
from pathlib import Path
from typing import NamedTuple

import google_crc32c

_LAYOUT = struct.Struct("<4sQQQQ16sI")
_FORMAT = b"shb\x01"
_CHECKED_BYTES = _LAYOUT.size - 4
_CLOSED = bytes(16)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

BOUNDS_BYTES = _LAYOUT.size


class Bounds(NamedTuple):
    """Everything up to sequence `trimmed` was trimmed; `acknowledged` is the newest whose append returned; `newest`
    is the first of the newest segment and `reserved` the highest it can ever hold. `boot` is the boot id, zeros after
    a clean close.
    """

    trimmed: int
    acknowledged: int
    newest: int
    reserved: int
    boot: bytes

    def exact(self, boot: bytes) -> bool:
        """Whether nothing can have been acknowledged beyond `acknowledged`."""
        return self.boot in (_CLOSED, boot)

    def closed(self) -> "Bounds":
        """The same, as a clean close leaves it."""
        return self._replace(boot=_CLOSED)

    def pack(self) -> bytes:
        """The file's content."""
        checked = _LAYOUT.pack(_FORMAT, *self, 0)[:_CHECKED_BYTES]
        return checked + struct.pack("<I", google_crc32c.value(checked))

    @classmethod
    def unpack(cls, data: bytes) -> "Bounds | None":
        """The bounds in `data`, None if it is not exactly what `pack` wrote."""
        if len(data) != BOUNDS_BYTES:
            return None
        mark, trimmed, acknowledged, newest, reserved, boot, crc = _LAYOUT.unpack(data)
        if mark != _FORMAT or google_crc32c.value(data[:_CHECKED_BYTES]) != crc:
            return None
        return cls(trimmed, acknowledged, newest, reserved, boot)


def boot_id() -> bytes:
    """Sixteen bytes that change with every boot; where the machine has none, bytes that never repeat."""
    try:
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    except (OSError, ValueError):
        return uuid.uuid4().bytes
