/**
 * Compares a large value piece by piece, so that neither server is held up and no memory of ours depends on its size.
 * Lists, sorted sets and strings are read by position on both sides; sets and hashes are walked on one, and asked for on
 * the other.
 */
import type { ReplyValue } from '../../resp/reply-batch.ts';
import type { BulkCommand } from './bulk-connection.ts';
import { differsInFieldsOf } from './field-expiry.ts';
import { askBoth, digestOf, type Side, type Sides } from './side.ts';
import { isSameScored, isSameString, textOf } from './values.ts';

/** What one request brings, about. */
const PIECE_BYTES = 256 * 1024;
const MOST_ELEMENTS = 1000;
/** Where the size of a value is not known: its elements may be large. */
const ELEMENTS_UNSEEN = 100;

/**
 * Null where both sides hold the same, else what was found, for Difference.state.
 * @param bytes of the value on the source, about; null: not known
 */
export async function compareInPieces(
  sides: Sides,
  key: Buffer,
  type: string,
  bytes: number | null,
): Promise<string | null> {
  switch (type) {
    case 'string':
      return compareStrings(sides, key);
    case 'list':
      return compareByRank(sides, key, bytes, 'LLEN', (from, to) => ['LRANGE', key, from, to]);
    case 'zset':
      return compareByRank(sides, key, bytes, 'ZCARD', (from, to) => ['ZRANGE', key, from, to, 'WITHSCORES']);
    case 'set':
      return compareSets(sides, key, bytes);
    case 'hash':
      return compareHashes(sides, key, bytes);
    default:
      return compareDumps(sides, key);
  }
}

/** Elements to ask for at a time. */
export function elementsPerPiece(bytes: number | null, elements: number): number {
  if (bytes === null) return ELEMENTS_UNSEEN;
  const each = Math.max(1, bytes / Math.max(1, elements));
  return Math.max(1, Math.min(MOST_ELEMENTS, Math.floor(PIECE_BYTES / each)));
}

async function compareStrings(sides: Sides, key: Buffer): Promise<string | null> {
  const [here, there] = await askBoth(sides, ['STRLEN', key]);
  const length = here.integer(0);
  if (length <= PIECE_BYTES && there.integer(0) <= PIECE_BYTES) {
    // a HyperLogLog may be longer on one side
    const [left, right] = await askBoth(sides, ['GET', key]);
    if (left.isSame(0, right)) return null;
    const [value, other] = [left.value(0), right.value(0)];
    const same = Buffer.isBuffer(value) && Buffer.isBuffer(other) && isSameString(value, other);
    return same ? null : digestOf(left.raw(0), right.raw(0));
  }
  if (length !== there.integer(0)) return `${length} ${there.integer(0)}`;
  for (let from = 0; from < length; from += PIECE_BYTES) {
    const [left, right] = await askBoth(sides, ['GETRANGE', key, from, from + PIECE_BYTES - 1]);
    if (!left.isSame(0, right)) return digestOf(left.raw(0), right.raw(0));
  }
  return null;
}

async function compareByRank(
  sides: Sides,
  key: Buffer,
  bytes: number | null,
  lengthCommand: 'LLEN' | 'ZCARD',
  range: (from: number, to: number) => BulkCommand,
): Promise<string | null> {
  const [here, there] = await askBoth(sides, [lengthCommand, key]);
  const length = here.integer(0);
  if (length !== there.integer(0)) return `${length} ${there.integer(0)}`;
  const step = elementsPerPiece(bytes, length);
  for (let from = 0; from < length; from += step) {
    const [left, right] = await askBoth(sides, range(from, from + step - 1));
    if (left.isSame(0, right)) continue;
    if (lengthCommand === 'ZCARD' && isSameScored(left.value(0), right.value(0))) continue;
    return digestOf(left.raw(0), right.raw(0));
  }
  return null;
}

async function compareSets(sides: Sides, key: Buffer, bytes: number | null): Promise<string | null> {
  const [here, there] = await askBoth(sides, ['SCARD', key]);
  const length = here.integer(0);
  if (length !== there.integer(0)) return `${length} ${there.integer(0)}`;
  const { source, target } = sides;
  for await (const members of walk(sides, source, 'SSCAN', key, elementsPerPiece(bytes, length))) {
    const found = await target.connection.ask(members.length, (out) => {
      for (const member of members) out.command('SISMEMBER', key, member);
    });
    for (const [at, member] of members.entries()) {
      target.connection.check(found, at, 'SISMEMBER');
      if (found.integer(at) !== 1) return digestOf(member);
    }
  }
  return null;
}

/** HLEN counts fields whose time is over until the server comes by: where fields expire, both sides are walked instead. */
async function compareHashes(sides: Sides, key: Buffer, bytes: number | null): Promise<string | null> {
  const { source, target } = sides;
  const [here, there] = await askBoth(sides, ['HLEN', key]);
  const length = here.integer(0);
  if (!sides.fieldsExpire && length !== there.integer(0)) return `${length} ${there.integer(0)}`;
  const step = elementsPerPiece(bytes, length);
  for await (const words of walk(sides, source, 'HSCAN', key, step)) {
    const fields = words.filter((_, at) => at % 2 === 0);
    const reply = (await target.connection.commands(['HMGET', key, ...fields])).value(0);
    const values = Array.isArray(reply) ? (reply as readonly ReplyValue[]) : [];
    for (const [at, field] of fields.entries()) {
      const [value, other] = [words[2 * at + 1]!, values[at]];
      if (!Buffer.isBuffer(other) || !value.equals(other)) return digestOf(field, value, textOf(other));
    }
    if (sides.fieldsExpire) {
      const state = await differsInFieldsOf(sides, key, fields);
      if (state !== null) return state;
    }
  }
  if (!sides.fieldsExpire) return null;
  for await (const words of walk(sides, target, 'HSCAN', key, step)) {
    const fields = words.filter((_, at) => at % 2 === 0);
    const found = await source.connection.ask(fields.length, (out) => {
      for (const field of fields) out.command('HEXISTS', key, field);
    });
    for (const [at, field] of fields.entries()) {
      source.connection.check(found, at, 'HEXISTS');
      if (found.integer(at) !== 1) return digestOf(field);
    }
  }
  return null;
}

/** What SSCAN or HSCAN hands out, page by page; a server may hand out an element twice. Pages are never empty. */
async function* walk(
  { pace }: Sides,
  side: Side,
  command: 'SSCAN' | 'HSCAN',
  key: Buffer,
  count: number,
): AsyncGenerator<readonly Buffer[]> {
  let cursor = '0';
  do {
    await pace();
    const replies = await side.connection.commands([command, key, cursor, 'COUNT', count]);
    const [next, found] = replies.value(0) as readonly [Buffer, readonly Buffer[]];
    cursor = next.toString('latin1');
    if (found.length > 0) yield found;
  } while (cursor !== '0');
}

/** Types of modules and of later releases: in one piece, there is no other way. Without RDB version and checksum. */
async function compareDumps(sides: Sides, key: Buffer): Promise<string | null> {
  const [here, there] = await askBoth(sides, ['DUMP', key]);
  const [left, right] = [here, there].map((replies) => {
    const payload = replies.value(0);
    return Buffer.isBuffer(payload) ? payload.subarray(0, -10) : Buffer.alloc(0);
  });
  return left!.equals(right!) ? null : digestOf(left!, right!);
}
