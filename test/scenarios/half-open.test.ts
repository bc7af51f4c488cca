/**
 * Connections over which nothing passes any more while both ends believe in them (a NAT that forgot them, a host that
 * died): found by silence in bounded time, each in its turn, and nothing is lost or doubled. The limits, a minute
 * otherwise, are short here; each pair is cut over at the end, which is the proof that it found back.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { Endpoint } from '../../src/core/endpoint.ts';
import type { MigrationEvent } from '../../src/core/events.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import { type DemoServer, freePort } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { Migration } from '../../src/migrate/migration.ts';
import { RunFolder } from '../../src/migrate/run-folder.ts';
import { type Fault, type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { DEFAULT_OPTIONS, rejection } from '../integration/migration-scene.ts';
import { ask, assertEqualServers, infoNumber } from './support.ts';

/** Well above the second between two PINGs of these sources and two acknowledgements. */
const SILENCE = { sourceMs: 4_000, targetMs: 4_000, replyMs: 4_000 };
const SLOW = { timeoutMs: 60_000 };

interface Scene {
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly traffic: Traffic;
  readonly migration: Migration;
  readonly events: readonly MigrationEvent[];
  /** Between the run and the source, and between the run and the target: what the run dials. */
  readonly left: FaultProxy;
  readonly right: FaultProxy;
  /** Feed attach: where the target dials the run. */
  readonly back: FaultProxy;
  start(): Promise<void>;
}

async function scene(
  t: TestContext,
  {
    feed = 'write',
    cutoverTimeoutMs = 10_000,
    late = null,
  }: { feed?: 'write' | 'attach'; cutoverTimeoutMs?: number; late?: LateNetwork | null } = {},
): Promise<Scene> {
  const args = ['--repl-ping-replica-period', '1', '--repl-backlog-size', '64mb'];
  // an attached target gives up a master that it does not hear of, too: later than we give it up
  const patience = ['--repl-timeout', '8'];
  const [source, target] = await Promise.all([testServer(t, { args }), testServer(t, { args: patience })]);
  await loadDataset(source.port, { keys: 3_000, bigMembers: 2_000 });
  const traffic = await startTraffic({ port: source.port, ratePerSecond: 300 });
  atEnd(t, async () => {
    await traffic.stop();
  });
  const inBetween = late === null ? target.port : await late.listen(t, target.port);
  const [left, right] = [await faultProxy(t, source.port), await faultProxy(t, inBetween)];
  const port = await freePort();
  const back = await faultProxy(t, port, { at: { host: '127.0.0.3', port }, toHost: '127.0.0.2' });
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-run-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const at = (proxy: FaultProxy): Endpoint => ({
    host: '127.0.0.1',
    port: proxy.port,
    username: null,
    password: null,
    tls: null,
  });
  const pair = { name: 'cart', source: at(left), target: at(right) };
  const listen = { host: '127.0.0.2', port, advertise: '127.0.0.3' };
  const options = { ...DEFAULT_OPTIONS, runDir: join(dir, 'run'), feed, cutoverTimeoutMs, listen };
  const events: MigrationEvent[] = [];
  const ports = { emit: (event: MigrationEvent) => void events.push(event), phaseChanged: () => {} };
  const migration = new Migration(pair, options, ports, null, SILENCE);
  const start = async (): Promise<void> => {
    await migration.check();
    assert.equal(migration.error, null, migration.error?.message);
    const folder = await RunFolder.create(options.runDir, 'test', [pair], options);
    atEnd(t, async () => {
      await migration.stop('the test is over');
      await folder.close();
    });
    await migration.start(folder);
  };
  return { source, target, traffic, migration, events, left, right, back, start };
}

/**
 * In front of a target: a network that loses a connection for the sender, and delivers to the receiver, much later,
 * what was under way on it.
 */
class LateNetwork {
  /** Connections that brought transactions so far. */
  writers = 0;
  #cutting: (() => void) | null = null;
  #held: { readonly server: Socket; readonly bytes: Buffer } | null = null;

