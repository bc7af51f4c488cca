/** Keeps a comparison from slowing a server down: when that answers late, less is asked of both. */
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerSession } from '../../client/session.ts';

const LOOK_EVERY_MS = 100;
/** Of so many looks the best one counts: a single late answer may be our own fault, we are busy too. */
const LOOKS = 3;
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 1000;

export class Throttle {
  readonly #server: ServerSession;
  readonly #maxLatencyMs: number;
  readonly #latencies: number[] = [];
  readonly #end = new AbortController();
  #pauseMs = 0;
  #pause: Promise<void> | null = null;

  /** @param maxLatencyMs a PING may take so long */
  constructor(server: ServerSession, maxLatencyMs: number) {
    this.#server = server;
    this.#maxLatencyMs = maxLatencyMs;
    void this.#watch();
  }

  /** Before each page of keys, and each piece of a large value. Rejects with an AbortError behind stop(). */
  async wait(): Promise<void> {
    if (this.#pauseMs === 0) return;
    // one timer for all who wait
    this.#pause ??= delay(this.#pauseMs, undefined, { signal: this.#end.signal }).finally(() => {
      this.#pause = null;
    });
    await this.#pause;
  }

  stop(): void {
    this.#end.abort();
  }

  async #watch(): Promise<void> {
    const { signal } = this.#end;
    try {
      while (!signal.aborted) {
        const began = performance.now();
        await this.#server.call('PING');
        this.#judge(performance.now() - began);
        await delay(LOOK_EVERY_MS, undefined, { signal });
      }
    } catch {
      // stopped, or the connection broke: who reads the keys will hear of that
    }
  }

  #judge(latencyMs: number): void {
    this.#latencies.push(latencyMs);
    if (this.#latencies.length > LOOKS) this.#latencies.shift();
    const isLate = Math.min(...this.#latencies) > this.#maxLatencyMs;
    if (isLate) this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * this.#pauseMs));
    else this.#pauseMs = this.#pauseMs > FIRST_PAUSE_MS ? this.#pauseMs / 2 : 0;
  }
}
