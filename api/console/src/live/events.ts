/** Server-sent events from a byte stream (WHATWG HTML §9.2), for a `fetch` that sends its own Last-Event-ID. */

export interface ServerEvent {
  name: string;
  data: string;
  /** The last id seen, carried over from earlier events as the standard says; "" where none was. */
  id: string;
}

/** Feed it text as it arrives; it gives the events that are complete. */
export class EventParser {
  #rest = "";
  #name = "";
  #data: string[] = [];
  #id = "";

  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    // A lone CR at the end may be half of a CR LF: it waits for the next piece.
    const buffer = this.#rest + text;
    const held = buffer.endsWith("\r") ? buffer.length - 1 : buffer.length;
    const lines = buffer.slice(0, held).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? "") + buffer.slice(held);
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) events.push({ name: this.#name || "message", data: this.#data.join("\n"), id: this.#id });
        this.#name = "";
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") this.#name = value;
      else if (field === "data") this.#data.push(value);
      else if (field === "id" && !value.includes("\0")) this.#id = value;
    }
    return events;
  }
}