  /** Listens in front of `toPort`; returns its own port. */
  async listen(t: TestContext, toPort: number): Promise<number> {
    const open = new Set<Socket>();
    const relay = createServer({ noDelay: true }, (client) => {
      const server = connect({ port: toPort, host: '127.0.0.1', noDelay: true });
      for (const socket of [client, server]) {
        open.add(socket);
        socket.on('error', () => undefined).on('close', () => open.delete(socket));
      }
      server.on('data', (chunk) => client.write(chunk)).on('close', () => client.destroy());
      let writes = false;
      let cut = false;
      client.on('data', (bytes: Buffer) => {
        if (cut) return;
        if (!writes && bytes.includes('MULTI')) {
          writes = true;
          this.writers++;
        }
        cut = this.#cutting !== null && bytes.includes('MULTI') && bytes.includes('EXEC');
        if (!cut) {
          server.write(bytes);
          return;
        }
        this.#held = { server, bytes };
        this.#cutting?.();
        this.#cutting = null;
        client.destroy();
      });
      client.on('close', () => {
        if (!cut) server.destroy();
      });
    });
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
    atEnd(t, async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => relay.close(resolve));
    });
    return (relay.address() as AddressInfo).port;
  }

  /** Loses the next connection that brings a whole transaction. */
  cut(): Promise<void> {
    return new Promise((resolve) => {
      this.#cutting = resolve;
    });
  }

  /** Delivers what was under way; returns how many bytes that were. */
  deliver(): number {
    this.#held?.server.write(this.#held.bytes);
    return this.#held?.bytes.length ?? 0;
  }
}

/** The connection with this text is stalled when so many bytes have passed behind it. */
function stall(
  proxy: FaultProxy,
  after: Fault['after'],
  direction: Fault['direction'],
  bytes: number,
): Promise<void> {
  return proxy.fault({ after, direction, bytes, how: 'stall' });
}

function said({ events }: Scene, message: RegExp): boolean {
  return events.some(
    (event) =>
      (event.event === 'note' && message.test(event.message)) ||
      (event.event === 'phase' && message.test(event.reason ?? '')),
  );
}

const inSync = ({ migration }: Scene): Promise<true> =>
  until(() => migration.phase === 'in-sync', { ...SLOW, what: 'in sync' });

/** The target has everything that the source has now. */
async function caughtUp({ migration, source }: Scene): Promise<void> {
  const offset = await infoNumber(source.port, 'replication', 'master_repl_offset');
  await until(() => migration.snapshot().appliedOffset >= offset, { ...SLOW, what: 'caught up' });
}

/** Cuts over, as soon as both sides are there, and compares. */
async function cutOverAndCompare(scene: Scene, mostFullCopies: number): Promise<void> {
  const { source, target, traffic, migration } = scene;
  await caughtUp(scene);
  await until(
    async () => {
      await inSync(scene);
      await migration.cutOver();
      return true;
    },
    { ...SLOW, what: 'the cutover' },
  );
  const { witness } = await traffic.stop();
  assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
  assert.equal(migration.snapshot().divergences, 0);
  assert.ok((await infoNumber(source.port, 'stats', 'sync_full')) <= mostFullCopies);
  await assertEqualServers(source.port, target.port);
}

const PSYNC: Fault['after'][number] = { direction: 'to-server', text: '*3\r\n$5\r\nPSYNC\r\n' };
const SOURCE_PLACES: readonly {
  name: string;
  after: Fault['after'];
  bytes: number;
  mostFullCopies: number;
}[] = [
  { name: 'the handshake', after: [{ direction: 'to-server', text: 'psync2' }], bytes: 0, mostFullCopies: 1 },
  {
    name: 'the snapshot',
    after: [PSYNC, { direction: 'to-client', text: 'REDIS0' }],
    bytes: 100_000,
    mostFullCopies: 2,
  },
  {
    name: 'the stream',
    after: [PSYNC, { direction: 'to-client', text: 'INCR' }],
    bytes: 20_000,
    mostFullCopies: 1,
  },
];

