"""The meaning of an expression, node by node: what `rules.fusion` compiles must agree with (a property test compares
the two).

Used where speed does not matter: evidence of an alarm, zone windows, tests. Receives a node and a `Scope` that
answers names; gives a number, a word or a bool. Raises `UnknownValueError` where the scope does not know a value: the
condition then stays as it is.
"""

import operator
from typing import Protocol

from rules import moment
from rules.language import Arithmetic, Call, Comparison, Fact, Logic, Negative, Node, Not, Number, Property, Text, walk

_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": moment.quotient}
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class UnknownValueError(Exception):
    """A value is not known (not reported, window not full)."""


class Scope(Protocol):
    """What the names of an expression stand for at one moment; each may raise `UnknownValueError`."""

    def property(self, name: str) -> float | str: ...

    def before(self, name: str) -> float | str:
        """The property at the reading before."""
        ...

    def fact(self, name: str) -> float: ...

    def call(self, node: Call) -> float | bool: ...


class Deadband:
    """How far a value must come back before an alarm returns: a fraction of the setpoint, or an amount in the value's
    unit.
    """

    __slots__ = ("amount", "fraction")

    def __init__(self, fraction: float = 0.0, amount: float = 0.0) -> None:
        self.fraction = fraction
        self.amount = amount

    def __bool__(self) -> bool:
        return bool(self.fraction or self.amount)


def constant(node: Node) -> bool:
    """Whether a node depends on nothing but numbers and facts, so that it is a setpoint."""
    return not any(isinstance(part, Property | Call | Text) for part in walk(node))


def setpoint_on_left(left: Node, right: Node) -> bool:
    """Which side of a comparison is the setpoint: the constant one, else the right one."""
    return constant(left) and not constant(right)


def shift_sign(symbol: str, on_left: bool, positive: bool) -> int:
    """-1 or +1: the way a setpoint moves so that a true comparison stays true longer; 0 for == and !=.

    `positive` is False under an odd number of `not`.
    """
    if symbol not in MIRROR:
        return 0
    direction = MIRROR[symbol] if on_left else symbol
    sign = -1 if direction in (">", ">=") else 1
    return sign if positive else -sign


def evaluate(node: Node, scope: Scope, band: Deadband | None = None, positive: bool = True) -> float | str | bool:
    """The value of `node`; with `band`, its comparisons are those of an alarm that is active (returning side)."""
    match node:
        case Number(value) | Text(value):
            return value
        case Property(name):
            return scope.property(name)
        case Fact(name):
            return scope.fact(name)
        case Call():
            return scope.call(node)
        case Negative(operand):
            return -_number(operand, scope)
        case Arithmetic(symbol, left, right):
            return _ARITHMETIC[symbol](_number(left, scope), _number(right, scope))  # type: ignore[no-any-return]
        case Not(operand):
            return not condition(operand, scope, band, not positive)
        case Logic("and", operands):
            values = [condition(operand, scope, band, positive) for operand in operands]
            return all(values)
        case Logic(_, operands):
            values = [condition(operand, scope, band, positive) for operand in operands]
            return any(values)
        case Comparison(terms, symbols):
            pairs = zip(terms, symbols, terms[1:], strict=False)
            values = [_compare(left, symbol, right, scope, band, positive) for left, symbol, right in pairs]
            return all(values)
    raise TypeError(node)


def condition(node: Node, scope: Scope, band: Deadband | None = None, positive: bool = True) -> bool:
    """The value of a node that is a condition; a boolean property counts as true when it is not 0."""
    value = evaluate(node, scope, band, positive)
    return bool(value != 0.0) if isinstance(node, Property) else bool(value)


def _number(node: Node, scope: Scope) -> float:
    value = evaluate(node, scope)
    assert not isinstance(value, str)  # the checker of rules.language lets only numbers here
    return value


def _compare(left: Node, symbol: str, right: Node, scope: Scope, band: Deadband | None, positive: bool) -> bool:
    a, b = evaluate(left, scope), evaluate(right, scope)
    on_left = setpoint_on_left(left, right)
    sign = shift_sign(symbol, on_left, positive) if band else 0
    if band and sign and not (constant(left) and constant(right)):
        setpoint = a if on_left else b
        assert not isinstance(setpoint, str)
        setpoint = setpoint + sign * (band.fraction * abs(setpoint) + band.amount)
        a, b = (setpoint, b) if on_left else (a, setpoint)
    return bool(_COMPARE[symbol](a, b))
