/** How far the target is in the source's history, and who waits for it to come further. */
import type { CutoverError } from '../core/errors.ts';

interface Waiter {
  readonly offset: number;
  readonly resolve: () => void;
  readonly reject: (error: CutoverError) => void;
}

export class AppliedOffset {
  #value = -1;
  #waiters: Waiter[] = [];
  #endedBy: CutoverError | null = null;

  get value(): number {
    return this.#value;
  }

  /** True while somebody waits. */
  get awaited(): boolean {
    return this.#waiters.length > 0;
  }

  /** Everything up to `offset` is on the target. */
  reach(offset: number): void {
    this.#value = offset;
    if (this.#waiters.length === 0) return;
    const ready = this.#waiters.filter((waiter) => waiter.offset <= offset);
    this.#waiters = this.#waiters.filter((waiter) => waiter.offset > offset);
    for (const waiter of ready) waiter.resolve();
  }

  /** The count goes on from here, ahead or back: nothing was applied by that, so that nobody wakes. */
  restart(offset: number): void {
    this.#value = offset;
  }

  /** Resolves as soon as everything up to `offset` is on the target; rejects when the feed ends before. */
  whenReached(offset: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#endedBy !== null) reject(this.#endedBy);
      else if (this.#value >= offset) resolve();
      else this.#waiters.push({ offset, resolve, reject });
    });
  }

  /** The feed ends: who waits, and who asks later, hears why. */
  end(reason: CutoverError): void {
    this.#endedBy ??= reason;
    for (const waiter of this.#waiters) waiter.reject(this.#endedBy);
    this.#waiters = [];
  }
}
