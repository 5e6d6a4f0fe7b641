"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from songhua.quantities import parse_duration


def duration(text: str) -> int:
    """An option such as `90s`, in ms."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Var: TypeAlias = Annotated[
    Path | None, typer.Option("--var", metavar="DIR", help="Data directory, wins over SONGHUA_VAR.", show_default=False)
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Broker: TypeAlias = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="mqtt://user:password@host:1883. Default: this city's broker."),
]
Register: TypeAlias = Annotated[
    bool | None,
    typer.Option("--register/--no-register", help="Register the devices first. Default: where the database answers."),
]
ExitAfter: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--exit-after",
        metavar="60s",
        parser=duration,
        help="Stop after this time; exit code 1 if anything was unhealthy at the end.",
        show_default=False,
    ),
]
