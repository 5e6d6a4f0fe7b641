"""Where the broker is, from a URL."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from devices.errors import ConfigError


@dataclass(frozen=True)
class Endpoint:
    """`mqtt://user:password@host:port`, or `mqtts` for TLS; ports default to 1883 and 8883."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Raises `ConfigError` for anything else."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == -1 or parts.path not in ("", "/"):
            given = f"scheme {parts.scheme!r}, host {parts.hostname!r}"  # never the whole URL: it may hold a password
            raise ConfigError(f"broker URL: expected mqtt://user:password@host:port, got {given}")
        tls = parts.scheme == "mqtts"
        return cls(
            parts.hostname,
            port or (8883 if tls else 1883),
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            tls,
        )
