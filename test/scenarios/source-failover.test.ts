/**
 * The source fails over, restarts, or loses its data (protocol.md 1.12, 1.13): the target ends equal to whoever is the
 * source then, without a second full copy where the history goes on, and is never emptied for a source that came back
 * without its data.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic } from '../../src/demo/traffic.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { infoField, plain } from '../helpers/client.ts';
import { type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  ends,
  eventsOf,
  infoNumber,
  migrate,
  newRunDir,
  withClient,
} from './support.ts';

const FEEDS = ['write', 'attach'] as const;
type FeedName = (typeof FEEDS)[number];
/** Offsets stand still where nobody writes. */
const QUIET = ['--repl-ping-replica-period', '3600'];

function replication(port: number, field: string): Promise<string> {
  return withClient(port, (client) => infoField(client, 'replication', field));
}

async function trafficOn(t: TestContext, port: number): Promise<Traffic> {
  const traffic = await startTraffic({ port, ratePerSecond: 500 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  return traffic;
}

/** Until `replica` has all that `master` has, which stands still. */
async function follows(replica: number, master: number): Promise<void> {
  await until(
    async () =>
      (await replication(replica, 'master_link_status')) === 'up' &&
      (await replication(replica, 'slave_repl_offset')) === (await replication(master, 'master_repl_offset')),
    { timeoutMs: 30_000, what: 'the replica has all of its master' },
  );
}

async function killed({ process }: DemoServer): Promise<void> {
  const gone = once(process, 'exit');
  process.kill('SIGKILL');
  await gone;
}

/** Waits for a phase that the run comes to behind its first `seen` events. */
async function again(run: CliRun, phase: string, seen: number): Promise<void> {
  await until(
    () => run.events.slice(seen).some((event) => event.event === 'phase' && event['to'] === phase),
    {
      timeoutMs: 60_000,
      what: `${phase} again`,
    },
  );
}

/** While it follows expiry times are held back: it is compared behind the end. */
async function quitEqual(run: CliRun, source: number, target: number): Promise<void> {
  run.kill();
  await ends(run, 130);
  await assertEqualServers(source, target, false);
}

interface Chain {
  /** Followed by the run, by way of `proxy`. */
  readonly first: DemoServer;
  /** Its replica, by way of `between`. */
  readonly second: DemoServer;
  readonly target: DemoServer;
  readonly proxy: FaultProxy;
  readonly between: FaultProxy;
  readonly run: CliRun;
}

/** A source with a replica, and a run in sync with the source; nobody writes. */
async function chain(t: TestContext, feed: FeedName): Promise<Chain> {
  const first = await testServer(t, { args: QUIET });
  // before it has a replica: what the stream says of consumers is less than what a snapshot holds
  await loadDataset(first.port, { keys: 500, bigMembers: 100 });
  const between = await faultProxy(t, first.port);
  const follow = ['--replicaof', '127.0.0.1', String(between.port)];
  const [second, target] = await Promise.all([testServer(t, { args: [...QUIET, ...follow] }), testServer(t)]);
  const proxy = await faultProxy(t, first.port);
  await follows(second.port, first.port);
  const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never'], { feed });
  await run.phase('in-sync');
  return { first, second, target, proxy, between, run };
}

/** The first one dies; the second becomes a master at its address. */
async function failOver({ first, second }: Chain): Promise<DemoServer> {
  await killed(first);
  await ask(second.port, 'REPLICAOF', 'NO', 'ONE');
  await ask(second.port, 'CONFIG', 'SET', 'port', first.port);
  return { ...second, port: first.port };
}

/** Goes on writing to the new source; a further break must be gone on from under the new history's own name. */
async function goesOn(t: TestContext, { proxy, target, run }: Chain, source: DemoServer): Promise<void> {
  const partial = await infoNumber(source.port, 'stats', 'sync_partial_ok');
  const traffic = await trafficOn(t, source.port);
  await until(() => traffic.stats().witness > 20);
  proxy.cutAll('reset');
  await until(async () => (await infoNumber(source.port, 'stats', 'sync_partial_ok')) > partial, {
    timeoutMs: 20_000,
  });
  const written = traffic.stats().witness;
  await until(() => traffic.stats().witness > written + 20);
  await traffic.stop();
  await caughtUp(run, source.port);
  await quitEqual(run, source.port, target.port);
}

describe('the source fails over to its replica', { concurrency: 3 }, () => {
  for (const feed of FEEDS) {
    test(`${feed}: we are behind where the histories part`, async (t) => {
      const all = await chain(t, feed);
      const { first, second, proxy } = all;
      proxy.refuse(true);
      proxy.cutAll('reset');
      await withClient(first.port, async (client) => {
        await client.call('SELECT', 5);
        for (let n = 0; n < 50; n++) await client.call('RPUSH', 'behind', n);
      });
      await follows(second.port, first.port);
      const source = await failOver(all);
      // without a SELECT: the new master's first one comes by its own
      await withClient(source.port, async (client) => {
        await client.call('SELECT', 5);
        await client.call('RPUSH', 'behind', 'the failover');
      });
      proxy.refuse(false);
      await caughtUp(all.run, source.port);
      assert.deepEqual(
        [
          await infoNumber(source.port, 'stats', 'sync_full'),
          await infoNumber(source.port, 'stats', 'sync_partial_ok'),
        ],
        [0, 1],
      );
      await goesOn(t, all, source);
    });

    test(`${feed}: we are exactly there`, async (t) => {
      const all = await chain(t, feed);
      const { first, second, run } = all;
      await withClient(first.port, async (client) => {
        for (let n = 0; n < 50; n++) await client.call('INCR', 'equal');
      });
      await follows(second.port, first.port);
      await caughtUp(run, first.port);
      const source = await failOver(all);
      await until(async () => (await infoNumber(source.port, 'stats', 'sync_partial_ok')) === 1, {
        timeoutMs: 30_000,
      });
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 0);
      await goesOn(t, all, source);
    });

    test(`${feed}: we are ahead: what only the first one had goes`, async (t) => {
      const all = await chain(t, feed);
      const { first, second, target, between, run } = all;
      await follows(second.port, first.port);
      between.refuse(true);
      between.cutAll('reset');
      await withClient(first.port, async (client) => {
        await client.call('SET', 'only:first', 'x');
        await client.call('SELECT', 9);
        for (let n = 0; n < 50; n++) await client.call('INCR', 'only:first');
      });
      await caughtUp(run, first.port);
      assert.equal(await ask(target.port, 'GET', 'only:first'), 'x');
      const seen = run.events.length;
      const source = await failOver(all);
      await again(run, 'snapshot', seen);
      await again(run, 'in-sync', seen);
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);
      assert.equal(await ask(target.port, 'EXISTS', 'only:first'), 0);
      await goesOn(t, all, source);
    });
  }

  test('the first one lives on elsewhere: our questions go to whom we follow', async (t) => {
    const all = await chain(t, 'write');
    const { first, second, target, run } = all;
    await ask(second.port, 'REPLICAOF', 'NO', 'ONE');
    const free = await testServer(t);
    const elsewhere = free.port;
    await free.stop();
    await ask(first.port, 'CONFIG', 'SET', 'port', elsewhere);
    await ask(second.port, 'CONFIG', 'SET', 'port', first.port);
    await ask(elsewhere, 'CLIENT', 'KILL', 'TYPE', 'replica');
    const ours = async (port: number): Promise<number> =>
      String(await ask(port, 'CLIENT', 'LIST')).split(' name=redis-cutover ').length - 1;
    await until(async () => (await ours(first.port)) === 1 && (await ours(elsewhere)) === 0, {
      timeoutMs: 20_000,
      what: 'the session is with the new source',
    });
    await caughtUp(run, first.port);
    await ask(elsewhere, 'SET', 'split', 'brain');
    await ask(first.port, 'SET', 'right', 'side');
    await caughtUp(run, first.port);
    await quitEqual(run, first.port, target.port);
  });
});

