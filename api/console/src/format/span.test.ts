import { describe, expect, it } from "vitest";
import { en } from "../text/en";
import { zh } from "../text/zh";
import { ago, span } from "./span";

describe("lengths of time", () => {
  it("use two units at most", () => {
    expect([0, 59_000, 60_000, 3_600_000, 12_000_000, 90_000_000].map((ms) => span(ms, en))).toEqual(
      ["0 s", "59 s", "1 min", "1 h", "3 h 20 min", "1 d 1 h"],
    );
    expect(span(12_000_000, zh)).toBe("3 小时 20 分");
  });

  it("do not go below zero when clocks differ", () => {
    expect(span(-5000, en)).toBe("0 s");
    expect(ago(10_000, 0, en)).toBe("just now");
  });

  it("tell how long ago something was", () => {
    expect([12_000, 150_000, 7_300_000, 200_000_000].map((ms) => ago(0, ms, zh))).toEqual(
      ["12 秒前", "2 分钟前", "2 小时前", "2 天前"],
    );
  });
});
