import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const css = readFileSync(new URL("./app.css", import.meta.url), "utf-8");

/** The custom properties of the rule that begins with `selector`. */
function tokens(selector: string): Record<string, string> {
  const start = css.indexOf(`${selector} {`);
  const body = css.slice(start, css.indexOf("}", start));
  return Object.fromEntries([...body.matchAll(/--([\w-]+):\s*(#[0-9a-f]{6})/g)].map((match) => [match[1], match[2]]));
}

function luminance(hex: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

const TEXT = [
  ...["ground", "surface", "sunken", "hover"].flatMap((back) => [["ink", back], ["ink-2", back]]),
  ...["surface", "sunken", "hover"].map((back) => ["accent", back]),
  ["accent-ink", "accent"],
  ["ink", "accent-soft"],
  ["accent", "accent-soft"],
  ["good", "surface"],
  ["good", "good-soft"],
  ...["critical", "high", "medium", "low"].flatMap((priority) => [
    [priority, "surface"],
    [priority, "sunken"],
    [priority, `${priority}-soft`],
    ["ink", `${priority}-soft`],
    [`${priority}-on`, `${priority}-fill`],
  ]),
] as [string, string][];

describe.each([
  ["light", tokens(":root")],
  ["dark by choice", tokens(':root[data-theme="dark"]')],
  ["dark by preference", tokens('  :root:not([data-theme="light"])')],
])("the colours, %s", (_name, colours) => {
  it.each(TEXT)("%s on %s can be read (WCAG AA)", (front, back) => {
    expect(contrast(colours[front] as string, colours[back] as string)).toBeGreaterThanOrEqual(4.5);
  });

  it("controls and the focus ring stand out from what is around them", () => {
    expect(contrast(colours["focus"] as string, colours["surface"] as string)).toBeGreaterThanOrEqual(3);
    expect(contrast(colours["good-fill"] as string, colours["surface"] as string)).toBeGreaterThanOrEqual(3);
  });
});

it("dark is the same by choice and by preference", () => {
  expect(tokens(':root[data-theme="dark"]')).toEqual(tokens('  :root:not([data-theme="light"])'));
});
