"""Rows 15 and 16: the journal's disk is full for a while, or what it holds was damaged."""

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import journal_damage, store
from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig

_SMALL_DISK = 64 << 20


def full_disk(scale: Scale) -> Outcome:
    """The journal has a small file system of its own, and something else fills it."""
    seconds = scale.seconds(60, "s full", least=6)
    with Rig() as rig, _small_disk(rig.service.var / "journal"):
        rig.open()
        load = rig.load()
        _raise(rig, 3)
        assert rig.service.process is not None
        process, ballast = rig.service.process.pid, rig.service.var / "journal" / "ballast"
        _fill(ballast)
        before = rig.service.document()["journalled"]
        _raise(rig, seconds)
        full = rig.service.document()
        ballast.unlink()
        load.stop()
        recovery = rig.settle(90)
        same = rig.service.process is not None and rig.service.process.pid == process
        outcome = rig.check()
    outcome.recovery = recovery
    codes = {reason["code"] for reason in full["health"]["reasons"]}
    outcome.figures |= {"journalled while full": full["journalled"] - before, "health": full["health"]["state"]}
    outcome.require("journal_refuses" in codes, f"health says {codes} while the disk is full")
    outcome.require(full["journalled"] - before < 500, "the disk was not full")
    outcome.require(same, "the process was restarted")
    return outcome


def _raise(rig: Rig, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rig.raise_alarm()
        time.sleep(0.5)


@contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    """A tmpfs in place of `directory`. Raises `CalledProcessError` where this user may not mount."""
    directory.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK},mode=700", "tmpfs", str(directory)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True, timeout=10)


def _fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def damaged(scale: Scale) -> Outcome:
    """Spoilt copies of a journal, then a service whose store is behind when a bit of its journal flips."""
    cases = scale.count(100, "cases a way", least=5)
    outcome = _flipped_while_behind(scale)
    figures = journal_damage.run(cases, seed=16)
    started = sum(each["started"] for each in figures.values())
    hit = sum(each["records_damaged"] for each in figures.values())
    reported = sum(each["records_reported"] for each in figures.values())
    outcome.figures |= {"started": f"{started}/{cases * len(figures)}", "records reported": f"{reported}/{hit}"}
    outcome.require(journal_damage.sound(figures), f"{figures}")
    return outcome


def _flipped_while_behind(scale: Scale) -> Outcome:
    count = scale.count(20_000, "messages", least=2_000)
    with Rig(influxdb=True) as rig:
        rig.open()
        assert rig.proxy is not None
        rig.proxy.refuse()
        rig.load(count, rate=4_000).join(120)
        rig.service.wait(lambda document: document["received"] >= count, 60, "everything is journalled")
        rig.service.kill()
        _flip(rig.service.var / "journal")
        rig.proxy.accept()
        rig.service.start()
        recovery = rig.settle(60)
        document = rig.service.document()
        damaged_readings = document["quarantined_by_reason"].get("damaged_record", 0)
        outcome = rig.check(refused=damaged_readings)
        strangers = store.rows(rig.store_url).keys() - rig.sent().keys()
    outcome.recovery = recovery
    codes = {reason["code"] for reason in document["health"]["reasons"]}
    outcome.figures["readings quarantined as damaged"] = damaged_readings
    outcome.require(damaged_readings > 0, "no reading was counted as damaged")
    outcome.require("journal_damaged" in codes, f"health says {codes}")
    outcome.require(not strangers, f"{len(strangers)} readings are stored that nobody sent")
    return outcome


def _flip(directory: Path) -> None:
    """One bit in the middle of every segment."""
    chance = random.Random(16)
    for path in directory.glob("*.segment"):
        data = bytearray(path.read_bytes())
        if data:
            data[len(data) // 2] ^= 1 << chance.randrange(8)
            path.write_bytes(data)


ROWS = (
    Row("15", "journal's disk full (tmpfs)", "lost 0, alarms lost 0, no restart needed", full_disk),
    Row(
        "16",
        "journal truncated, flipped, zeroed, deleted",
        "starts every time, every damaged record quarantined and counted, none read as data",
        damaged,
    ),
)
