import { describe, expect, it } from "vitest";
import { number, quantity, share, shortCount, unitLabel } from "./quantity";

describe("quantities", () => {
  it("print UCUM units the way people write them", () => {
    expect(["m3/h", "Cel", "dB[mW]", "[NTU]", "kW.h", "mg/m3", "MPa", "1"].map(unitLabel)).toEqual(
      ["m³/h", "°C", "dBm", "NTU", "kWh", "mg/m³", "MPa", ""],
    );
    expect(unitLabel(undefined)).toBe("");
  });

  it("keep the digits that matter", () => {
    expect([0.31254, 3.12549, 38.256, 220.04, 48211.37, -0.00001].map(number)).toEqual(
      ["0.3125", "3.125", "38.26", "220", "48,211.4", "0"],
    );
    expect(number(Number.NaN)).toBe("–");
  });

  it("set the unit beside the number", () => {
    expect(quantity(38.2, "m3/h")).toBe("38.2 m³/h");
    expect(quantity(55, "%")).toBe("55%");
    expect(quantity(0.97, "1")).toBe("0.97");
  });

  it("never round a share to nothing or to the whole", () => {
    expect(share(1, 1_000_000)).toBe("<0.1%");
    expect(share(0, 10)).toBe("0%");
    expect(share(0, 0)).toBe("0%");
    expect(share(997, 1000)).toBe("99.7%");
    expect(share(45, 1000)).toBe("4.5%");
  });

  it("shorten large counts", () => {
    expect([999_999, 1_234_567, 2_500_000_000].map(shortCount)).toEqual(["999,999", "1.23M", "2.5G"]);
  });
});
