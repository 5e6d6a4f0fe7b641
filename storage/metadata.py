"""The relational side: one `MetaData` that every room declares its tables on, and the engine that serves them.

SQLite (`sqlite:///path`, WAL, full sync) is embedded; PostgreSQL is the production twin. Calls are synchronous: the
ingest loop runs them in a thread, the api in its worker threads. Connecting happens at first use, never at
construction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from devices.errors import ConfigError, TransientError

UNAVAILABLE = (DBAPIError, NoConnectionFree)
"""What SQLAlchemy raises where the database is away, busy, or every connection of the pool is taken."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def open_engine(url: str) -> Engine:
    """An engine for `url`. SQLite connections get WAL, `synchronous=FULL`, foreign keys and a 10 s busy time-out.

    Raises `ConfigError` where there is no driver for it.
    """
    embedded = url.startswith("sqlite")
    options = {"connect_args": {"timeout": 10, "check_same_thread": False}} if embedded else {"pool_pre_ping": True}
    try:
        engine = create_engine(url, **options)
    except (ArgumentError, ModuleNotFoundError) as error:
        scheme = url.partition(":")[0]
        raise ConfigError(f"relational database: {scheme} cannot be used here ({error}); expected sqlite") from error
    if not embedded:
        return engine

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction; the database being away or busy is a `TransientError`."""
    try:
        with engine.begin() as connection:
            yield connection
    except UNAVAILABLE as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> TransientError:
    """One of `UNAVAILABLE` in the words of the database, without the statement."""
    return TransientError(f"relational database: {getattr(error, 'orig', error)}")


def insert_into(connection: Connection, table: Table) -> Any:
    """The dialect's INSERT, which has ON CONFLICT in both databases but not in SQLAlchemy's common one."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
