"""The rows of the fault matrix: which function proves which, how it is scaled, and what it must show."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import monotonic

from tests.faults.outcome import Line, Outcome


@dataclass
class Scale:
    """How much of the matrix's numbers a run takes. Rows ask for counts and seconds, and thereby say what they use."""

    factor: float = 1.0
    random: Random = field(default_factory=lambda: Random(20260101))
    reduced: list[str] = field(default_factory=list)

    def count(self, number: int, what: str, least: int = 1) -> int:
        """`number`, scaled."""
        return int(self._scaled(number, what, least))

    def seconds(self, number: float, what: str = "s", least: float = 3) -> float:
        """`number` seconds, scaled."""
        return self._scaled(number, what, least)

    def _scaled(self, number: float, what: str, least: float) -> float:
        scaled = min(number, max(least, round(number * self.factor)))
        if scaled != number:
            self.reduced.append(f"{scaled:g} of {number:g} {what}")
        return scaled


@dataclass(frozen=True)
class Row:
    """One row: its number in the matrix, the fault, the criterion in words, and the proof."""

    number: str
    fault: str
    criterion: str
    prove: Callable[[Scale], Outcome]

    def run(self, factor: float) -> Line:
        """Never raises: whatever goes wrong is a failure of the row."""
        scale, started = Scale(factor), monotonic()
        try:
            outcome = self.prove(scale)
        except Exception as error:
            traceback.print_exc()
            outcome = Outcome(failures=[f"{type(error).__name__}: {error}"[:500]])
        return Line(self.number, self.fault, self.criterion, outcome, monotonic() - started, ", ".join(scale.reduced))
