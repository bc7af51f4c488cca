/** The writer: its figures are true, and neither refusals nor lost connections stop it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareServers } from '../../../src/demo/compare.ts';
import { findServer } from '../../../src/demo/find-server.ts';
import { startServer } from '../../../src/demo/server.ts';
import { startTraffic, WITNESS_KEY } from '../../../src/demo/traffic.ts';
import { infoField, testClient } from '../../helpers/client.ts';
import { serverReleases } from '../../helpers/releases.ts';
import { testServer } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';

test('acknowledged writes are there, in three databases, of all kinds, inside and outside MULTI', async (t) => {
  const server = await testServer(t);
  const client = await testClient(t, server.port);
  const traffic = await startTraffic({ port: server.port, ratePerSecond: 20_000 });
  await until(() => traffic.stats().acknowledged > 10_000);
  const stats = await traffic.stop();
  assert.deepEqual([stats.refused, stats.unanswered, stats.lastError], [0, 0, null]);
  assert.equal(Number(await client.call('GET', WITNESS_KEY)), stats.witness);

  const commands = String(await client.call('INFO', 'commandstats'));
  let writes = 0;
  for (const [, name = '', calls] of commands.matchAll(/^cmdstat_(\w+):calls=(\d+)/gm)) {
    if (!['select', 'multi', 'exec', 'info', 'get', 'ping'].includes(name)) writes += Number(calls);
  }
  assert.equal(writes, stats.acknowledged);
  for (const name of 'incr hincrby append rpush lpop zincrby sadd spop incrbyfloat setrange set del xadd multi exec'.split(
    ' ',
  )) {
    assert.match(commands, new RegExp(`^cmdstat_${name}:`, 'm'));
  }
  const keyspace = String(await client.call('INFO', 'keyspace'));
  assert.deepEqual(
    [...keyspace.matchAll(/^db\d+/gm)].map(([name]) => name),
    ['db0', 'db1', 'db9'],
  );
  assert.deepEqual(await traffic.stop(), stats);
});

test('many forms: none of them is refused', async (t) => {
  const releases = serverReleases().filter(({ major }) => major === 2 || major >= 7);
  const binaries = releases.length > 0 ? releases.map(({ path }) => path) : [findServer()];
  for (const binary of binaries) {
    const server = await testServer(t, { binary });
    const traffic = await startTraffic({
      port: server.port,
      ratePerSecond: 50_000,
      keysPerType: 5,
      manyForms: true,
    });
    await until(() => traffic.stats().acknowledged > 2_000 || traffic.stats().refused > 0);
    const { refused, lastError } = await traffic.stop();
    assert.deepEqual([refused, lastError], [0, null], binary);
  }
});

test('the rate is kept', async (t) => {
  const server = await testServer(t);
  const traffic = await startTraffic({ port: server.port, ratePerSecond: 1_000 });
  const started = performance.now();
  await until(() => traffic.stats().acknowledged >= 1_000);
  const { acknowledged } = await traffic.stop();
  const perSecond = (acknowledged / (performance.now() - started)) * 1000;
  assert.ok(perSecond < 1_150, `${perSecond} writes per second`);
});

test('writes lost or doubled on a copy show as differences', async (t) => {
  const [one, two] = [await testServer(t), await testServer(t)];
  const copy = await testClient(t, two.port);
  const traffic = await startTraffic({ port: one.port, ratePerSecond: 10_000 });
  await copy.call('REPLICAOF', '127.0.0.1', one.port);
  await until(async () => (await infoField(copy, 'replication', 'master_link_status')) === 'up');
  const sofar = traffic.stats().acknowledged;
  await until(() => traffic.stats().acknowledged > sofar + 2_000);
  await traffic.stop();
  const source = await testClient(t, one.port);
  await until(
    async () =>
      Number(await infoField(copy, 'replication', 'slave_repl_offset')) >=
      Number(await infoField(source, 'replication', 'master_repl_offset')),
  );
  const equal = await compareServers(one.port, two.port);
  assert.deepEqual([equal.different, equal.missing, equal.extra, equal.first], [0, 0, 0, null]);

  await copy.call('REPLICAOF', 'NO', 'ONE');
  await copy.call('INCR', WITNESS_KEY);
  assert.match((await compareServers(one.port, two.port)).first ?? '', /traffic:witness.*values differ/);
});

test('refusals are counted and survived: -NOPERM and -READONLY', async (t) => {
  const server = await testServer(t);
  const client = await testClient(t, server.port);
  const traffic = await startTraffic({ port: server.port, ratePerSecond: 5_000 });
  await until(() => traffic.stats().acknowledged > 100);

  await client.call('ACL', 'SETUSER', 'default', '-@write');
  await until(() => traffic.stats().refused > 100);
  assert.match(traffic.stats().lastError ?? '', /NOPERM|EXECABORT/);
  const { acknowledged } = traffic.stats();
  assert.equal(Number(await client.call('GET', WITNESS_KEY)), traffic.stats().witness);
  await client.call('ACL', 'SETUSER', 'default', '+@all');
  await until(() => traffic.stats().acknowledged > acknowledged + 100);

  const refused = traffic.stats().refused;
  await client.call('REPLICAOF', '127.0.0.1', server.port + 1);
  await until(() => traffic.stats().refused > refused + 100);
  assert.match(traffic.stats().lastError ?? '', /READONLY|EXECABORT/);
  await client.call('REPLICAOF', 'NO', 'ONE');
  const stats = await traffic.stop();
  assert.equal(Number(await client.call('GET', WITNESS_KEY)), stats.witness);
  assert.equal(stats.unanswered, 0);
});

test('a lost connection is dialled again; what was not answered is counted apart', async (t) => {
  const server = await testServer(t);
  const traffic = await startTraffic({ port: server.port });
  await until(() => traffic.stats().acknowledged > 50);
  await server.stop();
  await until(() => /lost/.test(traffic.stats().lastError ?? ''));
  const { acknowledged } = traffic.stats();

  const again = await startServer({ port: server.port });
  t.after(() => again.stop());
  await until(() => traffic.stats().acknowledged > acknowledged + 50);
  const stats = await traffic.stop();
  assert.ok(stats.unanswered <= 200, `${stats.unanswered} unanswered`);
});

test('stop() does not wait for a server that hangs', async (t) => {
  const server = await testServer(t);
  const traffic = await startTraffic({ port: server.port });
  await until(() => traffic.stats().acknowledged > 50);
  server.process.kill('SIGSTOP');
  const stats = await traffic.stop();
  assert.ok(stats.acknowledged > 50);
});

test('no server: an error, not a hang', async () => {
  await assert.rejects(startTraffic({ port: 1 }), { code: 'demo-connection' });
});