/** A server whose folder outlives it, so that it can be started anew at its place. */
class Restartable {
  readonly #t: TestContext;
  readonly #args: readonly string[];
  readonly dir: string;
  server: DemoServer;

  private constructor(t: TestContext, dir: string, args: readonly string[], server: DemoServer) {
    this.#t = t;
    this.dir = dir;
    this.#args = args;
    this.server = server;
  }

  static async start(t: TestContext, args: readonly string[] = QUIET): Promise<Restartable> {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-source-'));
    atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
    return new Restartable(t, dir, args, await testServer(t, { dir, args }));
  }

  get port(): number {
    return this.server.port;
  }

  get uri(): string {
    return this.server.uri;
  }

  async restart(): Promise<void> {
    const { port } = this;
    this.server = await testServer(this.#t, { port, dir: this.dir, args: this.#args });
  }

  /** Ends with its data on the disk, and comes back with them. */
  async restartInOrder(): Promise<void> {
    const gone = once(this.server.process, 'exit');
    await ask(this.port, 'SHUTDOWN', 'SAVE').catch(() => undefined);
    await gone;
    await this.restart();
  }

  /** Dies, and comes back with what was saved last; nothing was saved: empty. */
  async crash(): Promise<void> {
    await killed(this.server);
    await this.restart();
  }
}

describe('the source restarts', { concurrency: 3 }, () => {
  for (const feed of FEEDS) {
    test(`${feed}: in order, then by a crash that loses its last writes`, async (t) => {
      const source = await Restartable.start(t);
      const target = await testServer(t);
      await loadDataset(source.port, { keys: 500, bigMembers: 100 });
      const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed });
      await run.phase('in-sync');
      await ask(source.port, 'INCR', 'n');
      // what is on its way when the source ends can be lost with its connection
      await caughtUp(run, source.port);
      // from 7.0 on the history goes on
      await source.restartInOrder();
      await ask(source.port, 'INCR', 'n');
      await caughtUp(run, source.port);
      await until(async () => (await ask(target.port, 'GET', 'n')) === '2');
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 0);

      await ask(source.port, 'SAVE');
      await ask(source.port, 'SET', 'lost', 'x');
      await until(async () => (await ask(target.port, 'EXISTS', 'lost')) === 1);
      const seen = run.events.length;
      await source.crash();
      await ask(source.port, 'INCR', 'n');
      await again(run, 'snapshot', seen);
      await again(run, 'in-sync', seen);
      await caughtUp(run, source.port);
      assert.equal(await ask(target.port, 'EXISTS', 'lost'), 0);
      await quitEqual(run, source.port, target.port);
    });

