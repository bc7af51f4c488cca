/**
 * Are two servers equal? Every key of every database is read over the wire from both and compared by value:
 * encodings, the order of sets and hashes, and a few milliseconds of expiry do not matter; stream groups,
 * consumers and pending entries do. The demo's proof and the tests' oracle; it shares no code with the
 * migration on purpose. Both servers should be at rest; ports are on loopback.
 */
import { printable } from '../core/text.ts';
import { type Command, type Reply, ReplyError, RespConnection } from '../resp/connection.ts';
import { atLeast, type Release, readRelease } from './release.ts';

export interface CompareOptions {
  /** Keys left out in every database, besides our own two. */
  readonly exclude?: readonly string[];
  /**
   * Expiry may differ by this much. Default: 1,000; a minute where a side knows only what is left of it (before 7.0),
   * which both say at moments of their own, and replicas and writers count from when they have heard of it.
   */
  readonly ttlToleranceMs?: number;
  /**
   * Also what `a` has and `b` has no place for, and when consumers of streams were last active (7.2), which even a
   * native replica knows only of what came with its copy. Default: what both have.
   */
  readonly thorough?: boolean;
}

/** What a key can differ in: `value` is its type, value or expiry. Function libraries are of no key. */
export type Aspect = 'value' | 'field-ttls' | 'stream-counters' | 'functions';

export interface Comparison {
  /** Keys found on both sides. */
  readonly compared: number;
  /** Of these, how many differ in type, value or expiry; a difference in function libraries counts as one. */
  readonly different: number;
  /** Of the different ones, how many in what; only what was found. */
  readonly aspects: Readonly<Partial<Record<Aspect, number>>>;
  /** Keys of `a` that `b` lacks. */
  readonly missing: number;
  /** Keys of `b` that `a` lacks. */
  readonly extra: number;
  /** The first finding, of a `value` where there is one, with the key but without values; safe to show. */
  readonly first: string | null;
  /** DEBUG DIGEST; null unless both are of the same release and allow it. It covers our own keys, too. */
  readonly digestA: string | null;
  readonly digestB: string | null;
}

/** Written into the target while a migration runs (design.md, fixed); in database 0 only. */
const OUR_KEYS = ['redis-cutover:checkpoint', 'redis-cutover:lease'];

/** Keys read at a time from each side: bounds memory where values are large. */
const KEYS_PER_BATCH = 128;
const SCAN_COUNT = 1_000;

/** Compares all of server `a` with all of server `b` (needs SCAN: 2.8). Throws SourceError when one is lost. */
export async function compareServers(
  a: number,
  b: number,
  options: CompareOptions = {},
): Promise<Comparison> {
  const { exclude = [], thorough = false } = options;
  const left = await RespConnection.connect(a);
  const right = await RespConnection.connect(b).catch((error: unknown) => {
    left.close();
    throw error;
  });
  try {
    const releases = [await readRelease(left), await readRelease(right)] as const;
    const features = featuresToAsk(releases, thorough);
    const { ttlToleranceMs = features.right.expireTime ? 1_000 : 60_000 } = options;
    const tally = new Tally();
    const databases = new Set([...(await databasesOf(left)), ...(await databasesOf(right))]);
    for (const database of [...databases].sort((one, other) => one - other)) {
      await left.call('SELECT', database);
      await right.call('SELECT', database);
      const leftOut = new Set(database === 0 ? [...exclude, ...OUR_KEYS] : exclude);
      const [leftKeys, rightKeys] = await Promise.all([keysOf(left, leftOut), keysOf(right, leftOut)]);
      await compareDatabase({ left, right, database, features, ttlToleranceMs, tally }, leftKeys, rightKeys);
    }
    await compareFunctions({ left, right, features, tally });
    const sameRelease = releases[0].kind === releases[1].kind && releases[0].version === releases[1].version;
    const [digestA, digestB] = sameRelease
      ? await Promise.all([digestOf(left), digestOf(right)])
      : [null, null];
    return { ...tally.figures(), digestA, digestB };
  } finally {
    left.close();
    right.close();
  }
}

