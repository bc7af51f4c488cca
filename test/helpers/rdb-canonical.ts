/**
 * What an RDB says, value by value, in a form that does not depend on encodings: for comparison with what a server
 * says over the wire (wire-canonical.ts). All bytes are taken apart by the product's own readers.
 */
import assert from 'node:assert/strict';
import { RdbFormatError } from '../../src/core/errors.ts';
import { parseScore, parseTextDouble } from '../../src/rdb/doubles.ts';
import { ElementReader, elementKind } from '../../src/rdb/elements.ts';
import { forEachIntset } from '../../src/rdb/encodings/intset.ts';
import { forEachListpack } from '../../src/rdb/encodings/listpack.ts';
import { forEachQuicklistNode } from '../../src/rdb/encodings/quicklist.ts';
import { forEachZiplist } from '../../src/rdb/encodings/ziplist.ts';
import { forEachZipmap } from '../../src/rdb/encodings/zipmap.ts';
import { readExpiringHash } from '../../src/rdb/field-ttls.ts';
import { FORM, type Form, familyOf, formOf, typeOf } from '../../src/rdb/forms.ts';
import { moduleTypeName } from '../../src/rdb/module-type.ts';
import { type RdbFamily, TYPE } from '../../src/rdb/opcodes.ts';
import { RdbReader } from '../../src/rdb/reader.ts';
import { IGNORING_SINK, type RdbEntry, type RdbSink } from '../../src/rdb/sink.ts';
import { Skipper, skipProgram } from '../../src/rdb/skip.ts';
import { ValueReader } from '../../src/rdb/value-bytes.ts';

/** Texts are latin1: one character per byte. Sets, hashes and sorted sets are in the byte order of their members. */
export type CanonicalValue =
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'list' | 'set'; readonly elements: readonly string[] }
  /** Member, score. */
  | { readonly kind: 'zset'; readonly members: readonly (readonly [string, string])[] }
  | { readonly kind: 'hash'; readonly fields: readonly HashField[] }
  | ({ readonly kind: 'stream' } & CanonicalStream)
  /** Redis 8.8: index, value. */
  | {
      readonly kind: 'array';
      readonly next: number | null;
      readonly elements: readonly (readonly [number, string])[];
    }
  /** `raw`: the value as it stands in the file; its items are sound. */
  | { readonly kind: 'module'; readonly name: string; readonly raw: string };

/** Field, value, absolute expiry in ms; 0: none. */
export type HashField = readonly [field: string, value: string, atMs: number];

/** What a generation of streams does not have is null. */
export interface CanonicalStream {
  readonly length: number;
  readonly lastId: string;
  /** 7.0. `first` is the lowest id, 0-0 where there is no entry. */
  readonly counters: { readonly first: string; readonly maxDeleted: string; readonly added: bigint } | null;
  /** Id, then fields and values in turn. */
  readonly entries: readonly (readonly string[])[];
  readonly groups: readonly CanonicalGroup[];
  /** Redis 8.6: which messages came already. */
  readonly producers:
    | readonly (readonly [name: string, ids: readonly (readonly [string, string])[]])[]
    | null;
}

export interface CanonicalGroup {
  readonly name: string;
  readonly lastId: string;
  /** 7.0; -1: the server does not know. */
  readonly read: bigint | null;
  /** Id, holder, ms of the last delivery, number of deliveries. Redis 8.8: the holder may be null. */
  readonly pending: readonly (readonly [string, string | null, number, number])[];
  /** Name, ms of when it was seen, of when it was active (7.2; -1: never). */
  readonly consumers: readonly (readonly [string, number, number | null])[];
}

export interface CanonicalKey {
  readonly db: number;
  readonly key: string;
  /** Absolute, ms; -1: none. */
  readonly expireAtMs: number;
  readonly form: Form;
  readonly value: CanonicalValue;
  /** The value as it stands in the file; of strings, decoded. */
  readonly raw: Buffer;
}

export interface CanonicalFile {
  readonly keys: readonly CanonicalKey[];
  /** Source code of function libraries. */
  readonly libraries: readonly string[];
}

