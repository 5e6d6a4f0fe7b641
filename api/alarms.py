"""Alarms as people work with them: the list, one with its history, and requests about it.

The api never edits an alarm: an action is inserted for rules to apply and answer.
"""

import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import ColumnElement, Engine, and_, func, insert, or_, select, tuple_
from sqlalchemy.engine import Connection, Row

from api import schemas
from api.alarm_documents import alarm_documents, subject_named
from api.audit import AuditedAction, record
from api.credentials import Principal
from api.overview import PRIORITIES
from api.parameters import (
    CommaSeparated,
    District,
    Identifier,
    PageCursor,
    PageSize,
    PathIdentifier,
    Search,
    decode_cursor,
    encode_cursor,
)
from api.policy import Operator, Viewer, client_address, within
from api.problems import not_found
from api.replies import json_response
from api.requests import ActionRequest
from api.service import ServiceDep
from rules.documents import rfc3339
from rules.model import ACTIVE, Alarm, Priority, State
from rules.tables import actions, alarms, transitions

router = APIRouter(prefix="/v1", tags=["alarms"])
ALARM_COLUMNS = [alarms.c[name] for name in Alarm.__struct_fields__]


def _documents(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[dict[str, Any]]:
    """Rows that hold `ALARM_COLUMNS` as the API's Alarms."""
    return alarm_documents(connection, [Alarm(**row._mapping) for row in rows])


@router.get("/alarms", response_model=schemas.AlarmPage)
def list_alarms(
    principal: Viewer,
    service: ServiceDep,
    state: Annotated[list[State] | None, CommaSeparated, Query()] = None,
    active: Annotated[bool | None, Query(description="true: UNACK, ACKED; false: the others.")] = None,
    priority: Annotated[list[Priority] | None, CommaSeparated, Query()] = None,
    district: District | None = None,
    family: Identifier | None = None,
    rule: Identifier | None = None,
    subject: Identifier | None = None,
    suppressed_by: Annotated[Identifier | None, Query(description="The alarm that hides them.")] = None,
    q: Search | None = None,
    limit: PageSize = 100,
    cursor: PageCursor | None = None,
) -> Response:
    """Newest first; `q` searches subject (identifier and names), rule and titles."""
    conditions = [within(principal, alarms.c.district)]
    wanted = {
        "district": district,
        "family": family,
        "rule": rule,
        "subject_id": subject,
        "suppressed_by": suppressed_by,
    }
    conditions += [alarms.c[name] == value for name, value in wanted.items() if value is not None]
    if state:
        conditions.append(alarms.c.state.in_(state))
    if active is not None:
        conditions.append(alarms.c.state.in_(ACTIVE) if active else alarms.c.state.not_in(ACTIVE))
    if q:
        searched = (alarms.c.rule, alarms.c.subject_id, alarms.c.title_zh, alarms.c.title_en)
        conditions.append(or_(subject_named(q), *(column.icontains(q, autoescape=True) for column in searched)))
    of_page = conditions + ([alarms.c.priority.in_(priority)] if priority else [])
    if (before := decode_cursor(cursor, (int, str))) is not None:
        of_page.append(tuple_(alarms.c.raised_at, alarms.c.id) < tuple_(*before))
    newest_first = (alarms.c.raised_at.desc(), alarms.c.id.desc())
    with service.engine.connect() as connection:
        # Read before the page: whatever changes meanwhile has a higher number and comes again through the stream.
        last_seq = connection.scalar(select(func.coalesce(func.max(transitions.c.seq), 0)))
        counts = _count(connection, conditions)
        rows = connection.execute(select(*ALARM_COLUMNS).where(*of_page).order_by(*newest_first).limit(limit + 1)).all()
        more = len(rows) > limit
        rows = rows[:limit]
        items = _documents(connection, rows)
    return json_response(
        {
            "items": items,
            "next_cursor": encode_cursor(rows[-1].raised_at, rows[-1].id) if more else None,
            "counts": counts,
            "last_seq": last_seq,
        }
    )


def _count(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> dict[str, int]:
    query = select(alarms.c.priority, func.count()).where(*conditions).group_by(alarms.c.priority)
    counted: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    return {priority: counted.get(priority, 0) for priority in PRIORITIES}


@router.get("/alarms/{alarm}", response_model=schemas.AlarmWithTransitions)
def get_alarm(alarm: PathIdentifier, principal: Viewer, service: ServiceDep) -> Response:
    """One alarm with everything that happened to it."""
    history = select(transitions).where(transitions.c.alarm == alarm).order_by(transitions.c.seq)
    with service.engine.connect() as connection:
        (document,) = _documents(connection, [_visible_alarm(connection, principal, alarm)])
        steps = connection.execute(history).all()
    return json_response(document | {"transitions": [_transition(step) for step in steps]})


def _visible_alarm(connection: Connection, principal: Principal, alarm: str) -> Row[*tuple[Any, ...]]:
    query = select(*ALARM_COLUMNS).where(alarms.c.id == alarm, within(principal, alarms.c.district))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found("alarm")
    return row


def _transition(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    copied = ("seq", "version", "from_state", "to_state", "cause", "actor", "note")
    times = {"at": rfc3339(row.at), "recorded_at": rfc3339(row.recorded_at)}
    return {name: row._mapping[name] for name in copied} | times


@router.post("/alarms/{alarm}/actions", response_model=schemas.Action, status_code=HTTPStatus.ACCEPTED)
def request_action(
    alarm: PathIdentifier, body: ActionRequest, principal: Operator, service: ServiceDep, request: Request
) -> Response:
    """Ask rules to change the alarm. Accepted is not applied: read the action until it is no longer pending."""
    action = secrets.token_hex(16)
    now = service.clock()
    arguments = body.arguments.model_dump(exclude_none=True)
    with service.engine.begin() as connection:
        _visible_alarm(connection, principal, alarm)
        connection.execute(
            insert(actions).values(
                id=action,
                alarm=alarm,
                kind=body.kind,
                actor=principal.name,
                seen_version=body.seen_version,
                arguments=arguments,
                requested_at=now,
                state="pending",
            )
        )
        record(
            connection,
            AuditedAction.alarm_action,
            at=now,
            actor=principal.name,
            address=client_address(request),
            subject=alarm,
            detail={"action": action, "kind": body.kind, "seen_version": body.seen_version, "arguments": arguments},
        )
    return json_response(_action(service.engine, principal, action), HTTPStatus.ACCEPTED)


@router.get("/actions/{action}", response_model=schemas.Action)
def get_action(action: PathIdentifier, principal: Viewer, service: ServiceDep) -> Response:
    """What became of a request."""
    return json_response(_action(service.engine, principal, action))


def _action(engine: Engine, principal: Principal, action: str) -> dict[str, Any]:
    visible = and_(actions.c.id == action, within(principal, alarms.c.district))
    query = select(actions).join(alarms, alarms.c.id == actions.c.alarm).where(visible)
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found("action")
    copied = ("id", "alarm", "kind", "actor", "seen_version", "arguments", "state", "answer")
    times = {"requested_at": rfc3339(row.requested_at), "applied_at": rfc3339(row.applied_at)}
    return {name: row._mapping[name] for name in copied} | times
