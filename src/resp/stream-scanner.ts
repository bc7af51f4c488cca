/**
 * Follows a replication stream without looking at its commands any closer than needed: which database is selected,
 * and where a transaction is open. A boundary is a place at which the history can be cut: behind a command, outside
 * of a transaction. Commands of any size pass without being held.
 */
import { frame, scanArgument, scanCommand } from './command-frame.ts';

/** Commands above this are passed over argument by argument. */
const HELD_BYTES = 1 << 20;

/** A place between two commands of a stream, and the database selected there; -1: not known. */
export interface StreamBoundary {
  readonly position: number;
  readonly db: number;
}

export class StreamScanner {
  #db: number;
  #inTransaction = false;
  #argumentsLeft = 0;
  #bodyLeft = 0;
  #boundary: StreamBoundary;
  #commands = 0;

  /** Position of the next byte to be shown. */
  position: number;
  /** How many bytes from `position` on the scanner would like to see in one piece. */
  want = 1;

  /** Begins at a boundary. */
  constructor(start: StreamBoundary) {
    this.position = start.position;
    this.#db = start.db;
    this.#boundary = start;
  }

  /** The last boundary at or before `position`. */
  get boundary(): StreamBoundary {
    return this.#boundary;
  }

  /** Commands seen so far. */
  get commands(): number {
    return this.#commands;
  }

  /**
   * Looks at `view`, the bytes from `position` on; true where it came on. With `firstBoundaryAt` it stops at the first
   * boundary at or behind that position.
   * @throws SourceError `stream-garbage`
   */
  consume(view: Buffer, firstBoundaryAt = Number.POSITIVE_INFINITY): boolean {
    const base = this.position;
    const end = view.length;
    let pos = 0;
    this.want = 1;
    while (pos < end && this.#boundary.position < firstBoundaryAt) {
      if (this.#bodyLeft > 0) {
        const piece = Math.min(this.#bodyLeft, end - pos);
        pos += piece;
        this.#bodyLeft -= piece;
        if (this.#bodyLeft === 0 && --this.#argumentsLeft === 0) this.#ended(base + pos);
        continue;
      }
      if (this.#argumentsLeft > 0) {
        const length = scanArgument(view, pos, end, base);
        if (length < 0) {
          this.want = end - pos + 1;
          break;
        }
        this.#bodyLeft = length + 2;
        pos = frame.bodyStart;
        continue;
      }
      const next = scanCommand(view, pos, end, base);
      if (next < 0) {
        if (frame.needed <= HELD_BYTES || frame.inline || view[pos] !== STAR) {
          // doubled: many small arguments make themselves known one by one
          this.want = Math.max(frame.needed, 2 * (end - pos));
          break;
        }
        this.#argumentsLeft = frame.argumentCount;
        pos = view.indexOf(LF, pos) + 1;
        continue;
      }
      this.#note(view, next);
      pos = next;
      this.#ended(base + pos);
    }
    this.position = base + pos;
    return pos > 0;
  }

  /** A second scanner at the same place, for a look ahead. */
  copy(): StreamScanner {
    const copy = new StreamScanner(this.#boundary);
    copy.position = this.position;
    copy.want = this.want;
    copy.#db = this.#db;
    copy.#inTransaction = this.#inTransaction;
    copy.#argumentsLeft = this.#argumentsLeft;
    copy.#bodyLeft = this.#bodyLeft;
    return copy;
  }

  #ended(position: number): void {
    this.#commands++;
    if (!this.#inTransaction) this.#boundary = { position, db: this.#db };
  }

  #note(view: Buffer, end: number): void {
    const length = frame.nameEnd - frame.nameStart;
    if (length === 6 && isNamed(view, 'select')) this.#db = trailingNumber(view, end);
    else if (length === 5 && isNamed(view, 'multi')) this.#inTransaction = true;
    else if (length === 4 && isNamed(view, 'exec')) this.#inTransaction = false;
  }
}

const STAR = 0x2a;
const LF = 10;
const CR = 13;

function isNamed(view: Buffer, name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    if ((view[frame.nameStart + i]! | 0x20) !== name.charCodeAt(i)) return false;
  }
  return true;
}

/** The number at the end of a command: SELECT's argument, in array and in inline form. */
export function trailingNumber(buf: Buffer, end: number): number {
  let at = end;
  while (at > 0 && (buf[at - 1] === LF || buf[at - 1] === CR)) at--;
  let value = 0;
  for (let unit = 1; at > 0; unit *= 10) {
    const digit = buf[at - 1]! - 48;
    if (digit < 0 || digit > 9) break;
    value += digit * unit;
    at--;
  }
  return value;
}
