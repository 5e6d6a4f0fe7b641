"""Gateways: their connection state from status messages and wills, and the one alarm that stands for everything
behind a dead one.

A will is written at CONNECT and may arrive after the gateway has come back: `rules.gateway_sessions` says which status
counts. The episode of a gateway's alarm is its session. While every gateway that recently heard a device is down,
the device's non-critical alarms are suppressed by design (ISA-18.2 DSUPR). Owns the state of each gateway; raises
nothing.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec

from devices.model import GatewayStatus, Milliseconds
from rules import evidence, places
from rules.gateway_sessions import supersedes
from rules.lifecycle import Key, Lifecycle
from rules.model import alarm_id
from rules.pack import Rule
from rules.subjects import NEVER, SUPPRESSED, DeviceSubject
from storage.registry import RegistryView

RECENT = 3  # a gateway heard a device recently within this many learnt intervals


class GatewayState(msgspec.Struct):
    """`at` is the newest time that the gateway gave in `session`, `since` the receive time of the last change, `drops`
    how often this session went offline, `back` when it came back (listening clock); `due` is the processing time at
    which being offline becomes an alarm.
    """

    id: str
    district: str
    session: str = ""
    at: Milliseconds | None = None
    online: bool = True
    since: Milliseconds = 0
    drops: int = 0
    back: Milliseconds = -1
    due: Milliseconds = NEVER
    raised: bool = False


class Gateways:
    """State of every gateway that ever published its status. `rule` is the rule's name, None where no pack asks for
    gateways.
    """

    def __init__(self, rule: str | None, on_delay: Milliseconds) -> None:
        self.rule = rule
        self._on_delay = on_delay
        self.states: dict[str, GatewayState] = {}
        self.down: set[str] = set()
        self.waiting: set[str] = set()

    def take(self, status: GatewayStatus) -> GatewayState | None:
        """The gateway whose state changed by this message, None where it says nothing new."""
        state = self.states.get(status.gateway)
        if state is None:
            state = GatewayState(status.gateway, status.district, status.session, since=status.received_at)
            self.states[status.gateway] = state
        elif not supersedes(status, state.session, state.online, state.at):
            return None
        elif status.session != state.session:
            state.session, state.at, state.drops = status.session, None, 0
        state.at = state.at if status.at is None else status.at
        online = status.state == "online"
        if online == state.online:
            return None
        state.online, state.since = online, status.received_at
        if online:
            self.down.discard(state.id)
            self.waiting.discard(state.id)
            state.due = NEVER
        else:
            state.drops += 1
            state.due = status.received_at + self._on_delay
            self.down.add(state.id)
            self.waiting.add(state.id)
        return state

    def ripe(self, clock: Milliseconds) -> list[GatewayState]:
        """Gateways that have been offline for on_delay and not yet raised, in order of name; each is given once."""
        if self.rule is None:
            return []
        ripe = sorted(identity for identity in self.waiting if self.states[identity].due <= clock)
        self.waiting.difference_update(ripe)
        return [self.states[identity] for identity in ripe]

    @staticmethod
    def episode(state: GatewayState) -> int:
        """Names the episode of a gateway's alarm: its session, and which drop of it."""
        digest = blake2b(f"{state.session}\x1f{state.drops}".encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big")

    def suppressor(self, subject: DeviceSubject) -> str | None:
        """The alarm that hides the alarms of this device: None unless every gateway that recently heard it is down."""
        if not self.down or self.rule is None or subject.gateway not in self.down:
            return None
        if subject.others:
            horizon = subject.listened - RECENT * subject.learnt
            if any(heard >= horizon and gateway not in self.down for gateway, heard in subject.others.items()):
                return None
        return alarm_id(self.rule, "gateway", subject.gateway, self.episode(self.states[subject.gateway]))

    def graced(self, subject: DeviceSubject) -> Milliseconds:
        """Listening clock until which a device may stay quiet because its gateway has just come back (-1: no grace)."""
        state = self.states.get(subject.gateway)
        return state.back + subject.learnt if state is not None and state.back >= 0 else -1

    def restore(self, states: list[GatewayState]) -> None:
        """Take over the states of a snapshot."""
        self.states = {state.id: state for state in states}
        self.down = {state.id for state in states if not state.online}
        self.waiting = {state.id for state in states if not state.online and not state.raised}


class RootCause:
    """What a gateway's state means for the alarms: its own, and those of its children, hidden and shown again.

    `graces` are hidden alarms whose gateway came back, with the listening clock until which their devices have time to
    report. `devices` and `lifecycle` are the engine's.
    """

    def __init__(self, rule: Rule | None, devices: Mapping[str, DeviceSubject], lifecycle: Lifecycle) -> None:
        self.gateways = Gateways(rule.id if rule else None, rule.on_delay if rule else 0)
        self.graces: dict[Key, Milliseconds] = {}
        self._rule = rule
        self._devices = devices
        self._lifecycle = lifecycle

    def suppressor(self, subject: DeviceSubject, rule: Rule) -> str | None:
        """The alarm that hides an alarm of `rule` on this device; notes on the subject that it has one. Never a
        critical one.
        """
        found = None if rule.priority == "critical" else self.gateways.suppressor(subject)
        if found is not None:
            subject.watch |= SUPPRESSED
        return found

    def take(self, status: GatewayStatus, listening: Milliseconds) -> None:
        """A gateway's word about itself, or its will."""
        state = self.gateways.take(status)
        if state is None or self._rule is None or not state.online:
            return
        state.back = listening
        if state.raised:
            state.raised = False
            self._lifecycle.return_((self._rule.id, "gateway", state.id), status.received_at)
        for key in sorted(self._lifecycle.suppressed):
            subject = self._devices.get(key[2])
            if subject is not None and self.gateways.suppressor(subject) is None:
                self.graces[key] = listening + subject.learnt

    def tick(self, clock: Milliseconds, listening: Milliseconds, registry: RegistryView) -> bool:
        """Raise what has been offline long enough; show what outlasted its grace. Whether anything was due."""
        ripe = self.gateways.ripe(clock)
        for state in ripe:
            self._down(state, registry)
        over = [key for key, until in self.graces.items() if until <= listening]
        for key in over:
            del self.graces[key]
            subject = self._devices.get(key[2])
            if subject is not None and self.gateways.suppressor(subject) is None:
                self._lifecycle.unsuppress(key, clock)
        return bool(ripe or over)

    def show(self, subject: DeviceSubject, keys: Iterable[Key], at: Milliseconds) -> None:
        """A device with hidden alarms reported: where its gateway is back, what is still active shows at once."""
        if self.gateways.suppressor(subject) is not None:
            return
        subject.watch &= ~SUPPRESSED
        for key in keys:
            self.graces.pop(key, None)
            self._lifecycle.unsuppress(key, at)

    def _down(self, state: GatewayState, registry: RegistryView) -> None:
        assert self._rule is not None
        state.raised = True
        self._lifecycle.raise_(
            self._rule,
            places.of_gateway(state.id, state.district, registry.gateways.get(state.id)),
            self.gateways.episode(state),
            state.since + self._rule.on_delay,
            evidence.of_gateway(state.session, self._rule.on_delay),
            children=len(registry.children.get(state.id, ())),
        )
        for key in [key for key in self._lifecycle.episodes if key[1] == "device"]:
            subject = self._devices.get(key[2])
            if subject is not None and (by := self.gateways.suppressor(subject)) is not None:
                self._lifecycle.suppress(key, by, state.since)
                subject.watch |= SUPPRESSED
