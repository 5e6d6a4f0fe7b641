"""People's requests about alarms: read in order, answered in the transaction that applies them.

The api inserts rows as `pending`; rules alone answers them (`applied` or `refused` with the reason).
`applied_sequence` and `applied_at` are the place at which the engine was given the action; a replay gives it the
action there again. Functions take an open connection, because an answer must commit together with its transitions.
Raise SQLAlchemy's errors, which the
transaction around them translates.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.engine import Connection, RowMapping

from rules.effects import Place, Request
from rules.model import Action
from rules.tables import actions

_AT_ONCE = 200


def pending(connection: Connection) -> list[Action]:
    """The oldest unanswered actions, in the order they were requested."""
    waiting = select(actions).where(actions.c.state == "pending").order_by(actions.c.requested_at, actions.c.id)
    return [_action(row) for row in connection.execute(waiting.limit(_AT_ONCE)).mappings()]


def applied_after(connection: Connection, place: Place) -> list[Request]:
    """What was applied later than `place`."""
    later = select(actions).where(
        actions.c.state == "applied", tuple_(actions.c.applied_sequence, actions.c.applied_at) > tuple_(*place)
    )
    rows = connection.execute(later).mappings()
    return [Request(row["applied_sequence"], row["applied_at"], _action(row)) for row in rows]


def answer(connection: Connection, requests: Sequence[Request]) -> None:
    """Write the answers; one that is already written stays."""
    if not requests:
        return
    write = actions.update().where(actions.c.id == bindparam("action"), actions.c.state == "pending")
    rows = [
        {
            "action": request.action.id,
            "state": "applied" if request.refusal is None else "refused",
            "answer": request.refusal,
            "applied_at": request.stamp,
            "applied_sequence": request.sequence,
        }
        for request in requests
    ]
    connection.execute(write, rows)


def _action(row: RowMapping) -> Action:
    return Action(**{name: row[name] for name in Action.__struct_fields__})
