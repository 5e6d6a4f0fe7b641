"""What leaves the house about an alarm: the JSON document of an `Alarm` and the `Notification` of one transition.

The same document is the body of the HTTP API, of the webhook and of the MQTT topic
`songhua/v1/alarms/{district}/{alarm}`. Inside, times are ms since the epoch; here they are RFC 3339 in UTC
(`2026-01-01T00:00:00.000Z`). Pure functions, no state, no errors.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from devices.model import Milliseconds
from rules.model import Alarm, Transition

_KINDS = {
    "raise": "raised",
    "reraise": "raised again",
    "return": "returned",
    "acknowledge": "acknowledged",
    "comment": "commented",
    "assign": "assigned",
    "shelve": "shelved",
    "unshelve": "unshelved",
    "suppress": "suppressed",
    "unsuppress": "unsuppressed",
    "verdict": "judged",
    "escalate": "escalated",
    "reset": "reset",
}


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one target. `id` is the idempotency key, equal in every attempt; `at` is event time (RFC 3339).

    `notify` is False for what is recorded without paging: only targets that mirror every transition receive it.
    `alarm` is the alarm's document after the transition; None for the built-in notifications about the service itself
    (`database_down`, `database_up`), which no alarm stands behind.
    """

    id: str
    kind: str
    at: str
    title: dict[str, str]
    notify: bool = True
    actor: str | None = None
    note: str | None = None
    alarm: dict[str, Any] | None = None


def rfc3339(time: Milliseconds | None) -> str | None:
    """The instant as text in UTC with milliseconds; None stays None."""
    if time is None:
        return None
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def alarm_document(alarm: Alarm) -> dict[str, Any]:
    """The alarm as JSON-ready values (see the HTTP API's Alarm)."""
    location = None
    if alarm.lon is not None and alarm.lat is not None:
        location = {"lon": alarm.lon, "lat": alarm.lat, "crs": alarm.crs}
    return {
        "id": alarm.id,
        "rule": alarm.rule,
        "title": {"zh": alarm.title_zh, "en": alarm.title_en},
        "subject": {"kind": alarm.subject_kind, "id": alarm.subject_id},
        "family": alarm.family,
        "district": alarm.district,
        "zone": alarm.zone,
        "gateway": alarm.gateway,
        "priority": alarm.priority,
        "state": str(alarm.state),
        "version": alarm.version,
        "raised_at": rfc3339(alarm.raised_at),
        "returned_at": rfc3339(alarm.returned_at),
        "acked_at": rfc3339(alarm.acked_at),
        "acked_by": alarm.acked_by,
        "assignee": alarm.assignee,
        "shelved_until": rfc3339(alarm.shelved_until),
        "shelve_reason": alarm.shelve_reason,
        "suppressed_by": alarm.suppressed_by,
        "evidence": alarm.evidence,
        "explanation": {"zh": alarm.explanation_zh, "en": alarm.explanation_en},
        "advice": {"zh": alarm.advice_zh, "en": alarm.advice_en},
        "location": location,
        "case_key": alarm.case_key,
        "verdict": alarm.verdict,
        "children": alarm.children,
        "occurrences": alarm.occurrences,
    }


def notification_key(transition: Transition, target: str) -> str:
    """`{alarm}:{version}:{target}`: a replay of the same transition makes the same key."""
    return f"{transition.alarm.id}:{transition.alarm.version}:{target}"


def build_notification(transition: Transition, target: str) -> Notification:
    """What `target` is told about `transition`."""
    alarm = transition.alarm
    return Notification(
        id=notification_key(transition, target),
        kind=_KINDS.get(transition.cause, transition.cause),
        at=rfc3339(transition.at) or "",
        title={"zh": alarm.title_zh, "en": alarm.title_en},
        notify=transition.notify,
        actor=transition.actor,
        note=transition.note,
        alarm=alarm_document(alarm),
    )
