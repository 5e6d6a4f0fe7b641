"""What loads the service under fault: the generator, and messages of a row's own, each known once it has its PUBACK.

Both run in a thread with an event loop, so that a row can stop and start programs meanwhile. What was not acknowledged
is sent again after a reconnect, so that in the end every message made is one the service owes an answer for.
"""

import asyncio
import threading
import time
from collections import deque
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from simulators.broker import broker_address
from simulators.link import Delivery, Link, LinkError
from simulators.load import LoadReport, run_load

Key = tuple[str, int]

DEVICES = 50
RATE = 500.0
SEED = 7


class Load:
    """`simulators.load` until `messages` are made or it is stopped; its log tells the keys that were acknowledged."""

    def __init__(
        self, url: str, log: Path, *, messages: int | None = None, rate: float = RATE, devices: int = DEVICES
    ) -> None:
        self.report = LoadReport()
        self.log = log
        self._work = (devices, rate, SEED, url)
        self._messages = messages
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def stop(self) -> None:
        """Make no more; wait until everything made is acknowledged."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self.join(90)

    def join(self, seconds: float) -> None:
        """Wait for the end of the work. Raises `TimeoutError`."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"the load has not ended within {seconds:.0f} s: {self.report}")

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def keys(self) -> list[Key]:
        """Every acknowledged key, in the order of acknowledgement."""
        lines = (line.split() for line in self.log.read_text().splitlines()) if self.log.exists() else ()
        return [(device, int(moment)) for device, moment in lines]

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        devices, rate, seed, url = self._work
        await run_load(
            devices,
            rate,
            seed,
            url,
            messages=self._messages,
            log=self.log,
            stop=self._stop,
            report=self.report,
            clients=4,
            drain=timedelta(seconds=60),
        )


class Publisher:
    """Sends what it is given, in order, at once, until the broker has taken it."""

    def __init__(self, url: str, name: str = "faults-publisher", window: int = 500) -> None:
        self.acknowledged: list[Delivery] = []
        self.acknowledged_at: dict[Key, float] = {}
        self.unheard = self.refused = 0
        self._address = broker_address(url)
        self._name = name
        self._window = window
        self._queue: deque[Delivery] = deque()
        self._link: Link | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def send(self, topic: str, payload: bytes, device: str, moment: int) -> None:
        """Queue one message; (device, moment) is the key under which it should be found."""
        self._queue.append(Delivery(topic, payload, device, moment))
        self._loop.call_soon_threadsafe(self._pump)

    def drain(self, seconds: float = 60) -> None:
        """Wait until nothing is unacknowledged. Raises `TimeoutError`."""
        deadline = time.monotonic() + seconds
        while self._queue or (self._link is not None and self._link.in_flight):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._queue)} messages are still not acknowledged")
            time.sleep(0.01)

    def keys(self) -> list[Key]:
        """Every acknowledged key."""
        return [(delivery.device, delivery.time) for delivery in self.acknowledged]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(self._stay_connected())
        self._loop.run_forever()
        task.cancel()
        self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        self._loop.close()

    async def _stay_connected(self) -> None:
        while True:
            try:
                self._link = await Link.connect(self._address, self._name, self._window, self._accepted)
                self._pump()
                while not self._link.lost.done():
                    await asyncio.wait({self._link.lost}, timeout=5)
                    self._link.keep_alive()
                self._queue.extendleft(reversed(self._link.unacknowledged))
            except LinkError:
                pass
            self._link = None
            await asyncio.sleep(0.2)

    def _pump(self) -> None:
        if self._link is not None and self._queue:
            count = min(self._link.free, len(self._queue))
            if count > 0:
                self._link.send([self._queue.popleft() for _ in range(count)])

    def _accepted(self, accepted: list[Delivery], refused: int, unheard: int) -> None:
        now = time.time()
        self.acknowledged += accepted
        self.acknowledged_at.update(((delivery.device, delivery.time), now) for delivery in accepted)
        self.refused += refused
        self.unheard += unheard
        self._pump()
