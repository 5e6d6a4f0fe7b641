"""All rules of a family fused into one function over a reading, generated from the checked nodes of `rules.language`.

`FamilyPrograms(family, rules)` gives for a device's facts a `Program`; its `step(subject, reading)` returns a bit
mask: bit i set means that the condition of rule i is now the opposite of what `subject.on` says. A rule already
raised (`subject.up`) is judged by its returning side (deadband). Rules whose facts a device lacks are left out of its
program. What depends on facts alone is computed once per device (`constants`). A property absent from the reading, or
a window not yet full, leaves its rules' bits as they are. Nothing here keeps state but the caches of generated
functions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devices.model import Reading
from rules import moment
from rules.interpret import Deadband, constant, setpoint_on_left, shift_sign
from rules.language import (
    STATEFUL,
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
    walk,
)
from rules.windows import Window, make

WindowKey = tuple[str, str, int]  # function, property, length in ms
Step = Callable[[Any, Reading], int]
_NAMESPACE: Mapping[str, object] = {
    "__builtins__": {},
    "abs": abs,
    "nan": moment.UNKNOWN,
    "quotient": moment.quotient,
    "hour": moment.hour,
    "day_of_year": moment.day_of_year,
    "sun_elevation": moment.sun_elevation,
}


def window_key(call: Call) -> WindowKey:
    """What a stateful call keeps per device; calls with the same key share it (`age` and `stale` of a property do)."""
    if call.name in ("age", "stale"):
        return ("age", call.property, 0)
    return (call.name, call.property, call.window)


@dataclass(frozen=True)
class Program:
    """The generated function for one family and one set of known facts."""

    step: Step
    constants: Callable[[Mapping[str, float]], tuple[float, ...]]
    windows: tuple[WindowKey, ...]
    mask: int  # bits of the rules that apply
    source: str

    def make_windows(self) -> list[Window]:
        """A fresh set of windows for one device, in the order that `step` expects."""
        return [make(function, length) for function, _, length in self.windows]


class FamilyPrograms:
    """Programs of one family; `rules[i]` is (expression, deadband) of bit i."""

    def __init__(self, rules: Sequence[tuple[Expression, Deadband]]) -> None:
        self._rules = rules
        self._facts = frozenset().union(*(expression.facts for expression, _ in rules))
        self._programs: dict[frozenset[str], Program] = {}

    def program(self, facts: Mapping[str, float]) -> Program:
        """The program for a device that knows `facts`."""
        known = self._facts.intersection(facts)
        found = self._programs.get(known)
        if found is None:
            found = self._programs[known] = self._generate(known)
        return found

    def _generate(self, known: frozenset[str]) -> Program:
        emitter = Emitter()
        strict: dict[tuple[str, ...], list[str]] = {}
        full: dict[tuple[str, ...], list[str]] = {}
        mask = 0
        for bit, (expression, band) in enumerate(self._rules):
            if not expression.facts <= known:
                continue
            mask |= 1 << bit
            usual = emitter.condition(expression.root)
            returning = emitter.condition(expression.root, band) if band else usual
            guards = emitter.guards(expression)
            choice = usual if returning == usual else f"({returning} if up & {1 << bit} else {usual})"
            strict.setdefault(guards, []).append(usual)
            full.setdefault(guards, []).append(f"if {choice} != (on & {1 << bit} != 0): changed |= {1 << bit}")
        lines = ["def step(s, r):", *(f"    {line}" for line in emitter.prelude())]
        lines += ["    on = s.on", "    up = s.up", "    if not (on or up):"]
        quick = [_join((*(f"{name} is not None" for name in guards), _any(parts))) for guards, parts in strict.items()]
        lines += [f"        if not ({_any(quick)}): return 0", "    changed = 0"]
        for guards, statements in full.items():
            lines.append(f"    if {_join(tuple(f'{name} is not None' for name in guards))}:")
            lines += [f"        {statement}" for statement in statements]
        lines.append("    return changed")
        source = "\n".join((*lines, *emitter.constants_source())) + "\n"
        namespace = _execute(source)
        return Program(namespace["step"], namespace["constants"], tuple(emitter.windows), mask, source)


def contribution(
    arguments: Sequence[Node],
) -> tuple[Callable[[Any, Reading], tuple[float, ...] | None], Callable[..., tuple[float, ...]]]:
    """What a member gives to its zone's window: the values of `arguments`, None while an input is missing; and its
    constants.
    """
    emitter = Emitter()
    flags = [isinstance(node, Property) and node.kind is Kind.flag for node in arguments]
    parts = [
        emitter.condition(node) if flag else emitter.code(node) for node, flag in zip(arguments, flags, strict=True)
    ]
    names = dict.fromkeys(f"p_{node.name}" for root in arguments for node in walk(root) if isinstance(node, Property))
    lines = ["def contribute(s, r):", *(f"    {line}" for line in emitter.prelude())]
    if names:
        lines.append(f"    if {' or '.join(f'{name} is None' for name in names)}: return None")
    lines.append(f"    return ({''.join(f'{part} + 0.0, ' for part in parts)})")
    namespace = _execute("\n".join((*lines, *emitter.constants_source())) + "\n")
    return namespace["contribute"], namespace["constants"]


def _execute(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = dict(_NAMESPACE)
    exec(compile(source, "<fused rules>", "exec"), namespace)
    return namespace


def _any(parts: Sequence[str]) -> str:
    return " or ".join(parts) if parts else "False"


def _join(parts: tuple[str, ...]) -> str:
    if not parts:
        return "True"
    *guards, last = parts
    return " and ".join((*guards, f"({last})"))


class Emitter:
    """Turns nodes into Python source. Every identifier and literal in it is made here, never copied from a rule's
    text.
    """

    def __init__(self) -> None:
        self.windows: dict[WindowKey, int] = {}
        self._properties: dict[str, None] = {}
        self._constants: dict[str, int] = {}

    def guards(self, expression: Expression) -> tuple[str, ...]:
        """Local names that must not be None for the expression to be evaluated."""
        names: dict[str, None] = {}
        for node in expression.nodes():
            if isinstance(node, Property):
                names[f"p_{node.name}"] = None
            elif isinstance(node, Call) and node.name in STATEFUL:
                names[f"m{self.windows[window_key(node)]}"] = None
        return tuple(names)

    def prelude(self) -> list[str]:
        """Statements that load what the emitted code uses."""
        lines = ["t = r.time", "v = r.values"]
        lines += [f"p_{name} = v.{name}" for name in self._properties]
        if self._constants:
            lines.append("k = s.constants")
        if self.windows:
            lines.append("w = s.windows")
        for (function, name, _), index in self.windows.items():
            push = f"w[{index}].push(t, p_{name})"
            lines.append(f"m{index} = {push if function == 'age' else f'None if p_{name} is None else {push}'}")
        return lines

    def constants_source(self) -> list[str]:
        """Source of `constants(f)`: everything that depends on a device's facts alone."""
        return ["def constants(f):", f"    return ({''.join(f'{source}, ' for source in self._constants)})"]

    def condition(self, node: Node, band: Deadband | None = None, positive: bool = True) -> str:
        """Source of a bool."""
        match node:
            case Property(name):
                return f"({self._property(name)} != 0.0)"
            case Not(operand):
                return f"(not {self.condition(operand, band, not positive)})"
            case Logic(symbol, operands):
                return "(" + f" {symbol} ".join(self.condition(operand, band, positive) for operand in operands) + ")"
            case Comparison(terms, symbols):
                pairs = zip(terms, symbols, terms[1:], strict=False)
                return "(" + " and ".join(self._compare(a, symbol, b, band, positive) for a, symbol, b in pairs) + ")"
        return self.code(node)

    def code(self, node: Node) -> str:
        """Source of a number, a word or a bool."""
        if isinstance(node, Number):
            return repr(node.value)
        if constant(node):
            return self._constant(_arithmetic(node))
        match node:
            case Property(name):
                return self._property(name)
            case Text(value):
                return repr(value)
            case Negative(operand):
                return f"(-{self.code(operand)})"
            case Arithmetic("/", left, right) if not isinstance(right, Number) or not right.value:
                return f"quotient({self.code(left)}, {self.code(right)})"
            case Arithmetic(symbol, left, right):
                return f"({self.code(left)} {symbol} {self.code(right)})"
            case Call():
                return self._call(node)
        return self.condition(node)

    def _compare(self, left: Node, symbol: str, right: Node, band: Deadband | None, positive: bool) -> str:
        on_left = setpoint_on_left(left, right)
        sign = shift_sign(symbol, on_left, positive) if band else 0
        if not band or not sign or (constant(left) and constant(right)):
            return f"{self.code(left)} {symbol} {self.code(right)}"
        setpoint = left if on_left else right
        if constant(setpoint):
            moved = self._constant(_shifted(_arithmetic(setpoint), sign, band))
        else:
            moved = _shifted(self.code(setpoint), sign, band)
        return f"{moved} {symbol} {self.code(right)}" if on_left else f"{self.code(left)} {symbol} {moved}"

    def _call(self, node: Call) -> str:
        match node.name:
            case "abs":
                assert node.argument is not None
                return f"abs({self.code(node.argument)})"
            case "hour" | "day_of_year":
                return f"{node.name}(t)"
            case "sun_elevation":
                return "sun_elevation(t, s.device.lon, s.device.lat)"
            case "flagged":
                return f"({node.word!r} in r.quality)"
        self._property(node.property)
        local = f"m{self.windows.setdefault(window_key(node), len(self.windows))}"
        return f"({local} >= {node.window / 1000!r})" if node.name == "stale" else local

    def _property(self, name: str) -> str:
        self._properties[name] = None
        return f"p_{name}"

    def _constant(self, source: str) -> str:
        return f"k[{self._constants.setdefault(source, len(self._constants))}]"


def _shifted(setpoint: str, sign: int, band: Deadband) -> str:
    return f"({setpoint} + {sign} * ({band.fraction!r} * abs({setpoint}) + {band.amount!r}))"


def _arithmetic(node: Node) -> str:
    """Source of a constant node over `f`, the facts."""
    parts = [_arithmetic(child) for child in children(node)]
    match node:
        case Number(value):
            return repr(value)
        case Fact(name):
            return f"f[{name!r}]"
        case Negative():
            return f"(-{parts[0]})"
        case Arithmetic("/"):
            return f"quotient({parts[0]}, {parts[1]})"
        case Arithmetic(symbol):
            return f"({parts[0]} {symbol} {parts[1]})"
        case Not():
            return f"(not {parts[0]})"
        case Logic(symbol):
            return "(" + f" {symbol} ".join(parts) + ")"
        case Comparison(_, symbols):
            return "(" + " and ".join(f"{a} {s} {b}" for a, s, b in zip(parts, symbols, parts[1:], strict=False)) + ")"
    raise TypeError(node)
