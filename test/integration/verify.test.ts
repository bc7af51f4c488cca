/** verify against real servers: every kind of difference is found, nothing else is, and what is found can be repaired. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Endpoint, Secret } from '../../src/core/endpoint.ts';
import { CutoverError } from '../../src/core/errors.ts';
import type { MigrationEvent, VerifyResult } from '../../src/core/events.ts';
import { STANDARD_VERIFY, type VerifyOptions } from '../../src/core/options.ts';
import type { Renderer } from '../../src/core/ports.ts';
import { compareServers } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer, ServerOptions } from '../../src/demo/server.ts';
import { startTraffic } from '../../src/demo/traffic.ts';
import { comparePair, runVerify } from '../../src/fleet/verify.ts';
import type { Mismatch } from '../../src/migrate/verify/mismatches.ts';
import { verifyPair } from '../../src/migrate/verify/verify.ts';
import type { RunReport } from '../../src/report/model.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import type { Arg } from '../../src/resp/encode.ts';
import { type CliEvent, runCli } from '../helpers/cli.ts';
import { infoField, testClient } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { until, within } from '../helpers/wait.ts';
import { inSync } from './migration-scene.ts';

const OPTIONS: VerifyOptions = { ...STANDARD_VERIFY, rounds: 3, lastRoundMs: 100, maxLatencyMs: 1000 };
const EQUAL = { different: 0, missing: 0, extra: 0, unsettled: 0, repaired: 0 };
const VERIFY_MS = 60_000;
const HOUR_MS = 3_600_000;

interface Pair {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly onSource: RespConnection;
  readonly onTarget: RespConnection;
}

/** The target has what the source has, both are masters, and nobody writes. */
async function copied(
  t: Cleanup,
  {
    keys = 0,
    source: from = {},
    target: to = {},
  }: { keys?: number; source?: ServerOptions; target?: ServerOptions } = {},
  prepare: (source: RespConnection) => Promise<void> = async () => undefined,
): Promise<Pair> {
  const [source, target] = await Promise.all([testServer(t, from), testServer(t, to)]);
  const [onSource, onTarget] = [await testClient(t, source.port), await testClient(t, target.port)];
  if (keys > 0) await loadDataset(source.port, { keys, bigMembers: 3000 });
  await prepare(onSource);
  await onTarget.call('SLAVEOF', '127.0.0.1', source.port);
  await until(
    async () =>
      (await infoField(onTarget, 'replication', 'master_link_status')) === 'up' &&
      (await infoField(onTarget, 'replication', 'slave_repl_offset')) ===
        (await infoField(onSource, 'replication', 'master_repl_offset')),
    { timeoutMs: 30_000, what: 'the target has all' },
  );
  await onTarget.call('SLAVEOF', 'NO', 'ONE');
  return { source, target, onSource, onTarget };
}

function at({ port }: DemoServer): Endpoint {
  return { host: '127.0.0.1', port, username: null, password: null, tls: null };
}

/** The result, and what differs as `db0 key: kind`. */
async function verified(
  { source, target }: Pick<Pair, 'source' | 'target'>,
  options: Partial<VerifyOptions> = {},
): Promise<{ result: VerifyResult; found: string[]; mismatches: Mismatch[] }> {
  const mismatches: Mismatch[] = [];
  const result = await within(
    verifyPair({
      source: at(source),
      target: at(target),
      options: { ...OPTIONS, ...options },
      signal: new AbortController().signal,
      onProgress: () => undefined,
      onMismatch: (mismatch) => mismatches.push(mismatch),
    }),
    VERIFY_MS,
    'the comparison',
  );
  const found = mismatches.map(({ db, key, kind }) => `db${db} ${key.toString('latin1')}: ${kind}`).sort();
  return { result, found, mismatches };
}

type Step = readonly ['source' | 'target' | 'both', ...Arg[]];

async function play({ onSource, onTarget }: Pair, steps: readonly Step[]): Promise<void> {
  for (const [side, ...command] of steps) {
    if (side !== 'target') await onSource.call(...command);
    if (side !== 'source') await onTarget.call(...command);
  }
}

const release = (kind: string, version: string): string | undefined =>
  serverReleases().find((each) => each.kind === kind && each.version === version)?.path;

