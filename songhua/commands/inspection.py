"""Looking at a running city: `songhua status`, `songhua quarantine list|show`."""

import json
import sys
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from songhua import exit_codes
from songhua.commands.options import Json, Var
from songhua.settings import load
from storage.verdicts import Outcome

quarantine = typer.Typer(help="Messages that became no reading, and why.", no_args_is_help=True)

_Conflicts = Annotated[
    bool, typer.Option("--conflicts", help="Readings that another one of the same time overwrote, instead.")
]
_LOCAL = ZoneInfo("Asia/Shanghai")


def status(as_json: Json = False, var: Var = None) -> None:
    """Show counters and health; exit code 1 unless all is well."""
    from songhua.database import open_existing
    from songhua.status import read

    settings = load(var=var)
    document = read(open_existing(settings))
    if as_json:
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        for line in _lines(document, settings.language):
            print(line)
    sys.exit(exit_codes.DONE if document["health"]["state"] == "ok" else exit_codes.FAILED)


def _lines(document: dict[str, Any], language: str) -> list[str]:
    lines = [f"health              {document['health']['state']}"]
    lines += [f"                    {reason[language]}" for reason in document["health"]["reasons"]]
    for name, value in document.items():
        if name == "quarantined_by_reason":
            lines += [f"  {reason:<18}{count:>12,}" for reason, count in sorted((value or {}).items())]
        elif name != "health":
            lines.append(f"{name:<20}{_figure(value):>12}")
    return lines


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


@quarantine.command("list")
def quarantine_list(
    reason: Annotated[str | None, typer.Option(help="Only this reason, such as malformed.")] = None,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    conflicts: _Conflicts = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, newest first.")] = 20,
    as_json: Json = False,
    var: Var = None,
) -> None:
    """List quarantined messages, newest first; the first column is what `show` takes."""
    from songhua.database import open_existing
    from songhua.quarantine import newest

    settings = load(var=var)
    outcome: Outcome = "conflict" if conflicts else "quarantined"
    verdicts = newest(open_existing(settings), reason=reason, device=device, limit=limit, outcome=outcome)
    if as_json:
        print(json.dumps([verdict.as_json() for verdict in verdicts], ensure_ascii=False, indent=2))
        return
    for verdict in verdicts:
        print(f"{verdict.key:<14} {_time(verdict.received_at)}  {verdict.reason:<18} {verdict.topic}  {verdict.detail}")


@quarantine.command("show")
def quarantine_show(
    key: Annotated[str, typer.Argument(help="PARTITION/SEQUENCE/ELEMENT as printed by `quarantine list`.")],
    conflicts: _Conflicts = False,
    as_json: Json = False,
    var: Var = None,
) -> None:
    """Show one quarantined message whole, with its payload."""
    from songhua.database import open_existing
    from songhua.quarantine import find

    verdict = find(open_existing(load(var=var)), key, "conflict" if conflicts else "quarantined")
    if verdict is None:
        print(f"songhua: nothing is quarantined under {key}", file=sys.stderr)
        sys.exit(exit_codes.FAILED)
    if as_json:
        print(json.dumps(verdict.as_json(), ensure_ascii=False, indent=2))
        return
    for name, value in verdict.as_json().items():
        print(f"{name:<12}{_time(value) if name == 'received_at' else value}")


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, _LOCAL).isoformat(sep=" ", timespec="milliseconds")
