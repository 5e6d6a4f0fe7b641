"""Rows 10, 12 and 19: the broker is restarted, forgets our session, or sends a storm of retained messages."""

import signal
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig, meter, topic
from tests.faults.traffic import Key, Publisher

_RECONNECTED = 5.0  # s
_REPORTED = 10.0  # s
_READY = 30.0  # s


def restarted(scale: Scale) -> Outcome:
    """SIGTERM and start again, under load: the broker writes its sessions and queues to disk."""
    restarts = scale.count(10, "restarts")
    delays = []
    with Rig() as rig:
        rig.open()
        load = rig.load()
        for _ in range(restarts):
            time.sleep(scale.random.uniform(0.5, 3.0))
            rig.raise_alarm()
            rig.broker.stop()
            time.sleep(scale.random.uniform(0.0, 1.0))
            rig.broker.start()
            delays.append(_reconnected(rig, time.time()))
        load.stop()
        rig.publishers[0].drain()
        recovery = rig.settle()
        lost_sessions = rig.service.document()["sessions_lost"]
        outcome = rig.check()
    outcome.recovery = recovery
    outcome.figures |= {"restarts": restarts, "longest reconnect": f"{max(delays):.1f} s"}
    outcome.require(max(delays) <= _RECONNECTED, f"reconnected after {max(delays):.1f} s")
    outcome.require(lost_sessions == 0, f"the broker lost our session {lost_sessions} times")
    return outcome


def _reconnected(rig: Rig, since: float) -> float:
    """Seconds until ingest is connected again."""
    while time.time() < since + 30:
        # The listener is up a moment before `start` returns.
        connected = [at for at, _ in rig.service.events("mqtt.connected") if at > since - 1]
        if connected:
            return max(0.0, connected[0] - since)
        time.sleep(0.05)
    raise TimeoutError("ingest did not reconnect within 30 s")


def wiped(scale: Scale) -> Outcome:
    """The broker starts without its file, once while ingest hangs and messages are queued, once while it is away."""
    count = scale.count(3_000, "messages", least=2_000)
    meters = [meter(f"meter-{number}") for number in range(10)]
    with Rig() as rig:
        publisher = rig.open(meters)
        numbers = _Numbers(publisher, [each.id for each in meters])
        numbers.send(500)
        rig.settle()
        assert rig.service.process is not None
        rig.service.process.send_signal(signal.SIGSTOP)  # what its socket cannot hold is queued at the broker
        numbers.send(count)
        publisher.drain()
        _wipe(rig)
        rig.service.process.send_signal(signal.SIGCONT)
        running = _reported(rig, 1)
        numbers.send(500)
        publisher.drain()
        document = rig.service.wait(lambda d: d["missing"] > 0 and d["pending"] == 0, 30, "a gap is counted")
        time.sleep(2)
        document = rig.service.document()

        rig.service.stop()
        _wipe(rig)
        rig.service.start()
        away = _reported(rig, 1)
        rig.raise_alarm()
        numbers.send(500)
        publisher.drain()
        rig.settle(messages=document["received"] + 501)
        gone = len(rig.sent()) - rig.service.document()["stored"]
        outcome = rig.check(refused=gone)
    outcome.lost = None  # that is the fault
    outcome.figures |= {
        "wiped with the session": gone,
        "counted as missing": document["missing"] + document["lost"],
        "reported after": f"{running:.1f} s running, {away:.1f} s at the start",
    }
    outcome.require(gone > 0, "nothing was in the queue that was wiped")
    outcome.require(document["missing"] + document["lost"] == gone, "the gap is not what was wiped")
    outcome.require(max(running, away) <= _REPORTED, f"reported after {max(running, away):.1f} s")
    return outcome


class _Numbers:
    """Readings with boot_id and seq, so that gaps can be counted."""

    def __init__(self, publisher: Publisher, names: list[str]) -> None:
        self._publisher = publisher
        self._names = names
        self._sent = 0

    def send(self, count: int) -> None:
        now = time.time_ns() // 1_000_000
        for _ in range(count):
            name, seq = self._names[self._sent % len(self._names)], self._sent // len(self._names)
            moment = now + self._sent
            payload = b'{"t":%d,"flow_rate":0.1,"boot_id":"b1","seq":%d}' % (moment, seq)
            self._publisher.send(topic(name), payload, name, moment)
            self._sent += 1


def _wipe(rig: Rig) -> None:
    rig.broker.stop()
    (rig.broker.directory / "mosquitto.db").unlink()
    rig.broker.start()


def _reported(rig: Rig, sessions: int) -> float:
    """Seconds from the connect that found no session until the status says so."""

    def told(document: dict[str, Any]) -> bool:
        return document["sessions_lost"] >= sessions and "session_lost" in str(document["health"])

    document = rig.service.wait(told, 30, "the lost session is reported")
    said_at: int = document["at"]
    return max(0.0, said_at / 1000 - rig.service.events("mqtt.connected")[-1][0])


def retained_storm(scale: Scale) -> Outcome:
    """Retained readings that look alarming meet a new subscription; a live one beside them must raise its alarm."""
    count = scale.count(20_000, "messages", least=2_000)
    with Rig() as rig:
        rig.also_sent = _retain(rig, count)
        started = time.monotonic()
        rig.open()
        rig.raise_alarm()
        rig.settle(90)
        ready = time.monotonic() - started
        outcome = rig.check()
        alarms = rig.service.rows("select id from alarms where subject_id like 'retained-%'")
    outcome.recovery = ready
    outcome.figures["alarms from retained data"] = len(alarms)
    outcome.require(not alarms, f"{len(alarms)} alarms from retained data")
    outcome.require(ready <= _READY, f"ready after {ready:.1f} s")
    return outcome


def _retain(rig: Rig, count: int) -> list[Key]:
    """Leave `count` retained readings at the broker, each of a meter of its own."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "faults-retainer")
    client.max_inflight_messages_set(1_000)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", rig.broker.port)
    client.loop_start()
    now = time.time_ns() // 1_000_000
    names = [f"retained-{number:05}" for number in range(count)]
    payload = b'{"t":%d,"flow_rate":0.1,"tamper":true}' % now
    for message in [client.publish(topic(name), payload, qos=1, retain=True) for name in names]:
        message.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    return [(name, now) for name in names]


ROWS = (
    Row("10", "broker SIGTERM and restart", "lost 0, reconnected <= 5 s", restarted),
    Row("12", "session wiped at the broker", "noticed at resume, gap counted, reported <= 10 s", wiped),
    Row("19", "retained storm", "no alarm from retained data, ready <= 30 s", retained_storm),
)
