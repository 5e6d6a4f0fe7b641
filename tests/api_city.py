"""A small city for tests of the api: two districts, two devices and a gateway in each, alarms, quarantine, readings."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine, event, insert, update

import api.tables  # noqa: F401 (declares its tables)
from api.app import create_app
from api.credentials import Role, create_token
from devices.catalogue import load
from devices.errors import TransientError
from devices.model import Device, Gateway, Milliseconds, Reading, Zone
from rules.model import Alarm, State
from rules.tables import actions, alarms, transitions
from storage.metadata import metadata, open_engine
from storage.registry import Registry
from storage.tables import gateway_states, process_status, verdicts
from storage.telemetry import Aggregate, AlarmMark, Point, Series

NOW: Milliseconds = 1_767_225_600_000
DISTRICTS = ("230102", "230103")
COUNTERS = (
    *("received", "journalled", "stored", "late", "duplicate", "quarantined", "control", "pending", "lost"),
    *("missing", "conflicts", "sessions_lost", "journal_bytes", "notifications_dead"),
)


class MovableClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: Milliseconds = NOW) -> None:
        self.now = now

    def __call__(self) -> Milliseconds:
        return self.now


class MemoryStore:
    """A `TelemetryStore` in a dictionary; `away` makes every call raise `TransientError`."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, str, Milliseconds], Point] = {}
        self.districts: dict[str, str] = {}
        self.away = False
        self.started = 0

    def put(self, family: str, device: str, district: str, time: Milliseconds, values: Mapping[str, Any]) -> None:
        self.points[family, device, time] = Point(device, time, dict(values))
        self.districts[device] = district

    def _check(self) -> None:
        if self.away:
            raise TransientError("away")

    async def start(self) -> None:
        self._check()
        self.started += 1

    async def close(self) -> None: ...

    async def ready(self) -> None:
        self._check()

    async def write(self, readings: Sequence[Reading]) -> None:
        raise NotImplementedError

    async def sync(self) -> None: ...

    async def mark(self, marks: Sequence[AlarmMark]) -> None:
        raise NotImplementedError

    async def latest(
        self, family: str, *, district: str | None = None, devices: Sequence[str] | None = None, limit: int = 100_000
    ) -> list[Point]:
        self._check()
        newest: dict[str, Point] = {}
        for (of_family, device, _), point in sorted(self.points.items(), key=lambda item: item[0][2]):
            wanted = devices is None or device in devices
            if of_family == family and wanted and district in (None, self.districts[device]):
                newest[device] = point
        return sorted(newest.values(), key=lambda point: point.device)[:limit]

    async def range(
        self,
        family: str,
        device: str,
        properties: Sequence[str],
        start: Milliseconds,
        end: Milliseconds,
        *,
        limit: int = 100_000,
    ) -> Series:
        self._check()
        points = sorted(
            (
                point
                for (of_family, of_device, time), point in self.points.items()
                if (of_family, of_device) == (family, device) and start <= time < end
            ),
            key=lambda point: point.time,
        )[:limit]
        columns: dict[str, list[float | str | None]] = {
            name: [point.values.get(name) for point in points] for name in properties
        }
        return Series([point.time for point in points], columns)

    async def aggregate(
        self,
        family: str,
        devices: Sequence[str],
        properties: Sequence[str],
        start: Milliseconds,
        end: Milliseconds,
        bucket: Milliseconds,
        function: Aggregate,
    ) -> Series:
        self._check()
        times = list(range(start - start % bucket, end, bucket))
        return Series(times, {name: [None] * len(times) for name in properties})

    async def count(
        self, family: str | None = None, *, start: Milliseconds | None = None, end: Milliseconds | None = None
    ) -> int:
        return len(self.points)

    async def retain(self, since: Milliseconds) -> None:
        raise NotImplementedError


def alarm(district: str, number: int, state: State = State.UNACK, **changes: Any) -> Alarm:
    """An alarm of a device in `district`; its id is 32 characters that name both."""
    values: dict[str, Any] = {
        "id": f"{district}{number:026d}",
        "rule": "wm.burst",
        "subject_kind": "device",
        "subject_id": f"wm-{district}-1",
        "family": "water_meter",
        "district": district,
        "zone": f"dma-{district}",
        "gateway": f"gw-{district}",
        "priority": ("critical", "high", "medium", "low")[number % 4],
        "state": state,
        "version": 1,
        "raised_at": NOW - number * 1000,
        "title_zh": f"表后爆管 {district}",
        "title_en": f"Burst behind the meter {district}",
        "evidence": {"property": "flow_rate", "value": 4.2, "unit": "m3/h"},
        "explanation_zh": "流量过大",
        "explanation_en": "flow too high",
        "lon": 126.6,
        "lat": 45.7,
        "crs": "EPSG:4326",
    }
    return Alarm(**(values | changes))


def raise_alarm(engine: Engine, raised: Alarm, cause: str = "raise") -> int:
    """Write the alarm and its transition as rules does, in one transaction; gives the transition's sequence."""
    row = {name: getattr(raised, name) for name in Alarm.__struct_fields__} | {"updated_at": NOW}
    row["state"] = str(raised.state)
    with engine.begin() as connection:
        known = connection.execute(update(alarms).where(alarms.c.id == raised.id).values(row))
        if known.rowcount == 0:
            connection.execute(insert(alarms).values(row))
        written = connection.execute(
            insert(transitions).values(
                alarm=raised.id,
                version=raised.version,
                from_state="NORM",
                to_state=str(raised.state),
                cause=cause,
                at=raised.raised_at,
                recorded_at=NOW,
            )
        )
    key = written.inserted_primary_key
    assert key is not None
    return int(key[0])


