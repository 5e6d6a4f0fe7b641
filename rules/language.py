"""The language of `when`: a small closed grammar, parsed with Python's `ast` against an allow-list into our own
nodes.

Receives the text of an expression and the scope it is written for (a family's properties, device or zone level);
gives an `Expression`, a tree of the node classes below that `rules.fusion` turns into Python source and
`rules.interpret` walks. Nothing of the text ever reaches `compile`: only our nodes do. Owns no state. Raises
`LanguageError` with the column and what was expected; a person must change the text.

    expression  comparison (also chained), and / or / not, + - * / and unary minus, numbers, parentheses
    names       a property of the family, `facts.<name>`; a word in quotes only beside a `*_state`
    functions   `FUNCTIONS` (a reading's device), `ZONE_FUNCTIONS` (members of a zone); durations are words like '10m'
"""

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from devices.catalogue import Catalogue
from devices.errors import ConfigError

MAX_LENGTH = 500
MAX_DEPTH = 20
MAX_NODES = 150
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,6})(ms|s|m|h|d)")
_MAX_WINDOW = 31 * _UNITS["d"]


class Kind(StrEnum):
    """What an expression yields. A boolean property is a condition, and a number (0 or 1) beside a comparison."""

    number = "a number"
    condition = "a condition"
    flag = "a boolean property"
    state = "a state property"
    text = "a word in quotes"


