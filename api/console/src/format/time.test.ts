import { describe, expect, it } from "vitest";
import { axisLabels, dateTime, shortTime, toMs } from "./time";

const NEW_YEAR = Date.parse("2026-01-01T00:00:00+08:00");

describe("times of the city", () => {
  it("are shown in Asia/Shanghai, whatever the zone of the machine", () => {
    expect(dateTime(NEW_YEAR)).toBe("2026-01-01 00:00:00");
    expect(dateTime(NEW_YEAR - 1000)).toBe("2025-12-31 23:59:59");
  });

  it("agree with the zone database", () => {
    const formatter = new Intl.DateTimeFormat("sv-SE", { timeZone: "Asia/Shanghai", dateStyle: "short", timeStyle: "medium" });
    for (const ms of [Date.parse("2026-06-15T12:34:56Z"), Date.parse("2024-02-29T16:00:00Z")]) {
      expect(dateTime(ms)).toBe(formatter.format(ms));
    }
  });

  it("lose the date only on the same day in the city", () => {
    expect(shortTime(NEW_YEAR + 3_600_000, NEW_YEAR + 7_200_000)).toBe("01:00:00");
    expect(shortTime(NEW_YEAR - 60_000, NEW_YEAR)).toBe("12-31 23:59");
  });

  it("are read from RFC 3339 and from milliseconds", () => {
    expect(toMs("2026-01-01T00:00:00+08:00")).toBe(NEW_YEAR);
    expect(toMs(NEW_YEAR)).toBe(NEW_YEAR);
    expect(toMs(null)).toBeNull();
    expect(toMs("soon")).toBeNull();
  });

  it("carry the date on an axis where the day changes", () => {
    const hour = 3_600_000;
    expect(axisLabels([NEW_YEAR - hour, NEW_YEAR, NEW_YEAR + hour], hour)).toEqual(["23:00\n12-31", "00:00\n01-01", "01:00"]);
    expect(axisLabels([NEW_YEAR, NEW_YEAR + 24 * hour], 24 * hour)).toEqual(["01-01", "01-02"]);
  });
});
