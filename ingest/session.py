"""The MQTT 5 session: one persistent subscription, kept alive for ever, that fills the inbox.

Owns the client identifier, the connection loop and its state; reconnects by itself with jittered back-off and never
raises for the network. `last_error` says why nothing can arrive now. Clauses of MQTT 5.0: 3.1.2.4 (clean start),
3.1.2.11.2 (session expiry), 3.2.2.1.1 (session present).
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from devices.model import Milliseconds
from ingest.connection import Connection, ConnectOptions, Subscription
from ingest.endpoint import Endpoint
from ingest.inbox import Inbox

log = structlog.get_logger(__name__)

_BACKOFF = (0.1, 5.0)  # s, first and longest
_STABLE = 5.0  # s; a connection that ends sooner (taken over, subscription refused) does not start the back-off anew


@dataclass
class Session:
    """See the module docstring. `on_link(connected, resumed)` is told of every change."""

    endpoint: Endpoint
    client_id: str
    subscriptions: Sequence[Subscription]
    source_of: Callable[[str], str]
    inbox: Inbox
    keep_alive: int = 15  # s
    clock: Callable[[], float] = time.time
    on_link: Callable[[bool, bool], None] = lambda connected, resumed: None
    expects_session: bool = False  # the broker should have one of ours: there was a connection before, here or earlier

    def __post_init__(self) -> None:
        self.connected = False
        self.last_error = "not connected yet"
        self.sessions_lost = 0  # connects at which the broker had forgotten us: what it queued meanwhile is gone
        self._heard = time.monotonic()  # by the last connection that was established
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def heard_at(self) -> Milliseconds:
        """When the broker that serves us was last heard (wall clock); a quiet one is asked every second."""
        heard = self._connection.heard if self.connected and self._connection else self._heard
        return int((self.clock() - (time.monotonic() - heard)) * 1000)

    async def start(self) -> None:
        """Begin connecting in the background; returns at once."""
        self._task = asyncio.create_task(self._stay_connected(), name="mqtt session")

    async def ended(self) -> None:
        """Wait for the loop that stays connected to end, which is a defect: raises what ended it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Disconnect and keep the session at the broker; what is unacknowledged comes again next time."""
        if self._task is not None:
            if self._connection is not None:
                self._connection.disconnect()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _stay_connected(self) -> None:
        delay = _BACKOFF[0]
        options = ConnectOptions(self.client_id, self.subscriptions, self.keep_alive)
        while True:
            self.inbox.generation += 1
            self._connection = Connection(options, self.inbox, self.source_of, self.clock)
            try:
                resumed = await self._connection.open(self.endpoint)
                self._established(resumed)
                opened = time.monotonic()
                try:
                    await self._connection.watch()
                finally:
                    if time.monotonic() - opened > _STABLE:
                        delay = _BACKOFF[0]
            except (OSError, ssl.SSLError) as error:
                self._failed(str(error) or f"no answer from {self.endpoint.host}:{self.endpoint.port}")
            finally:
                self._connection.abort()
                if self.connected:
                    self.connected, self._heard = False, self._connection.heard
                    self.on_link(False, False)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _BACKOFF[1])

    def _established(self, resumed: bool) -> None:
        if self.expects_session and not resumed:
            self.sessions_lost += 1
        self.expects_session = True
        self.connected, self.last_error = True, ""
        log.info("mqtt.connected", generation=self.inbox.generation, session_present=resumed)
        self.on_link(True, resumed)

    def _failed(self, error: str) -> None:
        if error != self.last_error:  # once per kind of failure, not once per attempt
            log.warning("mqtt.disconnected", error=error, host=self.endpoint.host, port=self.endpoint.port)
        self.last_error = error
