/**
 * kill -9 at each step of a cutover and of what comes behind it, then `resume`. A wire between the program and a server
 * sees the command that marks a step, and kills the program before the command gets through, or before its reply does:
 * the same moment every time, without a hook in the program.
 */
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { plain } from '../helpers/client.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { did, driven } from './driven.ts';
import {
  ask,
  assertEqualServers,
  ends,
  firstPair,
  infoNumber,
  migrate,
  newRunDir,
  withClient,
} from './support.ts';

type Side = 'source' | 'target';
type Feed = 'attach' | 'write';

/** What the wire waits for. */
interface Trip {
  readonly side: Side;
  /** Of the bytes that the program sends. */
  readonly command: RegExp;
  /** `before`: the server never gets the command; `after`: it gets it, the program not the reply. */
  readonly when: 'before' | 'after';
}

/** A relay between the program and a server, that can kill the program at a command. */
interface Wire {
  readonly uri: string;
  readonly port: number;
}

/** A command as it is on the wire, its first words; names in any case. */
function sent(...words: readonly string[]): RegExp {
  return new RegExp(words.map((word) => `\\$\\d+\\r\\n${word}\\r\\n`).join(''), 'i');
}

async function wire(
  t: TestContext,
  server: DemoServer,
  onChunk: (text: string) => Trip['when'] | null,
  end: (connection: Socket) => void,
): Promise<Wire> {
  const sockets = new Set<Socket>();
  const relay = createServer((client) => {
    const upstream = connect(server.port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        client.destroy();
        upstream.destroy();
      });
    }
    let muted = false;
    client.on('data', (chunk) => {
      const tripped = onChunk(chunk.toString('latin1'));
      if (tripped !== null) muted = true;
      if (tripped !== 'before') upstream.write(chunk);
      if (tripped === 'before') end(client);
    });
    upstream.on('data', (chunk) => {
      // the server has done it
      if (muted) end(client);
      else client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  atEnd(t, async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => relay.close(resolve));
  });
  const address = relay.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { uri: `redis://127.0.0.1:${address.port}`, port: address.port };
}

interface Scene {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly uris: readonly [string, string];
  readonly traffic: Traffic;
  readonly runDir: string;
  readonly before: { readonly source: Rights; readonly target: Rights };
  /** Kills `run` at the trip; resolves when it is dead. */
  killAt(run: CliRun, trip: Trip): Promise<void>;
  /** Cuts the connection there instead, once. */
  cutAt(trip: Trip): void;
}

interface Rights {
  readonly acl: unknown;
  readonly settings: readonly string[];
}

/** Users and settings, without what a role says. */
function rightsOf(port: number): Promise<Rights> {
  return withClient(port, async (client) => {
    const settings = plain(await client.call('CONFIG', 'GET', '*')) as string[];
    const isRole = (name: string | undefined): boolean => name === 'replicaof' || name === 'slaveof';
    return {
      acl: await client.call('ACL', 'LIST').then(plain, () => null),
      settings: settings.filter((_, at) => !isRole(settings[at - (at % 2)])),
    };
  });
}

async function underTraffic(t: TestContext): Promise<Scene> {
  const [source, target] = await Promise.all([testServer(t), testServer(t)]);
  await loadDataset(source.port, { keys: 1_000, bigMembers: 200 });
  const before = { source: await rightsOf(source.port), target: await rightsOf(target.port) };
  let trip: Trip | null = null;
  let run: CliRun | null = null;
  const end = (connection: Socket): void => {
    if (run === null) connection.destroy();
    else run.kill('SIGKILL');
  };
  const trips = (side: Side) => (text: string) => {
    if (trip === null || trip.side !== side || !trip.command.test(text)) return null;
    const { when } = trip;
    trip = null;
    return when;
  };
  const wires = await Promise.all([
    wire(t, source, trips('source'), end),
    wire(t, target, trips('target'), end),
  ]);
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 1_000, seed: 7 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  return {
    source,
    target,
    uris: [wires[0].uri, wires[1].uri],
    traffic,
    runDir: newRunDir(t),
    before,
    killAt: async (killed, at) => {
      [run, trip] = [killed, at];
      assert.equal(await killed.exit, null, `not killed: ${killed.stdout().slice(-3000)}`);
      run = null;
    },
    cutAt: (at) => {
      trip = at;
    },
  };
}

