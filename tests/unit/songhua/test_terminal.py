"""The terminal summary: what it shows of an outlook, live and as plain lines."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import insert

from rules.tables import alarms
from songhua import heartbeat, migrations
from songhua.outlook import AlarmLine, Observer, Outlook
from songhua.terminal import PlainTerminal, plain_line, render
from storage.metadata import open_engine

DOCUMENT: dict[str, Any] = {
    "received": 12_500,
    "stored": 12_345,
    "quarantined": 7,
    "lost": 0,
    "pending": 3,
    "store_lag_s": 0.25,
    "rules_lag_s": None,
    "alarms_active": 2,
    "alarms_unacknowledged": 1,
    "devices": 560,
    "gateways_online": 12,
    "health": {"state": "degraded", "reasons": [{"code": "disk", "zh": "磁盘将满", "en": "the disk is nearly full"}]},
}
OUTLOOK = Outlook(
    at=1_767_225_600_000,
    document=DOCUMENT,
    rate=41.7,
    newest=(AlarmLine(1_767_225_600_000, "critical", "UNACK", {"zh": "表后爆管", "en": "Burst"}, "wm-230102-0001"),),
    processes={"ingest": "running", "api": "restarting"},
    console="http://127.0.0.1:8080/login#code=abc",
)


def drawn(outlook: Outlook, language: str) -> str:
    console = Console(width=110, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(render(outlook, language))
    return capture.get()


@pytest.mark.parametrize(
    ("language", "title", "reason"), [("zh", "表后爆管", "磁盘将满"), ("en", "Burst", "nearly full")]
)
def test_the_summary_shows_figures_alarms_health_and_the_way_in(language: str, title: str, reason: str) -> None:
    text = drawn(OUTLOOK, language)
    for expected in ("42 messages/s", "12,345", "0.2 s", "degraded", "api restarting", "08:00:00", OUTLOOK.console):
        assert expected.replace(" messages/s", "") in text
    assert title in text and reason in text
    assert "messages/s" in text and "2 active alarms" in text and "1 unacknowledged" in text


def test_a_plain_line_has_the_figures_and_the_reasons() -> None:
    line = plain_line(OUTLOOK, "en")
    assert "42 msg/s, stored 12,345, quarantined 7, lost 0, pending 3, alarms 2" in line
    assert line.endswith("health degraded (the disk is nearly full)")


def test_unknown_figures_are_dashes() -> None:
    nothing = Outlook(at=0, document=DOCUMENT | dict.fromkeys(("stored", "lost", "alarms_active"), None))
    assert "- msg/s, stored -, quarantined 7, lost -" in plain_line(nothing, "zh")


def test_plain_lines_come_every_few_seconds_and_messages_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = PlainTerminal("en")
    for second in range(7):
        terminal.show(Outlook(at=OUTLOOK.at + second * 1000, document=DOCUMENT))
    terminal.say("ingest", "was ended by SIGKILL")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1] == "ingest: was ended by SIGKILL"


def test_the_observer_sees_rates_and_only_active_alarms(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    migrations.upgrade(engine)
    with engine.begin() as connection:
        for number, state in enumerate(("UNACK", "ACKED", "RTNUN", "NORM")):
            connection.execute(insert(alarms).values(alarm_row(f"alarm-{number}", state, raised_at=number)))
    observer = Observer(engine)
    heartbeat.publish(engine, "ingest", {"journalled": 100, "received": 900, "health": {"state": "ok", "reasons": []}})
    first = observer.look({}, "", now=10_000)
    heartbeat.publish(engine, "ingest", {"journalled": 180, "received": 1700, "health": {"state": "ok", "reasons": []}})
    second = observer.look({"ingest": "running"}, "http://x", now=12_000)
    assert first.rate is None and second.rate == 40.0
    assert [line.subject for line in second.newest] == ["alarm-1", "alarm-0"]
    assert second.console == "http://x" and second.processes == {"ingest": "running"}


def alarm_row(name: str, state: str, raised_at: int) -> dict[str, Any]:
    return {
        "id": name,
        "rule": "wm.burst",
        "subject_kind": "device",
        "subject_id": name,
        "district": "230102",
        "priority": "critical",
        "state": state,
        "version": 1,
        "raised_at": raised_at,
        "title_zh": "表后爆管",
        "title_en": "Burst",
        "evidence": {},
        "explanation_zh": "",
        "explanation_en": "",
        "updated_at": raised_at,
    }
