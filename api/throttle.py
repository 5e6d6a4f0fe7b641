"""Failed attempts to come in, counted per client address: beyond a limit the address is told to wait (429).

Secrets have 256 bits, so guessing is hopeless anyway; this bounds the load and the noise of trying. In memory, per
process: a restart forgets. IPv6 clients count per /64, because one client owns all of it.
"""

import ipaddress
import math
from collections import OrderedDict, deque

from api.clock import Clock
from devices.model import Milliseconds

_ADDRESSES = 10_000


class FailureThrottle:
    """Allows `limit` failures in `window` ms for each address; remembers the 10,000 addresses that failed last."""

    def __init__(self, clock: Clock, *, limit: int = 10, window: Milliseconds = 60_000) -> None:
        self._clock = clock
        self._limit = limit
        self._window = window
        self._failures: OrderedDict[str, deque[Milliseconds]] = OrderedDict()

    def fail(self, address: str) -> None:
        """Count one failure."""
        key = _network(address)
        times = self._failures.setdefault(key, deque(maxlen=self._limit))
        times.append(self._clock())
        self._failures.move_to_end(key)
        if len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)

    def wait(self, address: str) -> int:
        """Whole seconds until this address may try again, 0 if it may now."""
        times = self._failures.get(_network(address))
        if times is None or len(times) < self._limit:
            return 0
        return max(0, math.ceil((times[0] + self._window - self._clock()) / 1000))


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