/** `OK`, or how a write is refused. */
async function write(server: DemoServer, key: string): Promise<string> {
  // as if the pause had run out, which takes some seconds
  await ask(server.port, 'CLIENT', 'UNPAUSE');
  return ask(server.port, 'SET', key, 'x').then(String, String);
}

/** An application at each side tries to write, whatever it was told: who takes it. Never both. */
async function whoTakesWrites({ source, target }: Scene, key: string): Promise<Side | 'nobody'> {
  const [onSource, onTarget] = [await write(source, `${key}:source`), await write(target, `${key}:target`)];
  assert.ok(onSource !== 'OK' || onTarget !== 'OK', 'two writable sides');
  if (onSource === 'OK') return 'source';
  return onTarget === 'OK' ? 'target' : 'nobody';
}

/** Behind the resume: the target is the master, it has everything, once, and nothing of ours is left. */
async function assertThrough(scene: Scene, feed: Feed): Promise<void> {
  const { source, target, traffic, before } = scene;
  await until(() => traffic.stats().refused > 0, { what: 'refused on the source' });
  const last = await traffic.stop();
  assert.equal(await whoTakesWrites(scene, 'probe'), 'target');
  if (feed === 'attach') {
    await until(async () => (await ask(source.port, 'GET', 'probe:target')) === 'x');
    assert.deepEqual(await rightsOf(source.port), before.source);
    assert.equal(await infoNumber(target.port, 'stats', 'sync_full'), 0);
  } else {
    await ask(target.port, 'DEL', 'probe:target', 'window:target');
    assert.doesNotMatch(String(await ask(source.port, 'ACL', 'LIST')), /redis-cutover-/);
  }
  assert.deepEqual(await rightsOf(target.port), before.target);
  assert.equal(await ask(target.port, 'EXISTS', 'redis-cutover:checkpoint', 'redis-cutover:lease'), 0);
  assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(last.witness));
  await assertEqualServers(source.port, target.port);
}

/** The source is the master again, nothing of ours is left on it, and the target takes no writes. */
async function assertRolledBack(scene: Scene, feed: Feed): Promise<void> {
  const { source, target, traffic, before } = scene;
  await traffic.stop();
  assert.equal(await whoTakesWrites(scene, 'probe'), 'source');
  assert.deepEqual((await rightsOf(source.port)).acl, before.source.acl);
  if (feed === 'write') return;
  await until(async () => (await ask(target.port, 'GET', 'probe:source')) === 'x');
  assert.deepEqual((await rightsOf(target.port)).acl, before.target.acl);
  assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
  await assertEqualServers(source.port, target.port);
}

async function resume(t: TestContext, { runDir }: Scene, exitCode = 0): Promise<CliRun> {
  const run = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
  await ends(run, exitCode);
  return run;
}

/** The rights of users that are put on and taken off for good: not the trial of both on a user of our own. */
const FENCED = /^(?!.*fence-probe).*\r\n-@write\r\n/s;
const LIFTED = /^(?!.*fence-probe).*\r\n\+@all\r\n/s;
const STEPS: readonly (Trip & {
  readonly feed: Feed;
  readonly name: string;
  readonly left: Side | 'nobody';
})[] = [
  {
    feed: 'attach',
    name: 'PINGs kept away',
    side: 'source',
    command: sent('CONFIG', 'SET', 'repl-ping-replica-period'),
    when: 'after',
    left: 'source',
  },
  { feed: 'attach', name: 'source fenced', side: 'source', command: FENCED, when: 'after', left: 'nobody' },
  {
    feed: 'attach',
    name: 'target a master',
    side: 'target',
    command: sent('REPLICAOF', 'NO'),
    when: 'after',
    left: 'target',
  },
  {
    feed: 'attach',
    name: 'the source a replica',
    side: 'source',
    command: sent('REPLICAOF'),
    when: 'after',
    left: 'target',
  },
  { feed: 'attach', name: 'fence lifted', side: 'source', command: LIFTED, when: 'after', left: 'target' },
  {
    feed: 'write',
    name: 'writes paused',
    side: 'source',
    command: sent('CLIENT', 'PAUSE'),
    when: 'after',
    left: 'source',
  },
  { feed: 'write', name: 'source fenced', side: 'source', command: FENCED, when: 'after', left: 'nobody' },
  { feed: 'write', name: 'target open', side: 'target', command: LIFTED, when: 'after', left: 'target' },
  {
    feed: 'write',
    name: 'user dropped',
    side: 'target',
    command: sent('ACL', 'DELUSER', 'redis-cutover-[0-9a-f]+'),
    when: 'after',
    left: 'target',
  },
];

