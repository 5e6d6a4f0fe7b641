/** The alarm list on the screen: pages from the API, changes from the stream, and no row that moves away under a hand.
 *
 * While somebody points at the list (`holding`), alarms that would appear or leave wait; those already shown change in place.
 */

import { type AlarmFilter, requestAlarms } from "../api/calls";
import { type Failure, asFailure } from "../api/failure";
import type { Alarm, PriorityCounts } from "../api/model";
import { append, matches, merge } from "./alarm_list";
import { type AlarmEvent, stream } from "./stream.svelte";

const PAGE = 200;
/** How long a new alarm stays marked as new. */
const FRESH_MS = 12_000;
const COUNT_EVERY_MS = 1_500;
const NONE: PriorityCounts = { critical: 0, high: 0, medium: 0, low: 0 };

export class AlarmBoard {
  items: readonly Alarm[] = $state.raw([]);
  counts: PriorityCounts = $state.raw(NONE);
  failure: Failure | null = $state.raw(null);
  loaded = $state(false);
  loadingMore = $state(false);
  /** Ids of alarms that came while the list was open, for a moment. */
  fresh: ReadonlySet<string> = $state.raw(new Set<string>());
  /** Alarms that wait until the hand has left the list. */
  held: readonly Alarm[] = $state.raw([]);
  /** The newest arrival, for those who listen instead of look. */
  arrived: Alarm | null = $state.raw(null);

  #filter: AlarmFilter = {};
  #cursor: string | null = null;
  #request: AbortController | null = null;
  #holding = false;
  #counting: ReturnType<typeof setTimeout> | null = null;
  #stop: (() => void) | null = null;

  get heldNew(): number {
    return this.held.filter((alarm) => !this.items.some((shown) => shown.id === alarm.id)).length;
  }

  /** Listen to the stream until `close`. */
  open(): void {
    this.#stop = stream.listen({ alarm: (event) => this.#take(event), reset: () => void this.load(this.#filter) });
  }

  close(): void {
    this.#stop?.();
    this.#request?.abort();
    if (this.#counting) clearTimeout(this.#counting);
  }

  /** Load the list anew for `filter`; the old one stays visible until the new one is there. */
  async load(filter: AlarmFilter): Promise<void> {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    this.#filter = filter;
    this.held = [];
    this.failure = null;
    const early: Alarm[] = [];
    const stop = stream.listen({ alarm: (event) => early.push(event.alarm), reset: () => undefined });
    try {
      const page = await requestAlarms({ ...filter, limit: PAGE }, request.signal);
      this.items = early.reduce<readonly Alarm[]>((list, alarm) => merge(list, alarm, filter), page.items);
      this.counts = page.counts;
      this.#cursor = page.next_cursor;
      this.loaded = true;
      this.loadingMore = false;
    } catch (error) {
      if (!request.signal.aborted) this.failure = asFailure(error);
    } finally {
      stop();
    }
  }

  async more(): Promise<void> {
    const request = this.#request;
    if (!this.#cursor || this.loadingMore || !request) return;
    this.loadingMore = true;
    try {
      const page = await requestAlarms({ ...this.#filter, limit: PAGE, cursor: this.#cursor }, request.signal);
      this.items = append(this.items, page.items);
      this.#cursor = page.next_cursor;
    } catch (error) {
      if (!request.signal.aborted) this.failure = asFailure(error);
    } finally {
      if (request === this.#request) this.loadingMore = false;
    }
  }

  /** While true, nothing appears or leaves. Going false lets in what waited. */
  hold(holding: boolean): void {
    this.#holding = holding;
    if (holding) return;
    const waited = this.held;
    this.held = [];
    const staying = this.items.filter((alarm) => matches(alarm, this.#filter));
    if (waited.length || staying.length !== this.items.length) {
      this.items = waited.reduce<readonly Alarm[]>((list, alarm) => merge(list, alarm, this.#filter), staying);
    }
  }

  #take({ alarm, cause }: AlarmEvent): void {
    this.#count();
    const shown = this.items.findIndex((known) => known.id === alarm.id);
    if ((cause === "raise" || cause === "reraise") && matches(alarm, this.#filter)) this.#mark(alarm);
    if (!this.#holding) {
      this.items = merge(this.items, alarm, this.#filter);
      return;
    }
    if (shown >= 0 && (this.items[shown]?.version ?? 0) < alarm.version) this.items = this.items.toSpliced(shown, 1, alarm);
    this.held = [...this.held.filter((waiting) => waiting.id !== alarm.id), alarm];
  }

  #mark(alarm: Alarm): void {
    this.arrived = alarm;
    this.fresh = new Set(this.fresh).add(alarm.id);
    setTimeout(() => {
      const rest = new Set(this.fresh);
      rest.delete(alarm.id);
      this.fresh = rest;
    }, FRESH_MS);
  }

  /** Counts are the server's: asked again soon after something changed, at most once per interval. */
  #count(): void {
    this.#counting ??= setTimeout(async () => {
      this.#counting = null;
      try {
        this.counts = (await requestAlarms({ ...this.#filter, limit: 1 })).counts;
      } catch {
        this.#count();
      }
    }, COUNT_EVERY_MS);
  }
}
