/**
 * Hashes whose fields expire: all forms of them, as they stand in an RDB of Redis 7.4 or Valkey 9.0 and later (protocol.md
 * 3.4), read and written for transcode.ts. And, for types 24 and 25, all their expiries moved by one amount, without
 * looking at more than must be.
 */
import { assertNever, RdbFormatError } from '../core/errors.ts';
import { forEachListpack } from './encodings/listpack.ts';
import { FORM } from './forms.ts';
import { Names } from './names.ts';
import { plainString, ValueBuilder, ValueReader } from './value-bytes.ts';

/** i64 earliest expiry of a field, then length, then (expiry - earliest + 1, field, value); 0: the field stays. */
export const HASH_FIELD_TTLS = 24;
/** i64 earliest expiry of a field, then a listpack of (field, value, expiry); 0: the field stays. */
export const HASH_FIELD_TTLS_LISTPACK = 25;
/** Bytes of the earliest expiry, in front of both. */
export const EARLIEST_BYTES = 8;

/**
 * The earliest expiry of a field, ms since the epoch, of the value of either type at `value[start]`; 0: none expires.
 * @param offset RDB offset of `value[start]`, for errors
 * @throws RdbFormatError for one that no server writes
 */
export function earliestFieldExpiry(value: Buffer, start: number, offset: number): number {
  const atMs = Number(value.readBigUInt64LE(start));
  if (!Number.isSafeInteger(atMs)) throw new RdbFormatError('an expiry of fields is out of range', offset);
  return atMs;
}

/**
 * The first bytes of a value of type 24 whose fields all expire `shiftMs` later: nothing behind them changes.
 * @param earliestMs from earliestFieldExpiry
 */
export function laterHead(earliestMs: number, shiftMs: number): Buffer {
  const head = Buffer.allocUnsafe(EARLIEST_BYTES);
  head.writeBigUInt64LE(BigInt(earliestMs + shiftMs));
  return head;
}

/**
 * A value of type 25, `value[start..end)`, as one of type 24, all fields expiring `shiftMs` later.
 * @param offset RDB offset of `value[start]`, for errors
 * @throws RdbFormatError where the listpack is damaged, or does not hold what it should
 */
export function laterFromListpack(
  value: Buffer,
  start: number,
  end: number,
  offset: number,
  shiftMs: number,
): Buffer {
  const fields = readExpiringHash(FORM.hashTtlsListpack, new ValueReader(value, start, end, offset));
  const same = writeExpiringHash(FORM.hashTtls, fields);
  laterHead(earliestFieldExpiry(same, 0, offset), shiftMs).copy(same);
  return same;
}

/** A field of a hash. `name` and `content` are strings as they stand in an RDB, header included. */
export interface ExpiringField {
  readonly name: Buffer;
  readonly content: Buffer;
  /** Absolute, ms since the epoch; 0: the field stays. */
  readonly atMs: number;
}

/** The forms of hashes of which fields may expire (protocol.md 3.4). */
export type ExpiringForm =
  | typeof FORM.hashTtlsPreGa
  | typeof FORM.hashTtlsListpackPreGa
  | typeof FORM.hashTtls
  | typeof FORM.hashTtlsListpack
  | typeof FORM.hashTtlsValkey;

/** The fields of a hash, in the order in which they stand there. @throws RdbFormatError */
export function readExpiringHash(form: ExpiringForm, value: ValueReader): ExpiringField[] {
  switch (form) {
    case FORM.hashTtlsPreGa:
      return readFields(value, () => {
        const atMs = value.length();
        return { atMs, name: value.rawString(), content: value.rawString() };
      });
    case FORM.hashTtls: {
      const earliest = readEarliest(value);
      return readFields(value, () => {
        const ttl = value.length();
        return {
          atMs: ttl === 0 ? 0 : earliest + ttl - 1,
          name: value.rawString(),
          content: value.rawString(),
        };
      });
    }
    case FORM.hashTtlsValkey:
      return readFields(value, () => {
        const name = value.rawString();
        const content = value.rawString();
        const atMs = value.int64();
        return { name, content, atMs: atMs === -1 ? 0 : atMs };
      });
    case FORM.hashTtlsListpackPreGa:
      return readTriplets(value);
    case FORM.hashTtlsListpack:
      // not to be relied on: where a field is set to expire a little earlier, 7.4.1 and 8.2.3 leave it as it was
      readEarliest(value);
      return readTriplets(value);
    default:
      return assertNever(form);
  }
}

/** @param fields of which one expires at least, where the form is one of Redis */
export function writeExpiringHash(
  form: typeof FORM.hashTtls | typeof FORM.hashTtlsValkey,
  fields: readonly ExpiringField[],
): Buffer {
  const out = new ValueBuilder();
  if (form === FORM.hashTtlsValkey) {
    out.length(fields.length);
    for (const { name, content, atMs } of fields) {
      out
        .raw(name)
        .raw(content)
        .int64(atMs === 0 ? -1 : atMs);
    }
    return out.bytes;
  }
  let earliest = Number.POSITIVE_INFINITY;
  for (const { atMs } of fields) if (atMs > 0 && atMs < earliest) earliest = atMs;
  if (earliest === Number.POSITIVE_INFINITY) earliest = 0;
  out.int64(earliest).length(fields.length);
  for (const { name, content, atMs } of fields) {
    out
      .length(atMs === 0 ? 0 : atMs - earliest + 1)
      .raw(name)
      .raw(content);
  }
  return out.bytes;
}

function readEarliest(value: ValueReader): number {
  const { offset } = value;
  const atMs = value.int64();
  if (atMs < 0) throw new RdbFormatError('an expiry of fields is out of range', offset);
  return atMs;
}

function readFields(value: ValueReader, readField: () => ExpiringField): ExpiringField[] {
  const fields: ExpiringField[] = [];
  const names = new Names('field');
  for (let left = value.count(); left > 0; left--) {
    const { offset } = value;
    const field = readField();
    names.add(field.name, 0, field.name.length, offset);
    if (!Number.isSafeInteger(field.atMs) || field.atMs < 0) {
      throw new RdbFormatError('the expiry of a field is none', offset);
    }
    fields.push(field);
  }
  value.finish();
  return fields;
}

/** A listpack of (field, value, expiry); 0: the field stays. */
function readTriplets(value: ValueReader): ExpiringField[] {
  const { offset } = value;
  const packed = value.listpack();
  value.finish();
  const names = new Names('field');
  const fields: ExpiringField[] = [];
  const strings: Buffer[] = [];
  const visit = (bytes: Buffer, from: number, to: number): void => {
    if (strings.length < 2) {
      if (strings.length === 0) names.add(bytes, from, to, offset);
      strings.push(plainString(bytes, from, to));
      return;
    }
    const [name, content] = strings.splice(0) as [Buffer, Buffer];
    const text = bytes.toString('latin1', from, to);
    const atMs = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!Number.isSafeInteger(atMs)) {
      throw new RdbFormatError('the expiry of a field is none', offset);
    }
    fields.push({ name, content, atMs });
  };
  forEachListpack(packed, 0, packed.length, visit, offset);
  if (strings.length > 0) throw new RdbFormatError('a hash with expiring fields lacks some', offset);
  return fields;
}
