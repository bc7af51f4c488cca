/**
 * `--keep-snapshot`: kill -9 while the target loads, then `resume` from the spool, without a second full copy from the
 * source; with both feeds, and with both ways in which a source frames its snapshot.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { type DemoServer, freePort } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type CliEvent, type CliRun, runCli } from '../helpers/cli.ts';
import { type Fault, type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until, within } from '../helpers/wait.ts';
import { ask, assertEqualServers, caughtUp, ends, infoNumber, migrate, newRunDir, note } from './support.ts';

type FeedName = 'attach' | 'write';

interface Scene {
  readonly feed: FeedName;
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly traffic: Traffic;
  readonly runDir: string;
  readonly acl: unknown;
  /** Between the source and us. */
  readonly front: FaultProxy;
  /** On the way by which the target is filled: `write` dials it, `attach` is dialled by it. */
  readonly back: FaultProxy;
  readonly uris: readonly [string, string];
  readonly args: readonly string[];
}

async function scene(t: TestContext, feed: FeedName, framing: 'length' | 'mark'): Promise<Scene> {
  const diskless = framing === 'mark' ? 'yes' : 'no';
  const source = await testServer(t, {
    args: ['--repl-diskless-sync', diskless, '--repl-diskless-sync-delay', '0'],
  });
  const target = await testServer(t);
  await loadDataset(source.port, { keys: 20_000, bigMembers: 5_000 });
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 1_000, seed: 7 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  const front = await faultProxy(t, source.port);
  const fixed = ['--keep-snapshot', '--spool-memory', '1', '--cutover', 'never'];
  const common = { feed, source, target, traffic, front, runDir: newRunDir(t) };
  const acl = await ask(target.port, 'ACL', 'LIST');
  if (feed === 'write') {
    const back = await faultProxy(t, target.port);
    return { ...common, acl, back, uris: [front.uri, back.uri], args: fixed };
  }
  const port = await freePort();
  const back = await faultProxy(t, port, { at: { host: '127.0.0.3', port }, toHost: '127.0.0.2' });
  const listen = ['--listen', `127.0.0.2:${port}`, '--advertise', '127.0.0.3'];
  return { ...common, acl, back, uris: [front.uri, target.uri], args: [...fixed, ...listen] };
}

/** Stops the filling of the target in the middle of the snapshot. */
function loadingFault(feed: FeedName, how: Fault['how']): Fault {
  return feed === 'write'
    ? {
        after: [
          // the writer's connection: others name the command, too
          { direction: 'to-server', text: 'redis-cutover-writer' },
          { direction: 'to-server', text: 'RESTORE' },
        ],
        direction: 'to-server',
        bytes: 200_000,
        how,
      }
    : { after: [{ direction: 'to-client', text: 'REDIS0' }], direction: 'to-client', bytes: 200_000, how };
}

/** Stops the source in the middle of the snapshot. */
const SENDING: Fault = {
  after: [{ direction: 'to-client', text: 'REDIS0' }],
  direction: 'to-client',
  bytes: 200_000,
  how: 'stall',
};

function happens(fault: Promise<void>): Promise<void> {
  return within(fault, 60_000, 'the fault');
}

function filesOf(runDir: string): string[] {
  const folder = join(runDir, 'spool');
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
}

/** How many bytes the index says are kept on disk. */
function keptBytes(runDir: string): number {
  const index = filesOf(runDir).find((file) => file.includes('kept-'));
  const last = index === undefined ? '' : (readFileSync(index, 'latin1').trimEnd().split('\n').at(-1) ?? '');
  return last === '' ? 0 : (JSON.parse(last.slice(last.indexOf(' '))) as { to: number }).to;
}

/** What is kept; the snapshots of these tests are smaller than one segment. */
function keptOf(runDir: string): Buffer {
  const segment = filesOf(runDir).find((file) => file.endsWith('segment-0'));
  return segment === undefined ? Buffer.alloc(0) : readFileSync(segment).subarray(0, keptBytes(runDir));
}

/** The whole snapshot, and something of the stream behind it, is kept. */
async function allIsKept({ source, runDir }: Scene): Promise<void> {
  await until(async () => /state=online/.test(String(await ask(source.port, 'INFO', 'replication'))), {
    what: 'the source has sent its snapshot',
  });
  const last = `kept:${randomUUID()}`;
  await ask(source.port, 'SET', last, '1');
  await until(() => keptOf(runDir).includes(last), { what: 'what was written last is kept' });
}

async function kill(run: CliRun, { front, back }: Scene): Promise<void> {
  run.kill('SIGKILL');
  await run.exit;
  // as the system of a process that is gone does
  front.cutAll('reset');
  back.cutAll('reset');
}

function begin(t: TestContext, scene: Scene): CliRun {
  const { feed, uris, args, runDir } = scene;
  return migrate(t, uris, args, { feed, runDir });
}

function resume(t: TestContext, { runDir }: Scene, cutover: 'auto' | 'never'): CliRun {
  return runCli(['resume', runDir, '--cutover', cutover, '--json'], { t });
}

