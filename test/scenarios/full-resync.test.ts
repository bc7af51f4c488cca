/** The source throws the link off its history: the copy is taken again, and nothing of the first one is left over. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  ends,
  eventsOf,
  infoNumber,
  migrate,
  note,
  withClient,
} from './support.ts';

async function scene(t: TestContext): Promise<[DemoServer, DemoServer, FaultProxy]> {
  const source = await testServer(t, { args: ['--repl-backlog-size', '16kb'] });
  const target = await testServer(t);
  await loadDataset(source.port, { keys: 2_000, bigMembers: 2_000 });
  return [source, target, await faultProxy(t, source.port)];
}

/** Cuts the link for so long that the source's backlog no longer reaches back to where it was cut. */
async function outlastBacklog(source: DemoServer, proxy: FaultProxy, deleted: string): Promise<void> {
  proxy.refuse(true);
  proxy.cutAll('reset');
  await withClient(source.port, async (client) => {
    await client.call('DEL', deleted);
    await client.call('FUNCTION', 'FLUSH');
    for (let n = 0; n < 40; n++) await client.call('SET', `later:${n}`, 'x'.repeat(1_000));
  });
  await until(async () => (await infoNumber(source.port, 'replication', 'connected_slaves')) === 0);
  proxy.refuse(false);
}

test('a backlog that was too small: a second copy, without stale keys and functions', async (t) => {
  const [source, target, proxy] = await scene(t);
  await ask(source.port, 'SET', 'stale', 'x');
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never']);
  await run.phase('in-sync');
  assert.equal(await ask(target.port, 'GET', 'stale'), 'x');
  await outlastBacklog(source, proxy, 'stale');
  await run.until((event) => event['reason'] === 'a new full copy is taken');
  // not a key of it: the snapshot has it, too, and may have it before others
  await caughtUp(run, source.port);
  assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 2);
  assert.equal(await ask(target.port, 'EXISTS', 'stale'), 0);
  run.kill();
  await ends(run, 130);
  await assertEqualServers(source.port, target.port, false);
});

test('after --allow-nonempty a second copy is a clear stop: the target is never emptied', async (t) => {
  const [source, target, proxy] = await scene(t);
  await ask(source.port, 'SET', 'stale', 'x');
  await ask(target.port, 'SET', 'own', 'x');
  const before = await ask(target.port, 'ACL', 'LIST');
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never', '--allow-nonempty']);
  await run.phase('in-sync');
  await outlastBacklog(source, proxy, 'stale');
  await ends(run, 1);
  const [error] = eventsOf(run, 'error');
  assert.equal(error?.['code'], 'full-resync-nonempty');
  assert.match(String(error?.['hint']), /start again/);
  assert.equal(await ask(target.port, 'GET', 'own'), 'x');
  assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), before);
});

test('a target that holds keys is emptied by --flush-target, in all databases', async (t) => {
  const [source, target] = await scene(t);
  await withClient(target.port, async (client) => {
    await client.call('SET', 'own', 'x');
    await client.call('SELECT', 7);
    await client.call('SET', 'own', 'x');
    await client.call('FUNCTION', 'LOAD', "#!lua name=own\nredis.register_function('own', function() end)");
  });
  await ends(migrate(t, [source.uri, target.uri], ['--cutover', 'auto', '--flush-target']), 0);
  await assertEqualServers(source.port, target.port);
});

test('full copies again and again without ever being in sync: a stop with a hint', async (t) => {
  const [source, target, proxy] = await scene(t);
  for (let copy = 1; copy <= 6; copy++) {
    void proxy.fault({
      after: [
        { direction: 'to-client', text: '+FULLRESYNC' },
        { direction: 'to-client', text: 'REDIS0' },
      ],
      direction: 'to-client',
      bytes: 1_000,
      how: 'reset',
    });
  }
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never']);
  await note(run, /the source: the connection/);
  await ends(run, 1);
  const [error] = eventsOf(run, 'error');
  assert.equal(error?.['code'], 'resync-loop');
  assert.match(String(error?.['hint']), /repl-backlog-size/);
  assert.equal(await ask(source.port, 'SET', 'k', 'v'), 'OK');
});
