"""The SQL of the rules room: one transaction per commit of `Effects`, and what a start needs to read.

Receives effects in order; owns the rows of alarms, transitions, engine inputs and gateway states, the cursor `rules`,
and the birth of outbox rows. Every key is deterministic and every insert ignores what exists, so a commit whose reply
was lost may be repeated and a replay adds nothing. Blocking: call it in a thread. Raises `TransientError`; the
committer retries.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import Engine, Table, and_, func, or_, select, tuple_
from sqlalchemy.engine import Connection, RowMapping

from devices.model import Milliseconds
from rules import actions
from rules.documents import build_notification
from rules.effects import Cursor, Effects, Input, Outage, Place, Request, Tick
from rules.gateway_sessions import GatewayRow
from rules.model import ACTIVE, UNACKNOWLEDGED, Action, Alarm, State, Transition
from rules.tables import alarms, engine_outages, engine_ticks, outbox, transitions
from storage.metadata import insert_into, transaction
from storage.tables import cursors, gateway_states

CONSUMER = "rules"
_ASKED = 500  # ids in one query


class Target(Protocol):
    """Where notifications go: a name (a key of outbox rows) and whether it takes transitions that page nobody."""

    @property
    def name(self) -> str: ...
    @property
    def mirrors(self) -> bool: ...


class AlarmCounts(msgspec.Struct, frozen=True):
    """Figures of the status document; `by_priority` counts active alarms."""

    active: int
    unacknowledged: int
    by_priority: dict[str, int]


class RulesRepository:
    """See the module docstring; `partition` is the journal's."""

    def __init__(self, engine: Engine, targets: Sequence[Target] = (), partition: int = 0) -> None:
        self._engine = engine
        self._targets = targets
        self._partition = partition

    def cursor(self) -> Cursor:
        """Where the last commit stands; an empty one before the first."""
        of_rules = select(cursors).where(cursors.c.consumer == CONSUMER, cursors.c.partition == self._partition)
        with transaction(self._engine) as connection:
            row = connection.execute(of_rules).mappings().first()
        return Cursor(row["sequence"], row["tallies"], row["updated_at"]) if row else Cursor()

    def inputs_after(self, place: Place) -> list[Input]:
        """Recorded inputs later than `place`, in order."""
        ticks = select(engine_ticks).where(tuple_(engine_ticks.c.sequence, engine_ticks.c.at) > tuple_(*place))
        outages = select(engine_outages).where(tuple_(engine_outages.c.sequence, engine_outages.c.at) > tuple_(*place))
        with transaction(self._engine) as connection:
            inputs: list[Input] = [Tick(row.sequence, row.at) for row in connection.execute(ticks)]
            inputs += [Outage(row.sequence, row.at, row.start, row.end) for row in connection.execute(outages)]
            inputs += actions.applied_after(connection, place)
        return sorted(inputs, key=lambda item: (item.sequence, item.stamp))

    def gateway_states(self) -> list[GatewayRow]:
        """All rows."""
        with transaction(self._engine) as connection:
            return [GatewayRow(**row) for row in connection.execute(select(gateway_states)).mappings()]

    def open_alarms(self, others: Sequence[str] = ()) -> dict[str, Alarm]:
        """Alarms whose episode has not ended, as committed, and those with an id of `others`."""
        wanted = [alarms.c.state != State.NORM]
        wanted += [alarms.c.id.in_(others[n : n + _ASKED]) for n in range(0, len(others), _ASKED)]
        with transaction(self._engine) as connection:
            rows = [row for which in wanted for row in connection.execute(select(alarms).where(which)).mappings()]
        return {row["id"]: alarm_from_row(row) for row in rows}

    def pending_actions(self) -> list[Action]:
        """Requests nobody has answered, oldest first."""
        with transaction(self._engine) as connection:
            return actions.pending(connection)

    def commit(self, effects: Effects, now: Milliseconds) -> None:
        """Make `effects` durable in one transaction; `now` is the wall clock in ms."""
        newest = {transition.alarm.id: transition for transition in effects.transitions}
        with transaction(self._engine) as connection:
            _upsert(connection, alarms, [_alarm_row(item) for item in newest.values()], newer="version")
            _insert_missing(connection, transitions, [_transition_row(item) for item in effects.transitions])
            _insert_missing(connection, outbox, list(self._outbox_rows(effects.transitions, now)))
            actions.answer(connection, [item for item in effects.inputs if isinstance(item, Request)])
            _insert_missing(connection, engine_ticks, _tick_rows(effects.inputs))
            _insert_missing(connection, engine_outages, _outage_rows(effects.inputs))
            _upsert(connection, gateway_states, [msgspec.structs.asdict(item) for item in effects.gateways.values()])
            cursor = {
                "consumer": CONSUMER,
                "partition": self._partition,
                "sequence": effects.sequence,
                "tallies": effects.tallies,
                "updated_at": now,
            }
            _upsert(connection, cursors, [cursor])

    def forget_inputs(self, through: Place) -> None:
        """Delete recorded inputs that no kept snapshot needs. Actions stay: they are the audit trail."""
        with transaction(self._engine) as connection:
            for table in (engine_ticks, engine_outages):
                same = and_(table.c.sequence == through[0], table.c.at <= through[1])
                connection.execute(table.delete().where(or_(table.c.sequence < through[0], same)))

    def _outbox_rows(self, changes: Iterable[Transition], now: Milliseconds) -> Iterable[dict[str, Any]]:
        for transition in changes:
            for target in self._targets:
                if not transition.notify and not target.mirrors:
                    continue
                notification = build_notification(transition, target.name)
                yield {
                    "id": notification.id,
                    "target": target.name,
                    "alarm": transition.alarm.id,
                    "version": transition.alarm.version,
                    "payload": msgspec.to_builtins(notification),
                    "state": "pending",
                    "attempts": 0,
                    "next_attempt_at": now,
                    "created_at": now,
                }


