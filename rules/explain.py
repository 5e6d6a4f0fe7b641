"""Why an alarm fired, in figures and in words: evidence of a condition, texts of an alarm, and a rule explained to a
person.

`candidates` lists the comparisons of an expression that can serve as evidence, `witness` picks the one that is true;
`Texts` come from the rule's templates. Pure functions of a rule, the values seen and the catalogue; raise nothing for
checked rules.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from devices.catalogue import Catalogue
from rules.interpret import MIRROR, Scope, UnknownValueError, condition, constant, evaluate, setpoint_on_left
from rules.language import (
    FUNCTIONS,
    ZONE_FUNCTIONS,
    Arithmetic,
    Call,
    Comparison,
    Expression,
    Fact,
    Kind,
    Logic,
    Negative,
    Node,
    Not,
    Number,
    Property,
    Text,
    children,
    duration_text,
    walk,
)
from rules.pack import Rule

MAX_SAMPLES = 60
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


@dataclass(frozen=True)
class Candidate:
    """Part of an expression that can be shown: `measured` `operator` `setpoint` (both None for a boolean property).

    `node` is what must be true for it to speak for the alarm: under a `not`, the opposite of what the text says.
    `chain` is the comparison of several terms that it is one step of.
    """

    node: Node
    measured: Node
    operator: str | None
    setpoint: Node | None
    property: str
    window: int | None
    chain: Comparison | None = None


@lru_cache(maxsize=4096)
def candidates(expression: Expression) -> tuple[Candidate, ...]:
    """Numeric comparisons first, in the order of the text, then states, boolean properties and other conditions."""
    found: list[tuple[int, Candidate]] = []
    for node, positive in _parts(expression.root, True):
        match node:
            case Comparison():
                found += [(1 if isinstance(step.setpoint, Text) else 0, step) for step in _steps(node, positive)]
            case Property(_, Kind.flag) | Call("stale" | "flagged"):
                shown = node if positive else Not(node)
                found.append((2, Candidate(shown, node, None, None, *_measure(node))))
    return tuple(candidate for _, candidate in sorted(found, key=lambda item: item[0]))


def _parts(node: Node, positive: bool) -> Iterator[tuple[Node, bool]]:
    """Every node, depth first, and whether it stands under an even number of `not`."""
    yield node, positive
    for child in children(node):
        yield from _parts(child, positive != isinstance(node, Not))


def _steps(comparison: Comparison, positive: bool) -> Iterator[Candidate]:
    """Each comparison of two terms, read from what is measured: 0.05 < x as x > 0.05."""
    terms, operators = comparison.terms, comparison.operators
    for left, symbol, right in zip(terms, operators, terms[1:], strict=False):
        if constant(left) and constant(right):
            continue
        operator = symbol if positive else _OPPOSITE[symbol]
        pair = Comparison((left, right), (operator,))
        measured, setpoint = left, right
        if setpoint_on_left(left, right):
            measured, setpoint, operator = right, left, MIRROR.get(operator, operator)
        chain = comparison if len(operators) > 1 else None
        yield Candidate(pair, measured, operator, setpoint, *_measure(measured), chain)


def _measure(node: Node) -> tuple[str, int | None]:
    """The property (or function) that a node measures, and its window in ms."""
    for part in walk(node):
        if isinstance(part, Property):
            return part.name, None
        if isinstance(part, Call):
            return part.property or (
                _measure(part.argument)[0] if part.name == "abs" and part.argument else part.name
            ), part.window or None
    return "", None


def witness(expression: Expression, scope: Scope) -> int:
    """Index among `candidates` of the part that is true now and says most; -1 where nothing can be shown.

    Of a chain (0.05 < x < 0.5) that is the bound which was crossed since the reading before, else the nearest.
    """
    shown = candidates(expression)
    true = [index for index, candidate in enumerate(shown) if _holds(candidate.node, scope)]
    if not true:
        return -1
    chain = shown[true[0]].chain
    if chain is None:
        return true[0]
    steps = [index for index in true if shown[index].chain is chain]
    return min(steps, key=lambda index: (not _crossed(shown[index], scope), _distance(shown[index], scope)))


def _holds(node: Node, scope: Scope) -> bool:
    try:
        return condition(node, scope)
    except UnknownValueError:
        return False


def _crossed(step: Candidate, scope: Scope) -> bool:
    """Whether the reading before is known to have been on the other side of this setpoint."""
    if not isinstance(step.measured, Property) or step.operator is None or step.setpoint is None:
        return False
    try:
        before = scope.before(step.measured.name)
    except UnknownValueError:
        return False
    return not isinstance(before, str) and not _holds(
        Comparison((Number(before), step.setpoint), (step.operator,)), scope
    )


def _distance(step: Candidate, scope: Scope) -> float:
    """How far the present value is from the setpoint; words have no distance."""
    value, setpoint = evaluate(step.measured, scope), evaluate(step.setpoint or step.measured, scope)
    return 0.0 if isinstance(value, str) or isinstance(setpoint, str) else abs(value - setpoint)


def measured(expression: Expression, choice: int, scope: Scope) -> float | str | None:
    """The present value of candidate `choice`."""
    if choice < 0:
        return None
    try:
        return evaluate(candidates(expression)[choice].measured, scope)
    except UnknownValueError:
        return None


def evidence(rule: Rule, expression: Expression, choice: int, scope: Scope, catalogue: Catalogue) -> dict[str, Any]:
    """{property, operator, value, unit, setpoint, window, duration, values}: windows and durations in ms, the rest in
    canonical units.
    """
    values: dict[str, Any] = {}
    for name in expression.inputs:
        try:
            values[name] = scope.property(name)
        except UnknownValueError:
            continue
    for name in sorted(expression.facts):
        try:
            values[name] = scope.fact(name)
        except UnknownValueError:
            continue
    shown: dict[str, Any] = {
        "property": "",
        "operator": None,
        "value": None,
        "unit": "",
        "setpoint": None,
        "window": None,
    }
    if choice >= 0:
        candidate = candidates(expression)[choice]
        known = catalogue.properties.get(candidate.property)
        shown["property"] = candidate.property
        shown["operator"] = candidate.operator
        shown["window"] = candidate.window
        shown["value"] = measured(expression, choice, scope)
        shown["unit"] = known.unit if known else ""
        if candidate.setpoint is not None:
            shown["setpoint"] = evaluate(candidate.setpoint, scope)
    return {**shown, "duration": rule.on_delay, "values": values}


def keep_sample(samples: list[list[float]], time: int, value: float | str | None) -> None:
    """Append, or replace at the same time; at most `MAX_SAMPLES`, thinned evenly when full."""
    if not isinstance(value, int | float):
        return
    number = float(value)  # what a condition evaluates to may be a bool
    if samples and samples[-1][0] == time:
        samples[-1][1] = number
        return
    if len(samples) >= MAX_SAMPLES:
        del samples[1:-1:2]
    samples.append([time, number])


class _Shown(float):
    """A number in a text: four significant digits unless the template says otherwise."""

    def __format__(self, spec: str) -> str:
        return float.__format__(self, spec or ".4g")


def text(template: str, evidence: Mapping[str, Any], subject: str, name: str) -> str:
    """A rule's template filled from evidence; what is unknown reads as a dash."""
    seen = {
        **evidence.get("values", {}),
        **{key: evidence.get(key) for key in ("value", "setpoint", "unit", "children")},
    }
    for key in ("window", "duration"):
        seen[key] = duration_text(evidence[key]) if evidence.get(key) else ""
    seen["subject"], seen["name"] = subject, name or subject
    shown = {key: _Shown(value) if isinstance(value, int | float) else value for key, value in seen.items()}
    return template.format_map(_Dashes({key: value for key, value in shown.items() if value is not None}))


