"""The life of an alarm: ISA-18.2 states, episodes, paging, and what people may do to them (IEC 62682 §5).

Receives what happened (raised, returned, suppressed, a person's action, time) and gives `Transition`s, each with a
copy of its alarm. Owns every episode that is not over and, for comments and verdicts, the last thousand that are.
Refusals are answers, not errors.

An episode begins with a raise. Raised again before it was acknowledged, it goes on (`occurrences`). It ends in NORM:
acknowledged and returned. Where the very condition that began it is then found to have lasted (a reading denied for a
moment what the clock had found), it goes on under its key, which is the start of the condition. A raise that comes out
of a device's backlog is kept back until the backlog ends: still active then, it pages; already over, it is recorded
without paging.
"""

import copy
from collections import OrderedDict
from datetime import datetime
from typing import Any

import msgspec

from devices.model import Milliseconds
from rules.explain import text
from rules.model import Action, Alarm, State, SubjectKind, Transition, alarm_id
from rules.pack import Rule
from rules.places import Place

Key = tuple[str, SubjectKind, str]  # rule, kind and id of the subject
_ENDED = 1000
_HOUR = 3_600_000
_FLAPS = 5  # more raises than this within an hour no longer page
_LONGEST_SHELF = {"critical": 8 * _HOUR}
_LONGEST_SHELF_ELSE = 30 * 24 * _HOUR


class Kept(msgspec.Struct):
    """A raise kept back because it came out of a backlog; `clock` and `time` when that was, to see whether the
    backlog goes on.
    """

    cause: str
    to_state: State
    at: Milliseconds
    clock: Milliseconds
    time: Milliseconds


class Episode(msgspec.Struct):
    """One occurrence of an alarm that is not over. `holds`: its condition is true; `paged`: somebody was told."""

    alarm: Alarm
    holds: bool = True
    paged: bool = False
    kept: Kept | None = None
    raises: list[Milliseconds] = []


