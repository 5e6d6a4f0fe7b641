"""A seeded city behind the real API for the console's browser test: real inventory, waveforms, rules and HTTP.

`ConsoleCity` registers a simulated city, drives an hour of its readings through the rules engine and the telemetry
store, then plays the part of the ingest process: it answers people's actions with the engine, raises a new alarm when
asked and reports the status every half second. What the browser sees went through the code that makes it in production.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert

import api.tables  # noqa: F401 (declares its tables)
from api.app import create_app
from api.credentials import Role, create_login_code, create_token
from api.server import listen, serve
from devices.catalogue import Catalogue, load
from devices.model import DecodedBatch, Device, GatewayStatus, Milliseconds, Reading, Zone
from rules import pack
from rules.effects import Effects, Request
from rules.engine import Engine
from rules.gateway_sessions import GatewayRow
from rules.model import Action, Alarm, Transition
from rules.repository import RulesRepository, alarm_counts
from rules.tables import alarms
from simulators.city import build_city
from simulators.incidents import Incident
from simulators.readings import Waveform
from simulators.waveforms import build_waveforms
from storage.metadata import metadata, open_engine
from storage.registry import Registry
from storage.tables import verdicts
from storage.telemetry import TelemetryStore
from tests.api_city import report

MINUTE: Milliseconds = 60_000
HOUR: Milliseconds = 60 * MINUTE
LIVE = 75 * MINUTE  # evaluated by the rules engine
STEP = MINUTE
HISTORY_STEP = 10 * MINUTE
HISTORY = 30 * 24 * HOUR  # of the devices whose charts are looked at

PACK = """
rule: wm.burst
title: {en: Burst behind the meter, zh: 表后爆管}
applies_to: {family: water_meter}
when: flow_rate > 1.25 * facts.q3
on_delay: 10m
off_delay: 10m
priority: critical
case: water.burst
explanation:
  zh: 瞬时流量 {value:.2f} m³/h，超过限值 {setpoint:.2f} m³/h 已持续 10 分钟。
  en: Flow of {value:.2f} m³/h has been above the limit of {setpoint:.2f} m³/h for 10 minutes.
advice:
  zh: |-
    1. 电话联系用户，确认是否为正常大量用水。
    2. 无法联系时派员关闭表前阀门。
    3. 到场检查表后管道与龙头，拍照留存。
  en: |-
    1. Call the customer: is this a deliberate large draw?
    2. If nobody answers, send a crew to close the valve before the meter.
    3. Inspect pipes and taps behind the meter and take a photo.
---
rule: drain.level
title: {en: Manhole about to overflow, zh: 检查井水位过高}
applies_to: {family: pipe_drainage}
when: level > 0.8 * facts.depth
on_delay: 3m
off_delay: 5m
priority: high
case: drainage.level
explanation:
  zh: 水位 {value:.2f} m，已超过井深的八成（{setpoint:.2f} m）。
  en: The level of {value:.2f} m is above four fifths of the depth ({setpoint:.2f} m).
advice:
  zh: 派员查看下游是否堵塞，必要时设置警戒并抽排。
  en: Send a crew to look for a blockage downstream; cordon off and pump if needed.
---
rule: supply.low
title: {en: Supply pressure low, zh: 供水压力过低}
applies_to: {family: pipe_supply}
when: pressure < 0.14
on_delay: 5m
off_delay: 5m
priority: high
case: water.pressure
explanation:
  zh: 管网压力 {value:.3f} MPa，低于服务压力 {setpoint:.2f} MPa。
  en: The pressure of {value:.3f} MPa is below the service pressure of {setpoint:.2f} MPa.
advice:
  zh: 检查同一分区的流量与泵站，排查爆管。
  en: Check flow and pumps of the same zone; look for a burst.
---
rule: wm.radio
title: {en: Weak signal, zh: 信号弱}
applies_to: {family: water_meter}
when: rsrp < -107
on_delay: 5m
priority: low
explanation:
  zh: 接收功率 {value:.0f} dBm，低于 {setpoint:.0f} dBm。
  en: Signal power of {value:.0f} dBm is below {setpoint:.0f} dBm.
advice:
  zh: 巡检时检查天线与井内环境。
  en: Check the antenna at the next visit.