/**
 * All of an RDB file; what stands behind it is left alone.
 * @throws RdbFormatError where it is damaged, or ends too early
 */
export function decodeFile(bytes: Buffer): CanonicalFile {
  let family: RdbFamily = 'redis';
  const keys: CanonicalKey[] = [];
  const libraries: string[] = [];
  const add = (entry: RdbEntry, value: CanonicalValue, raw: Buffer): void => {
    const { db, expireAtMs, type, key, keyStart, keyEnd } = entry;
    keys.push({
      db,
      key: key.toString('latin1', keyStart, keyEnd),
      expireAtMs,
      form: formOf(type, family),
      value,
      raw: Buffer.from(raw),
    });
  };
  const tooBig = (): never => assert.fail('no value of this size is taken here');
  const sink: RdbSink = {
    ...IGNORING_SINK,
    header: (found) => {
      family = found;
    },
    functionLibrary: (_start, code) => void libraries.push(code.toString('latin1')),
    string: (entry, buf, start, end) => {
      add(entry, { kind: 'string', text: buf.toString('latin1', start, end) }, buf.subarray(start, end));
    },
    value: (entry, buf, start, end) => {
      const form = formOf(entry.type, family);
      add(entry, decodeValue(form, buf, start, end, entry.valueStart), buf.subarray(start, end));
    },
    blobStart: tooBig,
    elementsStart: tooBig,
  };
  const reader = new RdbReader(sink);
  while (!reader.done) {
    if (!reader.consume(bytes.subarray(reader.position))) {
      throw new RdbFormatError('the file ends too early', bytes.length);
    }
  }
  return { keys, libraries };
}

/**
 * Where a value that begins at `bytes[start]` ends.
 * @throws RdbFormatError where it does not, or is of no known type
 */
export function endOfValue(form: Form, bytes: Buffer, start: number): number {
  const program = skipProgram(typeOf(form), familyOf(form));
  if (program === null) throw new RdbFormatError(`unknown type ${typeOf(form)}`, 0);
  const skipper = new Skipper();
  skipper.start(program);
  const end = skipper.run(bytes, start, bytes.length, 0);
  if (!skipper.done) throw new RdbFormatError('a value is cut short', end);
  return end;
}

/**
 * The value `bytes[start..end)`.
 * @param offset RDB offset of `bytes[start]`, for errors
 * @throws RdbFormatError where it is damaged
 */
export function decodeValue(
  form: Form,
  bytes: Buffer,
  start: number,
  end: number,
  offset: number,
): CanonicalValue {
  const value = new ValueReader(bytes, start, end, offset);
  const decoded = decode(form, value, bytes.subarray(start, end));
  value.finish();
  return decoded;
}

