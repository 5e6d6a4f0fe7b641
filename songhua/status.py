"""Status as the command line and the terminal read it: the document of `api.status_document`, and who reported when.

Blocking, one short transaction each; raises `TransientError` where the database does not answer.
"""

import time
from typing import Any

from sqlalchemy import Engine, select

from api.status_document import read_status
from devices.model import Milliseconds
from storage.metadata import UNAVAILABLE, transaction, unavailable
from storage.tables import process_status


def read(engine: Engine, now: Milliseconds | None = None) -> dict[str, Any]:
    """The document at `now` (ms; default: the wall clock), with `health` as a reader sees it."""
    try:
        return read_status(engine, time.time_ns() // 1_000_000 if now is None else now)
    except UNAVAILABLE as error:
        raise unavailable(error) from error


def reported_at(engine: Engine, process: str) -> Milliseconds | None:
    """When `process` last renewed its row, None if it has none."""
    with transaction(engine) as connection:
        return connection.scalar(select(process_status.c.at).where(process_status.c.process == process))
