"""The session rule: only the session in force may end itself, and what has ended stays ended. The rows that people
see and the alarms of the engine follow the same one.
"""

import pytest

from devices.model import GatewayStatus
from rules.gateway_sessions import GatewayRow, GatewaySessions
from rules.root_cause import Gateways
from tests.unit.rules.scripted_engine import status

ONLINE_1 = status(1, "g", "online", "s1", 100)
WILL_1 = status(2, "g", "offline", "s1", None)
ONLINE_2 = status(3, "g", "online", "s2", 300)
WILL_2 = status(4, "g", "offline", "s2", None)


def state(*statuses: GatewayStatus) -> tuple[str, str]:
    sessions = GatewaySessions()
    last: GatewayRow | None = None
    for item in statuses:
        last = sessions.apply(item) or last
    assert last is not None
    return last.state, last.session


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((ONLINE_1,), ("online", "s1")),
        ((WILL_1,), ("offline", "s1")),
        ((ONLINE_1, WILL_1), ("offline", "s1")),
        ((ONLINE_1, ONLINE_2, WILL_1), ("online", "s2")),
        ((ONLINE_1, ONLINE_2, WILL_1, WILL_2), ("offline", "s2")),
        ((ONLINE_1, ONLINE_2, ONLINE_1), ("online", "s2")),
        ((ONLINE_1, WILL_1, ONLINE_1), ("offline", "s1")),
        ((ONLINE_1, WILL_1, ONLINE_2), ("online", "s2")),
        ((ONLINE_1, WILL_1, status(5, "g", "online", "s1", 500)), ("online", "s1")),
        ((ONLINE_2, WILL_2, ONLINE_1), ("offline", "s2")),
        ((ONLINE_2, WILL_1), ("online", "s2")),
        ((WILL_1, WILL_2), ("offline", "s1")),
        ((WILL_1, ONLINE_2, WILL_1), ("online", "s2")),
    ],
)
def test_state_after_statuses(statuses: tuple[GatewayStatus, ...], expected: tuple[str, str]) -> None:
    assert state(*statuses) == expected
    gateways = Gateways("gateway.down", 0)
    for item in statuses:
        gateways.take(item)
    held = gateways.states["g"]
    assert ("online" if held.online else "offline", held.session) == expected
    assert gateways.down == (set() if held.online else {"g"})


def test_a_will_keeps_the_time_the_gateway_gave() -> None:
    sessions = GatewaySessions()
    sessions.apply(ONLINE_1)
    row = sessions.apply(WILL_1)
    assert row is not None
    assert (row.at, row.received_at) == (100, WILL_1.received_at)


def test_a_repetition_changes_nothing() -> None:
    sessions = GatewaySessions()
    assert sessions.apply(ONLINE_1) is not None
    assert sessions.apply(ONLINE_1) is None


def test_rows_read_back_continue_the_rule() -> None:
    sessions = GatewaySessions([GatewayRow("g", "online", "s2", 300, 1)])
    assert sessions.apply(WILL_1) is None
    assert sessions.apply(ONLINE_1) is None
    assert sessions.apply(WILL_2) is not None


def test_gateways_do_not_concern_each_other() -> None:
    sessions = GatewaySessions()
    sessions.apply(ONLINE_1)
    other = sessions.apply(status(9, "h", "offline", "s9", None))
    assert other == GatewayRow("h", "offline", "s9", None, other.received_at if other else 0)
