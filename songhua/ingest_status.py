"""What the ingest process says of itself once a second: the counters, the lags and its health.

Reads the parts where they stand (one instant, nothing waits) and adds what only the database knows, counted beside the
path a second at a time. The keys are those of `api.status_document`.
"""

import asyncio
import time
from typing import Any

from sqlalchemy import Engine, func, select

from devices.errors import TransientError
from ingest import accounting, health
from ingest.consumer import ConsumerTask
from rules.repository import alarm_counts, dead_notifications
from songhua.ingest_parts import Parts
from storage.metadata import transaction
from storage.tables import devices, gateway_states

_COUNT_EVERY = 1.0  # s
_DEAD_SHOWN = 3600.0  # s


class StatusDocument:
    """See the module docstring. `session_lost_at` is when a reconnect found no session (s since the epoch)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._counted: dict[str, int] = {}
        self._dead = (0, 0)  # notifications, ever and within the last hour
        self._database_error = ""
        self._unbalanced = 0
        self.session_lost_at: float | None = None

    async def follow(self) -> None:
        """Count rows once a second until cancelled."""
        while True:
            await self.count()
            await asyncio.sleep(_COUNT_EVERY)

    async def count(self) -> None:
        """Count now; without an answer the last figures stay."""
        try:
            self._counted = await asyncio.to_thread(_count, self._parts.engine)
            since = int((time.time() - _DEAD_SHOWN) * 1000)
            self._dead = await asyncio.to_thread(dead_notifications, self._parts.engine, since)
            self._database_error = ""
        except TransientError as error:
            self._database_error = str(error)

    def document(self) -> dict[str, Any]:
        """The document of this instant."""
        parts = self._parts
        counters = accounting.counters(parts.journal, parts.ledger, parts.store)
        now = time.time()
        facts = health.Facts(
            broker_error=parts.session.last_error,
            journal_error=parts.pipeline.journal_error,
            journal_damage=parts.journal.damage,
            store_error=parts.store_task.error,
            database_error=self._database_error or parts.ledger.error or parts.store.database_error,
            rules_error=parts.rules_task.error or parts.rules.database_error,
            notifications_dead=self._dead[1],
            clock_distrusted=parts.clock.distrusted,
            session_lost_ago=None if self.session_lost_at is None else now - self.session_lost_at,
            imbalance=accounting.difference(counters),
        )
        return {
            **counters,
            "missing": parts.ledger.gaps.missing,
            "conflicts": parts.store.conflicts,
            "store_lag_s": self._lag(parts.store_task, now),
            "rules_lag_s": self._lag(parts.rules_task, now),
            "alarms_active": 0,
            "alarms_unacknowledged": 0,
            "devices": 0,
            "gateways_online": 0,
            **self._counted,
            "sessions_lost": parts.session.sessions_lost,
            "notifications_dead": self._dead[0],
            "journal_bytes": parts.journal.size,
            "health": health.document(facts),
        }

    def _lag(self, task: ConsumerTask, now: float) -> float:
        """Age in seconds of the oldest message that the consumer has yet to take; 0 at the head."""
        waiting = self._parts.journal.read(task.position, 1) if task.position < self._parts.journal.head else None
        if waiting is None or not waiting.messages:
            return 0.0
        return round(max(0.0, now - waiting.messages[0].received_at / 1000), 1)


def _count(engine: Engine) -> dict[str, int]:
    counts = alarm_counts(engine)
    with transaction(engine) as connection:
        known = connection.scalar(select(func.count()).select_from(devices)) or 0
        online = select(func.count()).select_from(gateway_states).where(gateway_states.c.state == "online")
        return {
            "alarms_active": counts.active,
            "alarms_unacknowledged": counts.unacknowledged,
            "devices": known,
            "gateways_online": connection.scalar(online) or 0,
        }
