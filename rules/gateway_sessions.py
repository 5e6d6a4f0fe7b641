"""The connection state of every gateway, kept by the session rule (MQTT 5 §3.1.2.5: the will is written at CONNECT).

A will arrives whenever the broker notices, perhaps after the gateway has connected again. So only the session that is
in force may end itself, and a session that has ended does not come back: an online status of it is an old copy.
Where nothing is known of a gateway, any status is taken. The engine (`rules.root_cause`) follows the same rule.
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


def supersedes(status: GatewayStatus, session: str, online: bool, at: Milliseconds | None) -> bool:
    """Whether `status` says something new of a gateway last known in `session`; `at` as in `GatewayRow`."""
    newer = at is None or status.at is None or status.at > at
    if status.session != session:
        return status.state == "online" and newer
    if status.state == "offline":
        return online
    return not online and status.at is not None and newer


class GatewaySessions:
    """The newest state per gateway."""

    def __init__(self, states: Iterable[GatewayRow] = ()) -> None:
        self._states = {state.gateway: state for state in states}

    def apply(self, status: GatewayStatus) -> GatewayRow | None:
        """The new row, or None where `status` says nothing new."""
        known, at = self._states.get(status.gateway), status.at
        if known is not None:
            if not supersedes(status, known.session, known.state == "online", known.at):
                return None
            if at is None and known.session == status.session:
                at = known.at
        state = GatewayRow(status.gateway, status.state, status.session, at, status.received_at)
        self._states[status.gateway] = state
        return state
