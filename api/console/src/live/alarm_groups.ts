/** One cause, one row: alarms of one rule in one zone that were raised together share a row of the list. Pure functions. */

import type { Alarm } from "../api/model";

/** Raised at most so long after the first of them, alarms count as raised together. */
const TOGETHER_MS = 120_000;

export type Entry =
  | { kind: "alarm"; key: string; alarm: Alarm; member: boolean }
  | { kind: "group"; key: string; alarms: readonly Alarm[]; open: boolean };

/** The rows for a list that is sorted newest first. A group stands where its newest alarm stood; one is open, with a row for each of
 * its alarms below, where `opened` has the id of any of them: whoever joins or leaves, it stays open.
 */
export function entries(list: readonly Alarm[], opened: ReadonlySet<string>): Entry[] {
  const groups = grouped(list);
  const rows: Entry[] = [];
  for (const alarm of list) {
    const alarms = groups.get(alarm.id);
    if (!alarms) {
      rows.push({ kind: "alarm", key: alarm.id, alarm, member: false });
    } else if (alarms[0] === alarm) {
      const open = alarms.some((one) => opened.has(one.id));
      rows.push({ kind: "group", key: `group ${alarms.at(-1)?.id}`, alarms, open });
      if (open) rows.push(...alarms.map((one): Entry => ({ kind: "alarm", key: one.id, alarm: one, member: true })));
    }
  }
  return rows;
}

/** The group, newest first, of each alarm that is not alone. The oldest of a group says when it began, so that newer ones change nothing. */
function grouped(list: readonly Alarm[]): Map<string, Alarm[]> {
  const latest = new Map<string, { begun: number; alarms: Alarm[] }>();
  const groups = new Map<string, Alarm[]>();
  for (const alarm of list.toReversed()) {
    if (!alarm.zone) continue;
    const cause = `${alarm.rule} ${alarm.zone}`;
    const raised = Date.parse(alarm.raised_at);
    const known = latest.get(cause);
    if (!known || raised - known.begun > TOGETHER_MS) {
      latest.set(cause, { begun: raised, alarms: [alarm] });
      continue;
    }
    known.alarms.unshift(alarm);
    for (const one of known.alarms) groups.set(one.id, known.alarms);
  }
  return groups;
}
