/**
 * Decides when a pair is in sync (design.md, fixed): for three samples in a row, at least 200 ms apart, the target
 * had what the source had one sample earlier. Pure: the caller brings offsets and times.
 */

const SAMPLE_GAP_MS = 200;
/** How often samples are taken: a little more, so that none comes too soon. */
export const SAMPLE_INTERVAL_MS = SAMPLE_GAP_MS + 5;
const SAMPLES_IN_A_ROW = 3;
/** In sync, but further behind than this: catching up again. */
const FALL_BACK_BYTES = 64 << 20;

export class SyncGauge {
  #earlier: { readonly sourceOffset: number; readonly atMs: number } | null = null;
  #row = 0;
  #inSync = false;

  get inSync(): boolean {
    return this.#inSync;
  }

  /** True where the latest samples count as in sync, though they may be too few yet. */
  get inRow(): boolean {
    return this.#row > 0;
  }

  /** Takes a sample; returns whether the pair counts as in sync now. */
  sample(sourceOffset: number, appliedOffset: number, nowMs: number): boolean {
    const earlier = this.#earlier;
    // timers may fire a little early: a sample that comes too soon behind one of the row is not counted
    if (earlier !== null && this.inRow && nowMs - earlier.atMs < SAMPLE_GAP_MS) return this.#inSync;
    this.#earlier = { sourceOffset, atMs: nowMs };
    if (earlier === null) return this.#inSync;
    this.#row = appliedOffset >= earlier.sourceOffset ? this.#row + 1 : 0;
    if (this.#row >= SAMPLES_IN_A_ROW) this.#inSync = true;
    if (sourceOffset - appliedOffset > FALL_BACK_BYTES) this.#inSync = false;
    return this.#inSync;
  }

  /**
   * The copy is on the target. Of the time before counts only what was seen last: a source that was quiet at first, and
   * is written to since, is not followed closely yet.
   */
  loaded(): void {
    this.#inSync = this.#row >= SAMPLES_IN_A_ROW;
  }

  /** The link broke or a copy began: what was seen before says nothing any more. */
  reset(): void {
    this.#earlier = null;
    this.#row = 0;
    this.#inSync = false;
  }
}
