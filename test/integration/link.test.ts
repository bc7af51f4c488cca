/**
 * The link with real servers: the whole snapshot and stream through spool and RDB reader, offsets as the source
 * counts them, breaks that cost no second copy. Needs redis-server; more releases from `npm run servers`.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { atLeast } from '../../src/demo/release.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { freePort } from '../../src/demo/server.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import type { RespConnection } from '../../src/resp/connection.ts';
import { infoField, testClient } from '../helpers/client.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ReadingSink } from '../protocol/link-reading-sink.ts';
import { makeCertificates, runLink, type TestLinkOptions } from '../protocol/link-support.ts';

const releases = serverReleases();
const seven = releases.find(({ kind, major, minor }) => kind === 'redis' && major === 7 && minor === 0);
const byAge = [
  ...releases.filter(({ kind }) => kind === 'redis'),
  ...releases.filter(({ kind }) => kind === 'valkey'),
];
/** The oldest, and the newest of each kind. */
const edges = new Set(
  [
    byAge[0],
    byAge.findLast(({ kind }) => kind === 'redis'),
    byAge.findLast(({ kind }) => kind === 'valkey'),
  ].filter((release) => release !== undefined),
);
const DISKLESS = ['--repl-diskless-sync', 'yes', '--repl-diskless-sync-delay', '0'];
const DISK = ['--repl-diskless-sync', 'no'];

/** A link into a reading sink, GETACK answered. */
function follow(t: TestContext, port: number, options: TestLinkOptions = {}) {
  const sink = new ReadingSink(t);
  const running = runLink(t, port, { ...options, sink });
  sink.ackWanted = () => running.link.acknowledge();
  return running;
}

async function offsetOf(client: RespConnection): Promise<number> {
  return Number(await infoField(client, 'replication', 'master_repl_offset'));
}

/** Waits until the sink has all that the source has sent. A PING of the source may come at any time. */
async function untilLevel(client: RespConnection, sink: ReadingSink): Promise<void> {
  await until(async () => (await offsetOf(client)) === sink.receivedOffset, {
    timeoutMs: 20_000,
    what: 'the received offset to equal the source’s',
  });
}

function witnesses(sink: ReadingSink): number {
  return sink.commands.filter(([name, key]) => /^incr$/i.test(name!) && key === WITNESS_KEY).length;
}

async function endToEnd(t: TestContext, server: DemoServer, framing: 'length' | 'mark'): Promise<void> {
  const client = await testClient(t, server.port);
  const keys = await loadDataset(server.port, { keys: 3_000, bigMembers: 3_000 });
  const announceVersion = server.version.startsWith('9.') ? '9.1.0' : null;
  const { link, sink } = follow(t, server.port, { announceVersion });

  await until(() => sink.loaded, { timeoutMs: 20_000 });
  assert.equal(sink.framing?.kind, framing);
  assert.equal(sink.keys, keys);
  await untilLevel(client, sink);

  const traffic = await startTraffic({ port: server.port, ratePerSecond: 1_000 });
  await until(() => witnesses(sink) >= 20);
  const replica = await infoField(client, 'replication', 'slave0');
  const ip = atLeast(server.version, '3.2') ? 'migrator.invalid' : '127.0.0.1';
  assert.ok(replica.startsWith(`ip=${ip},port=0,state=online,`), replica);

  // `slave` is what every release understands
  assert.equal(Number(await client.call('CLIENT', 'KILL', 'TYPE', 'slave')), 1);
  await until(() => sink.calls.includes('continued'));
  const behind = witnesses(sink);
  await until(() => witnesses(sink) >= behind + 20);
  const stats = await traffic.stop();
  await untilLevel(client, sink);

  assert.equal(sink.calls.length, 3, sink.calls.join());
  assert.deepEqual([sink.calls[0], sink.calls[2]], ['full', 'continued']);
  assert.equal(await infoField(client, 'stats', 'sync_full'), '1');
  assert.equal(await infoField(client, 'stats', 'sync_partial_ok'), '1');
  assert.deepEqual([stats.refused, stats.unanswered], [0, 0]);
  assert.equal(witnesses(sink), stats.witness, 'a command was lost or came twice');
  assert.equal(link.connected, true);

  // what was acknowledged is what the source then knows: its own words
  if (atLeast(server.version, '3.0')) {
    await client.call('SET', 'last', 'write');
    assert.equal(await client.call('WAIT', 1, 5_000), 1);
  }
  await untilLevel(client, sink);
  await until(async () => {
    const acknowledged = /,offset=(\d+),/.exec(await infoField(client, 'replication', 'slave0'))?.[1];
    return Number(acknowledged) === sink.appliedOffset() && sink.appliedOffset() === (await offsetOf(client));
  });
}

