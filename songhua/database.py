"""The relational database as commands open it: an existing one of this version, never a new one by accident."""

from sqlalchemy import Engine, make_url

from devices.errors import ConfigError
from songhua import migrations
from songhua.settings import Settings
from storage.metadata import open_engine, transaction


def open_existing(settings: Settings) -> Engine:
    """The engine of a city that was started before.

    Raises `ConfigError` where there is none, or where another version of songhua started it, and `TransientError`
    where the database does not answer.
    """
    url = make_url(settings.relational_url)
    if url.drivername.startswith("sqlite") and not settings.var.joinpath(url.database or "").exists():
        raise ConfigError(
            f"there is no city in {settings.var}; start one with `songhua up --demo`, or name it with --var"
        )
    engine = open_engine(settings.relational_url)
    with transaction(engine) as connection:
        found = migrations.revision(connection)
    if found != migrations.HEAD:
        raise ConfigError(
            f"the city in {settings.var} has schema {found or 'none'}, this songhua needs {migrations.HEAD}; "
            "start it once with `songhua up`"
        )
    return engine
