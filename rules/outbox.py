"""The outbox: notifications that were committed with their transitions, on their way to each target, at least once.

Reads pending rows of `outbox`, one lane per target, so that a slow or dead target never delays another. Within a lane
only the oldest pending version of an alarm is sent: the order per (target, alarm) is the order of versions, and
different alarms go side by side. A row is marked after the target has taken it; a crash in between sends it again
under the same key.

A `TransientError` puts the row off with jittered exponential back-off and lets the lane try one row at a time until
one gets through; after `Retry.attempts` attempts, or at `Undeliverable`, the row is dead: kept, visible, logged, and
the alarm's next version is sent. Owns the state of outbox rows; the committer inserts them. While the database is
down, lanes wait and keep what they have sent but could not mark.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from sqlalchemy import Engine

from devices.errors import TransientError
from devices.model import Milliseconds
from rules.documents import Notification
from rules.notifiers import Notifier, Undeliverable
from rules.outbox_rows import Delivery, OutboxRows, Outcome

log = structlog.get_logger(__name__)

_SIDE_BY_SIDE = 8  # notifications in flight per target
_FETCHED = 64  # read at once
_POLL = 1.0  # s; also the longest a due retry waits beyond its time
_PROBE = 5.0  # s; the longest pause between attempts at a target that fails
_LONGEST_RETRY_AFTER = 300.0  # s
_CLOSING = 3.0  # s for what is in flight
_SENT_KEPT = 7 * 86_400_000  # ms
_TIDY_EVERY = 3600.0  # s
_UNSTORED_TRIES = 5


class Retry:
    """Back-off in seconds: `first`, doubled after each failure up to `longest`, jittered by half; dead after
    `attempts`.

    The default gives up after about a day.
    """

    def __init__(self, first: float = 1.0, longest: float = 60.0, attempts: int = 1500) -> None:
        self.first = first
        self.longest = longest
        self.attempts = attempts

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure in a row (from 1)."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)


def _now() -> Milliseconds:
    return time.time_ns() // 1_000_000


class Lane:
    """One target's queue and its worker. Counters are for metrics."""

    def __init__(self, rows: OutboxRows, target: Notifier, retry: Retry, clock: Callable[[], Milliseconds]) -> None:
        self.target = target
        self.sent = 0
        self.failed = 0
        self.dead = 0
        self.failures = 0  # in a row
        self._rows = rows
        self._retry = retry
        self._clock = clock
        self._retry_after = 0.0
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()

    def wake(self) -> None:
        """There may be new rows."""
        self._woken.set()

    def stop(self) -> None:
        """End `run` after the step it is in."""
        self._stopped.set()
        self._woken.set()

    async def run(self) -> None:
        """Deliver until stopped."""
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                busy = await self.step()
            except TransientError as error:
                log.warning("outbox waits for the database", target=self.target.name, error=str(error))
                await _wait(self._stopped, _POLL)
                continue
            if self.failures:
                await _wait(self._stopped, max(min(self._retry.delay(self.failures), _PROBE), self._retry_after))
            elif not busy:
                await _wait(self._woken, _POLL)

    async def step(self) -> bool:
        """Send what is due, once; whether there was anything. Raises `TransientError` before anything is sent."""
        limit = 1 if self.failures else _FETCHED
        due = await asyncio.to_thread(self._rows.due, self.target.name, self._clock(), limit)
        self._retry_after = 0.0
        for start in range(0, len(due), _SIDE_BY_SIDE):
            outcomes = await asyncio.gather(*(self._send(item) for item in due[start : start + _SIDE_BY_SIDE]))
            await self._mark(outcomes)
            if self.failures or self._stopped.is_set():
                break
        return bool(due)

    async def _send(self, delivery: Delivery) -> Outcome:
        try:
            await self.target.send(delivery.notification)
        except Undeliverable as error:
            return self._bury(delivery, str(error))
        except TransientError as error:
            return self._put_off(delivery, str(error), error.retry_after)
        except Exception as error:
            log.exception("notifier failed", target=self.target.name, notification=delivery.id)
            return self._put_off(delivery, repr(error), None)
        self.sent += 1
        self.failures = 0
        return Outcome(delivery.id, "sent", delivery.attempts + 1, self._clock())

    def _put_off(self, delivery: Delivery, error: str, retry_after: float | None) -> Outcome:
        self.failed += 1
        self.failures += 1
        attempts = delivery.attempts + 1
        if attempts >= self._retry.attempts:
            return self._bury(delivery, error)
        self._retry_after = max(self._retry_after, min(retry_after or 0.0, _LONGEST_RETRY_AFTER))
        delay = max(self._retry.delay(attempts), self._retry_after)
        return Outcome(delivery.id, "pending", attempts, self._clock() + int(delay * 1000), error)

    def _bury(self, delivery: Delivery, error: str) -> Outcome:
        self.dead += 1
        log.error("notification given up", target=self.target.name, notification=delivery.id, error=error)
        return Outcome(delivery.id, "dead", delivery.attempts + 1, self._clock(), error)

    async def _mark(self, outcomes: Sequence[Outcome]) -> None:
        """Until it is written: what was sent and not marked would be sent again."""
        while outcomes:
            try:
                await asyncio.to_thread(self._rows.mark, outcomes)
            except TransientError as error:
                log.warning("outbox cannot mark", target=self.target.name, error=str(error))
                await asyncio.sleep(_POLL)
            else:
                return


