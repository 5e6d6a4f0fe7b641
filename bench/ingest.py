"""Ingest throughput: drain a preloaded session of a real mosquitto, beside a subscriber that only acknowledges.

    python -m bench.ingest [--messages N] [--devices N] [--store null|sqlite|influxdb+v1]... [--json]

Every figure of a run was measured in that run; ratios are to the acknowledging subscriber. Budgets are printed beside
the figures, met or not. Broker, store and ingest share this machine's cores.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.preload import preload
from bench.stages import measure
from bench.workload import DEVICES, city
from songhua.ingest_parts import CLIENT_ID
from tests.parts import influxdb, mosquitto

BUDGETS = {"null": 100_000, "sqlite": 40_000, "influxdb+v1": 60_000}  # messages/s
SHARE = 0.40  # of what an acknowledging subscriber does
_LIMIT = 600  # s


def drain(kind: str, count: int, devices: int, store: str = "null") -> dict[str, Any]:
    """Preload and drain once; `store` as on the command line."""
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(max_queued_messages=0, max_inflight_messages=2000, persistence=False))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="songhua-bench-"))
        asyncio.run(preload(broker.url, CLIENT_ID, city(devices), count))
        url = "null:"
        if store == "sqlite":
            url = f"sqlite:///{directory}/telemetry.db"
        elif store == "influxdb+v1":
            url = stack.enter_context(influxdb()).url.replace("http://", "influxdb+v1://") + "/songhua"
        command = [sys.executable, "-m", "bench.drain", kind, broker.url, "--count", str(count)]
        command += ["--devices", str(devices), "--var", str(Path(directory, "var")), "--store", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
        if done.returncode:
            raise SystemExit(f"the drain failed: {done.stderr[-2000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--store", action="append", choices=tuple(BUDGETS))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    stores = given.store or list(BUDGETS)
    acknowledging = drain("ack", given.messages, given.devices)
    full = {store: drain("full", given.messages, given.devices, store) for store in stores}
    for figures in full.values():
        figures["ratio"] = figures["messages_per_second"] / acknowledging["messages_per_second"]
    stages = measure(min(given.messages, 100_000), given.devices)
    report = {
        "messages": given.messages,
        "devices": given.devices,
        "ack": acknowledging,
        "full": full,
        "stages": stages,
    }
    print(json.dumps(report) if given.json else _text(report))


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['messages']:,} messages of {report['devices']:,} devices, all families",
        "",
        f"{'path':<28}{'msg/s':>10}{'CPU us':>9}{'RSS MiB':>9}{'ratio':>8}   budget",
        _row("only acknowledging", report["ack"], ""),
    ]
    for store, figures in report["full"].items():
        budget = f">= {BUDGETS[store]:,}/s " + _met(figures["messages_per_second"] >= BUDGETS[store])
        if store == "null":
            budget += f", ratio >= {SHARE:.2f} " + _met(figures["ratio"] >= SHARE)
        lines.append(_row(f"full path, store {store}", figures, budget))
    lines += ["", "CPU us per message by stage, each alone over the same messages:"]
    lines += [f"  {name:<30}{value:>7.2f}" for name, value in report["stages"].items()]
    return "\n".join(lines)


def _row(name: str, figures: dict[str, float], budget: str) -> str:
    ratio = f"{figures['ratio']:.2f}" if "ratio" in figures else ""
    rate, cpu, rss = figures["messages_per_second"], figures["cpu_us_per_message"], figures["rss_mib"]
    return f"{name:<28}{rate:>10,.0f}{cpu:>9.2f}{rss:>9.0f}{ratio:>8}   {budget}"


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
