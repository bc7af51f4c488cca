/**
 * Connections that break at every kind of place, on real servers: what is on the target at the end is what is on the
 * source, each counter, list and stream exactly once. Faults are placed by a seed, which each test prints.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import type { CliRun } from '../helpers/cli.ts';
import { type Fault, faultProxy } from '../helpers/fault-proxy.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  ends,
  infoNumber,
  lastProgress,
  migrate,
  seededRandom,
} from './support.ts';

/** As the link sends it; the preflight names it, too, in other commands. */
const PSYNC = '*3\r\n$5\r\nPSYNC\r\n';
/** The replication link, from the answer to PSYNC on. */
const LINK: Fault['after'] = [{ direction: 'to-server', text: PSYNC }];
/** The connection that fills the target, from its last greeting on. */
const WRITER: Fault['after'] = [{ direction: 'to-server', text: 'NO-TOUCH' }];

interface Scene {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly traffic: Traffic;
}

async function scene(t: TestContext, keys: number, sourceArgs: readonly string[] = []): Promise<Scene> {
  // a backlog that no cut of these tests outlasts: what breaks is to be gone on with, not begun anew
  const args = ['--repl-backlog-size', '64mb', '--repl-timeout', '60', ...sourceArgs];
  const [source, target] = await Promise.all([testServer(t, { args }), testServer(t)]);
  await loadDataset(source.port, { keys, bigMembers: 3_000 });
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 1_000, seed: keys });
  t.after(async () => {
    await traffic.stop();
  });
  return { source, target, traffic };
}

/** Waits for the faults; throws when the program ends before. */
async function allHappen(run: CliRun, faults: readonly Promise<void>[]): Promise<void> {
  const ended = run.exit.then((code) => {
    throw new Error(`the program ended with ${code}: ${run.stdout().slice(-2000)}`);
  });
  await Promise.race([Promise.all(faults), ended]);
}

/** Cuts over, once the faults are through, and compares. */
async function cutOverAndCompare({ source, target, traffic }: Scene, run: CliRun): Promise<void> {
  await ends(run, 0);
  const { witness } = await traffic.stop();
  assert.ok(witness > 0);
  assert.equal(lastProgress(run)?.['divergences'], 0);
  await assertEqualServers(source.port, target.port);
}

