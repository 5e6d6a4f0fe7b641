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

/** How often a chart is worth asking for again. */
export function refreshMs(range: ChartRange, intervalMs: number): number {
  return Math.max(10_000, RANGES[range].bucket ? MINUTE : Math.min(intervalMs, MINUTE));
}
