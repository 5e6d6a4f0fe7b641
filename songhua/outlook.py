"""What the terminal summary shows, read in one go: status document, rates, newest alarms, state of each process.

`Observer.look` is blocking (two short queries) and runs in a thread. Rates come from the difference to an earlier look,
smoothed over a few seconds.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, select

from devices.model import Milliseconds
from rules.model import ACTIVE
from rules.tables import alarms
from songhua import status
from storage.metadata import transaction

_RATE_OVER: Milliseconds = 5_000
_ALARMS_SHOWN = 6


@dataclass(frozen=True)
class AlarmLine:
    """One active alarm as a row of the summary."""

    raised_at: Milliseconds
    priority: str
    state: str
    title: Mapping[str, str]
    subject: str


@dataclass(frozen=True)
class Outlook:
    """A moment of the city.

    `document` is the status document, `rate` messages journalled per second (None at first), `console` its address.
    """

    at: Milliseconds
    document: Mapping[str, Any]
    rate: float | None = None
    newest: tuple[AlarmLine, ...] = ()
    processes: Mapping[str, str] = field(default_factory=dict)
    console: str = ""

    @property
    def health(self) -> str:
        """`ok`, `degraded` or `down`."""
        return str(self.document["health"]["state"])


class Observer:
    """Looks at one database again and again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: deque[tuple[Milliseconds, int]] = deque()

    def look(self, processes: Mapping[str, str], console: str, now: Milliseconds | None = None) -> Outlook:
        """The outlook at `now` (default: the wall clock); raises `TransientError` if the database does not answer."""
        now = time.time_ns() // 1_000_000 if now is None else now
        document = status.read(self._engine, now)
        return Outlook(now, document, self._rate(now, document["journalled"]), self._newest(), dict(processes), console)

    def _rate(self, now: Milliseconds, messages: int) -> float | None:
        self._seen.append((now, messages))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _RATE_OVER:
            self._seen.popleft()
        before, count = self._seen[0]
        return (messages - count) * 1000 / (now - before) if now > before else None

    def _newest(self) -> tuple[AlarmLine, ...]:
        query = select(alarms).where(alarms.c.state.in_([str(state) for state in ACTIVE]))
        with transaction(self._engine) as connection:
            rows = connection.execute(query.order_by(alarms.c.raised_at.desc()).limit(_ALARMS_SHOWN)).all()
        return tuple(
            AlarmLine(row.raised_at, row.priority, row.state, {"zh": row.title_zh, "en": row.title_en}, row.subject_id)
            for row in rows
        )
