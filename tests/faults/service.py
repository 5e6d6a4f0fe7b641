"""The ingest process under fault: the program that the supervisor runs, started, killed and questioned from outside.

`Service` owns its data directory and what it writes there. It dies with the program that started it. `launcher` starts
it through `tests.faults.launcher`, which kills it at chosen points or gives it another clock or rule pack.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
OUTCOMES = ("stored", "late", "duplicate", "quarantined", "control", "pending")


class Service:
    """One ingest process after the other on one data directory; `settings` are environment variables of songhua."""

    def __init__(self, var: Path, broker_url: str, *, launcher: Sequence[str] = (), **settings: str) -> None:
        self.var = var
        self.launcher = list(launcher)
        self.settings = {"SONGHUA_VAR": str(var), "SONGHUA_BROKER_URL": broker_url}
        self.settings |= {f"SONGHUA_{name.upper()}": value for name, value in settings.items() if value}
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.unbalanced: list[dict[str, Any]] = []
        var.mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        return self.var / "songhua.db"

    def start(self, *launcher: str) -> None:
        """Start it; returns at once. `launcher` adds words for the launcher of this life only."""
        words = [*self.launcher, *launcher]
        module = ["tests.faults.launcher", *words] if words else ["songhua.process", "ingest"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SONGHUA_")}
        with (self.var / "ingest.out").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *module, "--parent", str(os.getpid())],
                cwd=ROOT,
                env=inherited | self.settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.started_at = time.time()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self, seconds: float = 30) -> float:
        """SIGTERM; how many seconds it took to end. Raises `RuntimeError` where it did not end well."""
        if self.process is None:
            return 0.0
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"ingest did not stop within {seconds:.0f} s") from None
        self.process = None
        if code != 0:
            raise RuntimeError(f"ingest ended with exit code {code}: {self.said()}")
        return time.monotonic() - started

    def ended(self, seconds: float) -> int | None:
        """The exit code, if it ends by itself within `seconds`; negative is a signal."""
        assert self.process is not None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self.process = None
        return code

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def memory(self) -> float:
        """Resident memory in MB."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def said(self) -> str:
        """The end of what it wrote to the terminal."""
        return (self.var / "ingest.out").read_text(errors="replace")[-2000:]

    def events(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """(time, entry) of the entries `name` in its log; times are of its own clock."""
        path = self.var / "log" / "ingest.log"
        if not path.exists():
            return []
        entries = []
        for line in path.read_text(errors="replace").splitlines():
            if f'"{name}"' in line:
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # killed while it wrote
                if entry.get("event") == name:
                    entries.append((datetime.fromisoformat(entry["time"]).timestamp(), entry))
        return entries

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Rows of the relational database, read only."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, parameters)]

    def document(self) -> dict[str, Any]:
        """What the process last said of itself; empty before the first time. Notes every imbalance."""
        try:
            found = self.rows("select at, document from process_status where process = 'ingest'")
        except sqlite3.OperationalError:
            return {}
        if not found:
            return {}
        document: dict[str, Any] = json.loads(found[0]["document"]) | {"at": found[0]["at"]}
        if document["received"] != sum(document[name] for name in OUTCOMES) and document not in self.unbalanced:
            self.unbalanced.append(document)
        return document

    def wait(self, condition: Callable[[dict[str, Any]], bool], seconds: float, what: str) -> dict[str, Any]:
        """Wait until a status document, made after this call, meets `condition`. Raises `TimeoutError`."""
        deadline = time.monotonic() + seconds
        first = self.document().get("at")
        document: dict[str, Any] = {}
        while time.monotonic() < deadline:
            document = self.document()
            if document and document["at"] != first and condition(document):
                return document
            if not self.alive:
                raise RuntimeError(f"ingest ended while waiting for: {what}\n{self.said()}")
            time.sleep(0.05)
        raise TimeoutError(f"{what} did not happen within {seconds:.0f} s; the last document: {document}")

    def wait_connected(self, seconds: float = 30) -> None:
        """Until this life of the process is connected to the broker."""
        before = self.started_at
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(at >= before for at, _ in self.events("mqtt.connected")):
                return
            if not self.alive:
                raise RuntimeError(f"ingest ended before it was connected\n{self.said()}")
            time.sleep(0.05)
        raise TimeoutError(f"ingest was not connected within {seconds:.0f} s\n{self.said()}")

    def tallies(self) -> dict[str, dict[str, Any]]:
        """Committed tallies by consumer: `ledger`, `store`, `rules`; each with its `sequence`."""
        found = self.rows("select consumer, sequence, tallies from cursors")
        return {row["consumer"]: json.loads(row["tallies"]) | {"sequence": row["sequence"]} for row in found}

    def notifications(self) -> Iterator[dict[str, Any]]:
        """Lines of the notification log."""
        path = self.var / "log" / "notifications.log"
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue  # killed while it wrote; the line is sent again