/** Steps at whose end the connection breaks: whether the server has done them is unknown to the program. */
const CUTS: readonly (Trip & { readonly feed: Feed; readonly name: string })[] = [
  { feed: 'attach', name: 'the promotion', side: 'target', command: sent('REPLICAOF', 'NO'), when: 'after' },
  { feed: 'attach', name: 'the change of roles', side: 'source', command: sent('REPLICAOF'), when: 'after' },
  { feed: 'write', name: 'the opening', side: 'target', command: LIFTED, when: 'after' },
];

describe('a connection breaks in a cutover: it is undone, and the next one succeeds', {
  concurrency: 2,
}, () => {
  for (const { feed, name, ...trip } of CUTS) {
    test(`${feed}: at the end of ${name}`, async (t) => {
      const scene = await underTraffic(t);
      const { uris, runDir } = scene;
      const run = migrate(t, uris, ['--cutover', 'auto'], { runDir, feed });
      await run.phase('in-sync');
      scene.cutAt(trip);
      await run.until(({ event }) => event === 'error');
      assert.equal(await whoTakesWrites(scene, 'window'), 'source');
      await ends(run, 0);
      await assertThrough(scene, feed);
    });
  }
});

const ROLLBACK_STEPS: readonly (Trip & {
  readonly feed: Feed;
  readonly name: string;
  readonly left: Side | 'nobody';
  readonly end: Side;
})[] = [
  {
    feed: 'attach',
    name: 'target fenced',
    side: 'target',
    command: FENCED,
    when: 'after',
    left: 'nobody',
    end: 'target',
  },
  {
    feed: 'attach',
    name: 'source a master',
    side: 'source',
    command: sent('REPLICAOF', 'NO'),
    when: 'after',
    left: 'source',
    end: 'source',
  },
  {
    feed: 'attach',
    name: 'target a replica',
    side: 'target',
    command: sent('REPLICAOF', '127.0.0.1'),
    when: 'after',
    left: 'source',
    end: 'source',
  },
  {
    feed: 'write',
    name: 'target fenced',
    side: 'target',
    command: FENCED,
    when: 'after',
    left: 'nobody',
    end: 'target',
  },
  {
    feed: 'write',
    name: 'source open',
    side: 'source',
    command: LIFTED,
    when: 'after',
    left: 'source',
    end: 'source',
  },
];

describe('killed in a cutover, then resumed', { concurrency: 4 }, () => {
  for (const { feed, name, left, ...trip } of STEPS) {
    test(`${feed}: ${name}`, async (t) => {
      const scene = await underTraffic(t);
      const { uris, runDir } = scene;
      const run = migrate(t, uris, ['--cutover', 'auto'], { runDir, feed });
      await run.phase('in-sync');
      await scene.killAt(run, trip);
      assert.equal(await whoTakesWrites(scene, 'window'), left);
      const { witness } = scene.traffic.stats();
      await resume(t, scene);
      if (left === 'target') {
        assert.equal(scene.traffic.stats().witness, witness, 'the source took writes again');
        assert.equal(await ask(scene.target.port, 'GET', 'window:target'), 'x');
      }
      await assertThrough(scene, feed);
    });
  }

  test('attach: killed behind the promotion; on the source a key expires since: it stays fenced', async (t) => {
    const scene = await underTraffic(t);
    const { source, target, uris, runDir, traffic } = scene;
    const run = migrate(t, uris, ['--cutover', 'auto'], { runDir, feed: 'attach' });
    await run.phase('in-sync');
    await ask(source.port, 'SET', 'short', 'x', 'PX', 2_500);
    await scene.killAt(run, { side: 'target', command: sent('REPLICAOF', 'NO'), when: 'after' });
    const offset = (): Promise<number> => infoNumber(source.port, 'replication', 'master_repl_offset');
    const before = await offset();
    // it expires nothing while it is paused
    await ask(source.port, 'CLIENT', 'UNPAUSE');
    await until(async () => (await offset()) > before, { what: 'the key expires on the source' });
    const summary = await ends(runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t }), 0);
    assert.match(String(firstPair(summary)['notes']), /no way back was kept.*full copy/);
    await traffic.stop();
    assert.equal(await whoTakesWrites(scene, 'probe'), 'target');
    assert.match(await write(source, 'probe'), /NOPERM/);
    assert.equal(await infoNumber(target.port, 'stats', 'sync_full'), 0);
  });

  test('attach: a pause that a killed cutover left ends by itself', async (t) => {
    const scene = await underTraffic(t);
    const { uris, runDir, traffic } = scene;
    const run = migrate(t, uris, ['--cutover', 'auto', '--cutover-timeout', '1'], { runDir, feed: 'attach' });
    await run.phase('in-sync');
    await scene.killAt(run, { side: 'source', command: sent('CLIENT', 'PAUSE'), when: 'after' });
    const { acknowledged } = traffic.stats();
    await until(() => traffic.stats().acknowledged > acknowledged + 300, { timeoutMs: 30_000 });
    assert.equal(traffic.stats().refused, 0);
    await resume(t, scene);
    await assertThrough(scene, 'attach');
  });
});

