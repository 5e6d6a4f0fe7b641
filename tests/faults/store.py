"""What is in the telemetry store, row by row, read past songhua's own code: the judge of lost and doubled."""

import re
import sqlite3
import urllib.parse
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from devices.catalogue import load
from tests.faults.traffic import Key


def rows(url: str) -> Counter[Key]:
    """How often each (device, time) is stored; more than once is doubled."""
    if url.startswith("sqlite:///"):
        return _sqlite(Path(url.removeprefix("sqlite:///")))
    parts = urlsplit(url)
    return _influxdb(f"http://{parts.hostname}:{parts.port}", parts.path.strip("/"))


def _sqlite(path: Path) -> Counter[Key]:
    found: Counter[Key] = Counter()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")]
        for name in tables:
            if re.fullmatch(r"[a-z_]+_\d{4}w\d\d", name):
                query = f"select d.name, p.time from {name} p join devices d on d.id = p.device"
                found.update((device, time) for device, time in connection.execute(query))
    return found


def _influxdb(base: str, database: str) -> Counter[Key]:
    """Series are told apart by all their tags, so that one point under two zones counts twice."""
    found: Counter[Key] = Counter()
    for family in load().families:
        answer = query(base, f'select quality from "{family}" group by *', database)
        for series in answer.get("series", ()):
            device = series["tags"]["device"]
            found.update((device, int(value[0])) for value in series["values"])
    return found


def query(base: str, statement: str, database: str = "") -> dict[str, Any]:
    """The first result of an InfluxQL statement, times in ms."""
    form = urllib.parse.urlencode({"q": statement, "db": database, "epoch": "ms"}).encode()
    with urllib.request.urlopen(f"{base}/query", data=form, timeout=60) as response:
        result: dict[str, Any] = msgspec.json.decode(response.read())["results"][0]
    return result


def write(base: str, database: str, line: str) -> None:
    """Write one line of line protocol, times in ms."""
    parameters = urllib.parse.urlencode({"db": database, "precision": "ms"})
    urllib.request.urlopen(f"{base}/write?{parameters}", data=line.encode(), timeout=10).close()
