/**
 * Random values of every type for property tests and the fuzzer: sizes around the bounds at which a server changes the
 * encoding, texts around the widths of integers and lengths, streams with deleted entries, groups and pending entries,
 * expiries of keys and of fields. What is generated are commands, so that a real server decides how it is stored.
 */
import fc from 'fast-check';
import type { Command } from '../../src/resp/connection.ts';
import type { Release } from './releases.ts';

export interface RandomDataset {
  /** All of them succeed on an empty server of the release. */
  readonly commands: readonly Command[];
  /** For targets that have no streams. */
  readonly streamKeys: readonly Buffer[];
}

/** 2100-01-01: nothing expires while it is tested. */
const LATER_MS = 4_102_444_800_000;
/** Redis takes expiries of fields up to 2^46 - 1 (7.4 to 8.2). */
const LAST_FIELD_EXPIRY_MS = 2 ** 46 - 1;

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Around every width in which listpacks, ziplists, intsets and RDB strings store an integer. */
const EDGES = [0n, 12n, 63n, 127n, 128n, 4095n, 4096n, 2n ** 15n, 2n ** 23n, 2n ** 31n, 2n ** 63n];
const integer = fc
  .tuple(fc.constantFrom(...EDGES), fc.constantFrom(-1n, 0n, 1n), fc.boolean())
  .map(([edge, more, negative]) => (negative ? -edge : edge) + more)
  .filter((value) => value >= -(2n ** 63n) && value < 2n ** 63n)
  .map((value) => latin1(String(value)));

/** What looks like an integer and is none. */
const almostInteger = fc
  .constantFrom(
    '',
    '00012',
    '-0',
    '+1',
    ' 1',
    '1 ',
    '1e3',
    '0x10',
    '9223372036854775808',
    '-9223372036854775809',
  )
  .map(latin1);

/** Around the bounds of the headers of lengths; half of them LZF makes shorter. */
const sized = fc
  .tuple(
    fc.constantFrom(20, 21, 62, 63, 64, 65, 253, 254, 4095, 4096, 16_383, 16_384),
    fc.nat(255),
    fc.boolean(),
  )
  .map(([size, seed, repeats]) =>
    Buffer.from(
      Array.from({ length: size }, (_, i) => (repeats ? seed + (i % 3) : seed + i * i * 31 + i) & 255),
    ),
  );

const bytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value));

const text = fc.oneof(
  { weight: 4, arbitrary: integer },
  { weight: 2, arbitrary: almostInteger },
  { weight: 3, arbitrary: bytes },
  { weight: 2, arbitrary: sized },
);

/** The settings at which a packed collection becomes a big one: small ones as well as the usual. */
const limit = fc.constantFrom(4, 16, 128);

/** About as many as the limit, and some that are far from it. */
function sizeAround(most: number): fc.Arbitrary<number> {
  return fc.oneof(fc.nat(3), fc.integer({ min: most - 2, max: most + 2 }), fc.constant(3 * most + 1));
}

/** How the elements that are there for their number look. */
const FILLERS: readonly ((i: number) => string)[] = [
  (i) => String(i),
  (i) => String(i * 70_000 - 200_000),
  (i) => `item ${i}`,
  (i) => `item ${i} ${'abc'.repeat(i % 50)}`,
];

/** Different texts, one at least. */
function items(most: number): fc.Arbitrary<Buffer[]> {
  return fc
    .tuple(fc.array(text, { maxLength: 8 }), sizeAround(most), fc.constantFrom(...FILLERS))
    .map(([some, count, filler]) => {
      const fillers = Array.from({ length: Math.max(1, count) - some.length }, (_, i) => latin1(filler(i)));
      return [...new Map([...some, ...fillers].map((item) => [item.toString('latin1'), item])).values()];
    });
}

const score = fc
  .oneof(
    fc.double({ noNaN: true }),
    fc.integer(),
    fc.constantFrom(0, -0, 5e-324, 1.7976931348623157e308, 2 ** 53, 0.1, Infinity, -Infinity),
  )
  .map((value) => (Object.is(value, -0) ? '-0' : String(value).replace('Infinity', 'inf')));

/** Of a key; names are strings as values are. */
const expiry = fc.option(fc.nat(10 ** 12), { freq: 3, nil: null });

interface KeyValue {
  readonly commands: (key: Buffer) => Command[];
  readonly isStream?: boolean;
}

