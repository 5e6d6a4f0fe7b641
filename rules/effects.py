"""What the rules engine did, on its way to the database: effects of a stretch of the journal, and recorded inputs.

The engine is driven by the journal and by three things that are not in it: the wall clock, people, and our own
outages. Each of those is an input with a place, (journal sequence, stamp): it came after that sequence, and stamps at
one sequence only grow. Inputs are committed together with what they caused, so that a replay meets them at the same
places. Plain data, no errors.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from devices.model import Milliseconds
from rules.gateway_sessions import GatewayRow
from rules.model import Action, Transition
from storage.snapshots import Snapshot

Place: TypeAlias = tuple[int, Milliseconds]


class Tick(msgspec.Struct, frozen=True):
    """The engine was told the time."""

    sequence: int
    stamp: Milliseconds


class Outage(msgspec.Struct, frozen=True):
    """The engine was told that nothing could be heard from `start` to `end`."""

    sequence: int
    stamp: Milliseconds
    start: Milliseconds
    end: Milliseconds


class Request(msgspec.Struct, frozen=True):
    """The engine was given a person's action; `refusal` says why it did nothing, None where it was applied."""

    sequence: int
    stamp: Milliseconds
    action: Action
    refusal: str | None = None


Input: TypeAlias = Tick | Outage | Request


class Cursor(msgspec.Struct, frozen=True):
    """How far the committed effects reach, when that was last confirmed, and the tallies at exactly that place."""

    sequence: int = 0
    tallies: dict[str, int] = {}
    updated_at: Milliseconds | None = None


@dataclass
class Effects:
    """All that one transaction commits. `sequence` is the newest journal sequence whose effects are contained."""

    sequence: int = 0
    tallies: dict[str, int] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    gateways: dict[str, GatewayRow] = field(default_factory=dict)
    snapshot: Snapshot | None = None

    @property
    def size(self) -> int:
        """Rows waiting; what the bound on memory counts."""
        return len(self.transitions) + len(self.inputs) + len(self.gateways)

    @property
    def urgent(self) -> bool:
        """Somebody is waiting for it; ticks and a mere progress of the cursor may wait for company."""
        return bool(self.transitions or self.gateways) or any(not isinstance(item, Tick) for item in self.inputs)
