"""Starts the ingest process with a fault built in: `python -m tests.faults.launcher ... --parent PID`.

The composition is the product's own; methods of its classes are wrapped before it is made, so that the product needs no
hooks. `--crash POINT:before|after:N` ends it with SIGKILL at the N-th call of the point. `--clock FILE` shifts its
clock by the milliseconds in FILE, which may change while it runs; `--speed F --epoch MS` lets its clock run F times as
fast from the epoch on. `--pack FILE` replaces the shipped rule packs.
"""

import argparse
import faulthandler
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

POINTS = {
    "receive": ("ingest.inbox", "Inbox", "deliver"),
    "commit": ("storage.segments", "SegmentJournal", "append"),
    "ack": ("ingest.inbox", "Inbox", "acknowledge"),
    "decode": ("ingest.decode", "Decoder", "decode"),
    "write": ("storage.sqlite_store", "SqliteStore", "write"),
    "rule": ("rules.engine", "Engine", "process"),
    "outbox": ("rules.repository", "RulesRepository", "commit"),
    "send": ("rules.notify_log", "LogNotifier", "send"),
    "mark": ("rules.outbox_rows", "OutboxRows", "mark"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--crash", default="")
    parser.add_argument("--clock", type=Path)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--pack", type=Path)
    options = parser.parse_args()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    _install_clock(options.clock, options.speed, options.epoch)
    from songhua.orphans import die_with_parent

    die_with_parent(options.parent)
    if options.crash:
        point, side, call = options.crash.split(":")
        _install_crash(point, side, int(call))
    if options.pack:
        from rules import pack

        pack.shipped = lambda: [options.pack]
    from songhua.process import run
    from songhua.settings import load

    return run("ingest", load(), supervised=True)


def _install_clock(file: Path | None, speed: float, epoch: int) -> None:
    """Before anything of ours is imported, so that nobody holds the real one."""
    if file is None and speed == 1.0:
        return
    real, start = time.time_ns, epoch * 1_000_000
    shift: mmap.mmap | bytes = bytes(8)
    if file is not None:
        with file.open("r+b") as opened:
            shift = mmap.mmap(opened.fileno(), 8)

    def shifted() -> int:
        return start + int((real() - start) * speed) + int(struct.unpack("<q", shift)[0]) * 1_000_000

    time.time_ns = shifted
    time.time = lambda: shifted() / 1e9


def _install_crash(point: str, side: str, call: int) -> None:
    from importlib import import_module

    module, name, method = POINTS[point]
    owner = getattr(import_module(module), name)
    original = getattr(owner, method)
    counted = partial(_counted, point, iter(range(1, call + 1)).__next__, call)

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        last = counted(arguments)
        if last and side == "before":
            _die()
        result = original(self, *arguments, **named)
        if last:
            _die()
        return result

    async def wrapped_async(self: Any, *arguments: Any, **named: Any) -> Any:
        last = counted(arguments)
        if last and side == "before":
            _die()
        result = await original(self, *arguments, **named)
        if last:
            _die()
        return result

    setattr(owner, method, wrapped_async if iscoroutinefunction(original) else wrapped)


def _counted(point: str, next_number: Callable[[], int], call: int, arguments: tuple[Any, ...]) -> bool:
    """Whether this call is the last one of this life; commits without transitions make no outbox rows."""
    if point == "outbox" and not arguments[0].transitions:
        return False
    return next_number() == call


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
