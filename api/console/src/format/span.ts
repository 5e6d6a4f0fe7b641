/** Lengths of time in words, with the texts of the language given. */

import type { Texts } from "../text/language.svelte";

/** "14 min", "3 h 20 min": two units at most. Negative lengths (clock differences) read as zero. */
export function span(ms: number, text: Texts): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return text.span.seconds(seconds);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return text.span.minutes(minutes);
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return text.span.hours(hours, minutes % 60);
  return text.span.days(Math.floor(hours / 24), hours % 24);
}

/** "5 min ago"; within ten seconds "just now". */
export function ago(thenMs: number, nowMs: number, text: Texts): string {
  const seconds = Math.round((nowMs - thenMs) / 1000);
  if (seconds < 10) return text.ago.now;
  if (seconds < 60) return text.ago.seconds(seconds);
  if (seconds < 3600) return text.ago.minutes(Math.floor(seconds / 60));
  if (seconds < 86_400) return text.ago.hours(Math.floor(seconds / 3600));
  return text.ago.days(Math.floor(seconds / 86_400));
}