/** DEBUG DIGEST of the server on loopback `port`: 40 hex digits over all databases; null where not allowed. */
export async function digest(port: number): Promise<string | null> {
  const connection = await RespConnection.connect(port);
  try {
    return await digestOf(connection);
  } finally {
    connection.close();
  }
}

async function digestOf(connection: RespConnection): Promise<string | null> {
  const [reply] = await connection.pipeline([['DEBUG', 'DIGEST']]);
  return Buffer.isBuffer(reply) ? reply.toString() : null;
}

/** What a server is asked for. */
interface Features {
  /** XINFO STREAM FULL (6.0): pending entries with their delivery times. */
  readonly streamFull: boolean;
  /** `entries-added`, `max-deleted-entry-id`, `entries-read` (7.0). */
  readonly streamCounters: boolean;
  /** `seen-time`, `active-time` of consumers (7.2). */
  readonly streamActivity: boolean;
  /** PEXPIRETIME (7.0). */
  readonly expireTime: boolean;
  /** FUNCTION LIST (7.0). */
  readonly functions: boolean;
  /** HPEXPIRETIME: Redis 7.4, Valkey 9.0. */
  readonly fieldExpiry: boolean;
}

interface FeaturesOfBoth {
  readonly left: Features;
  readonly right: Features;
}

/** Left as many as right, but when thorough: then left has all of its own. What decides on a form is of both. */
function featuresToAsk([a, b]: readonly [Release, Release], thorough: boolean): FeaturesOfBoth {
  const has = (release: Release, redis: string, valkey = '0'): boolean =>
    release.kind === 'valkey' ? atLeast(release.version, valkey) : atLeast(release.redisVersion, redis);
  const both = (redis: string, valkey?: string): boolean => has(a, redis, valkey) && has(b, redis, valkey);
  const right: Features = {
    streamFull: both('6.0'),
    streamCounters: both('7.0'),
    streamActivity: thorough && both('7.2'),
    expireTime: both('7.0'),
    functions: both('7.0'),
    fieldExpiry: both('7.4', '9.0'),
  };
  if (!thorough) return { left: right, right };
  const left: Features = {
    ...right,
    streamCounters: has(a, '7.0'),
    streamActivity: has(a, '7.2'),
    functions: has(a, '7.0'),
    fieldExpiry: has(a, '7.4', '9.0'),
  };
  return { left, right };
}

/** Counts findings and keeps the first. */
class Tally {
  compared = 0;
  different = 0;
  missing = 0;
  extra = 0;
  readonly aspects: Partial<Record<Aspect, number>> = {};
  first: string | null = null;
  #firstAspect: Aspect | null = null;

  find(kind: 'different' | 'missing' | 'extra', what: string, aspect: Aspect = 'value'): void {
    this[kind] += 1;
    if (kind === 'different') this.aspects[aspect] = (this.aspects[aspect] ?? 0) + 1;
    // a wrong value is the better thing to look at
    const better = this.#firstAspect !== 'value' && aspect === 'value';
    if (this.first !== null && !better) return;
    this.first = what;
    this.#firstAspect = aspect;
  }

  figures(): Omit<Comparison, 'digestA' | 'digestB'> {
    const { compared, different, aspects, missing, extra, first } = this;
    return { compared, different, aspects, missing, extra, first };
  }
}

async function databasesOf(connection: RespConnection): Promise<number[]> {
  const info = String(await connection.call('INFO', 'keyspace'));
  return [...info.matchAll(/^db(\d+):/gm)].map((match) => Number(match[1]));
}

/** All keys of the selected database, each once; keys are held as latin1 text, which keeps every byte. */
async function keysOf(connection: RespConnection, leftOut: ReadonlySet<string>): Promise<Set<string>> {
  const keys = new Set<string>();
  let cursor = '0';
  do {
    const reply = await connection.call('SCAN', cursor, 'COUNT', SCAN_COUNT);
    const [next, found] = Array.isArray(reply) ? reply : [];
    for (const key of asArray(found)) {
      if (!leftOut.has(String(key))) keys.add(textOf(key));
    }
    cursor = String(next);
  } while (cursor !== '0');
  return keys;
}

interface Sides {
  readonly left: RespConnection;
  readonly right: RespConnection;
  readonly database: number;
  readonly features: FeaturesOfBoth;
  readonly ttlToleranceMs: number;
  readonly tally: Tally;
}