    test(`${feed}: empty: the target keeps the data, also by resume, until the source has them again`, async (t) => {
      const source = await Restartable.start(t);
      const target = await testServer(t);
      const keys = await loadDataset(source.port, { keys: 500, bigMembers: 100 });
      const runDir = newRunDir(t);
      const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed, runDir });
      await run.phase('in-sync');
      const before = await infoKeys(target.port);
      await ask(source.port, 'SAVE');
      const dump = join(source.dir, 'dump.rdb');
      const saved = join(source.dir, 'saved.rdb');
      renameSync(dump, saved);
      await source.crash();
      await ends(run, 1);
      assertEmptied(run, keys);
      assert.equal(await infoKeys(target.port), before);

      const resumed = runCli(['resume', runDir, '--cutover', 'never', '--json'], { t });
      if (feed === 'write') {
        await ends(resumed, 1);
        assertEmptied(resumed, keys);
      } else {
        // a copy would begin with emptying it
        await ends(resumed, 3);
        assert.equal(eventsOf(resumed, 'error')[0]?.['code'], 'other-history');
      }
      assert.equal(await infoKeys(target.port), before);

      await killed(source.server);
      renameSync(saved, dump);
      await source.restart();
      const mended = runCli(['resume', runDir, '--cutover', 'never', '--json'], { t });
      await mended.phase('in-sync');
      await ask(source.port, 'INCR', 'n');
      await caughtUp(mended, source.port);
      await quitEqual(mended, source.port, target.port);
    });
  }

  test('emptied by order while the link is down: the target is, too', async (t) => {
    const source = await testServer(t, { args: ['--repl-backlog-size', '16kb'] });
    const target = await testServer(t);
    await loadDataset(source.port, { keys: 500, bigMembers: 100 });
    const proxy = await faultProxy(t, source.port);
    const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never']);
    await run.phase('in-sync');
    proxy.refuse(true);
    proxy.cutAll('reset');
    await ask(source.port, 'SET', 'big', 'x'.repeat(100_000));
    await ask(source.port, 'FLUSHALL');
    await until(async () => (await infoNumber(source.port, 'replication', 'connected_slaves')) === 0);
    const seen = run.events.length;
    proxy.refuse(false);
    await again(run, 'snapshot', seen);
    await again(run, 'in-sync', seen);
    assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 2);
    await quitEqual(run, source.port, target.port);
  });
});

