"""What the rules consumer does between two crashes."""

import asyncio
from pathlib import Path

import pytest

from devices.errors import TransientError
from devices.model import Zone
from rules import committer
from rules import consumer as consumer_module
from rules.consumer import RulesConsumer
from rules.tables import actions, alarms, engine_outages, engine_ticks
from storage.registry import Registry
from storage.tables import cursors, gateway_states
from tests.unit.rules.consumer_world import World, refuse
from tests.unit.rules.scripted_engine import T0, ScriptedEngine, batch, reading, status

RAISED = [reading(1, 0, 1.0), reading(2, 0, 20.0), reading(3, 1, 1.0)]


@pytest.fixture(autouse=True)
def commit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "_UNHURRIED", 0.0)


async def test_an_alarm_is_committed_with_its_transition_its_notifications_and_the_cursor(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    assert await world.begin() is world.consumer
    assert world.position == 0
    await world.feed(3)
    await world.settle()
    (alarm,) = world.alarms()
    assert (alarm["state"], alarm["version"], alarm["subject_id"]) == ("UNACK", 1, "d0")
    (transition,) = world.transitions()
    assert (transition["from_state"], transition["to_state"], transition["cause"]) == ("NORM", "UNACK", "raise")
    assert [row["id"] for row in world.outbox()] == [f"{alarm['id']}:1:log", f"{alarm['id']}:1:mqtt"]
    payload = world.outbox()[0]["payload"]
    assert payload["kind"] == "raised"
    assert payload["alarm"]["raised_at"] == "2026-01-01T00:00:00.200Z"
    (cursor,) = world.rows(cursors)
    assert (cursor["consumer"], cursor["sequence"]) == ("rules", 3)
    assert cursor["tallies"] == {"readings": 3, "statuses": 0, "transitions": 1, "raised": 1}
    assert world.messages.woken == 1
    await world.consumer.stop()


async def test_a_batch_delivered_again_is_not_processed_again(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    await world.consumer.accept(batch(RAISED, 1, 2))
    await world.consumer.accept(batch(RAISED, 1, 2))
    await world.consumer.accept(batch(RAISED, 1, 3))
    assert world.rules.processed == [(1, 2), (3, 3)]
    await world.consumer.stop()


async def test_the_clock_raises_what_was_held(tmp_path: Path) -> None:
    world = World(tmp_path, [reading(1, 0, 10.0)], 1)
    await world.begin()
    await world.feed(1)
    await world.idle(4_900)
    assert world.rules.active == {}
    await world.idle(200)
    await world.settle()
    assert [row["state"] for row in world.alarms()] == ["UNACK"]
    await world.consumer.stop()


async def test_a_hold_goes_on_after_a_kill(tmp_path: Path) -> None:
    world = World(tmp_path, [reading(1, 0, 10.0)], 1)
    await world.begin()
    await world.feed(1)
    await world.idle(2_500)
    await world.abandon()
    await world.begin()
    await world.feed(1)
    await world.idle(2_600)
    await world.settle()
    (alarm,) = world.alarms()
    assert alarm["raised_at"] == T0 + 100
    await world.abandon()
    await world.begin()
    await world.feed(1)
    await world.idle(2_600)
    await world.settle()
    assert len(world.alarms()) == len(world.transitions()) == 1
    await world.consumer.stop()


async def test_an_action_is_applied_once_and_answered(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    await world.feed(3)
    await world.settle()
    identity = world.alarms()[0]["id"]
    world.request("first", identity, 1)
    world.request("stale", identity, 1)
    await world.consumer.refresh()
    await world.consumer.refresh()
    await world.idle(300)
    await world.consumer.refresh()
    await world.idle(300)
    await world.settle()
    answers = {row["id"]: (row["state"], row["answer"], row["applied_sequence"]) for row in world.rows(actions)}
    assert answers == {"first": ("applied", None, 3), "stale": ("refused", "changed meanwhile", 3)}
    assert [(row["version"], row["to_state"]) for row in world.transitions()] == [(1, "UNACK"), (2, "ACKED")]
    await world.consumer.stop()


async def test_an_action_whose_answer_is_not_committed_yet_is_not_applied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "_BACKOFF", (0.001, 0.005))
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    await world.feed(3)
    await world.settle()
    world.request("one", world.alarms()[0]["id"], 1, kind="comment")
    world.faults.hooks["before commit"] = refuse
    for _ in range(3):
        await world.consumer.refresh()
        await world.idle(300)
    world.faults.hooks.clear()
    await world.settle()
    assert [(row["state"], row["answer"]) for row in world.rows(actions)] == [("applied", None)]
    assert [row["version"] for row in world.transitions()] == [1, 2]
    await world.consumer.stop()


async def test_actions_do_not_wait_for_the_head(tmp_path: Path) -> None:
    world = World(tmp_path, [*RAISED, reading(4, 2, 1.0)], 4)
    await world.begin()
    await world.feed(3)
    world.request("one", next(iter(world.rules.active)), 1)
    await world.consumer.refresh()
    await world.feed(4)
    await world.settle()
    assert [row["state"] for row in world.rows(actions)] == ["applied"]
    await world.consumer.stop()


async def test_a_transition_that_pages_nobody_reaches_only_mirrors(tmp_path: Path) -> None:
    class Quiet(ScriptedEngine):
        def process(self, found):  # type: ignore[no-untyped-def]
            transitions = super().process(found)
            for transition in transitions:
                transition.notify = False
            return transitions

    world = World(tmp_path, RAISED, 3)
    consumer = world.consumer_over(Quiet())
    world.position = await consumer.start()
    await world.feed(3)
    await world.settle()
    assert [(row["target"], row["payload"]["notify"]) for row in world.outbox()] == [("mqtt", False)]
    await world.consumer.stop()


async def test_gateway_states_follow_the_session_rule_across_a_kill(tmp_path: Path) -> None:
    items = [
        status(1, "g", "online", "s1", T0 + 9_000),
        status(2, "g", "online", "s2", T0 + 9_500),
        status(3, "g", "offline", "s1", None),
        status(4, "h", "offline", "s7", None),
    ]
    world = World(tmp_path, items, 4)
    await world.begin()
    await world.feed(3, size=1)
    await world.settle()
    await world.abandon()
    await world.begin()
    await world.feed(4)
    await world.settle()
    rows = {row["gateway"]: (row["state"], row["session"]) for row in world.rows(gateway_states)}
    assert rows == {"g": ("online", "s2"), "h": ("offline", "s7")}
    await world.consumer.stop()


async def test_a_start_asks_for_what_follows_the_snapshot(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    await world.feed(2)
    await world.settle()
    await world.consumer.stop()
    digest = world.rules.digest
    await world.begin()
    assert world.position == 2
    assert world.rules.digest == digest
    assert world.rules.processed == []
    await world.consumer.stop()


async def test_the_journal_is_kept_for_the_older_snapshot(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin(snapshot_every=0.0)
    await world.feed(1)
    await world.settle()
    assert world.consumer.position == 0
    await world.feed(2)
    await world.settle()
    assert world.consumer.position == 1
    await world.consumer.stop()


async def test_a_damaged_snapshot_falls_back_to_the_older(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin(snapshot_every=0.0)
    for sequence in (1, 2, 3):
        await world.feed(sequence)
        await world.settle()
    digest = world.rules.digest
    await world.abandon()
    newest = sorted(world.directory.glob("*.snapshot"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    await world.begin()
    assert world.position == 2
    await world.feed(3)
    assert world.rules.digest == digest
    await world.consumer.stop()


async def test_inputs_no_snapshot_needs_are_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    await world.feed(1)
    for _ in range(5):
        await world.idle(300)
    await world.settle()
    assert len(world.rows(engine_ticks)) == 5
    await world.consumer.stop()
    for _ in range(2):
        await world.begin(snapshot_every=0.0)
        await world.feed(3)
        await world.idle(300)
        await world.settle()
        await world.consumer.stop()
    assert all(row["sequence"] > 1 for row in world.rows(engine_ticks))


async def test_without_a_snapshot_that_fits_alarms_are_told_anew_and_orphans_end(tmp_path: Path) -> None:
    items = [reading(1, 0, 20.0), reading(2, 1, 20.0), reading(3, 1, 1.0), reading(4, 1, 20.0)]
    world = World(tmp_path, items, 4)
    await world.begin(snapshot_every=0.0)
    await world.feed(4, size=1)
    await world.settle()
    await world.consumer.stop()
    before = {row["subject_id"]: row["id"] for row in world.alarms() if row["state"] != "NORM"}
    assert sorted(before) == ["d0", "d1"]

    consumer = world.consumer_over(ScriptedEngine(version="2"))
    assert await consumer.start() == 0
    world.position = 1  # the journal no longer holds the first message
    await world.feed(4)
    await world.idle(300)
    await world.settle()
    now = {row["subject_id"]: row for row in world.alarms() if row["state"] != "NORM"}
    assert list(now) == ["d1"]
    assert now["d1"]["id"] == before["d1"]
    (orphan,) = [row for row in world.transitions() if row["cause"] == "reset"]
    assert (orphan["alarm"], orphan["to_state"]) == (before["d0"], "NORM")
    assert f"{before['d0']}:{orphan['version']}:log" in [row["id"] for row in world.outbox()]
    await world.consumer.stop()


@pytest.mark.parametrize("state", ["UNACK", "ACKED", "NORM"])
async def test_an_alarm_of_which_the_database_knows_a_later_version_goes_on_from_there(
    tmp_path: Path, state: str
) -> None:
    items = [reading(1, 0, 20.0), reading(2, 0, 1.0)]
    world = World(tmp_path, items, 2)
    await world.begin()
    await world.feed(1)
    await world.settle()
    await world.consumer.stop()
    with world.engine.begin() as connection:
        connection.execute(alarms.update().values(version=5, state=state))
    await world.begin()
    await world.idle(300)
    await world.settle()
    told_again = [] if state == "UNACK" else [(6, "reset", state, "UNACK")]
    assert [
        (row["version"], row["cause"], row["from_state"], row["to_state"]) for row in world.transitions()[1:]
    ] == told_again
    await world.feed(2)
    await world.settle()
    (row,) = world.alarms()
    assert (row["state"], row["version"]) == ("NORM", 6 + len(told_again))
    assert world.transitions()[-1]["to_state"] == "NORM"
    assert world.outbox()[-1]["id"] == f"{row['id']}:{row['version']}:mqtt"
    await world.consumer.stop()


async def test_the_time_we_were_down_is_told_to_the_engine_once_per_start(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    await world.feed(3)
    await world.settle()
    down_at = world.now
    await world.abandon()
    world.now += 3_600_000
    await world.begin()
    await world.feed(3)
    assert world.rules.outages == []
    await world.idle()
    assert world.rules.outages == [(down_at, world.now)]
    await world.settle()
    assert [(row["start"], row["end"]) for row in world.rows(engine_outages)] == [(down_at, world.now)]
    await world.consumer.stop()


async def test_an_outage_is_told_while_it_lasts_and_repeated_by_a_replay(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    deaf: list[int] = []
    await world.begin(deaf_since=lambda: deaf[0] if deaf else None)
    await world.feed(2)
    await world.idle(300)
    assert world.rules.outages == []
    deaf.append(world.now)
    for _ in range(11):
        await world.idle(250)
    told = [(deaf[0], deaf[0] + later) for later in (250, 1_250, 2_250)]
    assert world.rules.outages == told
    deaf.clear()
    await world.idle(1_000)
    assert world.rules.outages == told
    await world.settle()
    await world.abandon()
    await world.begin()
    await world.feed(3)
    assert world.rules.outages[:3] == told
    await world.consumer.stop()


async def test_a_changed_registry_reaches_the_engine(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    Registry(world.engine).register(zones=[Zone(id="z", kind="dma", district="230102")])
    await world.idle()
    assert world.rules.registries == [0]
    await world.consumer.refresh()
    await world.idle(300)
    assert world.rules.registries == [0, 1]
    await world.consumer.refresh()
    await world.idle(300)
    assert world.rules.registries == [0, 1]
    await world.consumer.stop()


async def test_idle_before_the_replay_is_over_does_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, RAISED, 3)
    await world.begin()
    await world.feed(3)
    await world.settle()
    await world.abandon()
    await world.begin()
    await world.idle(60_000)
    assert not world.consumer.live
    assert world.rules.digest == ""
    await world.feed(3)
    await world.idle()
    assert world.consumer.live
    await world.consumer.stop()


class TestDatabaseDown:
    async def test_effects_wait_and_everybody_is_told_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(committer, "_BACKOFF", (0.001, 0.005))
        world = World(tmp_path, RAISED, 3)
        await world.begin()
        world.faults.hooks["before commit"] = refuse
        await world.feed(3)
        await self._attempts(world, 3)
        assert world.messages.unstored == []
        world.now += 60_000
        await self._attempts(world, 20)
        assert world.messages.unstored == ["database_down"]
        assert world.alarms() == []
        assert "away" in world.consumer.database_error
        world.faults.hooks.clear()
        await world.settle()
        assert len(world.alarms()) == 1
        assert world.consumer.database_error == ""
        assert world.messages.unstored == ["database_down", "database_up"]
        await world.consumer.stop()

    async def test_a_full_memory_stops_the_consumer_and_nothing_is_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(committer, "_BACKOFF", (0.001, 0.005))
        items = [reading(n, 0, 20.0 if n % 2 else 1.0) for n in range(1, 61)]
        world = World(tmp_path, items, 60)
        await world.begin(backlog_limit=20)
        world.faults.hooks["before commit"] = refuse
        with pytest.raises(TransientError, match="wait for the database"):
            await world.feed(60, size=1)
            await self._attempts(world, 1)
            await world.feed(60, size=1)
        stopped_at = world.position
        assert world.consumer.backlog >= 20
        with pytest.raises(TransientError):
            await world.feed(60, size=1)
        assert world.position == stopped_at
        assert world.rules.processed[-1] == (stopped_at, stopped_at)
        world.faults.hooks.clear()
        await world.settle()
        await world.feed(60, size=1)
        await world.settle()
        assert len(world.transitions()) == 60
        await world.consumer.stop()

    async def test_a_database_file_that_vanishes_and_comes_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(committer, "_BACKOFF", (0.001, 0.005))
        monkeypatch.setattr(consumer_module, "_RETRY_START", 0.01)
        world = World(tmp_path, RAISED, 3)
        with world.without_database():
            starting = asyncio.create_task(world.begin())
            await asyncio.sleep(0.05)
            assert not starting.done()
        await starting
        await world.idle()
        with world.without_database():
            await world.feed(3)
            await self._attempts(world, 3)
            assert "unable to open" in world.consumer.database_error
        await world.settle()
        assert len(world.alarms()) == 1
        await world.consumer.stop()

    async def test_a_stop_while_it_is_down_ends_and_the_journal_brings_everything_back(self, tmp_path: Path) -> None:
        world = World(tmp_path, RAISED, 3)
        await world.begin()
        world.faults.hooks["before commit"] = refuse
        await world.feed(3)
        await world.consumer.stop()
        assert world.alarms() == []
        await world.begin()
        await world.feed(3)
        await world.settle()
        assert len(world.alarms()) == 1
        await world.consumer.stop()

    @staticmethod
    async def _attempts(world: World, count: int) -> None:
        wanted = world.faults.seen.count("before commit") + count
        async with asyncio.timeout(10):
            while world.faults.seen.count("before commit") < wanted:
                await world.pause()


async def test_a_defect_in_the_committer_ends_the_wait_for_room(tmp_path: Path) -> None:
    def defect() -> None:
        raise KeyError("defect")

    world = World(tmp_path, RAISED, 3)
    await world.begin(backlog_limit=1)
    world.faults.hooks["before commit"] = defect
    await world.feed(2)
    with pytest.raises(KeyError, match="defect"):
        async with asyncio.timeout(5):
            await world.feed(3)
    await world.abandon()


async def test_a_defect_in_the_committer_is_not_swallowed(tmp_path: Path) -> None:
    def defect() -> None:
        raise KeyError("defect")

    world = World(tmp_path, RAISED, 3)
    consumer: RulesConsumer = await world.begin()
    world.faults.hooks["before commit"] = defect
    await world.feed(3)
    with pytest.raises(KeyError, match="defect"):
        while True:
            await world.pause()
            await consumer.idle(world.now)
    await world.abandon()
