"""Housekeeping of the telemetry store: once a day, what is older than the setting `retention` is dropped.

A store that keeps a retention policy of its own does this itself and ignores the call. One that is away is asked again
a few minutes later; any other error ends the task, and with it the process that watches it.
"""

import asyncio
import time
from typing import Protocol

import structlog

from devices.errors import TransientError
from devices.model import Milliseconds

log = structlog.get_logger(__name__)

EVERY = 86_400.0  # s
AGAIN_AFTER = 300.0  # s


class Retaining(Protocol):
    """The part of `storage.telemetry.TelemetryStore` that is used here."""

    async def retain(self, since: Milliseconds) -> None:
        """Drop what is older than `since`; may raise `TransientError`."""


async def follow(store: Retaining, keep: Milliseconds) -> None:
    """Until cancelled, let `store` drop what is older than `keep` (ms); 0 keeps everything for ever."""
    if keep == 0:
        await asyncio.Event().wait()
    while True:
        since = time.time_ns() // 1_000_000 - keep
        try:
            await store.retain(since)
            log.info("store.retained", since=since)
            wait = EVERY
        except TransientError as error:
            log.warning("store.not_retained", error=str(error))
            wait = AGAIN_AFTER
        await asyncio.sleep(wait)
