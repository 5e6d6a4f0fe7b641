"""First receive times across redelivery (MQTT 5.0 section 4.4): a message that the broker sends again because we never
acknowledged it is the same event, so one without a device time keeps the time at which it first arrived.

Costs nothing until a message with DUP arrives; then the journal's recent past is read once per connection.
"""

from hashlib import blake2b

from devices.model import Milliseconds
from storage.journal import Journal, Message

_LOOK_BACK = 20_000  # messages; more than any receive maximum in use


class FirstReceiveTimes:
    """Puts the first receive time of an identical journalled message into a redelivered one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._generation = -1
        self._times: dict[bytes, Milliseconds] = {}

    def restore(self, messages: list[Message]) -> None:
        """Change `received_at` in place where a message is flagged DUP and its first delivery is in the journal."""
        for message in messages:
            if message.duplicate:
                if message.generation != self._generation:
                    self._generation = message.generation
                    self._times = self._recent()
                message.received_at = self._times.get(_key(message), message.received_at)

    def _recent(self) -> dict[bytes, Milliseconds]:
        times: dict[bytes, Milliseconds] = {}
        after = max(self._journal.tail - 1, self._journal.head - _LOOK_BACK, 0)
        while (batch := self._journal.read(after, 5_000)) is not None:
            for message in batch.messages:
                times.setdefault(_key(message), message.received_at)
            after = batch.first + len(batch.messages) - 1
        return times


def _key(message: Message) -> bytes:
    return blake2b(message.topic.encode() + b"\0" + message.payload, digest_size=16).digest()
