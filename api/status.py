"""How the service is: the status document, and what probes ask (`/healthz` alive, `/readyz` able to serve).

The counters are what ingest says of itself in `process_status`; what a silent process cannot say is added here: a row
older than 5 s means that nobody answers there. A process that stops in good order removes its row.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Response
from sqlalchemy import ColumnElement, Engine, Table, func, select, true
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api import schemas
from api.metrics import MEDIA_TYPE, exposition
from api.policy import PUBLIC, SCRAPER, Viewer
from api.replies import json_response
from api.service import Service, ServiceDep
from devices.errors import SonghuaError
from devices.model import Milliseconds
from rules.model import ACTIVE, UNACKNOWLEDGED
from rules.tables import alarms
from storage.tables import devices, gateway_states, gateways, process_status

router = APIRouter(tags=["status"])
SILENT_AFTER: Milliseconds = 5_000
TRAFFIC = ("received", "journalled", "stored", "late", "duplicate", "quarantined", "control", "pending", "lost")
LAGS = ("store_lag_s", "rules_lag_s")
ENTITIES = ("alarms_active", "alarms_unacknowledged", "devices", "gateways_online")
_PROBE_TIMEOUT = 2.0  # s


def read_status(engine: Engine, now: Milliseconds, districts: frozenset[str] | None = None) -> dict[str, Any]:
    """The status document at `now`; `districts` limits what is counted. Blocking, one connection."""
    with engine.connect() as connection:
        rows = connection.execute(select(process_status).order_by(process_status.c.process)).all()
        documents = {row.process: row.document for row in rows}
        silent = [row.process for row in rows if now - row.at > SILENT_AFTER]
        if "ingest" not in documents:
            silent.insert(0, "ingest")
        ingest = documents.get("ingest", {})
        counted = ingest if "ingest" not in silent and districts is None else _count(connection, districts)
    health = ingest.get("health", {"state": "ok", "reasons": []})
    if silent:
        state = "down" if health["state"] == "down" else "degraded"
        health = {"state": state, "reasons": [*health["reasons"], *map(_not_answering, silent)]}
    return {
        **{name: ingest.get(name) or 0 for name in TRAFFIC},
        "quarantined_by_reason": ingest.get("quarantined_by_reason") or {},
        **{name: ingest.get(name) for name in LAGS},
        **{name: counted.get(name) or 0 for name in ENTITIES},
        "health": health,
    }


def _not_answering(process: str) -> dict[str, str]:
    return {
        "code": f"{process}_not_answering",
        "zh": f"{process} 进程没有响应",
        "en": f"the {process} process does not answer",
    }


def _count(connection: Connection, districts: frozenset[str] | None) -> dict[str, int]:
    """What the ingest row says otherwise, counted in the tables: for some districts, or when that row is stale."""

    def rows(table: Table, condition: ColumnElement[bool]) -> int:
        seen = true() if districts is None else table.c.district.in_(sorted(districts))
        return connection.scalar(select(func.count()).select_from(table).where(condition, seen)) or 0

    online = select(gateway_states.c.gateway).where(gateway_states.c.state == "online")
    return {
        "alarms_active": rows(alarms, alarms.c.state.in_(ACTIVE)),
        "alarms_unacknowledged": rows(alarms, alarms.c.state.in_(UNACKNOWLEDGED)),
        "devices": rows(devices, true()),
        "gateways_online": rows(gateways, gateways.c.id.in_(online)),
    }


@router.get("/v1/status", response_model=schemas.Status)
def get_status(principal: Viewer, service: ServiceDep) -> Response:
    """The service in numbers, and its health with reasons."""
    return json_response(read_status(service.engine, service.clock(), principal.districts))


@router.get("/metrics", response_class=Response, dependencies=[Depends(SCRAPER)])
def get_metrics(service: ServiceDep) -> Response:
    """Prometheus text. For this machine's own scraper without a credential, or a token that sees the whole city."""
    service.request_metrics.streams.set(service.feed.watching)
    status = read_status(service.engine, service.clock())
    return Response(exposition(status, service.request_metrics), media_type=MEDIA_TYPE)


@router.get("/healthz", response_model=schemas.Alive, dependencies=[Depends(PUBLIC)])
async def get_liveness() -> Response:
    """200 while this process answers; a supervisor restarts it otherwise."""
    return json_response({"status": "ok"})


@router.get(
    "/readyz",
    response_model=schemas.Health,
    responses={HTTPStatus.SERVICE_UNAVAILABLE.value: {"model": schemas.Health}},
    dependencies=[Depends(PUBLIC)],
)
async def get_readiness(service: ServiceDep) -> Response:
    """200 while everything needed answers, 503 with the reasons otherwise. Degraded alone is 200, with its reasons."""
    health, ready = await _readiness(service)
    return json_response(health, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


async def _readiness(service: Service) -> tuple[dict[str, Any], bool]:
    reasons: list[dict[str, str]] = []
    state = "ok"
    try:
        reading = asyncio.to_thread(read_status, service.engine, service.clock(), frozenset())
        health = (await asyncio.wait_for(reading, _PROBE_TIMEOUT))["health"]
        reasons, state = list(health["reasons"]), health["state"]
    except (DBAPIError, PoolTimeoutError, TimeoutError):
        reasons.append(
            {"code": "database", "zh": "关系数据库没有响应", "en": "the relational database does not answer"}
        )
        state = "down"
    try:
        await asyncio.wait_for(service.store.ready(), _PROBE_TIMEOUT)
    except (SonghuaError, TimeoutError):
        reasons.append({"code": "store", "zh": "时序库没有响应", "en": "the telemetry store does not answer"})
        state = "down"
    ready = state != "down" and not any(reason["code"] == "ingest_not_answering" for reason in reasons)
    return {"state": state if ready else "down", "reasons": reasons}, ready
