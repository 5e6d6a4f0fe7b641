"""What the database holds against what the engine holds once a replay is over.

They agree unless the engine could not be brought back exactly: no snapshot fits (rules were edited, files damaged) and
the journal no longer reaches back to where an episode began. Then an alarm nobody watches any more must not stay open
for ever, and one that the database never saw must be told. Pure, no errors.
"""

from collections.abc import Mapping

import msgspec

from devices.model import Milliseconds
from rules.model import Alarm, State, Transition

_NOTE = "The rules restarted without the history of this alarm. 规则重启后没有该告警的历史记录。"


def differences(committed: Mapping[str, Alarm], held: Mapping[str, Alarm], now: Milliseconds) -> list[Transition]:
    """Transitions that make `committed` (open alarms of the database) equal to `held` (the engine's)."""
    ended = [_end(alarm, now) for identity, alarm in committed.items() if identity not in held]
    begun = [
        Transition(
            alarm=msgspec.structs.replace(alarm),
            from_state=committed[identity].state if identity in committed else State.NORM,
            to_state=alarm.state,
            cause="raise",
            at=alarm.raised_at,
            recorded_at=now,
        )
        for identity, alarm in held.items()
        if identity not in committed or alarm.version > committed[identity].version
    ]
    return ended + begun


def _end(alarm: Alarm, now: Milliseconds) -> Transition:
    ended = msgspec.structs.replace(
        alarm, state=State.NORM, version=alarm.version + 1, returned_at=alarm.returned_at or now
    )
    return Transition(
        alarm=ended, from_state=alarm.state, to_state=State.NORM, cause="reset", at=now, recorded_at=now, note=_NOTE
    )