/** At most so many arguments in one command: old servers are slow with more. */
function inChunks(head: readonly (string | Buffer)[], all: readonly (string | Buffer)[]): Command[] {
  return Array.from({ length: Math.ceil(all.length / 500) }, (_, i) => [
    ...head,
    ...all.slice(i * 500, (i + 1) * 500),
  ]);
}

const pairs = (names: readonly Buffer[], values: readonly (string | Buffer)[]): (string | Buffer)[] =>
  names.flatMap((name, i) => [name, values[i % values.length]!]);

function values(most: number, features: Features): fc.Arbitrary<KeyValue> {
  const string = text.map((value): KeyValue => ({ commands: (key) => [['SET', key, value]] }));
  const sketch = items(most).map((all): KeyValue => ({ commands: (key) => inChunks(['PFADD', key], all) }));
  const list = fc.tuple(items(most), fc.boolean()).map(
    ([all, twice]): KeyValue => ({
      commands: (key) => inChunks(['RPUSH', key], twice ? [...all, ...all] : all),
    }),
  );
  const set = items(most).map((all): KeyValue => ({ commands: (key) => inChunks(['SADD', key], all) }));
  const integers = fc
    .tuple(fc.array(integer, { minLength: 1, maxLength: 4 }), sizeAround(most))
    .map(([some, count]): KeyValue => {
      const more = Array.from({ length: count }, (_, i) => String(i * 3));
      return { commands: (key) => inChunks(['SADD', key], [...some, ...more]) };
    });
  const zset = fc.tuple(items(most), fc.array(score, { minLength: 1, maxLength: 20 })).map(
    ([all, scores]): KeyValue => ({
      commands: (key) =>
        inChunks(
          ['ZADD', key],
          all.flatMap((member, i) => [scores[i % scores.length]!, member]),
        ),
    }),
  );
  const hash = fc.tuple(items(most), fc.array(text, { minLength: 1, maxLength: 8 })).map(
    ([names, contents]): KeyValue => ({
      commands: (key) => inChunks(['HSET', key], pairs(names, contents)),
    }),
  );
  const expiring = fc
    .tuple(
      items(most),
      fc.array(text, { minLength: 1, maxLength: 8 }),
      fc.array(fc.option(fc.integer({ min: LATER_MS, max: LAST_FIELD_EXPIRY_MS }), { freq: 2 }), {
        minLength: 1,
        maxLength: 6,
      }),
    )
    .map(
      ([names, contents, times]): KeyValue => ({
        commands: (key) => [
          ...inChunks(['HSET', key], pairs(names, contents)),
          ...names.flatMap((name, i): Command[] => {
            const atMs = times[i % times.length] ?? null;
            return atMs === null ? [] : [['HPEXPIREAT', key, atMs, 'FIELDS', 1, name]];
          }),
        ],
      }),
    );
  return fc.oneof(
    ...[string, sketch, list, set, integers, zset, hash, streams(most, features)],
    ...(features.fieldTtls ? [expiring] : []),
  );
}

