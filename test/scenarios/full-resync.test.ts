/** The source throws the link off its history: the copy is taken again, and nothing of the first one is left over. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic } from '../../src/demo/traffic.ts';
import { runCli } from '../helpers/cli.ts';
import { plain } from '../helpers/client.ts';
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
  newRunDir,
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

/** What was on the target before us, in two databases. */
async function ownData(target: DemoServer): Promise<void> {
  await withClient(target.port, async (client) => {
    await client.call('SET', 'own', 'x');
    await client.call('FUNCTION', 'LOAD', library('own'));
    await client.call('SELECT', 7);
    await client.call('SET', 'own', 'y');
  });
}

async function assertOwnData(target: DemoServer): Promise<void> {
  await withClient(target.port, async (client) => {
    assert.equal(plain(await client.call('GET', 'own')), 'x');
    assert.match(JSON.stringify(plain(await client.call('FUNCTION', 'LIST'))), /"own"/);
    await client.call('SELECT', 7);
    assert.equal(plain(await client.call('GET', 'own')), 'y');
  });
}

/** Takes away what was there before us: what is left must be the source's. */
async function withoutOwnData(target: DemoServer): Promise<void> {
  await withClient(target.port, async (client) => {
    await client.call('DEL', 'own');
    await client.call('FUNCTION', 'DELETE', 'own');
    await client.call('SELECT', 7);
    await client.call('DEL', 'own');
  });
}

function library(name: string): string {
  return `#!lua name=${name}\nredis.register_function('${name}', function() return 1 end)`;
}

test('--allow-nonempty: before a second copy what we wrote goes, and nothing else', async (t) => {
  const [source, target, proxy] = await scene(t);
  await ownData(target);
  // what we overwrite is ours then
  await ask(target.port, 'RPUSH', 'stale', 'overwritten');
  await ask(source.port, 'SET', 'stale', 'x');
  await ask(source.port, 'FUNCTION', 'LOAD', library('stale'));
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never', '--allow-nonempty']);
  await run.phase('in-sync');
  assert.equal(await ask(target.port, 'GET', 'stale'), 'x');
  // by the stream alone, in another database and by commands that name their keys in their own ways
  const gone = ['stale', 'set', 'sorted', 'copied', 'other'];
  await withClient(source.port, async (client) => {
    await client.call('SELECT', 7);
    await client.call('SADD', 'set', 3, 1, 2);
    await client.call('SORT', 'set', 'STORE', 'sorted');
    await client.call('COPY', 'sorted', 'copied', 'DB', 3);
    await client.call('SADD', 'other', 1);
    await client.call('MOVE', 'other', 3);
    await client.call('XGROUP', 'CREATE', 'stream', 'group', '$', 'MKSTREAM');
  });
  await caughtUp(run, source.port);
  await outlastBacklog(source, proxy, 'stale');
  await withClient(source.port, async (client) => {
    for (const db of [3, 7]) {
      await client.call('SELECT', db);
      await client.call('DEL', ...gone, 'stream');
    }
  });
  await run.until((event) => event['reason'] === 'a new full copy is taken');
  await caughtUp(run, source.port);
  assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 2);
  await assertOwnData(target);
  run.kill();
  await ends(run, 130);
  await withoutOwnData(target);
  await assertEqualServers(source.port, target.port, false);
});

test('--allow-nonempty: killed in the snapshot, resume removes what came of it', async (t) => {
  const [source, target, proxy] = await scene(t);
  await ownData(target);
  await withClient(source.port, async (client) => {
    for (let n = 0; n < 500; n++) await client.call('SET', `stale:${n}`, 'x'.repeat(1_000));
  });
  // the end of the snapshot never comes
  const half = proxy.fault({
    after: [
      { direction: 'to-client', text: '+FULLRESYNC' },
      { direction: 'to-client', text: 'REDIS0' },
    ],
    direction: 'to-client',
    bytes: 400_000,
    how: 'stall',
  });
  const runDir = newRunDir(t);
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never', '--allow-nonempty'], { runDir });
  await half;
  await until(async () => Number(await ask(target.port, 'DBSIZE')) > 200);
  run.kill('SIGKILL');
  await run.exit;
  const came = (await ask(target.port, 'KEYS', 'stale:*')) as unknown[];
  assert.ok(came.length > 0, 'what the test is about');
  await withClient(source.port, async (client) => {
    for (let n = 0; n < 500; n++) await client.call('DEL', `stale:${n}`);
  });
  const resumed = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
  await ends(resumed, 0);
  await assertOwnData(target);
  await withoutOwnData(target);
  await assertEqualServers(source.port, target.port, false);
  assert.deepEqual(
    readdirSync(runDir).filter((name) => name.startsWith('written-keys')),
    [],
    'the names of the keys are not left behind',
  );
});

test('--allow-nonempty: where it is not known what is ours a second copy is a clear stop', async (t) => {
  const [source, target, proxy] = await scene(t);
  await ownData(target);
  const before = await ask(target.port, 'ACL', 'LIST');
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never', '--allow-nonempty']);
  await run.phase('in-sync');
  await ask(source.port, 'SWAPDB', 3, 5);
  await note(run, /no longer known which keys.*SWAPDB/);
  await caughtUp(run, source.port);
  await outlastBacklog(source, proxy, 'stale');
  await ends(run, 1);
  const [error] = eventsOf(run, 'error');
  assert.equal(error?.['code'], 'full-resync-nonempty');
  assert.match(String(error?.['hint']), /empty target/);
  await assertOwnData(target);
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
  await ask(source.port, 'CONFIG', 'SET', 'client-output-buffer-limit', 'replica 1048576 524288 60');
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 1_000 });
  t.after(async () => {
    await traffic.stop();
  });
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
  const hint = String(error?.['hint']);
  const [, backlog, hard, soft, rate] =
    /repl-backlog-size (\d+), .*"(?:slave|replica) (\d+) (\d+) 60" \(it writes (\d+\.\d) MB/.exec(hint) ?? [];
  assert.ok(
    [backlog, hard, soft].every((bytes) => Number(bytes) >= 64 << 20),
    hint,
  );
  assert.ok(Number(rate) < 5, hint);
  assert.match(hint, /its backlog is 16384 bytes now/);
  assert.equal(await ask(source.port, 'SET', 'k', 'v'), 'OK');
});