describe('links that break', { concurrency: 2 }, () => {
  test('the link is cut within the handshake', async (t) => {
    const all = await scene(t, 1_000);
    const proxy = await faultProxy(t, all.source.port);
    const cut = (text: string, bytes: number, how: 'close' | 'reset'): Promise<void> =>
      proxy.fault({ after: [{ direction: 'to-server', text }], direction: 'to-client', bytes, how });
    // before an answer, within one, within +FULLRESYNC, within the length behind it; the pauses between grow (1.4 s here)
    const happened = [cut('listening-port', 0, 'close'), cut('psync2', 2, 'reset'), cut(PSYNC, 30, 'close')];
    happened.push(cut(PSYNC, 60, 'reset'));
    const run = migrate(t, [proxy.uri, all.target.uri], ['--cutover', 'auto']);
    await allHappen(run, happened);
    await cutOverAndCompare(all, run);
  });

  test('the target is cut off between the snapshot and the first checkpoint behind it', async (t) => {
    const all = await scene(t, 1_000);
    const proxy = await faultProxy(t, all.target.port);
    // the first batch of the stream is queued, its EXEC does not arrive
    const batch: Fault['after'] = [...WRITER, { direction: 'to-server', text: '\r\nMULTI\r\n' }];
    const cut = proxy.fault({ after: batch, direction: 'to-server', bytes: 0, how: 'reset' });
    const run = migrate(t, [all.source.uri, proxy.uri], ['--cutover', 'auto']);
    await allHappen(run, [cut]);
    await cutOverAndCompare(all, run);
    assert.equal(await infoNumber(all.source.port, 'stats', 'sync_full'), 1);
  });

  test('every byte of the source comes by itself', async (t) => {
    const source = await testServer(t);
    const target = await testServer(t);
    await loadDataset(source.port, { keys: 300, bigMembers: 20 });
    // as it comes it is four fifths of all; a length of four bytes it has still
    await ask(source.port, 'SET', 'big:string', randomBytes(20_000).toString('latin1'));
    const traffic = await startTraffic({ port: source.port, ratePerSecond: 100 });
    t.after(async () => {
      await traffic.stop();
    });
    const proxy = await faultProxy(t, source.port, { pieceBytes: 1 });
    const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'auto', '--cutover-timeout', '60']);
    await cutOverAndCompare({ source, target, traffic }, run);
  });

  for (const [how, sourceArgs] of [
    ['with a length', ['--repl-diskless-sync', 'no']],
    ['with a mark', ['--repl-diskless-sync', 'yes']],
  ] as const) {
    test(`the link is cut within the snapshot ${how}`, async (t) => {
      const random = seededRandom(t);
      const all = await scene(t, 4_000, sourceArgs);
      const proxy = await faultProxy(t, all.source.port);
      const cut = (after: Fault['after'], bytes: number, reset: boolean): Promise<void> =>
        proxy.fault({ after, direction: 'to-client', bytes, how: reset ? 'reset' : 'close' });
      const within: Fault['after'] = [...LINK, { direction: 'to-client', text: 'REDIS0' }];
      const happened = [
        cut(within, 0, false),
        cut(within, 1 + random(100_000), true),
        cut(within, 1 + random(100_000), false),
      ];
      const run = migrate(t, [proxy.uri, all.target.uri], ['--cutover', 'never']);
      await allHappen(run, happened);
      await run.phase('in-sync');
      assert.ok((await infoNumber(all.source.port, 'stats', 'sync_full')) >= 4);
      await all.traffic.stop();
      await caughtUp(run, all.source.port);
      run.kill();
      await ends(run, 130);
      await assertEqualServers(all.source.port, all.target.port, false);
    });
  }

  test('the link is cut in the stream, also inside transactions, and goes on without a new copy', async (t) => {
    const random = seededRandom(t);
    const all = await scene(t, 2_000);
    const proxy = await faultProxy(t, all.source.port);
    const run = migrate(t, [proxy.uri, all.target.uri], ['--cutover', 'never']);
    await run.phase('in-sync');
    for (let round = 0; round < 8; round++) {
      const text = ['MULTI\r\n', 'SELECT\r\n', 'RPUSH\r\n', 'EXEC\r\n'][round % 4] ?? '';
      const happened = proxy.fault({
        after: [
          { direction: 'to-client', text: 'INCR' },
          { direction: 'to-client', text },
        ],
        direction: 'to-client',
        bytes: random(round < 4 ? 12 : 5_000),
        how: round % 2 === 0 ? 'close' : 'reset',
      });
      await allHappen(run, [happened]);
      const partial = round + 1;
      await until(async () => (await infoNumber(all.source.port, 'stats', 'sync_partial_ok')) >= partial);
    }
    // what the tool sends can be cut, too: an acknowledgement that arrives in half
    const half: Fault = {
      after: [{ direction: 'to-server', text: 'ACK' }],
      direction: 'to-server',
      bytes: 2,
      how: 'reset',
    };
    await allHappen(run, [proxy.fault(half)]);
    assert.equal(await infoNumber(all.source.port, 'stats', 'sync_full'), 1);
    await all.traffic.stop();
    await caughtUp(run, all.source.port);
    run.kill();
    await ends(run, 130);
    await assertEqualServers(all.source.port, all.target.port, false);
  });

  test('the target is cut with commands in flight, during the snapshot', async (t) => {
    const random = seededRandom(t);
    const all = await scene(t, 10_000);
    const proxy = await faultProxy(t, all.target.port);
    const cuts: Promise<void>[] = [];
    for (let round = 0; round < 4; round++) {
      const direction = round % 3 === 0 ? 'to-client' : 'to-server';
      cuts.push(
        proxy.fault({
          after: WRITER,
          direction,
          bytes: random(direction === 'to-client' ? 5_000 : 300_000),
          how: round % 2 === 0 ? 'close' : 'reset',
        }),
      );
    }
    const run = migrate(t, [all.source.uri, proxy.uri], ['--cutover', 'auto']);
    await allHappen(run, cuts);
    await cutOverAndCompare(all, run);
    assert.equal(await infoNumber(all.source.port, 'stats', 'sync_full'), 1);
  });

  test('the target is cut with commands in flight, during the stream', async (t) => {
    const random = seededRandom(t);
    const all = await scene(t, 2_000);
    const proxy = await faultProxy(t, all.target.port);
    const run = migrate(t, [all.source.uri, proxy.uri], ['--cutover', 'never']);
    await run.phase('in-sync');
    for (let round = 0; round < 16; round++) {
      // within a batch, behind its EXEC, and within the answer to one: nobody knows then whether it was executed
      const after: Fault['after'] = [
        { direction: 'to-server', text: ['MULTI\r\n', 'EXEC\r\n', 'HMSET\r\n'][round % 3] ?? '' },
      ];
      const direction = round % 2 === 0 ? 'to-client' : 'to-server';
      const bytes = direction === 'to-client' ? random(20) : random(3_000);
      await allHappen(run, [
        proxy.fault({ after, direction, bytes, how: round % 5 < 2 ? 'reset' : 'close' }),
      ]);
      // the pauses between attempts grow until something gets through
      const witness = await ask(all.target.port, 'GET', WITNESS_KEY);
      await until(async () => (await ask(all.target.port, 'GET', WITNESS_KEY)) !== witness);
    }
    await all.traffic.stop();
    await caughtUp(run, all.source.port);
    assert.equal(lastProgress(run)?.['divergences'], 0);
    await assertEqualServers(all.source.port, all.target.port, false);
    assert.equal(await infoNumber(all.source.port, 'stats', 'sync_full'), 1);
    run.kill();
    await ends(run, 130);
  });

  test('both sides are cut at once, again and again, and refuse for a while', async (t) => {
    const random = seededRandom(t);
    const all = await scene(t, 2_000);
    const left = await faultProxy(t, all.source.port);
    const right = await faultProxy(t, all.target.port);
    const run = migrate(t, [left.uri, right.uri], ['--cutover', 'never']);
    await run.phase('in-sync');
    for (let round = 0; round < 6; round++) {
      const sides = [left, right].filter((_side, index) => round % 3 === 2 || round % 3 === index);
      for (const side of sides) side.refuse(true);
      for (const side of sides) side.cutAll(random(2) === 0 ? 'close' : 'reset');
      await new Promise((resolve) => setTimeout(resolve, random(400)));
      for (const side of sides) side.refuse(false);
    }
    await all.traffic.stop();
    await caughtUp(run, all.source.port);
    run.kill();
    await ends(run, 130);
    await assertEqualServers(all.source.port, all.target.port, false);
  });
});
