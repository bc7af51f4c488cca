/**
 * How it is known that a pair is in sync, and how fast it goes: both sides are asked several times a second, and
 * sync-gauge.ts judges what they say. What follows from it is the migration's business.
 */
import { performance } from 'node:perf_hooks';
import { type CutoverError, toCutoverError } from '../core/errors.ts';
import type { PairState } from './pair-context.ts';
import { RateMeter } from './rate-meter.ts';
import type { SourceWatch } from './source-watch.ts';
import { SyncGauge } from './sync-gauge.ts';

/** For the answers that a sample takes; far above what a healthy server on a busy machine needs. */
const SAMPLE_LIMIT_MS = 5_000;
/** A target that lets bytes lie for longer than that is not in sync, however few they are: it may be hung. */
const LYING_LIMIT_MS = 5_000;

export interface SampleListener {
  /** Behind each sample: whether the pair counts as in sync now. */
  sampled(inSync: boolean): void;
  /** Was in sync, and a server does not answer any more. */
  silent(): void;
  /** The source says what cannot go on without the operator. */
  failed(error: CutoverError): void;
}

export class Sampler {
  readonly #watch: SourceWatch;
  readonly #state: () => PairState;
  readonly #listener: SampleListener;
  readonly #gauge = new SyncGauge();
  readonly #byteRate = new RateMeter();
  readonly #commandRate = new RateMeter();
  /** When the sample began that is under way; null: none is. */
  #since: number | null = null;

  constructor(watch: SourceWatch, state: () => PairState, listener: SampleListener) {
    this.#watch = watch;
    this.#state = state;
    this.#listener = listener;
  }

  /** Of the snapshot. */
  get bytesPerSecond(): number {
    return this.#byteRate.perSecond;
  }

  /** Of the stream. */
  get commandsPerSecond(): number {
    return this.#commandRate.perSecond;
  }

  /** A copy begins: what was seen before says nothing any more. */
  reset(): void {
    this.#gauge.reset();
  }

  /** The copy is on the target. */
  loaded(): void {
    this.#gauge.loaded();
  }

  /** True where the latest samples count as in sync, though they may be too few yet. */
  get inRow(): boolean {
    return this.#gauge.inRow;
  }

  /** Twice a second: for the rates. */
  measure(): void {
    const now = performance.now();
    const feed = this.#state().into?.feed;
    this.#byteRate.add(feed?.snapshotBytes ?? 0, now);
    this.#commandRate.add(feed?.commands ?? 0, now);
  }

  /** Every SAMPLE_INTERVAL_MS, and where something has happened. Never throws. */
  async sample(): Promise<void> {
    const { into } = this.#state();
    if (into === null) return;
    if (this.#since !== null) {
      this.#noSample(performance.now() - this.#since);
      return;
    }
    this.#since = performance.now();
    try {
      const followed = await this.#watch.look(into.feed.replid);
      await into.feed.refresh();
      const now = performance.now();
      const { linked, bothConnected, inCutover } = this.#state();
      // our questions, and the fence of a cutover, would go to another server than the one that the link follows
      if (!followed && linked && !inCutover) this.#watch.redial();
      const { oldestPendingAt } = into.feed;
      const lies = oldestPendingAt !== null && Date.now() - oldestPendingAt > LYING_LIMIT_MS;
      if (!bothConnected || !followed || lies) this.#gauge.reset();
      this.#listener.sampled(this.#gauge.sample(this.#watch.offset, into.feed.appliedOffset(), now));
    } catch (error) {
      // the link notices a dead source by itself; a source that cannot be asked is not in sync
      this.#gauge.reset();
      const cause = toCutoverError(error);
      if (cause.recovery === 'operator') this.#listener.failed(cause);
    } finally {
      this.#since = null;
    }
  }

  /** A sample is under way: in sync is what was proved, not what was true when the last answer came. */
  #noSample(sinceMs: number): void {
    const { inCutover, phase } = this.#state();
    if (sinceMs < SAMPLE_LIMIT_MS || inCutover || phase !== 'in-sync') return;
    this.#gauge.reset();
    this.#listener.silent();
  }
}
