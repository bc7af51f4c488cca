/** Snapshots of real servers, read and written to real servers; and the commands for targets of old. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { compareServers } from '../../../src/demo/compare.ts';
import { loadDataset } from '../../../src/demo/dataset.ts';
import { RdbReader } from '../../../src/rdb/reader.ts';
import type { RespConnection } from '../../../src/resp/connection.ts';
import { Spool } from '../../../src/spool/spool.ts';
import { capabilitiesOf, type TargetCapabilities } from '../../../src/target/write/capabilities.ts';
import { CHECKPOINT_KEY } from '../../../src/target/write/checkpoint.ts';
import { TargetConnection } from '../../../src/target/write/connection.ts';
import { LEASE_KEY } from '../../../src/target/write/lease.ts';
import { SnapshotWriter } from '../../../src/target/write/snapshot-writer.ts';
import { plain, testClient } from '../../helpers/client.ts';
import { serverReleases } from '../../helpers/releases.ts';
import { type Cleanup, testServer } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';
import { len, rdb, str } from '../rdb/build.ts';
import { dial, type FakeTarget, fakeTarget } from './support.ts';

const NEW = capabilitiesOf({ major: 7, minor: 0 });
const OLD = capabilitiesOf({ major: 2, minor: 8 });
const LATER = 4_102_444_800_123;

interface Loaded {
  readonly errors: string[];
  readonly notes: string[];
  readonly aux: string[];
}

/** Loads a snapshot through spool and reader, as the feed does; resolves when the target has answered all. */
async function load(
  t: Cleanup,
  file: Buffer,
  port: number,
  capabilities: TargetCapabilities = NEW,
): Promise<Loaded> {
  const loaded: Loaded = { errors: [], notes: [], aux: [] };
  const writer = new SnapshotWriter(capabilities, {
    aux: (name, value) => loaded.aux.push(`${name}=${value}`),
    note: (message) => loaded.notes.push(message),
  });
  const spool = new Spool({ dir: '/nowhere', memoryBytes: Number.POSITIVE_INFINITY, limitBytes: 0 });
  const reader = new RdbReader(writer);
  let failure: unknown = null;
  const pump = (): void => {
    try {
      while (!reader.done && !connection.full && failure === null) {
        const available = spool.end - reader.position;
        if (available === 0) break;
        const view = spool.view(reader.position, reader.want);
        if (!reader.consume(view) && view.length === available) break;
      }
      connection.out.flush();
      spool.release(Math.min(reader.keepFrom, connection.oldestTag ?? Number.POSITIVE_INFINITY));
    } catch (error) {
      failure = error;
    }
  };
  const connection = new TargetConnection(await dial(t, port), {
    reply: (tag, line) => {
      if (line !== null) loaded.errors.push(`${tag} ${line}`);
    },
    nestedError: () => {},
    progress: pump,
    lost: (error) => {
      failure = error;
    },
  });
  writer.attach(connection);
  for (let at = 0; at < file.length; at += 100_003) {
    spool.append(file.subarray(at, at + 100_003), 1);
    pump();
  }
  await until(() => failure !== null || (reader.done && connection.unanswered === 0), {
    timeoutMs: 60_000,
    what: 'all answers',
  });
  connection.close();
  if (failure !== null) throw failure;
  return loaded;
}

async function saved(client: RespConnection, dir: string): Promise<Buffer> {
  await client.call('SAVE');
  return readFileSync(join(dir, 'dump.rdb'));
}

/** DEBUG DIGEST-VALUE of every key, by database. */
async function digests(client: RespConnection): Promise<Map<string, unknown>> {
  const found = new Map<string, unknown>();
  for (let db = 0; db < 16; db++) {
    await client.call('SELECT', db);
    for (const key of (await client.call('KEYS', '*')) as Buffer[]) {
      const [digest] = (await client.call('DEBUG', 'DIGEST-VALUE', key)) as Buffer[];
      const type = plain(await client.call('TYPE', key));
      found.set(
        `${db} ${key.toString('latin1')}`,
        `${type} ${digest} ${await client.call('PEXPIRETIME', key)}`,
      );
    }
  }
  await client.call('SELECT', 0);
  return found;
}

