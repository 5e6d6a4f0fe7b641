"""What the engine produces: alarms in their ISA-18.2 states and the transitions between them.

An `Alarm` is a state of the world; a notification about it is made later from a `Transition`. Identity is
deterministic, so a replay produces the same keys.
"""

from enum import StrEnum
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from devices.errors import SonghuaError
from devices.model import Milliseconds

Priority = Literal["critical", "high", "medium", "low"]
SubjectKind = Literal["device", "zone", "gateway"]
ActionKind = Literal["acknowledge", "comment", "assign", "shelve", "unshelve", "verdict"]


class State(StrEnum):
    """ISA-18.2 / IEC 62682 alarm states."""

    NORM = "NORM"  # normal: returned and acknowledged (the end of an episode), or never raised
    UNACK = "UNACK"  # active, unacknowledged
    ACKED = "ACKED"  # active, acknowledged
    RTNUN = "RTNUN"  # returned to normal, unacknowledged
    SHLVD = "SHLVD"  # shelved by a person, with an end and a reason
    DSUPR = "DSUPR"  # suppressed by design (its gateway is down)
    OOSRV = "OOSRV"  # out of service


class SnapshotMismatch(SonghuaError):
    """Bytes that this version of the engine does not read; it is unchanged, the caller replays what is kept."""


# What the list of alarms shows: the condition holds, and neither a person nor the design has taken it off (ISA-18.2).
ACTIVE = frozenset({State.UNACK, State.ACKED})
UNACKNOWLEDGED = frozenset({State.UNACK, State.RTNUN})


def alarm_id(rule: str, kind: SubjectKind, subject: str, episode_start: Milliseconds) -> str:
    """The key of an episode: 32 hex digits of BLAKE2b over (rule, subject, start of the condition in event time)."""
    text = f"{rule}\x1f{kind}\x1f{subject}\x1f{episode_start}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


class Alarm(msgspec.Struct, kw_only=True):
    """One episode of one rule on one subject; the columns of `rules.tables.alarms` (see there for each field)."""

    id: str
    rule: str
    subject_kind: SubjectKind
    subject_id: str
    family: str = ""
    district: str
    zone: str = ""
    gateway: str = ""
    priority: Priority
    state: State
    version: int
    raised_at: Milliseconds
    returned_at: Milliseconds | None = None
    acked_at: Milliseconds | None = None
    acked_by: str | None = None
    assignee: str | None = None
    shelved_until: Milliseconds | None = None
    shelve_reason: str | None = None
    suppressed_by: str | None = None
    title_zh: str
    title_en: str
    evidence: dict[str, Any]
    explanation_zh: str
    explanation_en: str
    advice_zh: str = ""
    advice_en: str = ""
    lon: float | None = None
    lat: float | None = None
    crs: str | None = None
    case_key: str | None = None
    verdict: str | None = None
    children: int = 0
    occurrences: int = 1


class Transition(msgspec.Struct, kw_only=True):
    """One change: `alarm` is a copy of the alarm after it. `notify` is False for what is recorded without paging (a
    backlog's past).
    """

    alarm: Alarm
    from_state: State
    to_state: State
    cause: str
    at: Milliseconds
    recorded_at: Milliseconds
    actor: str | None = None
    note: str | None = None
    notify: bool = True


class Action(msgspec.Struct, kw_only=True):
    """A person's request as read from the `actions` table."""

    id: str
    alarm: str
    kind: ActionKind
    actor: str
    seen_version: int
    arguments: dict[str, Any] = {}
    requested_at: Milliseconds = 0
