"""Tables of the api room: who may come in (tokens, login codes, sessions) and what was done (the audit trail).

No secret is stored: `hash` is the SHA-256 (hex) of a random secret of 256 bits, which needs no salt and no slow hash.
`districts` is a JSON list of GB/T 2260 codes, or null for the whole city. Times are ms since the epoch, UTC.
"""

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, text

from storage.metadata import metadata

_LIVING = text("revoked_at IS NULL")

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),  # public: names the token in lists and in the audit trail
    Column("hash", String(64), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("role", String(8), nullable=False),  # viewer | operator | admin
    Column("districts", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # null: until revoked
    Column("revoked_at", BigInteger),
    Index("uq_tokens_living_name", "name", unique=True, sqlite_where=_LIVING, postgresql_where=_LIVING),
)

# Short-lived and single use: `used_at` is set by the update that redeems the code.
login_codes = Table(
    "login_codes",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(8), nullable=False),
    Column("districts", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)

# What the console's cookie names. A session opened with a token ends with it.
sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("token", String(16), index=True),  # tokens.id; null for a session opened with a login code
    Column("name", String(64), nullable=False),
    Column("role", String(8), nullable=False),
    Column("districts", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("ix_sessions_name", "name"),
)

# Append only: one row for each login, refused login, action on an alarm, and change of a token.
audit_trail = Table(
    "audit_trail",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("actor", String(64), nullable=False),
    Column("address", String(64), nullable=False, default=""),  # of the client; empty for the command line
    Column("action", String(32), nullable=False),  # see `api.audit.AuditedAction`
    Column("subject", String(96), nullable=False, default=""),
    Column("outcome", String(8), nullable=False),  # done | refused
    Column("detail", JSON, nullable=False, default=dict),
    sqlite_autoincrement=True,
)
