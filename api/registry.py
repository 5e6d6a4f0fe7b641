"""What stands in the city, for lists and menus: districts, families with their properties, zones, gateways."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import func, select

from api import schemas
from api.parameters import District
from api.policy import Viewer, within
from api.replies import json_response, location, words
from api.service import ServiceDep
from devices.catalogue import Property
from rules.documents import rfc3339
from storage import tables

router = APIRouter(prefix="/v1", tags=["city"])


@router.get("/districts", response_model=schemas.DistrictList)
def list_districts(principal: Viewer, service: ServiceDep) -> Response:
    """The districts the session may see."""
    zones = tables.zones.c
    query = select(zones.district, zones.name_zh, zones.name_en).where(zones.kind == "district")
    with service.engine.connect() as connection:
        rows = connection.execute(query.where(within(principal, zones.district)).order_by(zones.district)).all()
    return json_response({"items": [{"code": row[0], "name": words(row[1], row[2], row[0])} for row in rows]})


@router.get("/families", response_model=schemas.FamilyList)
def list_families(_: Viewer, service: ServiceDep) -> Response:
    """The property catalogue: what each family of devices can report."""
    catalogue = service.catalogue
    items = [
        {
            "family": name,
            "label": {"zh": family.zh, "en": family.en},
            "properties": {prop: _property(catalogue.properties[prop]) for prop in family.properties},
        }
        for name, family in catalogue.families.items()
    ]
    return json_response({"items": items})


def _property(prop: Property) -> dict[str, Any]:
    return {key: getattr(prop, key) for key in ("unit", "zh", "en", "range", "kind", "values")}


@router.get("/zones", response_model=schemas.ZoneList)
def list_zones(principal: Viewer, service: ServiceDep, district: District | None = None) -> Response:
    """Zones of all kinds, the districts among them."""
    zones = tables.zones.c
    query = select(tables.zones).where(within(principal, zones.district)).order_by(zones.id)
    if district is not None:
        query = query.where(zones.district == district)
    with service.engine.connect() as connection:
        rows = connection.execute(query).all()
    items = [
        {
            "id": row.id,
            "kind": row.kind,
            "district": row.district,
            "parent": row.parent,
            "name": words(row.name_zh, row.name_en, row.id),
        }
        for row in rows
    ]
    return json_response({"items": items})


@router.get("/gateways", response_model=schemas.GatewayList)
def list_gateways(principal: Viewer, service: ServiceDep, district: District | None = None) -> Response:
    """Gateways with their connection state and the number of devices registered behind each."""
    gateways, states = tables.gateways, tables.gateway_states
    behind = (
        select(tables.devices.c.gateway, func.count().label("devices"))
        .where(within(principal, tables.devices.c.district))
        .group_by(tables.devices.c.gateway)
        .subquery()
    )
    query = (
        select(gateways, states.c.state, states.c.at, states.c.received_at, func.coalesce(behind.c.devices, 0))
        .outerjoin(states, states.c.gateway == gateways.c.id)
        .outerjoin(behind, behind.c.gateway == gateways.c.id)
        .where(within(principal, gateways.c.district))
        .order_by(gateways.c.id)
    )
    if district is not None:
        query = query.where(gateways.c.district == district)
    with service.engine.connect() as connection:
        rows = connection.execute(query).all()
    items = [
        {
            "id": row.id,
            "district": row.district,
            "name": words(row.name_zh, row.name_en, row.id),
            "location": location(row.lon, row.lat, row.crs),
            "state": row.state,
            "since": rfc3339(row.at if row.at is not None else row.received_at),
            "devices": row[-1],
        }
        for row in rows
    ]
    return json_response({"items": items})
