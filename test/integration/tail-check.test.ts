/** The last keys of both servers compared, on real servers of the oldest, the usual and the newest release there is. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import type { Role } from '../../src/client/dial.ts';
import { ServerSession } from '../../src/client/session.ts';
import { Secret } from '../../src/core/endpoint.ts';
import { keyDigest } from '../../src/core/key-digest.ts';
import { compareTail, latestKeys, type TailKey } from '../../src/migrate/tail-check.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import { encodeCommand } from '../../src/resp/encode.ts';
import { testClient } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { testServer } from '../helpers/server.ts';

/** Words of commands; a stream out of them. */
type Words = [string, ...string[]];

const cleanups: (() => void | Promise<void>)[] = [];
const cleanup = { after: (end: () => void | Promise<void>): void => void cleanups.unshift(end) };
let left: RespConnection;
let right: RespConnection;
let source: ServerSession;
let target: ServerSession;

async function session(role: Role, port: number, login?: readonly [string, string]): Promise<ServerSession> {
  const opened = await ServerSession.open(
    {
      host: '127.0.0.1',
      port,
      username: login?.[0] ?? null,
      password: login === undefined ? null : new Secret(login[1]),
      tls: null,
    },
    role,
    { connectTimeoutMs: 10_000 },
  );
  cleanup.after(() => opened.close());
  return opened;
}

before(async () => {
  const servers = await Promise.all([testServer(cleanup), testServer(cleanup)]);
  [left, right] = await Promise.all([
    testClient(cleanup, servers[0].port),
    testClient(cleanup, servers[1].port),
  ]);
  source = await session('source', servers[0].port);
  target = await session('target', servers[1].port);
});
after(async () => {
  for (const end of cleanups) await end();
});
beforeEach(async () => {
  for (const client of [left, right]) {
    await client.call('FLUSHALL');
    await client.call('SELECT', '0');
  }
});

function keysOf(commands: readonly Words[]): TailKey[] {
  return latestKeys(Buffer.concat(commands.map((words) => encodeCommand(words))), 0, 100);
}

async function run(client: RespConnection, commands: readonly Words[]): Promise<void> {
  for (const words of commands) await client.call(...words);
}

const long = 'x'.repeat(5_000);
const WRITES: readonly Words[] = [
  ['SET', 'short', 'v'],
  ['SET', 'long', long],
  ['INCR', 'count'],
  ['APPEND', 'log', long],
  ['HSET', 'hash', 'f', 'v'],
  ['HSET', 'bighash', 'f', long],
  ['ZADD', 'zset', '0.1', 'm'],
  ['SADD', 'set', 'm'],
  ['RPUSH', 'list', 'a'],
  ['LPUSH', 'biglist', long],
  ['XADD', 'stream', '1-1', 'f', 'v'],
  ['PFADD', 'hll', 'a'],
  ['SET', 'gone', 'v'],
  ['DEL', 'gone'],
  ['HSET', 'old', 'f', 'v'],
  ['RENAME', 'old', 'new'],
  ['SELECT', '7'],
  ['SET', 'short', 'other'],
  ['SELECT', '3'],
  ['SADD', 'set', 'other'],
];

test('equal servers are equal, in all databases', async () => {
  await run(left, WRITES);
  await run(right, WRITES);
  const keys = keysOf(WRITES);
  assert.equal(keys.length, 17);
  assert.deepEqual(await compareTail(source, target, keys), { compared: 17, different: [], refused: null });
  assert.deepEqual(await compareTail(source, target, []), { compared: 0, different: [], refused: null });
});

test('the sessions are back in database 0', async () => {
  await run(left, [['SET', 'here', '0']]);
  await run(right, [['SET', 'here', '0']]);
  await compareTail(source, target, keysOf(WRITES));
  assert.equal(await source.call('GET', 'here'), '0');
  assert.equal(await target.call('GET', 'here'), '0');
});

const CHANGES: readonly (readonly [string, number, Words])[] = [
  ['short', 0, ['SET', 'short', 'w']],
  ['short', 0, ['SET', 'short', `v${long}`]],
  ['short', 0, ['DEL', 'short']],
  ['long', 0, ['APPEND', 'long', 'y']],
  ['long', 0, ['SETRANGE', 'long', '4999', 'y']],
  ['count', 0, ['INCR', 'count']],
  ['log', 0, ['SETRANGE', 'log', '0', 'y']],
  ['hash', 0, ['HSET', 'hash', 'f', 'w']],
  ['bighash', 0, ['HDEL', 'bighash', 'f']],
  ['zset', 0, ['ZADD', 'zset', '0.2', 'm']],
  ['set', 0, ['SREM', 'set', 'm']],
  ['list', 0, ['LSET', 'list', '0', 'b']],
  ['list', 0, ['LPUSH', 'list', 'b']],
  ['biglist', 0, ['RPUSH', 'biglist', 'b']],
  ['stream', 0, ['XADD', 'stream', '2-1', 'f', 'v']],
  ['gone', 0, ['SET', 'gone', 'v']],
  ['new', 0, ['DEL', 'new']],
  ['short', 7, ['SET', 'short', 'v']],
  ['set', 3, ['DEL', 'set']],
];

