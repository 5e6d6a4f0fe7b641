/** The language of the console: Chinese unless the browser asks for another, switchable, remembered on this device. */

import { en } from "./en";
import { zh } from "./zh";

export type Texts = typeof zh;
export type Lang = "zh" | "en";

/** A text that the server gives in both languages. */
export interface Bilingual {
  zh: string;
  en: string;
}

const TEXTS: Record<Lang, Texts> = { zh, en };
const KEY = "songhua.language";

class Language {
  current: Lang = $state(initial());

  get text(): Texts {
    return TEXTS[this.current];
  }

  /** The half of a bilingual text to show; the other half where this one is empty. */
  of(text: Bilingual | null | undefined): string {
    if (!text) return "";
    return text[this.current] || text.zh || text.en;
  }

  /** The half to show of a text written as "中文 / English"; all of it where it has no two halves. */
  half(text: string): string {
    const halves = text.split(" / ");
    return halves.length === 2 ? this.of({ zh: halves[0] ?? "", en: halves[1] ?? "" }) : text;
  }

  toggle(): void {
    this.current = this.current === "zh" ? "en" : "zh";
    localStorage.setItem(KEY, this.current);
  }
}

function initial(): Lang {
  const stored = localStorage.getItem(KEY);
  if (stored === "zh" || stored === "en") return stored;
  return navigator.language.toLowerCase().startsWith("en") ? "en" : "zh";
}

export const language = new Language();
