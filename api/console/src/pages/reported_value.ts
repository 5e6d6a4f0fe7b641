/** One reported value as a person reads it: a quantity with its unit, yes or no, or the word of a state. */

import type { Property } from "../api/model";
import { number, quantity } from "../format/quantity";
import type { Texts } from "../text/language.svelte";

export function inWords(property: Property | undefined, value: number | string | null | undefined, text: Texts): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return text.device.states[value] ?? value;
  if (property?.kind === "boolean") return value ? text.device.on : text.device.off;
  return property ? quantity(value, property.unit) : number(value);
}
