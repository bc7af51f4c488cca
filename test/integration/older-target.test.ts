/**
 * A newer source writes to an older target: every form of a command that only the source knows (protocol.md 2.4) is
 * executed on a real source while the pair is in sync; then it is cut over, and both are compared over the wire. What
 * cannot be on the target is listed here, and told in the run's notes.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TargetError } from '../../src/core/errors.ts';
import { compareServers } from '../../src/demo/compare.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import { infoField } from '../helpers/client.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { until } from '../helpers/wait.ts';
import { inSync } from './migration-scene.ts';

type Program = readonly (readonly (string | number | Buffer)[])[];

const MINUTES = 600_000;
const BIG = Buffer.alloc((1 << 20) + 4711, 'big');

/** Redis 6.2 and all that follow. */
const SINCE_6_2: Program = [
  ['SET', 'ttl', 'a', 'PX', MINUTES],
  ['SET', 'ttl', 'ab', 'KEEPTTL'],
  ['APPEND', 'ttl', 'c'],
  ['SET', 'number', 1, 'EX', 600],
  ['INCRBYFLOAT', 'number', '0.25'],
  ['SET', 'forever', 'a'],
  ['SET', 'forever', 'b', 'KEEPTTL'],
  ['SET', 'never', 'a', 'KEEPTTL', 'GET'],
  ['SET', 'at', 'a', 'PXAT', Date.now() + MINUTES],
  ['SET', 'at', 'b', 'EXAT', Math.floor(Date.now() / 1000) + 900],
  ['SET', 'nx', 'a', 'NX', 'PXAT', Date.now() + MINUTES],
  ['GETEX', 'at', 'PX', 2 * MINUTES],
  ['GETEX', 'nx', 'PERSIST'],
  ['SETEX', 'setex', 600, 'a'],
  ['SET', 'big', BIG, 'PX', MINUTES],
  ['SET', 'big', Buffer.concat([BIG, BIG]), 'KEEPTTL'],
  ['SET', 'big:2', BIG],
  ['UNLINK', 'big:2', 'nothing'],
  ['HSET', 'hash', 'a', 1, 'b', 2, 'c', 3],
  ['HINCRBY', 'hash', 'a', 5],
  ['HSET', 'hash:1', 'a', 1],
  ['RPUSH', 'list', ...Array.from('abcdefghijklmnop')],
  ['LPUSHX', 'list', 'x', 'y', 'z'],
  ['RPUSHX', 'list', 'x', 'y', 'z'],
  ['LMOVE', 'list', 'list:2', 'LEFT', 'LEFT'],
  ['LMOVE', 'list', 'list:2', 'LEFT', 'RIGHT'],
  ['LMOVE', 'list', 'list:2', 'RIGHT', 'LEFT'],
  ['LMOVE', 'list', 'list:2', 'RIGHT', 'RIGHT'],
  ['LMOVE', 'list', 'list', 'LEFT', 'RIGHT'],
  ['BLMOVE', 'list', 'list', 'RIGHT', 'RIGHT', 1],
  ['LPOP', 'list', 3],
  ['RPOP', 'list', 2],
  ['LPOP', 'list:2', 100],
  ['ZADD', 'zset', ...Array.from('abcdefghij').flatMap((member, i) => [i % 4, member])],
  ['ZADD', 'zset', 'GT', 2, 'a', 1, 'd', 'inf', 'e'],
  ['ZADD', 'zset', 'LT', 'CH', '-0.1', 'b', 9, 'c'],
  ['ZADD', 'zset', 'GT', 'XX', 7, 'f', 7, 'nobody'],
  ['ZADD', 'zset', 'GT', 5, 'twice', 3, 'twice', 4, 'twice'],
  ['ZADD', 'zset', 'GT', 'INCR', '0.1', 'g'],
  ['ZADD', 'zset', 'XX', 'LT', 'INCR', '-0.3', 'g'],
  ['ZADD', 'zset', 'NX', 5, 'a', 5, 'new'],
  ['ZADD', 'zset', 'GT', ...Array.from({ length: 3000 }, (_, i) => (i % 2 === 0 ? i : `m${i % 700}`))],
  ['ZADD', 'zset:2', ...Array.from('abcdefghij').flatMap((member, i) => [i % 4, member])],
  ['ZPOPMIN', 'zset:2'],
  ['ZPOPMAX', 'zset:2'],
  ['BZPOPMIN', 'zset:2', 1],
  ['ZPOPMIN', 'zset:2', 2],
  ['ZPOPMAX', 'zset:2', 2],
  ['ZADD', 'zset:3', 1, 'a'],
  ['ZPOPMAX', 'zset:3', 5],
  ['COPY', 'ttl', 'copy'],
  ['COPY', 'list', 'copy', 'REPLACE'],
  ['COPY', 'ttl', 'copy', 'DB', 3],
  ['COPY', 'ttl', 'copy:2'],
  ['SELECT', 3],
  ['APPEND', 'copy', 'd'],
  ['SELECT', 5],
  ['SET', 'flushed', 1],
  ['FLUSHDB', 'ASYNC'],
  ['SET', 'flushed', 1],
  ['FLUSHDB', 'SYNC'],
  ['SELECT', 0],
  ['SCRIPT', 'FLUSH', 'ASYNC'],
  ['MULTI'],
  ['SET', 'multi', 'a', 'PX', MINUTES],
  ['SET', 'multi', 'b', 'KEEPTTL'],
  ['APPEND', 'multi', 'c'],
  ['LMOVE', 'list', 'list:3', 'LEFT', 'LEFT'],
  ['SELECT', 2],
  ['SET', 'multi', 'd', 'EX', 600],
  ['EXEC'],
  ['SELECT', 0],
];

