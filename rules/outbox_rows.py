"""The SQL of the outbox: which rows are due for a target, and what became of them.

Blocking: call it in a thread. Raises `TransientError` where the database is away.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import Engine, bindparam, func, select

from devices.model import Milliseconds
from rules.documents import Notification
from rules.tables import outbox
from storage.metadata import transaction


class Delivery(msgspec.Struct, frozen=True):
    """A row that is due."""

    id: str
    attempts: int
    notification: Notification


class Outcome(msgspec.Struct, frozen=True):
    """What one attempt led to; `at` is when it was sent or given up, or when to try again."""

    id: str
    state: Literal["pending", "sent", "dead"]
    attempts: int
    at: Milliseconds
    error: str | None = None


class OutboxRows:
    """See the module docstring."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def due(self, target: str, now: Milliseconds, limit: int) -> list[Delivery]:
        """Up to `limit` rows to send now, at most one per alarm: its lowest pending version.

        The oldest first, but after those that failed less often: a notification that its target cannot digest must
        not be the one that finds out whether the target is back.
        """
        pending = (outbox.c.target == target) & (outbox.c.state == "pending")
        first = select(outbox.c.alarm, func.min(outbox.c.version).label("version")).where(pending)
        heads = first.group_by(outbox.c.alarm).subquery()
        rows = (
            select(outbox.c.id, outbox.c.attempts, outbox.c.payload)
            .join(heads, (heads.c.alarm == outbox.c.alarm) & (heads.c.version == outbox.c.version))
            .where(pending, outbox.c.next_attempt_at <= now)
            .order_by(outbox.c.attempts, outbox.c.created_at, outbox.c.id)
            .limit(limit)
        )
        with transaction(self._engine) as connection:
            return [
                Delivery(row.id, row.attempts, msgspec.convert(row.payload, Notification))
                for row in connection.execute(rows)
            ]

    def mark(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of the attempts, in one transaction."""
        write = outbox.update().where(outbox.c.id == bindparam("row"))
        retried = write.values(attempts=bindparam("tries"), next_attempt_at=bindparam("when"), error=bindparam("why"))
        ended = write.values(
            state=bindparam("end"), attempts=bindparam("tries"), sent_at=bindparam("when"), error=bindparam("why")
        )
        with transaction(self._engine) as connection:
            for statement, of_pending in ((retried, True), (ended, False)):
                rows = [
                    {"row": o.id, "end": o.state, "tries": o.attempts, "when": o.at, "why": o.error}
                    for o in outcomes
                    if (o.state == "pending") == of_pending
                ]
                if rows:
                    connection.execute(statement, rows)

    def forget_sent(self, before: Milliseconds) -> int:
        """Delete rows sent before then; how many."""
        with transaction(self._engine) as connection:
            old = outbox.delete().where(outbox.c.state == "sent", outbox.c.sent_at < before)
            return connection.execute(old).rowcount
