/**
 * Any program of commands, any cuts: what fast-check thinks up runs on the source, before and during the migration, while
 * connections are cut after any number of bytes; then both sides must be equal. A failure prints its seed and path; the
 * environment variable RANDOM_PROGRAMS=seconds lets each feed go on for so long, RANDOM_SEED=n repeats one.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { type DemoServer, freePort } from '../../src/demo/server.ts';
import { Migration } from '../../src/migrate/migration.ts';
import { RunFolder } from '../../src/migrate/run-folder.ts';
import { type Command, RespConnection } from '../../src/resp/connection.ts';
import { asRound } from '../bench/round.ts';
import { infoField } from '../helpers/client.ts';
import { type Fault, type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { seedFrom } from '../helpers/seed.ts';
import { type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { DEFAULT_OPTIONS } from '../integration/migration-scene.ts';
import { ask, assertEqualServers } from './support.ts';

/** Programs in `npm test`, per feed. */
const RUNS = 18;
/** Commands sent at a time. */
const PIECE = 10;
const FAR_SECONDS = 100_000;
const APPLIED_MS = 30_000;
const LOOPBACK = { tool: '127.0.0.2', target: '127.0.0.3' } as const;

// few keys: commands meet keys that others have made, renamed, deleted or given another type
const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
const database = fc.constantFrom(0, 1, 9);
const small = fc.integer({ min: -5, max: 9 });
const word = fc.string({ unit: 'binary', maxLength: 12 });
const big = fc.integer({ min: 10_000, max: 70_000 }).map((length) => 'x'.repeat(length));
const score = fc.double({ min: -1e6, max: 1e6, noNaN: true }).map(String);

/**
 * One write; many answer WRONGTYPE, which changes nothing and is not replicated. No XREADGROUP: the source does not tell
 * its replicas the group's entries-read, a native one has none either (Redis 7.0.15).
 */
const write: fc.Arbitrary<Command> = fc.oneof(
  fc.tuple(
    fc.constantFrom('INCR', 'DECR', 'LPOP', 'RPOP', 'SPOP', 'PERSIST', 'DEL', 'GETDEL', 'ZPOPMIN'),
    key,
  ),
  fc.tuple(fc.constantFrom('INCRBY', 'DECRBY'), key, small),
  fc.tuple(fc.constantFrom('APPEND', 'RPUSH', 'LPUSH', 'SADD', 'PFADD', 'GETSET', 'SET'), key, word),
  fc.tuple(fc.constantFrom('APPEND', 'RPUSH', 'SET', 'SADD'), key, big),
  fc.tuple(fc.constant('INCRBYFLOAT'), key, score),
  fc.tuple(fc.constant('SETRANGE'), key, fc.integer({ min: 0, max: 300 }), word),
  fc.tuple(fc.constant('SPOP'), key, fc.constantFrom(2, 5)),
  fc.tuple(
    fc.constant('LMOVE'),
    key,
    key,
    fc.constantFrom('LEFT', 'RIGHT'),
    fc.constantFrom('LEFT', 'RIGHT'),
  ),
  fc.tuple(fc.constant('HINCRBY'), key, word, small),
  fc.tuple(fc.constant('HSET'), key, word, fc.oneof(word, big)),
  fc.tuple(fc.constant('HDEL'), key, word),
  fc.tuple(fc.constant('ZINCRBY'), key, score, word),
  fc.tuple(fc.constant('XADD'), key, fc.constant('*'), word, word),
  fc.tuple(fc.constant('XTRIM'), key, fc.constant('MAXLEN'), fc.constantFrom(0, 2)),
  fc.tuple(
    fc.constant('XGROUP'),
    fc.constant('CREATE'),
    key,
    fc.constantFrom('g', 'h'),
    fc.constant('0'),
    fc.constant('MKSTREAM'),
  ),
  fc.tuple(fc.constantFrom('RENAME', 'COPY', 'SUNIONSTORE'), key, key),
  fc.tuple(fc.constant('MOVE'), key, database),
  fc.tuple(fc.constant('EXPIRE'), key, fc.constantFrom(FAR_SECONDS, 2 * FAR_SECONDS, -1)),
  key.map((name) => ['SET', name, 'v', 'EX', FAR_SECONDS]),
  key.map((name) => [
    'EVAL',
    "redis.call('INCR', KEYS[1]); return redis.call('RPUSH', KEYS[2], 1)",
    2,
    name,
    `${name}:list`,
  ]),
);
const select = database.map((number): Command => ['SELECT', number]);
const rarely: fc.Arbitrary<Command> = fc.oneof(
  fc.constant<Command>(['FLUSHDB']),
  fc.constant<Command>(['FLUSHALL']),
  fc.constant<Command>(['SWAPDB', 0, 1]),
);
const transaction = fc
  .array(fc.oneof({ weight: 4, arbitrary: write }, { weight: 1, arbitrary: select }), { maxLength: 8 })
  .map((inner): Command[] => [['MULTI'], ...inner, ['EXEC']]);
