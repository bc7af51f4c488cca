/**
 * LZF decompression (protocol.md 3.3): the RDB stores strings of more than 20 bytes this way where that is
 * shorter. Two forms: whole strings at once, and a stream for elements that are too large to hold.
 *
 * A control byte below 32 is followed by that many literals plus one. Else its top three bits are a length (7:
 * one more length byte follows) and the low five, with one byte after, a distance back into the output; the copy
 * is two bytes longer than the length and may overlap what it writes.
 */
import { assertNever, RdbFormatError } from '../core/errors.ts';
import { damage } from './encodings/damage.ts';

/** The longest distance back that the format can express. */
const WINDOW_BYTES = 8192;
/** The longest copy, 7 + 255 + 2; it takes three bytes of input: nothing grows by more than the factor 88. */
const LONGEST_COPY = 264;
const MAX_GROWTH = LONGEST_COPY / 3;
/** Each literal may have a control byte of its own: two bytes of input make one at least. */
const MAX_SHRINK = 2;
/** Far above any server's limit: waiting for the end of such a string would be waiting forever. */
const LONGEST = 2 ** 40;
/** Output that an LzfStream gathers before it hands it on. */
const CHUNK_BYTES = 64 * 1024;

/**
 * Refuses a pair of lengths that no LZF string has, before anything is allocated or waited for.
 * @param offset RDB offset of the string, for the error
 * @throws RdbFormatError
 */
export function checkLzfLengths(compressed: number, length: number, offset: number): void {
  if (compressed <= LONGEST && compressed <= length * MAX_SHRINK && length <= compressed * MAX_GROWTH) return;
  throw new RdbFormatError(`an LZF string claims ${length} bytes out of ${compressed}`, offset);
}

/**
 * Decompresses `input[start..end)` into a new buffer of exactly `outputLength` bytes. A length that this much
 * input cannot produce is refused before anything is allocated.
 * @param base RDB offset of `input[0]`, for errors
 * @throws RdbFormatError where the input is cut short, points before the output's start, or has another length
 */
export function lzfDecompress(
  input: Uint8Array,
  start: number,
  end: number,
  outputLength: number,
  base: number,
): Buffer {
  const offset = base + start;
  if (outputLength > (end - start) * MAX_GROWTH) {
    throw damage('LZF string', `${end - start} bytes cannot hold ${outputLength}`, 0, offset);
  }
  const output = Buffer.allocUnsafe(outputLength);
  let from = start;
  let to = 0;
  while (from < end) {
    const control = input[from++]!;
    if (control < 32) {
      const length = control + 1;
      if (length > end - from) throw damage('LZF string', 'literals are cut short', from - start, offset);
      if (length > outputLength - to) throw tooLong(outputLength, from - start, offset);
      for (let i = 0; i < length; i++) output[to++] = input[from++]!;
      continue;
    }
    let length = (control >> 5) + 2;
    if (length === 9) {
      if (from >= end) throw damage('LZF string', 'a copy is cut short', from - start, offset);
      length += input[from++]!;
    }
    if (from >= end) throw damage('LZF string', 'a copy is cut short', from - start, offset);
    let back = to - (((control & 31) << 8) | input[from++]!) - 1;
    if (back < 0) throw damage('LZF string', 'a copy from before the start', from - start, offset);
    if (length > outputLength - to) throw tooLong(outputLength, from - start, offset);
    for (const stop = to + length; to < stop; ) output[to++] = output[back++]!;
  }
  if (to !== outputLength) throw tooShort(to, outputLength, end - start, offset);
  return output;
}

/** What the next byte of an LzfStream is; literals are counted apart. */
type Expects = 'control' | 'length' | 'distance';

/**
 * Decompresses one string piece by piece, in about 72 KB of memory whatever its length. After a throw the stream
 * is of no more use.
 */
