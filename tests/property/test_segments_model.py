"""The embedded journal against a list: any sequence of appends, refusals, kills, power cuts, trims and damage.

The model knows every acknowledged message by sequence, and where its record lies, by looking at the files. After
every step the journal must give back exactly that, from any position: each message equal or inside a reported
Damage, and damage reported only where bytes were spoilt.
"""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from devices.errors import TransientError
from storage.journal import Message
from tests.effort import examples
from tests.faults.journal_damage import WAYS, Extent, read_through, segment_files, telemetry
from tests.faults.power_cut import BROKEN, FULL, Machine

seeds = st.integers(0, 1 << 32)


class JournalModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.patch = pytest.MonkeyPatch()

    @initialize()
    def start(self) -> None:
        self.machine = Machine(self.root, self.patch)
        self.messages: dict[int, Message] = {}
        self.records: dict[Extent, bytes] = {}
        self.skipped: set[int] = set()  # sequences that may have been used, as far as a start could tell
        self.refused: list[list[Message]] = []  # failed appends since the last good one: not promised, may turn up
        self.head = 0
        self.trimmed = 0

    def teardown(self) -> None:
        self.machine.disk.kill()
        self.patch.undo()
        shutil.rmtree(self.root)

    def newest_size(self) -> tuple[str, int]:
        newest = segment_files(self.machine.disk.directory)[-1]
        return newest.name, newest.stat().st_size

    def note(self, messages: list[Message], length: int) -> None:
        first, self.head = self.head + 1, self.head + len(messages)
        self.messages.update(enumerate(messages, first))
        file, end = self.newest_size()
        self.remember(Extent(file, end - length, end, first, self.head))
        self.refused = []

    def remember(self, extent: Extent) -> None:
        data = (self.machine.disk.directory / extent.file).read_bytes()
        self.records[extent] = data[extent.start : extent.end]

    def gone(self) -> set[int]:
        """Sequences that nothing can give back: trimmed ones apart, those whose bytes are not what was written."""
        files = {path.name: path.read_bytes() for path in segment_files(self.machine.disk.directory)}
        spoilt = [e for e, data in self.records.items() if files.get(e.file, b"")[e.start : e.end] != data]
        gone = self.skipped.union(*(range(e.first, e.last + 1) for e in spoilt))
        return {sequence for sequence in gone if sequence > self.trimmed}

    @rule(seed=seeds, count=st.integers(1, 12))
    def append(self, seed: int, count: int) -> None:
        messages = telemetry(random.Random(seed), count)
        written = self.machine.journal.bytes
        assert self.machine.journal.append(messages) == self.head + count
        self.note(messages, self.machine.journal.bytes - written)

    @rule(
        seed=seeds,
        calls=st.lists(st.sampled_from(["open", "pwritev", "fdatasync", "fsync", "ftruncate"]), min_size=1, max_size=3),
        code=st.sampled_from([FULL, BROKEN]),
    )
    def append_on_a_bad_disk(self, seed: int, calls: list[str], code: int) -> None:
        messages = telemetry(random.Random(seed), 5)
        self.machine.disk.failures = {call: [code] for call in calls}
        written = self.machine.journal.bytes
        try:
            self.machine.journal.append(messages)
        except TransientError:
            self.refused.append(messages)
        else:
            self.note(messages, self.machine.journal.bytes - written)
        finally:
            self.machine.disk.failures = {}

    @rule()
    def close_and_open(self) -> None:
        self.machine.journal.close()
        self.machine.boot()
        self.reconcile()

    @rule()
    def kill(self) -> None:
        self.machine.kill()
        self.reconcile()

    @rule(seed=seeds)
    def power_cut(self, seed: int) -> None:
        self.machine.power_cut(torn=random.Random(seed))
        self.reconcile()

    @precondition(lambda self: self.messages)
    @rule(seed=seeds, way=st.sampled_from(sorted(WAYS)), closed=st.booleans())
    def damage(self, seed: int, way: str, closed: bool) -> None:
        if closed:
            self.machine.journal.close()
        self.machine.kill(spoil=lambda directory: self.spoil(seed, way, directory))
        self.reconcile()

    @precondition(lambda self: self.messages)
    @rule(seed=seeds)
    def power_cut_and_flipped_bits(self, seed: int) -> None:
        self.machine.power_cut(spoil=lambda directory: self.spoil(seed, "flipped", directory))
        self.reconcile(may_skip=True)

    def spoil(self, seed: int, way: str, directory: Path) -> None:
        for path in segment_files(directory):
            if path.stat().st_size == 0:
                path.unlink()
        if segment_files(directory):
            WAYS[way](random.Random(seed), directory)

    def reconcile(self, may_skip: bool = False) -> None:
        """After a start the head may be ahead by the refused batch or, where the end is uncertain, by skipped
        sequences.
        """
        head = self.machine.journal.head
        assert head >= self.head
        if head > self.head:
            found, damaged = read_through(self.machine.journal, self.head)
            ahead = range(self.head + 1, head + 1)
            if found:
                assert list(found.values()) in self.refused
                assert not damaged
                self.messages.update(found)
                file, size = self.newest_size()
                self.remember(Extent(file, self.last_end(file), size, self.head + 1, head))
            else:
                assert may_skip
                assert damaged.issuperset(ahead)
                self.skipped.update(ahead)
            self.head = head
        self.refused = []

    def last_end(self, file: str) -> int:
        return max((extent.end for extent in self.records if extent.file == file), default=0)

    @rule(share=st.floats(0, 1.1))
    def trim(self, share: float) -> None:
        through = int(self.head * share)
        self.machine.journal.trim(through)
        assert self.machine.journal._trimmed <= max(through, self.trimmed)
        self.trimmed = self.machine.journal._trimmed

    @rule(share=st.floats(0, 1.0), limit=st.integers(1, 30))
    def read_a_part(self, share: float, limit: int) -> None:
        after = int(self.head * share)
        part = self.machine.journal.read(after, limit)
        if after >= self.head:
            assert part is None
            return
        assert part is not None
        assert part.messages or part.damage or self.trimmed == self.head
        for sequence, message in enumerate(part.messages, part.first):
            assert self.messages[sequence] == message

    @invariant()
    def gives_back_what_was_acknowledged(self) -> None:
        if not hasattr(self, "machine"):
            return
        journal = self.machine.journal
        assert journal.head == self.head
        found, damaged = read_through(journal)
        assert journal._trimmed == self.trimmed
        gone = self.gone()
        assert {sequence for sequence in damaged if sequence > self.trimmed} == gone
        assert found == {s: m for s, m in self.messages.items() if s > self.trimmed and s not in gone}
        assert found.keys() | gone == set(range(self.trimmed + 1, self.head + 1))


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(
    max_examples=examples(100, 2_000),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
