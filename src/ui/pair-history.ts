/** What the detail view tells of the past of each pair: its lag over the last minutes, and its last events. */
import type { MigrationEvent, PairSnapshot, VerifyResult } from '../core/events.ts';
import { eventText } from './lines.ts';

/** Each figure of the lag is the highest one of so long. */
export const LAG_STEP_MS = 4_000;
const LAG_STEPS = 75;
const EVENTS = 10;

export interface PairPast {
  /** Bytes, the oldest first, one for each LAG_STEP_MS: five minutes at most; null while there is no stream. */
  readonly lag: readonly (number | null)[];
  /** Safe for the screen, the oldest first, each with its time of day. */
  readonly events: readonly string[];
  /** The latest comparison; null: none yet. */
  readonly verified: VerifyResult | null;
}

interface Past extends PairPast {
  readonly lag: (number | null)[];
  readonly events: string[];
  verified: VerifyResult | null;
  /** Number of the step that the last figure of `lag` belongs to. */
  step: number;
}

export class PairHistory {
  readonly #pasts = new Map<string, Past>();

  /** @param nowMs of the clock of the day */
  event(event: MigrationEvent, nowMs: number): void {
    // a source can have a thousand clients
    if (!('pair' in event) || event.pair === undefined || event.event === 'clients') return;
    const { pair } = event;
    const past = this.#of(pair);
    if (event.event === 'verify') past.verified = event;
    const text = eventText({ ...event, pair });
    if (text === '') return;
    past.events.push(`${new Date(nowMs).toTimeString().slice(0, 8)}  ${text}`);
    if (past.events.length > EVENTS) past.events.shift();
  }

  /** @param nowMs of any clock that only goes on */
  frame(pairs: readonly PairSnapshot[], nowMs: number): void {
    const step = Math.floor(nowMs / LAG_STEP_MS);
    for (const pair of pairs) {
      const past = this.#of(pair.pair);
      const streams = pair.phase === 'catching-up' || pair.phase === 'in-sync' || pair.phase === 'writable';
      const lag = streams ? pair.lagBytes : null;
      const last = past.lag.at(-1);
      if (step !== past.step || last === undefined) past.lag.push(lag);
      else if (lag !== null) past.lag[past.lag.length - 1] = Math.max(last ?? 0, lag);
      past.step = step;
      if (past.lag.length > LAG_STEPS) past.lag.shift();
    }
  }

  of(pair: string): PairPast {
    return this.#of(pair);
  }

  #of(pair: string): Past {
    let past = this.#pasts.get(pair);
    if (past === undefined) {
      past = { lag: [], events: [], verified: null, step: -1 };
      this.#pasts.set(pair, past);
    }
    return past;
  }
}