class _Dash(str):
    def __format__(self, _spec: str) -> str:
        return "–"


class _Dashes(dict[str, Any]):
    def __missing__(self, _key: str) -> str:
        return _Dash()


def explain(rule: Rule, catalogue: Catalogue) -> dict[str, str]:
    """What a rule does, in full sentences, {"zh": ..., "en": ...}: for `songhua rules explain`."""
    lines: dict[str, list[str]] = {"zh": [f"{rule.title_zh}（{rule.id}）"], "en": [f"{rule.title_en} ({rule.id})"]}
    for language, condition_text in _conditions(rule, catalogue):
        lines[language].append(condition_text)
    families = {
        "zh": "、".join(catalogue.families[family].zh for family in rule.families),
        "en": ", ".join(catalogue.families[family].en.lower() for family in rule.families),
    }
    subject = (
        {"zh": f"{rule.zone_kind} 类区域，", "en": f"zones of kind {rule.zone_kind}, "}
        if rule.zone_kind
        else {"zh": "", "en": ""}
    )
    lines["zh"].append(f"适用于：{subject['zh']}{families['zh']}")
    lines["en"].append(f"Applies to: {subject['en']}{families['en']}")
    on, off = duration_text(rule.on_delay), duration_text(rule.off_delay)
    raised = {"zh": f"条件持续 {on} 后报警" if rule.on_delay else "条件成立即报警"}
    raised["en"] = f"Raised after {on}" if rule.on_delay else "Raised at once"
    returned = {"zh": f"恢复持续 {off} 后解除" if rule.off_delay else "恢复即解除"}
    returned["en"] = f"returns after {off}" if rule.off_delay else "returns at once"
    band = f"{rule.deadband.fraction * 100:.3g}%" if rule.deadband.fraction else f"{rule.deadband.amount:g}"
    lines["zh"].append(f"{raised['zh']}；越过回差 {band} 后{returned['zh']}。优先级：{_PRIORITY[rule.priority]}")
    lines["en"].append(f"{raised['en']}; {returned['en']} beyond a deadband of {band}. Priority: {rule.priority}")
    lines["zh"].append(f"处置：{rule.advice_zh}")
    lines["en"].append(f"What to do: {rule.advice_en}")
    return {language: "\n".join(parts) for language, parts in lines.items()}


