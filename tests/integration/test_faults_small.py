"""Rows 1, 4 and 10 of the fault matrix, shortened: `make faults` runs them in full, and the other rows."""

import os
from collections.abc import Callable

import pytest

from tests import parts
from tests.faults import broker_faults, ingest_kills, store_faults
from tests.faults.matrix import Scale
from tests.faults.outcome import Outcome

pytestmark = pytest.mark.real


def prove(row: Callable[[Scale], Outcome], share: float) -> Outcome:
    try:
        outcome = row(Scale(share))
    except parts.PartMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; on CI every part must be present")
        pytest.skip(str(missing))
    assert outcome.failures == []
    return outcome


def test_ingest_killed_again_and_again_loses_and_doubles_nothing() -> None:
    outcome = prove(ingest_kills.killed, 0.05)
    assert (outcome.lost, outcome.doubled, outcome.alarms_lost) == (0, 0, 0)


def test_a_store_that_refuses_delays_no_alarm_and_loses_nothing() -> None:
    outcome = prove(store_faults.refused, 0.1)
    assert (outcome.lost, outcome.doubled, outcome.alarms_lost) == (0, 0, 0)


def test_a_broker_that_restarts_loses_nothing() -> None:
    outcome = prove(broker_faults.restarted, 0.2)
    assert (outcome.lost, outcome.doubled, outcome.alarms_lost) == (0, 0, 0)
