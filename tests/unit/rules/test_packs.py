"""Packs: the shipped ones hold what they promise; wrong ones are named by file, line, column and what was expected."""

from pathlib import Path

import pytest

from devices.catalogue import load as load_catalogue
from devices.errors import ConfigError
from devices.profile import load_profiles
from rules import cases, pack
from rules.explain import explain

CATALOGUE = load_catalogue()
SHIPPED = pack.load(pack.shipped(), CATALOGUE)
RESULTS = cases.run_cases([pack.PACKS])

GOOD = """\
rule: t.high
title: {zh: 高, en: High}
applies_to: {family: water_meter}
when: flow_rate > 1
priority: high
explanation: {zh: "{value}", en: "{value:.1f}"}
advice: {zh: 看, en: look}
"""


def test_the_shipped_packs_have_no_finding() -> None:
    known: dict[str, set[str]] = {}
    for profile in load_profiles().values():
        known.setdefault(profile.family, set()).update(profile.facts)
    assert cases.lint([pack.PACKS], known) == []


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: f"{Path(r.path).stem}:{r.line}")
def test_a_shipped_case_passes(result: cases.CaseResult) -> None:
    assert result.passed, f"{result.name}\n{result.detail}"


def test_every_shipped_rule_has_a_case_that_expects_it() -> None:
    tested = "\n".join(path.read_text(encoding="utf-8") for path in pack.PACKS.glob("*.test.yaml"))
    assert [rule.id for rule in SHIPPED if f"rule: {rule.id}," not in tested] == []


def test_the_packs_cover_water_lighting_and_pipes() -> None:
    families = {rule.families[0] for rule in SHIPPED if len(rule.families) == 1}
    assert families == set(CATALOGUE.families)
    assert len(SHIPPED) >= 16


@pytest.mark.parametrize("rule", SHIPPED, ids=lambda r: r.id)
def test_a_rule_is_explained_in_both_languages(rule: pack.Rule) -> None:
    said = explain(rule, CATALOGUE)
    assert rule.title_en in said["en"]
    assert rule.title_zh in said["zh"]
    assert rule.advice_zh in said["zh"]
    assert len(said["en"].splitlines()) == len(said["zh"].splitlines()) == 5


@pytest.mark.parametrize(
    ("wrong", "place", "expected"),
    [
        (GOOD.replace("flow_rate > 1", "flow_rate > speed"), "4:19", "one of volume_total"),
        (GOOD.replace("flow_rate > 1", "'flow_rate > speed'"), "4:20", "one of volume_total"),
        (GOOD.replace("water_meter", "watermeter"), "3:22", "one of water_meter"),
        (GOOD.replace("priority: high", "priority: urgent"), "5:11", "'critical', 'high', 'medium' or 'low'"),
        (GOOD.replace("{value:.1f}", "{value.real}"), "6:35", "one of"),
        (GOOD.replace("{value:.1f}", "{speed}"), "6:35", "one of"),
        (GOOD.replace("{value:.1f}", "{value:{unit}}"), "6:35", "one of"),
        (GOOD + "on_delay: ten\n", "8:11", "such as 10m"),
        (GOOD + "on_delay: 10\n", "8:11", "such as 10m"),
        (GOOD + "on_delay: 99d\n", "8:11", "at most 31d"),
        (GOOD + "deadband: -1\n", "8:11", "5%"),
        (GOOD + "colour: red\n", "8:9", "Extra inputs"),
        (GOOD + "silence: cadence\n", "1:1", "exactly one of when, silence and gateway"),
        (GOOD.replace("rule: t.high", "rule: High"), "1:7", "pattern"),
        (GOOD.replace("when: flow_rate > 1\n", ""), "1:1", "exactly one"),
        (GOOD.replace("water_meter}", "water_meter, zone_kind: dma}"), "1:1", "window"),
        (GOOD + "---\n" + GOOD, "9:7", "expected a new name"),
        ("- a\n- b\n", "1:1", "a mapping"),
        ("rule: [\n", "2:1", "not YAML"),
        (GOOD + "advice: !!python/object/apply:os.system [id]\n", "1:1", "python/object"),
    ],
)
def test_a_wrong_pack_is_named_by_line_column_and_expectation(
    tmp_path: Path, wrong: str, place: str, expected: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(wrong, encoding="utf-8")
    findings = cases.lint([path])
    assert [str(f).startswith(f"{path}:{place}: error: ") for f in findings] == [True], findings
    assert expected in findings[0].message
    with pytest.raises(ConfigError, match=r"wrong\.yaml"):
        pack.load([path], CATALOGUE)


def test_a_fact_that_no_profile_has_is_a_warning_and_the_rule_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "doubtful.yaml"
    path.write_text(GOOD.replace("flow_rate > 1", "flow_rate > facts.q9"), encoding="utf-8")
    (finding,) = cases.lint([path], {"water_meter": {"q3"}})
    assert (finding.severity, finding.line) == ("warning", 4)
    assert [rule.id for rule in pack.load([path], CATALOGUE)] == ["t.high"]


def test_a_case_that_does_not_hold_says_what_was_missing_and_what_was_surplus(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "p.test.yaml").write_text(
        "case: wrong\ndevices: {m1: {family: water_meter}}\nseries: [{at: 1m, values: {flow_rate: 2}}]\nuntil: 2m\n"
        "expect: [{rule: t.high, at: 2m, state: UNACK}]\n",
        encoding="utf-8",
    )
    (result,) = cases.run_cases([tmp_path])
    assert not result.passed
    assert result.detail == "- t.high  UNACK at 2m\n+ t.high m1 UNACK at 1m paging"


@pytest.mark.parametrize(
    "text", ["case: [", "case: x\n", "case: x\ndevices: {m1: {family: cat}}\nuntil: 1m\nexpect: []\n"]
)
def test_an_unreadable_case_is_a_failed_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "p.test.yaml").write_text(text, encoding="utf-8")
    (result,) = cases.run_cases([tmp_path])
    assert not result.passed
    assert result.detail
