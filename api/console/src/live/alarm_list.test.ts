import { describe, expect, it } from "vitest";
import type { Alarm } from "../api/model";
import { append, matches, merge } from "./alarm_list";

const MINUTE = 60_000;

function alarm(id: string, changes: Partial<Alarm> & { minute?: number } = {}): Alarm {
  const { minute = 0, ...rest } = changes;
  return {
    id,
    rule: "wm.burst",
    title: { zh: "表后爆管", en: "Burst behind the meter" },
    subject: { kind: "device", id: `WM-${id}`, name: { zh: `${id} 号水表`, en: `Meter ${id}` } },
    family: "water_meter",
    district: "230102",
    priority: "critical",
    state: "UNACK",
    version: 1,
    raised_at: new Date(1_767_225_600_000 + minute * MINUTE).toISOString(),
    ...rest,
  } as Alarm;
}

const ids = (list: readonly Alarm[]): string => list.map((one) => one.id).join("");

describe("the alarm list", () => {
  it("puts a new alarm where the API would list it: newest first, then the larger id", () => {
    const list = [alarm("c", { minute: 3 }), alarm("a", { minute: 1 })];
    expect(ids(merge(list, alarm("d", { minute: 4 }), {}))).toBe("dca");
    expect(ids(merge(list, alarm("b", { minute: 2 }), {}))).toBe("cba");
    expect(ids(merge(list, alarm("z", { minute: 3 }), {}))).toBe("zca");
    expect(ids(merge(list, alarm("0", { minute: 0 }), {}))).toBe("ca0");
  });

  it("changes an alarm in its place and ignores what is older", () => {
    const list = [alarm("b", { minute: 2, version: 3 }), alarm("a", { minute: 1 })];
    const changed = merge(list, alarm("b", { minute: 2, version: 4, state: "ACKED" }), {});
    expect(changed[0]?.state).toBe("ACKED");
    expect(merge(list, alarm("b", { minute: 2, version: 3, state: "ACKED" }), {})).toBe(list);
    expect(merge(list, alarm("b", { minute: 2, version: 2, state: "ACKED" }), {})).toBe(list);
  });

  it("gives the same list however often a replay repeats the changes", () => {
    const changes = [alarm("a", { minute: 1 }), alarm("b", { minute: 2 }), alarm("a", { minute: 1, version: 2, state: "ACKED" })];
    const once = changes.reduce<readonly Alarm[]>((list, one) => merge(list, one, {}), []);
    const again = [...changes, ...changes].reduce<readonly Alarm[]>((list, one) => merge(list, one, {}), []);
    expect(again).toEqual(once);
  });

  it("lets go of an alarm that no longer matches", () => {
    const list = [alarm("a")];
    expect(merge(list, alarm("a", { version: 2, state: "RTNUN" }), { active: true })).toEqual([]);
    expect(ids(merge(list, alarm("a", { version: 2, state: "RTNUN" }), { state: ["UNACK", "RTNUN"] }))).toBe("a");
  });

  it("appends a page without doubling what the stream has brought", () => {
    expect(ids(append([alarm("c"), alarm("b", { version: 2 })], [alarm("b"), alarm("a")]))).toBe("cba");
  });

  it("filters as the API filters", () => {
    const one = alarm("a");
    expect(matches(one, { priority: ["high", "critical"], district: "230102", family: "water_meter", q: "爆管" })).toBe(true);
    expect(matches(one, { q: "BURST" })).toBe(true);
    expect(matches(one, { q: "wm-A" })).toBe(true);
    expect(matches(one, { q: "号水表" })).toBe(true);
    expect(matches(one, { q: "meter a" })).toBe(true);
    expect(matches(one, { q: "lamp" })).toBe(false);
    expect(matches(one, { priority: ["low"] })).toBe(false);
    expect(matches(one, { district: "230103" })).toBe(false);
    expect(matches(one, { subject: "WM-b" })).toBe(false);
  });
});
