"""The documents of the HTTP API, as OpenAPI describes them (the console's client is generated from these).

Documentation and contract, not machinery: answers are encoded without them, a test holds each against its model.
Moments of entities are RFC 3339 in UTC, chart columns are ms since the epoch.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from devices.model import Crs
from rules.model import ActionKind, Priority, State, SubjectKind


class Document(BaseModel):
    """Base of all: unknown keys are refused, so that an answer that grew shows up in the tests."""

    model_config = ConfigDict(extra="forbid")


class Words(Document):
    """A text for people."""

    zh: str
    en: str


class Location(Document):
    """Degrees in the datum `crs`."""

    lon: float
    lat: float
    crs: Crs


class ProblemError(Document):
    """One parameter that was refused."""

    parameter: str
    in_: str = Field(alias="in", description="query | path | header | body")
    expected: str


class ProblemDocument(Document):
    """RFC 9457. `type` is `urn:songhua:problem:<title in kebab case>`; `errors` only where parameters were refused."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemError] | None = None


class Session(Document):
    """Who is logged in. `districts` null: the whole city. `expires_at` null: a token without an end."""

    name: str
    role: Literal["viewer", "operator", "admin"]
    districts: list[str] | None
    expires_at: datetime | None


class PriorityCounts(Document):
    """How many alarms of each priority."""

    critical: int
    high: int
    medium: int
    low: int


class DistrictOverview(Document):
    """One district: what stands there, and its active alarms."""

    code: str
    name: Words
    devices: int
    gateways: int
    gateways_online: int
    alarms: PriorityCounts


class FamilyOverview(Document):
    """How many devices of one family."""

    family: str
    label: Words
    devices: int


class Overview(Document):
    """Counts over the districts the session may see.

    Active: UNACK, ACKED. Unacknowledged: UNACK, RTNUN.
    """

    districts: list[DistrictOverview]
    families: list[FamilyOverview]
    alarms_active: int
    alarms_unacknowledged: int


class District(Document):
    """`code` is GB/T 2260."""

    code: str
    name: Words


class DistrictList(Document):
    """Ordered by code."""

    items: list[District]


class PropertyDescription(Document):
    """A canonical property; `unit` is UCUM, `range` is physical (inclusive), `values` lists the words of a state."""

    unit: str
    zh: str
    en: str
    range: tuple[float, float] | None
    kind: Literal["number", "boolean", "state"]
    values: list[str]


class FamilyDescription(Document):
    """A class of devices that report the same properties, under their canonical names, in the catalogue's order."""

    family: str
    label: Words
    properties: dict[str, PropertyDescription]


class FamilyList(Document):
    """In the catalogue's order."""

    items: list[FamilyDescription]


class Zone(Document):
    """A DMA, lighting circuit, heating loop or catchment; zones nest through `parent`."""

    id: str
    kind: str
    district: str
    parent: str | None
    name: Words


class ZoneList(Document):
    """Ordered by id."""

    items: list[Zone]


class Gateway(Document):
    """`state` is null until it has spoken; `since` is when it said so, in its own time where it gave one."""

    id: str
    district: str
    name: Words
    location: Location | None
    state: Literal["online", "offline"] | None
    since: datetime | None
    devices: int


class GatewayList(Document):
    """Ordered by id."""

    items: list[Gateway]


class Latest(Document):
    """A device's newest reading; numbers in canonical units, booleans 0 or 1, states as words."""

    time: datetime
    values: dict[str, float | str]
    quality: str = Field(description="ok, or comma-separated flags: clock, range")


class Device(Document):
    """`interval` is the nominal reporting interval in ms; `facts` are the numbers of the installation. Names are the
    registry's, the identifier where it has none.

    `latest` is null where nothing is stored yet, and everywhere while `latest_error` says that the store does not
    answer.
    """

    id: str
    family: str
    profile: str
    district: str
    zone: str
    zone_name: Words
    gateway: str
    interval: int
    facts: dict[str, float]
    name: Words
    location: Location | None
    latest: Latest | None


class DevicePage(Document):
    """Ordered by id. `total` counts all pages; `next_cursor` null: this was the last."""

    latest_error: bool

    items: list[Device]
    next_cursor: str | None
    total: int


class SingleDevice(Device):
    """A device asked for by its id."""

    latest_error: bool


class LatestOfDevice(Latest):
    """The newest reading and whose it is."""

    device: str


