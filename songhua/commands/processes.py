"""`songhua up` and the single processes that it runs."""

import sys

from songhua.commands.options import ExitAfter, Var
from songhua.settings import load


def up(demo: bool = False, exit_after: ExitAfter = None, var: Var = None) -> None:
    """Run the whole service: broker (unless one is set), ingest and rules, API, console; --demo adds a city."""
    from songhua.up import run

    sys.exit(run(load(var=var), demo=demo, exit_after=exit_after))


def broker(var: Var = None) -> None:
    """Run the embedded broker alone (for a laptop; production names a real one in SONGHUA_BROKER_URL)."""
    _run("broker", var)


def ingest(var: Var = None) -> None:
    """Run ingest and rules alone."""
    _run("ingest", var)


def api(var: Var = None) -> None:
    """Run the API and the console alone."""
    _run("api", var)


def _run(name: str, var: Var) -> None:
    from songhua.process import run

    sys.exit(run(name, load(var=var)))
