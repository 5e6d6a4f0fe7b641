"""The bench of one row: a real broker with our configuration, a store, the service, load, and the final check.

`Rig` is a context manager that leaves nothing running. `settle` waits until everything sent has an outcome; `check`
stops the service and compares what was acknowledged with what is stored, counted and notified.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devices.model import Device
from simulators.city import build_city
from storage.metadata import open_engine
from storage.registry import Registry
from tests import parts
from tests.faults import store
from tests.faults.outcome import Outcome
from tests.faults.proxy import Proxy
from tests.faults.service import ROOT, Service
from tests.faults.traffic import DEVICES, RATE, SEED, Key, Load, Publisher

DISTRICT, GATEWAY = "230102", "gw-faults"
DATABASE = "faults"
TAMPER = "water_meter.tamper"
_CONFIGURATION = ROOT / "deploy" / "mosquitto" / "mosquitto.conf"
_OURS = (
    "listener",
    "allow_anonymous",
    "password_file",
    "persistence_location",
)  # what the test's own broker differs in


def topic(device: str, gateway: str = GATEWAY) -> str:
    """Where a device of a row's own reports."""
    return f"songhua/v1/{DISTRICT}/{gateway}/{device}/up"


def meter(name: str, interval: int = 15_000) -> Device:
    """A registered water meter."""
    return Device(
        id=name,
        family="water_meter",
        profile="songhua/wm-15",
        district=DISTRICT,
        zone=DISTRICT,
        gateway=GATEWAY,
        interval=interval,
    )


def broker_options() -> dict[str, Any]:
    """Our configuration of mosquitto as the options of `parts.mosquitto`."""
    lines = (line.split("#")[0].strip() for line in _CONFIGURATION.read_text().splitlines())
    options = dict(line.split(maxsplit=1) for line in lines if line)
    return {name: value for name, value in options.items() if name not in _OURS}


