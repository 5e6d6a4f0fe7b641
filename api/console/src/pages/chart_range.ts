/** The ranges of a device's charts, with the bucket that keeps each near 300 points. */

import type { Property } from "../api/model";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export type ChartRange = "1h" | "24h" | "7d" | "30d";

/** Lengths and buckets in ms; without a bucket the values come as they were reported. */
export const RANGES: Record<ChartRange, { length: number; bucket?: number }> = {
  "1h": { length: HOUR },
  "24h": { length: DAY, bucket: 5 * MINUTE },
  "7d": { length: 7 * DAY, bucket: 30 * MINUTE },
  "30d": { length: 30 * DAY, bucket: 2 * HOUR },
};

/** A register that only counts: the mean of a bucket would mean nothing, its last value does. */
export function isTotal(property: string): boolean {
  return property.endsWith("_total") || property === "volume_reverse";
}

/** A column as numbers for a chart: the word of a state becomes its place in the list of words. */
export function asNumbers(property: Property, column: readonly (number | string | null)[]): (number | null)[] {
  return column.map((value) => {
    if (typeof value !== "string") return value;
    const place = property.values.indexOf(value);
    return place < 0 ? null : place;
  });
}

/** How many steps may pass without a value before the line is broken: one lost message is no outage. */
const BREAK_AFTER = 3.5;
/** From so many spacings before a gap, and after it, is told what spacing is usual there. */
const NEIGHBOURS = 5;

/** Only the moments that have a value, with one null where the line must break because nothing was reported for too long.
 *
 * Properties of one device need not come together, and buckets may be shorter than the device's interval: nulls of a column
 * alone say nothing. `stepMs` is the longer of the device's interval and the bucket. History may lie further apart than that: what
 * is usual before or after a gap is not an outage either.
 */
export function brokenWhereSilent(
  times: readonly number[],
  values: readonly (number | null)[],
  stepMs: number,
): { times: number[]; values: (number | null)[] } {
  const known = times.flatMap((time, index) => (values[index] == null ? [] : [{ time, value: values[index] as number }]));
  const spacings = known.slice(1).map(({ time }, index) => time - (known[index] as { time: number }).time);
  const line: { times: number[]; values: (number | null)[] } = { times: [], values: [] };
  known.forEach(({ time, value }, index) => {
    const spacing = spacings[index - 1];
    if (spacing !== undefined && spacing > BREAK_AFTER * stepMs) {
      const usual = Math.max(
        stepMs,
        usualSpacing(spacings.slice(Math.max(0, index - 1 - NEIGHBOURS), index - 1)),
        usualSpacing(spacings.slice(index, index + NEIGHBOURS)),
      );
      if (spacing > BREAK_AFTER * usual) {
        line.times.push(time - spacing + 1);
        line.values.push(null);
      }
    }
    line.times.push(time);
    line.values.push(value);
  });
  return line;
}

/** The median, of an even number the lower one; 0 where one spacing alone, perhaps an outage itself, would decide. */
function usualSpacing(spacings: readonly number[]): number {
  if (spacings.length < 2) return 0;
  return spacings.toSorted((one, other) => one - other)[Math.floor((spacings.length - 1) / 2)] ?? 0;
}

/** How often a chart is worth asking for again. */
export function refreshMs(range: ChartRange, intervalMs: number): number {
  return Math.max(10_000, RANGES[range].bucket ? MINUTE : Math.min(intervalMs, MINUTE));
}
