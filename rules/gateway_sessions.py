"""The connection state of every gateway, kept by the session rule (MQTT 5 §3.1.2.5: the will is written at CONNECT).

A will arrives whenever the broker notices, perhaps after the gateway has connected again. So only the session that is
in force may end itself, and a session that has ended does not come back: an online status of it is an old copy.
Receives statuses in journal order; gives the rows that changed. Pure, no errors.
"""

from collections.abc import Iterable

import msgspec

from devices.model import GatewayStatus, Milliseconds


class GatewayRow(msgspec.Struct, frozen=True):
    """A row of `storage.tables.gateway_states`; `at` is the newest time the gateway itself gave in this session."""

    gateway: str
    state: str
    session: str
    at: Milliseconds | None
    received_at: Milliseconds


class GatewaySessions:
    """The newest state per gateway."""

    def __init__(self, states: Iterable[GatewayRow] = ()) -> None:
        self._states = {state.gateway: state for state in states}

    def apply(self, status: GatewayStatus) -> GatewayRow | None:
        """The new row, or None where `status` says nothing new."""
        known = self._states.get(status.gateway)
        if known is not None and not _supersedes(status, known):
            return None
        at = status.at
        if at is None and known is not None and known.session == status.session:
            at = known.at
        state = GatewayRow(status.gateway, status.state, status.session, at, status.received_at)
        self._states[status.gateway] = state
        return state


def _supersedes(status: GatewayStatus, known: GatewayRow) -> bool:
    newer = known.at is None or status.at is None or status.at > known.at
    if status.session != known.session:
        return status.state == "online" and newer
    if status.state == "offline":
        return known.state == "online"
    return known.state == "offline" and status.at is not None and newer
