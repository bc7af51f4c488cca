/**
 * Feed `attach` over the real program and real servers: the target is a true replica until the cutover, is given back
 * whole when the run ends before, and outlives links that break, restarts of its own and a failover of the source.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { loadDataset } from '../../src/demo/dataset.ts';
import { type DemoServer, freePort, type ServerOptions } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type CliRun, runCli } from '../helpers/cli.ts';
import { infoField, plain, testClient } from '../helpers/client.ts';
import { type Fault, type FaultProxy, faultProxy } from '../helpers/fault-proxy.ts';
import { atEnd, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  ask,
  assertEqualServers,
  caughtUp,
  crashAndRestart,
  ends,
  infoNumber,
  migrate,
  newRunDir,
  note,
  seededRandom,
  stateOf,
  withClient,
} from './support.ts';

interface Scene {
  readonly source: DemoServer;
  readonly target: DemoServer;
}

/** A filled source and an empty target. */
async function scene(
  t: TestContext,
  {
    keys = 1_000,
    source = {},
    target = {},
  }: { keys?: number; source?: ServerOptions; target?: ServerOptions } = {},
): Promise<Scene> {
  const servers = await Promise.all([testServer(t, source), testServer(t, target)]);
  await loadDataset(servers[0].port, { keys, bigMembers: 1_000 });
  return { source: servers[0], target: servers[1] };
}

async function trafficOn(t: TestContext, port: number, ratePerSecond = 500): Promise<Traffic> {
  const traffic = await startTraffic({ port, ratePerSecond });
  atEnd(t, async () => {
    await traffic.stop();
  });
  return traffic;
}

function replication(port: number, field: string): Promise<string> {
  return withClient(port, (client) => infoField(client, 'replication', field));
}

/** How many full copies a server has handed out. */
function fullCopies({ port }: DemoServer): Promise<number> {
  return infoNumber(port, 'stats', 'sync_full');
}

/** What a run must leave as it was: users and settings, but for whom it follows and where it lies. */
async function settingsOf(port: number): Promise<string> {
  const { acl, config } = (await stateOf(port)) as { acl: string[]; config: string[] };
  const settings: string[] = [];
  for (let at = 0; at < config.length; at += 2) settings.push(`${config[at]} ${config[at + 1]}`);
  return [...acl, ...settings.filter((line) => !/^(slaveof|replicaof|dir|logfile) /.test(line)).sort()].join(
    '\n',
  );
}

/** What is written in the files of a folder, all in one. */
function filesUnder(folder: string): string {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((file) => readFileSync(join(file.parentPath, file.name), 'latin1')).join('\n');
}

/** Waits until a replica has what its master has, both standing still. */
async function follows(replica: DemoServer, master: DemoServer): Promise<void> {
  await until(
    async () =>
      (await replication(replica.port, 'master_link_status')) === 'up' &&
      (await replication(replica.port, 'master_replid')) ===
        (await replication(master.port, 'master_replid')) &&
      (await replication(replica.port, 'master_repl_offset')) ===
        (await replication(master.port, 'master_repl_offset')),
    { timeoutMs: 30_000, what: 'the replica has all of its master' },
  );
}

/** As the link sends it; the preflight names it, too, in other commands. */
const PSYNC = '*3\r\n$5\r\nPSYNC\r\n';
const SNAPSHOT: Fault['after'] = [
  { direction: 'to-server', text: PSYNC },
  { direction: 'to-client', text: 'REDIS0' },
];

/** The run listens on one loopback address, and the target is told another: the proxy's. */
async function behindProxy(t: TestContext): Promise<{ proxy: FaultProxy; args: string[] }> {
  const port = await freePort();
  const proxy = await faultProxy(t, port, { at: { host: '127.0.0.3', port }, toHost: '127.0.0.2' });
  return { proxy, args: ['--listen', `127.0.0.2:${port}`, '--advertise', '127.0.0.3'] };
}

