/** One act of a person on several alarms: each is asked for by itself, with the version of it that was on the screen. */

import type { Alarm } from "../api/model";
import { AlarmAction } from "./alarm_action.svelte";

const AT_ONCE = 6;

export class GroupAction {
  total = $state(0);
  answered = $state(0);
  /** How many rules refused or nobody answered. */
  refused = $state(0);

  get busy(): boolean {
    return this.answered < this.total;
  }

  async acknowledge(alarms: readonly Alarm[]): Promise<void> {
    if (this.busy) return;
    const waiting = [...alarms];
    this.total = waiting.length;
    this.answered = this.refused = 0;
    const work = async (): Promise<void> => {
      for (let alarm = waiting.shift(); alarm; alarm = waiting.shift()) {
        if (!(await new AlarmAction().run(alarm, "acknowledge", ""))) this.refused += 1;
        this.answered += 1;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }
}