async function fill(client: RespConnection): Promise<void> {
  const huge = 'h'.repeat((1 << 20) + 7);
  await client.call('DEBUG', 'QUICKLIST-PACKED-THRESHOLD', '20000b');
  const commands: (string | number)[][] = [
    ['SET', '', 'a key without a name'],
    ['SET', 'int', 12345],
    ['SET', '777', 'a key that is a number'],
    ['SET', 'binary', '\0\r\n$5\r\n'],
    ['SET', 'empty', ''],
    ['SET', 'lzf', 'abc'.repeat(5000)],
    ['SET', 'ttl', 'v', 'PXAT', LATER],
    ['SET', 'lzf:ttl', 'abc'.repeat(5000), 'PXAT', LATER],
    ['SET', 'huge', `${randomText(3 << 20)}`],
    ['SET', 'huge:ttl', `${randomText(2 << 20)}`, 'PXAT', LATER],
    ['RPUSH', 'list', 'a', 1, 'x'.repeat(100)],
    ['RPUSH', 'list:plain', 'small', randomText(30_000), huge],
    ['SADD', 'set:int', 1, 70_000, 5_000_000_000],
    ['SADD', 'set', 'a', 'x'.repeat(100)],
    ['HSET', 'hash', 'f', 'v', 'n', 12],
    ['HSET', 'hash:huge', huge, 'v', 'f', huge, 'n', 7],
    ['ZADD', 'zset', 1.5, 'm', '-inf', 'least', 0.1, 'tenth'],
    ['ZADD', 'zset:skip', 1.5, 'm', 'inf', 'x'.repeat(100)],
    ['XADD', 'stream', '1-1', 'f', 'v'],
    ['XGROUP', 'CREATE', 'stream', 'group', 0],
    ['XREADGROUP', 'GROUP', 'group', 'me', 'STREAMS', 'stream', '>'],
    ['PFADD', 'hll', 'a', 'b'],
    ['SELECT', 5],
    ['HSET', 'hash', 'f', 'v'],
    ['PEXPIREAT', 'hash', LATER],
    ['SELECT', 15],
    ['SET', 'last', 'v'],
    ['SELECT', 0],
  ];
  const texts = Array.from({ length: 40_000 }, (_, i) => `${i} ${randomText(60, i)}`);
  for (let at = 0; at < texts.length; at += 4000) {
    const some = texts.slice(at, at + 4000);
    commands.push(
      ['RPUSH', 'big:list', ...some],
      ['SADD', 'big:set', ...some],
      ['HSET', 'big:hash', ...some],
    );
    commands.push(['ZADD', 'big:zset', ...some.flatMap((text, i) => [(at + i) / 7, text])]);
  }
  for (let i = 0; i < 40_000; i += 1) commands.push(['XADD', 'big:stream', `${i + 1}-0`, 'f', texts[i]!]);
  commands.push(['PEXPIREAT', 'big:list', LATER], ['PEXPIREAT', 'big:stream', LATER]);
  commands.push([
    'FUNCTION',
    'LOAD',
    '#!lua name=lib\nredis.register_function("f", function() return 1 end)',
  ]);
  for (let at = 0; at < commands.length; at += 500) {
    for (const reply of await client.pipeline(commands.slice(at, at + 500)))
      assert.ok(!(reply instanceof Error), String(reply));
  }
}

