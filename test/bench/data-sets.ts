/**
 * The data that the benchmark copies, the same at every run. Values are noise that LZF cannot shrink, and words that it
 * can a little: what a value costs the source to compress decides much of every figure.
 */
import { type Random, randomFrom } from '../../src/demo/random.ts';
import { type Command, ReplyError, RespConnection } from '../../src/resp/connection.ts';

export interface DataSet {
  /** As in `3,000,000 strings of 40-160 B`, at scale 1. */
  readonly title: string;
  /** Fills the empty server on loopback `port` with the `scale`th part of it. */
  fill(port: number, scale: number): Promise<void>;
}

export const SMALL: DataSet = strings('3,000,000 strings of 40-160 B', 3_000_000, 40, 160);
export const BLOB: DataSet = strings('1,500 strings of 1 MB', 1500, 1_000_000, 1_000_000);
/** One of a fleet's sources. */
export const MEMBER: DataSet = strings('300,000 strings of 40-160 B', 300_000, 40, 160);
export const MIXED: DataSet = {
  title: '1,605,000 keys of all types and four big ones',
  fill: (port, scale) => write(port, mixed(scale, new Values(1))),
};
/** For verify(), whose goal is told in keys. */
export const MILLION: DataSet = strings('1,000,000 strings of 40-160 B', 1_000_000, 40, 160);

const POOL_BYTES = 1 << 20;
const WORDS = 512;
/** Members of a big collection that go into one command. */
const MEMBERS_PER_COMMAND = 100;
const COMMANDS_PER_BATCH = 1000;
const BYTES_PER_BATCH = 8 << 20;

function strings(title: string, count: number, minBytes: number, maxBytes: number): DataSet {
  const commands = function* (scale: number): Generator<Command> {
    const values = new Values(1);
    for (const i of upTo(count, scale)) {
      yield ['SET', `user:${i}:name`, values.noise(values.between(minBytes, maxBytes))];
    }
  };
  return { title, fill: (port, scale) => write(port, commands(scale)) };
}

function* mixed(scale: number, values: Values): Generator<Command> {
  for (const i of upTo(1_200_000, scale)) {
    const value = i % 3 === 0 ? values.prose(values.between(60, 400)) : values.noise(values.between(20, 300));
    const expiry = i % 5 === 0 ? ['EX', values.between(36_000, 864_000)] : [];
    yield ['SET', `object:${i}`, value, ...expiry];
  }
  for (const i of upTo(100_000, scale)) yield ['SET', `counter:${i}`, values.between(-1e9, 1e9)];
  for (const i of upTo(150_000, scale)) {
    const fields = several(5, (at) => [
      `text${at}`,
      values.noise(values.between(5, 40)),
      `number${at}`,
      values.between(0, 1e9),
    ]);
    yield ['HSET', `profile:${i}`, ...fields];
  }
  for (const i of upTo(50_000, scale)) {
    const members = several(30, () => [values.between(0, 1e6) / 7, `member:${values.between(0, 1e6)}`]);
    yield ['ZADD', `ranking:${i}`, ...members];
    yield ['RPUSH', `queue:${i}`, ...several(30, () => [values.noise(values.between(5, 60))])];
    yield [
      'SADD',
      `tags:${i}`,
      ...several(20, (at) => [i % 2 ? values.between(0, 1e6) : values.word() + at]),
    ];
  }
  for (const i of upTo(5000, scale)) {
    const key = `events:${i}`;
    for (let at = 1; at <= 40; at++) {
      yield ['XADD', key, `${1_700_000_000_000 + at}-1`, 'type', values.word(), 'number', at];
    }
    yield ['XGROUP', 'CREATE', key, 'workers', 0];
    yield ['XREADGROUP', 'GROUP', 'workers', 'first', 'COUNT', 5, 'STREAMS', key, '>'];
  }
  yield* big(300_000, scale, ['HSET', 'big:hash'], (at) => [`field:${at}`, values.noise(30)]);
  yield* big(300_000, scale, ['ZADD', 'big:zset'], (at) => [at + 0.5, `member:${at}`]);
  yield* big(500_000, scale, ['RPUSH', 'big:list'], () => [values.noise(20)]);
  yield* big(300_000, scale, ['SADD', 'big:set'], (at) => [`member:${at}`]);
}

function* big(
  members: number,
  scale: number,
  head: Command,
  member: (at: number) => Command,
): Generator<Command> {
  const count = scaled(members, scale);
  for (let from = 0; from < count; from += MEMBERS_PER_COMMAND) {
    const here = Math.min(MEMBERS_PER_COMMAND, count - from);
    yield [...head, ...several(here, (at) => member(from + at))];
  }
}

/** Values and numbers out of one seed. */
export class Values {
  readonly #random: Random;
  readonly #noise: Buffer;
  readonly #words: readonly string[];
  readonly #prose: Buffer;

  constructor(seed: number) {
    this.#random = randomFrom(seed);
    this.#noise = Buffer.from(Array.from({ length: POOL_BYTES }, () => this.between(33, 122)));
    this.#words = Array.from({ length: WORDS }, () => this.#random.text(this.between(4, 8)));
    const prose = Array.from({ length: POOL_BYTES / 8 }, () => this.word());
    this.#prose = Buffer.from(prose.join(' '));
  }

  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.#random.below(high - low + 1);
  }

  word(): string {
    return this.#words[this.#random.below(WORDS)] ?? '';
  }

  /** Printable characters without any order; up to 1 MB. */
  noise(length: number): Buffer {
    return this.#slice(this.#noise, length);
  }

  /** Words out of 512. */
  prose(length: number): Buffer {
    return this.#slice(this.#prose, length);
  }

  #slice(pool: Buffer, length: number): Buffer {
    const from = this.between(0, pool.length - length);
    return pool.subarray(from, from + length);
  }
}

function* upTo(count: number, scale: number): Generator<number> {
  for (let i = 0; i < scaled(count, scale); i++) yield i;
}

function scaled(count: number, scale: number): number {
  return Math.max(1, Math.round(count * scale));
}

function several(count: number, one: (at: number) => Command): Command {
  return Array.from({ length: count }, (_, at) => one(at)).flat();
}

/** One batch on its way at a time. Throws where the server refuses anything: a smaller data set would flatter. */
async function write(port: number, commands: Iterable<Command>): Promise<void> {
  const connection = await RespConnection.connect(port);
  try {
    let batch: Command[] = [];
    let bytes = 0;
    const send = async (): Promise<void> => {
      const refused = (await connection.pipeline(batch)).find((reply) => reply instanceof ReplyError);
      if (refused !== undefined) throw refused;
      batch = [];
      bytes = 0;
    };
    for (const command of commands) {
      batch.push(command);
      for (const arg of command) bytes += typeof arg === 'number' ? 8 : arg.length;
      if (batch.length === COMMANDS_PER_BATCH || bytes >= BYTES_PER_BATCH) await send();
    }
    await send();
  } finally {
    connection.close();
  }
}
