"""ISA-18.2 states as people and conditions move an alarm through them."""

from pathlib import Path

import pytest

from rules.engine import Engine
from rules.model import State, Transition
from tests.unit.rules.engine_world import (
    CATALOGUE,
    HOUR,
    MINUTE,
    action,
    at,
    batch,
    device,
    play,
    reading,
    registry,
    rule,
    rules,
)

NOW = rule("t.now", "flow_rate > 2")
CRITICAL = rule("t.critical", "flow_rate > 2", priority="critical")


def raised(tmp_path: Path, text: str = NOW) -> tuple[Engine, Transition]:
    engine = Engine(rules(tmp_path, text), CATALOGUE, registry([device()]))
    (transition,) = engine.process(batch(reading(device(), 0, flow_rate=3)))
    return engine, transition


def flow(engine: Engine, second: float, value: float) -> list[Transition]:
    return engine.process(batch(reading(device(), second, flow_rate=value)))


def path(*transitions: Transition) -> list[tuple[str, str, str]]:
    return [(t.cause, str(t.from_state), str(t.to_state)) for t in transitions]


def test_acknowledge_then_return_ends_the_episode(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    answer, acked = engine.apply(action("acknowledge", first, note="on my way"), at(30))
    assert answer is None
    assert path(*acked, *flow(engine, 60, 1)) == [("acknowledge", "UNACK", "ACKED"), ("return", "ACKED", "NORM")]
    assert (acked[0].alarm.acked_by, acked[0].alarm.acked_at, acked[0].note) == ("li", at(30), "on my way")
    assert not engine.active


def test_return_then_acknowledge_ends_the_episode(tmp_path: Path) -> None:
    engine, _ = raised(tmp_path)
    returned = flow(engine, 60, 1)
    assert path(*returned) == [("return", "UNACK", "RTNUN")]
    assert path(*engine.apply(action("acknowledge", returned[0]), at(90))[1]) == [("acknowledge", "RTNUN", "NORM")]
    assert not engine.active


def test_raised_again_before_acknowledgement_stays_in_the_episode(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    again = [*flow(engine, 60, 1), *flow(engine, 120, 3)]
    assert path(*again) == [("return", "UNACK", "RTNUN"), ("reraise", "RTNUN", "UNACK")]
    assert again[1].alarm.id == first.alarm.id
    assert (again[1].alarm.occurrences, again[1].alarm.raised_at, again[1].alarm.returned_at) == (2, at(0), None)


def test_raised_again_after_the_end_is_a_new_episode(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    engine.apply(action("acknowledge", first), at(30))
    flow(engine, 60, 1)
    (second,) = flow(engine, 120, 3)
    assert second.alarm.id != first.alarm.id
    assert (second.cause, second.alarm.version) == ("raise", 1)


def test_the_condition_of_an_ended_episode_found_to_have_lasted_continues_it_under_its_key(tmp_path: Path) -> None:
    """Several values of one second: the alarm that begins at that second is one alarm, whoever denied it meanwhile."""
    engine, first = raised(tmp_path)
    acked = engine.apply(action("acknowledge", first), at(0))[1]
    back = flow(engine, 0, 1)
    restored = Engine(rules(tmp_path, NOW), CATALOGUE, registry([device()]))
    restored.restore(engine.snapshot())
    for each in (engine, restored):
        again = flow(each, 0, 3)
        whole = [first, *acked, *back, *again]
        assert path(*whole) == [
            ("raise", "NORM", "UNACK"),
            ("acknowledge", "UNACK", "ACKED"),
            ("return", "ACKED", "NORM"),
            ("reraise", "NORM", "UNACK"),
        ]
        assert len({t.alarm.id for t in whole}) == 1
        assert [t.alarm.version for t in whole] == [1, 2, 3, 4]
        assert (again[0].alarm.acked_at, again[0].alarm.occurrences, again[0].notify) == (None, 2, True)
        assert path(*each.apply(action("acknowledge", again[0]), at(95))[1]) == [("acknowledge", "UNACK", "ACKED")]


def test_flapping_pages_five_times_an_hour_and_counts_the_rest(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    transitions = [first]
    for number in range(1, 10):
        transitions += flow(engine, number * 120 - 60, 1) + flow(engine, number * 120, 3)
    raises = [t for t in transitions if t.cause in ("raise", "reraise")]
    assert [t.notify for t in raises] == [True] * 5 + [False] * 5
    assert raises[-1].alarm.occurrences == 10


def test_a_version_that_has_moved_on_refuses_decisions_but_takes_comments(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    flow(engine, 60, 1)
    for kind in ("acknowledge", "shelve"):
        answer, transitions = engine.apply(action(kind, first, reason="works", until=at(600)), at(70))
        assert answer is not None
        assert "version 2" in answer
        assert transitions == []
    answer, transitions = engine.apply(action("comment", first, note="seen"), at(71))
    assert answer is None
    assert [(t.cause, t.note, t.alarm.version, t.notify) for t in transitions] == [("comment", "seen", 3, False)]


def test_shelving_hides_the_alarm_until_its_end(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    answer, shelved = engine.apply(action("shelve", first, reason="pipe works", until=at(600)), at(10))
    assert answer is None
    assert (shelved[0].alarm.shelved_until, shelved[0].alarm.shelve_reason) == (at(600), "pipe works")
    quiet = [*flow(engine, 60, 1), *flow(engine, 120, 3)]
    assert path(*shelved, *quiet) == [
        ("shelve", "UNACK", "SHLVD"),
        ("return", "SHLVD", "SHLVD"),
        ("reraise", "SHLVD", "SHLVD"),
    ]
    assert not any(t.notify for t in quiet)
    over = play(engine, [], 605, start=590)
    assert path(*over) == [("unshelve", "SHLVD", "UNACK")]
    assert over[0].notify


def test_a_shelved_alarm_that_has_returned_ends_with_its_shelf(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    engine.apply(action("shelve", first, reason="works", until="2026-01-01T08:10:00+08:00"), at(10))
    flow(engine, 60, 1)
    assert path(*play(engine, [], 605, start=590)) == [("unshelve", "SHLVD", "NORM")]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"until": at(600)}, "reason"),
        ({"until": at(600), "reason": "  "}, "reason"),
        ({"reason": "works"}, "end"),
        ({"reason": "works", "until": at(5)}, "future"),
        ({"reason": "works", "until": "tomorrow"}, "end"),
        ({"reason": "works", "until": at(0) + 9 * HOUR}, "8 h"),
    ],
)
def test_shelving_a_critical_alarm_needs_a_reason_and_an_end_within_eight_hours(
    tmp_path: Path, arguments: dict[str, object], why: str
) -> None:
    engine, first = raised(tmp_path, CRITICAL)
    answer, transitions = engine.apply(action("shelve", first, **arguments), at(10))
    assert answer is not None
    assert why in answer
    assert transitions == []


def test_unshelving_by_a_person_brings_the_alarm_back(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    acked = engine.apply(action("acknowledge", first), at(5))[1][0]
    shelved = engine.apply(action("shelve", acked, reason="works", until=at(0) + HOUR), at(10))[1][0]
    assert path(*engine.apply(action("unshelve", shelved), at(20))[1]) == [("unshelve", "SHLVD", "ACKED")]


def test_assign_and_verdict_are_recorded(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    assigned = engine.apply(action("assign", first, assignee="wang"), at(5))[1][0]
    judged = engine.apply(action("verdict", first, verdict="false_alarm"), at(6))[1][0]
    assert (judged.alarm.assignee, judged.alarm.verdict) == ("wang", "false_alarm")
    assert assigned.notify
    answer, _ = engine.apply(action("verdict", first, verdict="maybe"), at(7))
    assert answer is not None
    assert "false_alarm" in answer


def test_a_verdict_reaches_an_alarm_that_is_over(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    acked = engine.apply(action("acknowledge", first), at(5))[1][0]
    flow(engine, 60, 1)
    answer, transitions = engine.apply(action("verdict", acked, verdict="fixed"), at(0) + 5 * MINUTE)
    assert answer is None
    assert [(t.cause, t.to_state, t.alarm.verdict, t.alarm.version) for t in transitions] == [
        ("verdict", State.NORM, "fixed", 4)
    ]
    assert engine.apply(action("acknowledge", acked, seen=4), at(400))[0] is not None


def test_an_unknown_alarm_is_refused_in_words(tmp_path: Path) -> None:
    engine, first = raised(tmp_path)
    first.alarm.id = "0" * 32
    answer, transitions = engine.apply(action("acknowledge", first), at(5))
    assert answer is not None
    assert "no such alarm" in answer
    assert transitions == []


def test_evidence_shows_what_made_it_fire(tmp_path: Path) -> None:
    """The hold was over at 160 s, before the reading at 180 s."""
    text = rule("t.high", "valve_state == 'closed' and flow_rate > 0.8 * facts.q3", "on_delay: 100s")
    engine = Engine(rules(tmp_path, text), CATALOGUE, registry([device()]))
    items = [
        reading(device(), t, valve_state="closed", flow_rate=f) for t, f in ((0, 1.0), (60, 2.5), (120, 2.75), (180, 3))
    ]
    (transition,) = engine.process(batch(*items))
    alarm = transition.alarm
    assert alarm.evidence == {
        "property": "flow_rate",
        "operator": ">",
        "value": 2.75,
        "unit": "m3/h",
        "setpoint": 2.0,
        "window": None,
        "duration": 100_000,
        "values": {"valve_state": "closed", "flow_rate": 2.75, "q3": 2.5},
        "samples": [[at(0), 1.0], [at(60), 2.5], [at(120), 2.75]],
    }
    assert alarm.explanation_en == "2.75 against 2"
    assert (alarm.lon, alarm.lat, alarm.gateway, alarm.district) == (126.53, 45.8, "g1", "230102")


def test_samples_of_a_long_hold_stay_bounded(tmp_path: Path) -> None:
    engine = Engine(rules(tmp_path, rule("t.high", "flow_rate > 2", "on_delay: 5h")), CATALOGUE, registry([device()]))
    items = [reading(device(), t * 60, flow_rate=3) for t in range(301)]
    (transition,) = engine.process(batch(*items))
    samples = transition.alarm.evidence["samples"]
    assert len(samples) <= 60
    assert (samples[0][0], samples[-1][0]) == (at(0), at(299 * 60))
