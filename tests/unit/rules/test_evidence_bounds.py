"""Which bound an alarm shows as the reason: the one that was crossed, read from what was measured."""

from pathlib import Path
from typing import Any

import pytest

from rules.engine import Engine
from tests.unit.rules.engine_world import CATALOGUE, batch, device, reading, registry, rule, rules

DRAIN = device("d1", family="pipe_drainage", facts={"depth": 4.0})


def _shown(folder: Path, when: str, *levels: float, reported: str = "cover_distance") -> dict[str, Any]:
    """Evidence of the alarm that the last of these values raises."""
    loaded = rules(folder, rule("drain.near", when, family="pipe_drainage"))
    engine = Engine(loaded, CATALOGUE, registry([DRAIN]))
    for minute, level in enumerate(levels):
        changes: dict[str, Any] = {reported: level}
        raised = engine.process(batch(reading(DRAIN, 60 * minute, **changes)))
    raised += engine.tick(raised[-1].at if raised else 0)
    (transition,) = raised
    return transition.alarm.evidence


@pytest.mark.parametrize(
    ("values", "operator", "setpoint"),
    [
        ((2.4, 0.124), "<", 0.5),
        ((2.4, 0.45), "<", 0.5),
        ((0.01, 0.124), ">", 0.05),
        ((0.01, 0.49), ">", 0.05),
        ((0.05, 0.3), ">", 0.05),
        ((0.4,), "<", 0.5),
        ((0.1,), ">", 0.05),
    ],
)
def test_between_two_bounds_the_crossed_one_is_shown_or_else_the_nearest(
    tmp_path: Path, values: tuple[float, ...], operator: str, setpoint: float
) -> None:
    shown = _shown(tmp_path, "0.05 < cover_distance < 0.5", *values)
    assert (shown["value"], shown["operator"], shown["setpoint"]) == (values[-1], operator, setpoint)


@pytest.mark.parametrize(
    ("when", "operator"),
    [
        ("0.05 <= level", ">="),
        ("3 > level", "<"),
        ("2 == level", "=="),
        ("level > 1", ">"),
        ("not level < 1", ">="),
        ("not 3 <= level", "<"),
        ("not not level > 1", ">"),
    ],
)
def test_the_operator_reads_from_the_measured_value_to_the_setpoint(tmp_path: Path, when: str, operator: str) -> None:
    assert _shown(tmp_path, when, 2.0, reported="level")["operator"] == operator


@pytest.mark.parametrize(("value", "operator", "setpoint"), [(0.2, "<", 1.0), (3.6, ">", 3.0)])
def test_outside_a_band_the_violated_bound_is_shown(
    tmp_path: Path, value: float, operator: str, setpoint: float
) -> None:
    shown = _shown(tmp_path, "not 1 <= level <= 3", 2.0, value, reported="level")
    assert (shown["value"], shown["operator"], shown["setpoint"]) == (value, operator, setpoint)
