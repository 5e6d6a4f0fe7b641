"""Rows 20 and 23: duplicates and disorder change no alarm, and a kill in the middle of an on_delay loses none.

Both run a pack of their own. Row 20 lets the clock of two services run ten times as fast, so that a shuffle over two
minutes and the waits for it take seconds.
"""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig, meter, topic
from tests.faults.traffic import DEVICES, Publisher

PACK = Path(__file__).with_name("rules_faults.yaml")
_SPEED = 10
_SHUFFLE = 60_000  # ms
_LATENESS = "90s"
_CALM = 150  # s at the end, so that every alarm returns
_HOLD = 60.0  # s, the on_delay of `fault.held`
_TOLERANCE = 5.0  # s

Event = tuple[int, str, int, bytes]  # when to send it (ms after the epoch of the clock), device, its time, payload
Episode = tuple[str, str, int, int | None]


def shuffled(scale: Scale) -> Outcome:
    """One service gets every reading in order, another gets each twice, both times anywhere in two minutes."""
    seconds = scale.count(400, "s of event time", least=200)
    epoch = time.time_ns() // 1_000_000
    start = epoch + 150_000  # both services are up by then
    readings = list(_walks(scale, start, seconds))
    ordered = sorted((moment, name, moment, payload) for name, moment, payload in readings)
    disordered = sorted(
        (moment + _SHUFFLE + scale.random.randint(-_SHUFFLE, _SHUFFLE), name, moment, payload)
        for name, moment, payload in readings
        for _ in range(2)
    )
    launcher = ["--pack", str(PACK), "--speed", str(_SPEED), "--epoch", str(epoch)]
    with Rig(launcher=launcher, lateness=_LATENESS) as calm, Rig(launcher=launcher, lateness=_LATENESS) as rough:
        meters = [meter(name, interval=1_000) for name in sorted({name for name, _, _ in readings})]
        publishers = [rig.open(meters) for rig in (calm, rough)]
        players = [
            threading.Thread(target=_play, args=(publisher, events, epoch), daemon=True)
            for publisher, events in zip(publishers, (ordered, disordered), strict=True)
        ]
        for player in players:
            player.start()
        for player in players:
            player.join(seconds + 120)
        for rig, publisher, events in zip((calm, rough), publishers, (ordered, disordered), strict=True):
            publisher.drain()
            rig.settle(messages=len(events))
        time.sleep(300 / _SPEED)  # the last readings wait for predecessors, and holds for them
        expected, found = _episodes(calm), _episodes(rough)
        reference, outcome = calm.check(), rough.check()
    outcome.failures += [f"in order: {failure}" for failure in reference.failures]
    outcome.figures |= {"episodes": len(expected), "different": len(set(expected) ^ set(found))}
    outcome.require(len(expected) >= 10, f"only {len(expected)} episodes in the run in order")
    outcome.require(expected == found, f"episodes differ: {sorted(set(expected) ^ set(found))[:4]}")
    open_ones = [episode for episode in expected if episode[3] is None]
    outcome.require(not open_ones, f"{len(open_ones)} episodes never returned")
    return outcome


def _walks(scale: Scale, start: int, seconds: int) -> Iterable[tuple[str, int, bytes]]:
    """(device, time, payload): flows that wander across the setpoints and calm down in the end."""
    for number in range(DEVICES):
        name, flow = f"meter-{number:02}", 1.0
        for second in range(seconds + _CALM):
            flow = min(max(flow + scale.random.uniform(-0.6, 0.6), 0.0), 6.0) if second < seconds else 1.0
            moment = start + second * 1000
            yield name, moment, b'{"t":%d,"flow_rate":%.2f}' % (moment, flow)


def _play(publisher: Publisher, events: list[Event], epoch: int) -> None:
    """Send each event when the fast clock has come to it."""
    for due, name, moment, payload in events:
        wait = (epoch + (due - epoch) / _SPEED) / 1000 - time.time()
        if wait > 0.002:
            time.sleep(wait)
        publisher.send(topic(name), payload, name, moment)


def _episodes(rig: Rig) -> list[Episode]:
    rows = rig.service.rows("select rule, subject_id, raised_at, returned_at from alarms")
    return sorted(((r["rule"], r["subject_id"], r["raised_at"], r["returned_at"]) for r in rows), key=str)


def killed_in_a_hold(scale: Scale) -> Outcome:
    """Meters cross the setpoint one second after the other; ingest dies halfway, and again while they are firing."""
    names = [f"meter-{number}" for number in range(10)]
    with Rig(launcher=["--pack", str(PACK)]) as rig:
        publisher = rig.open([meter(name, interval=5_000) for name in names])
        crossed: dict[str, int] = {}
        started = time.monotonic()
        kills = [35.0, 80.0]
        back = 90.0  # when all flows return to normal
        while (elapsed := time.monotonic() - started) < back + 15:
            for number, name in enumerate(names):
                now = time.time_ns() // 1_000_000
                high = number <= elapsed < back
                if high:
                    crossed.setdefault(name, now)
                publisher.send(topic(name), b'{"t":%d,"flow_rate":%b}' % (now, b"3" if high else b"1"), name, now)
            if kills and elapsed >= kills[0]:
                kills.pop(0)
                rig.service.kill()
                rig.service.start()
            time.sleep(max(0.0, 1 - (time.monotonic() - started - elapsed)))
        publisher.drain()
        rig.settle()
        query = "select a.subject_id, a.state, a.raised_at, o.version, o.sent_at, t.to_state from alarms a"
        query += " join outbox o on o.alarm = a.id join transitions t on t.alarm = a.id and t.version = o.version"
        rows = rig.service.rows(query + " where o.target = 'log' order by o.version")
        outcome = rig.check()
    fired = {row["subject_id"]: row for row in rows if row["version"] == 1}
    states = {name: [row["to_state"] for row in rows if row["subject_id"] == name] for name in names}
    holds = [(fired[name]["raised_at"] - crossed[name]) / 1000 for name in names if name in fired]
    delays = [(fired[name]["sent_at"] - crossed[name]) / 1000 for name in names if name in fired]
    outcome.alarms_lost = len(names) - len(fired)
    outcome.figures |= {
        "held": f"{min(holds):.1f} to {max(holds):.1f} s",
        "notified after": f"{min(delays):.1f} to {max(delays):.1f} s",
        "episodes": len(rows) // 2,
    }
    outcome.require(outcome.alarms_lost == 0, f"{outcome.alarms_lost} alarms did not fire")
    late = [delay for delay in (*holds, *delays) if abs(delay - _HOLD) > _TOLERANCE]
    outcome.require(not late, f"not within {_HOLD:.0f} +/- {_TOLERANCE:.0f} s: {late}")
    outcome.require(all(seen == ["UNACK", "RTNUN"] for seen in states.values()), f"states told: {states}")
    return outcome


ROWS = (
    Row(
        "20",
        "every reading twice, shuffled +/- 60 s, lateness 90 s (clock x 10)",
        "doubled 0, same (rule, subject, raised_at, returned_at) as in order",
        shuffled,
    ),
    Row(
        "23",
        "kill -9 halfway through a 60 s on_delay, and while firing",
        "fires at 60 +/- 5 s, no new episode, return sent",
        killed_in_a_hold,
    ),
)
