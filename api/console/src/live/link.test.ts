import { describe, expect, it } from "vitest";
import { type Happening, type Link, STALE_MS, UNCONNECTED, delay, next, silent } from "./link";

const play = (happenings: Happening[], from: Link = UNCONNECTED): Link => happenings.reduce(next, from);

describe("the live connection", () => {
  it("resumes after the newest sequence it has seen, also when a replay repeats older ones", () => {
    const link = play([
      { type: "begun", lastSeq: 10 },
      { type: "heard", at: 1, seq: 14 },
      { type: "heard", at: 2, seq: 12 },
      { type: "heard", at: 3 },
      { type: "lost", at: 4 },
    ]);
    expect(link.lastSeq).toBe(14);
  });

  it("is reconnecting when it breaks and stale when that lasts", () => {
    const lost = play([{ type: "begun", lastSeq: null }, { type: "heard", at: 1000 }, { type: "lost", at: 1500 }]);
    expect(lost.phase).toBe("reconnecting");
    expect(next(lost, { type: "tick", at: 1000 + STALE_MS }).phase).toBe("reconnecting");
    const stale = next(lost, { type: "tick", at: 1001 + STALE_MS });
    expect(stale.phase).toBe("stale");
    expect(stale.heardAt).toBe(1000);
    expect(next(stale, { type: "heard", at: 60_000 }).phase).toBe("live");
  });

  it("notices a connection that is open but silent", () => {
    const live = play([{ type: "begun", lastSeq: null }, { type: "heard", at: 0 }]);
    expect(silent(live.heardAt, 5000)).toBe(false);
    expect(next(live, { type: "tick", at: 5000 }).phase).toBe("live");
    expect(silent(live.heardAt, 8000)).toBe(true);
    expect(next(live, { type: "tick", at: 8000 }).phase).toBe("reconnecting");
  });

  it("counts failures until the server is heard again", () => {
    const lost = play([{ type: "begun", lastSeq: null }, { type: "lost", at: 1 }, { type: "lost", at: 2 }]);
    expect(lost.attempt).toBe(2);
    expect(lost.phase).toBe("reconnecting");
    expect(next(lost, { type: "heard", at: 3 }).attempt).toBe(0);
  });

  it("waits longer with each failure, up to a ceiling, never all at the same moment", () => {
    expect(delay(1, 1)).toBe(500);
    expect(delay(1, 0)).toBe(250);
    expect(delay(4, 1)).toBe(4000);
    expect(delay(40, 1)).toBe(15_000);
  });
});
