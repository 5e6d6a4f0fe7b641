"""Credentials: tokens for programs, one-time login codes and sessions for people (ADR 11).

Receives an engine, gives secrets once and never again: only their SHA-256 is stored. Plain blocking functions, one
short transaction each, used by the routes (in worker threads) and by the command line. Wrong arguments raise
`ConfigError`.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Engine, and_, delete, insert, or_, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError

from api.audit import AuditedAction, record
from api.clock import wall_clock
from api.tables import login_codes, sessions, tokens
from devices.errors import ConfigError
from devices.model import Milliseconds

CODE_LIFETIME = 10 * 60_000
SESSION_LIFETIME = 12 * 3_600_000
_KEPT_AFTER_EXPIRY = 7 * 24 * 3_600_000
_COMMAND_LINE = "command line"


class Role(StrEnum):
    """What a person may do; each role includes the ones before it."""

    viewer = "viewer"
    operator = "operator"
    admin = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Principal:
    """Who is asking. `districts` None means the whole city; `credential` is the hash of the secret that was shown."""

    name: str
    role: Role
    districts: frozenset[str] | None
    expires_at: Milliseconds | None
    credential: str
    kind: Literal["token", "session"]

    def sees(self, district: str) -> bool:
        """Whether things of this district may be shown."""
        return self.districts is None or district in self.districts


@dataclass(frozen=True)
class TokenRecord:
    """A token as listed: everything but its secret. Times in ms since the epoch."""

    id: str
    name: str
    role: Role
    districts: frozenset[str] | None
    created_at: Milliseconds
    expires_at: Milliseconds | None
    revoked_at: Milliseconds | None


def fingerprint(secret: str) -> str:
    """The hash under which a secret is stored."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def create_token(
    engine: Engine,
    name: str,
    role: Role | str,
    *,
    districts: Iterable[str] | None = None,
    expires_at: Milliseconds | None = None,
    actor: str = _COMMAND_LINE,
    now: Milliseconds | None = None,
) -> str:
    """A new token (`shg_` and 43 characters). Living tokens never share a name: a name in the trail is one token."""
    now = wall_clock() if now is None else now
    holder = _holder(name, role, districts)
    secret = f"shg_{secrets.token_urlsafe(32)}"
    token = secrets.token_hex(4)
    detail = holder | {"expires_at": expires_at}
    row = detail | {"id": token, "hash": fingerprint(secret), "created_at": now}
    try:
        with engine.begin() as connection:
            connection.execute(insert(tokens).values(row))
            record(connection, AuditedAction.token_create, at=now, actor=actor, subject=token, detail=detail)
    except IntegrityError as error:
        raise ConfigError(f"token {name!r} exists; revoke it first or choose another name") from error
    return secret


def list_tokens(engine: Engine) -> list[TokenRecord]:
    """All tokens, the revoked ones included, oldest first."""
    columns = [tokens.c[name] for name in TokenRecord.__dataclass_fields__]
    with engine.connect() as connection:
        rows = connection.execute(select(*columns).order_by(tokens.c.created_at, tokens.c.id)).mappings().all()
    return [
        TokenRecord(**{**row, "role": Role(row["role"]), "districts": _districts(row["districts"])}) for row in rows
    ]


def revoke_token(
    engine: Engine, name_or_id: str, *, actor: str = _COMMAND_LINE, now: Milliseconds | None = None
) -> int:
    """Revoke the living token of this name or id, its sessions, and sessions that login codes of this name opened.

    Returns how many credentials ended. It takes effect everywhere within 5 s. Raises `ConfigError` where nothing lives.
    """
    now = wall_clock() if now is None else now
    with engine.begin() as connection:
        chosen = and_(or_(tokens.c.name == name_or_id, tokens.c.id == name_or_id), tokens.c.revoked_at.is_(None))
        ids = list(connection.scalars(select(tokens.c.id).where(chosen)))
        connection.execute(update(tokens).where(tokens.c.id.in_(ids)).values(revoked_at=now))
        of_name = and_(sessions.c.token.is_(None), sessions.c.name == name_or_id)
        living = and_(sessions.c.ended_at.is_(None), sessions.c.expires_at > now)
        ended = connection.execute(
            update(sessions).where(living, or_(sessions.c.token.in_(ids), of_name)).values(ended_at=now)
        ).rowcount
        if not ids and not ended:
            raise ConfigError(f"no living token or session {name_or_id!r}")
        detail = {"tokens": ids, "sessions": ended}
        record(connection, AuditedAction.token_revoke, at=now, actor=actor, subject=name_or_id, detail=detail)
    return len(ids) + ended


