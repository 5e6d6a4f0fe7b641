/** Why a call failed: the status and the problem's own words (RFC 9457), or that the server could not be reached at all. */

export class Failure extends Error {
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

/** Anything thrown by a call, as a `Failure`. */
export function asFailure(error: unknown): Failure {
  return error instanceof Failure ? error : new Failure(0, error instanceof Error ? error.message : String(error));
}
