"""The terminal under `songhua up`: a live summary on a terminal, plain lines elsewhere.

Both show the same `Outlook`: messages per second, stored, quarantined, lost, lags, active alarms with the newest ones,
the health of the service and of each process, and the console's address. Nothing here reads anything; the caller
passes what it has read.
"""

import sys
import termios
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from songhua.outlook import Outlook

if TYPE_CHECKING:
    from rich.console import RenderableType

_LOCAL = ZoneInfo("Asia/Shanghai")
_PLAIN_EVERY = 5_000  # ms
_PRIORITY_STYLE = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}
_HEALTH_STYLE = {"ok": "bold green", "degraded": "bold yellow", "down": "bold red"}


class Terminal(Protocol):
    """Where a person sees what happens; `say` is for a line that stays, `show` for the present state."""

    def say(self, source: str, line: str) -> None:
        """A line from the process `source`."""

    def show(self, outlook: Outlook) -> None:
        """Replace or repeat the summary."""

    def close(self) -> None:
        """Leave the terminal in good order."""


def open_terminal(language: str) -> Terminal:
    """The live summary where stdout is a terminal, plain lines elsewhere."""
    return LiveTerminal(language) if sys.stdout.isatty() else PlainTerminal(language)


class PlainTerminal:
    """One line every few seconds, for logs and scripts."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._shown_at = 0

    def say(self, source: str, line: str) -> None:
        print(f"{source}: {line}", flush=True)

    def show(self, outlook: Outlook) -> None:
        if outlook.at - self._shown_at < _PLAIN_EVERY:
            return
        self._shown_at = outlook.at
        print(plain_line(outlook, self._language), flush=True)

    def close(self) -> None:
        """Nothing to restore."""


class LiveTerminal:
    """A summary that renews itself in place; lines that stay scroll above it."""

    def __init__(self, language: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._language = language
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._echo = _silence_control_echo()
        self._live.start()

    def say(self, source: str, line: str) -> None:
        from rich.text import Text

        self._console.print(Text.assemble((f"{source}: ", "dim"), line))

    def show(self, outlook: Outlook) -> None:
        self._live.update(render(outlook, self._language), refresh=True)

    def close(self) -> None:
        self._live.stop()
        if self._echo is not None:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, self._echo)


def plain_line(outlook: Outlook, language: str) -> str:
    """The summary in one line, with the reasons where it is not healthy."""
    document = outlook.document
    parts = [
        f"{_rate(outlook)} msg/s",
        *(f"{name} {_count(document[name])}" for name in ("stored", "quarantined", "lost", "pending")),
        f"alarms {_count(document['alarms_active'])}",
        f"devices {_count(document['devices'])}",
        f"health {outlook.health}",
    ]
    reasons = "; ".join(reason[language] for reason in document["health"]["reasons"])
    return ", ".join(parts) + (f" ({reasons})" if reasons else "")


def render(outlook: Outlook, language: str) -> "RenderableType":
    """The summary as rich draws it."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    document = outlook.document
    figures = Table.grid(padding=(0, 3))
    for _ in range(4):
        figures.add_column(justify="right")
        figures.add_column(justify="left", style="dim")
    cells = [
        (_rate(outlook), "messages/s"),
        (_count(document["stored"]), "stored"),
        (_count(document["quarantined"]), "quarantined"),
        (_count(document["lost"]), "lost"),
        (_count(document["devices"]), "devices"),
        (_count(document["gateways_online"]), "gateways online"),
        (_seconds(document["store_lag_s"]), "store lag"),
        (_seconds(document["rules_lag_s"]), "rules lag"),
    ]
    for row in (cells[:4], cells[4:]):
        figures.add_row(*(text for cell in row for text in cell))

    health = Text.assemble("health ", (outlook.health, _HEALTH_STYLE[outlook.health]))
    for name, state in outlook.processes.items():
        health.append(f"   {name} {state}", style="dim" if state == "running" else "yellow")
    lines = [health, *(Text(reason[language], style="yellow") for reason in document["health"]["reasons"])]

    rows = Table.grid(padding=(0, 2))
    for alarm in outlook.newest:
        rows.add_row(
            datetime.fromtimestamp(alarm.raised_at / 1000, _LOCAL).strftime("%H:%M:%S"),
            Text(alarm.priority, style=_PRIORITY_STYLE.get(alarm.priority, "")),
            alarm.title[language],
            Text(alarm.subject, style="dim"),
            Text(alarm.state, style="dim"),
        )
    active = Text(f"{_count(document['alarms_active'])} active alarms", style="bold")
    unseen = Text(f", {_count(document['alarms_unacknowledged'])} unacknowledged")
    address = Text.assemble("console ", (outlook.console, "bold"), ("   Ctrl-C stops", "dim"))
    return Panel(Group(figures, Text(), *lines, Text(), active + unseen, rows, Text(), address), title="songhua 松花")


def _silence_control_echo() -> list[Any] | None:
    """Keep the terminal from drawing `^C` into the summary; returns what to restore."""
    if not sys.stdin.isatty():
        return None
    before = termios.tcgetattr(sys.stdin)
    quiet = [*before]
    quiet[3] &= ~termios.ECHOCTL
    termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
    return before


def _rate(outlook: Outlook) -> str:
    return "-" if outlook.rate is None else f"{outlook.rate:,.0f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} s"
