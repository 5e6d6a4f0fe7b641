"""What the engine remembers of each device and zone: the bits of its conditions, its running holds, its watermark,
its cadence.

`Subject` is what a hold works on; `DeviceSubject` adds event time, windows and silence. Plain slots, because one
exists per device (about 600 bytes with its last reading). Owned by the engine and its parts, written by nobody else.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from devices.model import Device, Reading, Values
from rules.model import SubjectKind
from rules.pack import Rule

if TYPE_CHECKING:
    from rules.fusion import Program, Step
    from rules.windows import Window
    from rules.zones import ZoneMember

NEVER = 1 << 62  # later than any time in ms
PENDING, SUPPRESSED, DEFERRED, SILENT, IN_ZONE = 1, 2, 4, 8, 16  # why a reading needs more than its step
VALIDITY = 1.5  # a sample speaks for this many reporting intervals


class Hold(msgspec.Struct):
    """A condition that must last: on_delay before raising, off_delay before returning. Times are event time, ms.

    `start`: when the condition became so; `due`: when the hold completes; `seen`: last sample that said so; `offset`:
    processing clock minus running clock then; `armed`: running clock at which it will be looked at (-1: not).
    `choice` is the comparison that serves as evidence, `evidence` and `samples` what it saw.
    """

    start: int
    due: int
    seen: int
    offset: int = 0
    armed: int = -1
    choice: int = -1
    evidence: dict[str, Any] = {}
    samples: list[list[int | float]] = []


class Subject:
    """Bits of the conditions of one device or zone: `on` = condition true now, `up` = raised; `due` = earliest
    completion of a hold.
    """

    __slots__ = ("due", "id", "interval", "lateness", "on", "pending", "rules", "up", "watch")
    kind: SubjectKind

    def __init__(self, identity: str, rules: Sequence[Rule], interval: int) -> None:
        self.id = identity
        self.rules = rules
        self.interval = interval
        self.lateness = 0  # how long the clock waits for stragglers before it speaks for event time, ms
        self.on = 0
        self.up = 0
        self.pending: dict[int, Hold] | None = None
        self.due = NEVER
        self.watch = 0

    def hold(self, bit: int, hold: Hold) -> None:
        """Start a hold for rule `bit`."""
        if self.pending is None:
            self.pending = {}
        self.pending[bit] = hold
        self.watch |= PENDING
        self.due = min(self.due, hold.due)

    def release(self, bit: int) -> Hold | None:
        """End the hold of rule `bit`, if there is one."""
        if self.pending is None:
            return None
        hold = self.pending.pop(bit, None)
        if not self.pending:
            self.pending = None
            self.watch &= ~PENDING
        self.due = min((item.due for item in self.pending.values()), default=NEVER) if self.pending else NEVER
        return hold

    def blocked(self, due: int) -> int | None:
        """Running clock at which a reading from before `due`, which still waits to be evaluated, will have been."""
        return None


class DeviceSubject(Subject):
    """A device: `time` is its watermark, `heard` and `listened` when something of it was last received (wall and
    listening clock).
    """

    __slots__ = (
        "buffer",
        "constants",
        "device",
        "expected",
        "gaps",
        "gateway",
        "heard",
        "last",
        "learnt",
        "listened",
        "others",
        "program",
        "step",
        "time",
        "windows",
        "zones",
    )
    kind: SubjectKind = "device"

    def __init__(self, device: Device, rules: Sequence[Rule]) -> None:
        super().__init__(device.id, rules, device.interval)
        self.device = device
        self.step: Step
        self.program: Program
        self.constants: tuple[float, ...] = ()
        self.windows: list[Window] = []
        self.time = -1
        self.last: Values | None = None
        self.heard = 0
        self.listened = 0
        self.learnt = device.interval
        self.expected = 0  # a longer gap between receptions is worth learning from
        self.gaps: list[int] | None = []
        self.gateway = device.gateway
        self.others: dict[str, int] | None = None  # other gateways that heard it -> listening clock
        self.buffer: list[tuple[int, int, int, int, Reading]] | None = None  # time, sequence, index, running clock
        self.zones: tuple[ZoneMember, ...] = ()

    def blocked(self, due: int) -> int | None:
        if not self.buffer or self.buffer[0][0] > due:
            return None
        return self.buffer[0][3] + self.lateness
