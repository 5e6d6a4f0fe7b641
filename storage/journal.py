"""The port `Journal`: the durable log between the broker and everything else, and its unit, the `Message`.

Who appends: the ingest pipeline, alone. Who reads: each consumer, from its own cursor. The embedded implementation is
`storage.segments.SegmentJournal` (append-only files). A sequence numbers messages from 1 without gaps in append order;
position = (partition, sequence), so that a distributed log can stand behind the port.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from devices.model import Milliseconds


class Message(msgspec.Struct, array_like=True, gc=False):
    """One PUBLISH as it arrived. `source` is the configured source's name (a bounded set), `received_at` in ms since
    the epoch.

    `generation` counts connections of the session: `packet_id` means something only together with it.
    `properties` are MQTT 5 properties worth keeping (content type, user properties), None where there are none.
    """

    source: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    packet_id: int
    generation: int
    received_at: Milliseconds
    properties: dict[str, str] | None = None


ORDINARY_BYTES = 512
HEAVIEST = 4_000


def weigh(messages: Sequence[Message]) -> int:
    """How much `messages` are in ordinary ones: each is one, and one more for every `ORDINARY_BYTES` of payload.

    Bounds on memory and on the length of a step count so, because a list of stored readings is one message and as much
    work as hundreds of others.
    """
    return len(messages) + sum([len(message.payload) for message in messages]) // ORDINARY_BYTES


def portions(messages: list[Message], most: int) -> Iterator[list[Message]]:
    """`messages` in order, at most `most` at a time, and no heavier than `HEAVIEST` unless a single one is."""
    for start in range(0, len(messages), most):
        portion = messages[start : start + most]
        if len(portion) == 1 or weigh(portion) <= HEAVIEST:
            yield portion
        else:
            yield from portions(portion, (len(portion) + 1) // 2)


class Damage(msgspec.Struct):
    """A stretch of the journal that failed its check: where it is, what is missing, and why. Sequences are inclusive,
    both -1 if unknown.
    """

    file: str
    offset: int
    length: int
    first: int
    last: int
    detail: str


class Batch(msgspec.Struct):
    """What `read` returns: `messages[i]` has sequence `first + i`. `damage` precedes the messages and was skipped.

    The next `after` is `first + len(messages) - 1`, also where damage up to the head leaves `messages` empty.
    """

    first: int
    messages: list[Message]
    damage: list[Damage] = []


class Journal(Protocol):
    """See the module docstring. Methods are synchronous and blocking: an fsync takes about 0.2 ms on a good disk, the
    caller chooses the thread.
    """

    partition: int

    def start(self) -> None:
        """Open or create; cut a torn tail; raise `ConfigError` if the directory is not writable or another process
        holds it.
        """

    def close(self) -> None:
        """Flush and release the lock; safe to call twice."""

    def append(self, messages: Sequence[Message]) -> int:
        """Make the batch durable (fsync) and return the sequence of its last message. Raises `TransientError` on a full
        disk or quota; nothing of the batch is then kept.
        """

    def read(self, after: int, limit: int) -> Batch | None:
        """Up to about `limit` messages of ordinary size (whole records) with sequence > `after`; None at the head."""

    @property
    def head(self) -> int:
        """Sequence of the newest durable message, 0 when empty."""

    @property
    def tail(self) -> int:
        """Sequence of the oldest message still kept, head + 1 when nothing is kept."""

    @property
    def size(self) -> int:
        """Bytes on disk."""

    def trim(self, through: int) -> None:
        """Unlink whole segments whose messages all have sequence <= `through`."""
