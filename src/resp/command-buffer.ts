/**
 * Encodes commands straight into pooled blocks that go to a socket: no object, string or promise per command.
 * A command may be spread over blocks; values of any size pass through.
 */
import type { Arg } from './encode.ts';

const BLOCK_BYTES = 256 * 1024;
/** As many as one turn of the event loop fills before their bytes are known to be gone. */
const MOST_FREE_BLOCKS = 20;
/** Up to this a loop over bytes is the fastest. */
const BYTE_LOOP_BYTES = 32;
/** Up to this a loop over words beats the runtime's copy, which wants an object for the piece, and garbage is not free. */
const WORD_LOOP_BYTES = 256;

export class CommandBuffer {
  readonly #flushBlock: (block: Buffer, done: () => void) => void;
  readonly #free: Buffer[] = [];
  #block: Buffer;
  #blockWords: DataView;
  /** What was copied from last, by words. */
  #source: Buffer;
  #sourceWords: DataView;
  #at = 0;
  #flushedBytes = 0;

  /** @param flushBlock sends a block on and calls `done` when its bytes may be overwritten */
  constructor(flushBlock: (block: Buffer, done: () => void) => void) {
    this.#flushBlock = flushBlock;
    this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    this.#blockWords = wordsOf(this.#block);
    this.#source = this.#block;
    this.#sourceWords = this.#blockWords;
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
    if (length <= WORD_LOOP_BYTES) {
      this.#reserve(length);
      if (length > BYTE_LOOP_BYTES) this.#copyWords(buf, start, end);
      else this.#copyBytes(buf, start, end);
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

  /** A whole command; for the rarer ones. */
  command(...args: readonly Arg[]): void {
    this.begin(args.length);
    for (const arg of args) {
      const bytes = Buffer.isBuffer(arg) ? arg : Buffer.from(String(arg), 'utf8');
      this.bulk(bytes, 0, bytes.length);
    }
  }

  /** Hands the bytes so far to the socket. */
  flush(): void {
    if (this.#at === 0) return;
    const block = this.#block;
    const length = this.#at;
    this.#flushedBytes += length;
    this.#block = this.#free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
    this.#blockWords = wordsOf(this.#block);
    this.#at = 0;
    this.#flushBlock(block.subarray(0, length), () => {
      if (this.#free.length < MOST_FREE_BLOCKS) this.#free.push(block);
    });
  }

  /** There is room. */
  #copyBytes(buf: Buffer, start: number, end: number): void {
    const block = this.#block;
    let at = this.#at;
    for (let i = start; i < end; i++) block[at++] = buf[i]!;
    this.#at = at;
  }

  /** There is room. Pieces of one buffer come in a row: what is a part of every command is shorter. */
  #copyWords(buf: Buffer, start: number, end: number): void {
    if (buf !== this.#source) {
      this.#source = buf;
      this.#sourceWords = wordsOf(buf);
    }
    const from = this.#sourceWords;
    const to = this.#blockWords;
    let at = this.#at;
    let i = start;
    for (; i + WORD_BYTES <= end; i += WORD_BYTES, at += WORD_BYTES) to.setUint32(at, from.getUint32(i));
    this.#at = at;
    this.#copyBytes(buf, i, end);
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

const WORD_BYTES = 4;

function wordsOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

const SPLIT = 1e8;
const SPLIT_DIGITS = 8;

function digitCount(value: number): number {
  let digits = 1;
  for (let limit = 10; value >= limit; limit *= 10) digits++;
  return digits;
}
