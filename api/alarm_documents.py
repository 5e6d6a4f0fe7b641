"""Alarms as the API gives them: the document of `rules.documents` and what people call the subject and its zone.

Receives rows of the page or of the stream, gives JSON-ready values in the same order, with one query for the names of
all. Names are those the registry has now; where it has none, the identifier stands in.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, literal, or_, select, union_all

from api.replies import words
from rules.documents import alarm_document
from rules.model import Alarm
from rules.tables import alarms
from storage.tables import devices, gateways, zones

_REGISTERED = {"device": devices, "gateway": gateways, "zone": zones}


def alarm_documents(connection: Connection, given: Sequence[Alarm]) -> list[dict[str, Any]]:
    """Each alarm as the API's Alarm."""
    names = _names(connection, given)
    return [_document(alarm, names) for alarm in given]


def subject_named(text: str) -> ColumnElement[bool]:
    """The condition that the name of an alarm's subject contains `text`."""
    return or_(
        *(
            and_(
                alarms.c.subject_kind == kind,
                alarms.c.subject_id.in_(
                    select(table.c.id).where(
                        or_(*(name.icontains(text, autoescape=True) for name in (table.c.name_zh, table.c.name_en)))
                    )
                ),
            )
            for kind, table in _REGISTERED.items()
        )
    )


def _document(alarm: Alarm, names: dict[tuple[str, str], dict[str, str]]) -> dict[str, Any]:
    document = alarm_document(alarm)
    subject = document["subject"]
    subject["name"] = names.get((alarm.subject_kind, alarm.subject_id)) or words("", "", alarm.subject_id)
    document["zone_name"] = names.get(("zone", alarm.zone)) or words("", "", alarm.zone)
    return document


def _names(connection: Connection, given: Sequence[Alarm]) -> dict[tuple[str, str], dict[str, str]]:
    wanted = {kind: {alarm.subject_id for alarm in given if alarm.subject_kind == kind} for kind in _REGISTERED}
    wanted["zone"] |= {alarm.zone for alarm in given if alarm.zone}
    parts = [
        select(literal(kind), table.c.id, table.c.name_zh, table.c.name_en).where(table.c.id.in_(sorted(wanted[kind])))
        for kind, table in _REGISTERED.items()
        if wanted[kind]
    ]
    if not parts:
        return {}
    rows = connection.execute(union_all(*parts))
    return {(kind, identity): words(zh, en, identity) for kind, identity, zh, en in rows}
