/** What `check` finds around two real servers: load, rights of later steps, sentinels, replicas, clients; and the table. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { describe, it } from 'node:test';
import { ServerSession } from '../../src/client/session.ts';
import { Secret } from '../../src/core/endpoint.ts';
import type { CheckResult } from '../../src/core/events.ts';
import type { RunOptions } from '../../src/core/options.ts';
import { findServer } from '../../src/demo/find-server.ts';
import { type DemoServer, freePort, type ServerOptions } from '../../src/demo/server.ts';
import { LOAD_CHECKS, measureLoad } from '../../src/migrate/checks/write-load.ts';
import { preflight } from '../../src/migrate/preflight.ts';
import { runCli } from '../helpers/cli.ts';
import { testClient } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { DEFAULT_OPTIONS } from './migration-scene.ts';

const PASSWORD = 'p';

async function session(
  t: Cleanup,
  server: DemoServer,
  role: 'source' | 'target',
  username: string | null = null,
): Promise<ServerSession> {
  const password = username === null ? null : new Secret(PASSWORD);
  const endpoint = { host: '127.0.0.1', port: server.port, username, password, tls: null };
  const opened = await ServerSession.open(endpoint, role, { connectTimeoutMs: 10_000 });
  atEnd(t, () => opened.close());
  return opened;
}

/** A source and a target, and what is found about them. */
async function pair(t: Cleanup, on: { source?: ServerOptions; target?: ServerOptions } = {}) {
  const [from, to] = await Promise.all([testServer(t, on.source), testServer(t, on.target)]);
  const [source, target] = await Promise.all([session(t, from, 'source'), session(t, to, 'target')]);
  const found = async (
    name: string,
    options: Partial<RunOptions> = {},
    by: { source?: ServerSession; target?: ServerSession } = {},
  ): Promise<CheckResult> => {
    const asked = { ...DEFAULT_OPTIONS, runDir: '/nowhere', feed: 'auto' as const, ...options };
    const { checks } = await preflight(by.source ?? source, by.target ?? target, asked);
    const check = checks.find((each) => each.name === name);
    assert.ok(check, `no check ${name} in ${checks.map((each) => each.name).join(', ')}`);
    return check;
  };
  return { from, to, source, target, found };
}

function assertFound(check: CheckResult, status: CheckResult['status'], detail: RegExp): void {
  assert.equal(check.status, status, `${check.name}: ${check.detail}`);
  assert.match(check.detail, detail);
}

/** Writes a value again and again until the test ends; returns when the server's own average has seen it. */
async function writeMuch(t: Cleanup, server: DemoServer, seen: ServerSession): Promise<void> {
  const writer = await testClient(t, server.port);
  let going = true;
  const value = 'v'.repeat(20_000);
  const ended = (async () => {
    while (going) await writer.call('SET', 'much', value);
  })();
  atEnd(t, async () => {
    going = false;
    await ended;
  });
  const kbps = async (): Promise<number> =>
    (await seen.info('stats')).number('instantaneous_input_kbps') ?? 0;
  await until(async () => (await kbps()) > 1000, { what: 'the average of what clients send' });
}

