/** The state of the live connection as a pure function of what happened to it, so that every path can be tested. */

/** Status events come every 2 s: this long without a word means that the connection is dead although it looks open. */
export const SILENCE_MS = 7_000;
/** Broken for longer than this, what is on the screen is called stale. */
export const STALE_MS = 12_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;

export type Phase = "connecting" | "live" | "reconnecting" | "stale";

export interface Link {
  phase: Phase;
  /** When the server was last heard, ms; null before the first time. */
  heardAt: number | null;
  /** Transition sequence to resume after; null resumes from now. */
  lastSeq: number | null;
  /** Failed attempts since the server was last heard. */
  attempt: number;
}

export type Happening =
  | { type: "begun"; lastSeq: number | null }
  | { type: "heard"; at: number; seq?: number | null }
  | { type: "lost"; at: number }
  | { type: "tick"; at: number };

export const UNCONNECTED: Link = { phase: "connecting", heardAt: null, lastSeq: null, attempt: 0 };

export function next(link: Link, happening: Happening): Link {
  switch (happening.type) {
    case "begun":
      return { ...UNCONNECTED, lastSeq: happening.lastSeq };
    case "heard":
      return {
        phase: "live",
        heardAt: happening.at,
        // An id never goes back: a replay after a reconnect may repeat what is known.
        lastSeq: happening.seq == null ? link.lastSeq : Math.max(link.lastSeq ?? 0, happening.seq),
        attempt: 0,
      };
    case "lost":
      return { ...link, phase: broken(link, happening.at), attempt: link.attempt + 1 };
    case "tick":
      if (link.phase === "live" && !silent(link.heardAt, happening.at)) return link;
      return { ...link, phase: link.phase === "connecting" ? "connecting" : broken(link, happening.at) };
  }
}

/** True when a connection has said nothing since `since` for so long that it must be closed and opened again. */
export function silent(since: number | null, at: number): boolean {
  return since !== null && at - since > SILENCE_MS;
}

/** How long to wait before the next attempt: doubling, capped, with jitter so that a city of consoles does not return at once. */
export function delay(attempt: number, random: number): number {
  const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.max(0, attempt - 1));
  return ceiling * (0.5 + random / 2);
}

function broken(link: Link, at: number): Phase {
  if (link.heardAt === null) return link.attempt > 0 ? "reconnecting" : "connecting";
  return at - link.heardAt > STALE_MS ? "stale" : "reconnecting";
}
