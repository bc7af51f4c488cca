/** Snapshots of real servers, read and written to real servers; and the commands for targets of old. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { compareServers } from '../../../src/demo/compare.ts';
import { loadDataset } from '../../../src/demo/dataset.ts';
import { TYPE } from '../../../src/rdb/opcodes.ts';
import { RdbReader } from '../../../src/rdb/reader.ts';
import type { RespConnection } from '../../../src/resp/connection.ts';
import { Spool } from '../../../src/spool/spool.ts';
import { capabilitiesOf, type TargetCapabilities } from '../../../src/target/write/capabilities.ts';
import { CHECKPOINT_KEY } from '../../../src/target/write/checkpoint.ts';
import { TargetConnection } from '../../../src/target/write/connection.ts';
import { HeldTtls, SHIFT_MS } from '../../../src/target/write/held-ttls.ts';
import { LEASE_KEY } from '../../../src/target/write/lease.ts';
import { SnapshotWriter } from '../../../src/target/write/snapshot-writer.ts';
import { plain, testClient } from '../../helpers/client.ts';
import { serverReleases } from '../../helpers/releases.ts';
import { type Cleanup, testServer } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';
import { len, listpack, rdb, str } from '../rdb/build.ts';
import { dial, type FakeTarget, fakeTarget } from './support.ts';

/** The commands of this release; what is taken as a value is another matter: transcode.test.ts. */
const commandsOf = (major: number, minor: number): TargetCapabilities => ({
  ...capabilitiesOf({ major, minor }),
  forms: capabilitiesOf({ major: 9, minor: 0 }).forms,
});
const NEW = commandsOf(7, 0);
const OLD = commandsOf(2, 8);
/** Takes big collections by element only. */
const BEFORE_4: TargetCapabilities = {
  ...NEW,
  forms: new Set([...NEW.forms].filter((form) => form !== TYPE.zset2)),
};
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
  ttls: HeldTtls | null = null,
  chunks: readonly Buffer[] = inChunks(file),
): Promise<Loaded> {
  const loaded: Loaded = { errors: [], notes: [], aux: [] };
  const listener = {
    aux: (name: string, value: Buffer) => void loaded.aux.push(`${name}=${value}`),
    note: (message: string) => void loaded.notes.push(message),
  };
  const writer = new SnapshotWriter(capabilities, listener, ttls);
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
  for (const chunk of chunks) {
    spool.append(chunk, 1);
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

function inChunks(file: Buffer, size = 100_003): Buffer[] {
  return Array.from({ length: Math.ceil(file.length / size) }, (_, i) =>
    file.subarray(i * size, (i + 1) * size),
  );
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
    await assert.rejects(sent(t, OLD, ...parts), { code: 'would-lose', hint: /--allow-loss/ });
  });

  it('a big stream, for a target that takes an older form only: held until it is whole', async (t) => {
    const node = [str(Buffer.alloc(16)), str(listpack(['x'.repeat(2 << 20)]))];
    const ends = [len(0), len(9), len(0), len(0), len(0), len(0), len(0), len(3)];
    const consumer = (...times: number[]): Buffer =>
      Buffer.concat([str('me'), ...times.map((time) => Buffer.alloc(8, time)), len(0)]);
    const group = [len(1), str('g'), len(9), len(0), len(0), len(0), len(1)];
    const value = key(21, 's', len(1), ...node, ...ends, ...group, consumer(1, 2));
    const older = Buffer.concat([len(1), ...node, ...ends, ...group, consumer(1)]);
    const target = await sent(
      t,
      capabilitiesOf({ major: 7, minor: 0 }),
      expiry,
      value,
      key(0, 'after', str('1')),
    );
    assert.deepEqual(heads(target), ['SELECT 0', `RESTORE s ${LATER} REPLACE ABSTTL`, 'SET after 1']);
    const [, restore] = target.received;
    // type, value, version 10
    assert.equal(restore?.[3]?.slice(0, -8), `\x13${older.toString('latin1')}\x0a\0`);
  });

  it('a big collection: as it stands, or emptied first, in chunks, its expiry last', async (t) => {
    const texts = Array.from({ length: 50_000 }, (_, i) => `${i} `.padEnd(50, 'x'));
    const value = Buffer.concat([len(25_000), ...texts.map(str)]);
    const parts = [Buffer.from([254, 2]), expiry, key(4, 'big', value), key(0, 'after', str('1'))];
    const whole = await sent(t, NEW, ...parts);
    assert.deepEqual(
      whole.received.map((words) => words.filter((_, i) => words[0] !== 'RESTORE' || i !== 3)),
      [
        ['SELECT', '2'],
        ['RESTORE', 'big', String(LATER), 'REPLACE', 'ABSTTL'],
        ['SET', 'after', '1'],
      ],
    );
    assert.ok(whole.received[1]?.[3]?.slice(0, -10) === `\x04${value.toString('latin1')}`);
    const { received } = await sent(t, BEFORE_4, ...parts);
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

describe('expiries held back', () => {
  const NOW = 1_700_000_000_000;
  const SOON = NOW + 1_000;
  const FAR = LATER;
  const FIELDS: Readonly<Record<string, number>> = { soon: SOON, far: FAR };
  const due = (atMs: number): Buffer => {
    const bytes = Buffer.alloc(9, 252);
    bytes.writeBigInt64LE(BigInt(atMs), 1);
    return bytes;
  };
  const key = (type: number, name: string, ...value: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([type]), str(name), ...value]);
  const huge = 'h'.repeat((1 << 20) + 7);

  /** How much later `near` and the others are; null: none is held. */
  type Mode = 'all' | 'near' | 'none';
  function heldTtls(mode: Mode): HeldTtls {
    const ttls = new HeldTtls('/nowhere', () => NOW);
    if (mode === 'near') ttls.holdNear(30_000);
    if (mode === 'none') ttls.holdNone();
    return ttls;
  }
  const sentAs = (mode: Mode, atMs: number): number =>
    mode === 'all' || (mode === 'near' && atMs === SOON) ? atMs + SHIFT_MS : atMs;
  const noted = (ttls: HeldTtls): string[] =>
    [...ttls.take(100)].map(({ kind, db, keys }) => `${kind} ${db}: ${keys.join(' ')}`);

  /** Options of RESTORE in the place of its payload. */
  function shown(words: readonly string[]): string {
    return words
      .filter((_, i) => words[0] !== 'RESTORE' || i !== 3)
      .join(' ')
      .replace(huge, '…');
  }

  async function sent(
    t: Cleanup,
    capabilities: TargetCapabilities,
    mode: Mode,
    ...parts: Buffer[]
  ): Promise<{ seen: string[]; noted: string[] }> {
    const target = await fakeTarget(t);
    const ttls = heldTtls(mode);
    await load(t, rdb('REDIS0012', ...parts), target.port, capabilities, ttls);
    return { seen: target.received.map(shown), noted: noted(ttls) };
  }

  const members = Array.from({ length: 30_000 }, (_, i) => `${i} `.padEnd(50, 'x'));
  for (const mode of ['all', 'near', 'none'] as const) {
    it(`${mode}: of strings, payloads and big values`, async (t) => {
      const parts = [
        key(0, 'stays', str('1')),
        ...[due(SOON), key(0, 'a', str('1')), due(FAR), key(0, 'b', str('2'))],
        ...[due(SOON), Buffer.from([248, 9]), key(0, 'idle', str('3'))],
        ...[Buffer.from([254, 3]), due(FAR), key(16, 'h', str('lp')), due(SOON), key(16, 'i', str('lp'))],
        ...[due(SOON), key(0, 'huge', str(huge)), due(FAR), key(16, 'payload', str(huge))],
        ...[due(SOON), key(2, 'set', len(members.length), ...members.map(str)), key(0, 'last', str('1'))],
      ];
      const [soon, far] = [sentAs(mode, SOON), sentAs(mode, FAR)];
      const found = await sent(t, BEFORE_4, mode, ...parts);
      const simple = found.seen.filter((words) => !words.startsWith('SADD'));
      assert.deepEqual(simple, [
        'SELECT 0',
        'SET stays 1',
        `SET a 1 PXAT ${soon}`,
        `SET b 2 PXAT ${far}`,
        `RESTORE idle ${soon} REPLACE ABSTTL IDLETIME 9`,
        'SELECT 3',
        `RESTORE h ${far} REPLACE ABSTTL`,
        `RESTORE i ${soon} REPLACE ABSTTL`,
        `SET huge … PXAT ${soon}`,
        `RESTORE payload ${far} REPLACE ABSTTL`,
        'DEL set',
        `PEXPIREAT set ${soon}`,
        'SET last 1',
      ]);
      assert.deepEqual(found.noted, mode === 'near' ? ['keys 0: a idle', 'keys 3: i huge set'] : []);

      // 5.0: no SET … PXAT; and what is older still knows no absolute expiry in RESTORE
      const fair = await sent(t, commandsOf(5, 0), mode, ...parts);
      assert.deepEqual(
        fair.seen.filter((words) => !words.startsWith('SADD')),
        [
          'SELECT 0',
          'SET stays 1',
          `RESTORE a ${soon} REPLACE ABSTTL`,
          `RESTORE b ${far} REPLACE ABSTTL`,
          ...simple.slice(4, 8),
          'SET huge …',
          `PEXPIREAT huge ${soon}`,
          ...simple.slice(9, 10),
          `RESTORE set ${soon} REPLACE ABSTTL`,
          ...simple.slice(12),
        ],
      );
      const old = await sent(t, OLD, mode, due(FAR), key(0, 'b', str('2')));
      const left = Number(/^RESTORE b (\d+)$/.exec(old.seen[2] ?? '')?.[1]);
      assert.ok(Math.abs(left - (far - Date.now())) < 60_000, old.seen.join('; '));
    });
  }

  it('an expiry in the past is held like any other', async (t) => {
    const { seen } = await sent(
      t,
      NEW,
      'all',
      due(0),
      key(0, 'a', str('1')),
      due(5),
      key(16, 'h', str('lp')),
    );
    const expected = [`SET a 1 PXAT ${SHIFT_MS}`, `RESTORE h ${5 + SHIFT_MS} REPLACE ABSTTL`];
    assert.deepEqual(seen, ['SELECT 0', ...expected]);
  });

  it('what is read again from an entry’s start is held by what holds then', async (t) => {
    const parts = [due(FAR), key(0, 'a', str('1')), due(SOON), key(0, 'huge', str(huge))];
    const file = rdb('REDIS0012', ...parts);
    const ttls = heldTtls('all');
    for (const [mode, expected] of [
      ['all', [`SET a 1 PXAT ${FAR + SHIFT_MS}`, `SET huge … PXAT ${SOON + SHIFT_MS}`]],
      ['near', [`SET a 1 PXAT ${FAR}`, `SET huge … PXAT ${SOON + SHIFT_MS}`]],
      ['none', [`SET a 1 PXAT ${FAR}`, `SET huge … PXAT ${SOON}`]],
    ] as const) {
      if (mode === 'near') ttls.holdNear(30_000);
      if (mode === 'none') ttls.holdNone();
      const target = await fakeTarget(t);
      await load(t, file, target.port, NEW, ttls);
      assert.deepEqual(target.received.map(shown).slice(1), expected);
    }
  });

  it('the first bytes of a big hash whose fields expire, however they come', async (t) => {
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(BigInt(SOON));
    const value = Buffer.concat([head, len(2), len(1), str('f'), str(huge), len(0), str('g'), str('v')]);
    const before = Buffer.concat([Buffer.from('REDIS0012'), Buffer.of(24), str('hash')]);
    const file = rdb('REDIS0012', key(24, 'hash', value));
    const chunks = (at: number): Buffer[] => [
      file.subarray(0, before.length),
      file.subarray(before.length, before.length + at),
      file.subarray(before.length + at),
    ];
    const ways = [
      inChunks(file),
      ...Array.from({ length: 10 }, (_, i) => chunks(i + 1)),
      [...inChunks(file.subarray(0, before.length + 20), 1), file.subarray(before.length + 20)],
    ];
    for (const way of ways) {
      const target = await fakeTarget(t);
      const ttls = heldTtls('near');
      await load(t, file, target.port, NEW, ttls, way);
      const payload = Buffer.from(target.received[1]?.[3] ?? '', 'latin1');
      assert.equal(payload.readBigUInt64LE(1), BigInt(SOON + SHIFT_MS));
      assert.ok(payload.subarray(9, -10).equals(value.subarray(8)));
      assert.deepEqual(noted(ttls), ['hashes 0: hash']);
    }
  });

  const releases = serverReleases().filter(
    ({ kind, major, minor }) => kind === 'redis' && (major > 7 || (major === 7 && minor >= 4)),
  );
  if (releases.length === 0) it('fields of hashes', { skip: 'no Redis >= 7.4 is here' }, () => {});
  for (const release of releases) {
    it(`fields of hashes, ${release.version}`, async (t) => {
      const [source, target] = await Promise.all([
        testServer(t, { binary: release.path }),
        testServer(t, { binary: release.path }),
      ]);
      const from = await testClient(t, source.port);
      const to = await testClient(t, target.port);
      // so far from now that nothing is lost while the test runs; the clock of what is near is put forward instead
      const soon = Date.now() + 3_600_000;
      const at: Readonly<Record<string, number>> = { ...FIELDS, soon };
      const hashes = ['small', 'table', 'huge', 'soon:key'];
      for (const name of hashes) {
        await from.call('HSET', name, 'soon', 1, 'far', 2, 'none', name === 'huge' ? randomText(2 << 20) : 3);
        for (const field of ['soon', 'far'])
          await from.call('HPEXPIREAT', name, at[field]!, 'FIELDS', 1, field);
        // too long for a listpack
        if (name !== 'small') await from.call('HSET', name, 'long', 'x'.repeat(100));
      }
      await from.call('PEXPIREAT', 'soon:key', soon + 1);
      await from.call('HSET', 'far', 'f', 'v');
      await from.call('HPEXPIREAT', 'far', FAR, 'FIELDS', 1, 'f');
      const file = await saved(from, source.dir);
      for (const mode of ['all', 'near', 'none'] as const) {
        const ttls = new HeldTtls('/nowhere', () => soon - 1);
        if (mode === 'near') ttls.holdNear(30_000);
        if (mode === 'none') ttls.holdNone();
        const { errors } = await load(t, file, target.port, capabilitiesOf(release), ttls);
        assert.deepEqual(errors, []);
        const held = mode === 'none' ? 0 : SHIFT_MS;
        for (const name of hashes) {
          const times = await to.call('HPEXPIRETIME', name, 'FIELDS', 3, 'soon', 'far', 'none');
          // all of a hash are held where one of them is
          assert.deepEqual(times, [soon + held, FAR + held, -1], `${name}, ${mode}`);
        }
        assert.deepEqual(await to.call('HPEXPIRETIME', 'far', 'FIELDS', 1, 'f'), [
          FAR + (mode === 'all' ? SHIFT_MS : 0),
        ]);
        assert.equal(await to.call('PEXPIRETIME', 'soon:key'), soon + 1 + held);
        assert.equal(await to.call('PEXPIRETIME', 'small'), -1);
        assert.deepEqual(
          noted(ttls).map((page) => page.split(' ').toSorted().join(' ')),
          mode === 'near' ? ['0: keys soon:key', '0: hashes huge small soon:key table'] : [],
        );
        // in an order of each server's own; a diff of megabytes would take minutes
        const [here, there] = [await to.call('HGETALL', 'huge'), await from.call('HGETALL', 'huge')];
        assert.ok(String((plain(here) as string[]).sort()) === String((plain(there) as string[]).sort()));
      }
    });
  }
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

it('a huge field of a hash takes memory for what has come, not for what is claimed', () => {
  const connection = new TargetConnection(new Socket(), {
    reply: () => {},
    nestedError: () => {},
    progress: () => {},
    lost: () => {},
  });
  const writer = new SnapshotWriter(NEW, { aux: () => {}, note: () => {} });
  writer.attach(connection);
  const key = Buffer.from('k');
  const none = { module: '', valueStart: 80, expireAtMs: -1, idleSeconds: -1, freq: -1 };
  writer.elementsStart({ start: 77, db: 0, type: 4, key, keyStart: 0, keyEnd: 1, ...none }, 'hash');
  const before = process.memoryUsage().arrayBuffers;
  writer.elementStart(500 << 20);
  writer.elementData(Buffer.alloc(1000), 0, 1000);
  assert.ok(process.memoryUsage().arrayBuffers - before < 100 << 20);
  assert.throws(() => writer.elementStart(2 ** 39), { code: 'rdb-format', offset: 77 });
});
