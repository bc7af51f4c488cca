/**
 * Reads one value's bytes step by step, and builds those of another: what transcode.ts and field-ttls.ts work with.
 * A value that is read here is complete: a step that needs more bytes than there are is damage.
 */
import { RdbFormatError } from '../core/errors.ts';
import { lengthResult, readCount, readPlainLength, readStringLength, stringBodyLength } from './skip.ts';
import { decodeString, lzfHeader } from './strings.ts';

/**
 * Servers begin with 128 entries of up to 64 bytes in one. What is taken apart costs many times its bytes, and as LZF
 * it may have been a few of them in the file.
 */
const LONGEST_LISTPACK = 16 << 20;

/** The first byte of a length of 64 bits, and how many there are. */
export const WIDE_LENGTH = 0x81;
const WIDE_LENGTH_BYTES = 9;

/** Goes through `bytes[at..end)`. Each step throws RdbFormatError where it would leave that, or meets damage. */
export class ValueReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #base: number;
  #at: number;

  /** @param offset RDB offset for errors: that of `bytes[at]` */
  constructor(bytes: Buffer, at: number, end: number, offset: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
    this.#base = offset - at;
  }

  /** RDB offset of the next byte. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** A plain length; Infinity from 2^53 on. */
  length(): number {
    return this.#passed(readPlainLength(this.#bytes, this.#at, this.#end, this.#base));
  }

  /** A number of elements. */
  count(): number {
    return this.#passed(readCount(this.#bytes, this.#at, this.#end, this.#base));
  }

  /** So many bytes as they are; a slice. */
  raw(bytes: number): Buffer {
    const start = this.#at;
    this.#moveTo(start + bytes);
    return this.#bytes.subarray(start, this.#at);
  }

  /** Some lengths, in the bytes in which they stand; a slice. */
  rawLengths(count: number): Buffer {
    const start = this.#at;
    for (let i = 0; i < count; i++) this.length();
    return this.#bytes.subarray(start, this.#at);
  }

  /**
   * A string as it stands, its header included and not decompressed; a slice. Where a length of it may take 64 bits
   * (short-lengths.ts) it is a plain string in bytes of its own.
   */
  rawString(): Buffer {
    const start = this.#at;
    const body = stringBodyLength(this.#bytes, start, this.#end, this.#base);
    if (body < 0) throw this.#short();
    const bodyAt = lengthResult.next;
    if (bodyAt - start >= WIDE_LENGTH_BYTES && this.#bytes.subarray(start, bodyAt).includes(WIDE_LENGTH)) {
      const decoded = this.string();
      return plainString(decoded, 0, decoded.length);
    }
    this.#moveTo(bodyAt + body);
    return this.#bytes.subarray(start, this.#at);
  }

  /** A string, decoded. */
  string(): Buffer {
    const decoded = decodeString(this.#bytes, this.#at, this.#end, this.#base);
    if (decoded === null) throw this.#short();
    this.#at = decoded.next;
    return decoded.bytes;
  }

  /** A listpack, decoded; not walked. @throws RdbFormatError also for one that is too long to be taken apart */
  listpack(): Buffer {
    const header = readStringLength(this.#bytes, this.#at, this.#end, this.#base);
    const isCompressed = header === 3 && lengthResult.special;
    const lzf = isCompressed ? lzfHeader(this.#bytes, lengthResult.next, this.#end, this.#base) : null;
    const length = lzf?.length ?? header;
    if (length > LONGEST_LISTPACK) {
      throw new RdbFormatError(`a listpack of ${length} bytes is too long to be taken apart`, this.offset);
    }
    return this.string();
  }

  /**
   * A signed 64-bit number.
   * @throws RdbFormatError beyond 2^53 either way: what is read with this is a time
   */
  int64(): number {
    const { offset } = this;
    const value = Number(this.raw(8).readBigInt64LE());
    if (!Number.isSafeInteger(value)) throw new RdbFormatError('a time that is out of range', offset);
    return value;
  }

  /** Makes sure that the value ends here. */
  finish(): void {
    if (this.#at !== this.#end) throw new RdbFormatError('a value goes on behind its end', this.offset);
  }

  #passed(value: number): number {
    if (value < 0) throw this.#short();
    this.#at = lengthResult.next;
    return value;
  }

  #moveTo(at: number): void {
    if (at > this.#end) throw this.#short();
    this.#at = at;
  }

  #short(): RdbFormatError {
    return new RdbFormatError('a value is cut short', this.offset);
  }
}

const FIRST_BYTES = 512;

/** Grows by what is added. All of it is copied, so that elements of a walker (element.ts) may be added as they come. */
export class ValueBuilder {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;

  /** What was added; a slice, complete when nothing more comes. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  raw(bytes: Buffer, start = 0, end = bytes.length): this {
    this.#reserve(end - start);
    this.#length += bytes.copy(this.#bytes, this.#length, start, end);
    return this;
  }

  length(value: number): this {
    return this.raw(lengthHeader(value));
  }

  /** A plain string. */
  string(bytes: Buffer, start = 0, end = bytes.length): this {
    return this.length(end - start).raw(bytes, start, end);
  }

  /** A signed 64-bit number. @param value a safe integer */
  int64(value: number): this {
    this.#reserve(8);
    this.#length = this.#bytes.writeBigInt64LE(BigInt(value), this.#length);
    return this;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** A copy of `bytes[start..end)` as a plain string, header included. */
export function plainString(bytes: Buffer, start: number, end: number): Buffer {
  return Buffer.concat([lengthHeader(end - start), bytes.subarray(start, end)]);
}

/** A length as RDB writes it (protocol.md 3.3): 6, 14, 32 or 64 bits. */
function lengthHeader(length: number): Buffer {
  if (length < 1 << 6) return Buffer.of(length);
  if (length < 1 << 14) return Buffer.of(0x40 | (length >> 8), length & 0xff);
  if (length < 2 ** 32) {
    const header = Buffer.of(0x80, 0, 0, 0, 0);
    header.writeUInt32BE(length, 1);
    return header;
  }
  const header = Buffer.alloc(9, 0x81);
  header.writeBigUInt64BE(BigInt(length), 1);
  return header;
}
