"""Who may come in: `songhua token create|list|revoke` for programs, `songhua token link` for people."""

import json
import time
from typing import Annotated

import typer

from songhua.commands.options import Json, Var, duration
from songhua.settings import load

app = typer.Typer(help="Tokens for programs, one-time login links for people.", no_args_is_help=True)

_Role = Annotated[str, typer.Option("--role", help="viewer, operator or admin.")]
_Districts = Annotated[
    list[str] | None,
    typer.Option("--district", help="Only this district (six digits, may be repeated). Default: the whole city."),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the audit trail will say.")],
    role: _Role = "viewer",
    district: _Districts = None,
    expires: Annotated[
        int | None,
        typer.Option("--expires", metavar="90d", parser=duration, help="Valid this long. Default: until revoked."),
    ] = None,
    var: Var = None,
) -> None:
    """Make a token and print it; it is shown only now."""
    from api.credentials import create_token
    from songhua.database import open_existing

    expires_at = None if expires is None else time.time_ns() // 1_000_000 + expires
    print(create_token(open_existing(load(var=var)), name, role, districts=district or None, expires_at=expires_at))


@app.command()
def link(
    name: Annotated[str, typer.Argument(help="What the audit trail will say.")] = "admin",
    role: _Role = "admin",
    district: _Districts = None,
    var: Var = None,
) -> None:
    """Print a link that opens the console once, within ten minutes."""
    from songhua.console import login_link
    from songhua.database import open_existing

    settings = load(var=var)
    print(login_link(settings, open_existing(settings), name, role, districts=district or None))


@app.command("list")
def list_(as_json: Json = False, var: Var = None) -> None:
    """List all tokens, the revoked ones included; never their secrets."""
    from api.credentials import list_tokens
    from rules.documents import rfc3339
    from songhua.database import open_existing

    records = list_tokens(open_existing(load(var=var)))
    rows = [
        {
            "id": record.id,
            "name": record.name,
            "role": str(record.role),
            "districts": None if record.districts is None else sorted(record.districts),
            "created_at": rfc3339(record.created_at),
            "expires_at": rfc3339(record.expires_at),
            "revoked_at": rfc3339(record.revoked_at),
        }
        for record in records
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        districts = "whole city" if row["districts"] is None else ",".join(row["districts"])
        end = f"revoked {row['revoked_at']}" if row["revoked_at"] else f"until {row['expires_at'] or 'revoked'}"
        print(f"{row['id']:<10}{row['name']:<24}{row['role']:<10}{districts:<16}{end}")


@app.command()
def revoke(name_or_id: Annotated[str, typer.Argument(metavar="NAME|ID")], var: Var = None) -> None:
    """Revoke a token and end its sessions; takes effect within 5 s."""
    from api.credentials import revoke_token
    from songhua.database import open_existing

    print(f"{revoke_token(open_existing(load(var=var)), name_or_id)} credentials ended")
