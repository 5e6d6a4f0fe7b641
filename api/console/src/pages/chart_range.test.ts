import { describe, expect, it } from "vitest";
import type { Property } from "../api/model";
import { RANGES, asNumbers, brokenWhereSilent, isTotal, refreshMs } from "./chart_range";

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

  it("join what a sparse device reports and break the line where it fell silent", () => {
    const minute = 60_000;
    const sparse = brokenWhereSilent([0, 1, 2, 3, 4].map((n) => n * minute), [1, null, 2, null, 3], 2 * minute);
    expect(sparse).toEqual({ times: [0, 2 * minute, 4 * minute], values: [1, 2, 3] });
    const silent = brokenWhereSilent([0, minute, 60 * minute], [1, 2, 3], minute);
    expect(silent).toEqual({ times: [0, minute, minute + 1, 60 * minute], values: [1, 2, null, 3] });
    expect(brokenWhereSilent([0, minute], [null, null], minute)).toEqual({ times: [], values: [] });
  });

  describe("where the spacing changes", () => {
    const minute = 60_000;
    const gaps = (minutes: readonly number[]): number[] => {
      const { times, values } = brokenWhereSilent(minutes.map((n) => n * minute), minutes.map(() => 1), minute / 4);
      return times.filter((_, index) => values[index] === null).map((time) => Math.floor(time / minute));
    };
    const history = [0, 10, 20, 30, 40];
    const live = Array.from({ length: 20 }, (_, n) => 50 + n / 4);

    it("join history that lies further apart than the device reports today", () => {
      expect(gaps([...history, ...live])).toEqual([]);
      expect(gaps(history)).toEqual([]);
    });

    it("break where it fell silent, in history as in live data", () => {
      expect(gaps([...live, 60, 60.25, 60.5])).toEqual([54]);
      expect(gaps([...history.slice(0, 2), 60, 70, 80])).toEqual([10]);
      expect(gaps([...history, 90, 90.25, 90.5, 90.75])).toEqual([40]);
    });

    it("do not take outages for the usual spacing", () => {
      expect(gaps([...live, 90, 150])).toEqual([54, 90]);
      expect(gaps([...live, 90, 90.25, 150, 150.25, 220])).toEqual([54, 90, 150]);
    });
  });

  it("ask again no faster than devices report", () => {
    expect(refreshMs("1h", 15_000)).toBe(15_000);
    expect(refreshMs("1h", 1_000)).toBe(10_000);
    expect(refreshMs("30d", 1_000)).toBe(60_000);
  });
});
