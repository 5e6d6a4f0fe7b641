/** How many readings arrive per second, from the counter as it was seen every two seconds. */

import type { Sample } from "../live/stream.svelte";

const SHORTEST_AXIS_MS = 60_000;

export interface Rates {
  times: number[];
  /** Readings per second, to a tenth. */
  values: (number | null)[];
  /** First moment of the time axis, ms: a minute before the newest at least. */
  from: number | undefined;
}

/** A counter that fell (a service set up anew) leaves a gap, never a negative rate. */
export function receivedRates(samples: readonly Sample[]): Rates {
  const times: number[] = [];
  const values: (number | null)[] = [];
  for (let index = 1; index < samples.length; index += 1) {
    const [before, after] = [samples[index - 1] as Sample, samples[index] as Sample];
    const seconds = (after.at - before.at) / 1000;
    if (seconds <= 0) continue;
    const gained = after.received - before.received;
    times.push(after.at);
    values.push(gained < 0 ? null : Math.round((10 * gained) / seconds) / 10);
  }
  const [first, last] = [times[0], times.at(-1)];
  const from = first === undefined || last === undefined ? undefined : Math.min(first, last - SHORTEST_AXIS_MS);
  return { times, values, from };
}