describe('the load of a source', { concurrency: 2 }, () => {
  it('is measured by its offsets, and held against its backlog', async (t) => {
    const { from, source, found } = await pair(t);
    assertFound(await found('backlog'), 'ok', /nothing is written|hold/);
    // it keeps a backlog from its first replica on
    const replica = await testServer(t, { args: ['--replicaof', '127.0.0.1', String(from.port)] });
    const onReplica = await session(t, replica, 'target');
    await until(async () => (await onReplica.info('replication')).masterLinkUp);
    await writeMuch(t, from, source);
    const before = await source.info();
    const beganMs = performance.now();
    const load = await measureLoad(source, before, beganMs);
    const grown = (await source.info()).masterReplOffset! - before.masterReplOffset!;
    assert.equal(load.exact, true);
    const most = grown / ((performance.now() - beganMs) / 1000);
    // of the same traffic, over nearly the same time
    assert.ok(
      load.bytesPerSecond! > most / 10 && load.bytesPerSecond! < most * 10,
      `${load.bytesPerSecond} ${most}`,
    );
    const backlog = await found('backlog');
    assertFound(backlog, 'warn', /^1\.0 MB hold \d+(\.\d)? s of writes \(\d+(\.\d)? MB\/s written now/);
    assert.match(backlog.hint ?? '', /^CONFIG SET repl-backlog-size \d{8,} on the source$/);
    await source.call(...(backlog.hint!.replace(' on the source', '').split(' ') as [string]));
    const size = (await source.info('replication')).number('repl_backlog_size');
    assert.equal(size, Number(/\d{8,}/.exec(backlog.hint!)?.[0]));
  });

  it('is what its clients send at most, where it keeps no stream yet', async (t) => {
    const { from, source } = await pair(t);
    await writeMuch(t, from, source);
    const load = await measureLoad(source, await source.info(), performance.now());
    assert.equal(load.exact, false);
    assert.ok(load.bytesPerSecond! > 100_000, String(load.bytesPerSecond));
  });

  it('proposes settings that the source takes', async (t) => {
    const { source, found } = await pair(t, {
      source: { args: ['--client-output-buffer-limit', 'replica 10mb 5mb 5'] },
    });
    const small = await found('output-buffer');
    assertFound(small, 'warn', /replica 10 MB, 5\.0 MB for 5 s .*less than the default/);
    const setting = /^CONFIG SET client-output-buffer-limit "(.*)" on the source$/.exec(small.hint ?? '');
    await source.call('CONFIG', 'SET', 'client-output-buffer-limit', setting?.[1] ?? '');
    assertFound(await found('output-buffer'), 'ok', /replica 256 MB, 64 MB for 60 s/);
    assert.equal(LOAD_CHECKS.length, 4);
  });
});

describe('what stands around the servers', { concurrency: 2 }, () => {
  it('sees a real sentinel, on either side', async (t) => {
    const { from, found } = await pair(t);
    assertFound(await found('source-sentinel'), 'ok', /none/);
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-sentinel-'));
    atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
    const port = await freePort();
    const conf = join(dir, 'sentinel.conf');
    writeFileSync(conf, `port ${port}\nbind 127.0.0.1\nsentinel monitor cart 127.0.0.1 ${from.port} 1\n`);
    const sentinel = spawn(findServer(), [conf, '--sentinel'], { cwd: dir, stdio: 'ignore' });
    const gone = new Promise((resolve) => sentinel.once('exit', resolve));
    atEnd(t, async () => {
      sentinel.kill('SIGKILL');
      await gone;
    });
    const check = await until(async () => {
      const now = await found('source-sentinel');
      return now.status === 'warn' && now;
    });
    assertFound(
      check,
      'warn',
      /a sentinel watches the source \(from 127\.0\.0\.1\): the cutover makes it a replica/,
    );
    assert.match(check.hint ?? '', /SENTINEL REMOVE/);
    assertFound(await found('target-sentinel'), 'ok', /none/);
    // without CLIENT LIST it is seen by its channel
    const admin = await testClient(t, from.port);
    await admin.call('ACL', 'SETUSER', 'm', 'on', `>${PASSWORD}`, '~*', '&*', '+@all', '-client|list');
    const limited = await session(t, from, 'source', 'm');
    await until(async () => {
      const now = await found('source-sentinel', {}, { source: limited });
      return now.status === 'warn' && /^a sentinel watches the source: /.test(now.detail);
    });
  });

  it('knows what replicas are wanted, and which the target has', async (t) => {
    const { to, source, target, found } = await pair(t);
    assertFound(await found('source-min-replicas'), 'ok', /without replicas/);
    assertFound(await found('target-replicas'), 'ok', /^none$/);
    await source.call('CONFIG', 'SET', 'min-replicas-to-write', '1');
    await target.call('CONFIG', 'SET', 'min-replicas-to-write', '1');
    assertFound(await found('source-min-replicas'), 'warn', /with 1 replicas, and has 0.*refuses now/);
    assertFound(await found('target-min-replicas'), 'warn', /behind the cutover/);
    assertFound(await found('target-min-replicas', { feed: 'write' }), 'warn', /refuses ours/);
    const replica = await testServer(t, { args: ['--replicaof', '127.0.0.1', String(to.port)] });
    const onReplica = await session(t, replica, 'target');
    await until(async () => (await onReplica.info('replication')).masterLinkUp);
    await until(async () => (await found('target-min-replicas')).status === 'ok');
    assertFound(await found('target-replicas'), 'ok', /^1: each takes a new full copy/);
  });

  it('sees who writes to the target, and no one who only reads', async (t) => {
    const { to, found } = await pair(t);
    const client = await testClient(t, to.port);
    await client.call('CLIENT', 'SETNAME', 'web');
    await client.call('GET', 'k');
    assertFound(await found('target-clients'), 'ok', /^1, none writes$/);
    await until(async () => {
      await client.call('SETNX', 'redis-cutover:lease', '');
      await client.call('DEL', 'redis-cutover:lease');
      const now = await found('target-clients');
      return now.status === 'warn' && /1 of 1 wrote .* web \(del\)/.test(now.detail);
    });
  });
});

describe('the rights of later steps', { concurrency: 2 }, () => {
  it('are asked step by step', async (t) => {
    const { from, to, source, target, found } = await pair(t);
    const all = ['on', `>${PASSWORD}`, '~*', '&*', '+@all'];
    await source.call('ACL', 'SETUSER', 'm', ...all);
    await target.call('ACL', 'SETUSER', 'm', ...all);
    const by = { source: await session(t, from, 'source', 'm'), target: await session(t, to, 'target', 'm') };
    assertFound(await found('step-rights', {}, by), 'ok', /all \d steps/);
    await source.call('ACL', 'SETUSER', 'm', '-client|pause', '-zscore');
    await target.call('ACL', 'SETUSER', 'm', '-eval');
    const check = await found('step-rights', {}, by);
    assertFound(check, 'warn', /^source, pause \(c, m\): no CLIENT \(writes are refused instead/);
    assert.match(check.detail, /source, last keys compared \(c, m\): no ZSCORE/);
    assert.match(check.detail, /target, opened \(e\): no EVAL/);
    assert.doesNotMatch(check.detail, /clients \(l, k\)|roles swapped/);
    assert.equal(
      check.hint,
      'on the source: ACL SETUSER <user> +client; on the source: ACL SETUSER <user> +zscore; on the target: ACL SETUSER <user> +eval',
    );
    await source.call('ACL', 'SETUSER', 'm', '+@all', '-config|set');
    const swap = /source, roles swapped \(c, b\): no CONFIG/;
    assertFound(await found('step-rights', { feed: 'attach' }, by), 'warn', swap);
    const stays = await found('step-rights', { feed: 'attach', reverse: false }, by);
    assert.doesNotMatch(stays.detail, swap);
  });

  const old = serverReleases().find(({ kind, major }) => kind === 'redis' && major === 6);
  it('are read from the rules before 7.0', { skip: old === undefined }, async (t) => {
    const binary = { binary: old!.path };
    const { from, source, found } = await pair(t, { source: binary, target: binary });
    assertFound(await found('source-no-psync'), 'ok', /allowed/);
    assertFound(await found('step-rights'), 'ok', /all \d steps/);
    await source.call('ACL', 'SETUSER', 'm', 'on', `>${PASSWORD}`, '~*', '+@all', '-client', '-psync');
    const limited = { source: await session(t, from, 'source', 'm') };
    assertFound(await found('source-no-psync', {}, limited), 'warn', /SYNC only/);
    assertFound(await found('step-rights', {}, limited), 'warn', /clients \(l, k\): no CLIENT/);
  });
});

describe('check', { concurrency: 2 }, () => {
  /** Lines of INFO that somebody's doing would change. */
  const TOLD =
    /^(role|connected_slaves|master_repl|second_repl|repl_backlog|rdb_(bgsave|changes|last_save)|maxmemory|pubsub_|number_of_cached|db\d)/;

  for (const release of serverReleases().filter(
    ({ kind, major, minor }) => kind === 'valkey' || major < 7 || minor === 4,
  )) {
    it(`changes nothing: ${release.kind} ${release.version}`, async (t) => {
      const on = { binary: release.path };
      const { source, target, found } = await pair(t, { source: on, target: on });
      await source.pipeline([
        ['SET', 'a', '1'],
        ['RPUSH', 'l', '1', '2'],
      ]);
      const state = async (server: ServerSession) => [
        await server.call('CONFIG', 'GET', '*'),
        await server.pipeline([['ACL', 'LIST']]).then(([reply]) => String(reply)),
        await server.call('DBSIZE'),
        String(await server.call('INFO'))
          .split('\r\n')
          .filter((line) => TOLD.test(line)),
      ];
      const before = [await state(source), await state(target)];
      await found('spool-disk');
      await found('spool-disk', { feed: 'write' });
      assert.deepEqual([await state(source), await state(target)], before);
    });
  }

  it('shows a row for each of several pairs', async (t) => {
    const servers = await Promise.all([0, 1, 2, 3, 4, 5].map(() => testServer(t)));
    const at = (index: number): string => servers[index]!.uri;
    await (await testClient(t, servers[3]!.port)).call('SET', 'k', 'v');
    await (await testClient(t, servers[4]!.port)).call('CONFIG', 'SET', 'min-slaves-to-write', '1');
    const closed = await freePort();
    const hosts = [
      `${at(0)} ${at(1)} cart`,
      `${at(2)} ${at(3)} geo`,
      `${at(4)} ${at(5)} feed`,
      `redis://127.0.0.1:${closed} redis://127.0.0.1:${closed + 1} gone`,
    ];
    const run = runCli(['check', '--hosts', '-'], { t, stdin: `${hosts.join('\n')}\n` });
    assert.equal(await run.exit, 3, run.stderr());
    const lines = run.stdout().split('\n');
    const table = lines.slice(lines.findIndex((line) => /^NAME +STATE +WHY$/.test(line)));
    assert.deepEqual(
      table.slice(1, 4).map((line) => line.split(/ {2,}/)),
      [
        ['cart', 'ready'],
        ['geo', 'refused', 'target-empty: the target holds 1 keys'],
        ['feed', 'warnings', 'source-min-replicas'],
      ],
    );
    assert.match(table[4] ?? '', /^gone {2}failed {4}nothing listens on/);
    assert.equal(table[5], '4 pairs checked: 1 ready, 1 with warnings, 1 refused, 1 failed');
    assert.match(table[6] ?? '', /^1 refused, \d warnings?, 1 error, \d+ ok; nothing was changed$/);
  });
});
