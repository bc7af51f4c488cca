/**
 * The target fails over to a replica of its own, behind one address (here the proxy's; a virtual address or a name in
 * practice), feed write. What the replica holds decides where the stream goes on; our user and the fence are not
 * replicated and are set again first.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer, ServerOptions } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import type { CliRun } from '../helpers/cli.ts';
import { infoField } from '../helpers/client.ts';
import { type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { serverReleases } from '../helpers/releases.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  ends,
  eventsOf,
  infoNumber,
  lastProgress,
  migrate,
  note,
  withClient,
} from './support.ts';

interface Scene {
  readonly source: DemoServer;
  readonly traffic: Traffic;
  readonly first: DemoServer;
  /** The replica of the first. */
  readonly second: DemoServer;
  /** In front of the first; the second can be put in its place. */
  readonly address: FaultProxy;
  readonly run: CliRun;
}

async function inSync(t: TestContext, release: ServerOptions = {}): Promise<Scene> {
  const source = await testServer(t, { ...release, args: ['--repl-backlog-size', '64mb'] });
  await loadDataset(source.port, { keys: 2_000, bigMembers: 1_000 });
  const [first, second] = await Promise.all([testServer(t, release), testServer(t, release)]);
  await ask(second.port, 'REPLICAOF', '127.0.0.1', first.port);
  await until(() => linkUp(second));
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 500 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  const address = await faultProxy(t, first.port);
  const run = migrate(t, [source.uri, address.uri], ['--cutover', 'never']);
  await run.phase('in-sync');
  await until(async () => (await witnessOf(second)) > 20);
  return { source, traffic, first, second, address, run };
}

const linkUp = ({ port }: DemoServer): Promise<boolean> =>
  withClient(port, async (client) => (await infoField(client, 'replication', 'master_link_status')) === 'up');

const witnessOf = async ({ port }: DemoServer): Promise<number> =>
  Number(await ask(port, 'GET', WITNESS_KEY));

/** The second lacks the last writes of the first: it hears nothing more of it while these come. */
async function fallBehind({ first, second }: Scene): Promise<number> {
  await ask(second.port, 'REPLICAOF', '127.0.0.1', 1);
  const had = await witnessOf(second);
  await until(async () => (await witnessOf(first)) > had + 30);
  return had;
}

/** The stream goes on there. */
async function followed({ second }: Scene, from: number): Promise<void> {
  await until(async () => (await witnessOf(second)) > from + 50, { timeoutMs: 30_000, what: 'the stream' });
}

/** And nobody else can write. */
async function goesOn(scene: Scene, from: number): Promise<void> {
  await followed(scene, from);
  const { second, run } = scene;
  const notes = eventsOf(run, 'note').map(({ message }) => String(message));
  assert.ok(notes.some((message) => /forgotten our user and the fence/.test(message)));
  await assert.rejects(ask(second.port, 'SET', 'stranger', '1'), /NOPERM/);
}

async function end({ source, traffic, second, run }: Scene): Promise<void> {
  const { witness } = await traffic.stop();
  await caughtUp(run, source.port);
  assert.equal(lastProgress(run)?.['divergences'], 0);
  assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
  run.kill();
  await ends(run, 130);
  assert.equal(await witnessOf(second), witness);
  assert.equal(await ask(second.port, 'SET', 'stranger', '1'), 'OK', 'the fence is lifted where it was set');
  await ask(second.port, 'DEL', 'stranger', 'redis-cutover:checkpoint');
  await assertEqualServers(source.port, second.port);
}

describe('a target that fails over', { concurrency: 3 }, () => {
  test('killed: its replica, which lacks the last writes, takes its place', async (t) => {
    const scene = await inSync(t);
    const { first, second, address, run } = scene;
    const had = await fallBehind(scene);
    first.process.kill('SIGKILL');
    // still a replica when it is given the address
    address.toServer(second.port);
    await note(run, /READONLY.*make it a master again/);
    assert.equal(await witnessOf(second), had);
    await ask(second.port, 'REPLICAOF', 'NO', 'ONE');
    await goesOn(scene, had);
    await end(scene);
  });

  test('demoted and alive: open connections still lead to it', async (t) => {
    const scene = await inSync(t);
    const { first, second, address, run } = scene;
    const had = await fallBehind(scene);
    address.toServer(second.port);
    await ask(second.port, 'REPLICAOF', 'NO', 'ONE');
    // it refuses writes from now on, and keeps what the other lacks: its new master does not answer
    await ask(first.port, 'REPLICAOF', '127.0.0.1', 1);
    await note(run, /READONLY/);
    assert.ok((await witnessOf(first)) > had);
    await goesOn(scene, had);
    await end(scene);
  });

  const old = serverReleases().find(({ version }) => version === '5.0.10');
  const needsOld = old === undefined ? { skip: 'needs 5.0.10' } : {};
  // where no user of ours keeps a wrong connection from being used
  test('5.0, demoted and alive: place and data are of one server', needsOld, async (t) => {
    const scene = await inSync(t, old === undefined ? {} : { binary: old.path });
    const { first, second, address } = scene;
    const had = await fallBehind(scene);
    address.toServer(second.port);
    await ask(second.port, 'REPLICAOF', 'NO', 'ONE');
    await ask(first.port, 'REPLICAOF', '127.0.0.1', 1);
    await followed(scene, had);
    await end(scene);
  });

  test('asked to fail over: the replica has everything', async (t) => {
    const scene = await inSync(t);
    const { first, second, address } = scene;
    const had = await witnessOf(second);
    await ask(first.port, 'FAILOVER', 'TO', '127.0.0.1', second.port, 'TIMEOUT', 10_000);
    await until(async () => (await infoNumber(second.port, 'replication', 'connected_slaves')) === 1);
    address.toServer(second.port);
    await goesOn(scene, had);
    await end(scene);
  });
});
