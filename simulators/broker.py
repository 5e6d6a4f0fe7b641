"""The address of an MQTT broker, read from a URL. Pure; raises `ConfigError` for anything but
mqtt://[user:password@]host[:port].
"""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from devices.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where to connect and as whom; `password` never appears in `repr` or in an error."""

    host: str
    port: int
    username: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"


def broker_address(url: str) -> BrokerAddress:
    """Parse `url`; the port defaults to 1883."""
    try:
        parts = urlsplit(url)
        port = parts.port or 1883
    except ValueError:
        raise ConfigError("broker URL: the port is not a number; expected mqtt://user:password@host:1883") from None
    if parts.scheme != "mqtt" or not parts.hostname:
        raise ConfigError("broker URL: expected mqtt://user:password@host:1883")
    return BrokerAddress(
        parts.hostname,
        port,
        unquote(parts.username) if parts.username is not None else None,
        unquote(parts.password) if parts.password is not None else None,
    )
