/**
 * Fills a server with keys of all types, in three databases: the demo's and the tests' stand-in for a
 * production dataset. The same seed gives the same data (`DEBUG DIGEST` is equal); only the moments at which
 * keys expire count from now.
 */

import { SourceError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { type Command, ReplyError, RespConnection } from '../resp/connection.ts';
import { type Random, randomFrom } from './random.ts';
import { atLeast, readRelease } from './release.ts';

export interface DatasetOptions {
  /** How many keys to write, all databases together (default 200,000; at least a few hundred for all types). */
  readonly keys?: number;
  readonly seed?: number;
  /** Members of each of the big collections (default 50,000); they are in database 0. */
  readonly bigMembers?: number;
  /** Default: true, where the server has them. False for targets before 5.0. */
  readonly streams?: boolean;
  /** Default: false; for servers that have them (Redis 8.0) and targets that do. */
  readonly vectorSets?: boolean;
}

/** The databases that the dataset and the traffic use; any server has these by default. */
export const DATABASES = [0, 1, 9] as const;

const HOUR_MS = 3_600_000;
/** A fixed moment for stream ids, so that they do not depend on the clock. */
const STREAM_EPOCH_MS = 1_700_000_000_000;
const COMMANDS_PER_BATCH = 500;
const BYTES_PER_BATCH = 256 * 1024;

/**
 * Writes the dataset to the empty server on loopback `port` and returns the number of keys written. Memory is bounded
 * by one batch in flight and one being made. Throws SourceError `demo-dataset` when the server refuses a command.
 */
export async function loadDataset(port: number, options: DatasetOptions = {}): Promise<number> {
  const { keys = 200_000, seed = 1, bigMembers = 50_000, streams = true, vectorSets = false } = options;
  const connection = await RespConnection.connect(port);
  try {
    const { redisVersion, kind, version } = await readRelease(connection);
    const has: Features = {
      hyperLogLog: atLeast(redisVersion, '2.8.9'),
      geo: atLeast(redisVersion, '3.2'),
      streams: streams && atLeast(redisVersion, '5.0'),
      consumersWithoutEntries: atLeast(redisVersion, '6.2'),
      functions: atLeast(redisVersion, '7.0'),
      fieldExpiry: kind === 'valkey' ? atLeast(version, '9.0') : atLeast(redisVersion, '7.4'),
      vectorSets: vectorSets && kind === 'redis' && atLeast(redisVersion, '8.0'),
    };
    const batches = new Batches(connection);
    const random = randomFrom(seed);
    const fifth = Math.floor(keys / 5);
    const tenth = Math.floor(keys / 10);
    const shares = [keys - fifth - tenth, fifth, tenth];
    let written = 0;
    for (const [index, database] of DATABASES.entries()) {
      await batches.add(['SELECT', database]);
      const special = index === 0 ? specialKeys(random, bigMembers, has) : [];
      for (const commands of special) await batches.addAll(commands);
      const common = Math.max(0, (shares[index] ?? 0) - special.length);
      for (let number = 0; number < common; number += 1) {
        await batches.addAll(commonKey(number, random, has));
      }
      written += special.length + common;
    }
    if (has.functions) await batches.add(['FUNCTION', 'LOAD', 'REPLACE', LIBRARY]);
    await batches.flush();
    return written;
  } finally {
    connection.close();
  }
}

interface Features {
  readonly hyperLogLog: boolean;
  readonly geo: boolean;
  readonly streams: boolean;
  readonly consumersWithoutEntries: boolean;
  readonly functions: boolean;
  readonly fieldExpiry: boolean;
  readonly vectorSets: boolean;
}

const LIBRARY = `#!lua name=demo
redis.register_function('demo_double', function(keys, args) return tonumber(args[1]) * 2 end)`;

/** The commands that make key number `number`; each number below 20 stands for one kind. */
function commonKey(number: number, random: Random, has: Features): Command[] {
  const commands = makeKey(number, random, has);
  const key = commands[0]?.[1];
  // Every eighth key expires, an hour to a day from now: none may do so while a demo or a test runs
  if (key !== undefined && random.below(8) === 0) {
    commands.push(['PEXPIREAT', key, Date.now() + HOUR_MS + random.below(23 * HOUR_MS)]);
  }
  return commands;
}

function makeKey(number: number, random: Random, has: Features): Command[] {
  switch (number % 20) {
    case 0:
      return [['SET', `count:${number}`, random.below(2 ** 31) - 2 ** 30]];
    case 1:
      return [['RPUSH', `list:${number}`, ...several(random, 12, () => random.text(1 + random.below(30)))]];
    case 2:
      return [['SADD', `set:${number}`, ...several(random, 10, () => random.text(8))]];
    case 3:
      return [['SADD', `intset:${number}`, ...several(random, 30, () => random.below(100_000))]];
    case 4:
      // HSET takes several pairs since 4.0 only
      return [['HMSET', `hash:${number}`, ...pairs(random, 8, () => random.text(random.below(40)))]];
    case 5:
      return [
        ['ZADD', `zset:${number}`, ...several(random, 10, () => [score(random), random.text(6)]).flat()],
      ];
    case 6:
      return has.streams ? streamOf(`stream:${number}`, random) : text(number, random);
    case 7:
      return has.hyperLogLog
        ? [['PFADD', `hll:${number}`, ...several(random, 20, () => random.text(6))]]
        : text(number, random);
    case 8:
      return [['SET', Buffer.concat([Buffer.from(`bin:${number}:`), random.bytes(6)]), random.bytes(60)]];
    case 9:
      return has.fieldExpiry && number % 40 === 9 ? hashWithExpiry(number, random) : text(number, random);
    case 10:
      return has.geo ? places(`geo:${number}`, random) : text(number, random);
    default:
      return text(number, random);
  }
}

function text(number: number, random: Random): Command[] {
  return [['SET', `user:${number}:${random.text(4)}`, random.text(20 + random.below(120))]];
}

function hashWithExpiry(number: number, random: Random): Command[] {
  const key = `hashttl:${number}`;
  const at = Date.now() + HOUR_MS + random.below(HOUR_MS);
  return [
    ['HMSET', key, 'keeps', random.text(8), 'expires', random.text(8)],
    ['HPEXPIREAT', key, at, 'FIELDS', 1, 'expires'],
  ];
}

function places(key: string, random: Random): Command[] {
  const place = () => [random.below(360_000) / 1000 - 180, random.below(170_000) / 1000 - 85, random.text(6)];
  return [['GEOADD', key, ...several(random, 8, place).flat()]];
}

/** A stream with deleted entries, two groups, two consumers and entries that are still pending. */
function streamOf(key: string, random: Random): Command[] {
  const commands: Command[] = [];
  const entries = 3 + random.below(8);
  const id = (entry: number): string => `${STREAM_EPOCH_MS + entry * 1000}-${entry % 3}`;
  for (let entry = 1; entry <= entries; entry += 1) {
    commands.push(['XADD', key, id(entry), 'kind', random.text(4), 'n', entry]);
  }
  commands.push(['XGROUP', 'CREATE', key, 'workers', 0], ['XGROUP', 'CREATE', key, 'audit', id(2)]);
  commands.push(['XREADGROUP', 'GROUP', 'workers', 'alice', 'COUNT', 2, 'STREAMS', key, '>']);
  commands.push(['XREADGROUP', 'GROUP', 'workers', 'bob', 'COUNT', 1, 'STREAMS', key, '>']);
  commands.push(['XACK', key, 'workers', id(1)], ['XDEL', key, id(entries)]);
  return commands;
}

/** Keys that exist once: big collections, big and empty values, odd names, extreme numbers, a form of each type. */
function specialKeys(random: Random, bigMembers: number, has: Features): Command[][] {
  const piecewise = (head: Command, member: (at: number) => Command): Command[] => {
    const commands: Command[] = [];
    for (let from = 0; from < bigMembers; from += 500) {
      const count = Math.min(500, bigMembers - from);
      commands.push([...head, ...Array.from({ length: count }, (_, at) => member(from + at)).flat()]);
    }
    return commands;
  };
  return [
    piecewise(['RPUSH', 'big:list'], () => [random.text(10 + random.below(20))]),
    piecewise(['HMSET', 'big:hash'], (at) => [`field:${at}`, random.text(16)]),
    piecewise(['SADD', 'big:set'], (at) => [`member:${at}`]),
    piecewise(['ZADD', 'big:zset'], (at) => [score(random), `member:${at}`]),
    [['SADD', 'big:intset', ...Array.from({ length: 500 }, (_, at) => at * 7)]],
    [['SET', 'big:string', random.text(256 * 1024)]],
    [['SET', 'empty:value', '']],
    [['SET', '', 'the key without a name']],
    [['SET', Buffer.from([0, 1, 10, 13, 27, 128, 255]), Buffer.from([0, 255, 13, 10])]],
    [['SET', 'compressible', 'abc'.repeat(2000)]],
    [['SETBIT', 'bitmap', 100_000, 1]],
    [
      [
        'ZADD',
        'zset:extremes',
        '-inf',
        'low',
        '+inf',
        'high',
        '0.1',
        'tenth',
        '1e308',
        'huge',
        '5e-324',
        'tiny',
        '-0',
        'zero',
      ],
    ],
    [['SET', 'int:8', -7]],
    [['SET', 'int:16', 30_000]],
    [['SET', 'int:64', '-9223372036854775808']],
    [['SADD', 'intset:16', -1, 2, 30_000]],
    [['SADD', 'intset:64', -1, 70_000, '9223372036854775807', '-9223372036854775808']],
    // one node of the list for itself, between small ones
    [['RPUSH', 'list:uneven', 'small', random.text(20_000), 'abc'.repeat(10_000), 'small']],
    ...(has.hyperLogLog ? [[['PFADD', 'hll:dense', ...Array.from({ length: 4_000 }, (_, at) => at)]]] : []),
    ...(has.streams ? [bigStream(bigMembers, has)] : []),
    ...(has.fieldExpiry ? [bigHashWithExpiry(bigMembers)] : []),
    ...(has.vectorSets ? [vectorSet(random)] : []),
  ];
}

/** Several nodes of entries of two shapes, groups at several places, pending entries, some of them deleted. */
function bigStream(members: number, has: Features): Command[] {
  const key = 'big:stream';
  const entries = Math.min(members, 1_000);
  const id = (entry: number): string => `${STREAM_EPOCH_MS + entry}-0`;
  const commands: Command[] = [];
  for (let entry = 1; entry <= entries; entry += 1) {
    const fields = entry % 50 === 0 ? ['other', 'shape', 'of', entry] : ['n', entry, 'kind', `k${entry % 7}`];
    commands.push(['XADD', key, id(entry), ...fields]);
  }
  const half = Math.floor(entries / 2);
  commands.push(
    ['XGROUP', 'CREATE', key, 'all', 0],
    ['XGROUP', 'CREATE', key, 'late', id(half)],
    ['XGROUP', 'CREATE', key, 'new', '$'],
    ['XREADGROUP', 'GROUP', 'all', 'one', 'COUNT', half, 'STREAMS', key, '>'],
    ['XREADGROUP', 'GROUP', 'all', 'two', 'COUNT', 10, 'STREAMS', key, '>'],
    ['XREADGROUP', 'GROUP', 'late', 'one', 'COUNT', 10, 'STREAMS', key, '>'],
    // delivered again: a count of 2 and another time
    ['XCLAIM', key, 'all', 'three', 0, id(2), id(3)],
    ['XDEL', key, id(1), id(3), id(half), id(entries)],
  );
  if (has.consumersWithoutEntries) commands.push(['XGROUP', 'CREATECONSUMER', key, 'new', 'idle']);
  return commands;
}

/** Too big for the compact form; half of the fields expire, each at another time. */
function bigHashWithExpiry(members: number): Command[] {
  const key = 'big:hashttl';
  const fields = Array.from({ length: Math.min(members, 2_000) }, (_, at) => `field:${at}`);
  const from = Date.now() + HOUR_MS;
  return [
    ['HMSET', key, ...fields.flatMap((field, at) => [field, at])],
    ...fields
      .filter((_, at) => at % 2 === 0)
      .map((field, at): Command => ['HPEXPIREAT', key, from + at * 1_000, 'FIELDS', 1, field]),
  ];
}

function vectorSet(random: Random): Command[] {
  const numbers = (): number[] => Array.from({ length: 8 }, () => random.below(2_000) / 1_000 - 1);
  const add = (name: string, ...options: string[]): Command => [
    'VADD',
    'vectors',
    'VALUES',
    8,
    ...numbers(),
    name,
    ...options,
  ];
  return [...several(random, 50, () => add(random.text(6))), add('with', 'SETATTR', '{"year":1998}')];
}

function several<T>(random: Random, most: number, make: () => T): T[] {
  return Array.from({ length: 1 + random.below(most) }, make);
}

function pairs(random: Random, most: number, value: () => string): string[] {
  return several(random, most, () => [random.text(6), value()]).flat();
}

/** A score whose 17 digits matter, or a whole number. */
function score(random: Random): number {
  return random.below(2) === 0 ? random.below(1_000_000) : random.below(2 ** 31) / 7;
}

/** Gathers commands and sends them in batches, one in flight while the next is made. */
class Batches {
  readonly #connection: RespConnection;
  #commands: Command[] = [];
  #bytes = 0;
  #inFlight: Promise<void> = Promise.resolve();

  constructor(connection: RespConnection) {
    this.#connection = connection;
  }

  async addAll(commands: readonly Command[]): Promise<void> {
    for (const command of commands) {
      const sent = this.add(command);
      if (sent !== null) await sent;
    }
  }

  /** A promise to wait for when a batch was sent, else null: most commands cost no turn of the event loop. */
  add(command: Command): Promise<void> | null {
    this.#commands.push(command);
    for (const argument of command) this.#bytes += typeof argument === 'number' ? 8 : argument.length;
    if (this.#commands.length < COMMANDS_PER_BATCH && this.#bytes < BYTES_PER_BATCH) return null;
    return this.#send();
  }

  async flush(): Promise<void> {
    await this.#send();
    await this.#inFlight;
  }

  async #send(): Promise<void> {
    const commands = this.#commands;
    this.#commands = [];
    this.#bytes = 0;
    await this.#inFlight;
    this.#inFlight = this.#connection.pipeline(commands).then((replies) => {
      for (const [at, reply] of replies.entries()) {
        if (reply instanceof ReplyError) throw refused(String(commands[at]?.[0]), reply);
      }
    });
    // Whoever waits next sees the failure; until then it must not count as unhandled
    this.#inFlight.catch(() => {});
  }
}

function refused(command: string, reply: ReplyError): SourceError {
  return new SourceError(`the demo dataset could not be written: ${command}: ${printable(reply.message)}`, {
    code: 'demo-dataset',
    hint: 'use an empty server with enough memory and without maxmemory',
    recovery: 'none',
  });
}
