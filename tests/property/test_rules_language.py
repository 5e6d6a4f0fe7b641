"""What is compiled means what the grammar says: fused functions against the interpreter, on random expressions and
values.
"""

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.catalogue import load
from devices.model import Device, Reading
from rules.fusion import FamilyPrograms
from rules.interpret import Deadband, condition
from rules.language import parse
from rules.scopes import ReadingScope
from tests.effort import examples

CATALOGUE = load()
FACTS = {"q3": 2.5, "zero": 0.0, "negative": -7.25}
NAMES = ["flow_rate", "pressure", "water_temperature", "battery_voltage"]

numbers = st.sampled_from(["0", "1", "2.5", "0.1", "100", "1e6"])
atoms = st.one_of(numbers, st.sampled_from(NAMES), st.sampled_from([f"facts.{name}" for name in FACTS]))
arithmetic = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda p: f"(-{p})"),
        inner.map(lambda p: f"abs({p})"),
    ),
    max_leaves=5,
)
operators = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
comparisons = st.one_of(
    st.tuples(arithmetic, operators, arithmetic).map(lambda p: f"{p[0]} {p[1]} {p[2]}"),
    st.tuples(numbers, operators, arithmetic, operators, numbers).map(" ".join),
    st.sampled_from(["tamper", "valve_state == 'closed'", "'open' != valve_state", "tamper == 1", "flagged('clock')"]),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda p: f"(not ({p}))"),
    ),
    max_leaves=4,
)
values = st.floats(-1e4, 1e4, allow_nan=False).map(lambda v: round(v, 3))
readings = st.fixed_dictionaries(
    {name: st.one_of(values, st.sampled_from([0.0, 1.0, 2.5, 100.0, 2.375, 105.0])) for name in NAMES}
    | {"tamper": st.sampled_from([0.0, 1.0]), "valve_state": st.sampled_from(["open", "closed"])}
)
bands = st.sampled_from([Deadband(), Deadband(fraction=0.05), Deadband(amount=0.5)])


class Subject:
    """The part of a subject that a program without windows reads."""

    def __init__(self, device: Device, program: Any) -> None:
        self.device, self.program = device, program
        self.constants = program.constants(device.facts)
        self.windows: list[Any] = []
        self.on = self.up = 0


def _evaluated(source: str, seen: dict[str, Any], band: Deadband, up: int, on: int, quality: str) -> tuple[bool, bool]:
    device = Device(
        id="m1", family="water_meter", profile="t", district="", zone="", gateway="g", interval=60_000, facts=FACTS
    )
    expression = parse(source, "water_meter", CATALOGUE)
    program = FamilyPrograms([(expression, band)]).program(FACTS)
    subject = Subject(device, program)
    subject.on, subject.up = on, up
    reading = Reading(device, 0, CATALOGUE.values_class("water_meter")(**seen), 0, "g", quality=quality)
    meant = condition(expression.root, ReadingScope(subject, reading), band if up else None)  # type: ignore[arg-type]
    return (program.step(subject, reading) ^ on) == 1, meant


@settings(max_examples=examples(600, 6_000), deadline=None)
@given(conditions, readings, bands, st.integers(0, 1), st.integers(0, 1), st.sampled_from(["ok", "clock,range"]))
def test_compiled_conditions_mean_what_the_interpreter_says(
    source: str, seen: dict[str, Any], band: Deadband, up: int, on: int, quality: str
) -> None:
    compiled, meant = _evaluated(source, seen, band, up, on, quality)
    assert compiled == meant


@settings(max_examples=examples(300, 3_000), deadline=None)
@given(
    st.sampled_from(["<", "<=", ">", ">="]), values, st.floats(-50, 50).filter(lambda v: abs(v) > 1e-3), st.booleans()
)
def test_a_deadband_only_ever_keeps_an_alarm_longer(
    operator: str, value: float, setpoint: float, negated: bool
) -> None:
    source = f"flow_rate {operator} {setpoint:.6f}" if setpoint >= 0 else f"flow_rate {operator} -{-setpoint:.6f}"
    source = f"not ({source})" if negated else source
    seen = {"flow_rate": value}
    usual, _ = _evaluated(source, seen, Deadband(fraction=0.05), 0, 0, "ok")
    returning, _ = _evaluated(source, seen, Deadband(fraction=0.05), 1, 1, "ok")
    assert returning or not usual
    if returning and not usual:
        assert math.isclose(abs(value - setpoint), 0, abs_tol=0.05 * abs(setpoint) + 1e-6)


@settings(max_examples=examples(200, 2_000), deadline=None)
@given(conditions, st.sets(st.sampled_from(NAMES), min_size=1))
def test_a_missing_property_leaves_the_condition_as_it_is(source: str, missing: set[str]) -> None:
    expression = parse(source, "water_meter", CATALOGUE)
    if not missing & set(expression.inputs):
        return
    device = Device(
        id="m1", family="water_meter", profile="t", district="", zone="", gateway="g", interval=60_000, facts=FACTS
    )
    program = FamilyPrograms([(expression, Deadband())]).program(FACTS)
    subject = Subject(device, program)
    seen: dict[str, Any] = dict.fromkeys(NAMES, 1.0) | {"tamper": 1.0, "valve_state": "open"}
    reading = Reading(
        device, 0, CATALOGUE.values_class("water_meter")(**{k: v for k, v in seen.items() if k not in missing}), 0, "g"
    )
    for on in (0, 1):
        subject.on = on
        assert program.step(subject, reading) == 0