class LanguageError(ConfigError):
    """The text of an expression is refused: `column` counts characters from 0, `expected` says what would be accepted
    there.
    """

    def __init__(self, message: str, column: int, expected: str) -> None:
        super().__init__(f"{message}; expected {expected}")
        self.column = column
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class Property:
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Fact:
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of ours: over a window of one property, of the moment, or (zone level) over the members of a zone."""

    name: str
    property: str = ""
    window: int = 0
    word: str = ""
    argument: "Node | None" = None


@dataclass(frozen=True, slots=True)
class Negative:
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`terms[0] operators[0] terms[1] operators[1] terms[2] ...`"""

    terms: tuple["Node", ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Logic:
    operator: str
    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    operand: "Node"


Node: TypeAlias = Number | Text | Property | Fact | Call | Negative | Arithmetic | Comparison | Logic | Not


@dataclass(frozen=True, slots=True)
class Function:
    """Signature of a function: `parameters` of property | duration | word | number | condition; English and Chinese
    for `explain`.
    """

    parameters: tuple[str, ...]
    kind: Kind
    en: str
    zh: str


# Over the readings of one device, in event time. Unknown (window not yet full) leaves the rule's condition as it is.
FUNCTIONS: Mapping[str, Function] = {
    "mean": Function(("property", "duration"), Kind.number, "mean of {0} over {1}", "{1}内{0}的平均值"),
    "min": Function(("property", "duration"), Kind.number, "minimum of {0} over {1}", "{1}内{0}的最小值"),
    "max": Function(("property", "duration"), Kind.number, "maximum of {0} over {1}", "{1}内{0}的最大值"),
    "delta": Function(("property", "duration"), Kind.number, "change of {0} over {1}", "{1}内{0}的变化"),
    "rate": Function(("property", "duration"), Kind.number, "change of {0} per hour over {1}", "{1}内{0}每小时的变化"),
    "drop": Function(
        ("property", "duration"), Kind.number, "fall of {0} from its maximum within {1}", "{1}内{0}自最高值的下降"
    ),
    "rise": Function(
        ("property", "duration"), Kind.number, "rise of {0} from its minimum within {1}", "{1}内{0}自最低值的上升"
    ),
    "baseline": Function(("property",), Kind.number, "usual {0} at this hour", "{0}在该时段的常值"),
    "age": Function(("property",), Kind.number, "seconds since {0} was reported", "{0}距上次上报的秒数"),
    "stale": Function(("property", "duration"), Kind.condition, "{0} not reported for {1}", "{0}已{1}未上报"),
    "abs": Function(("number",), Kind.number, "size of {0}", "{0}的绝对值"),
    "hour": Function((), Kind.number, "hour of the day (UTC+8)", "北京时间的时刻"),
    "day_of_year": Function((), Kind.number, "day of the year (UTC+8)", "一年中的第几天"),
    "sun_elevation": Function((), Kind.number, "elevation of the sun in degrees", "太阳高度角（度）"),
    "flagged": Function(("word",), Kind.condition, "reading flagged {0}", "数据带有{0}标记"),
}
# Over the members of a zone in one closed window: each member's last reading in it.
ZONE_FUNCTIONS: Mapping[str, Function] = {
    "zone_sum": Function(("number",), Kind.number, "sum over the zone of {0}", "区域内{0}之和"),
    "zone_mean": Function(("number",), Kind.number, "mean over the zone of {0}", "区域内{0}的平均值"),
    "zone_min": Function(("number",), Kind.number, "minimum over the zone of {0}", "区域内{0}的最小值"),
    "zone_max": Function(("number",), Kind.number, "maximum over the zone of {0}", "区域内{0}的最大值"),
    "zone_count": Function(("condition",), Kind.number, "members of the zone with {0}", "区域内满足（{0}）的设备数"),
    "zone_run": Function(("condition",), Kind.number, "adjacent members with {0}", "相邻且满足（{0}）的设备数"),
    "coverage": Function((), Kind.number, "share of the members that reported", "已上报设备的比例"),
}
FLAGS = ("clock", "range")
WINDOWED = frozenset({"mean", "min", "max", "delta", "rate", "drop", "rise"})
STATEFUL = WINDOWED | {"baseline", "age", "stale"}  # these keep something per device

_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_GRAMMAR = "numbers, properties, facts.<name>, our functions, comparisons, and/or/not, + - * /"


@dataclass(frozen=True)
class Expression:
    """A checked expression: `inputs` must be in a reading for the condition to be evaluated, `facts` must be known of
    the device.
    """

    source: str
    root: Node
    inputs: tuple[str, ...]
    facts: frozenset[str]

    def nodes(self) -> Iterator[Node]:
        """Every node, depth first, in the order of the text."""
        return walk(self.root)


def duration(text: str) -> int:
    """'90s', '10m', '24h', '3d' in ms. Raises ValueError naming what was expected."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; expected a number with ms, s, m, h or d, such as 10m")
    return int(match[1]) * _UNITS[match[2]]


def duration_text(milliseconds: int) -> str:
    """The shortest exact text of a duration: 600000 -> '10m'."""
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % _UNITS[unit] == 0:
            return f"{milliseconds // _UNITS[unit]}{unit}"
    return f"{milliseconds}ms"


def children(node: Node) -> tuple[Node, ...]:
    """The operands of a node, left to right."""
    match node:
        case Negative(operand) | Not(operand):
            return (operand,)
        case Arithmetic(_, left, right):
            return (left, right)
        case Comparison(terms, _):
            return terms
        case Logic(_, operands):
            return operands
        case Call(argument=argument) if argument is not None:
            return (argument,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything below it, depth first."""
    yield node
    for child in children(node):
        yield from walk(child)


def parse(source: str, family: str, catalogue: Catalogue, *, zone: bool = False) -> Expression:
    """Check `source` as a condition over readings of `family` (or, with `zone`, over a zone of them). Raises
    `LanguageError`.

    Bounded: at most 500 characters, 150 nodes, 20 levels; a hostile text is refused in well under 50 ms.
    """
    if len(source) > MAX_LENGTH or not source.isascii() or not source.isprintable():
        raise LanguageError("expression refused", 0, f"at most {MAX_LENGTH} printable ASCII characters")
    text = source.strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise LanguageError(f"cannot read {text!r} ({error.msg})", max((error.offset or 1) - 1, 0), _GRAMMAR) from None
    except (ValueError, RecursionError, MemoryError):
        raise LanguageError("expression too deep", 0, f"at most {MAX_DEPTH} levels") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES * 3:
        raise LanguageError("expression too long", 0, f"at most {MAX_NODES} parts")
    properties = {
        name: {"number": Kind.number, "boolean": Kind.flag, "state": Kind.state}[catalogue.properties[name].kind]
        for name in catalogue.families[family].properties
    }
    words = {name: catalogue.properties[name].values for name in properties}
    checker = _Checker(properties, words, zone)
    root = checker.condition(tree.body, 0)
    if sum(1 for _ in walk(root)) > MAX_NODES:
        raise LanguageError("expression too long", 0, f"at most {MAX_NODES} parts")
    inputs = dict.fromkeys(name for node in walk(root) if (name := _input(node)))
    facts = frozenset(node.name for node in walk(root) if isinstance(node, Fact))
    return Expression(text, root, tuple(inputs), facts)


def _input(node: Node) -> str | None:
    if isinstance(node, Property):
        return node.name
    if isinstance(node, Call) and (node.name in WINDOWED or node.name == "baseline"):
        return node.property
    return None


class _Checker:
    """Turns Python's tree into ours; whatever is not named here is refused."""

    def __init__(self, properties: Mapping[str, Kind], words: Mapping[str, tuple[str, ...]], zone: bool) -> None:
        self._properties = properties
        self._words = words
        self._zone = zone
        self._member = False

    def condition(self, node: ast.expr, depth: int) -> Node:
        checked, kind = self._check(node, depth)
        if kind not in (Kind.condition, Kind.flag):
            raise LanguageError(
                f"{kind} stands where a condition is needed", node.col_offset, "a comparison or a boolean property"
            )
        return checked

    def _number(self, node: ast.expr, depth: int) -> Node:
        checked, kind = self._check(node, depth)
        if kind is not Kind.number:
            raise LanguageError(
                f"{kind} stands where a number is needed", node.col_offset, "a number, a property or facts.<name>"
            )
        return checked

    def _check(self, node: ast.expr, depth: int) -> tuple[Node, Kind]:
        if depth > MAX_DEPTH:
            raise LanguageError("expression too deep", node.col_offset, f"at most {MAX_DEPTH} levels")
        handler = self._handlers.get(type(node))
        if handler is None:
            raise LanguageError(f"{type(node).__name__} is not part of the language", node.col_offset, _GRAMMAR)
        return handler(self, node, depth + 1)

    def _constant(self, node: ast.Constant, _depth: int) -> tuple[Node, Kind]:
        if isinstance(node.value, str):
            return Text(node.value), Kind.text
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
            raise LanguageError("not a number", node.col_offset, "a number below 1e15")
        return Number(float(value)), Kind.number

    def _name(self, node: ast.Name, _depth: int) -> tuple[Node, Kind]:
        if self._zone and not self._member:
            raise LanguageError(
                f"{node.id} has no value for a whole zone", node.col_offset, "a zone function such as zone_mean(...)"
            )
        kind = self._properties.get(node.id)
        if kind is None:
            raise LanguageError(
                f"unknown property {node.id[:40]}", node.col_offset, "one of " + ", ".join(self._properties)
            )
        return Property(node.id, kind), kind

    def _attribute(self, node: ast.Attribute, _depth: int) -> tuple[Node, Kind]:
        if not (
            isinstance(node.value, ast.Name)
            and node.value.id == "facts"
            and re.fullmatch("[a-z][a-z0-9_]{0,39}", node.attr)
        ):
            raise LanguageError("a dot is only for facts", node.col_offset, "facts.<name>")
        if self._zone and not self._member:
            raise LanguageError("facts belong to devices", node.col_offset, "facts inside a zone function")
        return Fact(node.attr), Kind.number

    def _unary(self, node: ast.UnaryOp, depth: int) -> tuple[Node, Kind]:
        if isinstance(node.op, ast.Not):
            return Not(self.condition(node.operand, depth)), Kind.condition
        if isinstance(node.op, ast.USub):
            return Negative(self._number(node.operand, depth)), Kind.number
        raise LanguageError(
            f"{type(node.op).__name__} is not part of the language", node.col_offset, "not or unary minus"
        )

    def _binary(self, node: ast.BinOp, depth: int) -> tuple[Node, Kind]:
        operator = _ARITHMETIC.get(type(node.op))
        if operator is None:
            raise LanguageError(f"{type(node.op).__name__} is not part of the language", node.col_offset, "+ - * /")
        return Arithmetic(operator, self._number(node.left, depth), self._number(node.right, depth)), Kind.number

    def _logic(self, node: ast.BoolOp, depth: int) -> tuple[Node, Kind]:
        operator = "and" if isinstance(node.op, ast.And) else "or"
        return Logic(operator, tuple(self.condition(value, depth) for value in node.values)), Kind.condition

    def _compare(self, node: ast.Compare, depth: int) -> tuple[Node, Kind]:
        operators = []
        for item in node.ops:
            if type(item) not in _COMPARE:
                raise LanguageError(
                    f"{type(item).__name__} is not part of the language", node.col_offset, "< <= > >= == !="
                )
            operators.append(_COMPARE[type(item)])
        checked = [self._check(term, depth) for term in (node.left, *node.comparators)]
        kinds = {kind for _, kind in checked}
        if kinds <= {Kind.number, Kind.flag}:
            return Comparison(tuple(term for term, _ in checked), tuple(operators)), Kind.condition
        if kinds == {Kind.state, Kind.text} and len(checked) == 2 and operators[0] in ("==", "!="):
            state = next(term for term, _ in checked if isinstance(term, Property))
            word = next(term for term, _ in checked if isinstance(term, Text))
            if word.value not in self._words[state.name]:
                expected = "one of " + ", ".join(self._words[state.name])
                raise LanguageError(f"{state.name} is never {word.value[:20]!r}", node.col_offset, expected)
            return Comparison((state, word), (operators[0],)), Kind.condition
        raise LanguageError(
            "these cannot be compared", node.col_offset, "numbers, or a state with == or != and one of its words"
        )

    def _call(self, node: ast.Call, depth: int) -> tuple[Node, Kind]:
        functions = ZONE_FUNCTIONS if self._zone and not self._member else FUNCTIONS
        if not isinstance(node.func, ast.Name) or node.func.id not in functions:
            raise LanguageError("not a function of the language", node.col_offset, "one of " + ", ".join(functions))
        name, function = node.func.id, functions[node.func.id]
        if node.keywords or len(node.args) != len(function.parameters):
            shape = f"{name}({', '.join(function.parameters)})"
            raise LanguageError(f"{name} takes {len(function.parameters)} arguments", node.col_offset, shape)
        if self._member and name in STATEFUL:
            raise LanguageError(
                f"{name} cannot be used inside a zone function", node.col_offset, "properties, facts and numbers"
            )
        parts: dict[str, object] = {}
        for parameter, argument in zip(function.parameters, node.args, strict=True):
            match parameter:
                case "property":
                    parts["property"] = self._measured(argument)
                case "duration":
                    parts["window"] = self._duration(argument)
                case "word":
                    parts["word"] = self._flag(argument)
                case _:
                    outer, self._member = self._member, self._member or self._zone
                    check = self._number if parameter == "number" else self.condition
                    parts["argument"] = check(argument, depth)
                    self._member = outer
        return Call(name, **parts), function.kind  # type: ignore[arg-type]

    def _measured(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Name) or self._properties.get(node.id) not in (Kind.number, Kind.flag):
            raise LanguageError(
                "the first argument is a measured property", node.col_offset, "a property that is a number"
            )
        return node.id

    def _duration(self, node: ast.expr) -> int:
        value = node.value if isinstance(node, ast.Constant) else None
        try:
            window = duration(value) if isinstance(value, str) else 0
        except ValueError:
            window = 0
        if not 0 < window <= _MAX_WINDOW:
            raise LanguageError("not a window", node.col_offset, "a duration in quotes such as '10m', at most '31d'")
        return window

    def _flag(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Constant) or node.value not in FLAGS:
            raise LanguageError("not a quality flag", node.col_offset, " or ".join(repr(flag) for flag in FLAGS))
        return str(node.value)

    _handlers: Mapping[type[ast.expr], Callable[["_Checker", ast.expr, int], tuple[Node, Kind]]] = {
        ast.Constant: _constant,  # type: ignore[dict-item]
        ast.Name: _name,  # type: ignore[dict-item]
        ast.Attribute: _attribute,  # type: ignore[dict-item]
        ast.UnaryOp: _unary,  # type: ignore[dict-item]
        ast.BinOp: _binary,  # type: ignore[dict-item]
        ast.BoolOp: _logic,  # type: ignore[dict-item]
        ast.Compare: _compare,  # type: ignore[dict-item]
        ast.Call: _call,  # type: ignore[dict-item]
    }
