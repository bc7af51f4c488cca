/**
 * Replies of a pipeline as the bytes that came, and where each one ends: compared and passed over without being built.
 * What somebody looks into is parsed then. For reading a whole server (migrate/verify), where a reply per key must not
 * cost an object.
 */

/** A parsed RESP2 reply; strings are slices of the bytes that came. */
export type ReplyValue = Buffer | number | null | ReplyLine | readonly ReplyValue[];

/** An error reply inside an array, its line without the leading `-`. */
export class ReplyLine {
  readonly line: string;
  constructor(line: string) {
    this.line = line;
  }
}

const FIRST_BYTES = 64 * 1024;
const LONGEST_LINE = 64 * 1024;
/** Servers send no longer string by default (proto-max-bulk-len); twice that is no reply. */
const LONGEST_BULK = 1 << 30;
const DEEPEST_ARRAY = 32;
const NULL_STRING = Buffer.from('$-1\r\n', 'latin1');

/** Replies to a number of commands, in their order. */
export class Replies {
  readonly #bytes: Buffer;
  readonly #ends: readonly number[];

  constructor(bytes: Buffer, ends: readonly number[]) {
    this.#bytes = bytes;
    this.#ends = ends;
  }

  get count(): number {
    return this.#ends.length;
  }

  /** The line of an error reply without its `-`; null for any other reply. */
  error(at: number): string | null {
    const start = this.#start(at);
    return this.#bytes[start] === 0x2d ? this.#bytes.toString('utf8', start + 1, this.#end(at) - 2) : null;
  }

  /** An integer reply; NaN for any other. */
  integer(at: number): number {
    const start = this.#start(at);
    return this.#bytes[start] === 0x3a ? readInteger(this.#bytes, start + 1, this.#end(at) - 2) : Number.NaN;
  }

  /** The line of a simple string, `string` for the reply to TYPE; '' for any other reply. */
  line(at: number): string {
    const start = this.#start(at);
    return this.#bytes[start] === 0x2b ? this.#bytes.toString('latin1', start + 1, this.#end(at) - 2) : '';
  }