describe('from snapshot to stream, over a break', () => {
  if (seven === undefined) {
    it('7.0', { skip: 'no redis-server 7.0 on this machine' }, () => {});
  } else {
    it('7.0, diskless', async (t) => {
      await endToEnd(t, await testServer(t, { binary: seven.path, args: DISKLESS }), 'mark');
    });
    it('7.0, by way of its disk', async (t) => {
      await endToEnd(t, await testServer(t, { binary: seven.path, args: DISK }), 'length');
    });
  }
  for (const release of edges) {
    it(`${release.kind} ${release.version}, as it comes`, async (t) => {
      await endToEnd(t, await testServer(t, { binary: release.path }), framingByDefault(release));
    });
  }
});

/** Diskless is the default since 7.0. */
function framingByDefault({ major }: Release): 'length' | 'mark' {
  return major >= 7 ? 'mark' : 'length';
}

describe('7.0', { skip: seven === undefined && 'no redis-server 7.0 on this machine' }, () => {
  const start = (t: TestContext, args: readonly string[]): Promise<DemoServer> =>
    testServer(t, { ...(seven === undefined ? {} : { binary: seven.path }), args });

  for (const [name, args, framing] of [
    ['diskless', DISKLESS, 'mark'],
    ['disk', DISK, 'length'],
  ] as const) {
    it(`without PSYNC: SYNC (${name}), the position from the AUX fields, the stream without a gap`, async (t) => {
      const server = await start(t, [...args, '--rename-command', 'PSYNC', '']);
      const client = await testClient(t, server.port);
      await client.call('SET', 'k', 'v');
      const { sink } = follow(t, server.port);
      await until(() => sink.loaded);
      assert.equal(sink.framing?.kind, framing);
      await client.call('INCR', 'n');
      await until(() => sink.commands.some(([word]) => word === 'INCR'));
      await untilLevel(client, sink);
      assert.equal(sink.strings.get('k'), 'v');
    });
  }

  it('a second payload whose value holds its own mark, which 7.0 uses again', async (t) => {
    const server = await start(t, DISKLESS);
    const client = await testClient(t, server.port);
    const first = follow(t, server.port);
    await until(() => first.sink.loaded);
    await first.stop();
    const framing = first.sink.framing;
    assert.ok(framing?.kind === 'mark');
    // Without a backlog the position is of no use, so that a full copy comes; compressible text would not stay as it is
    const value = Buffer.concat([Buffer.from('<'), framing.mark, Buffer.from('>')]).toString('latin1');
    await client.call('SET', 'trap', value);
    await client.call('SET', 'behind', 'it');
    const second = follow(t, server.port);
    await until(() => second.sink.loaded);
    assert.deepEqual(second.sink.framing, framing, 'the same mark: what makes this test one');
    assert.equal(second.sink.strings.get('trap'), value);
    assert.equal(second.sink.strings.get('behind'), 'it');
    await client.call('INCR', 'n');
    await untilLevel(client, second.sink);
  });

  it('without REPLCONF, which would end the link at the first acknowledgement: refused, and said how to go on', async (t) => {
    const renamed = await start(t, [...DISK, '--rename-command', 'REPLCONF', 'XREPL']);
    const error = await follow(t, renamed.port).ended;
    assert.equal(error?.code, 'source-no-replconf');
    assert.match(error.hint, /--replconf-command/);
    const { sink } = follow(t, renamed.port, { names: { psync: 'PSYNC', sync: 'SYNC', replconf: 'XREPL' } });
    await until(() => sink.loaded);

    const forbidden = await start(t, DISK);
    const admin = await testClient(t, forbidden.port);
    await admin.call('ACL', 'SETUSER', 'link', 'on', '>pw', '+psync', '+ping');
    const { ended } = follow(t, forbidden.port, { username: 'link', password: 'pw' });
    const refused = await ended;
    assert.deepEqual([refused?.code, refused?.exitCode], ['source-permission', 4]);
    assert.equal(await infoField(admin, 'stats', 'sync_full'), '0');
    await admin.call('ACL', 'SETUSER', 'link', '+replconf');
    const allowed = follow(t, forbidden.port, { username: 'link', password: 'pw' });
    await until(() => allowed.sink.loaded);
  });

  it('wrong and missing credentials', async (t) => {
    const server = await start(t, ['--requirepass', 'right']);
    for (const password of ['wrong', undefined]) {
      const error = await follow(t, server.port, password === undefined ? {} : { password }).ended;
      assert.deepEqual([error?.code, error?.exitCode], ['source-auth', 4]);
    }
    const { sink } = follow(t, server.port, { password: 'right' });
    await until(() => sink.loaded);
  });

  it('a replica as source that is not connected to its master: tried until it is', async (t) => {
    const port = await freePort();
    const replica = await start(t, ['--replicaof', '127.0.0.1', String(port)]);
    const { sink } = follow(t, replica.port);
    await until(() => sink.calls.length >= 2);
    assert.deepEqual([...new Set(sink.calls)], ['interrupted source-not-ready']);
    const master = await testServer(t, { port, args: [] });
    const client = await testClient(t, master.port);
    await client.call('SET', 'k', 'v');
    await until(() => sink.loaded && sink.calls.at(-1) === 'full', { timeoutMs: 30_000 });
    await client.call('INCR', 'n');
    // one history: the offsets are the master's own
    await untilLevel(client, sink);
  });

  it('over TLS; plain to the TLS port and TLS to the plain port: exit code 4', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-link-tls-'));
    t.after(() => rmSync(dir, { recursive: true }));
    makeCertificates(dir);
    const path = (name: string): string => join(dir, name);
    const tlsPort = await freePort();
    const files = ['--tls-cert-file', path('server.crt'), '--tls-key-file', path('server.key')];
    const authority = ['--tls-ca-cert-file', path('ca.crt'), '--tls-auth-clients', 'no'];
    const server = await start(t, [...DISKLESS, '--tls-port', String(tlsPort), ...files, ...authority]);
    const client = await testClient(t, server.port);
    const keys = await loadDataset(server.port, { keys: 2_000, bigMembers: 2_000 });
    const tls = { ca: readFileSync(path('ca.crt')), cert: null, key: null, sni: null, insecure: false };

    const plain = await follow(t, tlsPort, { password: 'pw' }).ended;
    assert.deepEqual([plain?.code, plain?.exitCode], ['source-tls-required', 4]);
    const wrapped = await follow(t, server.port, { tls, password: 'pw' }).ended;
    assert.deepEqual([wrapped?.code, wrapped?.exitCode], ['source-tls-plain', 4]);

    const { sink } = follow(t, tlsPort, { tls, host: 'localhost' });
    await until(() => sink.loaded);
    assert.equal(sink.keys, keys);
    await client.call('INCR', 'n');
    await untilLevel(client, sink);
    await client.call('CLIENT', 'KILL', 'TYPE', 'slave');
    await until(() => sink.calls.includes('continued'));
    await client.call('INCR', 'n');
    await untilLevel(client, sink);
    assert.equal(await infoField(client, 'stats', 'sync_full'), '1');
  });
});
