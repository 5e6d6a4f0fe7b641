/** The figures of an alarm in a line: what was seen and the limit it crossed. */

import type { Evidence } from "../api/model";
import { number, quantity } from "./quantity";

const PRINTED: Record<string, string> = { ">=": "≥", "<=": "≤", "==": "=", "!=": "≠" };

export interface Figures {
  seen: string;
  /** Empty where the alarms have different limits. */
  limit: string;
}

/** Figures of one alarm or of several about the same thing (from the lowest to the highest value); null where they have none. */
export function figures(evidence: readonly Evidence[]): Figures | null {
  const limits = new Set<string>();
  const values: number[] = [];
  const unit = evidence[0]?.unit;
  for (const { value, operator, setpoint } of evidence) {
    if (typeof value !== "number" || typeof setpoint !== "number") return null;
    values.push(value);
    limits.add(`${PRINTED[operator ?? ""] ?? operator ?? ""} ${quantity(setpoint, unit)}`);
  }
  if (!values.length) return null;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const seen = number(low) === number(high) ? quantity(low, unit) : `${number(low)} – ${quantity(high, unit)}`;
  return { seen, limit: limits.size === 1 ? [...limits].join() : "" };
}
