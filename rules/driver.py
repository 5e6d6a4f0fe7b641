"""The driver: the engine together with the place it has reached, (journal sequence, stamp).

Gives the engine its inputs and says where each came, so that it can be recorded; after a restart it repeats recorded
inputs at those places. Pure and synchronous like the engine; raises nothing of its own.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from devices.model import DecodedBatch, Milliseconds
from rules.effects import Input, Outage, Place, Request, Tick
from rules.model import Action, Alarm, Transition
from storage.registry import RegistryView


class RulesEngine(Protocol):
    """The pure engine (`rules.engine`): the same inputs in the same order give the same transitions and state.

    How the journal is cut into batches is not an input: a replay is cut differently. A tick after which `tick_mattered`
    is False left no trace and need not be repeated. `restore` raises `SnapshotMismatch`.
    """

    @property
    def active(self) -> Mapping[str, Alarm]: ...
    @property
    def tick_mattered(self) -> bool: ...
    def process(self, batch: DecodedBatch) -> list[Transition]: ...
    def tick(self, now: Milliseconds) -> list[Transition]: ...
    def apply(self, action: Action, now: Milliseconds) -> tuple[str | None, list[Transition]]: ...
    def outage(self, start: Milliseconds, end: Milliseconds) -> None: ...
    def set_registry(self, view: RegistryView) -> None: ...
    def snapshot(self) -> bytes: ...
    def restore(self, data: bytes) -> None: ...


class Driver:
    """See the module docstring."""

    def __init__(self, engine: RulesEngine) -> None:
        self.engine = engine
        self.sequence = 0
        self.stamp: Milliseconds = 0
        self._recorded: deque[Input] = deque()

    def resume(self, place: Place, recorded: Iterable[Input]) -> None:
        """The engine's state is that of `place`; `recorded` came later, in this order."""
        self.sequence, self.stamp = place
        self._recorded = deque(recorded)

    def repeat(self, following: int) -> None:
        """Give the engine the recorded inputs that came before journal sequence `following`."""
        while self._recorded and self._recorded[0].sequence < following:
            item = self._recorded.popleft()
            self.stamp = item.stamp
            match item:
                case Tick():
                    self.engine.tick(item.stamp)
                case Outage():
                    self.engine.outage(item.start, item.end)
                case Request():
                    self.engine.apply(item.action, item.stamp)

    def unbroken(self, batch: DecodedBatch) -> int:
        """The last sequence of `batch` up to which no recorded input comes in between."""
        if self._recorded and batch.first <= self._recorded[0].sequence:
            return min(batch.last, self._recorded[0].sequence)
        return batch.last

    def process(self, batch: DecodedBatch) -> list[Transition]:
        """The journal went on."""
        transitions = self.engine.process(batch)
        self.sequence, self.stamp = batch.last, 0
        return transitions

    def tick(self, now: Milliseconds) -> tuple[Tick | None, list[Transition]]:
        """The wall clock went on; None where that left no trace."""
        stamp = max(now, self.stamp + 1)
        transitions = self.engine.tick(stamp)
        if not self.engine.tick_mattered:
            return None, transitions
        self.stamp = stamp
        return Tick(self.sequence, stamp), transitions

    def outage(self, start: Milliseconds, end: Milliseconds, now: Milliseconds) -> Outage:
        """Nothing could be heard between the two."""
        self.engine.outage(start, end)
        return Outage(self.sequence, self._next_stamp(now), start, end)

    def apply(self, action: Action, now: Milliseconds) -> tuple[Request, list[Transition]]:
        """Somebody asked for something."""
        stamp = self._next_stamp(now)
        refusal, transitions = self.engine.apply(action, stamp)
        return Request(self.sequence, stamp, action, refusal), transitions

    def _next_stamp(self, now: Milliseconds) -> Milliseconds:
        self.stamp = max(now, self.stamp + 1)
        return self.stamp
