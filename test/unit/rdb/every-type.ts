/**
 * For the tests of this folder and the fuzzer: a small sound value of every type that the format has, and streams whose
 * parts can be made to lie. Layouts in protocol.md 3.4.
 */
import type { RdbFamily } from '../../../src/rdb/opcodes.ts';
import { f64, i64, intset, len, listpack, rdb, str, ziplist } from './build.ts';

/** 2100-01-01: nothing expires while it is tested. */
export const LATER_MS = 4_102_444_800_000;

/** The id of a stream's entry, as nodes and pending entries have it. */
export function streamId(ms: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64BE(BigInt(ms));
  return bytes;
}

/** A node that begins at `ms`: entries of one field, one ms after the other. */
export function streamNode(ms: number, values: readonly string[]): readonly [id: Buffer, entries: Buffer] {
  const entries = values.flatMap((value, i) => [2, i, 0, value, 4]);
  return [streamId(ms), listpack([values.length, 0, 1, 'f', 0, ...entries])];
}

export interface GroupParts {
  readonly name?: string;
  /** The entries that are pending, by ms. */
  readonly pending: readonly number[];
  readonly consumers: readonly (readonly [name: string, pending: readonly number[]])[];
  /** Pending entries that nobody holds; of generation 5. */
  readonly nacked?: readonly number[];
}

export interface StreamParts {
  readonly nodes?: readonly (readonly [id: Buffer, entries: Buffer])[];
  readonly groups?: readonly GroupParts[];
}

/** Streams have grown by additions only: types 15, 19, 21, 26, 27 are the generations 1 to 5. */
export function stream(generation: 1 | 2 | 3 | 4 | 5, parts: StreamParts = {}): Buffer {
  const { nodes = [streamNode(1, ['a', 'b'])], groups = [] } = parts;
  const since = (first: number, ...more: readonly Buffer[]): readonly Buffer[] =>
    generation >= first ? more : [];
  const ids = (all: readonly number[]): readonly Buffer[] => [len(all.length), ...all.map(streamId)];
  return Buffer.concat([
    ...[len(nodes.length), ...nodes.flatMap((node) => node.map((bytes) => str(bytes)))],
    // entries, last id; first id, highest deleted id, entries ever added
    ...[len(2), len(2), len(0)],
    ...since(2, len(1), len(0), len(0), len(0), len(2)),
    len(groups.length),
    ...groups.flatMap(({ name = 'g', pending, consumers, nacked = [] }) => [
      ...[str(name), len(2), len(0), ...since(2, len(2))],
      ...[len(pending.length), ...pending.flatMap((ms) => [streamId(ms), i64(1_000), len(1)])],
      len(consumers.length),
      ...consumers.flatMap(([consumer, held]) => [
        ...[str(consumer), i64(1_000), ...since(3, i64(1_000)), ...ids(held)],
      ]),
      ...since(5, ...ids(nacked)),
    ]),
    // duration and size of the memory of producers' ids, one producer with one of its ids, two counters
    ...since(4, len(100), len(100), len(1), str('p'), len(1), str('i'), len(1), len(0), len(1), len(0)),
  ]);
}

const GROUP: GroupParts = {
  pending: [1, 2],
  consumers: [
    ['c', [2]],
    ['d', [1]],
  ],
};
const PAIRS = ['a', '1', 'bcd', '1000'] as const;

interface TypedValue {
  readonly type: number;
  readonly value: Buffer;
}

const COMMON: readonly TypedValue[] = [
  { type: 0, value: str('text') },
  { type: 1, value: Buffer.concat([len(2), str('a'), str('b')]) },
  { type: 2, value: Buffer.concat([len(2), str('a'), Buffer.from('c007', 'hex')]) },
  { type: 3, value: Buffer.concat([len(2), str('a'), str('1.5'), str('b'), Buffer.of(254)]) },
  { type: 4, value: Buffer.concat([len(1), str('f'), str('v')]) },
  { type: 5, value: Buffer.concat([len(2), str('a'), f64(Number.NEGATIVE_INFINITY), str('b'), f64(1.5)]) },
  // a module's name and version, an unsigned number, a float, a string
  {
    type: 7,
    value: Buffer.concat([len(2n ** 60n), Buffer.from('0207030000000005', 'hex'), str('s'), len(0)]),
  },
  { type: 9, value: str(Buffer.from('010161010076ff', 'hex')) },
  { type: 10, value: str(ziplist(PAIRS)) },
  { type: 11, value: str(intset(2, [-1, 5])) },
  { type: 12, value: str(ziplist(PAIRS)) },
  { type: 13, value: str(ziplist(PAIRS)) },
  { type: 14, value: Buffer.concat([len(2), str(ziplist(['a'])), str(ziplist(PAIRS))]) },
  { type: 15, value: stream(1, { groups: [GROUP] }) },
  { type: 16, value: str(listpack(PAIRS)) },
  { type: 17, value: str(listpack(PAIRS)) },
  { type: 18, value: Buffer.concat([len(2), len(2), str(listpack(PAIRS)), len(1), str('plain')]) },
  { type: 19, value: stream(2, { groups: [GROUP] }) },
  { type: 20, value: str(listpack(['a', 'b', 7])) },
  { type: 21, value: stream(3, { groups: [GROUP] }) },
];

/** By family: what every reader of it must know. */
export const EVERY_TYPE: Readonly<Record<RdbFamily, readonly TypedValue[]>> = {
  redis: [
    ...COMMON,
    { type: 22, value: Buffer.concat([len(1), len(LATER_MS), str('f'), str('v')]) },
    { type: 23, value: str(listpack(['f', 'v', LATER_MS])) },
    { type: 24, value: Buffer.concat([i64(LATER_MS), len(1), len(1), str('f'), str('v')]) },
    { type: 25, value: Buffer.concat([i64(LATER_MS), str(listpack(['f', 'v', LATER_MS]))]) },
    { type: 26, value: stream(4, { groups: [GROUP] }) },
    { type: 27, value: stream(5, { groups: [{ ...GROUP, consumers: [['c', [2]]], nacked: [1] }] }) },
    {
      type: 28,
      value: Buffer.concat([len(2), len(1), len(9), len(0), len(0), str('s'), len(1), len(1), i64(5)]),
    },
  ],
  valkey: [...COMMON, { type: 22, value: Buffer.concat([len(1), str('f'), str('v'), i64(LATER_MS)]) }],
};

export const MAGIC: Readonly<Record<RdbFamily, string>> = { redis: 'REDIS0014', valkey: 'VALKEY080' };

/** The entry of a key `k`. */
export function entry(type: number, ...value: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.of(type), str('k'), ...value]);
}

/** Every type in one file. */
export function everyTypeFile(family: RdbFamily): Buffer {
  return rdb(MAGIC[family], ...EVERY_TYPE[family].map(({ type, value }) => entry(type, value)));
}
