"""The quarantine: what arrived and was not stored, with the reason. For operators, because payloads may be personal.

With `outcome=conflict`, the readings that another one of the same device and time overwrote.

A scoped credential sees a row if the device or, for native topics, the topic places it in its districts and nothing
places it elsewhere; what nothing places is for the whole city's credentials only.
"""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import ColumnElement, Select, and_, func, not_, or_, select, true, tuple_
from sqlalchemy.engine import Row

from api import schemas
from api.credentials import Principal
from api.parameters import Identifier, PageCursor, PageSize, decode_cursor, encode_cursor
from api.policy import Operator
from api.problems import not_found
from api.replies import json_response
from api.service import ServiceDep
from devices.reasons import Reason
from rules.documents import rfc3339
from storage.tables import devices, verdicts
from storage.verdicts import Outcome

router = APIRouter(prefix="/v1/quarantine", tags=["quarantine"])
_NATIVE = "songhua/v1/"
_EXCERPT = 4_096
_WHOLE = 65_536
_Number = Annotated[int, Path(ge=0, le=2**63 - 1)]


@router.get("", response_model=schemas.VerdictPage)
def list_quarantine(
    principal: Operator,
    service: ServiceDep,
    outcome: Outcome = "quarantined",
    reason: Annotated[Reason | None, Query()] = None,
    device: Identifier | None = None,
    limit: PageSize = 100,
    cursor: PageCursor | None = None,
) -> Response:
    """Newest first; payloads are cut after 4 KB."""
    key = tuple_(verdicts.c.received_at, verdicts.c.partition, verdicts.c.sequence, verdicts.c.element)
    query = _visible(principal, outcome)
    if reason is not None:
        query = query.where(verdicts.c.reason == reason)
    if device is not None:
        query = query.where(verdicts.c.device == device)
    if (before := decode_cursor(cursor, (int, int, int, int))) is not None:
        query = query.where(key < tuple_(*before))
    query = query.order_by(*(column.desc() for column in key.clauses)).limit(limit + 1)
    with service.engine.connect() as connection:
        rows = connection.execute(query).all()
    more = len(rows) > limit
    rows = rows[:limit]
    last = rows[-1] if more else None
    return json_response(
        {
            "items": [_verdict(row, _EXCERPT) for row in rows],
            "next_cursor": encode_cursor(last.received_at, last.partition, last.sequence, last.element)
            if last
            else None,
        }
    )


@router.get("/{partition}/{sequence}/{element}", response_model=schemas.Verdict)
def get_quarantined(
    partition: Annotated[int, Path(ge=0, le=2**31 - 1)],
    sequence: _Number,
    element: Annotated[int, Path(ge=0, le=2**31 - 1)],
    principal: Operator,
    service: ServiceDep,
    outcome: Outcome = "quarantined",
) -> Response:
    """One, with its payload up to 64 KB."""
    position = {"partition": partition, "sequence": sequence, "element": element}
    query = _visible(principal, outcome).where(*(verdicts.c[name] == value for name, value in position.items()))
    with service.engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found("quarantined message")
    return json_response(_verdict(row, _WHOLE))


def _visible(principal: Principal, outcome: Outcome) -> Select[*tuple[Any, ...]]:
    query = select(verdicts).where(verdicts.c.outcome == outcome, not_(verdicts.c.discarded))
    if principal.districts is None:
        return query
    return query.outerjoin(devices, devices.c.id == verdicts.c.device).where(_placed_within(principal.districts))


def _placed_within(districts: frozenset[str]) -> ColumnElement[bool]:
    """`substr` instead of LIKE, which ignores case in SQLite."""
    topic = verdicts.c.topic
    native = func.substr(topic, 1, len(_NATIVE)) == _NATIVE
    prefixes = [f"{_NATIVE}{district}/" for district in sorted(districts)]
    topic_within = (
        or_(*(func.substr(topic, 1, len(prefix)) == prefix for prefix in prefixes)) if prefixes else not_(true())
    )
    device_within = devices.c.district.in_(sorted(districts))
    nowhere_else = and_(or_(topic_within, not_(native)), or_(devices.c.district.is_(None), device_within))
    return and_(or_(topic_within, device_within), nowhere_else)


def _verdict(row: Row[*tuple[Any, ...]], most: int) -> dict[str, Any]:
    copied = ("partition", "sequence", "element", "outcome", "reason", "detail", "source", "topic", "device")
    return {
        **{name: row._mapping[name] for name in copied},
        "payload": base64.b64encode(row.payload[:most]).decode(),
        "payload_bytes": len(row.payload),
        "received_at": rfc3339(row.received_at),
    }
