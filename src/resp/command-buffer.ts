/**
 * Encodes commands straight into pooled blocks that go to a socket: no object, string or promise per command.
 * A command may be spread over blocks; values of any size pass through.
 */
import { encodeCommand } from './encode.ts';

const BLOCK_BYTES = 256 * 1024;
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
    const text = String(value);
    this.bulkHeader(text.length);
    this.#reserve(text.length + 2);
    this.#at += this.#block.write(text, this.#at, 'latin1');
    this.crlf();
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
      if (this.#free.length < 8) this.#free.push(block);
    });
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes > BLOCK_BYTES) this.flush();
  }

  #header(marker: number, value: number): void {
    this.#reserve(20);
    const block = this.#block;
    let at = this.#at;
    block[at++] = marker;
    if (value < 10) {
      block[at++] = 48 + value;
    } else if (value < 100) {
      const tens = (value / 10) | 0;
      block[at++] = 48 + tens;
      block[at++] = 48 + value - tens * 10;
    } else if (value < 1000) {
      const hundreds = (value / 100) | 0;
      const rest = value - hundreds * 100;
      const tens = (rest / 10) | 0;
      block[at++] = 48 + hundreds;
      block[at++] = 48 + tens;
      block[at++] = 48 + rest - tens * 10;
    } else {
      at += block.write(String(value), at, 'latin1');
    }
    block[at++] = 13;
    block[at++] = 10;
    this.#at = at;
  }
}
