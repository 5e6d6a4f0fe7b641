import { describe, expect, it } from "vitest";
import { EventParser } from "./events";

describe("the parser of server-sent events", () => {
  it("gives the same events however the bytes are cut", () => {
    const stream = "id: 7\nevent: alarm\ndata: {\"a\":1}\n\n: keep-alive\n\nevent: status\r\ndata: x\r\ndata: y\r\n\r\n";
    const whole = new EventParser().push(stream);
    const parser = new EventParser();
    const pieces = [...stream].flatMap((character) => parser.push(character));
    expect(pieces).toEqual(whole);
    expect(whole).toEqual([
      { name: "alarm", data: '{"a":1}', id: "7" },
      { name: "status", data: "x\ny", id: "7" },
    ]);
  });

  it("keeps an unfinished event for the next piece", () => {
    const parser = new EventParser();
    expect(parser.push("data: half")).toEqual([]);
    expect(parser.push("\n\n")).toEqual([{ name: "message", data: "half", id: "" }]);
  });

  it("drops an event without data", () => {
    expect(new EventParser().push("event: renew\n\n")).toEqual([]);
  });
});
