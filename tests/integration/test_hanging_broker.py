"""A broker that hangs: what cannot reach us is no silence of the devices, what falls silent afterwards is."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.metadata import open_engine
from storage.registry import Registry
from tests.faults.rig import broker_options, meter, topic
from tests.faults.service import Service
from tests.faults.traffic import Publisher
from tests.parts import Part

pytestmark = pytest.mark.real

METERS = [meter(f"meter-{number}", interval=2_000) for number in range(5)]
HANGS = 16.0  # s; a meter is silent after 6 s, noticed within 5 s more


def silent(service: Service) -> int:
    return len(service.rows("select id from alarms where rule = 'device.silence'"))


def report(publisher: Publisher, seconds: float) -> None:
    """Every meter reports every second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = time.time_ns() // 1_000_000
        for each in METERS:
            publisher.send(topic(each.id), b'{"t":%d,"flow_rate":0.1}' % now, each.id, now)
        time.sleep(1)


def test_a_hanging_broker_pages_for_no_device(tmp_path: Path, start_mosquitto: Callable[..., Part]) -> None:
    broker = start_mosquitto(**broker_options())
    service = Service(tmp_path / "var", broker.url)
    service.start()
    try:
        service.wait_connected()
        engine = open_engine(f"sqlite:///{service.database}")
        Registry(engine).register(devices=METERS)
        engine.dispose()
        time.sleep(1.5)  # the registry view is renewed once a second
        with Publisher(broker.url) as publisher:
            report(publisher, 3)
            assert broker.process is not None
            broker.process.send_signal(signal.SIGSTOP)
            report(publisher, HANGS)
            assert silent(service) == 0
            broker.process.send_signal(signal.SIGCONT)
            report(publisher, 4)
            assert silent(service) == 0
        deadline = time.monotonic() + 15
        while silent(service) < len(METERS) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert silent(service) == len(METERS)
    finally:
        service.kill()
