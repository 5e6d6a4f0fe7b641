"""The embedded MQTT broker (iotcore, that is rumqttd): for a laptop and for tests, on 127.0.0.1 only.

Its sessions and retained messages live in memory: a restart of the broker loses them, which is why production names a
real broker in `SONGHUA_BROKER_URL`. There is one user, `songhua`, with a random password kept in `var/broker/password`
(mode 0600), so that commands in another terminal with the same `var` can connect. Raises `ConfigError` where iotcore
is not installed.
"""

import logging
import os
import secrets
import signal
import stat
from pathlib import Path

from devices.errors import ConfigError
from songhua.settings import Settings, variable

HOST = "127.0.0.1"
_USER = "songhua"

_CONFIGURATION = """\
id=0
[router]
id=0
max_connections=10000
max_outgoing_packet_count=200
max_segment_size=16777216
max_segment_count=16
[v5.1]
name="v5"
listen="{host}:{port}"
next_connection_delay_ms=1
[v5.1.connections]
connection_timeout_ms=5000
max_payload_size=1048576
max_inflight_count=100
auth={{{user}="{password}"}}
"""


def url(settings: Settings) -> str:
    """The broker's address with credentials: the one that was set, or the embedded one of this `var`."""
    if settings.broker_url:
        return settings.broker_url
    return f"mqtt://{_USER}:{_password(settings.var / 'broker')}@{HOST}:{settings.broker_port}"


def is_embedded(settings: Settings) -> bool:
    """Whether `url` is the embedded broker of this `var`, also where its address was handed to us as a setting."""
    return url(settings) == url(settings.model_copy(update={"broker_url": ""}))


def serve(settings: Settings) -> None:
    """Run the broker in this process until a signal ends it; never returns in good health."""
    try:
        from iotcore import IotCoreBroker
    except ImportError as error:
        raise ConfigError(
            f"{variable('broker_url')}: not set, and the embedded broker is not installed; "
            "set it, or install songhua[demo]"
        ) from error
    folder = settings.var / "broker"
    configuration = folder / "rumqttd.toml"
    text = _CONFIGURATION.format(host=HOST, port=settings.broker_port, user=_USER, password=_password(folder))
    _write_private(configuration, text)
    # rumqttd reports every packet, some as an error.
    for source in ("rumqttd", "tracing"):
        logging.getLogger(source).setLevel(logging.CRITICAL)
    # The broker runs in Rust and never returns to Python's signal handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    IotCoreBroker(config_path=str(configuration)).run_forever()


def _password(folder: Path) -> str:
    """Of this `var`: made at first use, the same ever after."""
    path = folder / "password"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return path.read_text(encoding="ascii")
        except FileNotFoundError:
            password = secrets.token_urlsafe(24)
            _write_private(path, password)
            return password
    except OSError as error:
        raise ConfigError(f"{variable('var')}: cannot use {path}: {error.strerror}") from error


def _write_private(path: Path, text: str) -> None:
    """Atomically, readable by the owner alone."""
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    draft.replace(path)
