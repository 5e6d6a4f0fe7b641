"""Settings: environment variables with the prefix `SONGHUA_`, checked once at start.

`load()` gives an immutable `Settings` or raises `ConfigError` with one line: what is wrong, in which variable, what was
expected. An unknown variable with our prefix is refused, because a misspelt setting is worse than none. Only this room
sees the object; the other rooms receive plain values. Empty addresses mean the embedded parts, which live under `var`.
"""

import difflib
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from devices.errors import ConfigError
from songhua.quantities import Duration, Size

PREFIX = "SONGHUA_"


class Settings(BaseSettings):
    """What a person may set. Durations are ms, sizes are bytes; both are written with a unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    var: Path = Field(Path("var"), description="Directory of all that lasts: journal, databases, snapshots, logs.")
    broker_url: str = Field(
        "",
        description="MQTT broker, `mqtt://user:password@host:1883`. Empty: `songhua up` runs an embedded one (demo).",
    )
    broker_port: int = Field(1883, ge=1, le=65535, description="Port of the embedded broker on 127.0.0.1.")
    store_url: str = Field(
        "", description="Telemetry store, `influxdb+v1://user:password@host:8086/database`. Empty: SQLite under `var`."
    )
    database_url: str = Field(
        "", description="Relational database (registry, alarms, users), an SQLAlchemy URL. Empty: SQLite under `var`."
    )
    api_host: str = Field("127.0.0.1", description="Address the API and the console listen on.")
    api_port: int = Field(8080, ge=1, le=65535, description="Port of the API and the console.")
    lateness: Duration = Field(
        0, description="How far a reading may lie behind its own series and still be evaluated in order; 0s is fastest."
    )
    retention: Duration = Field(
        0,
        description="Readings older than this are dropped from the telemetry store, in whole weeks (SQLite) or shards "
        "(InfluxDB without a retention policy); 0s keeps them for ever.",
    )
    journal_quota: Size = Field(
        2 << 30, description="Largest size of the journal. When full, songhua stops acknowledging; the broker keeps on."
    )
    webhook_url: str = Field("", description="Alarm transitions are posted here as JSON. Empty: no webhook.")
    webhook_secret: SecretStr = Field(SecretStr(""), description="Key of the webhook's HMAC-SHA256 signature.")
    webhook_allow_private: bool = Field(
        False, description="Whether the webhook may be on this machine or in a private network."
    )
    language: Literal["zh", "en"] = Field("zh", description="Language of alarm titles in terminal and notifications.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level in `var/log`.")

    @field_validator("var")
    @classmethod
    def _absolute(cls, var: Path) -> Path:
        return var.expanduser().absolute()

    @field_validator("broker_url")
    @classmethod
    def _check_broker(cls, url: str) -> str:
        return _check_address(url, ("mqtt",), "mqtt://user:password@host:1883")

    @field_validator("store_url")
    @classmethod
    def _check_store(cls, url: str) -> str:
        if url and not urlsplit(url).path.strip("/"):
            raise ValueError("expected influxdb+v1://user:password@host:8086/database")
        return _check_address(url, ("influxdb+v1",), "influxdb+v1://user:password@host:8086/database")

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, url: str) -> str:
        if url and urlsplit(url).scheme.partition("+")[0] not in ("sqlite", "postgresql"):
            raise ValueError("expected sqlite:///path or postgresql+psycopg://user:password@host/database")
        return url

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook(cls, url: str) -> str:
        return _check_address(url, ("http", "https"), "https://host/path")

    @property
    def relational_url(self) -> str:
        """`database_url`, or the embedded file."""
        return self.database_url or f"sqlite:///{self.var / 'songhua.db'}"

    @property
    def telemetry_file(self) -> Path:
        """The embedded telemetry store; used where `store_url` is empty."""
        return self.var / "telemetry.db"

    @property
    def telemetry_url(self) -> str:
        """`store_url`, or the embedded file."""
        return self.store_url or f"sqlite:///{self.telemetry_file}"

    @property
    def logs(self) -> Path:
        """Directory of the log files, one per process."""
        return self.var / "log"


def load(**overrides: Any) -> Settings:
    """Read the environment; `overrides` (None = not given) win over it. Raises `ConfigError`."""
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name[len(PREFIX) :].lower() not in Settings.model_fields:
            raise ConfigError(_unknown(name, name[len(PREFIX) :].lower()))
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def without_password(url: str) -> str:
    """`url` fit for a terminal or a log: the password is replaced."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:***@{host}").geturl()


def _check_address(url: str, schemes: tuple[str, ...], form: str) -> str:
    if not url:
        return url
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"expected {form}")
    return url


def _unknown(variable_name: str, name: str) -> str:
    nearest = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {variable(nearest[0])}?" if nearest else "see docs/reference/settings.md for the list"
    return f"{variable_name}: there is no such setting; {hint}"


def _explain(problem: Any) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else ""
    context = problem.get("ctx", {})
    match problem["type"]:
        case "bool_parsing" | "bool_type":
            expected = "expected true or false"
        case "int_parsing" | "int_type" | "int_from_float":
            expected = "expected a whole number"
        case "literal_error":
            expected = f"expected {context['expected']}"
        case "greater_than_equal":
            expected = f"expected {context['ge']} or more"
        case "less_than_equal":
            expected = f"expected {context['le']} or less"
        case _:
            expected = str(problem["msg"]).removeprefix("Value error, ")
    return f"{variable(name)}: wrong value; {expected}"