/** A stream's life: entries, deletions, groups that read, acknowledge and claim, more deletions. */
function streams(most: number, features: Features): fc.Arbitrary<KeyValue> {
  const group = fc.record({
    from: fc.nat(4),
    reads: fc.array(fc.tuple(fc.constantFrom('one', 'two', '3'), fc.integer({ min: 1, max: 2 * most })), {
      maxLength: 3,
    }),
    acknowledged: fc.array(fc.nat(most), { maxLength: 4 }),
    claimed: fc.array(fc.nat(most), { maxLength: 3 }),
    idle: fc.boolean(),
  });
  return fc
    .record({
      size: sizeAround(most),
      steps: fc.array(fc.nat(2), { minLength: 1, maxLength: 8 }),
      names: fc.array(text, { minLength: 1, maxLength: 4 }),
      contents: fc.array(text, { minLength: 1, maxLength: 6 }),
      sameFields: fc.boolean(),
      deleted: fc.array(fc.nat(3 * most), { maxLength: 6 }),
      groups: fc.array(group, { maxLength: 3 }),
      deletedLater: fc.array(fc.nat(most), { maxLength: 4 }),
      kept: fc.option(fc.nat(2 * most), { freq: 3 }),
      lastId: fc.boolean(),
    })
    .map((life): KeyValue => {
      let ms = 1;
      let seq = 0;
      const ids = Array.from({ length: Math.max(1, life.size) }, (_, i) => {
        const step = life.steps[i % life.steps.length]!;
        ms += step;
        seq = step === 0 ? seq + 1 : i % 2;
        return `${ms}-${seq}`;
      });
      const id = (i: number): string => ids[i % ids.length]!;
      const commands = (key: Buffer): Command[] => [
        ...ids.map((entry, i): Command => {
          const names = life.sameFields ? life.names : life.names.slice(i % life.names.length);
          const content = life.contents[i % life.contents.length]!;
          return ['XADD', key, entry, ...names.flatMap((name) => [name, content])];
        }),
        ...(life.deleted.length > 0 ? [['XDEL', key, ...life.deleted.map(id)]] : []),
        ...life.groups.flatMap((of, i): Command[] => [
          ['XGROUP', 'CREATE', key, `group ${i}`, of.from === 0 ? '$' : id(of.from - 1)],
          ...(of.idle && features.createConsumer
            ? [['XGROUP', 'CREATECONSUMER', key, `group ${i}`, 'idle']]
            : []),
          ...of.reads.map(([consumer, count]) => [
            ...['XREADGROUP', 'GROUP', `group ${i}`, consumer, 'COUNT', count, 'STREAMS', key, '>'],
          ]),
          ...of.acknowledged.map((entry) => ['XACK', key, `group ${i}`, id(entry)]),
          ...of.claimed.map((entry, retries) => [
            ...['XCLAIM', key, `group ${i}`, 'claimer', 0, id(entry), 'TIME', 1_600_000_000_123],
            ...['RETRYCOUNT', retries + 3, 'JUSTID'],
          ]),
        ]),
        // pending, and deleted
        ...(life.deletedLater.length > 0 ? [['XDEL', key, ...life.deletedLater.map(id)]] : []),
        ...(life.kept === null ? [] : [['XTRIM', key, 'MAXLEN', life.kept]]),
        ...(life.lastId ? [['XSETID', key, `${ms + 5}-0`]] : []),
      ];
      return { commands, isStream: true };
    });
}

interface Features {
  /** HPEXPIREAT: Redis 7.4, Valkey 9.0. */
  readonly fieldTtls: boolean;
  /** XGROUP CREATECONSUMER: 6.2. */
  readonly createConsumer: boolean;
  /** Small sets as listpacks: 7.2. */
  readonly packedSets: boolean;
}

function featuresOf({ kind, major, minor }: Release): Features {
  const since = (first: number, second: number): boolean =>
    major > first || (major === first && minor >= second);
  return {
    fieldTtls: kind === 'valkey' ? since(9, 0) : since(7, 4),
    createConsumer: since(6, 2),
    packedSets: since(7, 2),
  };
}

/**
 * Some keys of random types on a server of this release, which has streams (5.0 or later). The settings of the server
 * are a part of it.
 */
export function randomDataset(release: Release): fc.Arbitrary<RandomDataset> {
  const features = featuresOf(release);
  return fc
    .tuple(limit, fc.constantFrom(-2, -1, 3, 16), fc.constantFrom(64, 16, 100_000), fc.boolean())
    .chain(([most, listSize, longest, compressed]) => {
      const settings: Command[] = [
        ...['hash-max-ziplist-entries', 'zset-max-ziplist-entries', 'set-max-intset-entries'].map(
          (name): Command => ['CONFIG', 'SET', name, most],
        ),
        ...['hash-max-ziplist-value', 'zset-max-ziplist-value'].map((name) => [
          'CONFIG',
          'SET',
          name,
          longest,
        ]),
        ...(features.packedSets
          ? [
              ['CONFIG', 'SET', 'set-max-listpack-entries', most],
              ['CONFIG', 'SET', 'set-max-listpack-value', longest],
            ]
          : []),
        ['CONFIG', 'SET', 'list-max-ziplist-size', listSize],
        ['CONFIG', 'SET', 'stream-node-max-entries', most],
        ['CONFIG', 'SET', 'rdbcompression', compressed ? 'yes' : 'no'],
      ];
      const key = fc.record({
        name: text,
        value: values(most, features),
        expiry,
        db: fc.constantFrom(0, 0, 0, 5),
      });
      return fc
        .uniqueArray(key, { minLength: 3, maxLength: 10, selector: ({ name }) => name.toString('latin1') })
        .map((keys): RandomDataset => {
          const commands = keys.flatMap(({ name, value, expiry: later, db }): Command[] => [
            ['SELECT', db],
            ...value.commands(name),
            ...(later === null ? [] : [['PEXPIREAT', name, LATER_MS + later]]),
          ]);
          return {
            commands: [...settings, ...commands, ['SELECT', 0]],
            streamKeys: keys.filter(({ value }) => value.isStream === true).map(({ name }) => name),
          };
        });
    });
}
