import { describe, expect, it } from "vitest";
import { hexDump, payloadView } from "./payload";

const base64 = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes));

describe("a quarantined payload", () => {
  it("is shown as text and laid out where it is JSON", () => {
    const view = payloadView(base64(new TextEncoder().encode('{"名":1}')));
    expect(view.text).toBe('{\n  "名": 1\n}');
    expect(view.size).toBe(9);
  });

  it("has no text where it is not UTF-8", () => {
    expect(payloadView(base64(Uint8Array.of(0xff, 0xfe, 0x41))).text).toBeNull();
  });

  it("keeps broken JSON as it came", () => {
    expect(payloadView(base64(new TextEncoder().encode('{"a":'))).text).toBe('{"a":');
  });

  it("is dumped in rows of sixteen bytes with offsets", () => {
    const rows = hexDump(Uint8Array.from({ length: 18 }, (_, index) => index + 0x41)).split("\n");
    expect(rows).toHaveLength(2);
    expect(rows[0]).toBe("0000  41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP");
    expect(rows[1]).toMatch(/^0010 {2}51 52 {2,}QR$/);
  });
});
