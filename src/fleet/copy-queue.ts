/**
 * Which pairs take their full copy now: so many at a time as `--parallel` says, and one for each source's host, since a
 * copy forks the source and its memory is shared with what runs beside it. The host is free again when the source has
 * sent all of its snapshot: its child has ended then. Pairs behind their copy do not count; one that begins anew with
 * its copy on the target needs a place, but no host: most likely it goes on from its checkpoint.
 */
import type { Phase } from '../core/phase.ts';

export interface QueuedPair {
  readonly phase: Phase;
  /** True as soon as the source has sent all of its snapshot, loaded or not. */
  readonly snapshotReceived: boolean;
  readonly pair: { readonly name: string; readonly source: { readonly host: string } };
}

/**
 * The pairs of `waiting`, in their order, that may begin beside those that are copying. Pure.
 *
 * @param loaded those whose copy is on the target already
 */
export function nextCopies<Pair extends QueuedPair>(
  waiting: readonly Pair[],
  copying: readonly QueuedPair[],
  parallel: number,
  loaded: ReadonlySet<QueuedPair> = new Set(),
): Pair[] {
  const forked = copying.filter((pair) => !pair.snapshotReceived && !loaded.has(pair));
  const hosts = new Set(forked.map(({ pair }) => pair.source.host));
  const next: Pair[] = [];
  for (const pair of waiting) {
    if (copying.length + next.length >= parallel) break;
    const { host } = pair.pair.source;
    if (!loaded.has(pair)) {
      if (hosts.has(host)) continue;
      hosts.add(host);
    }
    next.push(pair);
  }
  return next;
}

export class CopyQueue<Pair extends QueuedPair> {
  readonly #parallel: number;
  readonly #begin: (pair: Pair) => Promise<void>;
  readonly #waiting: Pair[] = [];
  /** From the beginning until the copy is on the target, or the pair has failed. */
  readonly #copying = new Set<Pair>();
  /** Of these, those whose beginning has not returned. */
  readonly #beginning = new Map<Pair, Promise<void>>();
  /** Pairs that begin anew, with their copy on the target. */
  readonly #loaded = new Set<Pair>();
  #closed = false;

  /** @param begin takes hold of the target and begins to follow the source; must not throw */
  constructor(parallel: number, begin: (pair: Pair) => Promise<void>) {
    this.#parallel = parallel;
    this.#begin = begin;
  }

  /** A pair that begins anew, and whose copy is on the target. */
  addLoaded(pair: Pair): void {
    this.#loaded.add(pair);
    this.add([pair]);
  }

  add(pairs: readonly Pair[]): void {
    this.#waiting.push(...pairs);
    this.look();
  }

  /** It is to be looked at again before it may begin, and is added then. */
  remove(pair: Pair): void {
    this.#copying.delete(pair);
    this.#loaded.delete(pair);
    const at = this.#waiting.indexOf(pair);
    if (at !== -1) this.#waiting.splice(at, 1);
  }

  isWaiting(pair: Pair): boolean {
    return this.#waiting.includes(pair);
  }

  /** To be called where a phase has changed, and now and then: of a snapshot that has come whole nobody tells. */
  look(): void {
    if (this.#closed) return;
    for (const pair of this.#copying) {
      const copies = pair.phase === 'checking' || pair.phase === 'snapshot';
      if (!copies && !this.#beginning.has(pair)) this.#copying.delete(pair);
    }
    for (let at = this.#waiting.length - 1; at >= 0; at--) {
      // it failed, or was stopped, while it waited
      if (this.#waiting[at]?.phase !== 'checking') this.#waiting.splice(at, 1);
    }
    for (const pair of nextCopies(this.#waiting, [...this.#copying], this.#parallel, this.#loaded)) {
      this.#waiting.splice(this.#waiting.indexOf(pair), 1);
      this.#copying.add(pair);
      const begun = this.#begin(pair).then(() => {
        this.#beginning.delete(pair);
        this.look();
      });
      this.#beginning.set(pair, begun);
    }
  }

  /** Resolves when a pair is not at its beginning: what is half begun cannot be stopped. */
  async begun(pair: Pair): Promise<void> {
    await this.#beginning.get(pair);
  }

  /** Begins nothing any more. */
  close(): void {
    this.#closed = true;
  }
}
