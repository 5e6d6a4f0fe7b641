"""The language: what it accepts, and that nothing else gets in (RELIABILITY, security row 16)."""

import pytest

from devices.catalogue import load
from rules.language import LanguageError, duration, duration_text, parse

CATALOGUE = load()

ACCEPTED = [
    "flow_rate > 1.25 * facts.q3",
    "facts.q3 < flow_rate <= 1.25 * facts.q3",
    "valve_state == 'closed' and flow_rate > 0",
    "tamper",
    "not tamper or tamper == 0",
    "not 198 <= battery_voltage <= 235",
    "-flow_rate < -(3 + 2) / 4",
    "min(flow_rate, '24h') > 0 and delta(volume_total, '1h') < rate(volume_total, '1d')",
    "abs(flow_rate - baseline(flow_rate)) > 2",
    "stale(pressure, '1h') or age(pressure) > 30",
    "2 <= hour() < 4 and sun_elevation() < -6 and day_of_year() > 293",
    "flagged('clock')",
]

ESCAPES = [
    "__import__('os').system('id')",
    "().__class__.__bases__[0].__subclasses__()",
    "flow_rate.__class__",
    "facts.__class__ > 1",
    "facts.__init__.__globals__ > 1",
    "facts.q3.real > 1",
    "facts.facts.q3 > 1",
    "facts['q3'] > 1",
    "facts > 1",
    "facts.Q3 > 1",
    "facts._q3 > 1",
    "getattr(flow_rate, 'real') > 1",
    "eval('1') > 0",
    "exec('x=1')",
    "compile('1', '', 'eval')",
    "open('/etc/passwd')",
    "globals()",
    "locals()",
    "vars()",
    "dir()",
    "print(1)",
    "input() > 1",
    "breakpoint()",
    "type(flow_rate)",
    "isinstance(flow_rate, float)",
    "lambda: 1",
    "(lambda: flow_rate > 1)()",
    "[x for x in (1,2)]",
    "{x: 1 for x in (1,)}",
    "{x for x in (1,)}",
    "(x for x in (1,))",
    "[flow_rate][0] > 1",
    "(flow_rate, 1)[0] > 1",
    "{'a': 1}",
    "{1, 2}",
    "[1, 2]",
    "(1, 2)",
    "flow_rate[0] > 1",
    "flow_rate if tamper else pressure",
    "(x := 5) > 1",
    "await flow_rate",
    "yield flow_rate",
    "f'{flow_rate}'",
    "f'{flow_rate.__class__}' == 'x'",
    "'%s' % flow_rate",
    "'{0.__class__}'.format(1)",
    "b'abc' == 'abc'",
    "flow_rate ** 9999 > 1",
    "9 ** 9 ** 9 ** 9 > 1",
    "flow_rate << 99999 > 1",
    "flow_rate >> 1 > 1",
    "flow_rate % 2 == 0",
    "flow_rate // 2 > 1",
    "flow_rate @ pressure > 1",
    "flow_rate & 1",
    "flow_rate | 1",
    "flow_rate ^ 1",
    "~flow_rate > 1",
    "+flow_rate > 1",
    "flow_rate is 1",
    "flow_rate is not None",
    "flow_rate in (1, 2)",
    "flow_rate not in (1,)",
    "None",
    "True",
    "False",
    "True > flow_rate",
    "...",
    "1j > flow_rate",
    "1e400 > flow_rate",
    "9" * 400 + " > flow_rate",
    "'a' * 1000000000 == 'b'",
    "'a' + 'b' == 'ab'",
    "valve_state == 'ajar'",
    "valve_state > 'closed'",
    "valve_state == flow_rate",
    "valve_state == valve_state",
    "'closed' == 'closed'",
    "valve_state",
    "'closed'",
    "flow_rate",
    "3",
    "flow_rate + 1",
    "flow_rate and tamper",
    "not flow_rate",
    "tamper + 1 > 0",
    "unknown_property > 1",
    "_ > 1",
    "__builtins__ > 1",
    "__name__ == 'x'",
    "s > 1",
    "r.values > 1",
    "k[0] > 1",
    "nan > 1",
    "mean > 1",
    "mean(flow_rate) > 1",
    "mean(flow_rate, 10) > 1",
    "mean(flow_rate, '10') > 1",
    "mean(flow_rate, '10y') > 1",
    "mean(flow_rate, '999999d') > 1",
    "mean(flow_rate, '0m') > 1",
    "mean(flow_rate, '-5m') > 1",
    "mean(flow_rate + 1, '5m') > 1",
    "mean(valve_state, '5m') > 1",
    "mean(mean(flow_rate, '5m'), '5m') > 1",
    "mean(flow_rate, window='5m') > 1",
    "mean(*[flow_rate, '5m']) > 1",
    "mean(**{'a': 1}) > 1",
    "mean(flow_rate, '5m').real > 1",
    "mean(flow_rate, '5m')() > 1",
    "abs('x') > 1",
    "abs(tamper) > 1",
    "hour(1) > 1",
    "flagged('x')",
    "flagged(clock)",
    "zone_sum(flow_rate) > 1",
    "coverage() > 1",
    "flow_rate > 1; import os",
    "import os",
    "flow_rate > 1\nimport os",
    "flow_rate > 1 # comment\n or 1",
    "x = 1",
    "",
    " ",
    "flow_rate >",
    "(((",
    "(" * 240 + "1" + ")" * 240,
    "not " * 100 + "tamper",
    "-" * 200 + "flow_rate > 1",
    " and ".join(["tamper"] * 60),
    "flow_rate" + " + 1" * 120 + " > 1",
    "flow_rate > 1" * 100,
    "ｆlow_rate > 1",
    "flow_rate > 1\u2028",
    "flow_rate\x00 > 1",
    "\ud800 > 1",
    "flow_rate > １",
    "a" * 100_000,
    "-" * 100_000,
]


