"""The state machine over journal, consumers, rules and outbox, as a row of the table: 2,000 sequences."""

import os
import subprocess
import sys

from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.service import ROOT

_TEST = ROOT / "tests" / "property" / "test_service_model.py"


def sequences(scale: Scale) -> Outcome:
    """Runs the property test with TEST_LONG, or as short as `make test` does."""
    long = scale.count(2_000, "sequences") >= 2_000
    if not long:
        scale.reduced[:] = ["as in make test"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(_TEST)],
        cwd=ROOT,
        env=dict(os.environ) | ({"TEST_LONG": "1"} if long else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=3_600,
    )
    outcome = Outcome(figures={"sequences": f"{2_000 if long else 60:,}"})
    said = [line.removeprefix("E").strip() for line in result.stdout.splitlines() if line.startswith("E ")]
    outcome.require(result.returncode == 0, " ".join(said[:8] or [result.stdout[-300:]]))
    return outcome


ROWS = (
    Row(
        "model",
        "2,000 sequences of receive, duplicate, write, fail, crash, act",
        "balance, store, alarms and notifications as without trouble",
        sequences,
    ),
)