/** Values large enough to be read in pieces. */
const BIG = [
  ['big:list', 'list'],
  ['big:hash', 'hash'],
  ['big:set', 'set'],
  ['big:zset', 'zset'],
] as const;

async function bigKeys(source: RespConnection): Promise<void> {
  const text = 'x'.repeat(60);
  for (const [key] of BIG) await source.call('DEL', key);
  for (let from = 0; from < 3000; from += 500) {
    const numbers = Array.from({ length: 500 }, (_, index) => from + index);
    await source.pipeline([
      ['RPUSH', 'big:list', ...numbers.map((n) => `${n} ${text}`)],
      ['HMSET', 'big:hash', ...numbers.flatMap((n) => [`f${n}`, `${n} ${text}`])],
      ['SADD', 'big:set', ...numbers.map((n) => `${n} ${text}`)],
      ['ZADD', 'big:zset', ...numbers.flatMap((n) => [n / 7, `${n} ${text}`])],
      ...numbers.map((n) => ['XADD', 'many:stream', `${n + 1}-1`, 'n', text]),
    ]);
  }
  await source.call('XGROUP', 'CREATE', 'many:stream', 'workers', '0');
  await source.call('XREADGROUP', 'GROUP', 'workers', 'alice', 'COUNT', 2500, 'STREAMS', 'many:stream', '>');
  await source.call('SET', 'big:string', 'y'.repeat(700_000));
}

