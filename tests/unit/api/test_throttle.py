"""Failures per address: whole networks for IPv6, a bounded memory."""

from api.throttle import FailureThrottle
from tests.api_city import MovableClock


def _failing(throttle: FailureThrottle, address: str, times: int) -> None:
    for _ in range(times):
        throttle.fail(address)


def test_the_window_slides() -> None:
    clock = MovableClock(0)
    throttle = FailureThrottle(clock, limit=2, window=10_000)
    throttle.fail("192.0.2.1")
    clock.now = 9_000
    assert throttle.wait("192.0.2.1") == 0
    throttle.fail("192.0.2.1")
    assert throttle.wait("192.0.2.1") == 1
    clock.now = 10_000
    assert throttle.wait("192.0.2.1") == 0


def test_addresses_are_counted_apart_but_one_ipv6_network_together() -> None:
    throttle = FailureThrottle(MovableClock(), limit=2)
    _failing(throttle, "192.0.2.1", 2)
    assert throttle.wait("192.0.2.1") > 0
    assert throttle.wait("::ffff:192.0.2.1") > 0
    assert throttle.wait("192.0.2.2") == 0
    throttle.fail("2001:db8::1")
    throttle.fail("2001:db8::2")
    assert throttle.wait("2001:db8::3") > 0
    assert throttle.wait("2001:db8:0:1::3") == 0


def test_the_memory_is_bounded() -> None:
    throttle = FailureThrottle(MovableClock(), limit=1)
    for number in range(10_001):
        throttle.fail(f"host-{number}")
    assert throttle.wait("host-0") == 0
    assert throttle.wait("host-1") > 0
