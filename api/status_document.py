"""The status document, put together from what every process says of itself in `process_status`.

The counters are those of ingest; what a silent process cannot say is added here: a row older than 5 s means that
nobody answers there. A process that stopped in good order has marked its row: its totals still hold, and only ingest
is missed. Without ingest the service is down; without another process it is degraded. Read by the routes, by
`songhua status` and by the terminal of `songhua up`; no web framework is needed for it.
"""

from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, func, select, true
from sqlalchemy.engine import Connection

from devices.model import Milliseconds
from rules.model import ACTIVE, UNACKNOWLEDGED
from rules.tables import alarms
from storage.tables import devices, gateway_states, gateways, process_status

SILENT_AFTER: Milliseconds = 5_000
TRAFFIC = (
    *("received", "journalled", "stored", "late", "duplicate", "quarantined", "control", "pending", "lost"),
    *("missing", "conflicts", "sessions_lost", "journal_bytes", "notifications_dead"),
)
LAGS = ("store_lag_s", "rules_lag_s")
ENTITIES = ("alarms_active", "alarms_unacknowledged", "devices", "gateways_online")
_STOPPED = {"code": "ingest_stopped", "zh": "ingest 进程已停止", "en": "the ingest process is stopped"}


def read_status(engine: Engine, now: Milliseconds, districts: frozenset[str] | None = None) -> dict[str, Any]:
    """The status document at `now`; `districts` limits what is counted. Blocking, one connection."""
    with engine.connect() as connection:
        rows = connection.execute(select(process_status).order_by(process_status.c.process)).all()
        documents = {row.process: row.document for row in rows}
        silent = [row.process for row in rows if now - row.at > SILENT_AFTER and not row.document.get("stopped")]
        if "ingest" not in documents:
            silent.insert(0, "ingest")
        ingest = documents.get("ingest", {})
        speaks = "ingest" not in silent and not ingest.get("stopped")
        counted = ingest if speaks and districts is None else _count(connection, districts)
    return {
        **{name: ingest.get(name) or 0 for name in TRAFFIC},
        "quarantined_by_reason": ingest.get("quarantined_by_reason") or {},
        **{name: ingest.get(name) for name in LAGS},
        **{name: counted.get(name) or 0 for name in ENTITIES},
        "health": _health(ingest, silent),
    }


def _health(ingest: dict[str, Any], silent: list[str]) -> dict[str, Any]:
    if ingest.get("stopped"):
        health = {"state": "down", "reasons": [_STOPPED]}
    else:
        health = ingest.get("health", {"state": "ok", "reasons": []})
    if "ingest" in silent:  # said before what it said itself the last time
        health = {"state": "down", "reasons": [_not_answering("ingest"), *health["reasons"]]}
    for process in silent:
        if process != "ingest":
            health = degraded(health, _not_answering(process))
    return health


def degraded(health: dict[str, Any], reason: dict[str, str]) -> dict[str, Any]:
    """`health` with one more reason, at best degraded."""
    state = "down" if health["state"] == "down" else "degraded"
    return {"state": state, "reasons": [*health["reasons"], reason]}


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
