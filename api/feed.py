"""What happens, told to everybody who watches: alarm transitions, the status document, live readings of one device.

One task reads new transitions from the database every 300 ms and another tells the status every 2 s, however many
watch. Each watcher has a bounded mailbox: alarms are never skipped (a watcher that cannot keep up is ended with a
reason), the status is replaced by the newer one, the oldest live reading is dropped. A watcher sees its districts
only, and is ended within 5 s when its credential is revoked.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import msgspec
import structlog
from sqlalchemy import Engine, func, select

from api.alarm_documents import alarm_documents
from api.authenticator import Authenticator
from api.credentials import Principal
from devices.errors import TransientError
from rules.model import Alarm
from rules.tables import alarms, transitions
from storage.metadata import UNAVAILABLE

POLL_S = 0.3
STATUS_S = 2.0
_AT_ONCE = 500
_MAILBOX = 512
_READINGS = 64
_MOST_WATCHERS = 1_000
_PATIENCE_S = 5.0
_log = structlog.get_logger("api")

Status = Callable[[frozenset[str] | None], dict[str, Any]]


class Happening(NamedTuple):
    """One transition, encoded once for all watchers."""

    seq: int
    district: str
    event: bytes


class Watcher:
    """One client's mailbox. `take` gives what there is to send; `reason` says why it ended, empty while it runs.

    `floor` is the sequence after which transitions are delivered through the mailbox.
    """

    def __init__(self, principal: Principal, device: str | None, floor: int) -> None:
        self.principal = principal
        self.device = device
        self.floor = floor
        self.reason = ""
        self.ended = asyncio.Event()
        self._happenings: deque[Happening] = deque()
        self._readings: deque[bytes] = deque(maxlen=_READINGS)
        self._status = b""
        self._something = asyncio.Event()

    def offer(self, happening: Happening) -> None:
        """Add an alarm's change; a full mailbox ends the watcher."""
        if len(self._happenings) >= _MAILBOX:
            self.end("slow")
        else:
            self._happenings.append(happening)
            self._something.set()

    def offer_status(self, event: bytes) -> None:
        """Replace a status that was not sent yet."""
        self._status = event
        self._something.set()

    def offer_reading(self, event: bytes) -> None:
        """Add a live reading; the oldest that was not sent yet makes room."""
        self._readings.append(event)
        self._something.set()

    def end(self, reason: str) -> None:
        """Nothing more will come; the client may come back and resume."""
        self.reason = self.reason or reason
        self.ended.set()
        self._something.set()

    async def take(self, timeout: float) -> list[bytes]:
        """Events waiting, alarms first; an empty list after `timeout` seconds without any, or at the end."""
        try:
            await asyncio.wait_for(self._something.wait(), timeout)
        except TimeoutError:
            return []
        self._something.clear()
        if self.reason:
            return []
        events = [happening.event for happening in self._happenings if happening.seq > self.floor]
        events += self._readings
        if self._status:
            events.append(self._status)
        self._happenings.clear()
        self._readings.clear()
        self._status = b""
        return events