@pytest.mark.parametrize("source", ACCEPTED)
def test_the_language_accepts(source: str) -> None:
    assert parse(source, "water_meter", CATALOGUE).source == source


@pytest.mark.parametrize("source", ESCAPES, ids=range(len(ESCAPES)))
def test_whatever_is_not_the_language_is_refused_with_a_reason(source: str) -> None:
    with pytest.raises(LanguageError, match="expected") as refused:
        parse(source, "water_meter", CATALOGUE)
    assert refused.value.column >= 0


def test_there_are_at_least_a_hundred_escape_attempts() -> None:
    assert len(set(ESCAPES)) >= 100


@pytest.mark.parametrize(
    ("source", "column", "expected"),
    [
        ("flow_rate > facts.q3 * speed", 23, "flow_rate"),
        ("flow_rate > 1 and tampr", 18, "tamper"),
        ("mean(flow_rate, '5') > 1", 16, "'10m'"),
        ("flow_rate ** 2 > 1", 0, "+ - * /"),
        ("valve_state == 'ajar'", 0, "closed"),
    ],
)
def test_a_refusal_names_the_column_and_what_was_expected(source: str, column: int, expected: str) -> None:
    with pytest.raises(LanguageError) as refused:
        parse(source, "water_meter", CATALOGUE)
    assert refused.value.column == column
    assert expected in refused.value.expected


def test_zone_expressions_speak_of_members_only_inside_zone_functions() -> None:
    parse("zone_count(lamp_commanded and power < 0.1 * facts.rated_power) >= 3", "streetlight", CATALOGUE, zone=True)
    for source in (
        "power > 1",
        "facts.rated_power > 1",
        "zone_sum(zone_sum(power)) > 1",
        "zone_sum(mean(power, '5m')) > 1",
    ):
        with pytest.raises(LanguageError):
            parse(source, "streetlight", CATALOGUE, zone=True)


def test_durations_read_and_print() -> None:
    assert [duration(text) for text in ("90s", "10m", "24h", "3d", "250ms")] == [
        90_000,
        600_000,
        86_400_000,
        259_200_000,
        250,
    ]
    assert [duration_text(value) for value in (90_000, 600_000, 86_400_000, 250, 0)] == [
        "90s",
        "10m",
        "1d",
        "250ms",
        "0ms",
    ]
    with pytest.raises(ValueError, match="such as 10m"):
        duration("ten minutes")
