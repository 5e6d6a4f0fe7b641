"""A process's own row in `process_status`: renewed every second, marked `stopped` by an orderly stop.

A row that is no longer renewed is how readers learn that a process is gone; totals stay readable either way. A database
that does not answer is no reason to stop: the beat is skipped and tried again a second later, logged once when it
starts to fail and once when it recovers. Any other error ends the beat, and with it the process: nobody could tell it
from a dead one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Engine, insert, update

from devices.errors import TransientError
from storage.metadata import transaction
from storage.tables import process_status

_EVERY = 1.0  # s


def start(
    engine: Engine, process: str, document: Callable[[], dict[str, Any]], stop: asyncio.Event
) -> asyncio.Task[None]:
    """`beat` as a task that sets `stop` when it ends; the caller awaits it last, which raises what ended it."""
    task = asyncio.create_task(beat(engine, process, document, stop), name="heartbeat")
    task.add_done_callback(lambda _: stop.set())
    return task


async def beat(engine: Engine, process: str, document: Callable[[], dict[str, Any]], stop: asyncio.Event) -> None:
    """Publish `document()` each second until `stop`; then once more, marked as stopped."""
    log = structlog.get_logger(process)
    failing = False
    while not stop.is_set():
        try:
            await asyncio.to_thread(publish, engine, process, document())
        except TransientError as error:
            if not failing:
                log.warning("status cannot be published", reason=str(error))
            failing = True
        else:
            if failing:
                log.warning("status is published again")
            failing = False
        try:
            await asyncio.wait_for(stop.wait(), _EVERY)
        except TimeoutError:
            continue
    try:
        await asyncio.to_thread(publish, engine, process, document() | {"stopped": True})
    except TransientError as error:
        log.warning("the stop cannot be published", reason=str(error))


def publish(engine: Engine, process: str, document: dict[str, Any]) -> None:
    """Write the row of `process`, now; one blocking transaction. Raises `TransientError`."""
    values = {"at": time.time_ns() // 1_000_000, "document": document}
    with transaction(engine) as connection:
        changed = connection.execute(update(process_status).where(process_status.c.process == process).values(values))
        if changed.rowcount == 0:
            connection.execute(insert(process_status).values(process=process, **values))
