/** Times as people of the city read them: stored in UTC, shown in Asia/Shanghai, whatever the browser's own zone is. */

export const ZONE = "Asia/Shanghai";

/** The city keeps no summer time: UTC+8 all year. */
const OFFSET_MS = 8 * 3_600_000;

const pad = (value: number): string => String(value).padStart(2, "0");

/** Milliseconds since the epoch of an RFC 3339 time (or of milliseconds); null where there is none or it cannot be read. */
export function toMs(time: string | number | null | undefined): number | null {
  if (time === null || time === undefined || time === "") return null;
  const ms = typeof time === "number" ? time : Date.parse(time);
  return Number.isFinite(ms) ? ms : null;
}

/** "2026-01-01 08:00:05" */
export function dateTime(ms: number): string {
  return `${date(ms)} ${clock(ms)}`;
}

/** "2026-01-01" */
export function date(ms: number): string {
  const local = new Date(ms + OFFSET_MS);
  return `${local.getUTCFullYear()}-${monthDay(ms)}`;
}

/** "01-31" */
export function monthDay(ms: number): string {
  const local = new Date(ms + OFFSET_MS);
  return `${pad(local.getUTCMonth() + 1)}-${pad(local.getUTCDate())}`;
}

/** "08:00:05" */
export function clock(ms: number): string {
  const local = new Date(ms + OFFSET_MS);
  return `${hourMinute(ms)}:${pad(local.getUTCSeconds())}`;
}

/** "08:00" */
export function hourMinute(ms: number): string {
  const local = new Date(ms + OFFSET_MS);
  return `${pad(local.getUTCHours())}:${pad(local.getUTCMinutes())}`;
}

/** The time of day if it is the same day in the city as `now`, month and day before it otherwise. */
export function shortTime(ms: number, now: number): string {
  return date(ms) === date(now) ? clock(ms) : `${monthDay(ms)} ${hourMinute(ms)}`;
}

/** Labels of a time axis: as fine as the step between ticks needs, the date on a second line where the day changes. */
export function axisLabels(ticksMs: readonly number[], stepMs: number): string[] {
  let day = "";
  return ticksMs.map((ms) => {
    const label = stepMs >= 86_400_000 ? monthDay(ms) : stepMs >= 60_000 ? hourMinute(ms) : clock(ms);
    const changed = stepMs < 86_400_000 && date(ms) !== day;
    day = date(ms);
    return changed ? `${label}\n${monthDay(ms)}` : label;
  });
}
