"""How the service is, over HTTP: status document, metrics, and probes (`/healthz` alive, `/readyz` able to serve)."""

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Response

from api import schemas
from api.metrics import MEDIA_TYPE, exposition
from api.policy import PUBLIC, SCRAPER, Viewer
from api.replies import json_response
from api.service import Service, ServiceDep
from api.status_document import degraded, read_status
from devices.errors import SonghuaError
from storage.metadata import UNAVAILABLE

router = APIRouter(tags=["status"])
_PROBE_TIMEOUT = 2.0  # s
_NO_DATABASE = {"code": "database", "zh": "关系数据库没有响应", "en": "the relational database does not answer"}
_NO_STORE = {"code": "store", "zh": "时序库没有响应", "en": "the telemetry store does not answer"}


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
    """503 while the service is down: its health says so, or ingest or the relational database does not answer.

    Degraded is 200 with its reasons: without the telemetry store, for one, alarms go on and readings wait.
    """
    health = await _health(service)
    return json_response(health, HTTPStatus.SERVICE_UNAVAILABLE if health["state"] == "down" else HTTPStatus.OK)


async def _health(service: Service) -> dict[str, Any]:
    """The health of the status document, and of what this process needs itself."""
    health: dict[str, Any]
    try:
        reading = asyncio.to_thread(read_status, service.engine, service.clock(), frozenset())
        health = (await asyncio.wait_for(reading, _PROBE_TIMEOUT))["health"]
    except (*UNAVAILABLE, TimeoutError):
        health = {"state": "down", "reasons": [_NO_DATABASE]}
    try:
        await asyncio.wait_for(service.store.ready(), _PROBE_TIMEOUT)
    except (SonghuaError, TimeoutError):
        health = degraded(health, _NO_STORE)
    return health
