"""The command `songhua`. Only this module and `songhua.commands` know typer.

Exit codes: 0 done, 1 failed (or unhealthy, or not found), 2 a person must change something: one line on stderr says
what.
"""

import sys

import typer

from devices.errors import ConfigError, TransientError
from songhua.commands import inspection, processes, rules, tokens, traffic
from songhua.exit_codes import CONFIG, FAILED

app = typer.Typer(
    help="songhua: a sensing-network service for a city.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(processes.up)
app.command()(processes.ingest)
app.command()(processes.api)
app.command()(processes.broker)
app.command()(traffic.simulate)
app.command()(traffic.replay)
app.command()(inspection.status)
app.add_typer(inspection.quarantine, name="quarantine")
app.add_typer(rules.app, name="rules")
app.add_typer(tokens.app, name="token")


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except ConfigError as error:
        print(f"songhua: {error}", file=sys.stderr)
        sys.exit(CONFIG)
    except TransientError as error:
        print(f"songhua: {error}", file=sys.stderr)
        sys.exit(FAILED)