def create_login_code(
    engine: Engine,
    name: str,
    role: Role | str,
    *,
    districts: Iterable[str] | None = None,
    lifetime: Milliseconds = CODE_LIFETIME,
    actor: str = _COMMAND_LINE,
    now: Milliseconds | None = None,
) -> str:
    """A code that opens one session within `lifetime` ms.

    Put it into the fragment of a link (`/login#code=...`): fragments reach neither logs nor Referer headers.
    """
    now = wall_clock() if now is None else now
    holder = _holder(name, role, districts)
    code = secrets.token_urlsafe(32)
    with engine.begin() as connection:
        connection.execute(
            insert(login_codes).values(hash=fingerprint(code), created_at=now, expires_at=now + lifetime, **holder)
        )
        record(connection, AuditedAction.code_create, at=now, actor=actor, subject=name, detail=holder)
    return code


def open_session(
    engine: Engine, *, code: str | None = None, token: str | None = None, address: str, now: Milliseconds
) -> tuple[str, Principal] | None:
    """Redeem a login code or a token: the session's secret and its holder, or None (recorded as a refused login)."""
    with engine.begin() as connection:
        connection.execute(delete(sessions).where(sessions.c.expires_at < now - _KEPT_AFTER_EXPIRY))
        connection.execute(delete(login_codes).where(login_codes.c.expires_at < now - _KEPT_AFTER_EXPIRY))
        holder: RowMapping | None = None
        if code is not None:
            mine = login_codes.c.hash == fingerprint(code)
            fresh = and_(mine, login_codes.c.used_at.is_(None), login_codes.c.expires_at > now)
            if connection.execute(update(login_codes).where(fresh).values(used_at=now)).rowcount == 1:
                columns = (login_codes.c.name, login_codes.c.role, login_codes.c.districts)
                holder = connection.execute(select(*columns).where(mine)).mappings().one()
        elif token is not None:
            holder = (
                connection.execute(select(tokens).where(_living_token(fingerprint(token), now)))
                .mappings()
                .one_or_none()
            )
        if holder is None:
            detail = {"with": "code" if code is not None else "token"}
            record(connection, AuditedAction.login, at=now, actor="", address=address, outcome="refused", detail=detail)
            return None
        secret = secrets.token_urlsafe(32)
        expires_at = now + SESSION_LIFETIME
        if token is not None and holder["expires_at"] is not None:
            expires_at = min(expires_at, holder["expires_at"])
        connection.execute(
            insert(sessions).values(
                hash=fingerprint(secret),
                token=holder["id"] if token is not None else None,
                name=holder["name"],
                role=holder["role"],
                districts=holder["districts"],
                created_at=now,
                expires_at=expires_at,
            )
        )
        record(connection, AuditedAction.login, at=now, actor=holder["name"], address=address)
    return secret, _principal(holder, expires_at, fingerprint(secret), "session")


def end_session(engine: Engine, principal: Principal, *, address: str, now: Milliseconds) -> None:
    """End the session that `principal` came with."""
    with engine.begin() as connection:
        connection.execute(update(sessions).where(sessions.c.hash == principal.credential).values(ended_at=now))
        record(connection, AuditedAction.logout, at=now, actor=principal.name, address=address)


def identify(engine: Engine, credential: str, kind: Literal["token", "session"], now: Milliseconds) -> Principal | None:
    """The holder of the secret with this hash, None if it is unknown, expired, ended or revoked."""
    with engine.connect() as connection:
        if kind == "token":
            row = connection.execute(select(tokens).where(_living_token(credential, now))).mappings().one_or_none()
        else:
            parent = or_(sessions.c.token.is_(None), and_(tokens.c.revoked_at.is_(None), tokens.c.id.is_not(None)))
            living = and_(sessions.c.hash == credential, sessions.c.ended_at.is_(None), sessions.c.expires_at > now)
            joined = sessions.outerjoin(tokens, sessions.c.token == tokens.c.id)
            row = (
                connection.execute(select(sessions).select_from(joined).where(living, parent)).mappings().one_or_none()
            )
    return None if row is None else _principal(row, row["expires_at"], credential, kind)


def _living_token(credential: str, now: Milliseconds) -> Any:
    unexpired = or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
    return and_(tokens.c.hash == credential, tokens.c.revoked_at.is_(None), unexpired)


def _principal(
    row: RowMapping, expires_at: Milliseconds | None, credential: str, kind: Literal["token", "session"]
) -> Principal:
    return Principal(row["name"], Role(row["role"]), _districts(row["districts"]), expires_at, credential, kind)


def _districts(stored: Sequence[str] | None) -> frozenset[str] | None:
    return None if stored is None else frozenset(stored)


def _holder(name: str, role: Role | str, districts: Iterable[str] | None) -> dict[str, Any]:
    """The columns that every credential has; raises `ConfigError` for what cannot be right."""
    if not (0 < len(name) <= 64) or not name.isprintable():
        raise ConfigError(f"name {name!r}: expected 1 to 64 printable characters")
    if role not in list(Role):
        raise ConfigError(f"role {role!r}: expected one of {', '.join(Role)}")
    codes = None if districts is None else sorted(set(districts))
    for code in codes or ():
        if not re.fullmatch(r"[0-9]{6}", code):
            raise ConfigError(f"district {code!r}: expected the six digits of GB/T 2260, such as 230102")
    return {"name": name, "role": str(role), "districts": codes}