// most of the time they wait
describe('nothing passes any more', { concurrency: 4 }, () => {
  for (const { name, after, bytes, mostFullCopies } of SOURCE_PLACES) {
    test(`from the source, within ${name}`, async (t) => {
      const all = await scene(t);
      const stalled = stall(all.left, after, 'to-client', bytes);
      await all.start();
      await stalled;
      await until(() => said(all, /the source has sent nothing for \d+ s/), SLOW);
      await cutOverAndCompare(all, mostFullCopies);
    });
  }

  for (const [name, bytes] of [
    ['the snapshot', 100_000],
    ['the stream', 900_000],
  ] as const) {
    test(`to the target, within ${name}`, async (t) => {
      const all = await scene(t);
      const writer: Fault['after'] = [{ direction: 'to-server', text: 'NO-TOUCH' }];
      const stalled = stall(all.right, writer, 'to-server', bytes);
      await all.start();
      await stalled;
      await until(() => said(all, /the target has answered nothing for 4 s/), SLOW);
      await cutOverAndCompare(all, 1);
    });
  }

  test('to a target that is stopped for longer than that, with commands in flight', async (t) => {
    const all = await scene(t);
    await all.start();
    await inSync(all);
    all.target.process.kill('SIGSTOP');
    await until(() => said(all, /the target has answered nothing for 4 s/), SLOW);
    all.target.process.kill('SIGCONT');
    await cutOverAndCompare(all, 1);
  });

  test('to a target that is sent later what was under way: it is not executed any more', async (t) => {
    const late = new LateNetwork();
    const all = await scene(t, { late });
    await all.start();
    await inSync(all);
    await late.cut();
    await until(() => late.writers === 2, SLOW);
    await caughtUp(all);
    assert.ok(late.deliver() > 0, 'nothing was under way');
    await cutOverAndCompare(all, 1);
  });

  test('to an attached target, in the stream', async (t) => {
    const all = await scene(t, { feed: 'attach' });
    const stalled = stall(all.back, [{ direction: 'to-client', text: 'INCR' }], 'to-client', 20_000);
    await all.start();
    await stalled;
    await until(() => said(all, /it has acknowledged nothing for 4 s/), SLOW);
    await cutOverAndCompare(all, 1);
  });

  for (const feed of ['write', 'attach'] as const) {
    test(`${feed}: on the connections that ask both servers`, async (t) => {
      const all = await scene(t, { feed });
      await all.start();
      await inSync(all);
      // whatever is asked next, on whichever of them
      const info: Fault['after'] = [{ direction: 'to-server', text: 'INFO' }];
      const stalled = [stall(all.left, info, 'to-client', 10)];
      if (feed === 'attach') stalled.push(stall(all.right, info, 'to-client', 10));
      await Promise.all(stalled);
      await cutOverAndCompare(all, 1);
    });
  }

  for (const [step, ...texts] of [
    ['the pause', 'PAUSE'],
    ['the fence', 'PAUSE', '-@write'],
  ] as const) {
    test(`in a cutover, before the answer to ${step}: undone in time`, async (t) => {
      const all = await scene(t, { cutoverTimeoutMs: 1_000 });
      const { migration, source } = all;
      const acl = await ask(source.port, 'ACL', 'LIST');
      await all.start();
      await inSync(all);
      const after = texts.map((text) => ({ direction: 'to-server' as const, text }));
      void stall(all.left, after, 'to-client', 0);
      const { code } = await rejection(migration.cutOver());
      assert.equal(code, 'cutover-timeout');
      assert.deepEqual(await ask(source.port, 'ACL', 'LIST'), acl);
      assert.equal(await ask(source.port, 'SET', 'open', '1'), 'OK');
      await cutOverAndCompare(all, 1);
    });
  }
});
