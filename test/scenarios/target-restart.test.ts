/**
 * The target is killed and comes back with all of its data, without its last writes, with an older dataset, or with
 * nothing: within the snapshot and within the stream, by both feeds, under writes that show what is lost or doubled.
 * What it comes back with decides: where data and position agree the stream goes on, else the copy is taken again.
 */
import assert from 'node:assert/strict';
import { readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { loadDataset } from '../../src/demo/dataset.ts';
import { type DemoServer, freePort, type ServerOptions } from '../../src/demo/server.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import type { CliRun } from '../helpers/cli.ts';
import { faultProxy } from '../helpers/fault-proxy.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  crashAndRestart,
  ends,
  infoNumber,
  lastProgress,
  migrate,
  note,
} from './support.ts';

interface Persistence {
  readonly name: string;
  readonly args: readonly string[];
  /** In the stream, a while before the crash. */
  readonly before?: (target: DemoServer) => Promise<unknown>;
  /** Between the crash and the restart: what a machine that lost its power would have lost. */
  readonly whileDown?: (target: DemoServer) => void;
  /** By feed write a crash in the stream costs no second copy. */
  readonly goesOn: boolean;
}

const AOF = ['--appendonly', 'yes', '--appendfsync'];
const KINDS: readonly Persistence[] = [
  { name: 'AOF always: with everything', args: [...AOF, 'always'], goesOn: true },
  {
    name: 'AOF everysec: without its last writes',
    args: [...AOF, 'everysec'],
    whileDown: loseTheEnd,
    goesOn: true,
  },
  {
    name: 'RDB only: with an older dataset',
    args: ['--save', '3600 1'],
    before: ({ port }) => ask(port, 'SAVE'),
    goesOn: true,
  },
  { name: 'no persistence: empty', args: [], goesOn: false },
];

/** The journal ends somewhere in the middle of a transaction, or of a word. */
function loseTheEnd({ dir }: DemoServer): void {
  const folder = join(dir, 'appendonlydir');
  const [file = ''] = readdirSync(folder).filter((name) => name.endsWith('.incr.aof'));
  const { size } = statSync(join(folder, file));
  truncateSync(join(folder, file), Math.max(0, size - 30_011));
}

interface Scene {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly run: CliRun;
  readonly options: ServerOptions;
  /** While true the source sends nothing more. */
  hold(hold: boolean): void;
  /** Ends the writes, then the run, and compares. */
  end(mostFullCopies: number): Promise<void>;
}

async function scene(
  t: TestContext,
  feed: 'write' | 'attach',
  args: readonly string[],
  within: 'snapshot' | 'stream',
): Promise<Scene> {
  const source = await testServer(t, { args: ['--repl-backlog-size', '64mb'] });
  await loadDataset(source.port, { keys: 10_000, bigMembers: 2_000 });
  const options = { args, port: await freePort() };
  const target = await testServer(t, options);
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 500 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  const proxy = await faultProxy(t, source.port);
  const inSnapshot = proxy.fault({
    after: [
      { direction: 'to-server', text: '*3\r\n$5\r\nPSYNC\r\n' },
      { direction: 'to-client', text: 'REDIS0' },
    ],
    direction: 'to-client',
    bytes: 300_000,
    how: 'pass',
  });
  void inSnapshot.then(() => proxy.hold(within === 'snapshot'));
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never'], { feed });
  await inSnapshot;
  if (within === 'stream') await run.phase('in-sync');
  const end = async (mostFullCopies: number): Promise<void> => {
    const { witness } = await traffic.stop();
    await caughtUp(run, source.port);
    assert.equal(lastProgress(run)?.['divergences'], 0);
    assert.ok((await infoNumber(source.port, 'stats', 'sync_full')) <= mostFullCopies);
    run.kill();
    await ends(run, 130);
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
    await ask(target.port, 'DEL', 'redis-cutover:checkpoint');
    await assertEqualServers(source.port, target.port);
  };
  return { source, target, run, options, hold: (hold) => proxy.hold(hold), end };
}

const witnessOf = async (port: number): Promise<number> => Number(await ask(port, 'GET', WITNESS_KEY));

/** The target has some more of the stream. */
async function goesOn(port: number, by: number): Promise<void> {
  const now = await witnessOf(port);
  await until(async () => (await witnessOf(port)) > now + by, { timeoutMs: 30_000 });
}

// most of the time they wait
describe('a target that is killed', { concurrency: 3 }, () => {
  for (const { name, args, before, whileDown, goesOn: continued } of KINDS) {
    test(`write, in the stream; ${name}`, async (t) => {
      const { source, target, run, options, end } = await scene(t, 'write', args, 'stream');
      await before?.(target);
      await goesOn(target.port, 60);
      const had = await witnessOf(target.port);
      const back = await crashAndRestart(t, target, options, () => whileDown?.(target));
      await note(run, /forgotten our user and the fence/);
      if (!continued) await note(run, /lost the copy: a new one is taken/);
      await until(async () => (await witnessOf(back.port)) > had, { timeoutMs: 30_000 });
      await assert.rejects(ask(target.port, 'SET', 'stranger', '1'), /NOPERM/);
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), continued ? 1 : 2);
      await end(continued ? 1 : 2);
    });

    test(`write, in the snapshot; ${name}`, async (t) => {
      const { target, run, options, hold, end } = await scene(t, 'write', args, 'snapshot');
      await until(async () => {
        if (Number(await ask(target.port, 'DBSIZE')) > 500) return true;
        // the run may have asked the source something when it began to hold its breath
        hold(false);
        await nextTurn();
        hold(true);
        return false;
      });
      await before?.(target);
      await crashAndRestart(t, target, options, () => whileDown?.(target));
      hold(false);
      await note(run, /lost the copy: a new one is taken/);
      await end(2);
    });

    // as our replica it knows its place only as long as it lives
    test(`attach, in the stream; ${name}`, async (t) => {
      const { target, run, options, end } = await scene(t, 'attach', args, 'stream');
      await before?.(target);
      await goesOn(target.port, 20);
      await crashAndRestart(t, target, options, () => whileDown?.(target));
      await note(run, /forgotten that it is our replica/);
      await end(2);
    });

    test(`attach, in the snapshot; ${name}`, async (t) => {
      const { target, run, options, hold, end } = await scene(t, 'attach', args, 'snapshot');
      await crashAndRestart(t, target, options);
      hold(false);
      await note(run, /forgotten that it is our replica/);
      // one, where the spool still held the payload from its first byte on
      await end(2);
    });
  }
});