async function cutsOver(run: CliRun, { source, target, traffic, runDir, acl }: Scene): Promise<void> {
  await ends(run, 0);
  await until(() => traffic.stats().refused > 0);
  const last = await traffic.stop();
  assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(last.witness));
  await assertEqualServers(source.port, target.port);
  assert.deepEqual(await ask(target.port, 'ACL', 'LIST'), acl);
  assert.deepEqual(filesOf(runDir), []);
}

function fullCopies({ source }: Scene): Promise<number> {
  return infoNumber(source.port, 'stats', 'sync_full');
}

const FROM_THE_SPOOL = /the snapshot is loaded from the spool/;

// most of the time they wait
describe('--keep-snapshot', { concurrency: 3 }, () => {
  for (const feed of ['write', 'attach'] as const) {
    for (const framing of ['length', 'mark'] as const) {
      const what = `${feed}, ${framing === 'mark' ? 'diskless' : 'from a file'}`;

      test(`${what}: killed while the target loads, resumed from the spool, twice`, async (t) => {
        const all = await scene(t, feed, framing);
        const stalled = happens(all.back.fault(loadingFault(feed, 'stall')));
        const run = begin(t, all);
        await stalled;
        await allIsKept(all);
        await kill(run, all);

        const stalledAgain = happens(all.back.fault(loadingFault(feed, 'stall')));
        const second = resume(t, all, 'never');
        await note(second, FROM_THE_SPOOL);
        await stalledAgain;
        await allIsKept(all);
        await kill(second, all);

        const third = resume(t, all, 'never');
        await note(third, FROM_THE_SPOOL);
        await caughtUp(third, all.source.port);
        assert.equal(await fullCopies(all), 1);
        await until(() => filesOf(all.runDir).length === 0, { what: 'the disk is free again' });
        await kill(third, all);

        const last = resume(t, all, 'auto');
        await cutsOver(last, all);
        assert.equal(await fullCopies(all), 1);
        assert.ok(!last.events.some((event) => FROM_THE_SPOOL.test(String(event['message']))));
      });

      // each feed, and each framing
      if ((feed === 'write') === (framing === 'length')) continue;
      test(`${what}: killed before all of the snapshot had come, a new one is taken`, async (t) => {
        const all = await scene(t, feed, framing);
        const stalled = happens(all.front.fault(SENDING));
        const run = begin(t, all);
        await stalled;
        await until(() => keptBytes(all.runDir) > 0);
        await kill(run, all);
        const next = resume(t, all, 'auto');
        await note(next, /before the whole snapshot was kept: a new copy is taken/);
        await cutsOver(next, all);
        assert.equal(await fullCopies(all), 2);
      });
    }
  }

  test('attach: a target that breaks off while it loads is handed the same snapshot again', async (t) => {
    const all = await scene(t, 'attach', 'mark');
    const broken = [1, 2].map(() => happens(all.back.fault(loadingFault('attach', 'reset'))));
    const run = begin(t, all);
    await Promise.all(broken);
    await caughtUp(run, all.source.port);
    assert.equal(await fullCopies(all), 1);
    await until(() => filesOf(all.runDir).length === 0, { what: 'the disk is free again' });
    run.kill();
    await ends(run, 130);
    await cutsOver(resume(t, all, 'auto'), all);
  });

  test('stopped while the target loads: the snapshot stays, what the target holds does not', async (t) => {
    const all = await scene(t, 'write', 'length');
    const stalled = happens(all.back.fault(loadingFault('write', 'stall')));
    const run = begin(t, all);
    await stalled;
    await allIsKept(all);
    run.kill('SIGTERM');
    const summary = await ends(run, 130);
    assert.match(JSON.stringify(summary), /the snapshot is kept in the run folder/);
    // as keys of an older copy would be: the snapshot alone decides what is there
    await ask(all.target.port, 'SET', 'stranger', '1');
    const next = resume(t, all, 'auto');
    await note(next, FROM_THE_SPOOL);
    await cutsOver(next, all);
    assert.equal(await fullCopies(all), 1);
  });

  test('a source that cannot go on from there: a full copy, as ever', async (t) => {
    const all = await scene(t, 'write', 'length');
    const stalled = happens(all.back.fault(loadingFault('write', 'stall')));
    const run = begin(t, all);
    await stalled;
    await allIsKept(all);
    await kill(run, all);
    // another history
    await ask(all.source.port, 'DEBUG', 'CHANGE-REPL-ID');
    await cutsOver(resume(t, all, 'auto'), all);
    assert.equal(await fullCopies(all), 2);
  });

  test('--spool-limit counts it, and the disk is free behind it', async (t) => {
    const all = await scene(t, 'write', 'length');
    const run = migrate(t, all.uris, [...all.args, '--spool-limit', '1'], all);
    const error: CliEvent = await run.until((event) => event.event === 'error');
    assert.equal(error['code'], 'spool-limit');
    assert.match(String(error['message']), /kept by --keep-snapshot/);
    await ends(run, 1);
    assert.deepEqual(filesOf(all.runDir), []);
    const next = resume(t, all, 'never');
    await next.until((event) => event.event === 'error');
    assert.ok(!next.events.some((event) => FROM_THE_SPOOL.test(String(event['message']))));
  });
});
