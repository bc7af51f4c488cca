/**
 * What is said about one pair while it runs, as events for screen and log. Text from outside is made printable here,
 * and what comes again and again is said once.
 */
import { performance } from 'node:perf_hooks';
import type { CutoverError } from '../core/errors.ts';
import { errorEvent, type MigrationEvent } from '../core/events.ts';
import type { Phase } from '../core/phase.ts';
import { printable } from '../core/text.ts';
import type { DivergenceSample } from './feed.ts';

const SAME_NOTE_MS = 30_000;
const DIVERGENCES_SHOWN = 20;
const LONGEST = 600;

export class PairVoice {
  readonly #pair: string;
  readonly #emit: (event: MigrationEvent) => void;
  #lastWaiting: { readonly reason: string; readonly atMs: number } | null = null;

  /** @param pair its name */
  constructor(pair: string, emit: (event: MigrationEvent) => void) {
    this.#pair = pair;
    this.#emit = emit;
  }

  note(message: string): void {
    this.#emit({ event: 'note', pair: this.#pair, message: printable(message, LONGEST) });
  }

  /** A condition that lasts is found anew with each retry: it is said once, and again after a while. */
  waiting(reason: string): void {
    const last = this.#lastWaiting;
    const now = performance.now();
    if (last !== null && last.reason === reason && now - last.atMs < SAME_NOTE_MS) return;
    this.#lastWaiting = { reason, atMs: now };
    this.note(reason);
  }

  /** @param count how many there are, this one included */
  diverged(sample: DivergenceSample, count: number): void {
    if (count > DIVERGENCES_SHOWN) return;
    const more = count === DIVERGENCES_SHOWN ? ' (more are only counted)' : '';
    this.note(
      `the target answered ${sample.command} of key ${sample.keyDigest} at offset ${sample.offset} with ${sample.reply}${more}`,
    );
  }

  failed(error: CutoverError): void {
    this.#emit(errorEvent(error, this.#pair));
  }

  moved(from: Phase, to: Phase, reason: string | undefined): void {
    this.#emit({
      event: 'phase',
      pair: this.#pair,
      from,
      to,
      ...(reason === undefined ? {} : { reason: printable(reason, LONGEST) }),
    });
  }
}
