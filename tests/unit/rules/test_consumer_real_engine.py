"""The rules consumer over the real engine: killed anywhere, it ends with the alarms of an undisturbed run."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devices.model import GatewayStatus, Reading
from rules import committer
from rules.engine import Engine
from storage.registry import Registry, RegistryView
from tests.unit.rules import engine_world as city
from tests.unit.rules.consumer_world import World
from tests.unit.rules.scripted_engine import T0

DEVICES = [city.device(f"m{n}", interval=1_000, gateway=f"g{n % 2}") for n in range(6)]
LAST = 500  # messages, one every 100 ms
STEP = 100  # ms


@pytest.fixture(autouse=True)
def commit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "_UNHURRIED", 0.0)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Engine]:
    rules = city.rules(
        tmp_path,
        city.rule("wm.burst", "flow_rate > 3", "on_delay: 3s", "off_delay: 2s", priority="critical"),
        city.rule("wm.high", "flow_rate > 2", "off_delay: 1s"),
        city.rule("wm.mean", "mean(flow_rate, '5s') > 2.5", priority="low"),
        city.SILENCE,
        "rule: gateway.down\ngateway: down\non_delay: 2s\npriority: high",
    )
    return lambda: Engine(rules, city.CATALOGUE, RegistryView())


def journal(seed: int) -> list[Reading | GatewayStatus]:
    """Meters whose flow wanders, one that falls silent, a gateway that drops and comes back."""
    chance = random.Random(seed)
    flows = dict.fromkeys((device.id for device in DEVICES), 1.0)
    items: list[Reading | GatewayStatus] = []
    for sequence in range(1, LAST + 1):
        received = T0 + sequence * STEP
        if sequence in (150, 350):
            items.append(GatewayStatus("g1", "230102", "online", f"s{sequence}", received, received, sequence))
            continue
        if sequence == 250:
            items.append(GatewayStatus("g1", "230102", "offline", "s150", None, received, sequence))
            continue
        device = DEVICES[sequence % len(DEVICES)]
        if device.id == "m2" and sequence > 300:
            continue
        if chance.random() < 0.15:
            flows[device.id] = chance.choice((0.5, 2.2, 4.0))
        values = city.CATALOGUE.values_class("water_meter")(flow_rate=flows[device.id])
        items.append(Reading(device, received, values, received, device.gateway, sequence))
    return items


async def run(directory: Path, make: Callable[[], Engine], seed: int, kills: random.Random | None) -> World:
    world = World(directory, journal(seed), LAST, make)
    Registry(world.engine).register(devices=DEVICES)
    await world.begin(snapshot_every=0.0)
    sizes = kills or random.Random(0)
    while world.position < LAST:
        await world.feed(world.position + 5, size=sizes.randrange(1, 6))
        await world.idle()
        await world.pause()
        if kills and kills.random() < 0.1:
            head = world.position
            await world.abandon()
            await world.begin(snapshot_every=kills.choice((0.0, 3600.0)))
            await world.feed(head, size=kills.randrange(1, 60))
    for _ in range(10):
        await world.idle(1_000)
    await world.settle()
    await world.consumer.stop()
    return world


def check(world: World) -> None:
    held = {identity: (alarm.version, str(alarm.state)) for identity, alarm in world.rules.active.items()}
    rows = {row["id"]: row for row in world.alarms()}
    assert {name: (row["version"], row["state"]) for name, row in rows.items() if row["state"] != "NORM"} == held
    for identity, alarm in world.rules.active.items():
        assert rows[identity]["evidence"] == alarm.evidence
    versions: dict[str, list[int]] = {}
    for row in world.transitions():
        versions.setdefault(row["alarm"], []).append(row["version"])
        assert row["cause"] != "reset"
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    mirrored = sorted(row["id"] for row in world.outbox() if row["target"] == "mqtt")
    assert mirrored == sorted(f"{row['alarm']}:{row['version']}:mqtt" for row in world.transitions())


def told(world: World) -> list[tuple[Any, ...]]:
    """What happened by the readings, which no kill may change.

    Silence, suppression and what m2 did before it fell silent also depend on when we listened.
    """
    return sorted(
        (row["rule"], row["subject_id"], row["raised_at"], row["returned_at"])
        for row in world.alarms()
        if row["rule"].startswith("wm.") and row["subject_id"] != "m2"
    )


@pytest.mark.parametrize("seed", range(8))
async def test_killed_anywhere_the_real_engine_tells_the_same(
    tmp_path: Path, make: Callable[[], Engine], seed: int
) -> None:
    reference = await run(tmp_path / "reference", make, seed, None)
    check(reference)
    rules_seen = {row["rule"] for row in reference.alarms()}
    assert rules_seen >= {"wm.burst", "wm.high", "wm.mean", "device.silence", "gateway.down"}
    disturbed = await run(tmp_path / "disturbed", make, seed, random.Random(seed))
    check(disturbed)
    assert told(disturbed) == told(reference)


@pytest.mark.parametrize("killed", [False, True])
async def test_no_device_is_silent_while_nothing_can_reach_us(
    tmp_path: Path, make: Callable[[], Engine], killed: bool
) -> None:
    world = World(tmp_path / "world", journal(1), LAST, make)
    Registry(world.engine).register(devices=DEVICES)
    heard_at = T0 + LAST * STEP
    reachable = True

    def deaf_since() -> int | None:
        return None if reachable or world.now - heard_at <= 3_000 else heard_at

    def silent() -> set[str]:
        return {
            row["subject_id"] for row in world.alarms() if row["rule"] == "device.silence" and row["state"] != "NORM"
        }

    await world.begin(deaf_since=deaf_since)
    while world.position < LAST:
        await world.feed(world.position + 5)
        await world.idle()
    reachable = False
    for step in range(240):
        await world.idle(250)
        if killed and step == 120:
            await world.settle()
            await world.abandon()
            await world.begin(deaf_since=deaf_since)
            await world.feed(LAST)
    await world.settle()
    assert silent() == {"m2"}  # it fell silent before
    reachable = True
    for _ in range(40):
        await world.idle(250)
    await world.settle()
    assert silent() == {device.id for device in DEVICES}
    check(world)
    await world.consumer.stop()
