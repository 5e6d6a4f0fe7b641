import { describe, expect, it } from "vitest";
import { receivedRates } from "./received_rate";

describe("the rate of arrivals", () => {
  it("is the gain of the counter over the time between two looks", () => {
    const samples = [{ at: 0, received: 100 }, { at: 2000, received: 300 }, { at: 6000, received: 300 }];
    expect(receivedRates(samples)).toEqual({ times: [2000, 6000], values: [100, 0], from: -54_000 });
  });

  it("is unknown where the counter fell", () => {
    expect(receivedRates([{ at: 0, received: 9 }, { at: 1000, received: 2 }]).values).toEqual([null]);
  });

  it("needs two looks", () => {
    expect(receivedRates([{ at: 0, received: 9 }]).times).toEqual([]);
  });
});
