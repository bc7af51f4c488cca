/**
 * Makes a source say in its stream which database is selected: an attached target's feed has to know it, and a source
 * says it only where it changes.
 */
import { performance } from 'node:perf_hooks';
import type { ServerSession } from '../client/session.ts';
import type { PairState } from './pair-context.ts';

const NUDGE_EVERY_MS = 1000;

export class Nudge {
  readonly #source: ServerSession;
  readonly #state: () => PairState;
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(source: ServerSession, state: () => PairState) {
    this.#source = source;
    this.#state = state;
  }

  /** Not in a cutover: while writes are held back it would wait, and all our other questions behind it. */
  send(): void {
    const now = performance.now();
    if (this.#state().inCutover || now - this.#lastAt < NUDGE_EVERY_MS) return;
    this.#lastAt = now;
    nudgeDatabase(this.#source).catch(() => undefined);
  }
}

/** Sends messages that nobody listens to: they change no data. */
export async function nudgeDatabase(source: ServerSession): Promise<void> {
  const message = ['PUBLISH', 'redis-cutover', ''] as const;
  await source.pipeline([['SELECT', 1], message, ['SELECT', 0], message]);
}
