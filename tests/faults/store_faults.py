"""Rows 4 to 9: the telemetry store refuses, hangs, forgets to answer, fails at random, or refuses single points."""

import time
from itertools import pairwise

from tests.faults import store
from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.proxy import RETRY_AFTER, Fault, Proxy
from tests.faults.rig import DATABASE, DISTRICT, Rig, meter, share, topic
from tests.faults.traffic import DEVICES

_ALARM_DELAY = 5.0  # s
_LEAST_DRAIN = 10.0  # s; a shortened outage ends within a back-off of up to 5 s
_RETRIES = 20  # a second: the shortest back-off is 50 ms
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
    limit = max(seconds / 2, _LEAST_DRAIN)
    outcome.require(drained <= limit, f"drained after {drained:.1f} s, not within {limit:.0f} s")
    outcome.require(p95 <= _ALARM_DELAY, f"alarm p95 {p95:.1f} s")
    return outcome


def hanging(scale: Scale) -> Outcome:
    """The store takes the request and never answers."""
    seconds = scale.seconds(30, "s of hanging", least=12)
    with Rig(influxdb=True) as rig:
        rig.open()
        load = rig.load()
        _live(rig, 3)
        _proxy(rig).fault = lambda: "hang"
        _live(rig, seconds)
        _proxy(rig).fault = lambda: "pass"
        drained = _drained(rig, 60)
        load.stop()
        rig.settle()
        delays = rig.alarm_delays()
        waited = _proxy(rig).given_up
        outcome = rig.check()
    outcome.recovery = drained
    longest, p95 = max(waited, default=0.0), share(delays, 0.95)
    outcome.figures |= {"longest wait": f"{longest:.2f} s", "attempts": len(waited), "alarm p95": f"{p95:.2f} s"}
    outcome.require(0 < longest <= _TIME_OUT, f"gave up after {longest:.1f} s")
    outcome.require(p95 <= _ALARM_DELAY, f"alarm p95 {p95:.1f} s")
    return outcome


class _EverySecond:
    """Cuts every second reply until there were enough: the write behind each cut is its retry."""

    def __init__(self, cuts: int) -> None:
        self.left = cuts
        self._writes = 0

    def __call__(self) -> Fault:
        self._writes += 1
        if self._writes % 2 or not self.left:
            return "pass"
        self.left -= 1
        return "cut"


def reply_cut(scale: Scale) -> Outcome:
    """The store commits and the answer is lost, so that everything is written twice."""
    cuts = scale.count(200, "cuts")
    fault = _EverySecond(cuts)
    with Rig(influxdb=True) as rig:
        rig.open()
        load = rig.load()
        _proxy(rig).fault = fault
        deadline = time.monotonic() + cuts + 30
        while fault.left and time.monotonic() < deadline:
            _live(rig, 1)
        load.stop()
        recovery = rig.settle()
        outcome = rig.check()
    outcome.recovery = recovery
    outcome.figures["replies cut"] = cuts - fault.left
    outcome.require(fault.left == 0, f"only {cuts - fault.left} replies were cut")
    return outcome


def errors_at_random(scale: Scale) -> Outcome:
    """Three in ten writes are answered with 500 or 429."""
    seconds = scale.seconds(30, "s of errors", least=6)

    def fault() -> Fault:
        return scale.random.choice(("500", "429")) if scale.random.random() < 0.3 else "pass"

    with Rig(influxdb=True) as rig:
        rig.open()
        load = rig.load()
        _proxy(rig).fault = fault
        _live(rig, seconds)
        _proxy(rig).fault = lambda: "pass"
        load.stop()
        recovery = rig.settle()
        writes = _proxy(rig).writes
        outcome = rig.check()
    outcome.recovery = recovery
    failed = [at for at, answer in writes if answer != "pass"]
    busiest = max((sum(at <= later < at + 1 for later in failed) for at in failed), default=0)
    pauses = [following - at for (at, answer), (following, _) in pairwise(writes) if answer == "429"]
    outcome.figures |= {"errors": len(failed), "most retries in a second": busiest, "writes": len(writes)}
    outcome.figures["least pause after 429"] = f"{min(pauses, default=0):.2f} s"
    outcome.require(busiest <= _RETRIES, f"{busiest} retries in one second")
    outcome.require(min(pauses) >= RETRY_AFTER, f"a retry {min(pauses):.2f} s after Retry-After: {RETRY_AFTER}")
    return outcome


def type_conflicts(scale: Scale) -> Outcome:
    """A field has another type in the store; one reading in 500 brings it."""
    count = scale.count(10_000, "readings", least=1_000)
    meters = [meter(f"meter-{number}") for number in range(DEVICES)]
    with Rig(influxdb=True) as rig:
        publisher = rig.open(meters)
        rig.service.stop()
        seed = f'water_meter,device=seed,district={DISTRICT},zone={DISTRICT} volume_reverse="text" {_now()}'
        store.write(rig.influxdb.url, DATABASE, seed)
        bad, started = [], _now()
        for number in range(count):
            name, moment = meters[number % DEVICES].id, started + number // DEVICES
            conflicting = number % 500 == 250
            value = b',"volume_reverse":1' if conflicting else b""
            publisher.send(topic(name), b'{"t":%d,"flow_rate":0.1%b}' % (moment, value), name, moment)
            bad += [(name, moment)] * conflicting
        publisher.drain()
        rig.service.start()
        recovery = rig.settle()
        reasons = rig.service.document()["quarantined_by_reason"]
        outcome = rig.check(refused=len(bad))
        stored = store.rows(rig.store_url)
    outcome.recovery = recovery
    outcome.figures |= {"stored": f"{len(stored):,}", "quarantined": reasons.get("store_rejected", 0)}
    outcome.require(reasons == {"store_rejected": len(bad)}, f"quarantined {reasons}")
    outcome.require(not stored.keys() & set(bad), "conflicting readings are stored")
    return outcome


def _now() -> int:
    return time.time_ns() // 1_000_000


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
    Row("6", "store hangs", "time-out <= 10 s (+ 0.5 s seen from outside), lost 0", hanging),
    Row("7", "store commits, reply cut", "doubled 0", reply_cut),
    Row("8", "store answers 500/429, 30 % at random", "lost 0, at most 20 retries a second", errors_at_random),
    Row("9", "one type conflict in 500 readings", "499 of 500 stored, the rest quarantined", type_conflicts),
)