describe('verify', { concurrency: 2 }, () => {
  it('finds nothing where only encodings differ', async (t) => {
    const pair = await copied(
      t,
      {
        keys: 1000,
        target: {
          args: [
            ...['--set-max-intset-entries', '0', '--hash-max-listpack-entries', '0'],
            ...['--zset-max-listpack-entries', '0', '--list-max-listpack-size', '3'],
            ...['--hll-sparse-max-bytes', '0', '--stream-node-max-entries', '2'],
          ],
        },
      },
      bigKeys,
    );
    await play(pair, [
      ['both', 'PFADD', 'visitors', ...Array.from({ length: 40 }, (_, n) => n)],
      ['both', 'ZADD', 'scores', '0.1', 'a', '-0', 'b', '1e300', 'c', 'inf', 'd'],
      // ours, and left out
      ['target', 'HSET', 'redis-cutover:lease', 'run', 'x'],
      ['both', 'SET', 'soon', '1', 'PXAT', Date.now() + HOUR_MS],
      ['target', 'PEXPIREAT', 'soon', Date.now() + HOUR_MS + 300],
    ]);
    assert.notDeepEqual(
      await pair.onSource.call('STRLEN', 'visitors'),
      await pair.onTarget.call('STRLEN', 'visitors'),
      'sparse here, dense there',
    );
    const { compared: keys } = await compareServers(pair.source.port, pair.target.port);
    const { result } = await verified(pair);
    assert.deepEqual(result, { ...EQUAL, compared: keys });
    const sample = await verified(pair, { mode: 'sample', sampleKeys: 200 });
    assert.deepEqual({ ...sample.result, compared: 0 }, { ...EQUAL, compared: 0 });
    assert.ok(sample.result.compared > 50 && sample.result.compared < 250);
    assert.deepEqual((await verified(pair, { mode: 'count' })).result, { ...EQUAL, compared: keys });
  });

  it('finds every kind of difference, of values of every size, and repairs them', async (t) => {
    const pair = await copied(t, { keys: 1000 }, async (source) => {
      await bigKeys(source);
      await source.pipeline([
        ...['text', 'wrong type', 'gone', 'short', 'forever'].map((key) => ['SET', key, 'some text']),
        ['PEXPIREAT', 'short', Date.now() + HOUR_MS],
        ['PEXPIREAT', 'forever', Date.now() + HOUR_MS],
        ['RPUSH', 'list', 1, 2, 3],
        ['HMSET', 'hash', 'a', 1, 'b', 2],
        ['SADD', 'set', 'a', 'b'],
        ['ZADD', 'zset', 1, 'a', 2, 'b'],
        ...[
          's:entry',
          's:last',
          's:group',
          's:pending',
          's:owner',
          's:deliveries',
          's:time',
          's:consumer',
          's:read',
          's:added',
          's:deleted',
          's:groups',
        ].flatMap((key) => [
          ['XADD', key, '1-1', 'a', '1'],
          ['XADD', key, '2-1', 'a', '2'],
          ['XGROUP', 'CREATE', key, 'g', '0'],
          ['XREADGROUP', 'GROUP', 'g', 'alice', 'COUNT', 1, 'STREAMS', key, '>'],
        ]),
        ['SELECT', 9],
        ['SET', 'elsewhere', 'here'],
        ['SELECT', 0],
      ]);
    });
    // streams that differ in nothing but what one late entry says
    for (const [client, odd] of [
      [pair.onSource, 'x'],
      [pair.onTarget, 'y'],
    ] as const) {
      const entry = (n: number): Arg[] => ['XADD', 'big:entries', `${n + 1}-1`, 'n', n === 2900 ? odd : 'z'];
      await client.pipeline(Array.from({ length: 3000 }, (_, n) => entry(n)));
    }
    await play(pair, [
      ['target', 'DEL', 'gone'],
      ['target', 'SET', 'new', 1],
      ['target', 'DEL', 'wrong type'],
      ['target', 'RPUSH', 'wrong type', 1],
      ['target', 'SETRANGE', 'text', 5, 'T'],
      ['target', 'PEXPIREAT', 'short', Date.now() + HOUR_MS + 5000],
      ['target', 'PERSIST', 'forever'],
      ['target', 'LSET', 'list', 1, 'x'],
      ['target', 'HSET', 'hash', 'b', 3],
      ['target', 'SADD', 'set', 'c'],
      ['target', 'ZINCRBY', 'zset', '0.5', 'b'],
      ['target', 'LSET', 'big:list', 2900, 'x'],
      ['target', 'HSET', 'big:hash', 'f2900', 'x'],
      ['target', 'SREM', 'big:set', `2900 ${'x'.repeat(60)}`],
      ['target', 'SADD', 'big:set', 'another'],
      ['target', 'ZADD', 'big:zset', '0.01', `0 ${'x'.repeat(60)}`],
      ['target', 'SETRANGE', 'big:string', 690_000, 'z'],
      ['target', 'XACK', 'many:stream', 'workers', '2400-1'],
      // the same number of entries and pending ones again
      ['target', 'XCLAIM', 'many:stream', 'workers', 'alice', 0, '2800-1', 'FORCE', 'JUSTID'],
      ['target', 'XDEL', 's:entry', '1-1'],
      ['target', 'XSETID', 's:last', '7-7'],
      ['target', 'XGROUP', 'SETID', 's:group', 'g', '2-1'],
      ['target', 'XACK', 's:pending', 'g', '1-1'],
      ['target', 'XCLAIM', 's:owner', 'g', 'bob', 0, '1-1', 'JUSTID'],
      ['target', 'XCLAIM', 's:deliveries', 'g', 'alice', 0, '1-1', 'RETRYCOUNT', 7],
      ['target', 'XCLAIM', 's:time', 'g', 'alice', 0, '1-1', 'TIME', 1_600_000_000_000, 'RETRYCOUNT', 1],
      ['target', 'XGROUP', 'CREATECONSUMER', 's:consumer', 'g', 'carol'],
      ['target', 'XGROUP', 'SETID', 's:read', 'g', '1-1', 'ENTRIESREAD', 2],
      ['target', 'XSETID', 's:added', '2-1', 'ENTRIESADDED', 9, 'MAXDELETEDID', '0-0'],
      ['target', 'XSETID', 's:deleted', '2-1', 'ENTRIESADDED', 2, 'MAXDELETEDID', '0-7'],
      ['target', 'XGROUP', 'CREATE', 's:groups', 'h', '0'],
      ['both', 'SELECT', 9],
      ['target', 'SET', 'elsewhere', 'there'],
      ['target', 'SET', 'new there', 1],
      ['both', 'SELECT', 0],
      ['target', 'FUNCTION', 'FLUSH'],
    ]);
    const streams = [
      ...['entry', 'last', 'group', 'pending', 'owner', 'deliveries', 'time', 'consumer'],
      ...['read', 'added', 'deleted', 'groups'],
    ];
    const values = ['text', 'list', 'hash', 'set', 'zset', 'big:string', 'many:stream', 'big:entries'];
    const expected = [
      ...[...values, ...BIG.map(([key]) => key), ...streams.map((name) => `s:${name}`)].map(
        (key) => `db0 ${key}: value`,
      ),
      'db0 gone: missing',
      'db0 new: extra',
      'db0 wrong type: type',
      'db0 short: expiry',
      'db0 forever: expiry',
      'db9 elsewhere: value',
      'db9 new there: extra',
      'dbnull demo: library',
    ].sort();
    const counts = { different: expected.length - 3, missing: 1, extra: 2, unsettled: 0, repaired: 0 };
    const full = await verified(pair);
    assert.deepEqual(full.found, expected);
    assert.deepEqual({ ...full.result, compared: 0 }, { ...counts, compared: 0 });
    // a sample of as many keys as there are is all of them
    assert.deepEqual((await verified(pair, { mode: 'sample' })).found, expected);
    const count = await verified(pair, { mode: 'count' });
    assert.deepEqual([count.result.missing, count.result.extra, count.result.different], [0, 1, 0]);
    assert.deepEqual((await verified(pair, { rounds: 0 })).found, expected);

    const repaired = await verified(pair, { repair: 'differing' });
    const kept = repaired.mismatches.filter((mismatch) => mismatch.repaired !== true);
    assert.deepEqual(kept.map(({ key, kind }) => `${key}: ${kind}`).sort(), [
      'demo: library',
      'new there: extra',
      'new: extra',
    ]);
    assert.match(String(kept[0]?.repaired), /--repair-extra/);
    assert.deepEqual(
      { ...repaired.result, compared: 0 },
      { different: 1, missing: 0, extra: 2, unsettled: 0, repaired: expected.length - 3, compared: 0 },
    );
    assert.equal(repaired.result.compared, full.result.compared + 1);
    await pair.onTarget.call('FUNCTION', 'RESTORE', (await pair.onSource.call('FUNCTION', 'DUMP')) as Buffer);
    assert.equal((await verified(pair, { repair: 'all' })).result.repaired, 2);
    const { different, missing, extra, first } = await compareServers(pair.source.port, pair.target.port);
    assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 }, first ?? '');
  });

  it('a random sample finds what differs everywhere', async (t) => {
    const pair = await copied(t, { keys: 500 });
    await pair.onTarget.call('SELECT', 1);
    await pair.onTarget.call('FLUSHDB');
    const { result } = await verified(pair, { mode: 'sample', sampleKeys: 100 });
    assert.ok(result.missing > 0 && result.missing < 50, String(result.missing));
    assert.deepEqual([result.different, result.extra], [0, 0]);
  });

  for (const [kind, version] of [
    ['redis', '7.4.1'],
    ['valkey', '9.1.2'],
  ] as const) {
    const binary = release(kind, version);
    it(`${kind} ${version}: when fields of hashes expire`, { skip: binary === undefined }, async (t) => {
      const server = { binary: binary! };
      const pair = await copied(t, { source: server, target: server }, async (source) => {
        for (const [key, fields] of [
          ['small', 10],
          ['large', 3000],
        ] as const) {
          const names = Array.from({ length: fields }, (_, n) => `f${n}`);
          await source.call('HSET', key, ...names.flatMap((name) => [name, 'x'.repeat(60)]));
          await source.call(
            'HPEXPIREAT',
            key,
            Date.now() + HOUR_MS,
            'FIELDS',
            fields / 2,
            ...names.slice(fields / 2),
          );
        }
        await source.call('HSET', 'plain', 'a', 1);
      });
      assert.deepEqual((await verified(pair)).result, { ...EQUAL, compared: 3 });
      await play(pair, [
        ['target', 'HPEXPIREAT', 'small', Date.now() + HOUR_MS + 5000, 'FIELDS', 1, 'f9'],
        ['target', 'HPERSIST', 'large', 'FIELDS', 1, 'f2900'],
        ['target', 'HPEXPIREAT', 'plain', Date.now() + HOUR_MS, 'FIELDS', 1, 'a'],
      ]);
      const expected = ['db0 large: value', 'db0 plain: field-expiry', 'db0 small: field-expiry'];
      assert.deepEqual((await verified(pair)).found, expected);
      assert.equal((await verified(pair, { repair: 'differing' })).result.repaired, 3);
      assert.deepEqual((await verified(pair)).result, { ...EQUAL, compared: 3 });
      await pair.onTarget.call('HSET', 'large', 'more', 'x');
      assert.deepEqual((await verified(pair)).found, ['db0 large: value']);
    });
  }

  for (const [from, to] of [
    ['2.8.17', '5.0.10'],
    ['6.2.14', '8.2.3'],
  ] as const) {
    const [old, young] = [release('redis', from), release('redis', to)];
    it(`redis ${from} and ${to}`, { skip: old === undefined || young === undefined }, async (t) => {
      const servers = { source: { binary: old! }, target: { binary: young! } };
      const pair = await copied(t, { keys: 500, ...servers }, async (source) => {
        await source.call('SET', 'soon', 'x', 'EX', 3600);
        await source.call('RPUSH', 'list', 1, 2);
        await source.call('SETEX', 'later', 3600, 'x');
      });
      const all = await verified(pair);
      assert.deepEqual({ ...all.result, compared: 0 }, { ...EQUAL, compared: 0 }, all.found.join());
      await play(pair, [
        ['target', 'EXPIRE', 'soon', 3700],
        ['target', 'RPUSH', 'list', 3],
        ['target', 'HSET', 'big:hash', 'more', 'x'],
        ['target', 'DEL', 'later'],
      ]);
      const expected = ['db0 big:hash: value', 'db0 later: missing', 'db0 list: value', 'db0 soon: expiry'];
      assert.deepEqual((await verified(pair)).found, expected);
      assert.equal((await verified(pair, { repair: 'differing' })).result.repaired, 4);
      assert.deepEqual((await verified(pair)).found, []);
    });
  }
});

