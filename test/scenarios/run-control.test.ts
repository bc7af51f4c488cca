/**
 * A second terminal at a running session: status, metrics and a cutover over the socket of the run folder, under
 * traffic, with the pairs in worker processes.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, assertEqualServers, newRunDir } from './support.ts';

async function pairOf(t: TestContext, name: string) {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys: 300, bigMembers: 50 });
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 150, seed: 6 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  return { name, source, target, traffic };
}

/** `redis-cutover status|cutover`, to its end. */
async function other(
  t: TestContext,
  ...args: readonly string[]
): Promise<{ exit: number | null; run: CliRun }> {
  const run = runCli([...args, '--json'], { t });
  return { exit: await run.exit, run };
}

test('a session that nobody sits at is asked, and cuts over pair after pair', async (t) => {
  const pairs = await Promise.all([pairOf(t, 'cart'), pairOf(t, 'users')]);
  const dir = newRunDir(t);
  const list = pairs.map(({ name, source, target }) => `${source.uri} ${target.uri} ${name}`).join('\n');
  const args = [
    'migrate',
    '--hosts',
    '-',
    '--json',
    '--run-dir',
    dir,
    '--cutover',
    'never',
    '--feed',
    'write',
  ];
  const session = runCli([...args, '--metrics', '0'], { t, stdin: `${list}\n`, exitTimeoutMs: 30_000 });
  await until(
    () => pairs.every(({ name }) => session.events.some((e) => e['pair'] === name && e['to'] === 'in-sync')),
    { timeoutMs: 60_000, what: `in sync: ${session.stderr()}` },
  );

  const status = await other(t, 'status', dir);
  assert.equal(status.exit, 0, status.run.stderr());
  assert.deepEqual(
    status.run.events.map((event) => event['pair'] ?? event['outcome']),
    ['cart', 'users', 'running'],
  );
  const url = /http:\/\/\S+/.exec(session.stderr())?.[0] ?? '';
  const metrics = async (): Promise<string> => (await fetch(url)).text();
  assert.match(
    await metrics(),
    /^redis_cutover_pair_phase\{pair="users",phase="(in-sync|catching-up)"\} 1$/m,
  );

  const unconfirmed = await other(t, 'cutover', dir, '--pair', 'cart');
  assert.equal(unconfirmed.exit, 2, unconfirmed.run.stderr());
  // lag may take a pair out of in-sync for a moment: then nothing is touched, and one asks again
  for (const name of ['cart', 'users']) {
    await until(
      async () => {
        const { exit, run } = await other(t, 'cutover', dir, '--pair', name, '--confirm', name);
        assert.ok(exit === 0 || run.events.some(({ code }) => code === 'not-now'), run.stderr());
        return exit === 0;
      },
      { timeoutMs: 60_000 },
    );
    if (name === 'cart') {
      await until(async () => /pair="cart",phase="promoted"\} 1/.test(await metrics()));
      assert.match(await metrics(), /pair="users",phase="promoted"\} 0/);
    }
  }
  assert.equal(await session.exit, 0);
  for (const { source, target, traffic } of pairs) {
    await until(() => traffic.stats().refused > 0, { what: 'refused on the source' });
    const { witness } = await traffic.stop();
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
    await assertEqualServers(source.port, target.port);
  }
  const actions = session.events.filter(({ event, by }) => event === 'action' && by === 'control');
  assert.deepEqual(
    actions.filter(({ result }) => result === 'done').map(({ pair }) => pair),
    ['cart', 'users'],
  );
  assert.match(readFileSync(join(dir, 'report.html'), 'utf8'), /control/);
  assert.ok(!existsSync(join(dir, 'control.sock')) && !existsSync(join(dir, 'control.json')));
  const after = await other(t, 'status', dir);
  assert.equal(after.exit, 1);
  assert.ok(after.run.events.some(({ code }) => code === 'no-session'));
});
