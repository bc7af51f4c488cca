/**
 * A target that cannot take it for a while: out of memory, a replica, not able to persist, stopped, restarted with and
 * without its data. The run says what it waits for and goes on by itself; what is not equal afterwards is counted.
 */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { type DemoServer, freePort, type ServerOptions } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import type { CliRun } from '../helpers/cli.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  crashAndRestart,
  ends,
  eventsOf,
  infoNumber,
  lastProgress,
  migrate,
  note,
  withClient,
} from './support.ts';

async function loaded(t: TestContext, keys: number): Promise<DemoServer> {
  const source = await testServer(t, { args: ['--repl-backlog-size', '64mb'] });
  await loadDataset(source.port, { keys, bigMembers: 2_000 });
  return source;
}

async function trafficTo(t: TestContext, source: DemoServer, ratePerSecond = 1_000): Promise<Traffic> {
  const traffic = await startTraffic({ port: source.port, ratePerSecond });
  t.after(async () => {
    await traffic.stop();
  });
  return traffic;
}

/** Ends a run that is in sync, after a look at both sides. */
async function compareAndEnd(run: CliRun, source: DemoServer, targetPort: number): Promise<void> {
  await caughtUp(run, source.port);
  assert.equal(lastProgress(run)?.['divergences'], 0);
  run.kill();
  await ends(run, 130);
  await assertEqualServers(source.port, targetPort, false);
}

interface Followed {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly run: CliRun;
  /** Ends the traffic, and the run behind a look at both sides. */
  readonly end: () => Promise<void>;
}

/** A target that is in sync with a source that is written to. */
async function followed(t: TestContext, given: DemoServer | Promise<DemoServer>): Promise<Followed> {
  const [source, target] = [await loaded(t, 2_000), await given];
  const traffic = await trafficTo(t, source);
  const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never']);
  await run.phase('in-sync');
  const end = async (): Promise<void> => {
    await traffic.stop();
    await compareAndEnd(run, source, target.port);
  };
  return { source, target, run, end };
}

const FORGOTTEN = /forgotten our user and the fence/;

/** Waits until the target has some more of the stream. */
async function goesOn(targetPort: number, by = 50): Promise<void> {
  const witness = async () => Number(await ask(targetPort, 'GET', WITNESS_KEY));
  const now = await witness();
  await until(async () => (await witness()) > now + by);
}

async function targetThatPersists(t: TestContext, appendfsync: string): Promise<[DemoServer, ServerOptions]> {
  const options = { args: ['--appendonly', 'yes', '--appendfsync', appendfsync], port: await freePort() };
  return [await testServer(t, options), options];
}

/** What no application can do while the fence is up, an administrator can: a list in the place of a number. */
async function spoil(target: DemoServer, key: string): Promise<void> {
  await ask(target.port, 'ACL', 'SETUSER', 'intruder', 'on', 'nopass', '+@all', '~*');
  await withClient(target.port, async (client) => {
    await client.call('AUTH', 'intruder', 'any');
    await client.call('DEL', key);
    await client.call('RPUSH', key, 'x');
  });
}