async function compareDatabase(sides: Sides, leftKeys: Set<string>, rightKeys: Set<string>): Promise<void> {
  const keys = [...new Set([...leftKeys, ...rightKeys])];
  for (let from = 0; from < keys.length; from += KEYS_PER_BATCH) {
    const batch = keys.slice(from, from + KEYS_PER_BATCH).map((key) => Buffer.from(key, 'latin1'));
    const [here, there] = await Promise.all([
      readRecords(sides.left, batch, sides.features.left),
      readRecords(sides.right, batch, sides.features.right),
    ]);
    for (const [at, key] of batch.entries()) compareRecords(sides, key, here[at]!, there[at]!);
  }
}

function compareRecords(sides: Sides, key: Buffer, here: KeyRecord, there: KeyRecord): void {
  const { tally } = sides;
  const report = (kind: 'different' | 'missing' | 'extra', what: string, aspect?: Aspect): void =>
    tally.find(kind, `db${sides.database} "${printable(key.toString(), 80)}" ${what}`, aspect);
  // Both gone: the key expired between SCAN and now
  if (here.type === 'none' && there.type === 'none') return;
  if (there.type === 'none') {
    report('missing', `(${here.type}) is missing`);
    return;
  }
  if (here.type === 'none') {
    report('extra', `(${there.type}) is extra`);
    return;
  }
  tally.compared += 1;
  if (here.type !== there.type) {
    report('different', `is a ${here.type} here, a ${there.type} there`);
  } else if (here.value !== there.value) {
    report('different', `(${here.type}): values differ`);
  } else if (!sameExpiry([here.expiry], [there.expiry], sides)) {
    report('different', `(${here.type}): expiry differs`);
  } else if (!sameExpiry(here.fieldExpiry, there.fieldExpiry, sides)) {
    report('different', `(${here.type}): expiry of fields differs`, 'field-ttls');
  } else if (here.counters !== there.counters) {
    report('different', `(${here.type}): counters differ`, 'stream-counters');
  }
}

function sameExpiry(here: readonly number[], there: readonly number[], sides: Sides): boolean {
  return here.every((value, at) => {
    const other = there[at] ?? -1;
    if (value < 0 || other < 0) return value === other;
    return Math.abs(value - other) <= sides.ttlToleranceMs;
  });
}

/** One key as it is compared. */
interface KeyRecord {
  /** `none` when the key does not exist. */
  readonly type: string;
  /** The same text for the same value, whatever the encoding. */
  readonly value: string;
  /** Absolute, in ms, or what is left where PEXPIRETIME is not known; -1: never. */
  readonly expiry: number;
  /** Of a hash's fields, in the order of the sorted field names; empty when not asked for. */
  readonly fieldExpiry: readonly number[];
  /** Of a stream and its groups, what is no data of an application; empty when not asked for. */
  readonly counters: string;
}

/** Three round trips for all keys: type and expiry, value, and what a hash or stream needs besides. */
async function readRecords(
  connection: RespConnection,
  keys: readonly Buffer[],
  features: Features,
): Promise<KeyRecord[]> {
  const expiryCommand = features.expireTime ? 'PEXPIRETIME' : 'PTTL';
  const heads = await connection.pipeline(
    keys.flatMap((key) => [
      ['TYPE', key],
      [expiryCommand, key],
    ]),
  );
  const types = keys.map((_, at) => textOf(heads[2 * at] ?? null));
  const values = await connection.pipeline(keys.map((key, at) => readCommand(types[at]!, key, features)));
  const records: KeyRecord[] = [];
  for (const [at, key] of keys.entries()) {
    const type = types[at]!;
    const reply = values[at] ?? null;
    const fields = type === 'hash' && features.fieldExpiry ? sortedPairs(reply).map(([field]) => field) : [];
    const { value, counters } =
      type === 'stream'
        ? await streamTexts(connection, key, reply, features)
        : {
            value: type === 'vectorset' ? await vectorsText(connection, key, reply) : valueText(type, reply),
            counters: '',
          };
    records.push({
      type,
      value,
      expiry: Number(heads[2 * at + 1]),
      fieldExpiry: fields.length === 0 ? [] : await fieldExpiryOf(connection, key, fields),
      counters,
    });
  }
  return records;
}

