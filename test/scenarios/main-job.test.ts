/** The main job through the built program: snapshot, stream, cutover; rehearsals, ends by signal, several pairs. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { runCli } from '../helpers/cli.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  ends,
  eventsOf,
  firstPair,
  migrate,
  newRunDir,
  stateOf,
} from './support.ts';

const KEYS = 20_000;

async function loadedPair(t: TestContext, keys = KEYS): Promise<[DemoServer, DemoServer]> {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys, bigMembers: 5_000 });
  return [source, target];
}

for (let round = 1; round <= 3; round++) {
  test(`migrates under traffic and cuts over by itself (${round} of 3)`, async (t) => {
    const [source, target] = await loadedPair(t);
    const traffic = await startTraffic({ port: source.port, ratePerSecond: 2_000, seed: round });
    t.after(async () => {
      await traffic.stop();
    });
    const before = await ask(target.port, 'ACL', 'LIST');
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto']);
    const summary = await ends(run, 0);
    // refused from the fence on: what was acknowledged by then is all there will ever be
    const { acknowledged } = traffic.stats();
    await until(() => traffic.stats().refused > 0);
    const last = await traffic.stop();
    // a transaction in which a command was refused ends in EXECABORT
    assert.match(last.lastError ?? '', /^(NOPERM|EXECABORT)/);
    await assert.rejects(ask(source.port, 'SET', 'k', 'v'), /NOPERM/);
    assert.ok(last.acknowledged - acknowledged <= 0, 'a write was acknowledged after the end of the run');
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(last.witness));
    await assertEqualServers(source.port, target.port);

    assert.equal(summary['outcome'], 'promoted');
    const pair = firstPair(summary);
    assert.equal(pair['phase'], 'promoted');
    assert.ok(Number(pair['keys']) >= KEYS, `keys: ${pair['keys']}`);
    assert.equal(typeof pair['seconds'], 'number');
    const outage = Number(pair['writeOutageMs']);
    // what takes longer is undone; npm run bench has the figures
    assert.ok(outage > 0 && outage < 10_000, `write outage ${outage} ms`);
    assert.match(JSON.stringify(pair['notes']), /stays fenced.*ACL SETUSER default/);
    const phases = eventsOf(run, 'phase').map((event) => [event['from'], event['to']].join(' '));
    assert.deepEqual(phases, [
      'checking snapshot',
      'snapshot catching-up',
      'catching-up in-sync',
      'in-sync writable',
      'writable promoted',
    ]);
    for (const event of run.events) assert.match(event.ts, /^\d{4}-\d\d-\d\dT.*Z$/);
    const progress = eventsOf(run, 'progress');
    assert.ok(progress.length > 0);
    for (const key of [
      ...['pair', 'phase', 'snapshotBytes', 'snapshotTotal', 'keys', 'appliedOffset'],
      ...['sourceOffset', 'lagBytes', 'lagSeconds', 'commandsPerSecond'],
    ]) {
      assert.ok(
        progress.every((event) => key in event),
        `progress without ${key}`,
      );
    }
    // nothing of ours is left on the target, and it takes writes as before
    assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), before);
    assert.equal(await ask(target.port, 'EXISTS', 'redis-cutover:checkpoint', 'redis-cutover:lease'), 0);
    assert.equal(await ask(target.port, 'SET', 'written-after', '1'), 'OK');
    // the notes say how the source becomes writable again
    const notes = pair['notes'] as string[];
    const commands = notes.slice(notes.findIndex((text) => /stays fenced/.test(text)) + 1);
    for (const command of commands) await ask(source.port, ...command.split(' '));
    assert.equal(await ask(source.port, 'SET', 'written-after', '1'), 'OK');
  });
}

test('a rehearsal ends in sync, with everything given back', async (t) => {
  const [source, target] = await loadedPair(t, 3_000);
  const before = await stateOf(source.port);
  const acl = await ask(target.port, 'ACL', 'LIST');
  const run = migrate(t, [source.uri, target.uri], ['--stop-at', 'in-sync']);
  const summary = await ends(run, 0);
  assert.equal(summary['outcome'], 'in-sync');
  assert.equal(firstPair(summary)['writeOutageMs'], null);
  assert.deepEqual(await stateOf(source.port), before);
  assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), acl);
  assert.equal(await ask(target.port, 'EXISTS', 'redis-cutover:lease'), 0);
  // the checkpoint stays: the copy can be gone on with
  assert.equal(await ask(target.port, 'HGET', 'redis-cutover:checkpoint', 'phase'), 'stream');
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`--cutover never stays in sync until ${signal}, fences the target meanwhile, and gives it back`, async (t) => {
    const [source, target] = await loadedPair(t, 3_000);
    await ask(target.port, 'ACL', 'SETUSER', 'app', 'on', 'nopass', '~app:*', '+@all', '(+@write ~more:*)');
    const acl = await ask(target.port, 'ACL', 'LIST');
    const before = await stateOf(source.port);
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never']);
    await run.phase('in-sync');
    assert.match(String(await ask(target.port, 'SET', 'k', 'v').catch(String)), /NOPERM/);
    assert.match(
      String(await ask(target.port, 'EVAL', "return redis.call('SET','k','v')", 0).catch(String)),
      /can't run this command/,
    );
    assert.equal(await ask(source.port, 'SET', 'k', 'v'), 'OK');
    await until(async () => (await ask(target.port, 'GET', 'k')) === 'v');
    await ask(source.port, 'DEL', 'k');
    await until(async () => (await ask(target.port, 'EXISTS', 'k')) === 0);
    assert.equal(await ask(target.port, 'EXISTS', 'redis-cutover:lease'), 1);
    run.kill(signal);
    const summary = await ends(run, 130);
    assert.equal(summary['outcome'], 'interrupted');
    assert.equal(firstPair(summary)['phase'], 'stopped');
    assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), acl);
    assert.deepEqual(await stateOf(source.port), before);
    assert.equal(await ask(target.port, 'EXISTS', 'redis-cutover:lease'), 0);
    assert.equal(await ask(target.port, 'SET', 'k', 'v'), 'OK');
  });
}

test('check looks at both sides and changes nothing', async (t) => {
  const [source, target] = await loadedPair(t, 1_000);
  const before = [await stateOf(source.port), await stateOf(target.port)];
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-check-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const args = ['check', '--src', source.uri, '--dst', target.uri, '--json'];
  const good = runCli(args, { t, cwd: folder });
  assert.equal((await ends(good, 0))['outcome'], 'ready');
  assert.ok(eventsOf(good, 'check').length > 15);
  await ask(target.port, 'SET', 'k', 'v');
  const refused = runCli(args, { t, cwd: folder });
  assert.equal((await ends(refused, 3))['outcome'], 'refused');
  const finding = eventsOf(refused, 'check').find((event) => event['status'] === 'refuse');
  assert.equal(finding?.['name'], 'target-empty');
  assert.match(String(finding?.['hint']), /--flush-target/);
  await ask(target.port, 'DEL', 'k');
  assert.deepEqual([await stateOf(source.port), await stateOf(target.port)], before);
});

test('several pairs are cut over in one run', async (t) => {
  const [one, two] = await Promise.all([loadedPair(t, 2_000), loadedPair(t, 2_000)]);
  const args = ['--src', one[0].uri, two[0].uri, '--dst', one[1].uri, two[1].uri];
  const run = runCli(['migrate', ...args, '--json', '--cutover', 'auto', '--run-dir', newRunDir(t)], { t });
  const summary = await ends(run, 0);
  const pairs = summary['pairs'] as Record<string, unknown>[];
  assert.deepEqual(
    pairs.map((pair) => pair['phase']),
    ['promoted', 'promoted'],
  );
  assert.equal(new Set(pairs.map((pair) => pair['pair'])).size, 2);
  for (const [source, target] of [one, two]) await assertEqualServers(source.port, target.port);
});

test('a pair of a host list that is refused is not touched, and does not keep the others', async (t) => {
  const [one, two] = await Promise.all([loadedPair(t, 1_000), loadedPair(t, 1_000)]);
  await ask(two[1].port, 'SET', 'holds', 'keys');
  const states = () => Promise.all(two.map((server) => stateOf(server.port)));
  const before = await states();
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-hosts-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const hosts = join(folder, 'hosts.txt');
  writeFileSync(
    hosts,
    `${one[0].uri} ${one[1].uri} cart\n# the second holds keys\n${two[0].uri} ${two[1].uri} sessions\n`,
  );
  const args = ['migrate', '--hosts', hosts, '--cutover', 'auto', '--json', '--run-dir', newRunDir(t)];
  const run = runCli(args, { t });
  const summary = await ends(run, 7);
  assert.deepEqual(
    (summary['pairs'] as Record<string, unknown>[]).map((pair) => [pair['pair'], pair['phase']]),
    [
      ['cart', 'promoted'],
      ['sessions', 'failed'],
    ],
  );
  const [error] = eventsOf(run, 'error');
  assert.deepEqual([error?.['pair'], error?.['code']], ['sessions', 'target-empty']);
  assert.deepEqual(await states(), before);
  await assertEqualServers(one[0].port, one[1].port);
});
