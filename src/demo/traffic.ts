/**
 * An application at work: writes that are not idempotent, at a steady rate, in three databases. A write that
 * was lost or applied twice on the way to the target leaves different data there, which compare.ts finds.
 */
import { type Command, type Reply, ReplyError, RespConnection } from '../resp/connection.ts';
import { DATABASES } from './dataset.ts';
import { type Random, randomFrom } from './random.ts';
import { atLeast, type Release, readRelease } from './release.ts';

export interface TrafficOptions {
  /** On loopback. */
  readonly port: number;
  /** Writes per second, those in transactions included (default 2,000). */
  readonly ratePerSecond?: number;
  readonly seed?: number;
  /** Keys per type and database (default 200): fewer means more writes to each. */
  readonly keysPerType?: number;
  /** Default: true, where the server has them. False for targets before 5.0. */
  readonly streams?: boolean;
  /** Also forms of commands that came later, or that are replicated as others (default: false). */
  readonly manyForms?: boolean;
}

export interface TrafficStats {
  /** Writes that the server answered with success. */
  readonly acknowledged: number;
  /** Writes that it answered with an error (-NOPERM, -READONLY, -EXECABORT, …). */
  readonly refused: number;
  /** Writes whose connection ended before their answer: done or not, nobody knows. */
  readonly unanswered: number;
  /** Of the acknowledged ones, how many were `INCR WITNESS_KEY`: a lower bound for that key's value. */
  readonly witness: number;
  /** Text of the last error reply or connection error; as received: goes through printable() to be shown. */
  readonly lastError: string | null;
}

export interface Traffic {
  stats(): TrafficStats;
  /** Resolves with the final figures when nothing is in flight any more, at most 5 s later. May be called twice. */
  stop(): Promise<TrafficStats>;
}

/** In database 0; incremented once per batch: its value is exactly the number of batches that took effect. */
export const WITNESS_KEY = 'traffic:witness';

const TICK_MS = 5;
const RECONNECT_MS = 100;
const STOP_TIMEOUT_MS = 5_000;
/** After a stall (CLIENT PAUSE, a slow server) at most this much is caught up: no burst above the rate. */
const CATCH_UP_SECONDS = 0.1;
/** One batch; bounds what is unanswered when the connection breaks. */
const MOST_WRITES_PER_BATCH = 200;

/**
 * Starts to write; resolves when the first connection stands. Refusals and lost connections are counted and
 * survived (it dials again). Throws SourceError `demo-connection` only when the first connection fails.
 */
export async function startTraffic(options: TrafficOptions): Promise<Traffic> {
  const {
    port,
    ratePerSecond = 2_000,
    seed = 1,
    keysPerType = 200,
    streams = true,
    manyForms = false,
  } = options;
  let connection = await RespConnection.connect(port);
  const release = await readRelease(connection);
  const write = writesFor(release, randomFrom(seed), { keysPerType, streams, manyForms });
  const stats = { acknowledged: 0, refused: 0, unanswered: 0, witness: 0, lastError: null as string | null };
  let stopping = false;

  const run = async (): Promise<void> => {
    let due = 0;
    let last = performance.now();
    while (!stopping) {
      await pause(TICK_MS);
      const now = performance.now();
      due = Math.min(due + ((now - last) / 1000) * ratePerSecond, ratePerSecond * CATCH_UP_SECONDS);
      last = now;
      if (due < 1) continue;
      const batch = makeBatch(Math.min(Math.floor(due), MOST_WRITES_PER_BATCH), write);
      due -= batch.writes;
      try {
        count(batch, await connection.pipeline(batch.commands), stats);
      } catch (error) {
        stats.unanswered += batch.writes;
        stats.lastError = messageOf(error);
        connection = await reconnect(port, connection, () => stopping, stats);
      }
    }
    connection.close();
  };

  const finished = run();
  return {
    stats: () => ({ ...stats }),
    stop: async () => {
      stopping = true;
      // A server that is paused or hangs never answers
      const giveUp = setTimeout(() => connection.close(), STOP_TIMEOUT_MS);
      await finished;
      clearTimeout(giveUp);
      return { ...stats };
    },
  };
}

type Counters = { -readonly [Key in keyof TrafficStats]: TrafficStats[Key] };

