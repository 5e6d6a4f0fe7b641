/** One request of a person about an alarm, until rules has answered. Nothing is assumed: pending is shown as pending. */

import { requestAction, requestAnswer } from "../api/calls";
import { type Failure, asFailure } from "../api/failure";
import type { ActionKind } from "../api/model";

const FIRST_POLL_MS = 150;
const LONGEST_POLL_MS = 2_000;
/** After this long without an answer the person is told that rules is not answering; asking goes on. */
const SLOW_MS = 5_000;

export type ActionState = "idle" | "pending" | "slow" | "applied" | "refused" | "failed";

export class AlarmAction {
  state: ActionState = $state("idle");
  /** Why rules refused, in its own words. */
  answer = $state("");
  failure: Failure | null = $state.raw(null);
  /** The version of the alarm that the person saw when acting. */
  version: number | null = $state(null);

  /** Refused because the alarm had moved on from what the person saw. */
  get stale(): boolean {
    return this.state === "refused" && /\bversion\b/.test(this.answer);
  }

  get busy(): boolean {
    return this.state === "pending" || this.state === "slow";
  }

  /** Sends the request and waits for the answer; true when it was applied. */
  async run(alarm: { id: string; version: number }, kind: ActionKind, note: string): Promise<boolean> {
    if (this.busy) return false;
    this.state = "pending";
    this.version = alarm.version;
    const begun = Date.now();
    try {
      let answer = await requestAction(alarm, kind, note);
      for (let wait = FIRST_POLL_MS; answer.state === "pending"; wait = Math.min(LONGEST_POLL_MS, wait * 1.6)) {
        await new Promise((resolve) => setTimeout(resolve, wait));
        answer = await requestAnswer(answer.id);
        if (Date.now() - begun > SLOW_MS) this.state = "slow";
      }
      this.answer = answer.answer ?? "";
      this.state = answer.state === "applied" ? "applied" : "refused";
    } catch (error) {
      this.failure = asFailure(error);
      this.state = "failed";
    }
    return this.state === "applied";
  }
}