describe('verify while a pair is in sync', { concurrency: 2 }, () => {
  for (const feed of ['write', 'attach'] as const) {
    it(`${feed}: traffic is no difference, and what differs is found`, async (t) => {
      const scene = await inSync(t, { feed });
      const { source, target, onSource } = scene;
      // due so soon that feed write holds them
      for (let n = 0; n < 50; n++) await onSource.call('SET', `soon:${n}`, n, 'EX', 100);
      const traffic = await startTraffic({ port: source.port, ratePerSecond: 500 });
      atEnd(t, async () => {
        await traffic.stop();
      });
      const live = { rounds: 3, lastRoundMs: 800 };
      const calm = await verified({ source, target }, live);
      assert.deepEqual(
        [calm.result.different, calm.result.missing, calm.result.extra],
        [0, 0, 0],
        calm.found.join(),
      );
      assert.ok(calm.result.compared >= 550, String(calm.result.compared));

      // as nobody may: the fence is for users, and this one has its rights back; a replica is made writable
      if (feed === 'attach') await scene.onTarget.call('CONFIG', 'SET', 'replica-read-only', 'no');
      else await scene.onTarget.call('ACL', 'SETUSER', 'default', '+@all');
      await scene.onTarget.call('DEL', 'soon:7');
      await scene.onTarget.call('APPEND', 'soon:8', 'x');
      const damaged = await verified({ source, target }, live);
      const judged = damaged.mismatches.filter(({ kind }) => kind !== 'unsettled');
      assert.deepEqual(judged.map(({ key, kind }) => `${key}: ${kind}`).sort(), [
        'soon:7: missing',
        'soon:8: value',
      ]);

      await assert.rejects(
        verified({ source, target }, { repair: 'differing' }),
        (error) => error instanceof CutoverError && error.code === 'repair-unsafe',
      );
    });
  }

  it('a held expiry without a run is a difference', async (t) => {
    const pair = await copied(t, {}, async (source) => {
      await source.call('SET', 'a', 1, 'EX', 3600);
    });
    const told = Number(await pair.onTarget.call('PEXPIRETIME', 'a'));
    await pair.onTarget.call('PEXPIREAT', 'a', told + 40_123_456_789_000);
    assert.deepEqual((await verified(pair)).found, ['db0 a: expiry']);
    await pair.onTarget.call('HSET', 'redis-cutover:checkpoint', 'run', 'x');
    assert.deepEqual((await verified(pair)).found, []);
  });

  it('a key that is written to all the time is not judged', async (t) => {
    const pair = await copied(t, {}, async (source) => {
      await source.call('SET', 'hot', 0);
    });
    const traffic = setInterval(() => void pair.onSource.call('INCR', 'hot').catch(() => undefined), 1);
    t.after(() => clearInterval(traffic));
    const { result, found } = await verified(pair, { lastRoundMs: 200, repair: 'all' });
    assert.deepEqual(result, { ...EQUAL, compared: 1, unsettled: 1 });
    assert.deepEqual(found, ['db0 hot: unsettled']);
    assert.equal(String(await pair.onTarget.call('GET', 'hot')), '0', 'nor repaired');
  });
});

