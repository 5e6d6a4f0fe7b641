"""A gateway's memory of what the broker has not acknowledged yet.

A message leaves only when its PUBACK came; what is taken for sending stays inside until then, so a broken connection
loses nothing. Bounded: beyond `limit` readings the oldest message that is not in flight is dropped and counted.
Readings that waited are merged into lists per device, as a real gateway stores and forwards. Raises nothing.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from devices.model import Milliseconds

LARGEST_LIST = 200  # readings in one message


@dataclass(eq=False, slots=True)
class Message:
    """Encoded readings of one device for one topic, oldest first; `time` is the true time of the first."""

    topic: str
    elements: list[bytes]
    time: Milliseconds

    @property
    def payload(self) -> bytes:
        """A single object, or a list of several."""
        return self.elements[0] if len(self.elements) == 1 else b"[" + b",".join(self.elements) + b"]"


class Outbox:
    """First in, first out, by confirmation."""

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._waiting: deque[Message] = deque()
        self._flying: dict[int, Message] = {}
        self._readings = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Readings not acknowledged yet."""
        return self._readings

    @property
    def oldest(self) -> Milliseconds | None:
        """True time of the oldest unacknowledged reading."""
        return min((message.time for message in (*self._flying.values(), *self._waiting)), default=None)

    def add(self, message: Message) -> None:
        self._waiting.append(message)
        self._readings += len(message.elements)
        while self._readings > self._limit and self._waiting:
            lost = self._waiting.popleft()
            self._readings -= len(lost.elements)
            self.dropped += len(lost.elements)

    def take(self, most: int) -> list[Message]:
        """Up to `most` messages to send now, in order; each must be confirmed or put back."""
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._flying.update((id(message), message) for message in taken)
        return taken

    def confirm(self, message: Message) -> None:
        """The broker has it."""
        del self._flying[id(message)]
        self._readings -= len(message.elements)

    def put_back(self, messages: Iterable[Message]) -> None:
        """The broker may not have them: they go first, in their order."""
        unsent = list(messages)
        for message in unsent:
            del self._flying[id(message)]
        self._waiting.extendleft(reversed(unsent))

    def merge(self) -> None:
        """Join what waits into lists per topic, keeping each device's order."""
        merged: list[Message] = []
        last: dict[str, Message] = {}
        for message in self._waiting:
            target = last.get(message.topic)
            if target is not None and len(target.elements) + len(message.elements) <= LARGEST_LIST:
                target.elements = target.elements + message.elements
                target.time = min(target.time, message.time)
            else:
                last[message.topic] = message
                merged.append(message)
        self._waiting = deque(merged)
