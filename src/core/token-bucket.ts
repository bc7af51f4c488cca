/**
 * A rate as a decision: so much may go in a second, what was too much is made up for by waiting. Pure: the caller
 * brings the time, in milliseconds of a clock that only goes forward.
 */

/** So much of a second's worth may go at once behind a quiet time. */
const BURST_SECONDS = 0.1;

export class TokenBucket {
  readonly #perMs: number;
  readonly #most: number;
  /** Below 0: more has gone than may, by so much. */
  #tokens: number;
  #filledAtMs: number;

  /** @param perSecond above 0 */
  constructor(perSecond: number, nowMs: number) {
    this.#perMs = perSecond / 1000;
    this.#most = perSecond * BURST_SECONDS;
    this.#tokens = this.#most;
    this.#filledAtMs = nowMs;
  }

  /** How long nothing more may go; 0: something may go now, and what it comes to is told to spend(). */
  waitMs(nowMs: number): number {
    this.#tokens = Math.min(this.#most, this.#tokens + (nowMs - this.#filledAtMs) * this.#perMs);
    this.#filledAtMs = nowMs;
    return this.#tokens > 0 ? 0 : Math.max(1, Math.ceil(-this.#tokens / this.#perMs));
  }

  /** This much has gone: may be more than was there. */
  spend(amount: number): void {
    this.#tokens -= amount;
  }
}
