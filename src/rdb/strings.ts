/** Decoding of RDB strings (protocol.md 3.3): plain, integers as decimal text, LZF. */
import { RdbFormatError } from '../core/errors.ts';
import { checkLzfLengths, lzfDecompress } from './lzf.ts';
import { moduleTypeName } from './module-type.ts';
import { OP, TYPE } from './opcodes.ts';
import { lengthResult, readLength, readPlainLength, readStringLength } from './skip.ts';

/** The number that an int-encoded string stands for: `encoding` 0, 1, 2 is of 1, 2, 4 bytes. */
export function integerValue(buf: Buffer, at: number, encoding: number): number {
  if (encoding === 0) return buf.readInt8(at);
  return encoding === 1 ? buf.readInt16LE(at) : buf.readInt32LE(at);
}

/** Text of an int-encoded string. */
export function integerText(buf: Buffer, at: number, encoding: number): string {
  return String(integerValue(buf, at, encoding));
}

/** What must be in memory as a whole is no longer than the longest string of a server with default settings. */
const LONGEST_HELD = 512 << 20;

/**
 * For a string that is about to be waited for and held: a key, an AUX field, a function, a field of a hash.
 * @param offset of the string, for the error
 * @throws RdbFormatError for one that no server writes there
 */
export function checkHeldLength(length: number, offset: number): void {
  if (length > LONGEST_HELD) throw new RdbFormatError(`a string of ${length} bytes is too long here`, offset);
}

/** A string decoded: a slice of `buf` where it is plain. `next` is the position behind it. */
export interface DecodedString {
  readonly bytes: Buffer;
  readonly next: number;
}

/**
 * The string at `at`, or null where bytes are missing.
 * @param base RDB offset of buf[0], for errors
 * @throws RdbFormatError where it is damaged, or too long to be held
 */
export function decodeString(buf: Buffer, at: number, end: number, base: number): DecodedString | null {
  const length = readStringLength(buf, at, end, base);
  if (length < 0) return null;
  const body = lengthResult.next;
  if (!lengthResult.special) {
    checkHeldLength(length, base + at);
    return body + length > end ? null : { bytes: buf.subarray(body, body + length), next: body + length };
  }
  if (length < 3) {
    const next = body + (1 << length);
    return next > end ? null : { bytes: Buffer.from(integerText(buf, body, length), 'latin1'), next };
  }
  if (length !== 3) throw new RdbFormatError(`unknown string encoding ${length}`, base + at);
  const header = lzfHeader(buf, body, end, base);
  if (header === null) return null;
  checkHeldLength(header.length, base + at);
  if (header.body + header.compressed > end) return null;
  const next = header.body + header.compressed;
  return { bytes: lzfDecompress(buf, header.body, next, header.length, base), next };
}

interface LzfHeader {
  readonly compressed: number;
  readonly length: number;
  readonly body: number;
}

/**
 * The two lengths behind an LZF marker, which stands right before `at`; null where bytes are missing.
 * @throws RdbFormatError for lengths that no LZF string has
 */
export function lzfHeader(buf: Buffer, at: number, end: number, base: number): LzfHeader | null {
  const compressed = readPlainLength(buf, at, end, base);
  if (compressed < 0) return null;
  const length = readPlainLength(buf, lengthResult.next, end, base);
  if (length < 0) return null;
  checkLzfLengths(compressed, length, base + at - 1);
  return { compressed, length, body: lengthResult.next };
}

/** The key of the entry that begins at buf[0], for messages; null where it cannot be read. */
export function keyOfEntry(buf: Buffer): Buffer | null {
  return decodeString(buf, typeAt(buf) + 1, buf.length, 0)?.bytes ?? null;
}

/** The module's type of the entry that begins at buf[0]; null where it is no value of a module, or cannot be read. */
export function moduleOfEntry(buf: Buffer): string | null {
  const at = typeAt(buf);
  if (buf[at] !== TYPE.module2) return null;
  const key = decodeString(buf, at + 1, buf.length, 0);
  return key === null ? null : moduleTypeName(buf, key.next, buf.length, 0);
}

/** Where the type stands of the entry that begins at buf[0]: behind the opcodes that may be there (protocol.md 3.2). */
function typeAt(buf: Buffer): number {
  let at = 0;
  for (;;) {
    const op = buf[at];
    if (op === OP.expireMs) at += 9;
    else if (op === OP.expireSeconds) at += 5;
    else if (op === OP.freq) at += 2;
    else if ((op === OP.idle || op === OP.ramLru) && readLength(buf, at + 1, buf.length) >= 0)
      at = lengthResult.next;
    else break;
  }
  return at;
}
