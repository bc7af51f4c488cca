/**
 * Encodes commands straight into pooled blocks that go to a socket: no object, string or promise per command.
 * A command may be spread over blocks; values of any size pass through.
 */
import { encodeCommand } from './encode.ts';

const BLOCK_BYTES = 256 * 1024;
/** As many as one turn of the event loop fills before their bytes are known to be gone. */
const MOST_FREE_BLOCKS = 20;
/** Below this a byte loop beats the call into the runtime's copy. */
const LOOP_BYTES = 40;

export class CommandBuffer {
  readonly #flushBlock: (block: Buffer, done: () => void) => void;
  readonly #free: Buffer[] = [];
  #block: Buffer;
  #at = 0;
  #flushedBytes = 0;

  /** @param flushBlock sends a block on and calls `done` when its bytes may be overwritten */
  constructor(flushBlock: (block: Buffer, done: () => void) => void) {
    this.#flushBlock = flushBlock;
    this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  }

  /** Bytes encoded so far, flushed or not. */
  get totalBytes(): number {
    return this.#flushedBytes + this.#at;
  }

  /** `*<count>` of a command that begins here. */
  begin(argumentCount: number): void {
    this.#header(0x2a, argumentCount);
  }

  bulk(buf: Buffer, start: number, end: number): void {
    this.bulkHeader(end - start);
    this.raw(buf, start, end);
    this.crlf();
  }

  /** `$<length>`: the body follows by raw(), then crlf(). */
  bulkHeader(length: number): void {
    this.#header(0x24, length);
  }

  crlf(): void {
    if (this.#at + 2 > BLOCK_BYTES) this.flush();
    this.#block[this.#at++] = 13;
    this.#block[this.#at++] = 10;
  }

  /** A non-negative safe integer as a bulk string. */
  bulkNumber(value: number): void {
    this.bulkHeader(digitCount(value));
    this.#reserve(18);
    this.#digits(value);
    this.#block[this.#at++] = 13;
    this.#block[this.#at++] = 10;
  }

  /** Bytes that are RESP already. */
  raw(buf: Buffer, start: number, end: number): void {
    const length = end - start;
    if (length <= LOOP_BYTES) {
      this.#reserve(length);
      const block = this.#block;
      let at = this.#at;
      for (let i = start; i < end; i++) block[at++] = buf[i]!;
      this.#at = at;
      return;
    }
    for (let from = start; from < end; ) {
      if (this.#at === BLOCK_BYTES) this.flush();
      const piece = Math.min(end - from, BLOCK_BYTES - this.#at);
      this.#block.set(buf.subarray(from, from + piece), this.#at);
      this.#at += piece;
      from += piece;
    }
  }

  /** A whole command; for the rare ones. */
  command(...args: readonly (string | number | Buffer)[]): void {
    const bytes = encodeCommand(args);
    this.raw(bytes, 0, bytes.length);
  }

  /** Hands the bytes so far to the socket. */
  flush(): void {
    if (this.#at === 0) return;
    const block = this.#block;
    const length = this.#at;
    this.#flushedBytes += length;
    this.#block = this.#free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
    this.#at = 0;
    this.#flushBlock(block.subarray(0, length), () => {
      if (this.#free.length < MOST_FREE_BLOCKS) this.#free.push(block);
    });
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes > BLOCK_BYTES) this.flush();
  }

  #header(marker: number, value: number): void {
    this.#reserve(20);
    this.#block[this.#at++] = marker;
    this.#digits(value);
    this.#block[this.#at++] = 13;
    this.#block[this.#at++] = 10;
  }

  /** The decimal digits of a non-negative safe integer; there is room for them. */
  #digits(value: number): void {
    if (value >= SPLIT) {
      // in two halves, each of which is a small integer to the engine
      const high = Math.floor(value / SPLIT);
      this.#digits(high);
      this.#padded(value - high * SPLIT, SPLIT_DIGITS);
      return;
    }
    this.#padded(value, digitCount(value));
  }

  #padded(value: number, digits: number): void {
    const block = this.#block;
    let rest = value | 0;
    for (let at = this.#at + digits - 1; at >= this.#at; at--) {
      const next = (rest / 10) | 0;
      block[at] = 48 + rest - next * 10;
      rest = next;
    }
    this.#at += digits;
  }
}

const SPLIT = 1e8;
const SPLIT_DIGITS = 8;

function digitCount(value: number): number {
  let digits = 1;
  for (let limit = 10; value >= limit; limit *= 10) digits++;
  return digits;
}