const SINCE_7_0: Program = [
  ['EXPIRE', 'forever', 900, 'NX'],
  ['EXPIRE', 'forever', 1800, 'GT'],
  ['EXPIRE', 'forever', 1200, 'LT', 'XX'],
  ['LMPOP', 1, 'list', 'LEFT', 'COUNT', 2],
  ['ZMPOP', 1, 'zset', 'MAX', 'COUNT', 2],
  ['FUNCTION', 'LOAD', "#!lua name=lib\nredis.register_function('f', function() return 1 end)"],
];

const STREAMS_6_2: Program = [
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((id) => ['XADD', 'stream', `${id}-1`, 'field', id]),
  ['XADD', 'stream', 'NOMKSTREAM', '10-1', 'field', 'a'],
  ['XADD', 'nothing', 'NOMKSTREAM', '10-1', 'field', 'a'],
  ['XADD', 'stream', 'MINID', '3', '11-1', 'field', 'b'],
  ['XADD', 'stream', 'NOMKSTREAM', 'MINID', '~', '0', '12-1', 'field', 'c'],
  ['XADD', 'stream', 'MAXLEN', '=', 9, '12-2', 'field', 'd'],
  ['XTRIM', 'stream', 'MINID', '6-1'],
  ['XGROUP', 'CREATE', 'stream', 'group', '0'],
  ['XGROUP', 'CREATECONSUMER', 'stream', 'group', 'idle'],
  ['XREADGROUP', 'GROUP', 'group', 'one', 'COUNT', 3, 'STREAMS', 'stream', '>'],
  ['XGROUP', 'CREATECONSUMER', 'stream', 'group', 'one:too'],
  ['XACK', 'stream', 'group', '6-1'],
  ['XREADGROUP', 'GROUP', 'group', 'two', 'COUNT', 1, 'NOACK', 'STREAMS', 'stream', '>'],
  ['XDEL', 'stream', '9-1'],
  ['XADD', 'trimmed', '5-5', 'a', 'b'],
  ['XTRIM', 'trimmed', 'MINID', '6'],
  ['XGROUP', 'CREATE', 'made', 'group', '$', 'MKSTREAM'],
];

const STREAMS_7_0: Program = [
  ['XSETID', 'trimmed', '9-9', 'ENTRIESADDED', 5, 'MAXDELETEDID', '7-7'],
  ['XGROUP', 'CREATE', 'stream', 'group:2', '6-1', 'ENTRIESREAD', 2],
  ['XGROUP', 'SETID', 'stream', 'group:2', '7-1', 'ENTRIESREAD', 3],
];

