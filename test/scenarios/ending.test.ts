/**
 * How a run ends before its time, and what `resume` finds: SIGTERM and Ctrl-C in each phase, a full disk, the limit of
 * the spool, and a run folder that was damaged. The source takes writes, nothing of ours is left on either side, and
 * where the folder is whole the run is gone on with.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { safeFileName } from '../../src/migrate/run-folder.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  ends,
  eventsOf,
  infoNumber,
  migrate,
  newRunDir,
  withClient,
} from './support.ts';

type FeedName = 'write' | 'attach';

interface Scene {
  readonly source: DemoServer;
  readonly target: DemoServer;
  /** In front of the source. */
  readonly proxy: FaultProxy;
  readonly traffic: Traffic;
  readonly runDir: string;
  readonly acl: readonly [unknown, unknown];
  migrate(feed: FeedName, args: readonly string[]): CliRun;
}

async function scene(t: TestContext): Promise<Scene> {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys: 10_000, bigMembers: 2_000 });
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 500 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  const proxy = await faultProxy(t, source.port);
  const runDir = newRunDir(t);
  const acl = [await ask(source.port, 'ACL', 'LIST'), await ask(target.port, 'ACL', 'LIST')] as const;
  return {
    source,
    target,
    proxy,
    traffic,
    runDir,
    acl,
    migrate: (feed, args) => migrate(t, [proxy.uri, target.uri], args, { feed, runDir }),
  };
}

/** The source takes writes as ever; the target is a master that takes them, too, and has its users back. */
async function givenBack({ source, target, traffic, acl }: Scene): Promise<void> {
  assert.deepEqual([await ask(source.port, 'ACL', 'LIST'), await ask(target.port, 'ACL', 'LIST')], acl);
  const { acknowledged, refused } = traffic.stats();
  await until(() => traffic.stats().acknowledged > acknowledged);
  assert.equal(traffic.stats().refused, refused);
  await until(async () => (await infoNumber(source.port, 'replication', 'connected_slaves')) === 0);
  assert.match(String(await ask(target.port, 'INFO', 'replication')), /^role:master\r$/m);
}

/** Goes on, cuts over, and compares. */
async function resumeToTheEnd(t: TestContext, { source, target, traffic, runDir }: Scene): Promise<void> {
  const run = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
  await ends(run, 0);
  await until(() => traffic.stats().refused > 0);
  const { witness } = await traffic.stop();
  assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
  await assertEqualServers(source.port, target.port);
}

/** The source holds its breath in the middle of the snapshot. */
function inSnapshot({ proxy }: Scene): Promise<void> {
  const passed = proxy.fault({
    after: [
      { direction: 'to-server', text: '*3\r\n$5\r\nPSYNC\r\n' },
      { direction: 'to-client', text: 'REDIS0' },
    ],
    direction: 'to-client',
    bytes: 200_000,
    how: 'pass',
  });
  return passed.then(() => proxy.hold(true));
}

/** Hangs when it runs for the first time, behind the moment at which the target was opened. */
const HANGS_ONCE = 'cd "$REDIS_CUTOVER_RUN_DIR"; test -e hung || { touch hung; sleep 100; }';

// most of the time they wait
describe('ended by a signal, and gone on with', { concurrency: 3 }, () => {
  for (const [feed, signal] of [
    ['write', 'SIGTERM'],
    ['attach', 'SIGINT'],
  ] as const) {
    test(`${feed}: ${signal} in the snapshot`, async (t) => {
      const all = await scene(t);
      const held = inSnapshot(all);
      const run = all.migrate(feed, ['--cutover', 'never']);
      await run.phase('snapshot');
      await held;
      run.kill(signal);
      await ends(run, 130);
      all.proxy.hold(false);
      await givenBack(all);
      await resumeToTheEnd(t, all);
    });

    test(`${feed}: ${signal} while it catches up`, async (t) => {
      const all = await scene(t);
      const run = all.migrate(feed, ['--cutover', 'never']);
      await run.phase('catching-up');
      run.kill(signal);
      await ends(run, 130);
      await givenBack(all);
      await resumeToTheEnd(t, all);
      assert.equal(await infoNumber(all.source.port, 'stats', 'sync_full'), 1);
    });

    test(`${feed}: ${signal} in the middle of a cutover, the fence up: first that is undone`, async (t) => {
      const all = await scene(t);
      const run = all.migrate(feed, [
        '--cutover',
        'auto',
        '--cutover-timeout',
        '60',
        '--on-cutover',
        HANGS_ONCE,
      ]);
      await until(() => statSync(join(all.runDir, 'hung'), { throwIfNoEntry: false }) !== undefined, {
        timeoutMs: 60_000,
      });
      run.kill(signal);
      await ends(run, 130);
      assert.ok(!eventsOf(run, 'phase').some(({ to }) => to === 'promoted'));
      await givenBack(all);
      await resumeToTheEnd(t, all);
      // an attached target that had not found back to us when it was given back is in no history of the source's
      const copies = await infoNumber(all.source.port, 'stats', 'sync_full');
      assert.ok(copies === 1 || (feed === 'attach' && copies === 2));
    });
  }
});

