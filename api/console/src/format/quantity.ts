/** Numbers and units as they are read in a control room. Units arrive as UCUM codes and are shown in their printed form. */

const PRINTED: Record<string, string> = {
  Cel: "°C",
  "dB[mW]": "dBm",
  "[NTU]": "NTU",
  "kW.h": "kWh",
  deg: "°",
  "1": "",
};

/** The printed form of a UCUM unit: `m3/h` -> `m³/h`, `Cel` -> `°C`. */
export function unitLabel(ucum: string | null | undefined): string {
  if (!ucum) return "";
  return PRINTED[ucum] ?? ucum.replace(/m3/g, "m³").replace(/m2/g, "m²");
}

/** Four significant digits, but never fewer than the whole part: 0.3125 -> 0.3125, 48211.37 -> 48,211.4. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 10_000 ? 1 : size >= 1000 ? 1 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4;
  return trimmed(value, digits);
}

/** A count with separators of thousands. */
export function count(value: number): string {
  return trimmed(value, 0);
}

/** A count that fits a narrow place: 12,345 stays, 1,234,567 -> 1.23M. */
export function shortCount(value: number): string {
  if (Math.abs(value) < 1_000_000) return count(value);
  if (Math.abs(value) < 1_000_000_000) return `${trimmed(value / 1_000_000, 2)}M`;
  return `${trimmed(value / 1_000_000_000, 2)}G`;
}

/** A value with its unit, a thin space between. */
export function quantity(value: number, ucum: string | null | undefined): string {
  const unit = unitLabel(ucum);
  return unit === "" || unit === "°" || unit === "%" ? `${number(value)}${unit}` : `${number(value)} ${unit}`;
}

/** "12.3%"; a share that is not zero never reads as zero. */
export function share(part: number, whole: number): string {
  if (whole <= 0) return "0%";
  const percent = (100 * part) / whole;
  if (percent > 0 && percent < 0.1) return "<0.1%";
  return `${trimmed(percent, percent >= 10 && percent < 99 ? 0 : 1)}%`;
}

function trimmed(value: number, digits: number): string {
  const text = value.toLocaleString("en-US", { maximumFractionDigits: digits });
  return text === "-0" ? "0" : text;
}