// most of the time they wait
describe('a target in trouble', { concurrency: 3 }, () => {
  test('out of memory during the snapshot, and again during the stream', async (t) => {
    const [source, target] = [await loaded(t, 20_000), await testServer(t)];
    const traffic = await trafficTo(t, source);
    // the preflight would refuse a limit that is too small: it is set when the copy has begun
    const memory = await infoNumber(target.port, 'memory', 'used_memory');
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never']);
    await run.phase('snapshot');
    await ask(target.port, 'CONFIG', 'SET', 'maxmemory', memory + 1_000_000);
    await note(run, /OOM.*out of memory: CONFIG SET maxmemory/);
    assert.match(
      String((await run.until((event) => event.event === 'progress' && event['reason'] !== null))['reason']),
      /OOM/,
    );
    await ask(target.port, 'CONFIG', 'SET', 'maxmemory', 0);
    await run.phase('in-sync');
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);

    await ask(target.port, 'CONFIG', 'SET', 'maxmemory', 1_000_000);
    const seen = run.events.length;
    await until(() => run.events.slice(seen).some((event) => /OOM/.test(String(event['reason']))));
    await ask(target.port, 'CONFIG', 'SET', 'maxmemory', 0);
    await goesOn(target.port);
    await traffic.stop();
    await compareAndEnd(run, source, target.port);
  });

  test('a replica for a while: -READONLY', async (t) => {
    const { source, target, run, end } = await followed(t, testServer(t));
    // a master that is not there: the data stay, the role changes
    await ask(target.port, 'REPLICAOF', '127.0.0.1', 1);
    await note(run, /READONLY.*make it a master again/);
    await ask(target.port, 'REPLICAOF', 'NO', 'ONE');
    await until(() => lastProgress(run)?.['reason'] === null);
    await end();
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
  });

  test('not able to persist for a while: -MISCONF', async (t) => {
    const { target, run, end } = await followed(t, testServer(t));
    // a folder in the place of the dump makes every save fail, for root too
    const blocker = join(target.dir, 'dump.rdb');
    mkdirSync(join(blocker, 'x'), { recursive: true });
    await ask(target.port, 'CONFIG', 'SET', 'save', '3600 1');
    await ask(target.port, 'BGSAVE');
    await note(run, /MISCONF.*cannot persist/);
    rmSync(blocker, { recursive: true });
    await ask(target.port, 'BGSAVE');
    await until(() => lastProgress(run)?.['reason'] === null);
    await end();
  });

  test('busy with a script, then paused by somebody: waited out', async (t) => {
    const { source, target, run, end } = await followed(t, testServer(t));
    await ask(target.port, 'CONFIG', 'SET', 'lua-time-limit', 50);
    const script = ask(target.port, 'EVAL', 'while true do end', 0).catch(String);
    await note(run, /BUSY/);
    await ask(target.port, 'SCRIPT', 'KILL');
    assert.match(String(await script), /killed/);
    await until(() => lastProgress(run)?.['reason'] === null);
    await goesOn(target.port);

    await ask(target.port, 'CLIENT', 'PAUSE', 2_000, 'ALL');
    await until(() => Number(lastProgress(run)?.['lagSeconds']) > 1);
    await goesOn(target.port);
    await end();
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
  });

  test('restarted, and slow to load: -LOADING', async (t) => {
    const options = { args: ['--save', '3600 1'], port: await freePort() };
    const { source, target, run, end } = await followed(t, testServer(t, options));
    await ask(target.port, 'SAVE');
    const slowly = ['--key-load-delay', '1000', '--loading-process-events-interval-bytes', '1024'];
    await crashAndRestart(t, target, { ...options, args: [...options.args, ...slowly] });
    await note(run, /LOADING/);
    await until(() => lastProgress(run)?.['reason'] === null, { timeoutMs: 30_000 });
    await goesOn(target.port);
    await end();
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
  });

  test('asleep with commands in flight', async (t) => {
    const { target, run, end } = await followed(t, testServer(t));
    await ask(target.port, 'DEBUG', 'SLEEP', 2);
    target.process.kill('SIGSTOP');
    const applied = Number(lastProgress(run)?.['appliedOffset']);
    // a target that lets what it is sent lie is not in sync, however little it is
    await run.until(({ event, from, to }) => event === 'phase' && from === 'in-sync' && to === 'catching-up');
    target.process.kill('SIGCONT');
    await until(() => Number(lastProgress(run)?.['appliedOffset']) > applied);
    await end();
  });

  test('restarted with its data: our user, the fence and the lease are set again, and nothing is copied anew', async (t) => {
    const [target, options] = await targetThatPersists(t, 'always');
    const { source, run, end } = await followed(t, target);
    let running = target;
    for (let round = 1; round <= 2; round++) {
      running = await crashAndRestart(t, running, options);
      await until(
        () =>
          eventsOf(run, 'note').filter((each) => FORGOTTEN.test(String(each['message']))).length === round,
      );
      await assert.rejects(ask(target.port, 'SET', 'k', 'v'), /NOPERM/);
      assert.notEqual(await ask(target.port, 'HGET', 'redis-cutover:lease', 'run'), null);
      await goesOn(target.port);
    }
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
    await end();
    assert.equal(await ask(target.port, 'SET', 'k', 'v'), 'OK');
  });

  test('restarted with an older state: the tail is fetched from the source again', async (t) => {
    const options = { args: ['--save', '3600 1'], port: await freePort() };
    const { source, target, run, end } = await followed(t, testServer(t, options));
    await ask(target.port, 'SAVE');
    const offset = async (): Promise<number> =>
      Number(await ask(target.port, 'HGET', 'redis-cutover:checkpoint', 'offset'));
    const saved = await offset();
    // more than the spool keeps of what the target has had
    await until(async () => (await offset()) > saved + 100_000, { timeoutMs: 60_000 });
    await crashAndRestart(t, target, options);
    await note(run, /lost its last seconds/);
    await goesOn(target.port);
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
    await end();
  });

  for (const when of ['the snapshot', 'the stream'] as const) {
    test(`restarted empty during ${when}: the copy is taken again`, async (t) => {
      const source = await loaded(t, 20_000);
      const options = { port: await freePort() };
      const target = await testServer(t, options);
      const traffic = await trafficTo(t, source);
      const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never']);
      if (when === 'the stream') await run.phase('in-sync');
      else await until(async () => Number(await ask(target.port, 'DBSIZE')) > 500);
      await crashAndRestart(t, target, options);
      await note(run, /lost the copy: a new one is taken/);
      await until(async () => (await infoNumber(source.port, 'stats', 'sync_full')) === 2);
      await traffic.stop();
      await compareAndEnd(run, source, target.port);
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 2);
    });
  }

  test('a conflicting key shows as a divergence: counted, sampled, its name not shown', async (t) => {
    const [source, target] = [await loaded(t, 1_000), await testServer(t)];
    await ask(source.port, 'INCR', 'conflict');
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never']);
    await run.phase('in-sync');
    await spoil(target, 'conflict');
    await ask(source.port, 'INCR', 'conflict');
    await ask(source.port, 'INCR', 'conflict');
    const seen = await note(run, /answered INCR of key [0-9a-f]{12} at offset \d+ with WRONGTYPE/);
    assert.ok(!String(seen['message']).includes('conflict'), 'a key was shown');
    await until(() => lastProgress(run)?.['divergences'] === 2);
    run.kill();
    await ends(run, 130);
  });

  test('with divergences nothing is promoted by itself, and the source is left as it was', async (t) => {
    const [source, target] = [await loaded(t, 20_000), await testServer(t)];
    await ask(source.port, 'INCR', 'conflict');
    const before = await ask(source.port, 'ACL', 'LIST');
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto']);
    await run.phase('snapshot');
    await until(async () => (await ask(target.port, 'EXISTS', 'conflict')) === 1);
    await spoil(target, 'conflict');
    await ask(source.port, 'INCR', 'conflict');
    await ends(run, 5);
    assert.equal(eventsOf(run, 'error')[0]?.['code'], 'divergence');
    assert.ok(!eventsOf(run, 'phase').some((event) => event['to'] === 'promoted'));
    assert.deepEqual(await ask(source.port, 'ACL', 'LIST'), before);
  });
});
