/** Who is signed in. `undefined` until the server has been asked, `null` when nobody is. */

import { requestSession, closeSession, openSession } from "../api/calls";
import type { Session } from "../api/model";

class SessionState {
  current: Session | null | undefined = $state(undefined);
  /** True when a session that had been valid was refused: the login page says so. */
  ended = $state(false);

  get mayAct(): boolean {
    return this.current?.role === "operator" || this.current?.role === "admin";
  }

  async load(): Promise<void> {
    const found = await requestSession();
    // A login link may have opened a session meanwhile.
    if (this.current === undefined) this.current = found;
  }

  async open(secret: { code: string } | { token: string }): Promise<void> {
    this.current = await openSession(secret);
    this.ended = false;
  }

  async close(): Promise<void> {
    await closeSession();
    this.current = null;
  }

  /** The server answered 401 to a call made in this session. */
  refused(): void {
    if (this.current) this.ended = true;
    this.current = null;
  }
}

export const session = new SessionState();
