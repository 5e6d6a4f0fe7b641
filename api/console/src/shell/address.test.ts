import { describe, expect, it } from "vitest";
import { destination, pageOf } from "./address";

describe("addresses", () => {
  it("name the pages", () => {
    expect(pageOf("/")).toEqual({ name: "alarms" });
    expect(pageOf("/alarms/ab12")).toEqual({ name: "alarm", id: "ab12" });
    expect(pageOf("/devices/wm%2F1")).toEqual({ name: "device", id: "wm/1" });
    expect(pageOf("/health/")).toEqual({ name: "health" });
  });

  it("that mean nothing are a page that says so", () => {
    expect(["/x", "/login/now", "/devices/a/b", "/%E0%A4%A"].map((path) => pageOf(path).name)).toEqual(Array(4).fill("missing"));
  });

  it("lead to our own pages after signing in, never elsewhere", () => {
    expect(destination("/devices?family=water_meter")).toBe("/devices?family=water_meter");
    for (const elsewhere of [null, "", "//evil.example", "/\\evil.example", "https://evil.example", "/login?to=/", "javascript:x"]) {
      expect(destination(elsewhere)).toBe("/");
    }
  });
});
