"""The status document: what `songhua status` and the terminal summary show.

Every process renews its own row of `process_status` each second. The ingest row carries the counters and its health; a
reader adds what a silent process cannot say itself: a row older than 5 s means that nobody answers there. Reading is
one short blocking transaction; raises `TransientError` where the database does not answer.
"""

import time
from typing import Any

from sqlalchemy import Engine, select

from devices.model import Milliseconds
from storage.tables import process_status
from storage.verdicts import transaction

SILENT_AFTER: Milliseconds = 5_000

COUNTERS = (
    "received",
    "journalled",
    "stored",
    "late",
    "duplicate",
    "quarantined",
    "quarantined_by_reason",
    "control",
    "pending",
    "lost",
    "store_lag_s",
    "rules_lag_s",
    "alarms_active",
    "alarms_unacknowledged",
    "devices",
    "gateways_online",
)


def read(engine: Engine, now: Milliseconds | None = None) -> dict[str, Any]:
    """The document at `now` (ms; default: the wall clock), with `health` as the reader sees it."""
    now = time.time_ns() // 1_000_000 if now is None else now
    with transaction(engine) as connection:
        rows = connection.execute(select(process_status)).all()
    documents = {row.process: row.document for row in rows}
    ages = {row.process: now - row.at for row in rows}
    if "ingest" not in documents:
        return dict.fromkeys(COUNTERS) | {"health": _down()}
    document = {name: documents["ingest"].get(name) for name in COUNTERS}
    health = documents["ingest"].get("health", {"state": "ok", "reasons": []})
    silent = [_silent(name, age) for name, age in sorted(ages.items()) if age > SILENT_AFTER]
    if silent:
        state = "down" if health["state"] == "down" else "degraded"
        health = {"state": state, "reasons": [*health["reasons"], *silent]}
    return document | {"health": health}


def reported_at(engine: Engine, process: str) -> Milliseconds | None:
    """When `process` last renewed its row, None if it has none."""
    with transaction(engine) as connection:
        return connection.scalar(select(process_status.c.at).where(process_status.c.process == process))


def _silent(process: str, age: Milliseconds) -> dict[str, str]:
    seconds = age // 1000
    return {
        "code": f"{process}_silent",
        "zh": f"{process} 进程已 {seconds} 秒没有报告状态",
        "en": f"the {process} process has not reported for {seconds} s",
    }


def _down() -> dict[str, Any]:
    reason = {"code": "not_started", "zh": "服务尚未启动", "en": "the service has not been started"}
    return {"state": "down", "reasons": [reason]}
