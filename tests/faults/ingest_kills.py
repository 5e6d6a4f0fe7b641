"""Rows 1 to 3: ingest is killed, stopped, and killed at every point where it holds something it must not lose."""

import time

from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig
from tests.faults.traffic import RATE

_CAUGHT_UP = 10.0  # s
_STOPPED = 10.0  # s


def killed(scale: Scale) -> Outcome:
    """kill -9 at any time of its life; every third may die before it is connected."""
    kills = scale.count(60, "kills")
    messages = scale.count(60_000, "messages", least=int(RATE * 2 * kills))
    with Rig() as rig:
        rig.open()
        load = rig.load(messages)
        moved = 0
        for number in range(kills):
            before = rig.service.tallies().get("ledger", {}).get("sequence", 0)
            if not rig.service.alive:
                rig.service.start()
            rig.raise_alarm()
            if number % 3:  # the others may die while they start
                rig.service.wait_connected()
            time.sleep(scale.random.uniform(0.2, 2.0))
            rig.service.kill()
            moved += rig.service.tallies()["ledger"]["sequence"] > before
        load.join(messages / RATE + 60)
        rig.publishers[0].drain()
        rig.service.start()
        caught_up = rig.settle(60)
        outcome = rig.check()
    outcome.recovery = caught_up
    outcome.figures |= {"kills": kills, "of them while it made progress": moved}
    outcome.require(caught_up <= _CAUGHT_UP, f"caught up after {caught_up:.1f} s")
    outcome.require(moved * 2 >= kills, f"only {moved} kills hit a process at work")
    return outcome


def stopped(scale: Scale) -> Outcome:
    """SIGTERM while messages come in."""
    stops = scale.count(20, "stops")
    durations = []
    with Rig() as rig:
        rig.open()
        load = rig.load()
        for _ in range(stops):
            if not rig.service.alive:
                rig.service.start()
                rig.service.wait_connected()
            rig.raise_alarm()
            time.sleep(scale.random.uniform(0.1, 2.0))
            durations.append(rig.service.stop())
        rig.service.start()
        load.stop()
        rig.publishers[0].drain()
        recovery = rig.settle(60)
        outcome = rig.check()
    outcome.recovery = recovery
    outcome.figures |= {"stops": stops, "longest": f"{max(durations):.1f} s"}
    outcome.require(max(durations) <= _STOPPED, f"the longest stop took {max(durations):.1f} s")
    return outcome


# Where it dies, and which of the calls there may be the last one.
_POINTS = {
    "receive": 40,
    "commit": 40,
    "ack": 40,
    "decode": 40,
    "write": 40,
    "rule": 40,
    "outbox": 3,
    "send": 3,
    "mark": 3,
}


def killed_at_crash_points(scale: Scale) -> Outcome:
    """The launcher kills the process before or after the n-th call at a point; alarms come in all the time."""
    times = scale.count(10, "kills a point")
    reached: dict[str, int] = dict.fromkeys(_POINTS, 0)
    with Rig() as rig:
        rig.open()
        rig.service.stop()
        load = rig.load()
        for point, calls in _POINTS.items():
            for number in range(times):
                side = ("before", "after")[number % 2]
                rig.service.start("--crash", f"{point}:{side}:{scale.random.randint(1, calls)}")
                deadline = time.monotonic() + 20
                while rig.service.alive and time.monotonic() < deadline:
                    rig.raise_alarm()
                    time.sleep(0.3)
                reached[point] += rig.service.ended(0.1) == -9
                rig.service.kill()
        rig.service.start()
        load.stop()
        rig.publishers[0].drain()
        recovery = rig.settle(60)
        outcome = rig.check()
    outcome.recovery = recovery
    outcome.figures |= {"kills": sum(reached.values())}
    missed = [f"{point} {count}/{times}" for point, count in reached.items() if count != times]
    outcome.require(not missed, f"points that were not reached every time: {', '.join(missed)}")
    return outcome


ROWS = (
    Row("1", "ingest kill -9", "lost 0, doubled 0, caught up <= 10 s", killed),
    Row("2", "SIGTERM under load", "lost 0, exit <= 10 s", stopped),
    Row("3", "kill at each crash point", "lost 0, doubled 0, alarms lost 0", killed_at_crash_points),
)