class Rig:
    """See the module docstring. `influxdb` puts a real InfluxDB behind a `proxy` with faults; otherwise SQLite."""

    def __init__(
        self, *, influxdb: bool = False, launcher: Sequence[str] = (), alarm_meters: int = 2_000, **settings: str
    ) -> None:
        self._stack = ExitStack()
        self._influxdb = influxdb
        self._launcher = launcher
        self._settings = settings
        self._alarm_meters = [meter(f"alarm-{number:04}") for number in range(alarm_meters)]
        self._alarms_sent = 0
        self.loads: list[Load] = []
        self.publishers: list[Publisher] = []
        self.raised: dict[str, int] = {}  # alarm meter -> time at which it reported tampering
        self.also_sent: list[Key] = []  # by other clients

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        try:
            self.directory = Path(enter(tempfile.TemporaryDirectory(prefix="songhua-faults-")))
            self.broker = enter(parts.mosquitto(**broker_options()))
            self.proxy: Proxy | None = None
            self.store_url = f"sqlite:///{self.directory / 'var' / 'telemetry.db'}"
            if self._influxdb:
                self.influxdb = enter(parts.influxdb())
                store.query(self.influxdb.url, f"create database {DATABASE}")
                self.proxy = enter(Proxy(self.influxdb.port))
                self.store_url = f"influxdb+v1://127.0.0.1:{self.influxdb.port}/{DATABASE}"
                self._settings["store_url"] = f"influxdb+v1://127.0.0.1:{self.proxy.port}/{DATABASE}"
            self.service = Service(self.directory / "var", self.broker.url, launcher=self._launcher, **self._settings)
            self._stack.callback(self.service.kill)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def open(self, devices: Iterable[Device] = ()) -> Publisher:
        """Start the service for the first time, register the city of the load; a publisher for messages of the row."""
        self.service.start()
        self.service.wait_connected()
        city = build_city(SEED, DEVICES)
        engine = open_engine(f"sqlite:///{self.service.database}")
        Registry(engine).register(
            zones=city.zones, gateways=city.gateways, devices=[*city.devices, *self._alarm_meters, *devices]
        )
        engine.dispose()
        self.service.wait(lambda d: d["devices"] >= DEVICES, 20, "the devices are registered")
        time.sleep(1.5)  # the registry view is renewed once a second
        publisher = self._stack.enter_context(Publisher(self.broker.url))
        self.publishers.append(publisher)
        return publisher

    def load(self, messages: int | None = None, rate: float = RATE) -> Load:
        """Start the generator."""
        load = Load(self.broker.url, self.directory / f"load-{len(self.loads)}.log", messages=messages, rate=rate)
        self.loads.append(load)
        self._stack.callback(load.stop)
        return load.start()

    def raise_alarm(self) -> str:
        """One more meter reports that it was tampered with: an alarm at once, once. Its name."""
        name = self._alarm_meters[self._alarms_sent].id
        self._alarms_sent += 1
        now = time.time_ns() // 1_000_000
        self.publishers[0].send(topic(name), b'{"t":%d,"flow_rate":0.1,"tamper":true}' % now, name, now)
        self.raised[name] = now
        return name

    def sent(self) -> Counter[Key]:
        """Every key with a PUBACK, and how often it was sent."""
        keys: Counter[Key] = Counter(self.also_sent)
        sources: list[Load | Publisher] = [*self.loads, *self.publishers]
        for source in sources:
            keys.update(source.keys())
        return keys

    def settle(self, seconds: float = 60, messages: int | None = None) -> float:
        """Wait until everything sent is stored and notified; how long it took. Raises `TimeoutError`."""
        started = time.monotonic()
        expected = self.sent().total() if messages is None else messages

        def through(document: dict[str, Any]) -> bool:
            return bool(document["received"] >= expected and document["pending"] == 0)

        self.service.wait(through, seconds, f"{expected} messages have an outcome")
        taken = time.monotonic() - started
        deadline = started + seconds + 20
        while self._waiting():
            if time.monotonic() > deadline:
                raise TimeoutError(f"alarms or notifications are still waiting: {self._waiting()}")
            time.sleep(0.05)
        return taken

    def _waiting(self) -> list[str]:
        places = {name: tallies["sequence"] for name, tallies in self.service.tallies().items()}
        behind = places.get("rules", -1) < places.get("ledger", 0)
        pending = self.service.rows("select id from outbox where state = 'pending'")
        known = {row["subject_id"] for row in self.service.rows("select subject_id from alarms where rule = ?", TAMPER)}
        missing = [name for name in self.raised if name not in known]
        return ["rules"] * behind + [row["id"] for row in pending] + missing

    def check(self, *, refused: int = 0, retimed: bool = False) -> Outcome:
        """Stop the service and compare. `refused` keys have a verdict instead of a place in the store. With `retimed`
        readings may be stored under another time than their own: they are only counted, and two of a device that
        were given the same receive time have one place and one verdict (duplicate or conflict).
        """
        self.service.stop()
        sent, stored = self.sent(), store.rows(self.store_url)
        tallies = self.service.tallies()
        ledger, taken = tallies["ledger"], tallies["store"]
        missing = len(sent) - len(stored) if retimed else len(sent.keys() - stored.keys())
        in_effect = taken["stored"] + taken["late"] - taken["conflicts"]
        collided = taken["duplicate"] + taken["conflicts"] if retimed else 0
        outcome = Outcome(lost=max(0, missing - refused - collided))
        outcome.doubled = sum(count - 1 for count in stored.values()) + max(0, in_effect - len(stored))
        outcome.figures["sent"] = f"{sent.total():,}"
        outcome.require(outcome.lost == 0, f"{outcome.lost} of {len(sent)} acknowledged keys are not stored")
        outcome.require(outcome.doubled == 0, f"{outcome.doubled} readings count twice")
        expected = len(sent) - refused - collided
        outcome.require(len(stored) == expected, f"{len(stored)} keys are stored, {expected} should be")
        outcome.require(in_effect == len(stored), f"{in_effect} counted as stored or late, {len(stored)} are there")
        placed = sum(taken[name] for name in ("stored", "late", "duplicate", "rejected", "damaged"))
        outcome.require(ledger["readings"] == taken["readings"] == placed, f"counters do not add up: {tallies}")
        outcome.require(not self.service.unbalanced, f"unbalanced status documents: {self.service.unbalanced[:2]}")
        unheard = sum(load.report.unheard + load.report.refused for load in self.loads)
        unheard += sum(publisher.unheard + publisher.refused for publisher in self.publishers)
        outcome.require(unheard == 0, f"{unheard} messages reached no subscription")
        self._check_alarms(outcome)
        return outcome

    def _check_alarms(self, outcome: Outcome) -> None:
        """Each alarm meter has one alarm, each transition one row per target, each row at least one line in the log."""
        found = self.service.rows("select id, subject_id from alarms where rule = ?", TAMPER)
        alarms = Counter(row["subject_id"] for row in found)
        transitions = self.service.rows("select alarm, version from transitions")
        versions: dict[str, list[int]] = {}
        for row in transitions:
            versions.setdefault(row["alarm"], []).append(row["version"])
        rows = self.service.rows("select id, state, target from outbox")
        mirrored = {row["id"] for row in rows if row["target"] == "mqtt"}
        lines = Counter(line["id"] for line in self.service.notifications())
        unsent = [
            row["id"] for row in rows if row["state"] != "sent" or (row["target"] == "log" and not lines[row["id"]])
        ]
        if self.raised:
            outcome.alarms_lost = len(self.raised.keys() - alarms.keys()) + len(unsent)
            outcome.figures["alarms"] = len(alarms)
        outcome.require(not unsent, f"notifications not sent: {unsent[:3]}")
        outcome.require(alarms == Counter(self.raised.keys()), f"alarms {len(alarms)}, meters {len(self.raised)}")
        gaps = [alarm for alarm, seen in versions.items() if sorted(seen) != list(range(1, len(seen) + 1))]
        outcome.require(not gaps, f"versions of alarms are not consecutive: {gaps[:3]}")
        outcome.require(
            mirrored == {f"{row['alarm']}:{row['version']}:mqtt" for row in transitions},
            "outbox rows and transitions differ",
        )
        known = {row["id"] for row in rows}
        strangers = [name for name in lines if name not in known]
        outcome.require(not strangers, f"notifications that no row stands for: {strangers[:3]}")

    def alarm_delays(self) -> list[float]:
        """Seconds from the report of each alarm meter to its notification in the log, ascending."""
        query = (
            "select a.subject_id, o.sent_at from outbox o join alarms a on a.id = o.alarm"
            " where o.target = 'log' and o.version = 1 and a.rule = ?"
        )
        return sorted(
            (row["sent_at"] - self.raised[row["subject_id"]]) / 1000 for row in self.service.rows(query, TAMPER)
        )


def share(values: Sequence[float], part: float) -> float:
    """The value below which `part` of ascending `values` lie; 0 where there are none."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else 0.0