/** Dials until it works or the traffic is to stop; then the old, dead connection is returned. */
async function reconnect(
  port: number,
  old: RespConnection,
  isStopping: () => boolean,
  stats: Counters,
): Promise<RespConnection> {
  old.close();
  while (!isStopping()) {
    try {
      return await RespConnection.connect(port);
    } catch (error) {
      stats.lastError = messageOf(error);
      await pause(RECONNECT_MS);
    }
  }
  return old;
}

/** What a reply of a batch stands for: a write, the end of a transaction of `n` writes, or neither. */
type Meaning = 'write' | 'witness' | 'queued' | 'control' | { readonly transactionOf: number };

interface Batch {
  readonly commands: Command[];
  readonly meanings: Meaning[];
  writes: number;
}

/**
 * Single writes and transactions in turn, and a witness among them. It goes on in whatever database the batch before
 * has left, so that the stream of the server is cut in all of them, with no SELECT behind the cut.
 */
function makeBatch(writes: number, write: Writes): Batch {
  const batch: Batch = { commands: [], meanings: [], writes: 0 };
  const add = (command: Command, meaning: Meaning): void => {
    batch.commands.push(command);
    batch.meanings.push(meaning);
    if (meaning === 'write' || meaning === 'witness' || meaning === 'queued') batch.writes += 1;
  };
  const witnessAt = write.random.below(writes);
  let witnessed = false;
  while (batch.writes < writes || !witnessed) {
    if (!witnessed && batch.writes >= witnessAt) {
      witnessed = true;
      add(['SELECT', 0], 'control');
      add(['INCR', WITNESS_KEY], 'witness');
      continue;
    }
    switch (write.random.below(6)) {
      case 0:
        add(['SELECT', write.database()], 'control');
        break;
      case 1: {
        // The database changes within the block, and stays changed behind it
        const size = 2 + write.random.below(4);
        add(['MULTI'], 'control');
        for (let at = 0; at < size; at += 1) {
          if (write.random.below(3) === 0) add(['SELECT', write.database()], 'control');
          add(write.next(), 'queued');
        }
        add(['EXEC'], { transactionOf: size });
        break;
      }
      default:
        add(write.next(), 'write');
    }
  }
  return batch;
}

function count(batch: Batch, replies: readonly Reply[], stats: Counters): void {
  for (const [at, meaning] of batch.meanings.entries()) {
    const reply = replies[at] ?? null;
    if (reply instanceof ReplyError) stats.lastError = reply.message;
    if (meaning === 'control' || meaning === 'queued') continue;
    if (typeof meaning === 'object') countTransaction(meaning.transactionOf, reply, stats);
    else if (reply instanceof ReplyError) stats.refused += 1;
    else {
      stats.acknowledged += 1;
      if (meaning === 'witness') stats.witness += 1;
    }
  }
}

function countTransaction(writes: number, reply: Reply, stats: Counters): void {
  if (!Array.isArray(reply)) {
    stats.refused += writes;
    return;
  }
  // SELECTs within the block are among the replies: errors are counted, the rest of the writes succeeded
  const errors = reply.filter((item) => item instanceof ReplyError);
  stats.refused += errors.length;
  stats.acknowledged += writes - errors.length;
  if (errors[0] instanceof ReplyError) stats.lastError = errors[0].message;
}

interface Writes {
  readonly random: Random;
  next(): Command;
  database(): number;
}

