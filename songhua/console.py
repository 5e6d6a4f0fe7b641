"""The way into the console: its address, and links that let a person in once."""

from collections.abc import Iterable

from sqlalchemy import Engine

from api.credentials import create_login_code
from songhua.settings import Settings
from storage.metadata import UNAVAILABLE, unavailable


def address(settings: Settings) -> str:
    """Where this machine reaches the API and the console."""
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
    return f"http://[{host}]:{settings.api_port}" if ":" in host else f"http://{host}:{settings.api_port}"


def login_link(
    settings: Settings, engine: Engine, name: str, role: str, *, districts: Iterable[str] | None = None
) -> str:
    """A link that opens one session within `api.credentials.CODE_LIFETIME`.

    Blocking; raises `ConfigError` for a wrong role or district, `TransientError` where the database does not answer.
    """
    try:
        code = create_login_code(engine, name, role, districts=districts)
    except UNAVAILABLE as error:
        raise unavailable(error) from error
    # In the fragment, so that the code reaches neither a log nor a Referer header.
    return f"{address(settings)}/login#code={code}"
