/**
 * Several pairs in one session, in worker processes: under traffic, with workers and the session killed, with one pair
 * that is not to be moved. What holds for one pair holds for each of them, and no pair pays for another.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WITNESS_KEY } from '../../src/demo/traffic.ts';
import { runCli } from '../helpers/cli.ts';
import { atEnd } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { allIn, assertMoved, fleet, migrateFleet, phasesOf, summaryOf, workersOf } from './fleet-scene.ts';
import { poisonedFleet } from './poisoned-fleet.ts';
import { ask, assertEqualServers, ends, infoNumber, newRunDir } from './support.ts';

describe('a fleet', { concurrency: 2 }, () => {
  for (const feed of ['write', 'attach'] as const) {
    test(`${feed}: workers are killed in sync: no pair takes a second copy, none loses a write`, async (t) => {
      const pairs = await fleet(t, 3);
      const run = migrateFleet(t, pairs, newRunDir(t), [
        '--feed',
        feed,
        '--cutover',
        'never',
        '--workers',
        '2',
      ]);
      await allIn(run, pairs, 'in-sync');
      for (let round = 1; round <= 2; round++) {
        const workers = workersOf(run.pid);
        assert.equal(workers.length, 2);
        for (const pid of workers) process.kill(pid, 'SIGKILL');
        await until(() => [...phasesOf(run).values()].every((phase) => phase !== 'in-sync'));
        await allIn(run, pairs, 'in-sync');
      }
      for (const { traffic, source, target } of pairs) {
        const { witness } = await traffic.stop();
        await until(async () => (await ask(target.port, 'GET', WITNESS_KEY)) === String(witness), {
          timeoutMs: 30_000,
        });
        // attach: a target loses its master for a moment, and nothing else
        assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
      }
      run.kill('SIGTERM');
      await ends(run, 130);
      for (const { source, target } of pairs) {
        await ask(target.port, 'DEL', 'redis-cutover:checkpoint');
        await assertEqualServers(source.port, target.port);
      }
    });
  }

  test('workers are killed while they load and cut over; one pair is blocked: the others are promoted', async (t) => {
    const pairs = await fleet(t, 4);
    const [blocked, ...others] = pairs;
    assert.ok(blocked);
    await ask(blocked.target.port, 'SET', 'mine', '1');
    const run = migrateFleet(t, pairs, newRunDir(t), [
      '--feed',
      'write',
      '--cutover',
      'auto',
      '--workers',
      '2',
    ]);
    await run.phase('snapshot');
    for (const pid of workersOf(run.pid)) process.kill(pid, 'SIGKILL');
    await run.phase('promoted');
    for (const pid of workersOf(run.pid)) process.kill(pid, 'SIGKILL');
    const summary = await ends(run, 7);
    assert.equal(summary['outcome'], 'partly-failed');
    for (const pair of others) {
      const errors = run.events.filter(({ event }) => event === 'error' || event === 'note');
      assert.equal(summaryOf(summary, pair.name)?.['phase'], 'promoted', JSON.stringify(errors));
      await assertMoved(pair);
    }
    assert.equal(summaryOf(summary, blocked.name)?.['phase'], 'failed');
    assert.equal(await ask(blocked.target.port, 'GET', 'mine'), '1');
    assert.equal(blocked.traffic.stats().refused, 0);
  });

  test('a pair whose worker dies again and again is given up, the others are not', async (t) => {
    const pairs = await fleet(t, 2);
    const run = migrateFleet(t, pairs, newRunDir(t), [
      '--feed',
      'write',
      '--cutover',
      'never',
      '--workers',
      '2',
    ]);
    await allIn(run, pairs, 'in-sync');
    const [, kept] = workersOf(run.pid);
    for (let death = 1; death <= 3; death++) {
      const guilty = workersOf(run.pid).find((pid) => pid !== kept);
      assert.ok(guilty);
      process.kill(guilty, 'SIGKILL');
      if (death < 3) await until(() => workersOf(run.pid).some((pid) => pid !== kept && pid !== guilty));
    }
    const lost = await run.phase('failed');
    assert.ok(run.events.some(({ event, code }) => event === 'error' && code === 'worker-killed'));
    const other = pairs.find(({ name }) => name !== lost['pair']);
    assert.equal(phasesOf(run).get(other?.name), 'in-sync');
    run.kill('SIGTERM');
    // what the lost worker held of its target nobody has put back
    await ends(run, 7);
  });

  test('the session is killed: its workers end with it, and resume goes on', async (t) => {
    const pairs = await fleet(t, 2);
    const runDir = newRunDir(t);
    const run = migrateFleet(t, pairs, runDir, ['--feed', 'write', '--cutover', 'never']);
    await allIn(run, pairs, 'in-sync');
    const workers = workersOf(run.pid);
    run.kill('SIGKILL');
    await run.exit;
    const resumed = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
    await ends(resumed, 0);
    for (const pid of workers) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
    for (const pair of pairs) {
      await assertMoved(pair);
      assert.equal(await infoNumber(pair.source.port, 'stats', 'sync_full'), 1);
    }
  });

  // the other ways to go wrong take longer: npm run soak -- --fleet 8
  test('one pair goes wrong in the middle: it alone is reported, the others feel nothing', async (t) => {
    await poisonedFleet(t, { pairs: 8, poison: 'refusing', rate: 50, watchMs: 500 });
  });

  for (const diskless of ['yes', 'no']) {
    test(`a snapshot that is received makes room on its host, loaded or not (diskless: ${diskless})`, async (t) => {
      const slow = ['--repl-diskless-sync', diskless, '--rdb-key-save-delay', '1000'];
      const [hung, next] = await fleet(t, 2, 50, slow);
      assert.ok(hung && next);
      const run = migrateFleet(t, [hung, next], newRunDir(t), ['--feed', 'write', '--cutover', 'never']);
      await run.phase('snapshot');
      hung.target.process.kill('SIGSTOP');
      atEnd(t, () => void hung.target.process.kill('SIGCONT'));
      await allIn(run, [next], 'in-sync');
      assert.equal(phasesOf(run).get(hung.name), 'snapshot');
      hung.target.process.kill('SIGCONT');
      await allIn(run, [hung, next], 'in-sync');
      run.kill('SIGTERM');
      await ends(run, 130);
    });
  }

  test('waves: one after the other', async (t) => {
    const pairs = await fleet(t, 3, 50);
    const [a, b, c] = pairs;
    assert.ok(a && b && c);
    const list = [
      `${a.source.uri} ${a.target.uri} late two`,
      `${b.source.uri} ${b.target.uri} first one`,
      `${c.source.uri} ${c.target.uri} second one`,
    ];
    const runDir = newRunDir(t);
    const args = [
      'migrate',
      '--hosts',
      '-',
      '--json',
      '--run-dir',
      runDir,
      '--cutover',
      'auto',
      '--canary',
      '0.2',
    ];
    const run = runCli(args, { t, stdin: `${list.join('\n')}\n` });
    await ends(run, 0);
    const promoted = run.events.filter(({ event, to }) => event === 'phase' && to === 'promoted');
    assert.deepEqual(
      promoted.map(({ pair }) => pair),
      ['late', 'first', 'second'],
    );
    for (const pair of pairs) await assertMoved(pair);
  });
});
