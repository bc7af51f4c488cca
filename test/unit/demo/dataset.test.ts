/** The dataset: repeatable by seed, all types, three databases, nothing about to expire. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareServers, digest } from '../../../src/demo/compare.ts';
import { DATABASES, loadDataset } from '../../../src/demo/dataset.ts';
import { findServer } from '../../../src/demo/find-server.ts';
import { randomFrom } from '../../../src/demo/random.ts';
import { testClient } from '../../helpers/client.ts';
import { serverReleases } from '../../helpers/releases.ts';
import { testServer } from '../../helpers/server.ts';

const SMALL = { keys: 2_000, bigMembers: 2_000 };

test('the same seed gives the same data, another seed other data', async (t) => {
  const [one, two, three] = [await testServer(t), await testServer(t), await testServer(t)];
  await loadDataset(one.port, { ...SMALL, seed: 5 });
  await loadDataset(two.port, { ...SMALL, seed: 5 });
  await loadDataset(three.port, { ...SMALL, seed: 6 });
  assert.match((await digest(one.port)) ?? '', /^[0-9a-f]{40}$/);
  assert.equal(await digest(one.port), await digest(two.port));
  assert.notEqual(await digest(one.port), await digest(three.port));
});

test('it holds every type, in three databases, and as many keys as asked for', async (t) => {
  const server = await testServer(t);
  const client = await testClient(t, server.port);
  assert.equal(await loadDataset(server.port, SMALL), SMALL.keys);
  let total = 0;
  for (const database of DATABASES) {
    await client.call('SELECT', database);
    const size = Number(await client.call('DBSIZE'));
    assert.ok(size >= 200, `database ${database} holds ${size} keys`);
    total += size;
    const found = new Set<string>();
    let expiring = 0;
    const keys = await client.call('KEYS', '*');
    assert.ok(Array.isArray(keys));
    for (const key of keys as Buffer[]) {
      found.add(String(await client.call('TYPE', key)));
      const ttl = Number(await client.call('PTTL', key));
      if (ttl < 0) continue;
      expiring += 1;
      assert.ok(ttl > 3_500_000, `${key} expires in ${ttl} ms`);
    }
    assert.deepEqual([...found].sort(), ['hash', 'list', 'set', 'stream', 'string', 'zset']);
    assert.ok(expiring > size / 20);
  }
  assert.equal(total, SMALL.keys);
  await client.call('SELECT', 0);
  for (const [command, key] of [
    ['LLEN', 'big:list'],
    ['HLEN', 'big:hash'],
    ['SCARD', 'big:set'],
    ['ZCARD', 'big:zset'],
  ] as const) {
    assert.equal(await client.call(command, key), SMALL.bigMembers, key);
  }
  const groups = await client.call('XINFO', 'GROUPS', 'stream:6');
  assert.equal(Array.isArray(groups) && groups.length, 2);
  assert.ok(Number(await client.call('PFCOUNT', 'hll:7')) > 0);
  assert.equal(String(await client.call('GET', 'empty:value')), '');
  assert.equal(await client.call('FCALL', 'demo_double', 0, 21), 42);
});

test('streams can be left out, vector sets be asked for', async (t) => {
  const eight = serverReleases().find(({ kind, major }) => kind === 'redis' && major >= 8);
  const server = await testServer(t, { binary: eight?.path ?? findServer() });
  const client = await testClient(t, server.port);
  const vectorSets = eight !== undefined;
  assert.equal(await loadDataset(server.port, { ...SMALL, streams: false, vectorSets: true }), SMALL.keys);
  const keys = (await client.call('KEYS', '*')) as Buffer[];
  const types = (await client.pipeline(keys.map((key) => ['TYPE', key]))).map(String);
  assert.equal(types.filter((type) => type === 'stream').length, 0);
  assert.equal(types.filter((type) => type === 'vectorset').length, vectorSets ? 1 : 0);
  assert.equal(await client.call('EXISTS', 'big:hashttl'), vectorSets ? 1 : 0);
});

test('a server without room is reported', async (t) => {
  const server = await testServer(t, { args: ['--maxmemory', '2mb'] });
  await assert.rejects(loadDataset(server.port), { code: 'demo-dataset', message: /OOM/ });
});

test('loading twice into two servers compares equal but for the hour of expiry', async (t) => {
  const [one, two] = [await testServer(t), await testServer(t)];
  await loadDataset(one.port, SMALL);
  await loadDataset(two.port, SMALL);
  // Pending entries carry their delivery time: streams with groups differ by the moment of loading
  const found = await compareServers(one.port, two.port, { ttlToleranceMs: 60_000 });
  assert.equal(found.missing + found.extra, 0);
  assert.equal(found.digestA, found.digestB);
});

test('random numbers stay in range and depend on the seed', () => {
  const [one, same, other] = [randomFrom(1), randomFrom(1), randomFrom(2)];
  const draw = (random: ReturnType<typeof randomFrom>): number[] =>
    Array.from({ length: 1_000 }, () => random.below(10));
  const numbers = draw(one);
  assert.deepEqual(numbers, draw(same));
  assert.notDeepEqual(numbers, draw(other));
  assert.deepEqual([...new Set(numbers)].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});
