"""Killed anywhere and started again, rules end with the alarms of an undisturbed run and no doubled notification."""

import random
from pathlib import Path
from typing import Any

import pytest

from devices.model import GatewayStatus, Reading
from rules import committer
from rules.tables import actions
from storage.tables import gateway_states
from tests.unit.rules.consumer_world import Crash, World
from tests.unit.rules.scripted_engine import T0, reading, status

LAST = 60
PLACES = ("before commit", "after commit", "before snapshot", "after snapshot", "before forgetting")


@pytest.fixture(autouse=True)
def commit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "_UNHURRIED", 0.0)


def journal(seed: int, levels: tuple[float, ...]) -> list[Reading | GatewayStatus]:
    chance = random.Random(seed)
    items: list[Reading | GatewayStatus] = []
    for sequence in range(1, LAST + 1):
        if chance.random() < 0.1:
            session = f"s{sequence // 20}"
            state = chance.choice(("online", "offline"))
            items.append(status(sequence, "g", state, session, T0 + sequence if state == "online" else None))
        else:
            items.append(reading(sequence, chance.randrange(4), chance.choice(levels)))
    return items


def history(world: World) -> list[tuple[Any, ...]]:
    return sorted((row["alarm"], row["version"], row["cause"], row["at"]) for row in world.transitions())


async def undisturbed(directory: Path, items: list[Reading | GatewayStatus]) -> World:
    world = World(directory, items, LAST)
    await world.begin()
    await world.feed(LAST)
    await world.settle()
    await world.consumer.stop()
    return world


def check(world: World) -> None:
    """What must hold whenever everything is committed."""
    held = {identity: (alarm.version, alarm.evidence) for identity, alarm in world.rules.active.items()}
    committed = {row["id"]: (row["version"], row["evidence"]) for row in world.alarms() if row["state"] != "NORM"}
    assert committed == held
    versions: dict[str, list[int]] = {}
    for row in world.transitions():
        versions.setdefault(row["alarm"], []).append(row["version"])
        assert row["cause"] != "reset"
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    expected = sorted(
        f"{row['alarm']}:{row['version']}:{target}" for row in world.transitions() for target in ("log", "mqtt")
    )
    assert sorted(row["id"] for row in world.outbox()) == expected


@pytest.mark.parametrize("occurrence", [1, 2, 4])
@pytest.mark.parametrize("place", PLACES)
async def test_a_crash_at_a_named_place_changes_nothing(tmp_path: Path, place: str, occurrence: int) -> None:
    items = journal(occurrence, (1.0, 20.0))
    reference = await undisturbed(tmp_path / "reference", items)
    world = World(tmp_path, items, LAST)
    await world.begin(snapshot_every=0.0)
    seen = 0

    def crash_at_the_nth() -> None:
        nonlocal seen
        seen += 1
        if seen >= occurrence:
            raise Crash

    world.faults.hooks[place] = crash_at_the_nth
    for through in range(3, LAST + 1, 3):
        try:
            await world.feed(through)
            await world.settle()
        except Crash:
            break
        if seen >= occurrence:
            break
    assert seen >= occurrence
    await world.abandon()
    await world.begin(snapshot_every=0.0)
    await world.feed(LAST)
    await world.settle()
    check(world)
    assert history(world) == history(reference)
    await world.consumer.stop()


@pytest.mark.parametrize("seed", range(24))
async def test_killed_again_and_again_with_ticks_actions_and_snapshots(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    world = World(tmp_path, journal(seed, (1.0, 10.0, 20.0)), LAST)
    await world.begin()
    kills = requests = 0
    while world.position < LAST or kills < 3:
        step = chance.random()
        if step < 0.45:
            await world.feed(world.position + chance.randrange(1, 9), size=chance.randrange(1, 6))
        elif step < 0.65:
            await world.idle(chance.choice((10, 250, 6_000)))
        elif step < 0.75 and world.rules.active:
            requests += 1
            alarm = chance.choice(sorted(world.rules.active.values(), key=lambda item: item.id))
            kind = chance.choice(("acknowledge", "comment"))
            world.request(f"action{requests}", alarm.id, alarm.version - chance.choice((0, 0, 1)), kind)
            await world.consumer.refresh()
        elif step < 0.85:
            await world.settle()
        else:
            kills += 1
            await world.abandon()
            await world.begin(snapshot_every=chance.choice((0.0, 0.0, 3600.0)))
            if chance.random() < 0.5:
                await world.feed(world.consumer.committed)
                await world.idle()
                await world.settle()
                check(world)
    await world.feed(LAST)
    await world.consumer.refresh()
    await world.idle(300)
    await world.settle()
    check(world)
    assert all(row["state"] != "pending" for row in world.rows(actions))
    await world.consumer.stop()


@pytest.mark.parametrize("seed", range(12))
async def test_killed_anywhere_gives_the_alarms_of_the_undisturbed_run(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    items = journal(seed, (1.0, 20.0))
    reference = await undisturbed(tmp_path / "reference", items)
    world = World(tmp_path, items, LAST)
    await world.begin(snapshot_every=0.0)
    while world.position < LAST:
        await world.feed(world.position + chance.randrange(1, 12), size=chance.randrange(1, 6))
        if chance.random() < 0.3:
            await world.idle(250)
        if chance.random() < 0.4:
            await world.abandon()
            await world.begin(snapshot_every=0.0)
    await world.settle()
    check(world)
    assert history(world) == history(reference)
    assert world.rows(gateway_states) == reference.rows(gateway_states)
    await world.consumer.stop()