class Feed:
    """See the module docstring. `status` makes the document for a set of districts (blocking; called in a thread)."""

    def __init__(self, engine: Engine, authenticator: Authenticator, status: Status) -> None:
        self._engine = engine
        self._authenticator = authenticator
        self._status = status
        self._watchers: set[Watcher] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._position = 0
        self._positioned = asyncio.Event()
        self._ending = False

    async def start(self) -> None:
        """Begin to read; a database that does not answer yet is asked again."""
        self._tasks = [
            asyncio.create_task(self._repeat(self._read_on, POLL_S)),
            asyncio.create_task(self._repeat(self._tell_status, STATUS_S)),
        ]

    def end_watchers(self) -> None:
        """End all watchers and admit no more: the server is about to stop."""
        self._ending = True
        for watcher in self._watchers:
            watcher.end("stopping")

    async def close(self) -> None:
        """Stop reading and end all watchers; safe to call twice."""
        self.end_watchers()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def join(self, principal: Principal, device: str | None = None) -> Watcher:
        """A mailbox that receives every transition after its `floor`; what lies before is read with `past`.

        Raises `TransientError` while the database has not answered yet or too many watch.
        """
        try:
            await asyncio.wait_for(self._positioned.wait(), _PATIENCE_S)
        except TimeoutError:
            raise TransientError("the database does not answer") from None
        if len(self._watchers) >= _MOST_WATCHERS:
            raise TransientError("too many open streams")
        watcher = Watcher(principal, device, self._position)
        self._watchers.add(watcher)
        if self._ending:
            watcher.end("stopping")
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self._watchers.discard(watcher)

    @property
    def watching(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def offer_reading(self, device: str, event: bytes) -> None:
        """Hand a live reading to those who watch its device."""
        for watcher in self._watchers:
            if watcher.device == device:
                watcher.offer_reading(event)

    async def past(self, principal: Principal, after: int, through: int) -> list[Happening]:
        """At most 500 transitions in (after, through] that the principal may see, ascending; empty: none is left."""
        return await asyncio.to_thread(self._read, after, through, principal)

    async def newest(self) -> int:
        """The newest sequence in the database, 0 before the first transition."""
        return await asyncio.to_thread(self._newest)

    async def status_event(self, principal: Principal) -> bytes:
        """The status as an event, now."""
        return sse("status", await asyncio.to_thread(self._status, principal.districts))

    async def _read_on(self) -> None:
        if not self._positioned.is_set():
            self._position = await self.newest()
            self._positioned.set()
            return
        while happenings := await asyncio.to_thread(self._read, self._position):
            self._position = happenings[-1].seq
            for watcher in list(self._watchers):
                for happening in happenings:
                    if watcher.principal.sees(happening.district):
                        watcher.offer(happening)

    async def _tell_status(self) -> None:
        watchers = list(self._watchers)
        good = await self._authenticator.still_good(watcher.principal for watcher in watchers)
        events: dict[frozenset[str] | None, bytes] = {}
        for watcher in watchers:
            if watcher.principal.credential not in good:
                watcher.end("logged_out")
                continue
            districts = watcher.principal.districts
            if districts not in events:
                events[districts] = sse("status", await asyncio.to_thread(self._status, districts))
            watcher.offer_status(events[districts])

    async def _repeat(self, step: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
        """Run `step` for ever; what keeps it from its work is logged once, and it is tried again."""
        failing = False
        while True:
            try:
                await step()
                failing = False
            except UNAVAILABLE as error:
                if not failing:
                    _log.warning("the stream cannot read the database", error=str(error)[:300])
                failing = True
            except Exception:
                if not failing:
                    _log.exception("the stream stands still after an unexpected error")
                failing = True
            await asyncio.sleep(seconds)

    def _newest(self) -> int:
        with self._engine.connect() as connection:
            return connection.scalar(select(func.max(transitions.c.seq))) or 0

    def _read(self, after: int, through: int | None = None, principal: Principal | None = None) -> list[Happening]:
        columns = [alarms.c[name] for name in Alarm.__struct_fields__]
        query = (
            select(transitions.c.seq.label("transition_seq"), transitions.c.cause.label("transition_cause"), *columns)
            .join(alarms, alarms.c.id == transitions.c.alarm)
            .where(transitions.c.seq > after)
            .order_by(transitions.c.seq)
            .limit(_AT_ONCE)
        )
        if through is not None:
            query = query.where(transitions.c.seq <= through)
        if principal is not None and principal.districts is not None:
            query = query.where(alarms.c.district.in_(sorted(principal.districts)))
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
            changed = [Alarm(**{name: row[name] for name in Alarm.__struct_fields__}) for row in rows]
            documents = alarm_documents(connection, changed)
        happenings = []
        for row, alarm, document in zip(rows, changed, documents, strict=True):
            seq = row["transition_seq"]
            event = {"seq": seq, "cause": row["transition_cause"], "alarm": document}
            happenings.append(Happening(seq, alarm.district, sse("alarm", event, seq)))
        return happenings


def sse(event: str, document: Any, number: int | None = None) -> bytes:
    """One server-sent event (WHATWG HTML, 9.2). JSON has no line breaks, so one data line is enough."""
    head = f"event: {event}\n" if number is None else f"id: {number}\nevent: {event}\n"
    return head.encode() + b"data: " + msgspec.json.encode(document) + b"\n\n"
