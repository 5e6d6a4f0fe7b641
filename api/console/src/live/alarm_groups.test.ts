import { describe, expect, it } from "vitest";
import type { Alarm } from "../api/model";
import { type Entry, entries } from "./alarm_groups";

const SECOND = 1000;

/** An alarm raised so many seconds after the first of the story. */
function alarm(id: string, second: number, changes: Partial<Alarm> = {}): Alarm {
  const raised_at = new Date(1_767_225_600_000 + second * SECOND).toISOString();
  return { id, rule: "supply.low", zone: "dma-1", raised_at, ...changes } as Alarm;
}

const shown = (rows: readonly Entry[]): string[] =>
  rows.map((row) => (row.kind === "group" ? `[${row.alarms.map((one) => one.id).join("")}]` : row.member ? `-${row.alarm.id}` : row.alarm.id));

describe("rows of the alarm list", () => {
  it("put alarms of one rule and zone raised within two minutes into one row, where the newest stood", () => {
    const list = [alarm("d", 130), alarm("x", 125, { rule: "burst" }), alarm("c", 120), alarm("b", 60), alarm("a", 0)];
    expect(shown(entries(list, new Set()))).toEqual(["d", "x", "[cba]"]);
  });

  it("keep zones and rules apart, and alarms without a zone alone", () => {
    const list = [
      alarm("f", 5, { zone: "" }),
      alarm("e", 4, { zone: "" }),
      alarm("d", 3, { zone: "dma-2" }),
      alarm("c", 2),
      alarm("b", 1, { rule: "burst" }),
      alarm("a", 0),
    ];
    expect(shown(entries(list, new Set()))).toEqual(["f", "e", "d", "[ca]", "b"]);
  });

  it("open below their group and stay open whoever joins or leaves", () => {
    const list = [alarm("c", 2), alarm("b", 1), alarm("a", 0)];
    const opened = new Set(["b"]);
    expect(shown(entries(list, opened))).toEqual(["[cba]", "-c", "-b", "-a"]);
    expect(shown(entries([alarm("d", 3), ...list], opened))).toEqual(["[dcba]", "-d", "-c", "-b", "-a"]);
    expect(shown(entries(list.slice(0, 2), opened))).toEqual(["[cb]", "-c", "-b"]);
    expect(shown(entries(list.slice(1, 2), opened))).toEqual(["b"]);
  });

  it("have one key each, and a newer alarm does not change the key of its group", () => {
    const list = [alarm("c", 2), alarm("b", 1), alarm("x", 0.5, { rule: "burst" }), alarm("a", 0)];
    const rows = entries(list, new Set(["a"]));
    expect(new Set(rows.map((row) => row.key)).size).toBe(rows.length);
    expect(entries([alarm("d", 3), ...list], new Set())[0]?.key).toBe(rows[0]?.key);
  });
});
