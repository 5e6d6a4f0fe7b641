"""Evidence: the figures that answer "why did it fire", gathered while a condition lasts and for what has no
expression.

`witnessed` begins a hold with what made its condition true, `confirmed` keeps it up to date with every sample that
agrees, `of_silence` and `of_gateway` are for the two rules without an expression. Evidence is {property, operator,
value, unit, setpoint, window, duration, values, samples}: window and duration in ms, samples [[ms, value], ...], at
most 60. Pure.
"""

from typing import Any

from devices.catalogue import Catalogue
from devices.model import Milliseconds, Reading
from rules import explain
from rules.scopes import ReadingScope, ZoneScope
from rules.subjects import DeviceSubject, Hold
from rules.zones import ZoneSubject, unit_of


def witnessed(subject: DeviceSubject, bit: int, reading: Reading, scope: ReadingScope, catalogue: Catalogue) -> Hold:
    """A hold for a condition that has just become true; its samples begin before that, with the window or the reading
    before.
    """
    rule = subject.rules[bit]
    expression = rule.when[subject.device.family]
    choice = explain.witness(expression, scope)
    found = explain.evidence(rule, expression, choice, scope, catalogue)
    samples: list[list[float]] = []
    if found["window"]:
        for key, window in zip(subject.program.windows, subject.windows, strict=True):
            if key[1:] == (found["property"], found["window"]):
                samples = window.samples()
    elif subject.last is not None:
        before = getattr(subject.last, found["property"], None)
        if isinstance(before, float):
            samples = [[subject.time, before]]
    explain.keep_sample(samples, reading.time, found["value"])
    return Hold(0, 0, 0, choice=choice, evidence=found, samples=samples)


def confirmed(subject: DeviceSubject, bit: int, hold: Hold, reading: Reading, scope: ReadingScope) -> None:
    """A reading that agrees with a hold: its value is the newest evidence."""
    expression = subject.rules[bit].when[subject.device.family]
    value = explain.measured(expression, hold.choice, scope)
    if value is not None:
        hold.evidence["value"] = value
        hold.evidence["values"].update((name, getattr(reading.values, name)) for name in expression.inputs)
        explain.keep_sample(hold.samples, reading.time, value)


def of_zone(
    zone: ZoneSubject, end: Milliseconds, scope: ZoneScope, seen: dict[str, Any], catalogue: Catalogue
) -> Hold | None:
    """A hold for what the window of a zone that ends at `end` says; None where nothing of it can be shown."""
    expression = next(iter(zone.rule.when.values()))
    choice = explain.witness(expression, scope)
    if choice < 0:
        return None
    found = explain.evidence(zone.rule, expression, choice, scope, catalogue)
    found["unit"] = unit_of(explain.candidates(expression)[choice].measured, catalogue)
    samples: list[list[float]] = [list(zone.last)] if zone.last is not None else []
    explain.keep_sample(samples, end, found["value"])
    zone.last = (end, found["value"])
    return Hold(0, 0, 0, choice=choice, evidence=found | seen, samples=samples)


def of_silence(quiet: Milliseconds, allowed: Milliseconds) -> dict[str, Any]:
    """How long a device was quiet and how long it may be, in seconds."""
    return _plain("silence", ">", quiet / 1000, "s") | {"setpoint": allowed / 1000, "window": allowed}


def of_gateway(session: str, on_delay: Milliseconds) -> dict[str, Any]:
    """A gateway that went offline in `session`."""
    return _plain("status", "==", "offline", "") | {"duration": on_delay, "values": {"session": session}}


def _plain(name: str, operator: str, value: float | str, unit: str) -> dict[str, Any]:
    return {
        "property": name,
        "operator": operator,
        "value": value,
        "unit": unit,
        "setpoint": None,
        "window": None,
        "duration": 0,
        "values": {},
        "samples": [],
    }