describe('repair', () => {
  const unsafe = (error: unknown): boolean =>
    error instanceof CutoverError && error.code === 'repair-unsafe' && error.exitCode === 3;

  it('is refused where it could lose or double a write', async (t) => {
    const pair = await copied(t, {}, async (source) => {
      await source.call('SET', 'a', 1);
    });
    const { source, target, onSource, onTarget } = pair;
    await onTarget.call('SET', 'a', 2);
    for (const key of ['redis-cutover:lease', 'redis-cutover:checkpoint']) {
      for (const side of [onTarget, onSource]) {
        await side.call('HSET', key, 'run', 'x');
        await assert.rejects(verified(pair, { repair: 'differing' }), unsafe);
        await side.call('DEL', key);
      }
    }
    // as behind a cutover: by ACL, or before 6.0 by replicas that there are not
    const fences: readonly (readonly [Arg[], Arg[]])[] = [
      [
        ['ACL', 'SETUSER', 'default', '-@write'],
        ['ACL', 'SETUSER', 'default', '+@write'],
      ],
      [
        ['CONFIG', 'SET', 'min-replicas-to-write', 3],
        ['CONFIG', 'SET', 'min-replicas-to-write', 0],
      ],
    ];
    for (const [set, lift] of fences) {
      await onSource.call(...(set as [string, ...Arg[]]));
      await assert.rejects(verified(pair, { repair: 'all' }), unsafe);
      await onSource.call(...(lift as [string, ...Arg[]]));
    }
    assert.equal(String(await onTarget.call('GET', 'a')), '2');
    // somebody else writes to the target while it is compared
    const writer = setInterval(() => void onTarget.call('INCR', 'other').catch(() => undefined), 5);
    await assert.rejects(verified(pair, { repair: 'differing' }), unsafe);
    clearInterval(writer);
    await onTarget.call('SLAVEOF', '127.0.0.1', source.port);
    await assert.rejects(verified(pair, { repair: 'differing' }), unsafe);
    await onTarget.call('SLAVEOF', 'NO', 'ONE');
    await onSource.call('SLAVEOF', '127.0.0.1', target.port);
    await until(async () => (await infoField(onSource, 'replication', 'master_link_status')) === 'up');
    await assert.rejects(verified(pair, { repair: 'differing' }), unsafe);
  });
});

