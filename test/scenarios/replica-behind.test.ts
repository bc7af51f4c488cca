/**
 * A replica behind the target, as in a chain, from the beginning to the end: what applications write while the target is
 * fed must not be missing on it. And two pairs in one run, fed in two ways.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { digest } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { infoField } from '../helpers/client.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { did, driven } from './driven.ts';
import {
  ask,
  assertEqualServers,
  ends,
  firstPair,
  infoNumber,
  migrate,
  newRunDir,
  withClient,
} from './support.ts';

interface Chain {
  readonly source: DemoServer;
  readonly target: DemoServer;
  /** A replica of the target. */
  readonly behind: DemoServer;
  readonly traffic: Traffic;
}

async function trafficOn(t: TestContext, { port }: DemoServer, seed: number): Promise<Traffic> {
  const traffic = await startTraffic({ port, ratePerSecond: 500, seed });
  atEnd(t, async () => {
    await traffic.stop();
  });
  return traffic;
}

async function chain(t: TestContext): Promise<Chain> {
  const [source, target, behind] = await Promise.all([testServer(t), testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys: 1_000, bigMembers: 200 });
  await ask(behind.port, 'REPLICAOF', '127.0.0.1', target.port);
  await until(() => linkUp(behind));
  return { source, target, behind, traffic: await trafficOn(t, source, 7) };
}

function linkUp({ port }: DemoServer): Promise<boolean> {
  return withClient(port, async (client) => {
    return (await infoField(client, 'replication', 'master_link_status')) === 'up';
  });
}

/** History and offset. */
function placeOf({ port }: DemoServer): Promise<string> {
  return withClient(port, async (client) => {
    const field = (name: string): Promise<string> => infoField(client, 'replication', name);
    return `${await field('master_replid')} ${await field('master_repl_offset')}`;
  });
}

/** The replica stands where the target does, and has the same data. */
async function assertSame({ target, behind }: Chain): Promise<void> {
  await until(async () => (await placeOf(target)) === (await placeOf(behind)), { timeoutMs: 30_000 });
  assert.equal(await digest(behind.port), await digest(target.port));
}

describe('a replica behind the target', { concurrency: 2 }, () => {
  for (const feed of ['attach', 'write'] as const) {
    test(`${feed}: equal after e, writes on both sides, and m`, async (t) => {
      const servers = await chain(t);
      const { source, target, behind, traffic } = servers;
      const run = driven(t, [source.uri, target.uri], newRunDir(t), feed, ['e', 'm']);
      await did(run, 'e');
      for (let n = 0; n < 100; n++) await ask(target.port, 'RPUSH', 'moved', n);
      await did(run, 'm');
      await until(() => traffic.stats().refused > 0);
      const { witness } = await traffic.stop();
      await assertSame(servers);
      assert.equal(await ask(behind.port, 'LLEN', 'moved'), 100);
      assert.equal(await ask(behind.port, 'GET', WITNESS_KEY), String(witness));
    });

    test(`${feed}: equal after c, and what is written then`, async (t) => {
      const servers = await chain(t);
      const { source, target, behind, traffic } = servers;
      const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto'], { feed });
      await ends(run, 0);
      await until(() => traffic.stats().refused > 0);
      const { witness } = await traffic.stop();
      const moved = await trafficOn(t, target, 8);
      await until(() => moved.stats().acknowledged > 200);
      const after = await moved.stop();
      await assertSame(servers);
      assert.equal(await ask(behind.port, 'GET', WITNESS_KEY), String(witness + after.witness));
    });
  }
});

test('two pairs in one run, one attached, one written to', async (t) => {
  const [a, b, aTarget, bTarget] = await Promise.all([
    testServer(t),
    testServer(t),
    testServer(t),
    // without CONFIG it cannot be made a replica of ours
    testServer(t, { args: ['--rename-command', 'CONFIG', ''] }),
  ]);
  await Promise.all([a, b].map(({ port }) => loadDataset(port, { keys: 1_000, bigMembers: 200 })));
  const traffic = await Promise.all([trafficOn(t, a, 1), trafficOn(t, b, 2)]);
  const more = ['--src', b.uri, '--dst', bTarget.uri];
  const run = migrate(t, [a.uri, aTarget.uri], [...more, '--cutover', 'auto'], { feed: 'auto' });
  const summary = await ends(run, 0);
  assert.equal(firstPair(summary)['phase'], 'promoted');
  for (const [at, each] of traffic.entries()) {
    await until(() => each.stats().refused > 0);
    const { witness } = await each.stop();
    assert.equal(await ask([aTarget, bTarget][at]?.port ?? 0, 'GET', WITNESS_KEY), String(witness));
  }
  await assertEqualServers(a.port, aTarget.port);
  await assertEqualServers(b.port, bTarget.port);
  assert.match(String(await ask(a.port, 'SET', 'x', '1').catch(String)), /READONLY/);
  assert.match(String(await ask(b.port, 'SET', 'x', '1').catch(String)), /NOPERM/);
  assert.equal(await infoNumber(aTarget.port, 'stats', 'sync_full'), 0);
});
