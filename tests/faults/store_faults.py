"""Rows 4 to 9: the telemetry store refuses, hangs, forgets to answer, fails at random, or refuses single points."""

import time

from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.proxy import Proxy
from tests.faults.rig import Rig, share

_ALARM_DELAY = 5.0  # s
_TIME_OUT = 10.5  # s; 10 of the store's own, and what it takes to notice from outside


def refused(scale: Scale) -> Outcome:
    """Nobody listens at the store's address; alarms go on."""
    seconds = scale.seconds(60, "s of outage", least=6)
    with Rig(influxdb=True) as rig:
        rig.open()
        load = rig.load()
        _live(rig, 3)
        _proxy(rig).refuse()
        _live(rig, seconds)
        waiting = rig.service.document()["pending"]
        codes = {reason["code"] for reason in rig.service.document()["health"]["reasons"]}
        _proxy(rig).accept()
        drained = _drained(rig, 60)
        load.stop()
        rig.settle()
        delays = rig.alarm_delays()
        outcome = rig.check()
    outcome.recovery = drained
    p95 = share(delays, 0.95)
    outcome.figures |= {"waiting at the end of the outage": f"{waiting:,}", "alarm p95": f"{p95:.2f} s"}
    outcome.require(waiting > seconds * 200, f"only {waiting} readings waited: the store was not away")
    outcome.require("store_down" in codes, f"health says {codes}")
    outcome.require(drained <= seconds / 2, f"drained after {drained:.1f} s")
    outcome.require(p95 <= _ALARM_DELAY, f"alarm p95 {p95:.1f} s")
    return outcome


def _live(rig: Rig, seconds: float) -> None:
    """Alarms twice a second for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rig.raise_alarm()
        time.sleep(0.5)


def _drained(rig: Rig, seconds: float) -> float:
    """Until the store is at the head again while the load goes on: no more than a second's worth is pending."""
    started = time.monotonic()
    rig.service.wait(lambda document: document["pending"] <= 500, seconds, "the store has caught up")
    return time.monotonic() - started


def _proxy(rig: Rig) -> Proxy:
    assert rig.proxy is not None
    return rig.proxy


ROWS = (
    Row(
        "4",
        "store refuses",
        "lost 0, drained <= half the outage, alarm p95 <= 5 s",
        refused,
    ),
)