describe('the command', () => {
  it('lists keys with hostile names, and never a value', async (t) => {
    const pair = await copied(t);
    const names = ['\x1b[31mred', '\u202egnp', 'a\nb', '"}', 'x'.repeat(5000)].map((name) =>
      Buffer.from(name),
    );
    names.push(Buffer.from([0xff, 0, 0x80]));
    for (const name of names) await pair.onSource.call('SET', name, 'the value of it');
    const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-verify-'));
    atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, 'keys.ndjson');
    const { io, events } = recorder();
    const spec = { name: 'cart', source: at(pair.source), target: at(pair.target) };
    assert.equal(await runVerify([spec], OPTIONS, path, io), 5);

    const text = readFileSync(path, 'utf8');
    const lines = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const listed = lines.map(({ key, keyBase64 }) =>
      key === undefined ? Buffer.from(String(keyBase64), 'base64') : Buffer.from(String(key)),
    );
    assert.deepEqual(listed.sort(Buffer.compare), names.sort(Buffer.compare));
    assert.ok(lines.every(({ pair: name, kind, db }) => name === 'cart' && kind === 'missing' && db === 0));
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const shown = JSON.stringify(events);
    assert.doesNotMatch(text + shown, /the value/);
    assert.doesNotMatch(
      text + events.map((event) => ('message' in event ? event.message : '')).join(),
      /[\x00-\x09\x0b-\x1f\u202e]/,
    );
    assert.deepEqual(events.at(-1), { event: 'summary', outcome: 'different', exitCode: 5, pairs: [] });

    // not overwritten; and equal again
    await assert.rejects(runVerify([spec], OPTIONS, path, io), /cannot be written: EEXIST/);
    await pair.onSource.call('FLUSHALL');
    assert.equal(await runVerify([spec], OPTIONS, null, io), 0);
    const gone = { ...spec, name: 'gone', source: { ...spec.source, port: 1 } };
    assert.equal(await runVerify([gone, spec], OPTIONS, null, io), 7);
    assert.equal(await runVerify([gone], OPTIONS, null, io), 1);
  });

  it('says it to scripts: exit 0 and 5, the summary last', async (t) => {
    const pair = await copied(t, { keys: 300 });
    const verify = async (...args: string[]): Promise<readonly CliEvent[]> => {
      const servers = ['--src', pair.source.uri, '--dst', pair.target.uri];
      const run = runCli(['verify', ...servers, '--json', '--rounds', '0', ...args], { t });
      const exitCode = await run.exit;
      assert.equal(run.events.at(-1)?.['exitCode'], exitCode, run.stdout() + run.stderr());
      return run.events;
    };
    const equal = await verify();
    assert.equal(equal.at(-1)?.['outcome'], 'equal');
    const result = equal.find(({ event }) => event === 'verify');
    assert.deepEqual([result?.['compared'], result?.['different']], [300, 0]);
    await pair.onTarget.call('DEL', 'big:hash');
    const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-verify-'));
    atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'found.json');
    const different = await verify('--mode', 'count', '--report', file);
    const report = JSON.parse(readFileSync(file, 'utf8')) as RunReport;
    assert.deepEqual([report.outcome, report.pairs[0]?.verifies[0]?.missing], ['different', 1]);
    assert.equal(different.at(-1)?.['exitCode'], 5);
    assert.equal(different.find(({ event }) => event === 'verify')?.['missing'], 1);
  });

  it('needs no right to write', async (t) => {
    const pair = await copied(t, { keys: 3000 });
    await pair.onSource.call('CONFIG', 'SET', 'requirepass', 'canary-1');
    const rights = ['~*', '+@read', '+@connection', '+info', '+time', '+function|list'];
    await pair.onTarget.call('ACL', 'SETUSER', 'reader', 'on', '>canary-2', ...rights);
    const spec = {
      name: 'cart',
      source: { ...at(pair.source), password: new Secret('canary-1') },
      target: { ...at(pair.target), username: 'reader', password: new Secret('canary-2') },
    };
    const { io, events } = recorder();
    assert.equal(await runVerify([spec], OPTIONS, null, io), 0, JSON.stringify(events));
    const wrong = { ...spec, target: { ...spec.target, password: new Secret('canary-3') } };
    assert.equal(await runVerify([wrong], OPTIONS, null, io), 4);
    await pair.onTarget.call('ACL', 'SETUSER', 'reader', '-type');
    assert.equal(await runVerify([spec], OPTIONS, null, io), 1);
    // a single key that may not be read, among many pages of others
    await pair.onTarget.call('ACL', 'SETUSER', 'reader', '+type', 'resetkeys', '~[^e]*');
    assert.equal(await runVerify([spec], OPTIONS, null, io), 1);
    assert.match(JSON.stringify(events), /TYPE refused by the target .*NOPERM/);
    assert.doesNotMatch(JSON.stringify(events), /canary/);
  });

  it('ends at once when it is called off', async (t) => {
    const pair = await copied(t);
    await pair.onSource.call('SET', 'a', 1);
    const abort = new AbortController();
    const { io, events } = recorder();
    const spec = { name: 'cart', source: at(pair.source), target: at(pair.target) };
    const comparing = comparePair(spec, { ...OPTIONS, lastRoundMs: HOUR_MS }, null, {
      ...io,
      signal: abort.signal,
    });
    await until(() => events.some(({ event }) => event === 'verify-progress'));
    abort.abort();
    await assert.rejects(within(comparing, VERIFY_MS, 'the end'), { name: 'AbortError' });
  });
});

function recorder(): { io: { renderer: Renderer; signal: AbortSignal }; events: MigrationEvent[] } {
  const events: MigrationEvent[] = [];
  const renderer: Renderer = {
    event: (event) => void events.push(event),
    frame() {},
    say() {},
    step: () => () => undefined,
    close() {},
  };
  return { io: { renderer, signal: new AbortController().signal }, events };
}
