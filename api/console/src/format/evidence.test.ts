import { describe, expect, it } from "vitest";
import { figures } from "./evidence";

const pressure = { unit: "MPa", operator: "<", setpoint: 0.14 };

describe("the figures of alarms", () => {
  it("are what was seen and the limit", () => {
    expect(figures([{ ...pressure, value: 0.0983, operator: "<=" }])).toEqual({ seen: "0.0983 MPa", limit: "≤ 0.14 MPa" });
  });

  it("of several are a range, and a limit only where it is the same for all", () => {
    const several = [0.11, 0.09, 0.1].map((value) => ({ ...pressure, value }));
    expect(figures(several)).toEqual({ seen: "0.09 – 0.11 MPa", limit: "< 0.14 MPa" });
    expect(figures([...several, { ...pressure, value: 0.1, setpoint: 0.1 }])?.limit).toBe("");
    expect(figures(several.slice(0, 1).concat(several.slice(0, 1)))?.seen).toBe("0.11 MPa");
  });

  it("are absent where a state or nothing was seen", () => {
    expect(figures([])).toBeNull();
    expect(figures([{ value: "offline", setpoint: null }])).toBeNull();
    expect(figures([{ ...pressure, value: 0.1 }, { value: 1, setpoint: null }])).toBeNull();
  });
});