test('what differs is found, whatever the type, and named by its digest', async () => {
  for (const [key, db, change] of CHANGES) {
    await run(left, [['FLUSHALL'], ['SELECT', '0'], ...WRITES]);
    await run(right, [['FLUSHALL'], ['SELECT', '0'], ...WRITES, ['SELECT', String(db)], change]);
    const result = await compareTail(source, target, keysOf(WRITES));
    const different = [{ db, keyDigest: keyDigest(Buffer.from(key)) }];
    assert.deepEqual(result, { compared: 17, different, refused: null }, change.join(' ').slice(0, 40));
  }
});

test('another type is a difference', async () => {
  await run(left, [['SET', 'k', 'v']]);
  await run(right, [['HSET', 'k', 'f', 'v']]);
  assert.equal((await compareTail(source, target, keysOf([['SET', 'k', 'v']]))).different.length, 1);
  // nothing is wrong with a key that has another type than its last command says, on both
  await run(left, [
    ['DEL', 'k'],
    ['HSET', 'k', 'f', 'v'],
  ]);
  assert.equal((await compareTail(source, target, keysOf([['SET', 'k', 'v']]))).compared, 1);
});

test('a key that is about to expire proves nothing, one that lives on does', async () => {
  await run(left, [
    ['SET', 'k', 'v', 'PX', '4000'],
    ['SET', 'l', 'v', 'EX', '4000'],
  ]);
  const keys = keysOf([
    ['SET', 'k', 'v'],
    ['SET', 'l', 'v'],
  ]);
  const result = await compareTail(source, target, keys);
  assert.equal(result.compared, 1);
  assert.deepEqual(result.different, [{ db: 0, keyDigest: keyDigest(Buffer.from('l')) }]);
});

test('works while writes on the source are paused, and changes nothing', async () => {
  await run(left, WRITES);
  await run(right, WRITES);
  const dirty = async (): Promise<string> =>
    /rdb_changes_since_last_save:\d+/.exec(String(await left.call('INFO', 'persistence')))?.[0] ?? '';
  const was = await dirty();
  await left.call('CLIENT', 'PAUSE', '60000', 'WRITE');
  try {
    assert.equal((await compareTail(source, target, keysOf(WRITES))).compared, 17);
    assert.equal(await dirty(), was);
  } finally {
    await left.call('CLIENT', 'UNPAUSE');
  }
});

test('what the user may not read is not judged, and said', async () => {
  await run(left, WRITES);
  await run(left, [
    ['ACL', 'SETUSER', 'blind', 'on', '>canary', '+info', '+client'],
    ['ACL', 'SETUSER', 'some', 'on', '>canary', '~short', '+@read'],
  ]);
  const blind = await session('source', source.endpoint.port, ['blind', 'canary']);
  const nothing = await compareTail(blind, target, keysOf(WRITES));
  assert.deepEqual([nothing.compared, nothing.different.length, nothing.refused?.prefix], [0, 0, 'NOPERM']);
  // SELECT is refused to this one: what it reads behind it lies in another database
  const some = await session('source', source.endpoint.port, ['some', 'canary']);
  const result = await compareTail(some, target, keysOf(WRITES));
  assert.deepEqual(
    [result.compared, result.different, result.refused?.prefix],
    [1, [{ db: 0, keyDigest: keyDigest(Buffer.from('short')) }], 'NOPERM'],
  );
});

test('across releases the same data are the same', async (t) => {
  const releases = serverReleases();
  const writes: readonly Words[] = [
    ['SET', 'short', 'v'],
    ['APPEND', 'log', long],
    ['HSET', 'hash', 'f', 'v'],
    ['ZADD', 'zset', '0.1', 'm'],
    ['ZADD', 'inf', '-inf', 'm'],
    ['ZADD', 'big', '12345678901234567890', 'm'],
    ['SADD', 'set', 'm'],
    ['LPUSH', 'list', 'm'],
    ['DEL', 'gone'],
    ['RENAME', 'list', 'renamed'],
  ];
  const sessions: ServerSession[] = [];
  for (const release of [releases[0], releases.at(-1)]) {
    assert.ok(release);
    const server = await testServer(t, { binary: release.path });
    await run(await testClient(t, server.port), writes);
    sessions.push(await session('source', server.port));
  }
  const [one, other] = sessions;
  assert.ok(one && other);
  assert.deepEqual(await compareTail(one, other, keysOf(writes)), {
    compared: 10,
    different: [],
    refused: null,
  });
});
