/** How many readings arrive per second, from the counter as it was seen every two seconds. */

import type { Sample } from "../live/stream.svelte";

/** A counter that fell (a service set up anew) leaves a gap, never a negative rate. */
export function receivedRates(samples: readonly Sample[]): { times: number[]; values: (number | null)[] } {
  const times: number[] = [];
  const values: (number | null)[] = [];
  for (let index = 1; index < samples.length; index += 1) {
    const [before, after] = [samples[index - 1] as Sample, samples[index] as Sample];
    const seconds = (after.at - before.at) / 1000;
    if (seconds <= 0) continue;
    const gained = after.received - before.received;
    times.push(after.at);
    values.push(gained < 0 ? null : gained / seconds);
  }
  return { times, values };
}