def alarm_counts(engine: Engine) -> AlarmCounts:
    """Count alarms for the status document."""
    by_state = select(alarms.c.state, alarms.c.priority, func.count()).where(alarms.c.state != State.NORM)
    with transaction(engine) as connection:
        rows = connection.execute(by_state.group_by(alarms.c.state, alarms.c.priority)).all()
    active = unacknowledged = 0
    by_priority = dict.fromkeys(("critical", "high", "medium", "low"), 0)
    for state, priority, count in rows:
        unacknowledged += count if state in UNACKNOWLEDGED else 0
        if state in ACTIVE:
            active += count
            by_priority[priority] += count
    return AlarmCounts(active, unacknowledged, by_priority)


def dead_notifications(engine: Engine, since: Milliseconds) -> tuple[int, int]:
    """Notifications given up: all that are kept, and those since then."""
    dead = select(func.count(), func.count().filter(outbox.c.sent_at >= since)).where(outbox.c.state == "dead")
    with transaction(engine) as connection:
        every, recent = connection.execute(dead).one()
    return every, recent


def alarm_from_row(row: RowMapping) -> Alarm:
    """The alarm behind a row of `alarms`."""
    return msgspec.convert({name: row[name] for name in Alarm.__struct_fields__}, Alarm)


def _alarm_row(transition: Transition) -> dict[str, Any]:
    alarm = transition.alarm
    return {name: getattr(alarm, name) for name in Alarm.__struct_fields__} | {"updated_at": transition.recorded_at}


def _transition_row(transition: Transition) -> dict[str, Any]:
    return {
        "alarm": transition.alarm.id,
        "version": transition.alarm.version,
        "from_state": transition.from_state,
        "to_state": transition.to_state,
        "cause": transition.cause,
        "at": transition.at,
        "recorded_at": transition.recorded_at,
        "actor": transition.actor,
        "note": transition.note,
    }


def _tick_rows(inputs: Iterable[Input]) -> list[dict[str, Any]]:
    return [{"sequence": item.sequence, "at": item.stamp} for item in inputs if isinstance(item, Tick)]


def _outage_rows(inputs: Iterable[Input]) -> list[dict[str, Any]]:
    outages = (item for item in inputs if isinstance(item, Outage))
    return [{"sequence": o.sequence, "at": o.stamp, "start": o.start, "end": o.end} for o in outages]


def _insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(insert_into(connection, table).on_conflict_do_nothing(), rows)


def _upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], newer: str | None = None) -> None:
    """Insert, or update by primary key; with `newer`, only where that column grows."""
    if not rows:
        return
    statement = insert_into(connection, table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    guard = statement.excluded[newer] > table.c[newer] if newer else None
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed, where=guard), rows)