const single = (arbitrary: fc.Arbitrary<Command>) => arbitrary.map((command) => [command]);
const program = fc
  .array(
    fc.oneof(
      { weight: 20, arbitrary: single(write) },
      { weight: 6, arbitrary: transaction },
      { weight: 4, arbitrary: single(select) },
      { weight: 1, arbitrary: single(rarely) },
    ),
    { minLength: 5, maxLength: 80, size: 'max' },
  )
  .map((parts) => parts.flat());

/** Where a cut is: which connection, and how many bytes behind the text that marks the phase on it. */
interface Cut {
  readonly line: 'source' | 'target';
  readonly direction: Fault['direction'];
  readonly bytes: number;
  readonly how: 'close' | 'reset';
}

const cuts: fc.Arbitrary<Cut[]> = fc.array(
  fc.record({
    line: fc.constantFrom('source', 'target'),
    direction: fc.constantFrom('to-server', 'to-client'),
    bytes: fc.oneof(...[60, 600, 6_000].map((max) => fc.integer({ min: 0, max }))),
    how: fc.constantFrom('close', 'reset'),
  }),
  { maxLength: 3 },
);

/** A program in three parts, and the cuts while the second and the third one run. */
interface Story {
  /** Lies in the snapshot. */
  readonly before: readonly Command[];
  /** While the copy begins. */
  readonly early: readonly Command[];
  /** In the stream. */
  readonly late: readonly Command[];
  readonly earlyCuts: readonly Cut[];
  readonly lateCuts: readonly Cut[];
}

const story: fc.Arbitrary<Story> = fc.record({
  before: program,
  early: program,
  late: program,
  earlyCuts: cuts,
  lateCuts: cuts,
});

type Feed = 'attach' | 'write';
type Mark = Fault['after'][number];

/** What is sent first on each connection that is ours alone: the preflight is not what is tested here. */
const BEGINS: Readonly<Record<Feed | 'source', Mark>> = {
  source: { direction: 'to-server', text: '*3\r\n$5\r\nPSYNC\r\n' },
  write: { direction: 'to-server', text: 'NO-TOUCH' },
  attach: { direction: 'to-server', text: 'PSYNC' },
};
/** What there is on it in the stream. */
const STREAMS: typeof BEGINS = {
  source: { direction: 'to-client', text: 'SELECT\r\n' },
  write: { direction: 'to-server', text: 'MULTI\r\n' },
  attach: { direction: 'to-client', text: 'SELECT\r\n' },
};

/** Servers and proxies, used by one program after the other. */
interface Bench {
  readonly feed: Feed;
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly toSource: FaultProxy;
  readonly toTarget: FaultProxy;
  /** On which an attached target follows. */
  readonly following: FaultProxy;
}

async function bench(t: TestContext, feed: Feed): Promise<Bench> {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  const port = await freePort();
  return {
    feed,
    source,
    target,
    toSource: await faultProxy(t, source.port),
    toTarget: await faultProxy(t, target.port),
    following: await faultProxy(t, port, { at: { host: LOOPBACK.target, port }, toHost: LOOPBACK.tool }),
  };
}

/**
 * Runs the parts of a story on the source, while the migration copies and follows and its connections are cut; compares.
 * Returns how many of the cuts happened: connections may be too short for them.
 */
