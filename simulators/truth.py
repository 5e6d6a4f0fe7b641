"""The ground truth of a simulated city: its incidents, one JSON object a line, for scoring and for the next run.

Append only: an incident is written when it is scheduled and again whenever its state or actual times change; the last
line of an id counts. A line cut off by a crash is ignored. Raises `OSError` to the caller, who stops: a run without
truth is useless.
"""

from pathlib import Path

import msgspec

from simulators.incidents import Incident

_decode = msgspec.json.Decoder(Incident).decode


def read_truth(path: Path) -> dict[str, Incident]:
    """The last known state of every incident by id; empty where there is no file."""
    incidents: dict[str, Incident] = {}
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                incident = _decode(line)
            except msgspec.MsgspecError:
                continue
            incidents[incident.id] = incident
    return incidents


class TruthFile:
    """Appends incidents; construction opens nothing, `open()` does, and starts on a fresh line after a torn one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.exists() and not (b"\n" + self._path.read_bytes()).endswith(b"\n")
        self._file = self._path.open("ab", buffering=0)
        if torn:
            self._file.write(b"\n")

    def write(self, incident: Incident) -> None:
        """One line, flushed to the operating system."""
        self._file.write(msgspec.json.encode(incident) + b"\n")

    def close(self) -> None:
        self._file.close()
