/** The live stream of the console: one connection for all pages, resumed after every break from the last sequence seen.
 *
 * It receives the events of `/v1/stream`: `alarm` and `reset` (too much was missed: load anew) go to whoever listens, `status` is
 * kept, `renew` opens the next connection at once. What is visible of it is `link` (see link.ts), the last `status` and the recent
 * history of `received`.
 */

import { Failure } from "../api/failure";
import type { Alarm, Status } from "../api/model";
import { session } from "../shell/session.svelte";
import { EventParser, type ServerEvent } from "./events";
import { type Happening, type Link, UNCONNECTED, delay, next, silent } from "./link";

export interface AlarmEvent {
  seq: number;
  cause: string;
  alarm: Alarm;
}

export interface Listener {
  alarm: (event: AlarmEvent) => void;
  /** Changes were lost to this stream: what is shown must be loaded again. */
  reset: () => void;
}

/** Counts at one moment, for rates. */
export interface Sample {
  at: number;
  received: number;
}

const HISTORY_MS = 5 * 60_000;

class Stream {
  link: Link = $state.raw(UNCONNECTED);
  status: Status | null = $state.raw(null);
  statusAt: number | null = $state(null);
  samples: Sample[] = $state.raw([]);
  #listeners = new Set<Listener>();
  #running: AbortController | null = null;

  /** Open the stream after `lastSeq` and keep it open until `close`. */
  open(lastSeq: number | null): void {
    this.close();
    this.#happen({ type: "begun", lastSeq });
    const running = (this.#running = new AbortController());
    void this.#keepOpen(running.signal);
  }

  close(): void {
    this.#running?.abort();
    this.#running = null;
    this.link = UNCONNECTED;
  }

  /** Tells `listener` of every alarm that changes; returns how to stop. Listen before loading, so that nothing falls between. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #happen(happening: Happening): void {
    this.link = next(this.link, happening);
  }

  async #keepOpen(stopped: AbortSignal): Promise<void> {
    while (!stopped.aborted) {
      const connection = new AbortController();
      const abort = (): void => connection.abort();
      stopped.addEventListener("abort", abort, { once: true });
      const startedAt = Date.now();
      const watch = setInterval(() => {
        const at = Date.now();
        if (silent(Math.max(startedAt, this.link.heardAt ?? 0), at)) abort();
        this.#happen({ type: "tick", at });
      }, 1000);
      let renewed = false;
      try {
        renewed = await this.#read(connection.signal);
      } catch (error) {
        if (error instanceof Failure && error.status === 401) {
          session.refused();
          return;
        }
      } finally {
        stopped.removeEventListener("abort", abort);
        clearInterval(watch);
      }
      if (stopped.aborted) return;
      if (renewed) continue;
      this.#happen({ type: "lost", at: Date.now() });
      await this.#pause(delay(this.link.attempt, Math.random()), stopped);
    }
  }

  /** Reads one connection to its end; true when the server asked to renew it. */
  async #read(signal: AbortSignal): Promise<boolean> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (this.link.lastSeq !== null) headers["Last-Event-ID"] = String(this.link.lastSeq);
    const response = await fetch("/v1/stream", { headers, signal, cache: "no-store" });
    if (!response.ok || !response.body) throw new Failure(response.status, response.statusText);
    this.#happen({ type: "heard", at: Date.now() });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    let renewed = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return renewed;
      this.#happen({ type: "heard", at: Date.now() });
      for (const event of parser.push(value)) {
        if (event.name === "renew") renewed = true;
        else this.#take(event);
      }
    }
  }

  #take(event: ServerEvent): void {
    const at = Date.now();
    if (event.name === "alarm") {
      const change = JSON.parse(event.data) as AlarmEvent;
      this.#happen({ type: "heard", at, seq: change.seq });
      for (const listener of this.#listeners) listener.alarm(change);
    } else if (event.name === "reset") {
      const { last_seq } = JSON.parse(event.data) as { last_seq: number };
      this.#happen({ type: "begun", lastSeq: last_seq });
      this.#happen({ type: "heard", at });
      for (const listener of this.#listeners) listener.reset();
    } else if (event.name === "status") {
      this.status = JSON.parse(event.data) as Status;
      this.statusAt = at;
      this.samples = [...this.samples.filter((sample) => at - sample.at < HISTORY_MS), { at, received: this.status.received }];
    }
  }

  /** Waits, but tells the link that time passes, and returns at once when the browser comes back online or to the front. */
  #pause(ms: number, stopped: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        clearInterval(tick);
        removeEventListener("online", finish);
        document.removeEventListener("visibilitychange", shown);
        stopped.removeEventListener("abort", finish);
        resolve();
      };
      const shown = (): void => {
        if (!document.hidden) finish();
      };
      const timer = setTimeout(finish, ms);
      const tick = setInterval(() => this.#happen({ type: "tick", at: Date.now() }), 1000);
      addEventListener("online", finish);
      document.addEventListener("visibilitychange", shown);
      stopped.addEventListener("abort", finish);
    });
  }
}

export const stream = new Stream();
