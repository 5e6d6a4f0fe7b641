"""Notifications as JSON lines in a log: the target that is always there, for a laptop and for whatever tails logs.

Receives notifications; writes one line each, with the headline in both languages. Text from devices cannot break out
of its line, because JSON escapes control characters. Raises `TransientError` where the stream refuses (a full disk).
"""

import sys
from typing import TextIO

import structlog

from devices.errors import TransientError
from rules.documents import Notification


class LogNotifier:
    """Target `log`; `stream` is stderr unless told."""

    name = "log"
    mirrors = False

    def __init__(self, stream: TextIO | None = None) -> None:
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(stream or sys.stderr),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
            wrapper_class=structlog.BoundLogger,
        )

    async def send(self, notification: Notification) -> None:
        """Write the line."""
        alarm = notification.alarm or {}
        picked = {name: alarm[name] for name in ("rule", "subject", "district", "priority", "state") if name in alarm}
        try:
            self._log.info(
                "notification",
                id=notification.id,
                kind=notification.kind,
                at=notification.at,
                title=notification.title,
                **picked,
                actor=notification.actor,
                note=notification.note,
            )
        except OSError as error:
            raise TransientError(f"log: {error}") from error

    async def close(self) -> None:
        """Nothing is held."""
