"""Registered devices: a page of them by filter, and one with its newest reading."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import ColumnElement, Engine, func, or_, select
from sqlalchemy.engine import Row

from api import schemas
from api.credentials import Principal
from api.parameters import (
    District,
    Identifier,
    PageCursor,
    PageSize,
    PathIdentifier,
    Search,
    decode_cursor,
    encode_cursor,
)
from api.policy import Viewer, within
from api.problems import not_found
from api.replies import json_response, location, words
from api.service import ServiceDep
from devices.errors import TransientError
from rules.documents import rfc3339
from storage.tables import devices, zones
from storage.telemetry import TelemetryStore

router = APIRouter(prefix="/v1/devices", tags=["devices"])
_log = structlog.get_logger("api")
_WITH_ZONE = select(devices, zones.c.name_zh.label("zone_zh"), zones.c.name_en.label("zone_en")).outerjoin(
    zones, zones.c.id == devices.c.zone
)


def device_document(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """A row of a device and its zone's names as the API's Device."""
    return {
        "id": row.id,
        "family": row.family,
        "profile": row.profile,
        "district": row.district,
        "zone": row.zone,
        "zone_name": words(row.zone_zh or "", row.zone_en or "", row.zone),
        "gateway": row.gateway,
        "interval": row.interval,
        "facts": row.facts,
        "name": words(row.name_zh, row.name_en, row.id),
        "location": location(row.lon, row.lat, row.crs),
    }


def visible_device(engine: Engine, principal: Principal, device: str) -> Row[*tuple[Any, ...]]:
    """The row of a device the principal may see; raises 404."""
    query = _WITH_ZONE.where(devices.c.id == device, within(principal, devices.c.district))
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found("device")
    return row


async def newest(store: TelemetryStore, rows: Sequence[Row[*tuple[Any, ...]]]) -> tuple[dict[str, Any], bool]:
    """The newest reading of each of these devices, and whether the store failed to answer (then there are none)."""
    of_family: dict[str, list[str]] = {}
    for row in rows:
        of_family.setdefault(row.family, []).append(row.id)
    found: dict[str, Any] = {}
    try:
        for family, ids in of_family.items():
            for point in await store.latest(family, devices=ids, limit=len(ids)):
                found[point.device] = {"time": rfc3339(point.time), "values": point.values, "quality": point.quality}
    except TransientError as error:
        _log.warning("no latest values", error=str(error)[:300])
        return {}, True
    return found, False


@router.get("", response_model=schemas.DevicePage)
async def list_devices(
    principal: Viewer,
    service: ServiceDep,
    district: District | None = None,
    family: Identifier | None = None,
    zone: Identifier | None = None,
    gateway: Identifier | None = None,
    q: Search | None = None,
    limit: PageSize = 100,
    cursor: PageCursor | None = None,
) -> Response:
    """Devices ordered by id, each with its newest reading; `q` searches identifier and names."""
    wanted = {"district": district, "family": family, "zone": zone, "gateway": gateway}
    conditions = [devices.c[name] == value for name, value in wanted.items() if value is not None]
    conditions.append(within(principal, devices.c.district))
    if q:
        searched = (devices.c.id, devices.c.name_zh, devices.c.name_en)
        conditions.append(or_(*(column.icontains(q, autoescape=True) for column in searched)))
    after = decode_cursor(cursor, (str,))
    rows, total = await run_in_threadpool(_page, service.engine, conditions, after, limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    latest, failed = await newest(service.store, rows)
    return json_response(
        {
            "items": [device_document(row) | {"latest": latest.get(row.id)} for row in rows],
            "next_cursor": encode_cursor(rows[-1].id) if more else None,
            "total": total,
            "latest_error": failed,
        }
    )


def _page(
    engine: Engine, conditions: Sequence[ColumnElement[bool]], after: list[Any] | None, limit: int
) -> tuple[Sequence[Row[*tuple[Any, ...]]], int]:
    page = _WITH_ZONE.where(*conditions).order_by(devices.c.id).limit(limit)
    if after is not None:
        page = page.where(devices.c.id > after[0])
    with engine.connect() as connection:
        total = connection.scalar(select(func.count()).select_from(devices).where(*conditions)) or 0
        return connection.execute(page).all(), total


@router.get("/{device}", response_model=schemas.SingleDevice)
async def get_device(device: PathIdentifier, principal: Viewer, service: ServiceDep) -> Response:
    """One device with its newest reading."""
    row = await run_in_threadpool(visible_device, service.engine, principal, device)
    latest, failed = await newest(service.store, [row])
    return json_response(device_document(row) | {"latest": latest.get(device), "latest_error": failed})
