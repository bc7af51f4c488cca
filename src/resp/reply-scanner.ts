/**
 * Walks over RESP2 replies without building them: counts, and picks out the errors. What a replies' reader of
 * the hot path needs to know is "which command failed, and with what line"; values are passed over.
 */
import { TargetError } from '../core/errors.ts';

export interface ReplyHandler {
  /** A top-level reply is complete. `line` is the error line without its `-`, null where it is no error. */
  reply(line: string | null): void;
  /** An error inside a top-level array: the answer of one command of an EXEC. Comes before that array's reply(). */
  nestedError(index: number, line: string): void;
  /** `*-1`: an EXEC that did not run. */
  nullArray(): void;
}

const LONGEST_LINE = 64 * 1024;
const DEEPEST_ARRAY = 32;

export class ReplyScanner {
  readonly #handler: ReplyHandler;
  /** Elements still to come of each open array, outermost first. */
  readonly #open: number[] = [];
  #topLength = 0;
  /** Body bytes (with CRLF) of a bulk string that are still to be passed over. */
  #skip = 0;
  #partial: Buffer | null = null;

  constructor(handler: ReplyHandler) {
    this.#handler = handler;
  }

  /** @throws TargetError `target-protocol` for bytes that are no RESP2 */
  push(chunk: Buffer): void {
    let buf = chunk;
    if (this.#partial !== null) {
      buf = Buffer.concat([this.#partial, chunk]);
      this.#partial = null;
    }
    const end = buf.length;
    let pos = 0;
    while (pos < end) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, end - pos);
        pos += step;
        this.#skip -= step;
        if (this.#skip > 0) return;
        this.#elementDone(null);
        continue;
      }
      if (buf[pos] === 0x2b && this.#open.length === 0) {
        // `+OK` and `+QUEUED`: nearly all that comes
        const length = isQueued(buf, pos, end) ? 9 : isOk(buf, pos, end) ? 5 : 0;
        if (length > 0) {
          this.#handler.reply(null);
          pos += length;
          continue;
        }
      }
      const lineEnd = buf.indexOf(10, pos);
      if (lineEnd < 0) {
        if (end - pos > LONGEST_LINE) throw protocolError('a reply line has no end');
        this.#partial = Buffer.from(buf.subarray(pos));
        return;
      }
      this.#line(buf, pos, lineEnd - 1);
      pos = lineEnd + 1;
    }
  }

  #line(buf: Buffer, start: number, end: number): void {
    switch (buf[start]) {
      case 0x2b: // +
      case 0x3a: // :
        this.#elementDone(null);
        return;
      case 0x2d: // -
        this.#elementDone(buf.toString('utf8', start + 1, end));
        return;
      case 0x24: {
        const length = integer(buf, start + 1, end);
        if (length < 0) this.#elementDone(null);
        else this.#skip = length + 2;
        return;
      }
      case 0x2a: {
        const length = integer(buf, start + 1, end);
        if (length < 0 && this.#open.length === 0) {
          this.#handler.nullArray();
          return;
        }
        if (length <= 0) {
          this.#elementDone(null);
          return;
        }
        if (this.#open.length >= DEEPEST_ARRAY) throw protocolError('a reply is nested too deeply');
        if (this.#open.length === 0) this.#topLength = length;
        this.#open.push(length);
        return;
      }
      default:
        throw protocolError(`a reply begins with byte ${buf[start]}`);
    }
  }

  #elementDone(error: string | null): void {
    if (this.#open.length === 0) {
      this.#handler.reply(error);
      return;
    }
    if (error !== null && this.#open.length === 1) {
      this.#handler.nestedError(this.#topLength - this.#open[0]!, error);
    }
    while (this.#open.length > 0) {
      const left = this.#open[this.#open.length - 1]! - 1;
      if (left > 0) {
        this.#open[this.#open.length - 1] = left;
        return;
      }
      this.#open.pop();
    }
    this.#handler.reply(null);
  }
}

/** Whether `+QUEUED` with its line end stands at `pos`; written out, which is three times as fast as a loop. */
function isQueued(buf: Buffer, pos: number, end: number): boolean {
  return (
    pos + 9 <= end &&
    buf[pos + 1] === 0x51 &&
    buf[pos + 2] === 0x55 &&
    buf[pos + 3] === 0x45 &&
    buf[pos + 4] === 0x55 &&
    buf[pos + 5] === 0x45 &&
    buf[pos + 6] === 0x44 &&
    buf[pos + 7] === 13 &&
    buf[pos + 8] === 10
  );
}

/** Whether `+OK` with its line end stands at `pos`. */
function isOk(buf: Buffer, pos: number, end: number): boolean {
  return (
    pos + 5 <= end &&
    buf[pos + 1] === 0x4f &&
    buf[pos + 2] === 0x4b &&
    buf[pos + 3] === 13 &&
    buf[pos + 4] === 10
  );
}

function integer(buf: Buffer, start: number, end: number): number {
  const negative = buf[start] === 0x2d;
  let value = 0;
  const from = negative ? start + 1 : start;
  if (from >= end || end - from > 15) throw protocolError('a reply has a bad length');
  for (let at = from; at < end; at++) {
    const digit = buf[at]! - 48;
    if (digit < 0 || digit > 9) throw protocolError('a reply has a bad length');
    value = value * 10 + digit;
  }
  if (negative && value !== 1) throw protocolError('a reply has a bad length');
  return negative ? -1 : value;
}

function protocolError(what: string): TargetError {
  return new TargetError(`the target sent something that is no RESP2: ${what}`, {
    code: 'target-protocol',
    hint: 'is the target address a Redis or Valkey port, and TLS on both sides or on none?',
    recovery: 'reconnect',
  });
}
