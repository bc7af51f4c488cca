/** Keeps the end of the stream that is on the target already, from a boundary on: for the tail check. */
import type { StreamBoundary } from '../resp/stream-scanner.ts';
import type { Spool } from '../spool/spool.ts';

/** So much is kept, and looked through for the keys written last. */
const TAIL_BYTES = 16 * 1024;
/** Boundaries that are remembered; between the first two the step is at most a batch. */
const MOST_BOUNDARIES = 64;

/** The last bytes of the stream that are on the target, from a boundary on at which `db` was selected. */
export interface StreamTail {
  readonly bytes: Buffer;
  readonly db: number;
}

export class TailKeeper {
  readonly #spool: Spool;
  /** Oldest first. */
  #boundaries: StreamBoundary[] = [];

  constructor(spool: Spool) {
    this.#spool = spool;
  }

  /** The target has everything up to `boundary`. Returns up to where the spool may forget. */
  passed(boundary: StreamBoundary): number {
    const known = this.#boundaries;
    if (boundary.position > (known.at(-1)?.position ?? -1)) known.push(boundary);
    while (known.length > 2 && boundary.position - known[1]!.position >= TAIL_BYTES) known.shift();
    if (known.length > MOST_BOUNDARIES) known.splice(1, 1);
    return known[0]!.position;
  }

  /** The stream begins anew, or at another place. */
  reset(): void {
    this.#boundaries = [];
  }

  /** null where there is none, or its database is not known. */
  tail(): StreamTail | null {
    const first = this.#boundaries.find(({ db }) => db >= 0);
    const last = this.#boundaries.at(-1);
    if (first === undefined || last === undefined || first.position < this.#spool.start) return null;
    const length = last.position - first.position;
    return { bytes: Buffer.from(this.#spool.view(first.position, length).subarray(0, length)), db: first.db };
  }
}
