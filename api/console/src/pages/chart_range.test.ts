import { describe, expect, it } from "vitest";
import type { Property } from "../api/model";
import { RANGES, asNumbers, isTotal, refreshMs } from "./chart_range";

describe("the ranges of a chart", () => {
  it("hold a few hundred points however long they are", () => {
    for (const { length, bucket } of Object.values(RANGES)) {
      if (!bucket) continue;
      expect(length / bucket).toBeGreaterThanOrEqual(250);
      expect(length / bucket).toBeLessThanOrEqual(400);
    }
  });

  it("know registers, whose mean would mean nothing", () => {
    expect(["volume_total", "energy_total", "volume_reverse"].every(isTotal)).toBe(true);
    expect(["flow_rate", "power"].some(isTotal)).toBe(false);
  });

  it("draw states by their place among their words and leave a gap for an unknown one", () => {
    const valve = { kind: "state", values: ["open", "closed"] } as Property;
    expect(asNumbers(valve, ["closed", null, "open", "molten"])).toEqual([1, null, 0, null]);
  });

  it("ask again no faster than devices report", () => {
    expect(refreshMs("1h", 15_000)).toBe(15_000);
    expect(refreshMs("1h", 1_000)).toBe(10_000);
    expect(refreshMs("30d", 1_000)).toBe(60_000);
  });
});