def ingest_document(**changes: Any) -> dict[str, Any]:
    """What ingest says of itself."""
    document: dict[str, Any] = {name: index + 1 for index, name in enumerate(COUNTERS)}
    document |= {
        "quarantined_by_reason": {"malformed": 6},
        "store_lag_s": 0.5,
        "rules_lag_s": 0.1,
        "alarms_active": 4,
        "alarms_unacknowledged": 4,
        "devices": 4,
        "gateways_online": 2,
        "health": {"state": "ok", "reasons": []},
    }
    return document | changes


def report(engine: Engine, document: Mapping[str, Any], at: Milliseconds = NOW, process: str = "ingest") -> None:
    """Renew a row of `process_status`."""
    values = {"at": at, "document": dict(document)}
    with engine.begin() as connection:
        renewed = connection.execute(update(process_status).where(process_status.c.process == process).values(values))
        if renewed.rowcount == 0:
            connection.execute(insert(process_status).values(process=process, **values))


def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


class City:
    """The engine, the store, the clock and the application over them; `token(role, districts)` lets a test in."""

    def __init__(self, path: str, *, districts: Sequence[str] = DISTRICTS, **options: Any) -> None:
        self.engine = open_engine(f"sqlite:///{path}")
        event.listen(self.engine, "connect", _do_not_wait_for_the_disk)
        metadata.create_all(self.engine)
        self.clock = MovableClock()
        self.store = MemoryStore()
        self._tokens: dict[tuple[str, tuple[str, ...] | None], str] = {}
        for district in districts:
            self._build(district)
        counts = {"alarms_active": 2, "alarms_unacknowledged": 2, "devices": 2, "gateways_online": 1}
        report(self.engine, ingest_document(**{name: count * len(districts) for name, count in counts.items()}))
        self.app = self.create_app(**options)

    def create_app(self, **options: Any) -> FastAPI:
        """A further application over the same city."""
        given = {"static": None, "broker_url": None, "clock": self.clock} | options
        return create_app(engine=self.engine, store=self.store, catalogue=load(), **given)

    def token(self, role: str = "viewer", districts: Sequence[str] | None = None) -> str:
        """A bearer token, made once."""
        key = (role, None if districts is None else tuple(districts))
        if key not in self._tokens:
            name = f"{role}-{'-'.join(districts) if districts is not None else 'all'}"
            self._tokens[key] = create_token(self.engine, name, Role(role), districts=districts, now=NOW)
        return self._tokens[key]

    def bearer(self, role: str = "viewer", districts: Sequence[str] | None = None) -> dict[str, str]:
        """The header that shows the token."""
        return {"Authorization": f"Bearer {self.token(role, districts)}"}

    def _build(self, district: str) -> None:
        gateway = f"gw-{district}"
        families = (("water_meter", "wm"), ("streetlight", "lamp"))
        Registry(self.engine).register(
            zones=[
                Zone(id=district, kind="district", district=district, name_zh=f"区{district}", name_en=f"D{district}"),
                Zone(id=f"dma-{district}", kind="dma", district=district, parent=district),
            ],
            gateways=[Gateway(id=gateway, district=district, lon=126.6, lat=45.7)],
            devices=[
                Device(
                    id=f"{prefix}-{district}-1",
                    family=family,
                    profile=f"songhua/{prefix}",
                    district=district,
                    zone=f"dma-{district}",
                    gateway=gateway,
                    interval=60_000,
                    facts={"q3": 2.5},
                    name_zh=f"设备{district}",
                    name_en=f"device {district}",
                )
                for family, prefix in families
            ],
        )
        self.store.put(
            "water_meter", f"wm-{district}-1", district, NOW - 1500, {"flow_rate": 0.3, "valve_state": "open"}
        )
        self.store.put("streetlight", f"lamp-{district}-1", district, NOW - 60_000, {"power": 98.5})
        raise_alarm(self.engine, alarm(district, 0))
        raise_alarm(self.engine, alarm(district, 1, State.ACKED))
        raise_alarm(self.engine, alarm(district, 2, State.RTNUN))
        with self.engine.begin() as connection:
            connection.execute(
                insert(gateway_states).values(gateway=gateway, state="online", session="s", at=NOW, received_at=NOW)
            )
        for element, device in enumerate((f"wm-{district}-1", None)):
            topic = f"songhua/v1/{district}/{gateway}/wm-{district}-1/up"
            self.quarantine(int(district), topic=topic, device=device, element=element)

    def quarantine(self, sequence: int, *, topic: str, device: str | None, element: int = 0, **changes: Any) -> None:
        """Put a malformed message there."""
        row = {
            "partition": 0,
            "sequence": sequence,
            "element": element,
            "outcome": "quarantined",
            "reason": "malformed",
            "detail": "not JSON",
            "source": "native",
            "topic": topic,
            "payload": b"{\xff",
            "device": device,
            "received_at": NOW,
        }
        with self.engine.begin() as connection:
            connection.execute(insert(verdicts).values(row | changes))

    def request_action(self, action: str, alarm: str) -> None:
        """An acknowledgement that rules has not answered yet, as the api writes it."""
        row = {"id": action, "alarm": alarm, "kind": "acknowledge", "actor": "li", "seen_version": 1}
        with self.engine.begin() as connection:
            connection.execute(insert(actions).values(row | {"requested_at": NOW, "state": "pending"}))