---
rule: drain.methane
title: {en: Methane in the manhole, zh: 检查井甲烷偏高}
applies_to: {family: pipe_drainage}
when: methane > 2.2
on_delay: 5m
priority: medium
explanation:
  zh: 甲烷 {value:.1f} %（爆炸下限），超过 {setpoint:.1f} %。
  en: Methane at {value:.1f} % of the lower explosive limit, above {setpoint:.1f} %.
advice:
  zh: 开盖前先通风并复测。
  en: Ventilate and measure again before opening the cover.
---
rule: gateway.down
title: {en: Gateway down, zh: 网关离线}
applies_to: {}
gateway: down
priority: critical
explanation:
  zh: 网关 {subject} 与服务器断开，其后 {children} 台设备失联。
  en: Gateway {subject} lost its connection; {children} devices behind it cannot be heard.
advice:
  zh: 先查网关供电与蜂窝网络，再逐台检查设备。
  en: Check the gateway's power and mobile network before any device.
"""


class ConsoleCity:
    """See the module docstring. `store` must be started; blocking methods run in the caller's thread."""

    def __init__(self, directory: Path, store: TelemetryStore, *, devices: int = 200) -> None:
        self.catalogue: Catalogue = load()
        self.database = open_engine(f"sqlite:///{directory / 'songhua.db'}")
        metadata.create_all(self.database)
        self.store = store
        self.now = time.time_ns() // 1_000_000
        self.city = build_city(7, devices)
        registry = Registry(self.database)
        registry.register(zones=self.city.zones, gateways=self.city.gateways, devices=self.city.devices)
        packs = directory / "console.yaml"
        packs.write_text(PACK, encoding="utf-8")
        self.rules = Engine(pack.load([packs], self.catalogue), self.catalogue, registry.load())
        self._repository = RulesRepository(self.database)
        self._sequence = 0
        self._lock = threading.Lock()
        self._gateways: dict[str, GatewayRow] = {}
        self.health: dict[str, Any] = {"state": "ok", "reasons": []}  # what ingest says of itself
        self._counters = {"received": 0, "stored": 0, "late": 0, "duplicate": 0, "control": 0}
        self.incidents = self._incidents()
        self._waveforms: dict[str, Waveform] = build_waveforms(
            self.city, lambda device: [one for one in self.incidents if device in one.devices]
        )

    def of_family(self, family: str) -> list[Device]:
        """The devices of one family, in the order of the inventory."""
        return [device for device in self.city.devices if device.family == family]

    @property
    def burst(self) -> Device:
        """The meter behind which a pipe has burst; its alarm is the one that people work on."""
        return self.of_family("water_meter")[4]

    @property
    def fresh(self) -> Device:
        """A meter that is well until `raise_new` is called."""
        return self.of_family("water_meter")[20]

    def zone_of(self, device: Device) -> Zone:
        """The zone that a device belongs to."""
        return next(zone for zone in self.city.zones if zone.id == device.zone)

    @property
    def starved(self) -> list[Device]:
        """Pressure points of one district metered area that all lack pressure from one moment on."""
        supply = self.of_family("pipe_supply")
        return [device for device in supply if device.zone == supply[1].zone]

    def _incidents(self) -> list[Incident]:
        meters, drains = (self.of_family(name) for name in ("water_meter", "pipe_drainage"))
        plan = [
            ("burst", [meters[4]], 34, 4.4),
            ("burst", [meters[31]], 19, 3.9),
            ("manhole", [drains[2]], 22, 0.93),
            ("supply_low", self.starved, 16, 0.09),
            ("manhole", [drains[5]], 58, 0.9),
        ]
        return [
            Incident(
                id=f"console-{index}",
                kind=kind,  # type: ignore[arg-type]
                subject_kind="device",
                subject=devices[0].id,
                family=devices[0].family,
                zone=devices[0].zone,
                district=devices[0].district,
                begins=self.now - minutes * MINUTE,
                ends=self.now + (2 * HOUR if minutes < 50 else -28 * MINUTE),
                magnitude=magnitude,
                expects="",
                devices=tuple(device.id for device in devices),
            )
            for index, (kind, devices, minutes, magnitude) in enumerate(plan)
        ]

    def _reading(self, device: Device, at: Milliseconds, changes: dict[str, float] | None = None) -> Reading:
        values = {
            name: float(value) if isinstance(value, bool) else value
            for name, value in self._waveforms[device.id].values(at).items()
        }
        struct = self.catalogue.values_class(device.family)(**(values | (changes or {})))
        self._sequence += 1
        return Reading(device, at, struct, at, device.gateway, sequence=self._sequence)

    async def seed(self) -> None:
        """History for the charts, an hour of readings through the rules, gateways, quarantine, two answered alarms."""
        watched = [self.burst, self.of_family("streetlight")[0], self.of_family("pipe_drainage")[2]]
        for device in watched:
            times = range(self.now - HISTORY, self.now - LIVE, HISTORY_STEP)
            await self._store([self._reading(device, at - at % HISTORY_STEP) for at in times])
        for gateway in self.city.gateways:
            self._status(gateway.id, gateway.district, "online", self.now - LIVE)
        down = self.city.gateways[3]
        start = self.now - LIVE
        for at in range(start, self.now, STEP):
            readings = [
                self._reading(device, at + index * 251 % STEP)
                for index, device in enumerate(self.city.devices)
                if device.gateway != down.id or at < self.now - 12 * MINUTE
            ]
            readings.sort(key=lambda reading: reading.time)
            self._evaluate(readings, at + STEP)
            await self._store(readings)
            if at <= self.now - 12 * MINUTE < at + STEP:
                self._status(down.id, down.district, "offline", at + STEP)
        self._quarantine()
        self._counters |= {"late": 143, "duplicate": 611, "control": 2 * len(self.city.gateways)}
        self._report()

    async def _store(self, readings: Sequence[Reading]) -> None:
        for start in range(0, len(readings), 2000):
            await self.store.write(readings[start : start + 2000])
        self._counters["stored"] += len(readings)

    def _evaluate(self, readings: list[Reading], clock: Milliseconds, statuses: Sequence[GatewayStatus] = ()) -> None:
        first = readings[0].sequence if readings else self._sequence
        batch = DecodedBatch(first, self._sequence, clock, len(readings), readings, list(statuses), [])
        self._commit([*self.rules.process(batch), *self.rules.tick(clock)])

    def _status(self, gateway: str, district: str, state: Any, at: Milliseconds) -> None:
        self._sequence += 1
        session = "s1"
        status = GatewayStatus(gateway, district, state, session, at, at, sequence=self._sequence)
        self._gateways[gateway] = GatewayRow(gateway, state, session, at, at)
        self._evaluate([], at, [status])

    def _commit(self, transitions: list[Transition], answered: Sequence[Request] = ()) -> None:
        effects = Effects(
            sequence=self._sequence, transitions=transitions, inputs=list(answered), gateways=dict(self._gateways)
        )
        self._gateways.clear()
        if effects.urgent:
            self._repository.commit(effects, time.time_ns() // 1_000_000)

    def answer_actions(self) -> int:
        """What rules does in production: apply what people asked for and say what became of it."""
        with self._lock:
            waiting = self._repository.pending_actions()
            for action in waiting:
                now = time.time_ns() // 1_000_000
                refusal, transitions = self.rules.apply(action, now)
                self._commit(transitions, [Request(self._sequence, now, action, refusal)])
            return len(waiting)

    def raise_new(self) -> None:
        """Another pipe bursts now."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            for minutes in range(12, -1, -1):
                at = now - minutes * MINUTE
                self._evaluate([self._reading(self.fresh, at, {"flow_rate": 4.1})], at)

    def alarm_of(self, device: Device) -> Alarm:
        """The active alarm of a device."""
        return next(alarm for alarm in self.rules.active.values() if alarm.subject_id == device.id)

    @property
    def gateway_alarm(self) -> Alarm:
        """The alarm of the gateway that is down."""
        return next(alarm for alarm in self.rules.active.values() if alarm.subject_kind == "gateway")

    def acknowledged_by(self, devices: Sequence[Device]) -> list[str | None]:
        """Who acknowledged the active alarm of each of these devices."""
        with self._lock:
            return [self.alarm_of(device).acked_by for device in devices]

    def change_behind_the_back(self, device: str) -> None:
        """Somebody else comments on an alarm, so that the version a browser saw is no longer the newest."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            alarm = next(one for one in self.rules.active.values() if one.subject_id == device)
            note = {"note": "已到现场"}
            action = Action(
                id="1" * 32, alarm=alarm.id, kind="comment", actor="王工", seen_version=alarm.version, arguments=note
            )
            self._commit(self.rules.apply(action, now)[1])

    def flood(self, count: int) -> None:
        """So many more alarms of low priority, each three minutes older than the one before: none of one cause."""
        template = self.alarm_of(self.burst)
        rows = [
            {name: getattr(template, name) for name in Alarm.__struct_fields__}
            | {
                "id": f"{index:032x}",
                "subject_id": f"flood-{index}",
                "priority": "low",
                "raised_at": self.now - 6 * HOUR - index * 3 * MINUTE,
                "updated_at": self.now,
            }
            for index in range(count)
        ]
        with self.database.begin() as connection:
            connection.execute(insert(alarms), rows)

    def _quarantine(self) -> None:
        payloads = [
            ("malformed", "not JSON: unexpected end at byte 31", b'{"t":1767225600000,"flow_rate":0'),
            ("unknown_device", "no registration and no profile matches", b'{"t":1767225600000,"humidity":41.5}'),
            ("malformed", "neither JSON nor CBOR", bytes(range(0xE8, 0x100)) + b"\x00\x01frame"),
            ("out_of_range", "pressure 41.3 MPa is outside [-0.1, 10]", b'{"t":1767225600000,"pressure":41.3}'),
            (
                "identity_mismatch",
                "topic says sup-0001, payload says sup-0002",
                b'{"t":1767225600000,"device":"sup-0002"}',
            ),
        ]
        gateway = self.city.gateways[0]
        rows = [
            {
                "partition": 0,
                "sequence": 1000 + index,
                "element": 0,
                "outcome": "quarantined",
                "reason": reason,
                "detail": detail,
                "source": "native",
                "topic": f"songhua/v1/{gateway.district}/{gateway.id}/{self.city.devices[index].id}/up",
                "payload": payload,
                "device": None if reason == "unknown_device" else self.city.devices[index].id,
                "received_at": self.now - (index + 1) * 7 * MINUTE,
            }
            for index, (reason, detail, payload) in enumerate(payloads * 7)
        ]
        self._by_reason: dict[str, int] = {}
        for row in rows:
            self._by_reason[str(row["reason"])] = self._by_reason.get(str(row["reason"]), 0) + 1
        with self.database.begin() as connection:
            connection.execute(insert(verdicts), rows)

    def _report(self) -> None:
        counts = alarm_counts(self.database)
        told = self._counters | {"quarantined": sum(self._by_reason.values()), "pending": 12, "lost": 0}
        told["received"] = sum(
            told[name] for name in ("stored", "late", "duplicate", "quarantined", "control", "pending")
        )
        document = told | {
            "journalled": told["received"],
            "quarantined_by_reason": self._by_reason,
            "store_lag_s": 0.4,
            "rules_lag_s": 0.1,
            "alarms_active": counts.active,
            "alarms_unacknowledged": counts.unacknowledged,
            "devices": len(self.city.devices),
            "gateways_online": len(self.city.gateways) - 1,
            "health": self.health,
        }
        report(self.database, document, at=time.time_ns() // 1_000_000)

    def login_code(self) -> str:
        """A one-time code for an operator."""
        return create_login_code(self.database, "李娜", Role.operator)

    def token(self, role: str) -> str:
        """A token with this role."""
        return create_token(self.database, f"console-{role}", Role(role))

    @contextmanager
    def served(self, static: Path, *, port: int = 0, stream_lifetime: float = 600.0) -> Iterator[str]:
        """The seeded city over HTTP on a free port, the part of ingest beside it; gives the base URL."""
        listener = listen("127.0.0.1", port)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop = asyncio.Event()
        loop = asyncio.new_event_loop()
        ended = threading.Event()

        async def run() -> None:
            await self.store.start()
            await self.seed()
            app = create_app(
                engine=self.database,
                store=self.store,
                catalogue=self.catalogue,
                static=static,
                broker_url=None,
                stream_lifetime=stream_lifetime,
            )
            ready.set()
            await serve(app, listener, stop)

        def play_ingest() -> None:
            beats = 0
            while not ended.wait(0.1):
                self.answer_actions()
                beats += 1
                if beats % 5 == 0:
                    self._counters["stored"] += 4 + beats % 3
                    self._report()

        ready = threading.Event()
        serving = threading.Thread(target=lambda: loop.run_until_complete(run()))
        ingest = threading.Thread(target=play_ingest)
        serving.start()
        while serving.is_alive() and not ready.wait(0.1):
            pass
        ingest.start()
        try:
            yield address
        finally:
            ended.set()
            loop.call_soon_threadsafe(stop.set)
            ingest.join()
            serving.join()
            self.database.dispose()