// most of the time they wait
describe('feed attach', { concurrency: 3 }, () => {
  test('under traffic: a true replica, then a cutover behind which the old source follows', async (t) => {
    const { source, target } = await scene(t);
    const before = { source: await settingsOf(source.port), target: await settingsOf(target.port) };
    const traffic = await trafficOn(t, source.port, 1_000);
    const go = migrate(t, [source.uri, target.uri], ['--cutover', 'auto'], {
      feed: 'attach',
    });
    await go.phase('in-sync');
    await ends(go, 0);
    await until(() => traffic.stats().refused > 0);
    const { witness, lastError } = await traffic.stop();
    assert.match(lastError ?? '', /READONLY|EXECABORT/);
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
    assert.equal(await ask(target.port, 'SET', 'behind', 'the cutover'), 'OK');
    await follows(source, target);
    assert.equal(await ask(source.port, 'GET', 'behind'), 'the cutover');
    await assertEqualServers(source.port, target.port);
    assert.equal(await fullCopies(source), 1);
    assert.equal(await fullCopies(target), 0);
    assert.equal(await settingsOf(source.port), before.source);
    assert.equal(await settingsOf(target.port), before.target);
  });

  test('stopped in sync, the target is given back whole, and resume needs no second copy', async (t) => {
    const { source, target } = await scene(t);
    const before = { source: await settingsOf(source.port), target: await settingsOf(target.port) };
    const traffic = await trafficOn(t, source.port);
    const runDir = newRunDir(t);
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed: 'attach', runDir });
    await run.phase('in-sync');
    for (const command of [
      ['SET', 'stranger', '1'],
      ['EVAL', "return redis.call('SET', KEYS[1], '1')", '1', 'stranger'],
      ['FLUSHALL'],
    ]) {
      await assert.rejects(ask(target.port, ...command), /READONLY/);
    }
    assert.equal(await replication(target.port, 'role'), 'slave');
    assert.equal(
      await replication(target.port, 'master_replid'),
      await replication(source.port, 'master_replid'),
    );
    run.kill('SIGTERM');
    await ends(run, 130);
    const givenBack = async (): Promise<void> => {
      assert.equal(await replication(target.port, 'role'), 'master');
      assert.equal(await settingsOf(target.port), before.target);
      assert.equal(await settingsOf(source.port), before.source);
    };
    await givenBack();

    // from one process to the next, more than once
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const next = runCli(['resume', runDir, '--cutover', 'never', '--json'], { t });
      await next.phase('in-sync');
      next.kill(signal);
      if (signal === 'SIGKILL') assert.equal(await next.exit, null);
      else {
        await ends(next, 130);
        await givenBack();
      }
    }
    const last = runCli(['resume', runDir, '--stop-at', 'in-sync', '--json'], { t });
    await ends(last, 0);
    await givenBack();
    assert.equal(await fullCopies(source), 1);

    // somebody writes to the target: what it holds is no longer ours
    await ask(target.port, 'FLUSHALL');
    await withClient(target.port, async (client) => {
      await client.call('SELECT', 5);
      await client.call('SET', 'stranger', '1');
    });
    const refused = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
    await ends(refused, 3);
    assert.ok(refused.events.some((event) => event.event === 'error' && event['code'] === 'target-written'));
    assert.match(String(await ask(target.port, 'INFO', 'keyspace')), /^db5:keys=1,/m);
    await givenBack();

    await ask(target.port, 'FLUSHALL');
    const anew = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
    await ends(anew, 0);
    const { witness } = await traffic.stop();
    assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
    assert.equal(await fullCopies(source), 2);
    await follows(source, target);
    await assertEqualServers(source.port, target.port);
  });

  for (const diskless of ['no', 'yes']) {
    test(`the link of the source breaks anywhere; repl-diskless-sync ${diskless}`, async (t) => {
      const random = seededRandom(t);
      const { source, target } = await scene(t, {
        keys: 4_000,
        source: { args: ['--repl-diskless-sync', diskless, '--repl-backlog-size', '64mb'] },
      });
      const traffic = await trafficOn(t, source.port);
      const proxy = await faultProxy(t, source.port);
      const inCopy = [
        proxy.fault({
          after: [{ direction: 'to-server', text: PSYNC }],
          direction: 'to-client',
          bytes: random(80),
          how: 'reset',
        }),
        proxy.fault({ after: SNAPSHOT, direction: 'to-client', bytes: random(100_000), how: 'close' }),
      ];
      const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never'], { feed: 'attach' });
      await Promise.all(inCopy);
      await run.phase('in-sync');
      const copies = await fullCopies(source);
      for (let round = 0; round < 3; round++) {
        await proxy.fault({
          after: [{ direction: 'to-client', text: 'INCR' }],
          direction: 'to-client',
          bytes: random(3_000),
          how: round % 2 === 0 ? 'reset' : 'close',
        });
        await until(async () => (await infoNumber(source.port, 'stats', 'sync_partial_ok')) > round);
      }
      assert.equal(await fullCopies(source), copies);
      const { witness } = await traffic.stop();
      await caughtUp(run, source.port);
      assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
      await assertEqualServers(source.port, target.port);
      run.kill();
      await ends(run, 130);
    });
  }

  for (const diskless of ['no', 'yes']) {
    test(`the link of the target breaks anywhere; repl-diskless-sync ${diskless}`, async (t) => {
      const random = seededRandom(t);
      const { source, target } = await scene(t, {
        keys: 4_000,
        source: { args: ['--repl-diskless-sync', diskless] },
      });
      const traffic = await trafficOn(t, source.port);
      const { proxy, args } = await behindProxy(t);
      // the target is the client here: what it is sent goes to-client
      const inHandshake = proxy.fault({
        after: [{ direction: 'to-server', text: 'REPLCONF' }],
        direction: 'to-client',
        bytes: random(20),
        how: 'close',
      });
      const inCopy = proxy.fault({
        after: [{ direction: 'to-client', text: 'REDIS0' }],
        direction: 'to-client',
        bytes: random(500_000),
        how: 'reset',
      });
      const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never', ...args], { feed: 'attach' });
      await inHandshake;
      await inCopy;
      await run.phase('in-sync');
      const copies = await fullCopies(source);
      for (let round = 0; round < 4; round++) {
        const connections = proxy.connections();
        await proxy.fault({
          after: [{ direction: 'to-client', text: 'INCR' }],
          direction: 'to-client',
          bytes: random(3_000),
          how: round % 2 === 0 ? 'reset' : 'close',
        });
        await until(() => proxy.connections() > connections);
      }
      // it may be on its way back from the last fault
      await until(async () => (await ask(target.port, 'CLIENT', 'KILL', 'TYPE', 'master')) === 1);
      const { witness } = await traffic.stop();
      await caughtUp(run, source.port);
      assert.equal(await fullCopies(source), copies);
      assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
      await assertEqualServers(source.port, target.port);
      run.kill();
      await ends(run, 130);
    });
  }

  test('a link of the target over which nothing passes any more is given up', async (t) => {
    const { source, target } = await scene(t, { target: { args: ['--repl-timeout', '3'] } });
    const traffic = await trafficOn(t, source.port, 100);
    const { proxy, args } = await behindProxy(t);
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never', ...args], { feed: 'attach' });
    await run.phase('in-sync');
    const stalled = proxy.fault({
      after: [{ direction: 'to-client', text: 'INCR' }],
      direction: 'to-client',
      bytes: 100,
      how: 'stall',
    });
    await stalled;
    await run.phase('catching-up');
    await traffic.stop();
    await caughtUp(run, source.port);
    assert.equal(await fullCopies(source), 1);
    await assertEqualServers(source.port, target.port);
  });

  test('a target that is killed, or ends by itself, is told again when it is back', async (t) => {
    const source = await testServer(t, { args: ['--repl-backlog-size', '64mb'] });
    await loadDataset(source.port, { keys: 1_000, bigMembers: 1_000 });
    const port = await freePort();
    let target = await testServer(t, { port });
    const before = await settingsOf(port);
    const back = async (): Promise<void> => {
      await target.stop();
      target = await testServer(t, { port });
    };
    const traffic = await trafficOn(t, source.port);
    const { proxy, args } = await behindProxy(t);
    // it hangs while it loads; and it is gone without our side hearing of it
    const loading = proxy.fault({
      after: [{ direction: 'to-client', text: 'REDIS0' }],
      direction: 'to-client',
      bytes: 20_000,
      how: 'stall',
    });
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never', ...args], { feed: 'attach' });
    await loading;
    target.process.kill('SIGKILL');
    await back();
    await run.phase('in-sync');
    const shown = run.events.length;
    await ask(port, 'SHUTDOWN', 'NOSAVE').catch(() => undefined);
    await back();
    await until(
      () => run.events.slice(shown).some((event) => event.event === 'phase' && event['to'] === 'in-sync'),
      { timeoutMs: 60_000 },
    );
    await assert.rejects(ask(port, 'SET', 'stranger', '1'), /READONLY/);
    await traffic.stop();
    await caughtUp(run, source.port);
    await assertEqualServers(source.port, port);
    run.kill();
    await ends(run, 130);
    assert.equal(await replication(port, 'role'), 'master');
    assert.equal(await settingsOf(port), before);
  });

  test('a target that was restarted, and given back before it had a new copy: resume takes one, unless it was written to', async (t) => {
    const durable: ServerOptions = { args: ['--appendonly', 'yes', '--appendfsync', 'always'] };
    const { source, ...first } = await scene(t, { target: durable });
    let { target } = first;
    const front = await faultProxy(t, source.port);
    const runDir = newRunDir(t);
    const givenBack = async (run: CliRun): Promise<void> => {
      await run.phase('in-sync');
      front.refuse(true);
      front.cutAll('close');
      target = await crashAndRestart(t, target, durable);
      await note(run, /lost its copy/);
      run.kill();
      await ends(run, 130);
      assert.equal(await replication(target.port, 'role'), 'master');
      front.refuse(false);
    };
    const resume = (): CliRun => runCli(['resume', runDir, '--cutover', 'never', '--json'], { t });
    await givenBack(migrate(t, [front.uri, target.uri], ['--cutover', 'never'], { feed: 'attach', runDir }));
    const next = resume();
    await givenBack(next);

    await ask(target.port, 'SET', 'stranger', '1');
    const refused = resume();
    await ends(refused, 3);
    assert.ok(refused.events.some((event) => event.event === 'error' && event['code'] === 'target-written'));
    assert.equal(await ask(target.port, 'GET', 'stranger'), '1');
    await ask(target.port, 'FLUSHALL');
    const last = resume();
    await last.phase('in-sync');
    await assertEqualServers(source.port, target.port);
  });

  test('a target that somebody makes a replica of another server is let go', async (t) => {
    const { source, target } = await scene(t);
    const before = await settingsOf(target.port);
    const other = await testServer(t);
    await ask(other.port, 'SET', 'precious', '1');
    const runDir = newRunDir(t);
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed: 'attach', runDir });
    await run.phase('in-sync');
    await ask(target.port, 'REPLICAOF', '127.0.0.1', other.port);
    await ends(run, 3);
    assert.ok(run.events.some((event) => event.event === 'error' && event['code'] === 'target-lease'));
    assert.equal(await replication(target.port, 'master_port'), String(other.port));
    assert.equal(await settingsOf(target.port), before);

    await until(async () => (await replication(target.port, 'master_link_status')) === 'up');
    const resumed = runCli(['resume', runDir, '--cutover', 'auto', '--json'], { t });
    await ends(resumed, 3);
    assert.ok(resumed.events.some((event) => event.event === 'error' && event['code'] === 'target-lease'));
    assert.equal(await replication(target.port, 'master_port'), String(other.port));
    assert.equal(await ask(target.port, 'GET', 'precious'), '1');
  });

  test('the source is a replica, and is promoted: the target follows its new history', async (t) => {
    const { source: first, target } = await scene(t);
    const source = await testServer(t, { args: ['--replicaof', '127.0.0.1', String(first.port)] });
    const traffic = await trafficOn(t, first.port);
    await until(async () => (await replication(source.port, 'master_link_status')) === 'up');
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed: 'attach' });
    await run.phase('in-sync');
    await traffic.stop();
    await caughtUp(run, source.port);
    assert.equal(await ask(source.port, 'REPLICAOF', 'NO', 'ONE'), 'OK');
    const afterwards = await trafficOn(t, source.port);
    await until(
      async () =>
        (await replication(target.port, 'master_replid')) ===
        (await replication(source.port, 'master_replid')),
      { timeoutMs: 30_000 },
    );
    const { witness } = await afterwards.stop();
    assert.ok(witness > 0);
    await caughtUp(run, source.port);
    await assertEqualServers(source.port, target.port);
    assert.equal(await fullCopies(source), 1);
    run.kill();
    await ends(run, 130);
  });

  test('a target that cannot reach us: with auto it is written to, with attach the run ends', async (t) => {
    const nobody = ['--advertise', '127.0.0.9', '--cutover', 'auto'];
    const ended = async (feed: 'auto' | 'attach', exitCode: number): Promise<readonly [Scene, CliRun]> => {
      const servers = await scene(t, { keys: 300 });
      const before = await settingsOf(servers.target.port);
      const run = migrate(t, [servers.source.uri, servers.target.uri], nobody, { feed });
      await ends(run, exitCode);
      assert.equal(await replication(servers.target.port, 'role'), 'master');
      assert.equal(await settingsOf(servers.target.port), before);
      return [servers, run];
    };
    const interrupted = async (): Promise<void> => {
      const { source, target } = await scene(t, { keys: 300 });
      const before = await settingsOf(target.port);
      const run = migrate(t, [source.uri, target.uri], nobody, { feed: 'attach' });
      await until(async () => (await replication(target.port, 'role')) === 'slave');
      run.kill('SIGTERM');
      await ends(run, 130);
      assert.equal(await replication(target.port, 'role'), 'master');
      assert.equal(await settingsOf(target.port), before);
    };
    const vanished = async (): Promise<void> => {
      const { source, target } = await scene(t, { keys: 300 });
      const run = migrate(t, [source.uri, target.uri], nobody, { feed: 'attach' });
      await until(async () => (await replication(target.port, 'role')) === 'slave');
      target.process.kill('SIGKILL');
      await ends(run, 3);
      await note(run, /could not be given back whole/);
    };
    const [[auto, written], [attach, refused]] = await Promise.all([
      ended('auto', 0),
      ended('attach', 3),
      interrupted(),
      vanished(),
    ]);
    assert.match(String((await note(written, /fed by write instead/))['message']), /does not reach us/);
    await assertEqualServers(auto.source.port, auto.target.port);
    assert.ok(
      refused.events.some((event) => event.event === 'error' && event['code'] === 'target-unreachable'),
    );
    assert.equal(await ask(attach.target.port, 'DBSIZE'), 0);
  });

  test('a target that holds keys: refused, or emptied where that is asked for', async (t) => {
    const { source, target } = await scene(t);
    await ask(target.port, 'SET', 'precious', '1');
    const refused = migrate(t, [source.uri, target.uri], ['--cutover', 'auto'], { feed: 'attach' });
    await ends(refused, 3);
    assert.equal(await ask(target.port, 'GET', 'precious'), '1');
    const kept = migrate(t, [source.uri, target.uri], ['--cutover', 'auto', '--allow-nonempty'], {
      feed: 'attach',
    });
    await ends(kept, 3);
    assert.equal(await ask(target.port, 'GET', 'precious'), '1');
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto', '--flush-target', '--yes'], {
      feed: 'attach',
    });
    await ends(run, 0);
    await follows(source, target);
    await assertEqualServers(source.port, target.port);
  });

  test('passwords on both sides, and a target with settings of its own: nothing of it is said or kept', async (t) => {
    const { source, target } = await scene(t, { target: { args: ['--appendonly', 'yes'] } });
    const [onSource, onTarget] = [await testClient(t, source.port), await testClient(t, target.port)];
    await onTarget.call('CONFIG', 'SET', 'masteruser', 'replicant');
    await onTarget.call('CONFIG', 'SET', 'masterauth', 'S3cretCanaryMaster');
    await onTarget.call('CONFIG', 'SET', 'replica-read-only', 'no');
    await onTarget.call('CONFIG', 'SET', 'replica-serve-stale-data', 'no');
    const before = await settingsOf(target.port);
    await onTarget.call('CONFIG', 'SET', 'requirepass', 'S3cretCanaryTarget');
    await onSource.call('ACL', 'SETUSER', 'mover', 'on', '~*', '&*', '+@all', '>S3cretCanarySource');
    await onSource.call('ACL', 'SETUSER', 'default', 'resetpass', '>S3cretCanaryDefault');

    const runDir = newRunDir(t);
    const auth = ['--src-auth-env', 'SRC', '--dst-auth-env', 'DST'];
    const env = { SRC: 'S3cretCanarySource', DST: 'S3cretCanaryTarget' };
    const run = migrate(
      t,
      [`redis://mover@127.0.0.1:${source.port}`, target.uri],
      [...auth, '--cutover', 'never'],
      { feed: 'attach', runDir, env },
    );
    await run.phase('in-sync');
    const argv = readFileSync(`/proc/${run.pid}/cmdline`, 'utf8');
    await assert.rejects(onTarget.call('SET', 'stranger', '1'), /READONLY/);
    run.kill('SIGKILL');
    await run.exit;
    const written = filesUnder(runDir);
    const resumed = runCli(['resume', runDir, ...auth, '--cutover', 'auto', '--json'], { t, env });
    await ends(resumed, 0);
    await until(async () => (await infoField(onSource, 'replication', 'master_link_status')) === 'up');
    assert.deepEqual(
      plain(await onSource.call('DEBUG', 'DIGEST')),
      plain(await onTarget.call('DEBUG', 'DIGEST')),
    );
    await onTarget.call('CONFIG', 'SET', 'requirepass', '');
    assert.equal(await settingsOf(target.port), before);
    const said = [
      argv,
      written,
      filesUnder(runDir),
      run.stdout(),
      run.stderr(),
      resumed.stdout(),
      resumed.stderr(),
    ];
    for (const text of said) assert.doesNotMatch(text, /S3cretCanary/);
    assert.match(written, /replica-read-only/);
  });

  test('an empty source, then whatever comes by the stream alone', async (t) => {
    const [source, target] = await Promise.all([testServer(t), testServer(t)]);
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never'], { feed: 'attach' });
    await run.phase('in-sync');
    const listener = connect(target.port, '127.0.0.1');
    atEnd(t, () => void listener.destroy());
    let heard = '';
    listener.setEncoding('latin1').on('data', (text: string) => {
      heard += text;
    });
    listener.write('SUBSCRIBE news\r\n');
    await until(() => heard.includes('subscribe'));
    await withClient(source.port, async (client) => {
      await client.call('SET', 'gone', 'soon');
      await client.call('FLUSHALL');
      await client.call('SELECT', 15);
      await client.call('SETRANGE', 'big', 5_000_000, 'end');
      await client.call('EVAL', "redis.call('INCR', 'a') redis.call('SELECT', 3) redis.call('INCR', 'b')", 0);
      await client.call('SWAPDB', 3, 4);
      await client.call('PUBLISH', 'news', 'all is well');
      await client.call('SELECT', 12);
      for (let number = 0; number < 1_000; number++) await client.call('RPUSH', 'list', number);
    });
    await caughtUp(run, source.port);
    assert.match(heard, /all is well/);
    await assertEqualServers(source.port, target.port);
  });

  for (const [how, delays] of [
    // it waits for the rest of the payload, and answers nobody
    ['has a part of the copy', []],
    // it answers, but everything that would give it back with LOADING
    ['is busy loading', ['--key-load-delay', '500', '--loading-process-events-interval-bytes', '1024']],
  ] as const) {
    test(`stopped while the target ${how}, it is given back, too`, async (t) => {
      const { source, target } = await scene(t, { keys: 5_000, target: { args: delays } });
      const before = await settingsOf(target.port);
      const proxy = await faultProxy(t, source.port);
      if (delays.length === 0) {
        void proxy.fault({ after: SNAPSHOT, direction: 'to-client', bytes: 300_000, how: 'stall' });
      }
      const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never'], { feed: 'attach' });
      await run.until(({ event, snapshotBytes }) => event === 'progress' && Number(snapshotBytes) > 0);
      if (delays.length > 0) assert.equal(await infoNumber(target.port, 'persistence', 'loading'), 1);
      run.kill('SIGTERM');
      await ends(run, 130);
      assert.doesNotMatch(run.stdout(), /could not be given back/);
      assert.equal(await replication(target.port, 'role'), 'master');
      assert.equal(await settingsOf(target.port), before);
    });
  }

  test('a source that has its backlog no more sends a new copy into a target in sync', async (t) => {
    const { source, target } = await scene(t, { source: { args: ['--repl-backlog-size', '16kb'] } });
    const proxy = await faultProxy(t, source.port);
    const run = migrate(t, [proxy.uri, target.uri], ['--cutover', 'never'], { feed: 'attach' });
    await run.phase('in-sync');
    proxy.refuse(true);
    proxy.cutAll('reset');
    await run.phase('catching-up');
    await ask(source.port, 'DEL', 'gone');
    await ask(source.port, 'SET', 'big', 'x'.repeat(100_000));
    await ask(source.port, 'FLUSHDB');
    proxy.refuse(false);
    const shown = run.events.length;
    await until(
      () => run.events.slice(shown).some((event) => event.event === 'phase' && event['to'] === 'in-sync'),
      { timeoutMs: 30_000 },
    );
    assert.equal(await fullCopies(source), 2);
    // the copy had come whole before the target came for it
    await ask(source.port, 'SET', 'behind', 'the copy');
    await caughtUp(run, source.port);
    await assertEqualServers(source.port, target.port);
  });

  test('where the target has no CONFIG, auto takes write', async (t) => {
    const { source, target } = await scene(t, { target: { args: ['--rename-command', 'CONFIG', ''] } });
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto'], { feed: 'auto' });
    await ends(run, 0);
    assert.ok(
      run.events.some(
        (event) =>
          event.event === 'check' && event['name'] === 'feed' && /^write: /.test(String(event['detail'])),
      ),
    );
    await assertEqualServers(source.port, target.port);
  });

  test('a target that hangs for a while: what it does not take yet lies on the disk', async (t) => {
    const { source, target } = await scene(t);
    const runDir = newRunDir(t);
    const run = migrate(t, [source.uri, target.uri], ['--cutover', 'never', '--spool-memory', '1'], {
      feed: 'attach',
      runDir,
    });
    await run.phase('in-sync');
    target.process.kill('SIGSTOP');
    await withClient(source.port, async (client) => {
      for (let number = 0; number < 240; number++) {
        await client.call('SET', `large:${number % 50}`, String(number).padEnd(100_000, 'x'));
        await client.call('RPUSH', 'numbers', number);
      }
    });
    await until(() => readdirSync(join(runDir, 'spool'), { recursive: true }).length > 1);
    target.process.kill('SIGCONT');
    await caughtUp(run, source.port, 60_000);
    assert.equal(await fullCopies(source), 1);
    await assertEqualServers(source.port, target.port);
    run.kill();
    await ends(run, 130);
  });
});
