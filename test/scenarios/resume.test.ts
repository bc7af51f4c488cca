/** kill -9 at different moments, then `resume`: nothing lost, nothing twice, fences and users as they were. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { runCli } from '../helpers/cli.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, assertEqualServers, ends, migrate, newRunDir } from './support.ts';

interface Killed {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly traffic: Traffic;
  readonly runDir: string;
  readonly acl: { readonly source: unknown; readonly target: unknown };
}

async function underTraffic(t: TestContext): Promise<Killed> {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys: 20_000, bigMembers: 5_000 });
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 2_000, seed: 7 });
  t.after(async () => {
    await traffic.stop();
  });
  const acl = {
    source: await ask(source.port, 'ACL', 'LIST'),
    target: await ask(target.port, 'ACL', 'LIST'),
  };
  return { source, target, traffic, runDir: newRunDir(t), acl };
}

async function resumeToTheEnd(
  t: TestContext,
  { source, target, traffic, runDir, acl }: Killed,
): Promise<void> {
  const run = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
  await ends(run, 0);
  await until(() => traffic.stats().refused > 0);
  const last = await traffic.stop();
  assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(last.witness));
  await assertEqualServers(source.port, target.port);
  assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), acl.target);
  assert.equal(await ask(target.port, 'EXISTS', 'redis-cutover:checkpoint', 'redis-cutover:lease'), 0);
}

async function syncFull(server: DemoServer): Promise<number> {
  return Number(/sync_full:(\d+)/.exec(String(await ask(server.port, 'INFO', 'stats')))?.[1]);
}

test('killed while in sync: goes on from the checkpoint, without a second copy', async (t) => {
  const killed = await underTraffic(t);
  const run = migrate(t, [killed.source.uri, killed.target.uri], ['--cutover', 'never'], killed);
  await run.phase('in-sync');
  run.kill('SIGKILL');
  await run.exit;
  assert.match(String(await ask(killed.target.port, 'ACL', 'LIST')), /-@write/, 'the fence was left');
  await resumeToTheEnd(t, killed);
  assert.equal(await syncFull(killed.source), 1);
});

test('killed in the middle of the snapshot: loads it again', async (t) => {
  const killed = await underTraffic(t);
  const run = migrate(t, [killed.source.uri, killed.target.uri], ['--cutover', 'never'], killed);
  await until(async () => Number(await ask(killed.target.port, 'DBSIZE')) > 100);
  run.kill('SIGKILL');
  await run.exit;
  await resumeToTheEnd(t, killed);
});

test('quit by a signal: all is given back, and it can be gone on with', async (t) => {
  const killed = await underTraffic(t);
  const run = migrate(t, [killed.source.uri, killed.target.uri], ['--cutover', 'never'], killed);
  await run.phase('in-sync');
  run.kill('SIGTERM');
  await ends(run, 130);
  assert.deepEqual(await ask(killed.target.port, 'ACL', 'LIST'), killed.acl.target);
  await resumeToTheEnd(t, killed);
  assert.equal(await syncFull(killed.source), 1);
});

test('killed in the middle of a cutover: the source takes writes again, then it goes on', async (t) => {
  const killed = await underTraffic(t);
  const { source, target } = killed;
  const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto', '--cutover-timeout', '60'], killed);
  await run.phase('catching-up');
  // a target that is stopped: the cutover begins when it is let go, and the drain cannot end when it is stopped again
  const stopped = setInterval(() => target.process.kill('SIGSTOP'), 5);
  const released = setInterval(() => target.process.kill('SIGCONT'), 7);
  try {
    await run.until((event) => event.event === 'step' && event['name'] === 'writes paused');
    run.kill('SIGKILL');
    await run.exit;
  } finally {
    clearInterval(stopped);
    clearInterval(released);
    target.process.kill('SIGCONT');
  }
  await resumeToTheEnd(t, killed);
});

test('a run that was promoted: says so and leaves everything as it is', async (t) => {
  const killed = await underTraffic(t);
  const run = migrate(t, [killed.source.uri, killed.target.uri], ['--cutover', 'auto'], killed);
  await ends(run, 0);
  await resumeToTheEnd(t, killed);
});

test('a folder without a run is refused', async (t) => {
  const run = runCli(['resume', newRunDir(t), '--json'], { t });
  await ends(run, 2);
});
