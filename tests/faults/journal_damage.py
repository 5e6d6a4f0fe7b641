"""Fault 16: journal segments truncated, bit-flipped, overwritten with zeros or deleted, one journal per case.

`run(count, seed)` builds a journal of known messages, spoils a copy of it `count` times in each way, starts each
copy, reads it through and compares with what was appended. Half of the copies were closed, half are as a kill -9
leaves them. It returns figures; a sound journal gives `sound(figures) == True`.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.journal import Message
from storage.segments import SegmentJournal

SEGMENT_BYTES = 48 * 1024
QUOTA_BYTES = 64 * 1024 * 1024


@dataclass
class Figures:
    """What happened to all copies spoilt in one way. Records and messages are counted over all of them."""

    cases: int = 0
    started: int = 0
    records_damaged: int = 0  # records whose bytes were changed or removed
    records_reported: int = 0  # of those, inside a reported Damage
    messages_missed: int = 0  # neither read nor reported
    messages_misread: int = 0  # read, but not what was appended under that sequence
    messages_reported_whole: int = 0  # reported as damaged although their record is intact
    sequences_reused: int = 0  # appended afterwards at or below the old head
    appended_lost: int = 0  # appended afterwards and not read back


@dataclass(frozen=True)
class Extent:
    """Where one record lies and which sequences it holds."""

    file: str
    start: int
    end: int
    first: int
    last: int


def telemetry(rng: random.Random, count: int) -> list[Message]:
    """Messages as gateways send them: native JSON of several families, now and then binary, retained or with
    properties.
    """
    messages = []
    for _ in range(count):
        device = rng.randrange(10_000)
        at = 1_767_225_600_000 + rng.randrange(86_400_000)
        payload = json.dumps(
            {
                "t": at,
                "volume_total": round(rng.uniform(0, 9e4), 3),
                "flow_rate": round(rng.uniform(0, 4), 4),
                "battery_voltage": round(rng.uniform(3, 3.7), 2),
                "boot_id": f"{rng.getrandbits(32):08x}",
                "seq": rng.randrange(1 << 31),
                "note": "道里区" * rng.randrange(8),
            }
        ).encode()
        if rng.random() < 0.2:
            payload = rng.randbytes(rng.randrange(300))
        messages.append(
            Message(
                source="native",
                topic=f"songhua/v1/230102/gw-{device % 50:03d}/wm-{device:05d}/up",
                payload=payload,
                qos=1,
                retain=rng.random() < 0.05,
                duplicate=rng.random() < 0.05,
                packet_id=rng.randrange(1, 65_536),
                generation=1,
                received_at=at + rng.randrange(5_000),
                properties={"content_type": "application/json"} if rng.random() < 0.1 else None,
            )
        )
    return messages


class Recorder:
    """Appends to a journal and notes what went where, by looking at the files from outside."""

    def __init__(self, journal: SegmentJournal, directory: Path) -> None:
        self.messages: dict[int, Message] = {}
        self.extents: list[Extent] = []
        self._journal = journal
        self._directory = directory

    def append(self, messages: list[Message]) -> None:
        written = self._journal.bytes
        last = self._journal.append(messages)
        first = last - len(messages) + 1
        self.messages.update(enumerate(messages, first))
        newest = segment_files(self._directory)[-1]
        end = newest.stat().st_size
        self.extents.append(Extent(newest.name, end - (self._journal.bytes - written), end, first, last))


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


def truncate(rng: random.Random, directory: Path) -> dict[str, list[int]]:
    """Cut one segment anywhere. Like the others below, returns the offsets of changed bytes by file."""
    victim = rng.choice(segment_files(directory))
    data = victim.read_bytes()
    keep = rng.randrange(len(data))
    victim.write_bytes(data[:keep])
    return {victim.name: list(range(keep, len(data)))}


def flip_bits(rng: random.Random, directory: Path) -> dict[str, list[int]]:
    """Flip one to eight single bits, each anywhere in any segment."""
    changed: dict[str, list[int]] = {}
    for _ in range(rng.randrange(1, 9)):
        victim = rng.choice(segment_files(directory))
        data = bytearray(victim.read_bytes())
        offset = rng.randrange(len(data))
        if offset in changed.get(victim.name, ()):
            continue
        data[offset] ^= 1 << rng.randrange(8)
        victim.write_bytes(data)
        changed.setdefault(victim.name, []).append(offset)
    return changed


def overwrite_with_zeros(rng: random.Random, directory: Path) -> dict[str, list[int]]:
    """Zero a stretch of one segment, sometimes all of it."""
    victim = rng.choice(segment_files(directory))
    data = bytearray(victim.read_bytes())
    start = rng.randrange(len(data)) if rng.random() < 0.8 else 0
    end = min(len(data), start + rng.randrange(1, len(data)))
    changed = [offset for offset in range(start, end) if data[offset]]
    data[start:end] = bytes(end - start)
    victim.write_bytes(data)
    return {victim.name: changed}


def delete(rng: random.Random, directory: Path) -> dict[str, list[int]]:
    """Delete one segment."""
    victim = rng.choice(segment_files(directory))
    changed = {victim.name: list(range(victim.stat().st_size))}
    victim.unlink()
    return changed


WAYS: dict[str, Callable[[random.Random, Path], dict[str, list[int]]]] = {
    "truncated": truncate,
    "flipped": flip_bits,
    "zeroed": overwrite_with_zeros,
    "deleted": delete,
}


def read_through(journal: SegmentJournal, after: int = 0) -> tuple[dict[int, Message], set[int]]:
    """Everything a consumer gets from `after` on: messages by sequence, and the sequences reported as damaged."""
    found: dict[int, Message] = {}
    damaged: set[int] = set()
    while batch := journal.read(after, 100):
        for damage in batch.damage:
            damaged.update(range(damage.first, damage.last + 1))
        found.update(enumerate(batch.messages, batch.first))
        after = batch.first + len(batch.messages) - 1
    return found, damaged


def run(count: int, seed: int) -> dict[str, dict[str, int]]:
    """Spoil `count` copies in each way; figures by way."""
    rng = random.Random(seed)
    results = {way: Figures() for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="journal-damage-") as scratch:
        root = Path(scratch)
        journal = _journal(root / "open")
        journal.start()
        recorder = Recorder(journal, root / "open")
        while len(segment_files(root / "open")) < 6:
            recorder.append(telemetry(rng, rng.randrange(1, 40)))
        shutil.copytree(root / "open", root / "killed")
        journal.close()
        shutil.copytree(root / "open", root / "closed")
        for way, spoil in WAYS.items():
            for case in range(count):
                copy = root / "copy"
                shutil.copytree(root / ("killed" if case % 2 else "closed"), copy)
                _examine(results[way], recorder, copy, spoil(rng, copy), telemetry(rng, 3))
                shutil.rmtree(copy)
    return {way: asdict(figures) for way, figures in results.items()}


def sound(figures: dict[str, dict[str, int]]) -> bool:
    """Every copy started, every damaged record was reported, nothing else was, and nothing wrong was read as data."""
    return all(
        f["started"] == f["cases"] > 0
        and f["records_reported"] == f["records_damaged"] > 0
        and not f["messages_missed"] + f["messages_misread"] + f["messages_reported_whole"]
        and not f["sequences_reused"] + f["appended_lost"]
        for f in figures.values()
    )


def _journal(directory: Path) -> SegmentJournal:
    return SegmentJournal(directory, segment_bytes=SEGMENT_BYTES, quota_bytes=QUOTA_BYTES)


def _examine(
    figures: Figures, recorder: Recorder, copy: Path, changed: dict[str, list[int]], fresh: list[Message]
) -> None:
    hit = [
        extent
        for extent in recorder.extents
        if any(extent.start <= offset < extent.end for offset in changed.get(extent.file, ()))
    ]
    lost = {sequence for extent in hit for sequence in range(extent.first, extent.last + 1)}
    figures.cases += 1
    figures.records_damaged += len(hit)
    journal = _journal(copy)
    journal.start()
    figures.started += 1
    try:
        appended = journal.append(fresh)
        found, reported = read_through(journal)
    finally:
        journal.close()
    fresh_first = appended - len(fresh) + 1
    figures.sequences_reused += max(0, max(recorder.messages) - fresh_first + 1)
    figures.appended_lost += sum(found.get(fresh_first + index) != message for index, message in enumerate(fresh))
    figures.records_reported += sum(reported.issuperset(range(e.first, e.last + 1)) for e in hit)
    figures.messages_missed += sum(s not in found and s not in reported for s in recorder.messages)
    figures.messages_misread += sum(
        message != recorder.messages.get(sequence) for sequence, message in found.items() if sequence < fresh_first
    )
    figures.messages_reported_whole += len(reported - lost)


if __name__ == "__main__":
    import sys

    outcome = run(int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(json.dumps(outcome, indent=2))
    sys.exit(0 if sound(outcome) else 1)