describe('from a server to a server', () => {
  it('every kind of record arrives equal; again over what is there; also with the commands of old', async (t) => {
    const source = await testServer(t);
    const from = await testClient(t, source.port);
    await fill(from);
    const expected = await digests(from);
    const file = await saved(from, source.dir);
    const target = await testServer(t);
    const to = await testClient(t, target.port);
    // values of other types under the same keys: they give way
    await to.pipeline([
      ['SET', 'big:list', 'x'],
      ['RPUSH', 'huge', 'x'],
      ['HSET', 'list', 'f', 'v'],
      ['SET', 'big:stream', 'x', 'PX', 100_000],
    ]);
    for (const capabilities of [NEW, NEW, { ...OLD, functions: true }, { ...NEW, setPxat: false }]) {
      const { errors, notes } = await load(t, file, target.port, capabilities);
      assert.deepEqual(errors, []);
      assert.deepEqual(notes, []);
      const found = await digests(to);
      const ttlMayDiffer = !capabilities.restoreAbsttl;
      assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
      for (const [key, value] of found) {
        if (ttlMayDiffer) {
          const text = (one: unknown): string => String(one).replace(/ 41024448\d+$/, ' later');
          assert.equal(text(value), text(expected.get(key)), key);
        } else assert.equal(value, expected.get(key), key);
      }
      const library = plain(await to.call('FUNCTION', 'LIST'));
      assert.match(JSON.stringify(library), /"lib"/);
    }
  });

  for (const policy of ['allkeys-lru', 'allkeys-lfu'] as const) {
    it(`brings the usage of keys along: ${policy}`, async (t) => {
      const source = await testServer(t, { args: ['--maxmemory-policy', policy] });
      const target = await testServer(t, { args: ['--maxmemory-policy', policy] });
      const from = await testClient(t, source.port);
      const to = await testClient(t, target.port);
      await from.pipeline([
        ['SET', 'string', 'v'],
        ['SET', 'ttl', 'v', 'PXAT', LATER],
        ['RPUSH', 'list', 'a'],
        ...Array.from({ length: 300 }, () => ['GET', 'string']),
      ]);
      const usage = policy === 'allkeys-lru' ? 'IDLETIME' : 'FREQ';
      const { errors } = await load(t, await saved(from, source.dir), target.port);
      assert.deepEqual(errors, []);
      for (const key of ['string', 'ttl', 'list']) {
        const here = Number(await from.call('OBJECT', usage, key));
        const there = Number(await to.call('OBJECT', usage, key));
        assert.ok(Math.abs(here - there) <= 2, `${key}: ${here} and ${there}`);
      }
      assert.deepEqual(await digests(to), await digests(from));
    });
  }

  const releases = serverReleases().filter(({ kind, major }) => kind === 'redis' && major <= 5);
  for (const release of releases) {
    it(`${release.kind} ${release.version} to itself`, async (t) => {
      const source = await testServer(t, { binary: release.path });
      const target = await testServer(t, { binary: release.path });
      await loadDataset(source.port, { keys: 800, bigMembers: 30_000 });
      const from = await testClient(t, source.port);
      await from.call('SET', 'huge', randomText(2 << 20));
      await from.call('PEXPIRE', 'huge', 1_000_000);
      await from.call('RPUSH', 'list', 'a');
      await from.call('PEXPIRE', 'list', 1_000_000);
      const { errors } = await load(t, await saved(from, source.dir), target.port, capabilitiesOf(release));
      assert.deepEqual(errors, []);
      const comparison = await compareServers(source.port, target.port);
      assert.ok(comparison.compared > 700, `${comparison.compared} keys`);
      assert.deepEqual(
        [comparison.different, comparison.missing, comparison.extra],
        [0, 0, 0],
        comparison.first ?? '',
      );
    });
  }
  if (releases.length === 0) it('releases of old', { skip: 'none is here: npm run servers' }, () => {});
});