function decode(form: Form, value: ValueReader, raw: Buffer): CanonicalValue {
  switch (form) {
    case TYPE.string:
      return { kind: 'string', text: text(value) };
    case TYPE.list:
      return { kind: 'list', elements: times(value.count(), () => text(value)) };
    case TYPE.set:
      return setOf(
        times(value.count(), () => text(value)),
        value,
      );
    case TYPE.zset:
      return zsetOf(
        times(value.count(), () => [text(value), textScore(value)] as const),
        value,
      );
    case TYPE.zset2:
      return zsetOf(
        times(value.count(), () => [text(value), value.raw(8).readDoubleLE()] as const),
        value,
      );
    case TYPE.hash:
      return hashOf(
        times(value.count(), () => [text(value), text(value), 0] as const),
        value,
      );
    case TYPE.hashZipmap:
      return hashOf(pairs(packed(value, forEachZipmap), value), value);
    case TYPE.hashZiplist:
      return hashOf(pairs(packed(value, forEachZiplist), value), value);
    case TYPE.hashListpack:
      return hashOf(pairs(packed(value, forEachListpack), value), value);
    case TYPE.zsetZiplist:
      return zsetOf(scored(packed(value, forEachZiplist), value), value);
    case TYPE.zsetListpack:
      return zsetOf(scored(packed(value, forEachListpack), value), value);
    case TYPE.setIntset:
      return setOf(packed(value, forEachIntset), value);
    case TYPE.setListpack:
      return setOf(packed(value, forEachListpack), value);
    case TYPE.listZiplist:
      return { kind: 'list', elements: packed(value, forEachZiplist) };
    case TYPE.quicklist:
      return { kind: 'list', elements: times(value.count(), () => packed(value, forEachZiplist)).flat() };
    case TYPE.quicklist2:
      return {
        kind: 'list',
        elements: times(value.count(), () => {
          const container = value.length();
          return packed(value, (...node) => forEachQuicklistNode(container, ...node));
        }).flat(),
      };
    case FORM.hashTtlsPreGa:
    case FORM.hashTtlsListpackPreGa:
    case FORM.hashTtls:
    case FORM.hashTtlsListpack:
    case FORM.hashTtlsValkey:
      return hashOf(
        readExpiringHash(form, value).map(
          ({ name, content, atMs }) => [stringIn(name), stringIn(content), atMs] as const,
        ),
        value,
      );
    case TYPE.stream:
      return { kind: 'stream', ...streamOf(1, value) };
    case TYPE.stream2:
      return { kind: 'stream', ...streamOf(2, value) };
    case TYPE.stream3:
      return { kind: 'stream', ...streamOf(3, value) };
    case FORM.stream4:
      return { kind: 'stream', ...streamOf(4, value) };
    case FORM.stream5:
      return { kind: 'stream', ...streamOf(5, value) };
    case FORM.array:
      return arrayOf(value);
    case TYPE.module2:
      return { kind: 'module', name: moduleOf(value), raw: raw.toString('latin1') };
    default:
      throw new RdbFormatError(`unknown form ${form}`, value.offset);
  }
}

/** The same value as it comes element by element where it is too big to be held; null: its type is not taken apart. */
export function decodeElements(form: Form, bytes: Buffer): CanonicalValue | null {
  const kind = elementKind(typeOf(form));
  if (kind === null || familyOf(form) !== 'redis') return null;
  const found: string[] = [];
  let parts: string[] = [];
  const elements = new ElementReader({
    ...IGNORING_SINK,
    element: (buf, start, end) => void found.push(buf.toString('latin1', start, end)),
    elementStart: () => {
      parts = [];
    },
    elementData: (buf, start, end) => void parts.push(buf.toString('latin1', start, end)),
    elementEnd: () => void found.push(parts.join('')),
  });
  elements.start(typeOf(form));
  for (let at = 0; !elements.done; ) {
    const next = elements.run(bytes, at, bytes.length, 0);
    if (next === at && !elements.done) throw new RdbFormatError('a value is cut short', at);
    at = next;
  }
  const value = new ValueReader(bytes, 0, 0, 0);
  switch (kind) {
    case 'list':
      return { kind, elements: found };
    case 'set':
      return setOf(found, value);
    case 'hash':
      return hashOf(pairs(found, value), value);
    case 'zset':
      return zsetOf(
        // the score comes first, as ZADD wants it
        pairs(found, value).map(([score, member]) => [member, parseScore(score, 0)] as const),
        value,
      );
  }
}

/** A score as text that shows every bit: servers write the same one in several ways. */
export function scoreText(score: number): string {
  return Object.is(score, -0) ? '-0' : String(score);
}

function text(value: ValueReader): string {
  return value.string().toString('latin1');
}

function stringIn(bytes: Buffer): string {
  return text(new ValueReader(bytes, 0, bytes.length, 0));
}

/** Calls `each` so often; a count that lies ends at the first that is not there. */
function times<T>(count: number, each: () => T): T[] {
  const all: T[] = [];
  for (let left = count; left > 0; left--) all.push(each());
  return all;
}

type Walk = typeof forEachListpack;

function packed(value: ValueReader, walk: Walk): string[] {
  const { offset } = value;
  const bytes = value.string();
  const elements: string[] = [];
  walk(
    bytes,
    0,
    bytes.length,
    (from, start, end) => void elements.push(from.toString('latin1', start, end)),
    offset,
  );
  return elements;
}

