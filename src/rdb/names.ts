/**
 * What must stand once only in a value: its fields, members, groups, pending entries. For transcode.ts and field-ttls.ts,
 * which refuse a value with one twice: a server before 6.2 that is given a field twice ends itself (run on 2.8.17, 5.0.10
 * and 6.0.9).
 */
import { RdbFormatError } from '../core/errors.ts';

/**
 * Beyond this no more are remembered: memory is bounded, and what stands twice behind is the target's to find out. Above
 * the number of pending entries that fit into a value which is written in another form (64 MB).
 */
const MOST_NAMES = 1 << 22;

/** Names are compared as they stand: a server writes the same text in the same bytes. */
export class Names {
  readonly #what: string;
  readonly #seen = new Set<string>();

  /** @param what a name of this kind, for errors: `field` */
  constructor(what: string) {
    this.#what = what;
  }

  /**
   * Meets `bytes[start..end)`.
   * @param offset RDB offset for the error
   * @throws RdbFormatError where it was met before
   */
  add(bytes: Buffer, start: number, end: number, offset: number): void {
    if (this.#seen.size === MOST_NAMES) return;
    const before = this.#seen.size;
    this.#seen.add(bytes.toString('latin1', start, end));
    if (this.#seen.size === before) throw new RdbFormatError(`the same ${this.#what} stands twice`, offset);
  }

  /**
   * Gives `bytes[start..end)` away.
   * @param offset RDB offset for the error
   * @throws RdbFormatError where it was not met, or is given away
   */
  take(bytes: Buffer, start: number, end: number, offset: number): void {
    if (this.#seen.delete(bytes.toString('latin1', start, end))) return;
    throw new RdbFormatError(`a ${this.#what} is unknown, or stands twice`, offset);
  }
}