describe('killed while an operator led it, then resumed', { concurrency: 4 }, () => {
  test('attach: behind e: goes on by write from where the target was made a master', async (t) => {
    const scene = await underTraffic(t);
    const { source, target, traffic } = scene;
    const run = driven(t, scene.uris, scene.runDir, 'attach', ['e']);
    await did(run, 'e');
    assert.equal(await write(target, 'moved'), 'OK');
    const { witness } = traffic.stats();
    await until(() => traffic.stats().witness > witness + 20);
    run.kill('SIGKILL');
    await run.exit;
    assert.equal(await write(target, 'moved:2'), 'OK');
    await resume(t, scene);
    await until(() => traffic.stats().refused > 0);
    const last = await traffic.stop();
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
    assert.equal(await ask(target.port, 'DEL', 'moved', 'moved:2'), 2);
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(last.witness));
    await assertEqualServers(source.port, target.port);
    assert.deepEqual(await rightsOf(target.port), scene.before.target);
    assert.equal(await whoTakesWrites(scene, 'probe'), 'target');
  });

  test('attach: the connection breaks in e: it is undone, and succeeds without a second copy', async (t) => {
    const scene = await underTraffic(t);
    const { source, target, traffic } = scene;
    scene.cutAt({ side: 'target', command: sent('REPLICAOF', 'NO'), when: 'after' });
    const run = driven(t, scene.uris, scene.runDir, 'attach', ['e', 'm']);
    await run.until(({ event }) => event === 'refused');
    await did(run, 'm');
    await until(() => traffic.stats().refused > 0);
    const { witness } = await traffic.stop();
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
  });

  for (const feed of ['attach', 'write'] as const) {
    test(`${feed}: behind the promotion, the way back open`, async (t) => {
      const scene = await underTraffic(t);
      const run = driven(t, scene.uris, scene.runDir, feed, ['c']);
      await did(run, 'c');
      run.kill('SIGKILL');
      await run.exit;
      assert.equal(await whoTakesWrites(scene, 'window'), 'target');
      await resume(t, scene);
      await assertThrough(scene, feed);
    });

    test(`${feed}: behind a rollback`, async (t) => {
      const scene = await underTraffic(t);
      const run = driven(t, scene.uris, scene.runDir, feed, ['c', 'b']);
      await did(run, 'b');
      run.kill('SIGKILL');
      await run.exit;
      await resume(t, scene, 6);
      await assertRolledBack(scene, feed);
    });
  }

  for (const { feed, name, left, end, ...trip } of ROLLBACK_STEPS) {
    test(`${feed}: in a rollback, ${name}`, async (t) => {
      const scene = await underTraffic(t);
      const run = driven(t, scene.uris, scene.runDir, feed, ['c', 'b']);
      // the first words of the cutover behind which the rollback begins
      await run.until(({ event, to }) => event === 'phase' && to === 'writable');
      await scene.killAt(run, trip);
      assert.equal(await whoTakesWrites(scene, 'window'), left);
      await resume(t, scene, end === 'target' ? 0 : 6);
      if (end === 'source') await assertRolledBack(scene, feed);
      else assert.equal(await whoTakesWrites(scene, 'probe'), 'target');
    });
  }
});