class LatestList(Document):
    """Family by family, in no promised order within one. `truncated`: there were more than `limit`."""

    items: list[LatestOfDevice]
    truncated: bool


class Readings(Document):
    """Columns for a chart: `times[i]` (ms) belongs to `columns[property][i]`, null where nothing was reported.

    `bucket` is in ms, null for raw values. `truncated`: there were more points than one answer holds; narrow the range.
    """

    times: list[int]
    columns: dict[str, list[float | str | None]]
    units: dict[str, str]
    bucket: int | None
    truncated: bool


class Subject(Document):
    """What an alarm is about. `name` is the registry's; the identifier where it has none."""

    kind: SubjectKind
    id: str
    name: Words


class Alarm(Document):
    """One episode of one rule on one subject, in its ISA-18.2 state; `evidence` holds the values seen when it rose."""

    id: str
    rule: str
    title: Words
    subject: Subject
    family: str
    district: str
    zone: str
    zone_name: Words
    gateway: str
    priority: Priority
    state: State
    version: int
    raised_at: datetime
    returned_at: datetime | None
    acked_at: datetime | None
    acked_by: str | None
    assignee: str | None
    shelved_until: datetime | None
    shelve_reason: str | None
    suppressed_by: str | None
    evidence: dict[str, Any]
    explanation: Words
    advice: Words
    location: Location | None
    case_key: str | None
    verdict: str | None
    children: int
    occurrences: int


class AlarmPage(Document):
    """Newest first (`raised_at`, then id). `counts` obey every filter but `priority` and are those of all pages.

    `last_seq`: pass it to the stream (`last_seq=`) and no change after this page is missed.
    """

    items: list[Alarm]
    next_cursor: str | None
    counts: PriorityCounts
    last_seq: int


class Transition(Document):
    """One change: `at` is event time, `recorded_at` processing time; `actor` and `note` where a person did it."""

    seq: int
    version: int
    from_state: State
    to_state: State
    cause: str
    at: datetime
    recorded_at: datetime
    actor: str | None
    note: str | None


class AlarmWithTransitions(Alarm):
    """`transitions` ascending."""

    transitions: list[Transition]


class Action(Document):
    """A request and what became of it; `answer` says why it was refused."""

    id: str
    alarm: str
    kind: ActionKind
    actor: str
    seen_version: int
    arguments: dict[str, Any]
    requested_at: datetime
    state: Literal["pending", "applied", "refused"]
    answer: str | None
    applied_at: datetime | None


class Verdict(Document):
    """A message or element that was not stored, or (outcome conflict) was overwritten.

    `payload` is base64: 4 KB of it in a list, 64 KB alone.
    """

    partition: int
    sequence: int
    element: int
    outcome: Literal["quarantined", "conflict"]
    reason: str
    detail: str
    source: str
    topic: str
    device: str | None
    payload: str
    payload_bytes: int = Field(description="Size of the whole payload.")
    received_at: datetime


class VerdictPage(Document):
    """Newest first."""

    items: list[Verdict]
    next_cursor: str | None


class HealthReason(Document):
    """Why health is not ok."""

    code: str
    zh: str
    en: str


class Health(Document):
    """down: the main job is not being done; degraded: something is wrong, see the reasons."""

    state: Literal["ok", "degraded", "down"]
    reasons: list[HealthReason]


class Status(Document):
    """The service in numbers: received = stored + late + duplicate + quarantined + control + pending.

    The traffic counters are those of the whole service, as ingest last said them; alarms, devices and gateways are
    those of the session's districts. A lag is null where nobody ever measured it.
    """

    received: int
    journalled: int
    stored: int
    late: int
    duplicate: int
    quarantined: int
    quarantined_by_reason: dict[str, int]
    control: int
    pending: int
    lost: int = Field(description="Readings that will not come any more: their numbers are missing for 10 minutes.")
    missing: int = Field(description="Readings whose numbers are missing; they may still come.")
    conflicts: int = Field(description="Readings overwritten by another one of the same time; they are in quarantine.")
    sessions_lost: int = Field(description="Since ingest started: connections at which the broker had forgotten us.")
    journal_bytes: int = Field(description="Size of the journal on disk.")
    notifications_dead: int = Field(description="Notifications that were given up and are kept in the outbox.")
    store_lag_s: float | None
    rules_lag_s: float | None
    alarms_active: int
    alarms_unacknowledged: int
    devices: int
    gateways_online: int
    health: Health


class Alive(Document):
    """The process answers."""

    status: Literal["ok"]
