/** Rates over the last seconds, from counters that only grow. Pure: the caller brings the time. */

const WINDOW_MS = 3_000;

export class RateMeter {
  #samples: { readonly atMs: number; readonly value: number }[] = [];

  /** Adds the counter's present value; a smaller one than before (a new copy) begins anew. */
  add(value: number, nowMs: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && value < last.value) this.#samples = [];
    this.#samples.push({ atMs: nowMs, value });
    while (this.#samples.length > 2 && nowMs - this.#samples[0]!.atMs > WINDOW_MS) this.#samples.shift();
  }

  /** Per second; 0 while there is only one sample. */
  get perSecond(): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    return ((last.value - first.value) * 1000) / (last.atMs - first.atMs);
  }
}
