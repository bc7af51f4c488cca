/** Decoding of RDB strings (protocol.md 3.3): plain, integers as decimal text, LZF. */
import { RdbFormatError } from '../core/errors.ts';
import { lzfDecompress } from './lzf.ts';
import { OP } from './opcodes.ts';
import { lengthResult, readLength, readPlainLength, readStringLength } from './skip.ts';

/** Text of an int-encoded string. */
export function integerText(buf: Buffer, at: number, encoding: number): string {
  if (encoding === 0) return String(buf.readInt8(at));
  return String(encoding === 1 ? buf.readInt16LE(at) : buf.readInt32LE(at));
}

/** A string decoded: a slice of `buf` where it is plain. `next` is the position behind it. */
export interface DecodedString {
  readonly bytes: Buffer;
  readonly next: number;
}

/**
 * The string at `at`, or null where bytes are missing.
 * @param base RDB offset of buf[0], for errors
 */
export function decodeString(buf: Buffer, at: number, end: number, base: number): DecodedString | null {
  const length = readStringLength(buf, at, end, base);
  if (length < 0) return null;
  const body = lengthResult.next;
  if (!lengthResult.special) {
    return body + length > end ? null : { bytes: buf.subarray(body, body + length), next: body + length };
  }
  if (length < 3) {
    const next = body + (1 << length);
    return next > end ? null : { bytes: Buffer.from(integerText(buf, body, length), 'latin1'), next };
  }
  if (length !== 3) throw new RdbFormatError(`unknown string encoding ${length}`, base + at);
  const header = lzfHeader(buf, body, end, base);
  if (header === null || header.body + header.compressed > end) return null;
  const next = header.body + header.compressed;
  return { bytes: lzfDecompress(buf, header.body, next, header.length, base), next };
}

export interface LzfHeader {
  readonly compressed: number;
  readonly length: number;
  readonly body: number;
}

/** The two lengths behind an LZF marker; null where bytes are missing. */
export function lzfHeader(buf: Buffer, at: number, end: number, base: number): LzfHeader | null {
  const compressed = readPlainLength(buf, at, end, base);
  if (compressed < 0) return null;
  const length = readPlainLength(buf, lengthResult.next, end, base);
  return length < 0 ? null : { compressed, length, body: lengthResult.next };
}

/** LZF gains at most 264 bytes out of 3: a claim beyond that is a bomb, refused before anything is allocated. */
export function checkLzfRatio(header: LzfHeader, offset: number): void {
  if (header.length > header.compressed * 88 + 264) {
    throw new RdbFormatError(
      `an LZF string claims ${header.length} bytes out of ${header.compressed}`,
      offset,
    );
  }
}

/**
 * The key of the entry that begins at buf[0], for messages; null where it cannot be read.
 * Passes over the opcodes that may stand before a type (protocol.md 3.2).
 */
export function keyOfEntry(buf: Buffer): Buffer | null {
  let at = 0;
  for (;;) {
    const op = buf[at];
    if (op === OP.expireMs) at += 9;
    else if (op === OP.expireSeconds) at += 5;
    else if (op === OP.freq) at += 2;
    else if (op === OP.idle && readLength(buf, at + 1, buf.length) >= 0) at = lengthResult.next;
    else break;
  }
  return decodeString(buf, at + 1, buf.length, 0)?.bytes ?? null;
}