class Lifecycle:
    """All episodes by (rule, subject); transitions collect in `out` until `take()`. `clock` is the present processing
    time.
    """

    def __init__(self) -> None:
        self.episodes: dict[Key, Episode] = {}
        self.active: dict[str, Alarm] = {}
        self.ended: OrderedDict[str, Alarm] = OrderedDict()
        self.suppressed: set[Key] = set()
        self.shelved: set[Key] = set()
        self.kept: set[Key] = set()
        self.transitions_by_rule: dict[str, int] = {}
        self.clock: Milliseconds = 0
        self._keys: dict[str, Key] = {}
        self._out: list[Transition] = []

    def take(self) -> list[Transition]:
        """The transitions since the last call, in order."""
        out, self._out = self._out, []
        return out

    def raise_(
        self,
        rule: Rule,
        place: Place,
        start: Milliseconds,
        at: Milliseconds,
        evidence: dict[str, Any],
        *,
        suppressed_by: str | None = None,
        keep: Milliseconds | None = None,
        children: int = 0,
    ) -> None:
        """The condition held for on_delay: `start` names the episode, `at` is when it became an alarm (event time).

        `suppressed_by` makes it DSUPR; `keep` (event time of the reading) keeps it back until its device's backlog
        ends.
        """
        key: Key = (rule.id, place.kind, place.id)
        episode = self.episodes.get(key)
        if episode is None:
            episode = self._begin(rule, place, start, children)
        alarm = episode.alarm
        cause = "reraise" if alarm.version else "raise"
        alarm.evidence = evidence
        facts = evidence | {"children": children or None}
        alarm.explanation_zh = text(rule.explanation_zh, facts, place.id, place.name_zh)
        alarm.explanation_en = text(rule.explanation_en, facts, place.id, place.name_en)
        alarm.advice_zh = text(rule.advice_zh, facts, place.id, place.name_zh)
        alarm.advice_en = text(rule.advice_en, facts, place.id, place.name_en)
        episode.holds = True
        to_state = State.UNACK
        if alarm.state is State.SHLVD:
            to_state = State.SHLVD
        elif suppressed_by is not None:
            to_state = State.DSUPR
            alarm.suppressed_by = suppressed_by
        if cause == "raise":
            alarm.raised_at = at
        if keep is not None:
            episode.kept = Kept(cause, to_state, at, self.clock, keep)
            self.kept.add(key)
            return
        self._raised(key, episode, cause, to_state, at, notify=True)

    def _begin(self, rule: Rule, place: Place, start: Milliseconds, children: int) -> Episode:
        identity = alarm_id(rule.id, place.kind, place.id, start)
        alarm = self.ended.get(identity) or Alarm(
            id=identity,
            rule=rule.id,
            subject_kind=place.kind,
            subject_id=place.id,
            family=place.family,
            district=place.district,
            zone=place.zone,
            gateway=place.gateway,
            priority=rule.priority,
            state=State.NORM,
            version=0,
            raised_at=start,
            title_zh=rule.title_zh,
            title_en=rule.title_en,
            evidence={},
            explanation_zh="",
            explanation_en="",
            lon=place.lon,
            lat=place.lat,
            crs=place.crs,
            case_key=rule.case,
            children=children,
            occurrences=0,
        )
        alarm.acked_at = alarm.acked_by = None
        key: Key = (rule.id, place.kind, place.id)
        episode = self.episodes[key] = Episode(alarm)
        self._keys[identity] = key
        return episode

    def _raised(self, key: Key, episode: Episode, cause: str, to_state: State, at: Milliseconds, notify: bool) -> None:
        episode.kept = None
        self.kept.discard(key)
        episode.alarm.occurrences += 1
        episode.alarm.returned_at = None
        episode.raises = [moment for moment in episode.raises if moment > at - _HOUR][-_FLAPS:]
        notify = notify and to_state is State.UNACK and len(episode.raises) < _FLAPS
        episode.raises.append(at)
        self._emit(episode, cause, to_state, at, notify=notify)

    def return_(self, key: Key, at: Milliseconds, *, notify: bool = True, note: str | None = None) -> None:
        """The condition has been away for off_delay. `notify` is False inside a backlog."""
        episode = self.episodes.get(key)
        if episode is None or not episode.holds:
            return
        if episode.kept is not None:
            self._raised(key, episode, episode.kept.cause, episode.kept.to_state, episode.kept.at, notify)
        episode.holds = False
        at = max(at, episode.raises[-1])  # the clock may have raised before a slow reading denied it
        alarm = episode.alarm
        alarm.returned_at = at
        told = notify and episode.paged and alarm.state in (State.UNACK, State.ACKED, State.DSUPR)
        match alarm.state:
            case State.ACKED:
                to_state = State.NORM
            case State.DSUPR:
                to_state = State.RTNUN if episode.paged and alarm.acked_at is None else State.NORM
            case State.SHLVD | State.OOSRV:
                to_state = alarm.state
            case _:
                to_state = State.RTNUN
        if alarm.state is State.DSUPR:
            alarm.suppressed_by = None
        self._emit(episode, "return", to_state, at, notify=told, note=note)

    def announce(self, key: Key) -> None:
        """The backlog is over and the alarm is still active: it pages now."""
        episode = self.episodes.get(key)
        if episode is not None and episode.kept is not None:
            self._raised(key, episode, episode.kept.cause, episode.kept.to_state, episode.kept.at, notify=True)

    def suppress(self, key: Key, by: str, at: Milliseconds) -> None:
        """Hide an active alarm under `by` (its gateway is down); never a critical one."""
        episode = self.episodes[key]
        if episode.alarm.priority == "critical" or episode.alarm.state not in (State.UNACK, State.ACKED):
            return
        episode.alarm.suppressed_by = by
        self._emit(episode, "suppress", State.DSUPR, at, notify=False)

    def unsuppress(self, key: Key, at: Milliseconds) -> None:
        """The cause is gone and the alarm is still active: back to its state, and paged if nobody has acknowledged
        it.
        """
        episode = self.episodes.get(key)
        if episode is None or episode.alarm.state is not State.DSUPR:
            return
        episode.alarm.suppressed_by = None
        to_state = State.UNACK if episode.alarm.acked_at is None else State.ACKED
        self._emit(episode, "unsuppress", to_state, at, notify=to_state is State.UNACK)

    def expire_shelves(self, now: Milliseconds) -> None:
        """Unshelve what was shelved until now."""
        for key in sorted(self.shelved):
            episode = self.episodes[key]
            if (episode.alarm.shelved_until or 0) <= now:
                self._unshelve(episode, now, None, None)

    def apply(self, action: Action, now: Milliseconds) -> str | None:
        """Do what a person asked, or say why not (zh / en)."""
        key = self._keys.get(action.alarm)
        note = action.arguments.get("note")
        if key is None or self.episodes[key].alarm.state is State.NORM:  # over, or kept back and not yet to be seen
            return self._apply_ended(action, now, note)
        episode = self.episodes[key]
        alarm = episode.alarm
        if action.kind in ("acknowledge", "shelve", "unshelve") and action.seen_version != alarm.version:
            moved_on = f"the alarm has moved on to version {alarm.version}: reload, then decide"
            return f"告警已更新到第 {alarm.version} 版，请刷新后再操作 / {moved_on}"
        match action.kind:
            case "acknowledge":
                if alarm.state not in (State.UNACK, State.RTNUN):
                    return f"状态 {alarm.state} 无需确认 / nothing to acknowledge in state {alarm.state}"
                alarm.acked_at, alarm.acked_by = now, action.actor
                to_state = State.ACKED if alarm.state is State.UNACK else State.NORM
                self._emit(episode, "acknowledge", to_state, now, actor=action.actor, note=note, notify=False)
            case "shelve":
                return self._shelve(key, episode, action, now)
            case "unshelve":
                if alarm.state is not State.SHLVD:
                    return f"状态 {alarm.state} 未搁置 / not shelved, state {alarm.state}"
                self._unshelve(episode, now, action.actor, note)
            case _:
                answer = _annotate(alarm, action)
                if answer is not None:
                    return answer
                self._emit(
                    episode,
                    action.kind,
                    alarm.state,
                    now,
                    actor=action.actor,
                    note=note,
                    notify=action.kind == "assign",
                )
        return None

    def _apply_ended(self, action: Action, now: Milliseconds, note: str | None) -> str | None:
        alarm = self.ended.get(action.alarm)
        if alarm is None:
            return _UNKNOWN
        if action.kind not in ("comment", "assign", "verdict"):
            return "告警已结束 / the alarm is over"
        answer = _annotate(alarm, action)
        if answer is None:
            self._emit(Episode(alarm), action.kind, alarm.state, now, actor=action.actor, note=note, notify=False)
        return answer

    def _shelve(self, key: Key, episode: Episode, action: Action, now: Milliseconds) -> str | None:
        alarm = episode.alarm
        until, reason = _moment(action.arguments.get("until")), action.arguments.get("reason")
        longest = _LONGEST_SHELF.get(alarm.priority, _LONGEST_SHELF_ELSE)
        if not isinstance(reason, str) or not reason.strip():
            return "搁置须填写原因 / shelving needs a reason"
        if until is None or until <= now:
            return "搁置须有将来的截止时间 / shelving needs an end in the future"
        if until - now > longest:
            hours = longest // _HOUR
            return f"该优先级最长搁置 {hours} 小时 / this priority may be shelved for {hours} h at most"
        if alarm.state not in (State.UNACK, State.ACKED, State.RTNUN):
            return f"状态 {alarm.state} 不能搁置 / cannot be shelved in state {alarm.state}"
        alarm.shelved_until, alarm.shelve_reason = until, reason
        self.shelved.add(key)
        note = action.arguments.get("note") or reason
        self._emit(episode, "shelve", State.SHLVD, now, actor=action.actor, note=note, notify=False)
        return None

    def _unshelve(self, episode: Episode, now: Milliseconds, actor: str | None, note: str | None) -> None:
        alarm = episode.alarm
        alarm.shelved_until = alarm.shelve_reason = None
        still = State.UNACK if alarm.acked_at is None else State.ACKED
        to_state = still if episode.holds else State.NORM
        self._emit(episode, "unshelve", to_state, now, actor=actor, note=note, notify=to_state is State.UNACK)

    def _emit(
        self,
        episode: Episode,
        cause: str,
        to_state: State,
        at: Milliseconds,
        *,
        notify: bool,
        actor: str | None = None,
        note: str | None = None,
    ) -> None:
        alarm = episode.alarm
        key: Key = (alarm.rule, alarm.subject_kind, alarm.subject_id)
        from_state, alarm.state = alarm.state, to_state
        alarm.version += 1
        episode.paged = episode.paged or notify
        self.transitions_by_rule[alarm.rule] = self.transitions_by_rule.get(alarm.rule, 0) + 1
        if to_state is not State.SHLVD:
            self.shelved.discard(key)
        (self.suppressed.add if to_state is State.DSUPR else self.suppressed.discard)(key)
        if to_state is not State.NORM:
            self.active[alarm.id] = alarm
            self.ended.pop(alarm.id, None)
        elif from_state is not State.NORM:
            self._end(key, alarm)
        self._out.append(
            Transition(
                alarm=copy.copy(alarm),
                from_state=from_state,
                to_state=to_state,
                cause=cause,
                at=at,
                recorded_at=self.clock,
                actor=actor,
                note=note,
                notify=notify,
            )
        )

    def _end(self, key: Key, alarm: Alarm) -> None:
        del self._keys[alarm.id], self.episodes[key], self.active[alarm.id]
        self.ended[alarm.id] = alarm
        while len(self.ended) > _ENDED:
            self.ended.popitem(last=False)

    def restore(self, episodes: list[Episode], ended: list[Alarm]) -> None:
        """Take over the episodes of a snapshot; everything else here follows from them."""
        self.ended = OrderedDict((alarm.id, alarm) for alarm in ended)
        for episode in episodes:
            alarm = episode.alarm
            if alarm.id in self.ended:
                self.ended[alarm.id] = alarm
            key: Key = (alarm.rule, alarm.subject_kind, alarm.subject_id)
            self.episodes[key] = episode
            self._keys[alarm.id] = key
            if alarm.state is not State.NORM:
                self.active[alarm.id] = alarm
            if episode.kept is not None:
                self.kept.add(key)
            if alarm.state is State.DSUPR:
                self.suppressed.add(key)
            elif alarm.state is State.SHLVD:
                self.shelved.add(key)


_UNKNOWN = "告警不存在或早已结束 / no such alarm, or it ended long ago"
_VERDICTS = ("fixed", "false_alarm", "cannot_find")


def _annotate(alarm: Alarm, action: Action) -> str | None:
    """Comment, assign and verdict: taken at any version."""
    if action.kind == "assign":
        assignee = action.arguments.get("assignee")
        if assignee is not None and (not isinstance(assignee, str) or len(assignee) > 64):
            return "指派对象应为姓名 / an assignee is a name of at most 64 characters"
        alarm.assignee = assignee or None
    elif action.kind == "verdict":
        verdict = action.arguments.get("verdict")
        if verdict not in _VERDICTS:
            return f"现场结论应为 {'、'.join(_VERDICTS)} 之一 / a verdict is one of {', '.join(_VERDICTS)}"
        alarm.verdict = verdict
    elif not str(action.arguments.get("note") or "").strip():
        return "备注不能为空 / a comment needs a note"
    return None


def _moment(value: object) -> Milliseconds | None:
    """ms, or ISO 8601 with offset."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return int(moment.timestamp() * 1000) if moment.tzinfo is not None else None
    return None
