"""The schema of the relational database and how it moves: Alembic revisions over every room's tables.

Each process that uses the database calls `upgrade` at its start. The usual case, a database that is up to date, costs
one query and no Alembic. Two processes may start at once: the first holds a lock of the database while it migrates,
the second then finds nothing to do. A database that is newer than this code, and a file that is none, are refused with
`ConfigError`; one that does not answer raises `TransientError`.
"""

from sqlalchemy import Connection, Engine, MetaData, inspect, text
from sqlalchemy.exc import DBAPIError

from devices.errors import ConfigError, TransientError

HEAD = "0001"
"""The newest revision in `versions/`; a test compares them."""

_LOCK = 0x536F6E67  # of PostgreSQL's advisory locks
_UNUSABLE = ("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_READONLY")  # a person must act


def upgrade(engine: Engine) -> None:
    """Bring the database to `HEAD`; blocking, safe to call from several processes at once."""
    try:
        with engine.connect() as connection:
            current = revision(connection)
        if current == HEAD:
            return
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if revision(connection) != HEAD:
                _migrate(connection)
            connection.commit()
    except DBAPIError as error:
        if getattr(error.orig, "sqlite_errorname", "") in _UNUSABLE:
            raise ConfigError(f"relational database {engine.url.database}: {error.orig}") from error
        raise TransientError(f"the database does not answer: {error.orig}") from error


def revision(connection: Connection) -> str | None:
    """The revision that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def metadata() -> MetaData:
    """`storage.metadata` with the tables of every room declared on it."""
    from importlib import import_module

    from storage.metadata import metadata as shared

    for tables in ("storage.tables", "rules.tables", "api.tables"):
        import_module(tables)
    return shared


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    configuration = Config(attributes={"connection": connection})
    configuration.set_main_option("script_location", "songhua:migrations")
    try:
        command.upgrade(configuration, "head")
    except CommandError as error:
        raise ConfigError(f"the database was made by a newer songhua ({error}); install that version") from error