async function live(bench: Bench, { before, early, late, earlyCuts, lateCuts }: Story): Promise<number> {
  const { source, target } = bench;
  for (const { port } of [source, target]) await ask(port, 'FLUSHALL');
  let happened = 0;
  const cut = (marks: typeof BEGINS, planned: readonly Cut[]): void => {
    for (const { line, direction, bytes, how } of planned) {
      const after = [marks[line === 'source' ? 'source' : bench.feed]];
      void proxyOf(bench, line)
        .fault({ after, direction, bytes, how })
        .then(() => happened++);
    }
  };
  await asRound(async (t) => {
    const client = await RespConnection.connect(source.port);
    t.after(() => client.close());
    await client.pipeline(before);
    const migration = await begin(t, bench, () => cut(BEGINS, earlyCuts));
    const reaches = async (what: string, condition: () => boolean): Promise<void> => {
      await until(() => migration.error !== null || condition(), { timeoutMs: APPLIED_MS, what });
      assert.equal(migration.error, null, migration.error?.message);
    };
    await inPieces(client, early);
    await reaches('the end of the copy', () => !['checking', 'snapshot'].includes(migration.phase));
    cut(STREAMS, lateCuts);
    await inPieces(client, late);
    const offset = Number(await infoField(client, 'replication', 'master_repl_offset'));
    await reaches(`applied up to ${offset}`, () => {
      const { appliedOffset, phase } = migration.snapshot();
      return appliedOffset >= offset && phase !== 'snapshot';
    });
    assert.equal(migration.snapshot().divergences, 0);
  });
  await ask(target.port, 'REPLICAOF', 'NO', 'ONE');
  await ask(target.port, 'DEL', 'redis-cutover:checkpoint', 'redis-cutover:lease');
  await assertEqualServers(source.port, target.port);
  return happened;
}

function proxyOf({ feed, toSource, toTarget, following }: Bench, line: Cut['line']): FaultProxy {
  if (line === 'source') return toSource;
  return feed === 'attach' ? following : toTarget;
}

/** Now and then a piece is on the way by itself. */
async function inPieces(client: RespConnection, commands: readonly Command[]): Promise<void> {
  for (let from = 0; from < commands.length; from += PIECE) {
    await client.pipeline(commands.slice(from, from + PIECE));
    await delay(from % 3);
  }
}

/** Starts a migration through the proxies, with `faults` set between its preflight and its start. */
async function begin(t: Cleanup, bench: Bench, faults: () => void): Promise<Migration> {
  const { feed, toSource, toTarget, following } = bench;
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-run-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const options = {
    ...DEFAULT_OPTIONS,
    feed,
    runDir: join(dir, 'run'),
    listen: { host: LOOPBACK.tool, port: following.port, advertise: LOOPBACK.target },
  };
  const pair = { name: 'random', source: at(toSource), target: at(toTarget) };
  const migration = new Migration(pair, options, { emit: () => {}, phaseChanged: () => {} }, null);
  await migration.check();
  assert.equal(migration.error, null, migration.error?.message);
  const folder = await RunFolder.create(options.runDir, 'test', [pair], options);
  t.after(async () => {
    for (const proxy of [toSource, toTarget, following]) proxy.clear();
    await migration.stop('the program is through');
    await folder.close();
  });
  faults();
  await migration.start(folder);
  return migration;
}

/** What fast-check found; its own report would hold the big values in full. */
function told({ seed, counterexamplePath, errorInstance, counterexample }: fc.RunDetails<[Story]>): string {
  const short = (_: string, value: unknown): unknown =>
    typeof value === 'string' && value.length > 40 ? `${value.length} times x` : value;
  const found = JSON.stringify(counterexample, short);
  return `seed ${seed}, path ${counterexamplePath}: ${String(errorInstance)}\n${found}`;
}

const at = ({ port }: FaultProxy) => ({ host: '127.0.0.1', port, username: null, password: null, tls: null });

// most of the time they wait
describe('random programs under random cuts', { concurrency: 2 }, () => {
  for (const feed of ['attach', 'write'] as const) {
    test(`feed ${feed}: both sides are equal at the end`, async (t) => {
      const all = await bench(t, feed);
      const seconds = Number(process.env['RANDOM_PROGRAMS'] ?? 0);
      const seed = seedFrom('RANDOM_SEED', seconds > 0);
      t.diagnostic(`RANDOM_SEED=${seed}`);
      let runs = 0;
      let happened = 0;
      const holds = fc.asyncProperty(story, async (one) => {
        runs++;
        happened += await live(all, one);
      });
      const outcome = await fc.check(holds, {
        seed,
        ...(seconds > 0
          ? { numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: seconds * 1000 }
          : { numRuns: RUNS }),
        // a smaller program is looked for only so long
        endOnFailure: seconds === 0,
      });
      if (outcome.failed) assert.fail(told(outcome));
      t.diagnostic(`${runs} programs, ${happened} cuts`);
      assert.ok(happened > 0);
    });
  }
});