describe('commands', () => {
  const key = (type: number, name: string, ...value: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([type]), str(name), ...value]);
  const expiry = Buffer.alloc(9, 252);
  expiry.writeBigInt64LE(BigInt(LATER), 1);

  async function sent(
    t: Cleanup,
    capabilities: TargetCapabilities,
    ...parts: Buffer[]
  ): Promise<FakeTarget & Loaded> {
    const target = await fakeTarget(t);
    return { ...target, ...(await load(t, rdb('REDIS0011', ...parts), target.port, capabilities)) };
  }
  const heads = (target: FakeTarget): string[] =>
    target.received.map((words) => words.filter((_, i) => words[0] !== 'RESTORE' || i !== 3).join(' '));

  it('strings', async (t) => {
    const parts = [
      key(0, 'a', str('1')),
      expiry,
      key(0, 'b', str('2')),
      Buffer.from([254, 3, 248, 9]),
      key(0, 'c', str('3')),
    ];
    assert.deepEqual(heads(await sent(t, NEW, ...parts)), [
      'SELECT 0',
      'SET a 1',
      `SET b 2 PXAT ${LATER}`,
      'SELECT 3',
      'RESTORE c 0 REPLACE IDLETIME 9',
    ]);
    const old = heads(await sent(t, OLD, ...parts));
    assert.deepEqual(old.slice(0, 3), ['SELECT 0', 'SET a 1', 'DEL b']);
    assert.match(old[3]!, /^RESTORE b \d+$/);
    const left = Number(old[3]!.split(' ')[2]);
    assert.ok(Math.abs(left - (LATER - Date.now())) < 60_000);
    assert.deepEqual(old.slice(4), ['SELECT 3', 'DEL c', 'RESTORE c 0']);
  });

  it('an expiry in the past is 1: absolute or relative', async (t) => {
    const past = Buffer.alloc(9);
    past[0] = 252;
    for (const [capabilities, expected] of [
      [NEW, ['SELECT 0', 'SET a 1 PXAT 1', 'RESTORE h 1 REPLACE ABSTTL']],
      [OLD, ['SELECT 0', 'DEL a', 'RESTORE a 1', 'DEL h', 'RESTORE h 1']],
    ] as const) {
      const target = await sent(t, capabilities, past, key(0, 'a', str('1')), past, key(16, 'h', str('lp')));
      assert.deepEqual(heads(target), expected);
    }
  });

  it('our own keys of another run stay behind, in database 0 only', async (t) => {
    const fields = [len(1), str('f'), str('v')];
    const target = await sent(
      t,
      NEW,
      key(4, CHECKPOINT_KEY, ...fields),
      expiry,
      key(0, LEASE_KEY, str('v')),
      key(0, CHECKPOINT_KEY, str('x'.repeat(3 << 20))),
      key(16, CHECKPOINT_KEY, str('x'.repeat(3 << 20))),
      key(0, `${LEASE_KEY.slice(0, -1)}x`, str('v')),
      Buffer.from([254, 1]),
      key(0, LEASE_KEY, str('v')),
    );
    assert.deepEqual(heads(target), [
      'SELECT 0',
      `SET ${LEASE_KEY.slice(0, -1)}x v`,
      'SELECT 1',
      `SET ${LEASE_KEY} v`,
    ]);
  });

  it('scripts and functions, and what is passed over', async (t) => {
    const parts = [
      ...[
        Buffer.from([250]),
        str('lua'),
        str('return 1'),
        Buffer.from([250]),
        str('redis-ver'),
        str('7.0.0'),
      ],
      ...[Buffer.from([245]), str('#!lua name=x\n')],
      ...[Buffer.from([247]), len(1), len(2), len(1), len(0)],
      ...[Buffer.from([247]), len(1), len(2), len(1), len(0)],
    ];
    const target = await sent(t, NEW, ...parts);
    assert.deepEqual(heads(target), ['SCRIPT LOAD return 1', 'FUNCTION LOAD REPLACE #!lua name=x\n']);
    assert.deepEqual(target.aux, ['lua=return 1', 'redis-ver=7.0.0']);
    assert.equal(target.notes.length, 1);
    const old = await sent(t, OLD, ...parts);
    assert.deepEqual(heads(old), ['SCRIPT LOAD return 1']);
    assert.match(old.notes.join(), /function libraries, which the target is too old for/);
  });

  it('a big collection: emptied first, in chunks, its expiry last', async (t) => {
    const texts = Array.from({ length: 50_000 }, (_, i) => `${i} `.padEnd(50, 'x'));
    const target = await sent(
      t,
      NEW,
      Buffer.from([254, 2]),
      expiry,
      key(4, 'big', len(25_000), ...texts.map(str)),
      key(0, 'after', str('1')),
    );
    const { received } = target;
    assert.deepEqual(received.slice(0, 2), [
      ['SELECT', '2'],
      ['DEL', 'big'],
    ]);
    assert.deepEqual(received.slice(-2), [
      ['PEXPIREAT', 'big', String(LATER)],
      ['SET', 'after', '1'],
    ]);
    const chunks = received.slice(2, -2);
    for (const words of chunks) {
      assert.deepEqual(words.slice(0, 2), ['HMSET', 'big']);
      assert.ok(words.length <= 2 + 2 * 1500, `${words.length} words`);
    }
    assert.deepEqual(
      chunks.flatMap((words) => words.slice(2)),
      texts,
    );
  });
});

/** Printable, does not compress, the same each time. */
function randomText(size: number, seed = 1): string {
  let state = (Math.imul(seed, 2654435761) + 12345) >>> 0;
  const codes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    codes[i] = 33 + ((state >>> 16) % 90);
  }
  return codes.toString('latin1');
}