export class LzfStream {
  readonly #outputLength: number;
  readonly #emit: (chunk: Buffer) => void;
  readonly #offset: number;
  /** The last WINDOW_BYTES that were handed on, then what was not yet. */
  readonly #work = Buffer.allocUnsafe(WINDOW_BYTES + CHUNK_BYTES);
  #to = WINDOW_BYTES;
  #handedOn = 0;
  #consumed = 0;
  #expects: Expects = 'control';
  #literals = 0;
  #copyLength = 0;
  #distanceHigh = 0;

  /**
   * @param outputLength bytes of the whole string
   * @param emit takes the output in order. A chunk is valid only until `emit` returns: its memory is used again
   * @param offset RDB offset of the string, for errors
   */
  constructor(outputLength: number, emit: (chunk: Buffer) => void, offset: number) {
    this.#outputLength = outputLength;
    this.#emit = emit;
    this.#offset = offset;
  }

  /**
   * Takes the next piece of input, `bytes[start..end)`.
   * @throws RdbFormatError where the input points before the output's start or makes more than `outputLength`
   */
  push(bytes: Uint8Array, start: number, end: number): void {
    const origin = this.#consumed - start;
    let at = start;
    while (at < end) {
      if (this.#literals > 0) {
        const length = Math.min(this.#literals, end - at);
        this.#makeRoom(length, origin + at);
        const work = this.#work;
        let to = this.#to;
        for (const stop = at + length; at < stop; ) work[to++] = bytes[at++]!;
        this.#to = to;
        this.#literals -= length;
        continue;
      }
      const byte = bytes[at++]!;
      switch (this.#expects) {
        case 'control':
          if (byte < 32) {
            this.#literals = byte + 1;
            break;
          }
          this.#copyLength = (byte >> 5) + 2;
          this.#distanceHigh = (byte & 31) << 8;
          this.#expects = this.#copyLength === 9 ? 'length' : 'distance';
          break;
        case 'length':
          this.#copyLength += byte;
          this.#expects = 'distance';
          break;
        case 'distance':
          this.#copyBack((this.#distanceHigh | byte) + 1, this.#copyLength, origin + at);
          this.#expects = 'control';
          break;
        default:
          assertNever(this.#expects);
      }
    }
    this.#consumed = origin + end;
  }

  /**
   * Hands on what is left.
   * @throws RdbFormatError where the string is not complete
   */
  end(): void {
    if (this.#literals > 0 || this.#expects !== 'control') {
      throw damage('LZF string', 'input is cut short', this.#consumed, this.#offset);
    }
    const produced = this.#produced();
    if (produced !== this.#outputLength) {
      throw tooShort(produced, this.#outputLength, this.#consumed, this.#offset);
    }
    this.#flush();
  }

  #produced(): number {
    return this.#handedOn + this.#to - WINDOW_BYTES;
  }

  #copyBack(distance: number, length: number, inputAt: number): void {
    if (distance > this.#produced()) {
      throw damage('LZF string', 'a copy from before the start', inputAt, this.#offset);
    }
    this.#makeRoom(length, inputAt);
    const work = this.#work;
    let to = this.#to;
    for (const stop = to + length; to < stop; to++) work[to] = work[to - distance]!;
    this.#to = to;
  }

  /** Checks that `length` more bytes of output are due, and makes place for them. */
  #makeRoom(length: number, inputAt: number): void {
    if (length > this.#outputLength - this.#produced()) {
      throw tooLong(this.#outputLength, inputAt, this.#offset);
    }
    if (length > this.#work.length - this.#to) this.#flush();
  }

  #flush(): void {
    if (this.#to === WINDOW_BYTES) return;
    this.#emit(this.#work.subarray(WINDOW_BYTES, this.#to));
    this.#handedOn += this.#to - WINDOW_BYTES;
    this.#work.copyWithin(0, this.#to - WINDOW_BYTES, this.#to);
    this.#to = WINDOW_BYTES;
  }
}

function tooLong(outputLength: number, at: number, offset: number): Error {
  return damage('LZF string', `more than the announced ${outputLength} bytes come out`, at, offset);
}

function tooShort(produced: number, outputLength: number, at: number, offset: number): Error {
  return damage('LZF string', `${produced} of the announced ${outputLength} bytes come out`, at, offset);
}