/** The writes that a server of this release understands. */
function writesFor(
  release: Release,
  random: Random,
  {
    keysPerType,
    streams,
    manyForms,
  }: Required<Pick<TrafficOptions, 'keysPerType' | 'streams' | 'manyForms'>>,
): Writes {
  const { redisVersion } = release;
  const key = (type: string): string => `traffic:${type}:${random.below(keysPerType)}`;
  const makers: (() => Command)[] = [
    () => ['INCR', key('count')],
    () => ['HINCRBY', key('hash'), `f${random.below(10)}`, 1 + random.below(9)],
    () => ['APPEND', key('text'), random.text(3)],
    () => ['RPUSH', key('list'), random.text(8), random.text(8)],
    () => ['LPOP', key('list')],
    () => ['ZINCRBY', key('zset'), random.below(1000) / 8, `m${random.below(20)}`],
    () => ['SADD', key('set'), random.text(5), random.text(5)],
    () => ['SPOP', key('set')],
    () => ['INCRBYFLOAT', key('float'), random.below(1000) / 16],
    () => ['SETRANGE', key('range'), random.below(200), random.text(4)],
    () => ['SET', key('session'), random.text(20), 'EX', 3600],
    () => ['DEL', key(['text', 'list', 'session', 'hash'][random.below(4)] ?? 'text')],
  ];
  if (atLeast(redisVersion, '3.2')) makers.push(() => ['SPOP', key('set'), 3]);
  if (streams && atLeast(redisVersion, '5.0')) {
    makers.push(() => ['XADD', key('stream'), 'MAXLEN', '~', 500, '*', 'n', random.below(1000)]);
  }
  if (atLeast(redisVersion, '6.2')) makers.push(() => ['LMOVE', key('list'), key('list'), 'LEFT', 'RIGHT']);
  if (manyForms) makers.push(...furtherForms(release, random, key));
  return {
    random,
    next: () => (makers[random.below(makers.length)] ?? makers[0]!)(),
    database: () => DATABASES[random.below(DATABASES.length)] ?? 0,
  };
}

/** None of these is refused by the source, and each can be brought to any target. */
function furtherForms(
  { kind, version, redisVersion }: Release,
  random: Random,
  key: (type: string) => string,
): (() => Command)[] {
  const ttlMs = (): number => 3_600_000 + random.below(3_600_000);
  const field = (): string => `f${random.below(10)}`;
  const member = (): string => `m${random.below(20)}`;
  const since: readonly (readonly [redis: string, make: () => Command])[] = [
    ['2.8', () => ['PEXPIRE', key('count'), ttlMs()]],
    ['2.8', () => ['PERSIST', key('count')]],
    ['2.8', () => ['GETSET', key('text'), random.text(9)]],
    ['2.8', () => ['SETBIT', key('bits'), random.below(500), random.below(2)]],
    ['2.8', () => ['BITOP', 'XOR', key('bits'), key('bits'), key('bits')]],
    ['2.8', () => ['RPOPLPUSH', key('list'), key('list')]],
    ['2.8', () => ['SORT', key('list'), 'ALPHA', 'STORE', key('sorted')]],
    ['2.8', () => ['HDEL', key('hash'), field()]],
    ['2.8', () => ['ZREMRANGEBYRANK', key('zset'), 0, 0]],
    // before, nothing stops the writes of scripts: no fence of a cutover, either
    [
      '6.0',
      () => ['EVAL', "return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, key('count'), random.below(9)],
    ],
    ['2.8.9', () => ['PFADD', key('hll'), random.text(3)]],
    ['4.0', () => ['UNLINK', key('range')]],
    ['5.0', () => ['ZPOPMIN', key('zset')]],
    ['6.0', () => ['SET', key('session'), random.text(20), 'KEEPTTL']],
    ['6.2', () => ['ZADD', key('zset'), 'GT', random.below(1000), member(), random.below(1000), member()]],
    ['6.2', () => ['COPY', key('list'), key('copied'), 'REPLACE']],
    ['6.2', () => ['GETEX', key('session'), 'PX', ttlMs()]],
    ['6.2', () => ['GETDEL', key('range')]],
    ['6.2', () => ['LPOP', key('list'), 2]],
    ['7.0', () => ['LMPOP', 2, key('list'), key('copied'), 'RIGHT', 'COUNT', 2]],
    ['7.0', () => ['EXPIRE', key('count'), 9_000, 'GT']],
  ];
  const makers = since.filter(([redis]) => atLeast(redisVersion, redis)).map(([, make]) => make);
  const has = (redis: string): boolean =>
    kind === 'valkey' ? atLeast(version, '9.0') : atLeast(redisVersion, redis);
  if (has('7.4')) makers.push(() => ['HPEXPIRE', key('hash'), ttlMs(), 'FIELDS', 1, field()]);
  if (has('8.0')) {
    makers.push(() => ['HSETEX', key('hash'), 'PX', ttlMs(), 'FIELDS', 1, field(), random.below(99)]);
  }
  return makers;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