describe('the source is a replica', { concurrency: 3 }, () => {
  async function chained(t: TestContext, feed: FeedName) {
    const master = await Restartable.start(t);
    const keys = await loadDataset(master.port, { keys: 500, bigMembers: 100 });
    const follow = ['--replicaof', '127.0.0.1', String(master.port)];
    const source = await testServer(t, { args: [...QUIET, ...follow] });
    const target = await testServer(t);
    await follows(source.port, master.port);
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed });
    await run.phase('in-sync');
    return { master, source, target, run, keys };
  }

  for (const feed of FEEDS) {
    test(`${feed}: its master restarts in order, then by a crash that loses its last writes`, async (t) => {
      const { master, source, target, run } = await chained(t, feed);
      const inAnotherDb = (port: number, ...words: string[]): Promise<unknown> =>
        withClient(port, async (client) => {
          await client.call('SELECT', 5);
          return plain(await client.call(...words));
        });
      await inAnotherDb(master.port, 'INCR', 'n');
      await follows(source.port, master.port);
      await master.restartInOrder();
      await inAnotherDb(master.port, 'INCR', 'n');
      await follows(source.port, master.port);
      await caughtUp(run, source.port);
      assert.equal(await inAnotherDb(target.port, 'GET', 'n'), '2');
      assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), 1);

      await ask(master.port, 'SAVE');
      await ask(master.port, 'SET', 'lost', 'x');
      await until(async () => (await ask(target.port, 'EXISTS', 'lost')) === 1);
      const seen = run.events.length;
      await master.crash();
      await again(run, 'snapshot', seen);
      await again(run, 'in-sync', seen);
      assert.equal(await ask(source.port, 'EXISTS', 'lost'), 0);
      assert.equal(await ask(target.port, 'EXISTS', 'lost'), 0);
      await inAnotherDb(master.port, 'INCR', 'n');
      await follows(source.port, master.port);
      await caughtUp(run, source.port);
      await quitEqual(run, master.port, target.port);
    });

    test(`${feed}: its master comes back empty, and empties it: the target keeps the data`, async (t) => {
      const { master, target, run, keys } = await chained(t, feed);
      const before = await infoKeys(target.port);
      await master.crash();
      await ends(run, 1);
      assertEmptied(run, keys);
      assert.equal(await infoKeys(target.port), before);
    });
  }
});

test('a source whose offsets cannot be trusted (6.0.2): each break costs a full copy', async (t) => {
  const source = await testServer(t);
  const target = await testServer(t);
  await loadDataset(source.port, { keys: 500, bigMembers: 100 });
  const older = await saysItIs(t, source.port, '6.0.02');
  const run = migrate(t, [older, target.uri], ['--cutover', 'never'], { feed: 'auto' });
  await run.phase('in-sync');
  const seen = run.events.length;
  await ask(source.port, 'CLIENT', 'KILL', 'TYPE', 'replica');
  await again(run, 'snapshot', seen);
  await again(run, 'in-sync', seen);
  assert.deepEqual(
    [
      await infoNumber(source.port, 'stats', 'sync_full'),
      await infoNumber(source.port, 'stats', 'sync_partial_ok'),
    ],
    [2, 0],
  );
  await ask(source.port, 'INCR', 'n');
  await caughtUp(run, source.port);
  await quitEqual(run, source.port, target.port);
});

/** Keys of a target beside our own two. */
async function infoKeys(port: number): Promise<number> {
  const own = Number(await ask(port, 'EXISTS', 'redis-cutover:checkpoint', 'redis-cutover:lease'));
  const keyspace = String(await ask(port, 'INFO', 'keyspace'));
  return [...keyspace.matchAll(/keys=(\d+)/g)].reduce((sum, [, keys]) => sum + Number(keys), -own);
}

function assertEmptied(run: CliRun, keys: number): void {
  const [error] = eventsOf(run, 'error');
  assert.equal(error?.['code'], 'source-emptied', String(error?.['message']));
  const [, now, before] =
    /history and (\d+) keys, where there were at least (\d+)/.exec(String(error?.['message'])) ?? [];
  assert.equal(now, '0');
  // a resumed run cannot tell its own two keys from the others
  assert.ok(Number(before) >= keys - 2, String(error?.['message']));
  assert.match(String(error?.['hint']), /resume.*--flush-target/);
}

/** The server by way of a proxy that changes its version in INFO to one of the same length. */
async function saysItIs(t: TestContext, toPort: number, version: string): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(toPort, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket
        .on('error', () => undefined)
        .on('close', () => {
          client.destroy();
          upstream.destroy();
        });
    }
    client.pipe(upstream);
    upstream.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1').replace(/(?<=redis_version:)[\d.]{6}/, version);
      client.write(Buffer.from(text, 'latin1'));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  atEnd(t, () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return `redis://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}`;
}