function pairs(elements: readonly string[], value: ValueReader): HashField[] {
  if (elements.length % 2 !== 0) throw damaged('the second of a pair is missing', value);
  return times(elements.length / 2, () => 0).map((_, i) => [elements[2 * i]!, elements[2 * i + 1]!, 0]);
}

function scored(elements: readonly string[], value: ValueReader): (readonly [string, number])[] {
  return pairs(elements, value).map(([member, score]) => [member, parseScore(score, value.offset)]);
}

/** Type 3: a length byte and as many characters; 253 to 255 stand alone. */
function textScore(value: ValueReader): number {
  const { offset } = value;
  const head = value.raw(1);
  const length = head[0]! < 253 ? head[0]! : 0;
  return parseTextDouble(Buffer.concat([head, value.raw(length)]), 0, offset);
}

function damaged(problem: string, value: ValueReader): RdbFormatError {
  return new RdbFormatError(problem, value.offset);
}

function distinct(members: readonly string[], value: ValueReader): void {
  if (new Set(members).size !== members.length) throw damaged('the same member twice', value);
}

function setOf(elements: readonly string[], value: ValueReader): CanonicalValue {
  distinct(elements, value);
  return { kind: 'set', elements: [...elements].sort() };
}

function hashOf(fields: readonly HashField[], value: ValueReader): CanonicalValue {
  distinct(
    fields.map(([field]) => field),
    value,
  );
  return { kind: 'hash', fields: [...fields].sort(byFirst) };
}

function zsetOf(members: readonly (readonly [string, number])[], value: ValueReader): CanonicalValue {
  distinct(
    members.map(([member]) => member),
    value,
  );
  if (members.some(([, score]) => Number.isNaN(score))) throw damaged('the score NaN', value);
  return { kind: 'zset', members: members.map(([m, score]) => [m, scoreText(score)] as const).sort(byFirst) };
}

/** For sorting by bytes. */
export function byFirst(a: readonly unknown[], b: readonly unknown[]): number {
  return String(a[0]) < String(b[0]) ? -1 : 1;
}

function arrayOf(value: ValueReader): CanonicalValue {
  const count = value.count();
  const next = value.length() === 0 ? null : value.length();
  const elements = times(count, () => {
    const index = value.length();
    const tag = value.length();
    if (tag === 1) return [index, String(value.raw(8).readBigInt64LE())] as const;
    if (tag === 2) return [index, scoreText(value.raw(8).readDoubleLE())] as const;
    if (tag !== 0 && tag !== 3) throw damaged(`unknown array element ${tag}`, value);
    return [index, text(value)] as const;
  });
  return { kind: 'array', next, elements };
}

/** Passes over a module's value item by item (protocol.md 3.6); the name of its type. */
function moduleOf(value: ValueReader): string {
  const number = value.rawLengths(1);
  for (let item = value.length(); item !== 0; item = value.length()) {
    if (item === 1 || item === 2) value.rawLengths(1);
    else if (item === 3) value.raw(4);
    else if (item === 4) value.raw(8);
    else if (item === 5) value.string();
    else throw damaged(`unknown module item ${item}`, value);
  }
  return moduleTypeName(number, 0, number.length, 0) ?? '?';
}

/** A length of which every bit counts. */
function uint64(value: ValueReader): bigint {
  const bytes = value.rawLengths(1);
  if (bytes.length === 9) return bytes.readBigUInt64BE(1);
  return BigInt(new ValueReader(bytes, 0, bytes.length, 0).length());
}

const id = (ms: bigint, seq: bigint): string => `${ms}-${seq}`;
const lengthId = (value: ValueReader): string => id(uint64(value), uint64(value));
const rawId = (bytes: Buffer): string => id(bytes.readBigUInt64BE(0), bytes.readBigUInt64BE(8));