_PRIORITY = {"critical": "紧急", "high": "高", "medium": "中", "low": "低"}
_WORDS = {"zh": {"and": " 且 ", "or": " 或 ", "not": "非"}, "en": {"and": " and ", "or": " or ", "not": "not "}}
_SIGNS = {"<=": "≤", ">=": "≥", "==": "=", "!=": "≠"}


def _conditions(rule: Rule, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    if rule.kind == "silence":
        yield "zh", "条件：超过该设备自身学习到的上报周期三倍（日报设备 48 小时）未收到数据"
        yield (
            "en",
            "Condition: nothing received for three times the device's own learnt interval (48 h for a daily one)",
        )
    elif rule.kind == "gateway":
        yield "zh", "条件：网关离线（遗嘱或自报）；其下设备的非紧急报警按设计抑制"
        yield (
            "en",
            "Condition: the gateway is offline (will or its own word); "
            "its devices' non-critical alarms are suppressed by design",
        )
    else:
        root = next(iter(rule.when.values())).root
        yield "zh", f"条件：{_words(root, 'zh', catalogue)}"
        yield "en", f"Condition: {_words(root, 'en', catalogue)}"


def _words(node: Node, language: str, catalogue: Catalogue) -> str:
    def inner(part: Node) -> str:
        said = _words(part, language, catalogue)
        return f"({said})" if isinstance(part, Logic | Arithmetic) else said

    match node:
        case Number(value):
            return f"{value:g}"
        case Text(value):
            return value
        case Property(name):
            return _label(name, language, catalogue)
        case Fact(name):
            return name
        case Negative(operand):
            return f"-{inner(operand)}"
        case Not(operand):
            return f"{_WORDS[language]['not']}{inner(operand)}"
        case Arithmetic(operator, left, right):
            return f"{inner(left)} {operator} {inner(right)}"
        case Logic(operator, operands):
            return _WORDS[language][operator].join(inner(operand) for operand in operands)
        case Comparison(terms, operators):
            parts = [inner(terms[0])]
            for operator, term in zip(operators, terms[1:], strict=True):
                parts += [_SIGNS.get(operator, operator), inner(term)]
            return " ".join(parts)
        case Call(name, of, window, word, argument):
            said = getattr(FUNCTIONS.get(name) or ZONE_FUNCTIONS[name], language)
            first = (
                _label(of, language, catalogue)
                if of
                else word or (_words(argument, language, catalogue) if argument else "")
            )
            return str(said.format(first, duration_text(window)))
    raise TypeError(node)


def _label(name: str, language: str, catalogue: Catalogue) -> str:
    return catalogue.properties[name].zh if language == "zh" else catalogue.properties[name].en.lower()
