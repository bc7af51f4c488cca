/**
 * Hashes whose fields expire, as they stand in an RDB of Redis 7.4 and later (protocol.md 3.5, types 24 and 25): all
 * their expiries moved by one amount, without looking at more than must be.
 */
import { RdbFormatError } from '../core/errors.ts';
import { forEachListpack } from './encodings/listpack.ts';
import { decodeString } from './strings.ts';

/** i64 earliest expiry of a field, then length, then (expiry - earliest + 1, field, value); 0: the field stays. */
export const HASH_FIELD_TTLS = 24;
/** i64 earliest expiry of a field, then a listpack of (field, value, expiry); 0: the field stays. */
export const HASH_FIELD_TTLS_LISTPACK = 25;
/** Bytes of the earliest expiry, in front of both. */
export const EARLIEST_BYTES = 8;

/**
 * The earliest expiry of a field, ms since the epoch, of a value of either type; 0: none expires.
 * @throws RdbFormatError for one that no server writes
 */
export function earliestFieldExpiry(value: Buffer, start: number): number {
  const atMs = Number(value.readBigUInt64LE(start));
  if (!Number.isSafeInteger(atMs)) throw new RdbFormatError('an expiry of fields is out of range', start);
  return atMs;
}

/** The first bytes of a value of type 24 whose fields all expire `shiftMs` later: nothing behind them changes. */
export function laterHead(value: Buffer, start: number, shiftMs: number): Buffer {
  const head = Buffer.allocUnsafe(EARLIEST_BYTES);
  head.writeBigUInt64LE(BigInt(earliestFieldExpiry(value, start) + shiftMs));
  return head;
}

/**
 * A value of type 25 as one of type 24, all fields expiring `shiftMs` later.
 * @throws RdbFormatError where the listpack is damaged, or does not hold what it should
 */
export function laterFromListpack(value: Buffer, start: number, end: number, shiftMs: number): Buffer {
  const packed = decodeString(value, start + EARLIEST_BYTES, end, 0);
  if (packed === null) throw new RdbFormatError('a hash with expiring fields is cut short', end);
  const earliest = earliestFieldExpiry(value, start);
  const parts: Buffer[] = [];
  // a text of an integer lies in a ring: copied, since it is used only when the whole triplet is there
  const triplet: Buffer[] = [];
  const elements = forEachListpack(
    packed.bytes,
    0,
    packed.bytes.length,
    (bytes, from, to) => {
      triplet.push(Buffer.from(bytes.subarray(from, to)));
      if (triplet.length < 3) return;
      const [field, content, expiry] = triplet.splice(0) as [Buffer, Buffer, Buffer];
      const atMs = expiryOf(expiry.toString('latin1'), earliest, start);
      parts.push(
        lengthHeader(atMs === 0 ? 0 : atMs - earliest + 1),
        lengthHeader(field.length),
        field,
        lengthHeader(content.length),
        content,
      );
    },
    0,
  );
  if (triplet.length > 0) throw new RdbFormatError('a hash with expiring fields lacks some', start);
  return Buffer.concat([laterHead(value, start, shiftMs), lengthHeader(elements / 3), ...parts]);
}

function expiryOf(text: string, earliest: number, start: number): number {
  const atMs = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (atMs === 0 || (Number.isSafeInteger(atMs) && atMs >= earliest)) return atMs;
  throw new RdbFormatError('the expiry of a field is none', start);
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