function streamOf(generation: 1 | 2 | 3 | 4 | 5, value: ValueReader): CanonicalStream {
  const nodes = times(value.count(), () => nodeOf(value));
  distinct(
    nodes.map(({ nodeId }) => nodeId),
    value,
  );
  const entries = nodes.flatMap((node) => node.entries);
  const length = value.length();
  const lastId = lengthId(value);
  const counters =
    generation < 2
      ? null
      : { first: lengthId(value), maxDeleted: lengthId(value), added: BigInt.asIntN(64, uint64(value)) };
  const groups = times(value.count(), () => groupOf(generation, value)).sort((a, b) =>
    byFirst([a.name], [b.name]),
  );
  distinct(
    groups.map(({ name }) => name),
    value,
  );
  if (generation >= 4) value.rawLengths(2);
  const producers =
    generation < 4
      ? null
      : times(
          value.count(),
          () => [text(value), times(value.count(), () => [text(value), lengthId(value)] as const)] as const,
        );
  if (generation >= 4) value.rawLengths(2);
  return { length, lastId, counters, entries, groups, producers };
}

/** The live entries of one node: a master entry with its fields, then entries that may share these (protocol.md 3.4). */
function nodeOf(value: ValueReader): { readonly nodeId: string; readonly entries: string[][] } {
  const nodeId = value.string();
  if (nodeId.length !== 16) throw damaged('the id of a node is of another size', value);
  const items = packed(value, forEachListpack);
  let at = 0;
  const next = (): string => {
    const item = items[at++];
    if (item === undefined) throw damaged('a node ends too early', value);
    return item;
  };
  const wide = (): bigint => {
    const item = next();
    if (!/^-?\d{1,19}$/.test(item)) throw damaged('a number was expected', value);
    return BigInt(item);
  };
  const number = (): number => Number(wide());
  const live = number();
  const deleted = number();
  const shared = times(number(), next);
  if (next() !== '0') throw damaged('a master entry has no end', value);
  const ms = nodeId.readBigUInt64BE(0);
  const seq = nodeId.readBigUInt64BE(8);
  const entries: string[][] = [];
  let gone = 0;
  while (at < items.length) {
    const from = at;
    const flags = number();
    const entry = [id(BigInt.asUintN(64, ms + wide()), BigInt.asUintN(64, seq + wide()))];
    if ((flags & 2) !== 0) for (const field of shared) entry.push(field, next());
    else times(2 * number(), () => entry.push(next()));
    const taken = at - from;
    if (number() !== taken) throw damaged('an entry does not know its own length', value);
    if ((flags & 1) !== 0) gone++;
    else entries.push(entry);
  }
  if (entries.length !== live || gone !== deleted)
    throw damaged('a node has other entries than it says', value);
  return { nodeId: nodeId.toString('hex'), entries };
}

function groupOf(generation: number, value: ValueReader): CanonicalGroup {
  const name = text(value);
  const lastId = lengthId(value);
  const read = generation < 2 ? null : BigInt.asIntN(64, uint64(value));
  const unheld = times(
    value.count(),
    () => [rawId(value.raw(16)), [value.int64(), value.length()] as const] as const,
  );
  distinct(
    unheld.map(([entry]) => entry),
    value,
  );
  const deliveries = new Map(unheld);
  const holders = new Map<string, string | null>();
  const hold = (holder: string | null): void => {
    times(value.count(), () => {
      const held = rawId(value.raw(16));
      if (holders.has(held) || !deliveries.has(held)) throw damaged('a pending entry is held wrongly', value);
      holders.set(held, holder);
    });
  };
  const consumers = times(value.count(), () => {
    const consumer = text(value);
    const seen = value.int64();
    const active = generation < 3 ? null : value.int64();
    hold(consumer);
    return [consumer, seen, active] as const;
  });
  distinct(
    consumers.map(([consumer]) => consumer),
    value,
  );
  if (generation >= 5) hold(null);
  if (holders.size !== deliveries.size) throw damaged('a pending entry that nobody holds', value);
  const pending = [...deliveries].map(
    ([entry, [atMs, count]]) => [entry, holders.get(entry) ?? null, atMs, count] as const,
  );
  return { name, lastId, read, pending: pending.sort(byFirst), consumers: consumers.sort(byFirst) };
}
