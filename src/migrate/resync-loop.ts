/**
 * Full copies again and again: counts them, measures meanwhile what the source sends and how long a copy takes, and
 * says which settings of the source would let one come through. protocol.md 1.11: from the fork on the source keeps
 * what is written in the replica's output buffer, and behind a break what it has still in its backlog decides.
 */
import { MEGABYTE } from '../core/throttle.ts';

/** So many full copies without ever being in sync: something throws the link off again and again. */
const MOST_COPIES = 5;
/** The next copy may take longer, and more may be written in it. */
const SAFETY = 3;
/** Less is not worth a try. */
const LEAST_BYTES = 64 * MEGABYTE;

/** What was seen over the copies that did not come through. */
export interface LoopMeasure {
  /** Bytes that the source adds to its stream. */
  readonly bytesPerSecond: number;
  /** How long a whole copy takes, as far as can be told from attempts that broke off. */
  readonly copySeconds: number;
}

/** Settings of the source in bytes and seconds; null: it does not tell. 0: no limit. */
export interface LoopSettings {
  readonly backlogBytes: number | null;
  readonly outputBuffer: {
    /** `replica`, or `slave` before 5.0. */
    readonly name: string;
    readonly hard: number;
    readonly soft: number;
    readonly seconds: number;
  } | null;
}

export class ResyncLoop {
  #copies = 0;
  #first: { readonly atMs: number; readonly offset: number } | null = null;
  #last: { readonly atMs: number; readonly offset: number } | null = null;
  #longestSeconds = 0;

  /**
   * A copy begins.
   * @param nowMs a monotonous clock @param offset the source's, at the copy
   * @param share how much of the copy before had come, 0 to 1; null: not known
   */
  begins(nowMs: number, offset: number, share: number | null): void {
    this.#copies++;
    if (this.#last !== null) {
      const seconds = (nowMs - this.#last.atMs) / 1000;
      this.#longestSeconds = Math.max(this.#longestSeconds, seconds / Math.max(share ?? 1, 0.01));
    }
    this.#last = { atMs: nowMs, offset };
    // offsets of another history tell nothing
    if (this.#first === null || offset < this.#first.offset) this.#first = this.#last;
  }

  /** The pair is in sync: what comes later has another cause. */
  reset(): void {
    this.#copies = 0;
    this.#first = null;
    this.#last = null;
    this.#longestSeconds = 0;
  }

  /** Full copies since the pair was in sync, the one that begins included. */
  get copies(): number {
    return this.#copies;
  }

  get tooMany(): boolean {
    return this.#copies > MOST_COPIES;
  }

  get measure(): LoopMeasure {
    const first = this.#first;
    const last = this.#last;
    const seconds = first === null || last === null ? 0 : (last.atMs - first.atMs) / 1000;
    const bytes = first === null || last === null ? 0 : last.offset - first.offset;
    return { bytesPerSecond: seconds > 0 ? bytes / seconds : 0, copySeconds: this.#longestSeconds };
  }
}

/** What to type on the source, and why: the figures of the measure, never less than twice what is set now. */
export function loopHint(measure: LoopMeasure, settings: LoopSettings): string {
  const { backlogBytes, outputBuffer } = settings;
  const wanted = Math.max(LEAST_BYTES, measure.bytesPerSecond * measure.copySeconds * SAFETY);
  const commands: string[] = [];
  const backlog = wholeMegabytes(Math.max(wanted, 2 * (backlogBytes ?? 0)));
  commands.push(`CONFIG SET repl-backlog-size ${backlog}`);
  const hardNow = outputBuffer?.hard ?? null;
  const softNow = outputBuffer?.soft ?? null;
  if (hardNow !== 0 || softNow !== 0) {
    const hard = hardNow === 0 ? 0 : wholeMegabytes(Math.max(wanted, backlog, 2 * (hardNow ?? 0)));
    const soft = softNow === 0 ? 0 : wholeMegabytes(Math.max(wanted, 2 * (softNow ?? 0)));
    const seconds = Math.max(60, outputBuffer?.seconds ?? 0, Math.ceil(measure.copySeconds));
    const name = outputBuffer?.name ?? 'replica';
    commands.push(`CONFIG SET client-output-buffer-limit "${name} ${hard} ${soft} ${seconds}"`);
  }
  const rate = (measure.bytesPerSecond / MEGABYTE).toFixed(1);
  const seen = `it writes ${rate} MB/s, and a copy takes about ${Math.ceil(measure.copySeconds)} s`;
  const now = backlogBytes === null ? '' : `; its backlog is ${backlogBytes} bytes now`;
  return `on the source: ${commands.join(', ')} (${seen}${now}), then go on with resume; or copy at a quieter time`;
}

/** The limits in what CONFIG GET client-output-buffer-limit answers; null: not there. */
export function parseOutputBuffer(setting: string | null): LoopSettings['outputBuffer'] {
  const limits = /(slave|replica) (\d+) (\d+) (\d+)/.exec(setting ?? '');
  if (limits === null) return null;
  const [, name, hard, soft, seconds] = limits;
  return { name: name!, hard: Number(hard), soft: Number(soft), seconds: Number(seconds) };
}

/** Rounded up, in bytes. */
export function wholeMegabytes(bytes: number): number {
  return Math.ceil(bytes / MEGABYTE) * MEGABYTE;
}
