"""Rows 21 and 22: one message in ten is poison, and clocks are wrong, the devices' and our own."""

import struct
import tempfile
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from tests.faults import store
from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.rig import DISTRICT, GATEWAY, Rig, meter, topic
from tests.faults.traffic import DEVICES, Publisher

_RATE = 2_500.0  # messages a second
_STEPS = 50  # a second, ten readings each
_STALL = 5.0  # s
_POISON = "poison"  # in place of a device in the keys of what must not be stored
HOUR = 3_600_000


def poison(name: str, number: int, now: int) -> tuple[str, bytes]:
    """(topic, payload) of the `number`-th of all kinds of bad message; each must end in quarantine, once."""
    reported = b'{"t":%d,"flow_rate":%b}'
    kinds = [
        (topic(name), b""),
        (topic(name), b"not json"),
        (topic(name), b'{"t":%d,"flow_rate":0.1' % now),
        (topic(name), b"[" * 10_000),
        (topic(name), b"\xff\xfe\x00\x01"),
        (topic(name), b"null"),
        (topic(name), b"[]"),
        (topic(name), b'{"t":%d}' % now),
        (topic(name), b'{"t":"yesterday","flow_rate":0.1}'),
        (topic(name), b'{"t":1e999,"flow_rate":0.1}'),
        (topic(name), reported % (now, b"NaN")),
        (topic(name), reported % (now, b'"fast"')),
        (topic(name), reported % (now, b'{"value":1}')),
        (topic(name), reported % (now, b"123456789012345678901234567890")),
        (topic(name), reported % (now, b"1e9")),
        (topic(name), b'{"t":%d,"device":"another","flow_rate":0.1}' % now),
        (topic(f"stranger-{number % 7}"), b'{"t":%d,"unheard_of":1}' % now),
        (f"songhua/v1/harbin/{GATEWAY}/{name}/up", reported % (now, b"0.1")),
        (f"songhua/v1/{DISTRICT}/{GATEWAY}/no spaces/up", reported % (now, b"0.1")),
        (f"songhua/v1/230199/{GATEWAY}/{name}/up", reported % (now, b"0.1")),
    ]
    return kinds[number % len(kinds)]


def poisoned(scale: Scale) -> Outcome:
    """One message in ten, of twenty kinds."""
    count = scale.count(50_000, "messages", least=2_000)
    meters = [meter(f"meter-{number}") for number in range(DEVICES)]
    lag, good, bad = 0.0, 0, 0
    with Rig() as rig:
        publisher = rig.open(meters)
        started, begun = time.monotonic(), time.time_ns() // 1_000_000
        for number in range(count):
            name, now = meters[number % DEVICES].id, time.time_ns() // 1_000_000
            if number % 10 == 9:
                place, payload = poison(name, bad, now)
                publisher.send(place, payload, _POISON, bad)
                bad += 1
            else:
                moment = begun + number // DEVICES * int(1000 * DEVICES / _RATE)
                publisher.send(topic(name), b'{"t":%d,"flow_rate":0.1}' % moment, name, moment)
                good += 1
            if number % 100 == 0:
                lag = max(lag, rig.service.document()["store_lag_s"])
                time.sleep(max(0.0, started + number / _RATE - time.monotonic()))
        publisher.drain()
        recovery = rig.settle(messages=count)
        document = rig.service.document()
        outcome = rig.check(refused=bad)
    outcome.recovery = recovery
    reasons = document["quarantined_by_reason"]
    outcome.figures |= {
        "quarantined": f"{document['quarantined']:,}",
        "reasons": len(reasons),
        "most lag": f"{lag:.1f} s",
    }
    outcome.require(document["stored"] + document["late"] == good, f"{document['stored']} of {good} stored")
    outcome.require(document["quarantined"] == bad, f"{document['quarantined']} of {bad} quarantined: {reasons}")
    outcome.require(lag <= _STALL, f"the store lagged {lag:.1f} s behind")
    return outcome


def clocks(scale: Scale) -> Outcome:
    """Devices in 1970, in 2099, an hour off, in another zone; then our own clock jumps an hour and back, both ways.

    `device.clock` is no false alarm where a device's clock is wrong.
    """
    seconds = scale.seconds(10, "s at each time", least=4)
    with tempfile.NamedTemporaryFile(prefix="songhua-clock-") as file:
        clock = Path(file.name)
        clock.write_bytes(bytes(8))
        with Rig(launcher=["--clock", str(clock)]) as rig:
            meters = [f"meter-{number}" for number in range(DEVICES)]
            publisher = rig.open([meter(name) for name in (*meters, *_ODD)])
            _report(publisher, meters, seconds)
            for shift in (HOUR, 0, -HOUR, 0):
                with clock.open("r+b") as opened:  # never shorter: the process has it mapped
                    opened.write(struct.pack("<q", shift))
                _report(publisher, meters, seconds)
            publisher.drain()
            rig.settle()
            alarms = rig.service.rows("select rule, subject_id, raised_at from alarms")
            false = [row for row in alarms if (row["rule"], row["subject_id"] in _WRONG) != ("device.clock", True)]
            rig.raise_alarm()
            publisher.drain()
            recovery = rig.settle()
            health = rig.service.document()["health"]
            outcome = rig.check(retimed=True)
            tallies = rig.service.tallies()["store"]
            retimed = len(rig.sent().keys() - store.rows(rig.store_url).keys())
    outcome.recovery = recovery
    outcome.figures |= {"false alarms": len(false), "stored under receive time": retimed}
    outcome.figures["two under one receive time"] = tallies["duplicate"] + tallies["conflicts"]
    outcome.require(not false, f"false alarms: {false[:5]}")
    outcome.require(health["state"] == "ok", f"health in the end: {health}")
    return outcome


_ODD = ("in-1970", "in-2099", "dst-ahead", "dst-behind", "in-text")
_WRONG = ("in-1970", "in-2099", "dst-ahead")  # beyond what is taken for a device's own time


def _odd_times(now: int) -> dict[str, tuple[bytes, int]]:
    """What each odd device writes as its time, and the time it stands for in the key."""
    beijing = datetime.fromtimestamp(now / 1000, UTC).astimezone(timezone(timedelta(hours=8)))
    return {
        "in-1970": (b"%d" % (now % 100_000_000), now),
        "in-2099": (b"%d" % (4_070_908_800_000 + now % 1000), now),
        "dst-ahead": (b"%d" % (now + HOUR), now + HOUR),
        "dst-behind": (b"%d" % (now - HOUR), now - HOUR),
        "in-text": (f'"{beijing.isoformat(timespec="milliseconds")}"'.encode(), now),
    }


def _report(publisher: Publisher, meters: list[str], seconds: float) -> None:
    """500 readings a second of meters with a right clock, and one a second of each that is odd."""
    payload = b'{"t":%b,"flow_rate":0.1}'
    started, steps = time.monotonic(), int(seconds * _STEPS)
    for step in range(steps):
        now = time.time_ns() // 1_000_000
        times = dict.fromkeys(meters[step % 5 :: 5], (b"%d" % now, now))
        if step % _STEPS == 0:
            times |= _odd_times(now)
        for name, (text, moment) in times.items():
            publisher.send(topic(name), payload % text, name, moment)
        time.sleep(max(0.0, started + (step + 1) / _STEPS - time.monotonic()))


ROWS = (
    Row("21", "10 % poison at 2,500/s", "nine in ten stored, one in ten quarantined, store lag <= 5 s", poisoned),
    Row("22", "device clocks 1970, 2099, +/- 1 h; ours +/- 1 h", "lost 0, no false alarm", clocks),
)
