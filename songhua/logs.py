"""Logging: JSON lines in `var/log/<process>.log` (rotating), short lines for people on stderr.

Libraries that use the standard `logging` (uvicorn, SQLAlchemy) take the same way out. Under the supervisor only
warnings and worse reach stderr, because the supervisor shows them in the terminal; the file has everything from
`log_level` up. Raises `ConfigError` where the directory is not writable.
"""

import logging
import logging.handlers
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from devices.errors import ConfigError
from songhua.settings import Settings, variable

_FILE_BYTES = 10 << 20
_FILES_KEPT = 5


def configure(process: str, settings: Settings, *, supervised: bool) -> None:
    """Set up logging of this process, once, before anything logs."""
    handlers = [_file_handler(process, settings), _terminal_handler(supervised)]
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(min(handler.level for handler in handlers))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            *_shared(),
            structlog.stdlib.filter_by_level,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def open_notifications(settings: Settings) -> TextIO:
    """`var/log/notifications.log` for one JSON line per notification, each on disk when it is written."""
    path = settings.logs / "notifications.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{variable('var')}: cannot write {path}: {error.strerror}") from error


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]


def _file_handler(process: str, settings: Settings) -> logging.Handler:
    path = settings.logs / f"{process}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8"
        )
    except OSError as error:
        raise ConfigError(f"{variable('var')}: cannot write {path}: {error.strerror}") from error
    handler.setLevel(settings.log_level.upper())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    return handler


def _terminal_handler(supervised: bool) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING if supervised else logging.INFO)
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        exception_formatter=structlog.dev.plain_traceback,
        pad_event_to=0,
        timestamp_key="time",
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.format_exc_info, _bare] if supervised else [renderer]),
            ],
        )
    )
    return handler


def _bare(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """The line without time and process: whoever shows it knows both."""
    for known in ("time", "level", "logger"):
        event.pop(known, None)
    trace = event.pop("exception", None)
    words = [str(event.pop("event")), *(f"{name}={value}" for name, value in event.items())]
    return " ".join(words) + (f"\n{trace}" if trace else "")
