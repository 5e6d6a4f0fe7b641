"""The engine as the consumer drives it: snapshots, replays and the cut into batches change nothing (RELIABILITY §1,
row 23).
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devices.model import DecodedBatch, GatewayStatus, Reading, Zone
from rules.engine import Engine
from rules.model import Action, Transition
from tests.effort import examples
from tests.unit.rules.engine_world import (
    CATALOGUE,
    GATEWAY,
    SILENCE,
    T0,
    batch,
    device,
    reading,
    registry,
    rule,
    rules,
    status,
)

DEVICES = [
    device(f"m{n}", gateway=f"g{n % 2}", zone="z1" if n < 3 else "z2", interval=interval)
    for n, interval in enumerate((10_000, 10_000, 20_000, 60_000))
]
VIEW = registry(DEVICES, [Zone(id="z1", kind="dma", district="230102"), Zone(id="z2", kind="dma", district="230102")])
RULES = (
    rule("t.high", "flow_rate > 2.5", "on_delay: 45s", "off_delay: 20s"),
    rule("t.now", "flow_rate > 4 and pressure < 0.4", priority="critical"),
    rule("t.mean", "mean(flow_rate, '1m') > 3", "on_delay: 10s"),
    rule("t.window", "drop(pressure, '60s') > 0.05 or delta(flow_rate, '30s') > 2 or age(tamper) > 60"),
    "rule: t.zone\napplies_to: {zone_kind: dma, family: water_meter}\nwhen: zone_sum(flow_rate) > 6\nwindow: 30s\n"
    "zone_lateness: 20s\ncoverage: 0.5\non_delay: 30s\npriority: high",
    SILENCE,
    GATEWAY,
)
Call = tuple[str, Any]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Engine]:
    pack = rules(Path(tmp_path_factory.mktemp("pack")), *RULES)
    return lambda lateness=0: Engine(pack, CATALOGUE, VIEW, lateness=lateness)


def history(seed: int) -> list[Call]:
    """Calls over ten minutes: readings (some late, doubled or old), statuses, ticks, actions, outages, clock steps."""
    chance = random.Random(seed)
    calls: list[Call] = []
    now = 0.0
    flow = {item.id: chance.uniform(0, 4) for item in DEVICES}
    quiet = {item.id: chance.uniform(60, 900) for item in DEVICES}
    while now < 600:
        now += chance.choice([0.5, 2.0, 5.0])
        items: list[Reading | GatewayStatus] = []
        for item in DEVICES:
            if quiet[item.id] < now < quiet[item.id] + 150 or chance.random() < 0.4:
                continue
            flow[item.id] = min(max(flow[item.id] + chance.uniform(-1, 1), 0), 6)
            values = {"flow_rate": round(flow[item.id], 2), "pressure": round(chance.uniform(0.3, 0.45), 2)}
            old = chance.choice([0, 0, 0, 0, 3, 40])
            via = chance.choice([item.gateway, item.gateway, "g0"])
            items.append(reading(item, round(now) - old, now, gateway=via, **values))
        if chance.random() < 0.06:
            session = chance.choice("abc")
            items.append(status(chance.choice(["online", "offline"]), session, now, chance.choice(["g0", "g1"])))
        chance.shuffle(items)
        if items:
            calls.append(("process", batch(*items)))
        calls.append(("tick", T0 + round((now + chance.choice([0, 0, 0, 0.2])) * 1000)))
        if chance.random() < 0.08:
            calls.append(("apply", (chance.choice(["acknowledge", "comment", "shelve"]), chance.randrange(5), now)))
        if chance.random() < 0.02:
            calls.append(("outage", (T0 + round((now - 5) * 1000), T0 + round(now * 1000))))
    return calls


def drive(engine: Engine, calls: list[Call]) -> list[Transition]:
    out: list[Transition] = []
    for kind, argument in calls:
        match kind:
            case "process":
                out += engine.process(argument)
            case "tick":
                out += engine.tick(argument)
            case "outage":
                engine.outage(*argument)
            case "apply":
                what, number, now = argument
                alarms = sorted(engine.active)
                if not alarms:
                    continue
                chosen = engine.active[alarms[number % len(alarms)]]
                at = T0 + round(now * 1000)
                arguments = {"note": "seen", "reason": "works", "until": at + 60_000}
                action = Action(
                    id="a", alarm=chosen.id, kind=what, actor="li", seen_version=chosen.version, arguments=arguments
                )
                out += engine.apply(action, at)[1]
    return out


def plain(transitions: list[Transition]) -> list[Any]:
    return [msgspec.to_builtins(transition) for transition in transitions]


@settings(max_examples=examples(40, 400), deadline=None)
@given(seed=st.integers(0, 2**32), lateness=st.sampled_from([0, 30_000]), data=st.data())
def test_a_snapshot_anywhere_continues_as_if_nothing_had_happened(
    make: Callable[..., Engine], seed: int, lateness: int, data: st.DataObject
) -> None:
    calls = history(seed)
    cut = data.draw(st.integers(0, len(calls)))
    whole = drive(make(lateness), calls)
    first = make(lateness)
    out = drive(first, calls[:cut])
    second = make(lateness)
    second.restore(first.snapshot())
    assert dict(second.active) == dict(first.active)
    assert plain(out + drive(second, calls[cut:])) == plain(whole)


@settings(max_examples=examples(40, 400), deadline=None)
@given(seed=st.integers(0, 2**32), lateness=st.sampled_from([0, 30_000]))
@example(seed=304, lateness=0)  # the grace after a gateway's return ends within a slot of silence
def test_ticks_that_did_not_matter_may_be_left_out(make: Callable[..., Engine], seed: int, lateness: int) -> None:
    calls = history(seed)
    engine, kept, whole = make(lateness), [], []
    for call in calls:
        whole += drive(engine, [call])
        if call[0] != "tick" or engine.tick_mattered:
            kept.append(call)
    assert plain(drive(make(lateness), kept)) == plain(whole)
    assert len(kept) < len(calls)


@settings(max_examples=examples(40, 400), deadline=None)
@given(seed=st.integers(0, 2**32), lateness=st.sampled_from([0, 30_000]))
def test_the_cut_into_batches_changes_nothing(make: Callable[..., Engine], seed: int, lateness: int) -> None:
    calls = history(seed)
    pieces: list[Call] = []
    for kind, argument in calls:
        rest: DecodedBatch | None = argument if kind == "process" else None
        if rest is None:
            pieces.append((kind, argument))
        while rest is not None and rest.first <= rest.last:
            head, rest = rest.split(rest.first)
            pieces.append(("process", head))
    assert plain(drive(make(lateness), pieces)) == plain(drive(make(lateness), calls))


@settings(max_examples=examples(20, 200), deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=172)  # three values of one second: raised, denied, raised
def test_every_transition_follows_the_one_before_it(make: Callable[..., Engine], seed: int) -> None:
    """Versions of an alarm count 1, 2, 3; from_state is where the last one led; no return precedes its raise."""
    known: dict[str, Transition] = {}
    for transition in drive(make(), history(seed)):
        before = known.get(transition.alarm.id)
        assert transition.alarm.version == (before.alarm.version + 1 if before else 1)
        assert transition.from_state == (before.to_state if before else "NORM")
        returned = transition.alarm.returned_at
        assert returned is None or returned >= transition.alarm.raised_at
        known[transition.alarm.id] = transition
