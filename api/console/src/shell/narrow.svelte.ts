/** Whether the page is as narrow as a phone; the same width as in the style sheets. */

const query = matchMedia("(max-width: 720px)");

class Narrow {
  yes = $state(query.matches);

  constructor() {
    query.addEventListener("change", () => (this.yes = query.matches));
  }
}

export const narrow = new Narrow();
