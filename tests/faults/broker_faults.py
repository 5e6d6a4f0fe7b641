"""Rows 10, 12 and 19: the broker is restarted, forgets our session, or sends a storm of retained messages."""

import time

from tests.faults.matrix import Row, Scale
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig

_RECONNECTED = 5.0  # s


def restarted(scale: Scale) -> Outcome:
    """SIGTERM and start again, under load: the broker writes its sessions and queues to disk."""
    restarts = scale.count(10, "restarts")
    delays = []
    with Rig() as rig:
        rig.open()
        load = rig.load()
        for _ in range(restarts):
            time.sleep(scale.random.uniform(0.5, 3.0))
            rig.raise_alarm()
            rig.broker.stop()
            time.sleep(scale.random.uniform(0.0, 1.0))
            rig.broker.start()
            delays.append(_reconnected(rig, time.time()))
        load.stop()
        rig.publishers[0].drain()
        recovery = rig.settle()
        lost_sessions = rig.service.document()["sessions_lost"]
        outcome = rig.check()
    outcome.recovery = recovery
    outcome.figures |= {"restarts": restarts, "longest reconnect": f"{max(delays):.1f} s"}
    outcome.require(max(delays) <= _RECONNECTED, f"reconnected after {max(delays):.1f} s")
    outcome.require(lost_sessions == 0, f"the broker lost our session {lost_sessions} times")
    return outcome


def _reconnected(rig: Rig, since: float) -> float:
    """Seconds until ingest is connected again."""
    while time.time() < since + 30:
        # The listener is up a moment before `start` returns.
        connected = [at for at, _ in rig.service.events("mqtt.connected") if at > since - 1]
        if connected:
            return max(0.0, connected[0] - since)
        time.sleep(0.05)
    raise TimeoutError("ingest did not reconnect within 30 s")


ROWS = (Row("10", "broker SIGTERM and restart", "lost 0, reconnected <= 5 s", restarted),)