const HASHES_8_0: Program = [
  ['HSETEX', 'hfe', 'PX', MINUTES, 'FIELDS', 2, 'a', 1, 'b', 2],
  ['HSETEX', 'hfe', 'FXX', 'EX', 900, 'FIELDS', 1, 'a', 3],
  ['HSETEX', 'hfe', 'KEEPTTL', 'FIELDS', 2, 'a', 4, 'new', 5],
  ['HSETEX', 'hfe', 'FIELDS', 1, 'b', 6],
  ['HINCRBYFLOAT', 'hfe', 'a', '0.5'],
  ['HEXPIRE', 'hfe', 1200, 'NX', 'FIELDS', 2, 'b', 'a'],
  ['HGETEX', 'hfe', 'PX', MINUTES, 'FIELDS', 1, 'new'],
  ['HPERSIST', 'hfe', 'FIELDS', 1, 'new'],
  ['HSET', 'hfe', 'gone', 1],
  ['HGETDEL', 'hfe', 'FIELDS', 1, 'gone'],
];

const STREAMS_8_2: Program = [
  ...['refs', 'acked'].flatMap((key) => [
    ...[1, 2, 3, 4, 5, 6].map((id) => ['XADD', key, 'KEEPREF', `${id}-0`, 'a', id]),
    ['XGROUP', 'CREATE', key, 'one', '0'],
    ['XGROUP', 'CREATE', key, 'two', '0'],
    ['XREADGROUP', 'GROUP', 'one', 'c', 'COUNT', 5, 'STREAMS', key, '>'],
    ['XREADGROUP', 'GROUP', 'two', 'c', 'COUNT', 4, 'STREAMS', key, '>'],
  ]),
  ['XDELEX', 'refs', 'KEEPREF', 'IDS', 1, '1-0'],
  ['XDELEX', 'refs', 'DELREF', 'IDS', 2, '2-0', '99-0'],
  ['XACKDEL', 'refs', 'one', 'DELREF', 'IDS', 2, '3-0', '6-0'],
  ['XACKDEL', 'refs', 'two', 'IDS', 2, '4-0', '5-0'],
  ['XACKDEL', 'acked', 'one', 'ACKED', 'IDS', 2, '1-0', '2-0'],
  ['XACKDEL', 'acked', 'two', 'ACKED', 'IDS', 1, '1-0'],
  ['XACK', 'acked', 'one', '3-0', '4-0', '5-0'],
  ['XACK', 'acked', 'two', '3-0'],
  ['XDELEX', 'acked', 'ACKED', 'IDS', 3, '3-0', '4-0', '5-0'],
  ['XTRIM', 'acked', 'MAXLEN', '=', 4, 'KEEPREF'],
  // differs: 1-0 stays pending on the target
  ['XADD', 'lossy', '1-0', 'a', 1],
  ['XGROUP', 'CREATE', 'lossy', 'one', '0'],
  ['XREADGROUP', 'GROUP', 'one', 'c', 'STREAMS', 'lossy', '>'],
  ['XADD', 'lossy', 'DELREF', 'MAXLEN', '=', 1, '2-0', 'a', 2],
];

const VALKEY_8_1: Program = [
  ['SET', 'ifeq', 'a'],
  ['SET', 'ifeq', 'b', 'IFEQ', 'a'],
  ['SET', 'ifeq', 'c', 'IFEQ', 'nothing'],
  ['SET', 'ifeq', 'd', 'IFEQ', 'b', 'PX', MINUTES],
  ['SET', 'ifeq', 'e', 'IFEQ', 'd', 'KEEPTTL', 'GET'],
];

const VALKEY_9_1: Program = [
  ['MSETEX', 2, 'msetex:1', 'a', 'msetex:2', 'b', 'PX', MINUTES],
  ['MSETEX', 2, 'msetex:1', 'c', 'msetex:2', 'd', 'XX', 'KEEPTTL'],
  ['MSETEX', 1, 'msetex:3', 'a', 'NX'],
  ['SET', 'delifeq', 'a'],
  ['DELIFEQ', 'delifeq', 'a'],
  ['HSETEX', 'hfe', 'NX', 'FIELDS', 1, 'not', 'set'],
];

