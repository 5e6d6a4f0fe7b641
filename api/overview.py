"""The city at a glance: devices, gateways and active alarms for each district, in one answer."""

from collections import Counter
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import func, select

from api import schemas
from api.policy import Viewer, within
from api.replies import json_response, words
from api.service import ServiceDep
from rules.model import ACTIVE, UNACKNOWLEDGED
from rules.tables import alarms
from storage.tables import devices, gateway_states, gateways, zones

router = APIRouter(prefix="/v1", tags=["city"])
PRIORITIES = ("critical", "high", "medium", "low")


@router.get("/overview", response_model=schemas.Overview)
def get_overview(principal: Viewer, service: ServiceDep) -> Response:
    """Counts over everything the session may see."""
    device_query = (
        select(devices.c.district, devices.c.family, func.count())
        .where(within(principal, devices.c.district))
        .group_by(devices.c.district, devices.c.family)
    )
    gateway_query = (
        select(gateways.c.district, gateway_states.c.state, func.count())
        .outerjoin(gateway_states, gateway_states.c.gateway == gateways.c.id)
        .where(within(principal, gateways.c.district))
        .group_by(gateways.c.district, gateway_states.c.state)
    )
    alarm_query = (
        select(alarms.c.district, alarms.c.priority, alarms.c.state, func.count())
        .where(alarms.c.state.in_(ACTIVE | UNACKNOWLEDGED), within(principal, alarms.c.district))
        .group_by(alarms.c.district, alarms.c.priority, alarms.c.state)
    )
    name_query = select(zones.c.district, zones.c.name_zh, zones.c.name_en).where(
        zones.c.kind == "district", within(principal, zones.c.district)
    )
    with service.engine.connect() as connection:
        device_rows = connection.execute(device_query).all()
        gateway_rows = connection.execute(gateway_query).all()
        alarm_rows = connection.execute(alarm_query).all()
        names = {code: words(zh, en, code) for code, zh, en in connection.execute(name_query)}

    of_family: Counter[str] = Counter()
    of_district: Counter[tuple[str, str]] = Counter()
    for district, family, count in device_rows:
        of_family[family] += count
        of_district[district, "devices"] += count
    for district, state, count in gateway_rows:
        of_district[district, "gateways"] += count
        of_district[district, "gateways_online"] += count if state == "online" else 0
    for district, priority, state, count in alarm_rows:
        of_district[district, priority] += count if state in ACTIVE else 0
    codes = sorted(names.keys() | {district for district, _ in of_district})
    labels = service.catalogue.families
    return json_response(
        {
            "districts": [_district(code, names.get(code) or words(code, code), of_district) for code in codes],
            "families": [
                {"family": name, "label": {"zh": family.zh, "en": family.en}, "devices": of_family[name]}
                for name, family in labels.items()
            ],
            "alarms_active": sum(row[3] for row in alarm_rows if row[2] in ACTIVE),
            "alarms_unacknowledged": sum(row[3] for row in alarm_rows if row[2] in UNACKNOWLEDGED),
        }
    )


def _district(code: str, name: dict[str, str], counts: Counter[tuple[str, str]]) -> dict[str, Any]:
    return {
        "code": code,
        "name": name,
        **{key: counts[code, key] for key in ("devices", "gateways", "gateways_online")},
        "alarms": {priority: counts[code, priority] for priority in PRIORITIES},
    }
