"""First receive times across redelivery (MQTT 5.0 section 4.4): a message that the broker sends again because it never
saw our PUBACK is the same event, so one without a device time keeps the time at which it first arrived.

A redelivery has the DUP flag, the packet identifier of the first delivery, and comes over a later connection. Costs
nothing until one arrives; then the journal's recent past is read once per connection.
"""

from hashlib import blake2b

from devices.model import Milliseconds
from storage.journal import Journal, Message

_LOOK_BACK = 20_000  # messages; more than any receive maximum in use


class FirstReceiveTimes:
    """Puts the first receive time of a message into its redelivery."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._generation = -1
        self._times: dict[bytes, Milliseconds] = {}

    def restore(self, messages: list[Message]) -> None:
        """Change `received_at` in place where the first delivery is in the journal, or about to go there."""
        for index, message in enumerate(messages):
            if message.generation < self._generation:
                self._times[_key(message)] = message.received_at  # still unjournalled when its successor came
            if message.duplicate:
                if message.generation != self._generation:
                    self._generation = message.generation
                    self._times = self._recent()
                    self._times |= {_key(m): m.received_at for m in messages[:index] if m.generation < self._generation}
                message.received_at = self._times.get(_key(message), message.received_at)

    def _recent(self) -> dict[bytes, Milliseconds]:
        """Receive times by identity, the newest counts: packet identifiers come round again."""
        times: dict[bytes, Milliseconds] = {}
        after = max(self._journal.tail - 1, self._journal.head - _LOOK_BACK, 0)
        while (batch := self._journal.read(after, 5_000)) is not None:
            times |= {_key(message): message.received_at for message in batch.messages}
            after = batch.first + len(batch.messages) - 1
        return times


def _key(message: Message) -> bytes:
    identity = b"%d\0%b\0%b" % (message.packet_id, message.topic.encode(), message.payload)
    return blake2b(identity, digest_size=16).digest()