function readCommand(type: string, key: Buffer, features: Features): Command {
  switch (type) {
    case 'none':
      return ['EXISTS', key];
    case 'string':
      return ['GET', key];
    case 'list':
      return ['LRANGE', key, 0, -1];
    case 'set':
      return ['SMEMBERS', key];
    case 'zset':
      return ['ZRANGE', key, 0, -1, 'WITHSCORES'];
    case 'hash':
      return ['HGETALL', key];
    case 'stream':
      // COUNT 0: all entries and all pending ones
      return features.streamFull ? ['XINFO', 'STREAM', key, 'FULL', 'COUNT', 0] : ['XRANGE', key, '-', '+'];
    case 'vectorset':
      return ['VCARD', key];
    default:
      // Types of modules and of later releases
      return ['DUMP', key];
  }
}

function valueText(type: string, reply: Reply): string {
  if (reply instanceof ReplyError) return `error ${reply.message}`;
  switch (type) {
    case 'string':
    case 'list':
      return join(reply);
    case 'set':
      return join(asArray(reply).map(textOf).sort());
    case 'hash':
      return join(sortedPairs(reply).flat());
    case 'zset':
      return join(sortedPairs(reply).flatMap(([member, score]) => [member, scoreText(score)]));
    default:
      // Without the footer: RDB version and checksum
      return Buffer.isBuffer(reply) ? textOf(reply.subarray(0, -10)) : join(reply);
  }
}

/** Servers write the same double in different ways: `%.17g`, shortest, -0 as 0 (small sorted sets). */
function scoreText(score: string): string {
  const value = score === 'inf' ? Infinity : score === '-inf' ? -Infinity : Number(score);
  return String(value);
}

async function fieldExpiryOf(
  connection: RespConnection,
  key: Buffer,
  fields: readonly string[],
): Promise<number[]> {
  const names = fields.map((field) => Buffer.from(field, 'latin1'));
  const reply = await connection.call('HPEXPIRETIME', key, 'FIELDS', names.length, ...names);
  return asArray(reply).map(Number);
}

interface StreamTexts {
  readonly value: string;
  readonly counters: string;
}

/** Entries, last id, groups with their consumers and pending entries; counters and activity where asked for. */
async function streamTexts(
  connection: RespConnection,
  key: Buffer,
  reply: Reply,
  features: Features,
): Promise<StreamTexts> {
  if (reply instanceof ReplyError) return { value: `error ${reply.message}`, counters: '' };
  if (!features.streamFull) return oldStreamTexts(connection, key, reply, features);
  const stream = asMap(reply);
  const groups = asArray(stream.get('groups')).map(asMap);
  const parts: Reply[] = [stream.get('last-generated-id') ?? null, stream.get('entries') ?? null];
  const activity: Reply[] = [];
  for (const group of groups) {
    const consumers = asArray(group.get('consumers')).map(asMap).sort(byName);
    parts.push([
      group.get('name') ?? null,
      group.get('last-delivered-id') ?? null,
      // [id, consumer, delivery time, delivery count]
      group.get('pending') ?? group.get('pel') ?? null,
      consumers.map((consumer) => consumer.get('name') ?? null),
    ]);
    for (const consumer of consumers) {
      activity.push(consumer.get('seen-time') ?? null, consumer.get('active-time') ?? null);
    }
  }
  const counters = [
    ...(features.streamCounters ? countersOf(stream, groups) : []),
    ...(features.streamActivity ? activity : []),
  ];
  return { value: join(parts), counters: join(counters) };
}

/**
 * Before XINFO STREAM FULL: pending entries without their delivery times, which XPENDING gives as an age only. No
 * activity, which would be an age, too.
 */
