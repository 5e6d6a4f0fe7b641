"""What a fault did: the figures of one row of the matrix, what was asked of them, and what they failed."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Outcome:
    """`None` where a row does not measure a figure. `require` collects what failed; a row without failures passes."""

    lost: int | None = None
    doubled: int | None = None
    alarms_lost: int | None = None
    recovery: float | None = None  # s from the end of the fault until everything was stored
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def require(self, held: bool, words: str) -> None:
        """`words` say what should have been."""
        if not held:
            self.failures.append(words)

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass
class Line:
    """One line of the printed table."""

    row: str
    fault: str
    criterion: str
    outcome: Outcome
    seconds: float
    scaled: str = ""

    def document(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "passed": self.outcome.passed}


_HEADER = ("#", "fault", "lost", "doubled", "alarms lost", "recovery", "figures", "criterion", "pass")


def table(lines: list[Line]) -> str:
    """The lines as a Markdown table with aligned columns."""
    rows = [_HEADER, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def _cells(line: Line) -> tuple[str, ...]:
    outcome = line.outcome
    figures = ", ".join(f"{name} {value}" for name, value in outcome.figures.items())
    return (
        line.row,
        line.fault + (f" ({line.scaled})" if line.scaled else ""),
        _number(outcome.lost),
        _number(outcome.doubled),
        _number(outcome.alarms_lost),
        "-" if outcome.recovery is None else f"{outcome.recovery:.1f} s",
        figures,
        line.criterion,
        "yes" if outcome.passed else " ".join(["NO:", "; ".join(outcome.failures)]).replace("\n", " "),
    )


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