const FIELD_TTLS = /expiries of fields in hashes/;
const DELREF = /DELREF of XADD/;
const COUNTERS = /ENTRIESREAD/;
const FUNCTIONS = /function libraries/;

interface Pair {
  readonly from: string;
  readonly to: string;
  readonly programs: readonly Program[];
  /** Each must be found in one note, and no other note speaks of a loss. */
  readonly losses: readonly RegExp[];
  /** Keys that may differ, for that reason. */
  readonly differ: readonly string[];
}

const REDIS_7_0 = [SINCE_6_2, SINCE_7_0] as const;
const REDIS_8_2 = [...REDIS_7_0, STREAMS_6_2, STREAMS_7_0, HASHES_8_0, STREAMS_8_2] as const;
const PAIRS: readonly Pair[] = [
  { from: 'redis-8.2', to: 'redis-7.4', programs: REDIS_8_2, losses: [DELREF], differ: ['lossy'] },
  {
    from: 'redis-8.2',
    to: 'redis-7.0',
    programs: REDIS_8_2,
    losses: [COUNTERS, DELREF, FIELD_TTLS],
    differ: ['lossy'],
  },
  {
    from: 'redis-8.2',
    to: 'redis-6.2',
    programs: REDIS_8_2,
    losses: [DELREF, FIELD_TTLS, COUNTERS, FUNCTIONS],
    differ: ['lossy'],
  },
  {
    from: 'redis-7.0',
    to: 'redis-5.0',
    programs: [...REDIS_7_0, STREAMS_6_2, STREAMS_7_0],
    losses: [COUNTERS, FUNCTIONS],
    differ: [],
  },
  { from: 'redis-7.0', to: 'redis-3.2', programs: REDIS_7_0, losses: [FUNCTIONS], differ: [] },
  { from: 'redis-6.2', to: 'redis-2.8', programs: [SINCE_6_2], losses: [], differ: [] },
  {
    from: 'valkey-9.1',
    to: 'redis-7.2',
    programs: [...REDIS_7_0, STREAMS_6_2, STREAMS_7_0, HASHES_8_0, VALKEY_8_1, VALKEY_9_1],
    losses: [FIELD_TTLS],
    differ: [],
  },
  {
    from: 'valkey-9.1',
    to: 'valkey-8.1',
    programs: [...REDIS_7_0, STREAMS_6_2, HASHES_8_0, VALKEY_8_1, VALKEY_9_1],
    losses: [FIELD_TTLS],
    differ: [],
  },
];

const RELEASES = serverReleases();

function released(name: string): Release | undefined {
  return RELEASES.find(({ kind, major, minor }) => name === `${kind}-${major}.${minor}`);
}

