/** Light or dark: what the system prefers unless the person chose one, remembered on this device. */

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];
const KEY = "songhua.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

class ThemeState {
  choice: Theme = $state((THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? "system") as Theme);
  #systemDark = $state(system.matches);
  readonly dark = $derived(this.choice === "dark" || (this.choice === "system" && this.#systemDark));

  constructor() {
    system.addEventListener("change", () => (this.#systemDark = system.matches));
    this.#apply();
  }

  choose(choice: Theme): void {
    this.choice = choice;
    localStorage.setItem(KEY, choice);
    this.#apply();
  }

  #apply(): void {
    if (this.choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.choice;
  }
}

export const theme = new ThemeState();
