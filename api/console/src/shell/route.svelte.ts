/** Where the person is: the path and query of the address bar, changed through the history API. */

import { type Page, pageOf } from "./address";

class Route {
  path = $state(location.pathname);
  query = $state(new URLSearchParams(location.search));
  readonly page: Page = $derived(pageOf(this.path));

  constructor() {
    addEventListener("popstate", () => this.#read());
    // Ordinary links to our own pages stay ordinary links: only an unmodified left click is taken over.
    document.addEventListener("click", (event) => {
      if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      const link = (event.target as Element | null)?.closest?.("a");
      if (!link || link.target || link.origin !== location.origin || link.hasAttribute("download")) return;
      if (link.hash && link.pathname === location.pathname) return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(address: string): void {
    history.pushState(null, "", address);
    this.#read();
  }

  /** Changes query parameters in place (empty removes one), without a step in the history. */
  filter(changes: Record<string, string>): void {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    const text = query.toString();
    history.replaceState(history.state, "", this.path + (text ? `?${text}` : ""));
    this.query = query;
  }

  replace(address: string): void {
    history.replaceState(null, "", address);
    this.#read();
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }
}

export const route = new Route();