describe('an older target', { concurrency: 2 }, () => {
  for (const { from, to, programs, losses, differ } of PAIRS) {
    const [source, target] = [released(from), released(to)];
    const skip = source === undefined || target === undefined ? 'not installed: npm run servers' : false;
    it(`${from} to ${to}`, { skip }, async (t) => {
      const scene = await inSync(
        t,
        { cutoverTimeoutMs: 30_000, allowLoss: true },
        { source: { binary: source!.path }, target: { binary: target!.path }, keys: 0 },
      );
      const { onSource, migration } = scene;
      for (const program of programs) await run(onSource, program);
      await run(onSource, restores(await dumpOf(onSource)));
      await run(onSource, await restoredCopies(onSource));
      await migration.cutOver();
      assert.equal(migration.phase, 'promoted', migration.error?.message);
      assert.equal(migration.snapshot().divergences, 0);
      const notes = scene.events.flatMap((event) => (event.event === 'note' ? [event.message] : []));
      const { compared, different, missing, extra, first } = await compareServers(
        scene.source.port,
        scene.target.port,
        { exclude: differ },
      );
      assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 }, first ?? '');
      assert.ok(compared > 20, String(compared));
      const told = notes.filter((note) => note.startsWith('lost,'));
      for (const loss of losses)
        assert.ok(
          told.some((note) => loss.test(note)),
          `${loss}: ${notes.join('; ')}`,
        );
      assert.equal(told.length, losses.length, told.join('; '));
    });
  }

  it('what would be lost ends the run where that is not allowed', async (t) => {
    const [source, target] = [released('redis-8.2'), released('redis-7.0')];
    if (source === undefined || target === undefined) {
      t.skip('not installed: npm run servers');
      return;
    }
    const scene = await inSync(
      t,
      {},
      { source: { binary: source.path }, target: { binary: target.path }, keys: 0 },
    );
    await run(scene.onSource, [
      ['HSET', 'hash', 'a', 1],
      ['HEXPIRE', 'hash', 900, 'FIELDS', 1, 'a'],
    ]);
    const { migration } = scene;
    await until(() => migration.phase === 'failed', { timeoutMs: 30_000, what: 'the end of the run' });
    const { error } = migration;
    assert.ok(error instanceof TargetError, String(error));
    assert.equal(error.code, 'would-lose');
    assert.equal(error.command, 'HPEXPIREAT');
    assert.match(error.message, FIELD_TTLS);
    assert.match(error.hint, /--allow-loss/);
  });

  it('a command that it does not know ends the run, with its name and place', async (t) => {
    const [source, target] = [released('redis-7.0'), released('redis-5.0')];
    if (source === undefined || target === undefined) {
      t.skip('not installed: npm run servers');
      return;
    }
    const { onSource, migration } = await inSync(
      t,
      {},
      { source: { binary: source.path }, target: { binary: target.path }, keys: 0 },
    );
    const begin = Number(await infoField(onSource, 'replication', 'master_repl_offset'));
    await run(onSource, [
      ['ZADD', 'zset', 1, 'a'],
      ['ZRANGESTORE', 'copy', 'zset', 0, -1],
    ]);
    await until(() => migration.phase === 'failed', { timeoutMs: 30_000, what: 'the end of the run' });
    const { error } = migration;
    assert.ok(error instanceof TargetError, String(error));
    assert.equal(error.code, 'target-unknown-command');
    assert.equal(error.command, 'ZRANGESTORE');
    assert.equal(error.recovery, 'operator');
    const offset = Number(/does not know ZRANGESTORE of key \S+ at offset (\d+)$/.exec(error.message)?.[1]);
    assert.ok(offset > begin, error.message);
  });
});

async function run(client: RespConnection, program: Program): Promise<void> {
  for (const words of program) {
    await client.call(...words).catch((error: unknown) => {
      throw new Error(`${words.slice(0, 4).join(' ')}: ${String(error)}`);
    });
  }
}

async function dumpOf(client: RespConnection): Promise<Buffer> {
  await client.call('SET', 'dumped', 'some value');
  const payload = await client.call('DUMP', 'dumped');
  assert.ok(Buffer.isBuffer(payload));
  return payload;
}

/** Every value that there is, in the form in which the source has it, under another name. */
async function restoredCopies(client: RespConnection): Promise<Program> {
  const program: (string | number | Buffer)[][] = [];
  for (const key of (await client.call('KEYS', '*')) as Buffer[]) {
    const payload = await client.call('DUMP', key);
    if (!Buffer.isBuffer(payload)) continue;
    program.push([
      'RESTORE',
      `copy:${key.toString('latin1')}`,
      program.length % 2 === 0 ? 0 : MINUTES,
      payload,
    ]);
  }
  return program;
}

/** Of a payload with the source's stamp. */
function restores(payload: Buffer): Program {
  return [
    ['RESTORE', 'restored', 0, payload],
    ['RESTORE', 'restored', 2 * MINUTES, payload, 'REPLACE'],
    ['RESTORE', 'restored:2', Date.now() + MINUTES, payload, 'ABSTTL', 'FREQ', 3],
    ['RESTORE', 'restored:2', 0, payload, 'REPLACE', 'ABSTTL', 'IDLETIME', 9],
  ];
}
