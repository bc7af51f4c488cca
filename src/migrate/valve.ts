/**
 * The valve of one pair, between what it has received and its target: shut by **p**, narrowed by **t** (`pause`,
 * `throttle`, `--throttle-keys`, `--throttle-mb`). What cannot pass waits in the spool; the source is read all the same.
 * The two feeds ask before each piece that they hand on, at one place each: WriteFeed in its pump, ReplicaServer where
 * it sends.
 *
 * A limit that follows the target's latency would be a third bucket here, filled by who measures that.
 */
import { performance } from 'node:perf_hooks';
import { NO_THROTTLE, type Throttle } from '../core/throttle.ts';
import { TokenBucket } from '../core/token-bucket.ts';

/** Pieces under a limit: about so many a second, within these bounds. */
const PIECES_PER_SECOND = 50;
const SMALLEST_PIECE = 4096;
const LARGEST_PIECE = 1 << 20;

export class Valve {
  #paused = false;
  #throttle: Throttle;
  /** True while a cutover drains: its limit is the time, and a pair that is paused has none. */
  #wideOpen = false;
  #keys: TokenBucket | null = null;
  #bytes: TokenBucket | null = null;
  #timer: NodeJS.Timeout | null = null;
  readonly #listeners: (() => void)[] = [];

  constructor(throttle: Throttle = NO_THROTTLE) {
    this.#throttle = throttle;
    this.throttle(throttle);
  }

  get paused(): boolean {
    return this.#paused;
  }

  get limits(): Throttle {
    return this.#throttle;
  }

  /** Bytes of the next piece; Infinity: as they come. */
  get piece(): number {
    if (this.#keys !== null) return SMALLEST_PIECE;
    const { bytesPerSecond } = this.#throttle;
    if (bytesPerSecond === null) return Number.POSITIVE_INFINITY;
    return Math.min(LARGEST_PIECE, Math.max(SMALLEST_PIECE, Math.floor(bytesPerSecond / PIECES_PER_SECOND)));
  }

  /** Calls this whenever more may pass than before; never taken back: a feed that has ended does nothing then. */
  whenWider(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** True where a piece may pass now. Where not, who listens is told as soon as one may. */
  mayPass(): boolean {
    if (this.#wideOpen) return true;
    if (this.#paused) return false;
    if (this.#keys === null && this.#bytes === null) return true;
    const now = performance.now();
    const waitMs = Math.max(this.#keys?.waitMs(now) ?? 0, this.#bytes?.waitMs(now) ?? 0);
    if (waitMs === 0) return true;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#tell();
    }, waitMs).unref();
    return false;
  }

  /** A piece has passed. */
  passed(bytes: number, keys: number): void {
    this.#bytes?.spend(bytes);
    this.#keys?.spend(keys);
  }

  pause(on: boolean): void {
    this.#paused = on;
    this.#tell();
  }

  throttle(throttle: Throttle): void {
    const now = performance.now();
    const { keysPerSecond, bytesPerSecond } = throttle;
    this.#throttle = throttle;
    this.#keys = keysPerSecond === null ? null : new TokenBucket(keysPerSecond, now);
    this.#bytes = bytesPerSecond === null ? null : new TokenBucket(bytesPerSecond, now);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#tell();
  }

  /** For the time of a cutover: applications wait meanwhile. What has gone by then is not made up for. */
  openWide(on: boolean): void {
    this.#wideOpen = on;
    this.throttle(this.#throttle);
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
