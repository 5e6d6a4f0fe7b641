"""The SQL of rules: repeated and late commits change nothing, and counts are what the status document says they are."""

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine, select

from rules.documents import alarm_document, build_notification
from rules.effects import Cursor, Effects, Outage, Request, Tick
from rules.model import Alarm, Priority, State, Transition
from rules.repository import RulesRepository, alarm_counts
from rules.tables import actions, alarms, engine_outages, engine_ticks, outbox, transitions
from storage.metadata import metadata, open_engine


class Target:
    def __init__(self, name: str, mirrors: bool) -> None:
        self.name = name
        self.mirrors = mirrors


def alarm(identity: str, state: State, version: int = 1, priority: Priority = "high") -> Alarm:
    return Alarm(
        id=identity,
        rule="wm.burst",
        subject_kind="device",
        subject_id="d1",
        district="230102",
        priority=priority,
        state=state,
        version=version,
        raised_at=1_767_225_600_000,
        title_zh="表后爆管",
        title_en="Burst behind the meter",
        evidence={"value": 4.5, "samples": [[1, 2.0]]},
        explanation_zh="流量过大",
        explanation_en="flow too high",
        lon=126.6,
        lat=45.7,
        crs="EPSG:4326",
    )


def transition(after: Alarm, cause: str = "raise", notify: bool = True) -> Transition:
    return Transition(
        alarm=after, from_state=State.NORM, to_state=after.state, cause=cause, at=1, recorded_at=2, notify=notify
    )


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    opened = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    metadata.create_all(opened)
    return opened


@pytest.fixture
def repository(engine: Engine) -> RulesRepository:
    return RulesRepository(engine, [Target("log", False), Target("mqtt", True)])


def rows(engine: Engine, table):  # type: ignore[no-untyped-def]
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def test_an_alarm_reads_back_as_it_was(engine: Engine, repository: RulesRepository) -> None:
    raised = alarm("a", State.UNACK)
    repository.commit(Effects(7, {}, [transition(raised)]), 1000)
    assert repository.open_alarms() == {"a": raised}


def test_a_commit_repeated_after_a_lost_reply_changes_nothing(engine: Engine, repository: RulesRepository) -> None:
    effects = Effects(7, {"raised": 1}, [transition(alarm("a", State.UNACK))], [Tick(7, 5), Outage(7, 6, 1, 2)])
    repository.commit(effects, 1000)
    before = [rows(engine, table) for table in (alarms, transitions, outbox, engine_ticks, engine_outages)]
    repository.commit(effects, 2000)
    assert [rows(engine, table) for table in (alarms, transitions, outbox, engine_ticks, engine_outages)] == before
    assert repository.cursor() == Cursor(7, {"raised": 1}, 2000)


def test_an_older_version_does_not_overwrite_a_newer(engine: Engine, repository: RulesRepository) -> None:
    repository.commit(Effects(7, {}, [transition(alarm("a", State.RTNUN, version=3))]), 1000)
    repository.commit(Effects(8, {}, [transition(alarm("a", State.UNACK, version=2))]), 1000)
    assert [(row["state"], row["version"]) for row in rows(engine, alarms)] == [("RTNUN", 3)]


def test_several_versions_in_one_commit_leave_the_newest_and_every_transition(
    engine: Engine, repository: RulesRepository
) -> None:
    changes = [
        transition(alarm("a", State.UNACK, 1)),
        transition(alarm("b", State.UNACK, 1)),
        transition(alarm("a", State.RTNUN, 2), "return"),
    ]
    repository.commit(Effects(7, {}, changes), 1000)
    assert {row["id"]: row["version"] for row in rows(engine, alarms)} == {"a": 2, "b": 1}
    assert [(row["seq"], row["alarm"], row["version"]) for row in rows(engine, transitions)] == [
        (1, "a", 1),
        (2, "b", 1),
        (3, "a", 2),
    ]


def test_what_pages_nobody_goes_to_mirrors_only(engine: Engine, repository: RulesRepository) -> None:
    repository.commit(Effects(7, {}, [transition(alarm("a", State.RTNUN), "return", notify=False)]), 1000)
    (row,) = rows(engine, outbox)
    assert (row["id"], row["payload"]["notify"], row["payload"]["kind"]) == ("a:1:mqtt", False, "returned")


def test_inputs_come_back_in_the_order_they_were_given(engine: Engine, repository: RulesRepository) -> None:
    repository.commit(Effects(9, {}, [], [Tick(9, 40), Outage(9, 20, 1, 2), Tick(7, 90), Tick(9, 30)]), 1000)
    assert [(item.sequence, item.stamp) for item in repository.inputs_after((7, 90))] == [(9, 20), (9, 30), (9, 40)]
    assert repository.inputs_after((9, 40)) == []
    repository.forget_inputs((9, 20))
    assert [(item.sequence, item.stamp) for item in repository.inputs_after((0, 0))] == [(9, 30), (9, 40)]


def test_counts_of_the_status_document(engine: Engine, repository: RulesRepository) -> None:
    states = [
        ("a", State.UNACK, "critical"),
        ("b", State.ACKED, "high"),
        ("c", State.RTNUN, "high"),
        ("d", State.SHLVD, "low"),
        ("e", State.DSUPR, "low"),
        ("f", State.NORM, "low"),
        ("g", State.OOSRV, "low"),
    ]
    changes = [transition(alarm(name, state, priority=priority)) for name, state, priority in states]  # type: ignore[arg-type]
    repository.commit(Effects(7, {}, changes), 1000)
    counts = alarm_counts(engine)
    assert (counts.active, counts.unacknowledged) == (2, 2)
    assert counts.by_priority == {"critical": 1, "high": 1, "medium": 0, "low": 0}


def test_a_refused_action_is_answered_and_not_replayed(engine: Engine, repository: RulesRepository) -> None:
    with engine.begin() as connection:
        connection.execute(
            actions.insert(),
            [
                {"id": name, "alarm": "a", "kind": "comment", "actor": "op", "seen_version": 1, "requested_at": at}
                for name, at in (("late", 20), ("early", 10))
            ],
        )
    early, late = repository.pending_actions()
    assert (early.id, late.id) == ("early", "late")
    repository.commit(Effects(7, {}, [], [Request(7, 100, early, "no such alarm"), Request(7, 101, late)]), 1000)
    assert repository.pending_actions() == []
    assert [item.action.id for item in repository.inputs_after((0, 0)) if isinstance(item, Request)] == ["late"]


def test_the_document_has_the_keys_of_the_api() -> None:
    document = alarm_document(alarm("a", State.UNACK))
    assert document["subject"] == {"kind": "device", "id": "d1"}
    assert document["raised_at"] == "2026-01-01T00:00:00.000Z"
    assert document["returned_at"] is None
    assert document["location"] == {"lon": 126.6, "lat": 45.7, "crs": "EPSG:4326"}
    assert list(document) == [
        "id",
        "rule",
        "title",
        "subject",
        "family",
        "district",
        "zone",
        "gateway",
        "priority",
        "state",
        "version",
        "raised_at",
        "returned_at",
        "acked_at",
        "acked_by",
        "assignee",
        "shelved_until",
        "shelve_reason",
        "suppressed_by",
        "evidence",
        "explanation",
        "advice",
        "location",
        "case_key",
        "verdict",
        "children",
        "occurrences",
    ]


def test_a_notification_survives_the_database_as_json() -> None:
    notification = build_notification(transition(alarm("a", State.UNACK)), "log")
    text = msgspec.json.encode(notification)
    assert msgspec.json.decode(text, type=type(notification)) == notification
    assert notification.id == "a:1:log"