class Outbox:
    """All lanes. `start` begins to deliver, `wake` after a commit, `close` stops and closes the targets.

    `tasks` run until `close`; one that ends before has failed, which is a defect.
    """

    def __init__(
        self,
        engine: Engine,
        targets: Sequence[Notifier],
        *,
        retry: Retry | None = None,
        clock: Callable[[], Milliseconds] = _now,
    ) -> None:
        self.targets = tuple(targets)
        self.unstored_sent = 0
        self._retry = retry or Retry()
        self._clock = clock
        self._rows = OutboxRows(engine)
        self.lanes = [Lane(self._rows, target, self._retry, clock) for target in targets]
        self.tasks: list[asyncio.Task[None]] = []
        self._messages: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to deliver."""
        for lane in self.lanes:
            self.tasks.append(asyncio.create_task(lane.run(), name=f"outbox-{lane.target.name}"))
        self.tasks.append(asyncio.create_task(self._tidy(), name="outbox-tidy"))

    def wake(self) -> None:
        """There may be new rows."""
        for lane in self.lanes:
            lane.wake()

    def send_unstored(self, kind: str, title: dict[str, str], at: str) -> None:
        """Tell every target something about the service itself, past the database: a few attempts, without waiting."""
        for target in self.targets:
            notification = Notification(id=f"{kind}:{at}:{target.name}", kind=kind, at=at, title=title)
            task = asyncio.create_task(self._send_unstored(target, notification), name=f"outbox-{kind}-{target.name}")
            self._messages.add(task)
            task.add_done_callback(self._messages.discard)

    async def close(self) -> None:
        """Stop, with a little patience; what is then still in flight is sent again at the next start."""
        for lane in self.lanes:
            lane.stop()
        if lanes := self.tasks[: len(self.lanes)]:
            await asyncio.wait(lanes, timeout=_CLOSING)
        tasks = (*self.tasks, *self._messages)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for target in self.targets:
            await target.close()

    async def _send_unstored(self, target: Notifier, notification: Notification) -> None:
        for failures in range(1, _UNSTORED_TRIES + 1):
            try:
                await target.send(notification)
            except Undeliverable as error:
                log.error("notification given up", target=target.name, notification=notification.id, error=str(error))
                return
            except TransientError:
                await asyncio.sleep(self._retry.delay(failures))
            else:
                self.unstored_sent += 1
                return
        log.error("notification given up", target=target.name, notification=notification.id)

    async def _tidy(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._rows.forget_sent, self._clock() - _SENT_KEPT)
            except TransientError as error:
                log.warning("outbox cannot forget what was sent", error=str(error))
            await asyncio.sleep(_TIDY_EVERY)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