  /** Of an array; 0 for any other reply. */
  elements(at: number): number {
    const start = this.#start(at);
    if (this.#bytes[start] !== 0x2a) return 0;
    return Math.max(0, readInteger(this.#bytes, start + 1, this.#bytes.indexOf(13, start)));
  }

  /** Whether the bytes are those of reply `at` of others. */
  isSame(at: number, others: Replies, otherAt = at): boolean {
    const [start, end] = [this.#start(at), this.#end(at)];
    const [otherStart, otherEnd] = [others.#start(otherAt), others.#end(otherAt)];
    return (
      end - start === otherEnd - otherStart &&
      this.#bytes.compare(others.#bytes, otherStart, otherEnd, start, end) === 0
    );
  }

  /** False: no string of this reply is null. True also where one has the same bytes inside. */
  mayHoldNull(at: number): boolean {
    return this.raw(at).includes(NULL_STRING);
  }

  /** The reply with its headers, as it came. */
  raw(at: number): Buffer {
    return this.#bytes.subarray(this.#start(at), this.#end(at));
  }

  /** The reply parsed. */
  value(at: number): ReplyValue {
    return new ValueReader(this.#bytes, this.#start(at)).next();
  }

  #start(at: number): number {
    return at === 0 ? 0 : this.#end(at - 1);
  }

  #end(at: number): number {
    return this.#ends[at] ?? 0;
  }
}

/** Takes the bytes of a connection, and hands out replies as soon as all of a pipeline are there. */
export class ReplyCollector {
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #length = 0;
  /** Up to here it is known what the bytes mean. */
  #at = 0;
  /** Elements still to come of each open array, outermost first. */
  readonly #open: number[] = [];
  #ends: number[] = [];

  /** How many replies are complete and not yet taken. */
  get complete(): number {
    return this.#ends.length;
  }

  /**
   * @returns what is wrong with the bytes, for people; null: nothing. The connection is of no use after a fault.
   */
  push(chunk: Buffer): string | null {
    this.#reserve(this.#length + chunk.length);
    this.#length += chunk.copy(this.#bytes, this.#length);
    return this.#scan();
  }

  /** The first `count` replies; they must be complete. */
  take(count: number): Replies {
    const end = this.#ends[count - 1] ?? 0;
    const ends = this.#ends.slice(0, count);
    this.#ends = this.#ends.slice(count).map((each) => each - end);
    const bytes = this.#detach(end);
    this.#length -= end;
    this.#at -= end;
    return new Replies(bytes, ends);
  }

  /** The first bytes, which may be kept; what is behind them moves to the front. The smaller part is copied. */
  #detach(end: number): Buffer {
    const bytes = this.#bytes;
    if (2 * end < bytes.length) {
      const detached = Buffer.from(bytes.subarray(0, end));
      bytes.copyWithin(0, end, this.#length);
      return detached;
    }
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, this.#length - end));
    bytes.copy(this.#bytes, 0, end, this.#length);
    return bytes;
  }

  #scan(): string | null {
    const [bytes, length] = [this.#bytes, this.#length];
    for (let at = this.#at; at < length; at = this.#at) {
      let lineEnd = at + 1;
      while (lineEnd < length && bytes[lineEnd] !== 10) lineEnd++;
      if (lineEnd >= length) return length - at > LONGEST_LINE ? 'a reply line has no end' : null;
      const next = lineEnd + 1;
      switch (bytes[at]) {
        case 0x2b: // +
        case 0x2d: // -
        case 0x3a: // :
          this.#elementEnds(next);
          break;
        case 0x24: {
          const size = readInteger(bytes, at + 1, lineEnd - 1);
          if (!(size <= LONGEST_BULK)) return 'a reply has a bad length';
          const end = size < 0 ? next : next + size + 2;
          if (end > length) {
            this.#reserve(end);
            return null;
          }
          this.#elementEnds(end);
          break;
        }
        case 0x2a: {
          const elements = readInteger(bytes, at + 1, lineEnd - 1);
          if (Number.isNaN(elements)) return 'a reply has a bad length';
          if (this.#open.length >= DEEPEST_ARRAY) return 'a reply is nested too deeply';
          this.#at = next;
          if (elements > 0) this.#open.push(elements);
          else this.#elementEnds(next);
          break;
        }
        default:
          return `a reply begins with byte ${bytes[at]}`;
      }
    }
    return null;
  }

  #elementEnds(at: number): void {
    this.#at = at;
    const open = this.#open;
    while (open.length > 0) {
      const left = open[open.length - 1]! - 1;
      open[open.length - 1] = left;
      if (left > 0) return;
      open.pop();
    }
    this.#ends.push(at);
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(bytes, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** Reads a reply that is known to be complete. */
class ValueReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  next(): ReplyValue {
    const bytes = this.#bytes;
    const start = this.#at + 1;
    const lineEnd = bytes.indexOf(10, start) - 1;
    this.#at = lineEnd + 2;
    switch (bytes[start - 1]) {
      case 0x24: {
        const size = readInteger(bytes, start, lineEnd);
        if (size < 0) return null;
        const from = this.#at;
        this.#at = from + size + 2;
        return bytes.subarray(from, from + size);
      }
      case 0x2a: {
        const elements = readInteger(bytes, start, lineEnd);
        if (elements < 0) return null;
        const array: ReplyValue[] = [];
        for (let at = 0; at < elements; at++) array.push(this.next());
        return array;
      }
      case 0x3a:
        return readInteger(bytes, start, lineEnd);
      case 0x2d:
        return new ReplyLine(bytes.toString('utf8', start, lineEnd));
      default:
        return bytes.subarray(start, lineEnd);
    }
  }
}

/** A decimal number in `bytes[start..end)`; NaN where there is none. Exact up to 2^53. */
function readInteger(bytes: Buffer, start: number, end: number): number {
  const negative = bytes[start] === 0x2d;
  let value = 0;
  const from = negative ? start + 1 : start;
  if (from >= end) return Number.NaN;
  for (let at = from; at < end; at++) {
    const digit = bytes[at]! - 48;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return negative ? -value : value;
}