/** More of the stream than memory takes, while the target takes nothing. */
async function flood({ source, target }: Scene, megabytes: number): Promise<void> {
  target.process.kill('SIGSTOP');
  const value = 'x'.repeat(100_000);
  await withClient(source.port, async (client) => {
    for (let n = 0; n < megabytes * 10; n++) await client.call('SET', `big:${n % 10}`, value + n);
  });
}

describe('ended by the disk', { concurrency: 3 }, () => {
  test('--spool-limit is reached: the source is unharmed, and the run can be gone on with', async (t) => {
    const all = await scene(t);
    const run = all.migrate('write', ['--cutover', 'never', '--spool-memory', '1', '--spool-limit', '5']);
    await run.phase('in-sync');
    const flooding = flood(all, 20);
    const { code } = await run.until(({ event }) => event === 'error');
    assert.equal(code, 'spool-limit');
    all.target.process.kill('SIGCONT');
    await flooding;
    await ends(run, 1);
    await givenBack(all);
    await resumeToTheEnd(t, all);
  });

  // what is written to /dev/full meets a full disk
  const noFullDevice = statSync('/dev/full', { throwIfNoEntry: false }) === undefined;
  const linux = noFullDevice ? { skip: 'needs /dev/full' } : {};

  test('the disk of the spool is full: a clear stop, and the run can be gone on with', linux, async (t) => {
    const all = await scene(t);
    const run = all.migrate('write', ['--cutover', 'never', '--spool-memory', '1']);
    await run.phase('in-sync');
    const folder = join(all.runDir, 'spool', safeFileName(`127.0.0.1:${all.proxy.port}`));
    mkdirSync(folder, { recursive: true });
    for (let n = 0; n < 4; n++) symlinkSync('/dev/full', join(folder, `segment-${n}`));
    const flooding = flood(all, 10);
    const error = await run.until(({ event }) => event === 'error');
    assert.equal(error['code'], 'spool-disk-full');
    assert.match(String(error['hint']), /--run-dir on a disk with at least \d+ MB free.*source is unharmed/);
    all.target.process.kill('SIGCONT');
    await flooding;
    await ends(run, 1);
    await givenBack(all);
    rmSync(join(all.runDir, 'spool'), { recursive: true, force: true });
    await resumeToTheEnd(t, all);
  });

  test('no line can be added to the journal: neither side is touched', linux, async (t) => {
    const all = await scene(t);
    mkdirSync(all.runDir);
    symlinkSync('/dev/full', join(all.runDir, 'journal.ndjson'));
    for (const feed of ['write', 'attach'] as const) {
      const run = all.migrate(feed, ['--cutover', 'never']);
      await ends(run, 1);
      const [error] = eventsOf(run, 'error');
      assert.equal(error?.['code'], 'run-dir-full');
      await givenBack(all);
      assert.equal(await ask(all.target.port, 'DBSIZE'), 0);
      rmSync(join(all.runDir, 'run.json'));
    }
  });
});

/** Killed in sync: the fence and the user of the run are left on the target, and only the folder knows. */
async function killed(t: TestContext): Promise<Scene & { readonly journal: string }> {
  const all = await scene(t);
  const run = all.migrate('write', ['--cutover', 'never']);
  await run.phase('in-sync');
  run.kill('SIGKILL');
  await run.exit;
  return { ...all, journal: join(all.runDir, 'journal.ndjson') };
}

async function assertDamaged(t: TestContext, all: Scene, file: string): Promise<void> {
  const before = await ask(all.target.port, 'ACL', 'LIST');
  const run = runCli(['resume', all.runDir, '--cutover', 'auto', '--json'], { t });
  await ends(run, 1);
  const [error] = eventsOf(run, 'error');
  assert.equal(error?.['code'], 'run-dir-damaged');
  assert.ok(String(error?.['message']).startsWith(file), String(error?.['message']));
  assert.deepEqual(await ask(all.target.port, 'ACL', 'LIST'), before);
  assert.equal(await ask(all.source.port, 'SET', 'open', '1'), 'OK');
}

describe('a run folder that is not whole', { concurrency: 3 }, () => {
  test('a torn last line is as if it had not been written', async (t) => {
    const all = await killed(t);
    appendFileSync(all.journal, '{"sum":"01234567","kind":"source-fe');
    await resumeToTheEnd(t, all);
    assert.deepEqual(await ask(all.target.port, 'ACL', 'LIST'), all.acl[1]);
  });

  test('a line in the middle, run.json, a journal that is none: nothing is done, and it is said', async (t) => {
    const all = await killed(t);
    const whole = readFileSync(all.journal, 'utf8');
    writeFileSync(all.journal, whole.replace('target-fence', 'target-fance'));
    await assertDamaged(t, all, 'journal.ndjson');
    rmSync(all.journal);
    mkdirSync(all.journal);
    await assertDamaged(t, all, 'journal.ndjson');
    rmSync(all.journal, { recursive: true });
    writeFileSync(all.journal, whole);
    const runFile = join(all.runDir, 'run.json');
    const run = readFileSync(runFile, 'utf8');
    truncateSync(runFile, 100);
    await assertDamaged(t, all, 'run.json');
    writeFileSync(runFile, run);
    await resumeToTheEnd(t, all);
    assert.deepEqual(await ask(all.target.port, 'ACL', 'LIST'), all.acl[1]);
  });
});
