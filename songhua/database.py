"""The relational database as commands open it: an existing one, never a new one by accident."""

from sqlalchemy import Engine, make_url

from devices.errors import ConfigError
from songhua.settings import Settings
from storage.metadata import open_engine


def open_existing(settings: Settings) -> Engine:
    """The engine of a city that was started before; raises `ConfigError` where there is none under `var`."""
    url = make_url(settings.relational_url)
    if url.drivername.startswith("sqlite") and not settings.var.joinpath(url.database or "").exists():
        raise ConfigError(
            f"there is no city in {settings.var}; start one with `songhua up --demo`, or name it with --var"
        )
    return open_engine(settings.relational_url)
