/**
 * The demo's parts together, on every server release of this machine: a dataset, traffic, a native replica as
 * the copy, and the comparison, which must find the two equal, and unequal as soon as they are.
 * Needs: redis-server; more releases from `npm run servers`.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareServers } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { infoField, testClient } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';

const releases = serverReleases();
const newest = releases.filter(({ kind }) => kind === 'redis').at(-1);

for (const { kind, version, path } of releases) {
  test(`${kind} ${version}: dataset, traffic, a native replica, equality`, async (t) => {
    const source = await testServer(t, { binary: path });
    const copy = await testServer(t, { binary: path });
    assert.equal(source.version, version);
    const sourceClient = await testClient(t, source.port);
    const copyClient = await testClient(t, copy.port);

    assert.equal(await loadDataset(source.port, { keys: 5_000, bigMembers: 5_000 }), 5_000);
    const traffic = await startTraffic({ port: source.port });
    await copyClient.call('SLAVEOF', '127.0.0.1', source.port);
    await until(async () => (await infoField(copyClient, 'replication', 'master_link_status')) === 'up', {
      timeoutMs: 30_000,
      what: 'the replica link',
    });
    const whenUp = traffic.stats().acknowledged;
    await until(() => traffic.stats().acknowledged > whenUp + 1_000);
    const stats = await traffic.stop();
    assert.deepEqual([stats.refused, stats.unanswered, stats.lastError], [0, 0, null]);
    assert.equal(Number(await sourceClient.call('GET', WITNESS_KEY)), stats.witness);

    await until(
      async () =>
        Number(await infoField(copyClient, 'replication', 'slave_repl_offset')) >=
        Number(await infoField(sourceClient, 'replication', 'master_repl_offset')),
      { what: 'the replica to catch up' },
    );
    const equal = await compareServers(source.port, copy.port);
    assert.deepEqual([equal.first, equal.different, equal.missing, equal.extra], [null, 0, 0, 0]);
    assert.ok(equal.compared > 5_000);
    assert.match(equal.digestA ?? '', /^[0-9a-f]{40}$/);
    assert.equal(equal.digestA, equal.digestB);

    await copyClient.call('SLAVEOF', 'NO', 'ONE');
    await copyClient.pipeline([
      ['INCR', WITNESS_KEY],
      ['DEL', 'big:list'],
      ['SET', 'new', 'key'],
    ]);
    const unequal = await compareServers(source.port, copy.port);
    assert.deepEqual([unequal.different, unequal.missing, unequal.extra], [1, 1, 1]);
    assert.notEqual(unequal.digestA, unequal.digestB);
  });
}

for (const { kind, version, path } of releases) {
  // Replication goes from the older to the newer; Valkey's files are not for Redis beyond 7.2
  if (kind !== 'redis' || newest === undefined || version === newest.version) continue;
  test(`redis ${version} compares equal to its replica of ${newest.version}`, async (t) => {
    const source = await testServer(t, { binary: path });
    const copy = await testServer(t, { binary: newest.path });
    await loadDataset(source.port, { keys: 2_000, bigMembers: 2_000 });
    const client = await testClient(t, copy.port);
    await client.call('SLAVEOF', '127.0.0.1', source.port);
    await until(async () => (await infoField(client, 'replication', 'master_link_status')) === 'up', {
      timeoutMs: 30_000,
      what: 'the replica link',
    });
    const { digestA, digestB, ...found } = await compareServers(source.port, copy.port);
    assert.deepEqual([found.first, found.different, found.missing, found.extra], [null, 0, 0, 0]);
    assert.deepEqual([digestA, digestB], [null, null]);
  });
}
