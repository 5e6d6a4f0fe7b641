/** A loaded list of alarms kept in step with the live stream, as pure functions. Newest first, as the API lists them. */

import type { AlarmFilter } from "../api/calls";
import type { Alarm, State } from "../api/model";

const ACTIVE: ReadonlySet<State> = new Set<State>(["UNACK", "ACKED"]);

/** Whether the list with this filter shows the alarm. The text is looked for where the API looks for it. */
export function matches(alarm: Alarm, filter: AlarmFilter): boolean {
  if (filter.active && !ACTIVE.has(alarm.state)) return false;
  if (filter.state?.length && !filter.state.includes(alarm.state)) return false;
  if (filter.priority?.length && !filter.priority.includes(alarm.priority)) return false;
  if (filter.district && alarm.district !== filter.district) return false;
  if (filter.family && alarm.family !== filter.family) return false;
  if (filter.subject && alarm.subject.id !== filter.subject) return false;
  if (filter.suppressed_by && alarm.suppressed_by !== filter.suppressed_by) return false;
  if (filter.q) {
    const wanted = filter.q.toLowerCase();
    const texts = [alarm.id, alarm.title.zh, alarm.title.en, alarm.rule, alarm.subject.id, alarm.subject.name.zh, alarm.subject.name.en];
    if (!texts.some((text) => text.toLowerCase().includes(wanted))) return false;
  }
  return true;
}

/** The list after one alarm changed: replaced in place, put where it belongs, or gone. An older version changes nothing. */
export function merge(list: readonly Alarm[], alarm: Alarm, filter: AlarmFilter): readonly Alarm[] {
  const index = list.findIndex((known) => known.id === alarm.id);
  const known = list[index];
  if (known && known.version >= alarm.version) return list;
  if (!matches(alarm, filter)) return known ? list.toSpliced(index, 1) : list;
  if (known && known.raised_at === alarm.raised_at) return list.toSpliced(index, 1, alarm);
  const others = known ? list.toSpliced(index, 1) : list;
  const place = others.findIndex((other) => before(alarm, other));
  return others.toSpliced(place < 0 ? others.length : place, 0, alarm);
}

/** Adds a page to the end; what the stream has brought meanwhile stays as it is. */
export function append(list: readonly Alarm[], page: readonly Alarm[]): readonly Alarm[] {
  const known = new Set(list.map((alarm) => alarm.id));
  return [...list, ...page.filter((alarm) => !known.has(alarm.id))];
}

function before(one: Alarm, other: Alarm): boolean {
  const difference = Date.parse(one.raised_at) - Date.parse(other.raised_at);
  return difference > 0 || (difference === 0 && one.id > other.id);
}
