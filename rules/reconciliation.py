"""What the database holds against what the engine holds once a replay is over.

They agree unless the engine could not be brought back exactly: no snapshot fits (rules were edited, files damaged) and
the journal no longer reaches back to where an episode began. Then an alarm nobody watches any more must not stay open
for ever, and one that the database never saw must be told. No errors.
"""

from collections.abc import Mapping

import msgspec

from devices.model import Milliseconds
from rules.model import Alarm, State, Transition

_NOTE = "The rules restarted without the history of this alarm. 规则重启后没有该告警的历史记录。"


def reconcile(committed: Mapping[str, Alarm], held: Mapping[str, Alarm], now: Milliseconds) -> list[Transition]:
    """Transitions that make `committed` (of the database: open alarms, and those that are held) equal to `held` (the
    engine's). Lifts the version of a held alarm to the committed one: a change below it would be taken for known.
    """
    open_ones = {identity: alarm for identity, alarm in committed.items() if alarm.state is not State.NORM}
    found = [_end(alarm, now) for identity, alarm in open_ones.items() if identity not in held]
    for identity, alarm in held.items():
        known = committed.get(identity)
        if known is None or alarm.version > known.version:
            from_state = State.NORM if known is None else known.state
            found.append(_told(alarm, from_state, "raise", alarm.raised_at, now))
            continue
        alarm.version = known.version
        if alarm.state is not known.state:
            alarm.version += 1
            found.append(_told(alarm, known.state, "reset", now, now, note=_NOTE))
    return found


def _told(
    alarm: Alarm, from_state: State, cause: str, at: Milliseconds, now: Milliseconds, note: str | None = None
) -> Transition:
    return Transition(
        alarm=msgspec.structs.replace(alarm),
        from_state=from_state,
        to_state=alarm.state,
        cause=cause,
        at=at,
        recorded_at=now,
        note=note,
        notify=alarm.state is State.UNACK or cause == "raise",
    )


def _end(alarm: Alarm, now: Milliseconds) -> Transition:
    ended = msgspec.structs.replace(
        alarm, state=State.NORM, version=alarm.version + 1, returned_at=alarm.returned_at or now
    )
    return Transition(
        alarm=ended, from_state=alarm.state, to_state=State.NORM, cause="reset", at=now, recorded_at=now, note=_NOTE
    )