async function oldStreamTexts(
  connection: RespConnection,
  key: Buffer,
  entries: Reply,
  features: Features,
): Promise<StreamTexts> {
  const [info, groupsReply] = await connection.pipeline([
    ['XINFO', 'STREAM', key],
    ['XINFO', 'GROUPS', key],
  ]);
  const groups = asArray(groupsReply).map(asMap);
  const parts: Reply[] = [asMap(info).get('last-generated-id') ?? null, entries];
  for (const group of groups) {
    const name = group.get('name');
    if (!Buffer.isBuffer(name)) continue;
    const [consumers, pending] = await connection.pipeline([
      ['XINFO', 'CONSUMERS', key, name],
      ['XPENDING', key, name, '-', '+', Number(group.get('pending') ?? 0) + 1],
    ]);
    parts.push([
      name,
      group.get('last-delivered-id') ?? null,
      asArray(pending).map((entry) => asArray(entry).filter((_, at) => at !== 2)),
      asArray(consumers)
        .map(asMap)
        .sort(byName)
        .map((consumer) => consumer.get('name') ?? null),
    ]);
  }
  return {
    value: join(parts),
    counters: join(features.streamCounters ? countersOf(asMap(info), groups) : []),
  };
}

function countersOf(
  stream: ReadonlyMap<string, Reply>,
  groups: readonly ReadonlyMap<string, Reply>[],
): Reply[] {
  return [
    stream.get('max-deleted-entry-id') ?? null,
    stream.get('entries-added') ?? null,
    ...groups.map((group) => group.get('entries-read') ?? null),
  ];
}

function byName(one: ReadonlyMap<string, Reply>, other: ReadonlyMap<string, Reply>): number {
  const [left, right] = [textOf(one.get('name')), textOf(other.get('name'))];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Shape, members, their vectors as they are kept, and attributes (Redis 8.0); not the graph, which has no order. */
async function vectorsText(connection: RespConnection, key: Buffer, card: Reply): Promise<string> {
  const [info, members] = await connection.pipeline([
    ['VINFO', key],
    ['VRANDMEMBER', key, Number(card)],
  ]);
  const names = asArray(members).map(textOf).sort();
  const vectors = await connection.pipeline(
    names
      .map((name) => Buffer.from(name, 'latin1'))
      .flatMap((name) => [
        ['VEMB', key, name, 'RAW'],
        ['VGETATTR', key, name],
      ]),
  );
  const shape = ['quant-type', 'vector-dim', 'hnsw-m'].map((field) => asMap(info).get(field) ?? null);
  return join([...shape, join(names), ...vectors]);
}

async function compareFunctions({
  left,
  right,
  features,
  tally,
}: Pick<Sides, 'left' | 'right' | 'features' | 'tally'>): Promise<void> {
  const libraries = async (connection: RespConnection, { functions }: Features): Promise<string> => {
    const [reply] = functions ? await connection.pipeline([['FUNCTION', 'LIST', 'WITHCODE']]) : [];
    return join(
      asArray(reply)
        .map((library) => join(asMap(library).get('library_code') ?? null))
        .sort(),
    );
  };
  if ((await libraries(left, features.left)) !== (await libraries(right, features.right))) {
    tally.find('different', 'the function libraries differ', 'functions');
  }
}

/** Replies as one text, each part with its length in front: different values never give the same text. */
function join(reply: Reply | undefined | readonly (Reply | string)[]): string {
  if (Array.isArray(reply)) return `*${reply.length}:${reply.map((item) => join(item)).join('')}`;
  const text = typeof reply === 'string' ? reply : textOf(reply as Reply | undefined);
  return `$${text.length}:${text}`;
}

/** latin1: one character per byte, so that nothing is lost and sorting is by byte. */
function textOf(reply: Reply | undefined): string {
  return Buffer.isBuffer(reply) ? reply.toString('latin1') : String(reply ?? '');
}

function asArray(reply: Reply | undefined): Reply[] {
  return Array.isArray(reply) ? reply : [];
}

/** `[name, value, name, value, …]` */
function asMap(reply: Reply | undefined): Map<string, Reply> {
  const items = asArray(reply);
  const map = new Map<string, Reply>();
  for (let at = 0; at + 1 < items.length; at += 2) map.set(String(items[at]), items[at + 1] ?? null);
  return map;
}

/** A hash's or sorted set's reply as pairs, in the byte order of the first of each. */
function sortedPairs(reply: Reply): [string, string][] {
  const items = asArray(reply);
  const pairs: [string, string][] = [];
  for (let at = 0; at + 1 < items.length; at += 2) pairs.push([textOf(items[at]), textOf(items[at + 1])]);
  return pairs.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
}
