"""Verdicts and cursors in the relational database: the quarantine and each consumer's place in the journal.

A verdict is keyed by (partition, sequence, element, outcome) and inserted idempotently, so that decoding a message
again adds nothing. A cursor carries the tallies that belong to exactly its position. Every function is one blocking
transaction; `OperationalError` of the database becomes `TransientError`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Engine, select
from sqlalchemy.engine import Connection

from devices.model import Reading, Rejection, reported
from devices.reasons import Reason
from storage import tables
from storage.metadata import insert_into, transaction

Outcome = Literal["quarantined", "conflict"]
_ROWS = 500  # per statement: SQLite limits the number of bound parameters


def on_reading(reading: Reading, reason: Reason, detail: str) -> Rejection:
    """The verdict on a reading that was good and did not last: refused by the store, or contradicted."""
    payload = msgspec.json.encode({"time": reading.time, **reported(reading.values)})
    return Rejection(
        reading.sequence,
        reading.index,
        reason,
        detail[:1000],
        "store",
        "",
        payload,
        reading.received_at,
        reading.device.id,
    )


def load_cursor(engine: Engine, consumer: str, partition: int = 0) -> tuple[int, dict[str, Any]]:
    """(sequence, tallies) of a consumer; (0, {}) before its first commit."""
    cursors = tables.cursors
    with transaction(engine) as connection:
        row = connection.execute(
            select(cursors.c.sequence, cursors.c.tallies).where(
                cursors.c.consumer == consumer, cursors.c.partition == partition
            )
        ).first()
    return (row.sequence, dict(row.tallies)) if row else (0, {})


def commit(
    engine: Engine,
    consumer: str,
    sequence: int,
    tallies: Mapping[str, Any],
    rejections: Sequence[Rejection] = (),
    *,
    conflicts: Sequence[Rejection] = (),
    partition: int = 0,
) -> None:
    """Move a consumer's cursor together with the verdicts that it reached up to there."""
    with transaction(engine) as connection:
        _insert(connection, rejections, "quarantined", partition)
        _insert(connection, conflicts, "conflict", partition)
        statement = insert_into(connection, tables.cursors)
        values = {"sequence": sequence, "tallies": dict(tallies), "updated_at": time.time_ns() // 1_000_000}
        connection.execute(
            statement.values(consumer=consumer, partition=partition, **values).on_conflict_do_update(
                index_elements=["consumer", "partition"], set_=values
            )
        )


def known(engine: Engine, sequences: Sequence[int], partition: int = 0) -> set[int]:
    """Which of these messages already have a quarantine verdict."""
    verdicts = tables.verdicts
    found: set[int] = set()
    with transaction(engine) as connection:
        for start in range(0, len(sequences), _ROWS):
            found.update(
                connection.scalars(
                    select(verdicts.c.sequence).where(
                        verdicts.c.partition == partition,
                        verdicts.c.outcome == "quarantined",
                        verdicts.c.sequence.in_(sequences[start : start + _ROWS]),
                    )
                )
            )
    return found


def _insert(connection: Connection, rejections: Sequence[Rejection], outcome: Outcome, partition: int) -> None:
    rows = [
        {
            "partition": partition,
            "sequence": rejection.sequence,
            "element": rejection.index,
            "outcome": outcome,
            "reason": str(rejection.reason),
            "detail": rejection.detail,
            "source": rejection.source,
            "topic": rejection.topic,
            "payload": rejection.payload,
            "device": rejection.device,
            "profile_revision": "",
            "received_at": rejection.received_at,
            "discarded": False,
        }
        for rejection in rejections
    ]
    if rows:
        connection.execute(insert_into(connection, tables.verdicts).on_conflict_do_nothing(), rows)
