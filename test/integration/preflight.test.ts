/** The guards against real servers, one finding at a time. Needs redis-server >= 7.0. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { ServerSession } from '../../src/client/session.ts';
import { type Endpoint, Secret } from '../../src/core/endpoint.ts';
import { PreflightError } from '../../src/core/errors.ts';
import type { CheckResult } from '../../src/core/events.ts';
import type { RunOptions } from '../../src/core/options.ts';
import { type DemoServer, freePort, startServer } from '../../src/demo/server.ts';
import { assertPreflight, type Preflight, preflight } from '../../src/migrate/preflight.ts';
import { capabilitiesOf } from '../../src/target/write/capabilities.ts';
import { serverReleases } from '../helpers/releases.ts';
import { RUN_OPTIONS } from '../helpers/run-options.ts';
import { until } from '../helpers/wait.ts';
import { makeCertificates } from '../protocol/link-support.ts';

let sourceServer: DemoServer;
let targetServer: DemoServer;
let source: ServerSession;
let target: ServerSession;
let more: { close(): Promise<void> }[];

function endpointOf(server: DemoServer, user?: { name: string; password: string }): Endpoint {
  return {
    host: '127.0.0.1',
    port: server.port,
    username: user?.name ?? null,
    password: user === undefined ? null : new Secret(user.password),
    tls: null,
  };
}

async function open(
  server: DemoServer,
  role: 'source' | 'target',
  user?: { name: string; password: string },
) {
  const session = await ServerSession.open(endpointOf(server, user), role, { connectTimeoutMs: 3000 });
  more.push(session);
  return session;
}

/** Sessions whose questions go out in waves: the next one when every question of the last is answered. Counts the waves. */
function inWaves(sessions: readonly ServerSession[]): { sessions: ServerSession[]; waves: () => number } {
  let waves = 0;
  let open = 0;
  const waiting: (() => void)[] = [];
  const release = (): void => {
    if (open > 0 || waiting.length === 0) return;
    waves += 1;
    open = waiting.length;
    for (const go of waiting.splice(0)) go();
  };
  const asked = async (question: () => Promise<unknown>): Promise<unknown> => {
    await new Promise<void>((resolve) => {
      waiting.push(resolve);
      setImmediate(() => setImmediate(release));
    });
    try {
      return await question();
    } finally {
      open -= 1;
      setImmediate(() => setImmediate(release));
    }
  };
  const wrapped = sessions.map(
    (session) =>
      new Proxy(session, {
        get: (_target, name) => {
          const member: unknown = Reflect.get(session, name, session);
          return typeof member === 'function'
            ? (...args: unknown[]) => asked(() => member.apply(session, args))
            : member;
        },
      }),
  );
  return { sessions: wrapped, waves: () => waves };
}

async function serverWith(...args: string[]): Promise<DemoServer> {
  const server = await startServer({ args });
  more.push({ close: () => server.stop() });
  return server;
}

function finding(result: Preflight, name: string): CheckResult {
  const check = result.checks.find((candidate) => candidate.name === name);
  assert.ok(check, `no check ${name} in ${result.checks.map((each) => each.name).join(', ')}`);
  if (check.status === 'refuse') assert.ok(check.hint, `${name} refuses without a hint`);
  return check;
}

function assertFinding(result: Preflight, name: string, status: CheckResult['status'], detail: RegExp): void {
  const check = finding(result, name);
  assert.equal(check.status, status, `${name}: ${check.detail}`);
  assert.match(check.detail, detail);
}

const run = (options: Partial<RunOptions> = {}, from = source, to = target): Promise<Preflight> =>
  preflight(from, to, { ...RUN_OPTIONS, ...options });

before(async () => {
  [sourceServer, targetServer] = await Promise.all([
    startServer({ args: ['--enable-debug-command', 'yes'] }),
    startServer({ args: ['--enable-debug-command', 'yes'] }),
  ]);
});
after(() => Promise.all([sourceServer.stop(), targetServer.stop()]));

beforeEach(async () => {
  more = [];
  source = await open(sourceServer, 'source');
  target = await open(targetServer, 'target');
  await Promise.all([source.call('FLUSHALL'), target.call('FLUSHALL')]);
});
afterEach(async () => {
  for (const session of [source, target]) {
    await session.call('ACL', 'SETUSER', 'default', 'on', 'nopass', '~*', '&*', '+@all');
    await session.call('FUNCTION', 'FLUSH');
  }
  for (const each of more.reverse()) await each.close();
});

describe('preflight', () => {
  it('asks both servers at once what does not hang on another answer: far servers are checked as fast', async () => {
    const { sessions, waves } = inWaves([source, target]);
    const [slowSource, slowTarget] = sessions;
    const { checks } = await preflight(slowSource!, slowTarget!, RUN_OPTIONS);
    assert.ok(checks.length > 30, `${checks.length} checks`);
    // 9 in turn on a quiet 7.0; one question after the other would be more than 60
    assert.ok(waves() <= 12, `${waves()} round trips`);
  });

  it('finds nothing on a healthy pair, and changes nothing', async () => {
    await source.pipeline([
      ['SET', 'a', '1', 'EX', '1000'],
      ['SELECT', '3'],
      ['MSET', 'b', '1', 'c', '2'],
      ['SELECT', '0'],
    ]);
    const state = async (session: ServerSession) => [
      await session.call('ACL', 'LIST'),
      await session.call('CONFIG', 'GET', '*'),
      await session.call('DEBUG', 'DIGEST'),
      // what the server samples of the times to live changes by itself
      (await session.info('keyspace')).keyspace.map(({ db, keys, expires }) => ({ db, keys, expires })),
    ];
    const before = [await state(source), await state(target)];
    const result = await run();
    assert.deepEqual(
      result.checks.filter((check) => check.status !== 'ok'),
      [],
    );
    assert.deepEqual([await state(source), await state(target)], before);
    const facts = assertPreflight(
      { name: 'cart', source: endpointOf(sourceServer), target: endpointOf(targetServer) },
      result,
    );
    assert.equal(facts.keysTotal, 3);
    assert.deepEqual(
      facts.keyspace.map(({ db, keys, expires }) => [db, keys, expires]),
      [
        [0, 1, 1],
        [3, 2, 0],
      ],
    );
    assert.equal(facts.feed, 'attach');
    const { forms, ...capabilities } = facts.capabilities;
    assert.deepEqual(forms, capabilitiesOf({ major: 7, minor: 0 }).forms);
    assert.deepEqual(capabilities, {
      setPxat: true,
      restoreReplace: true,
      restoreAbsttl: true,
      restoreIdle: true,
      functions: true,
      acl: true,
      execIsWhole: true,
    });
    assert.deepEqual([facts.sourceFence.kind, facts.targetFence.kind], ['acl', 'acl']);
    assert.equal(new Set(result.checks.map((check) => check.name)).size, result.checks.length);
  });

  it('refuses one server under two names', async () => {
    const alias = await ServerSession.open({ ...endpointOf(sourceServer), host: 'localhost' }, 'target', {
      connectTimeoutMs: 3000,
    });
    more.push(alias);
    const result = await run({}, source, alias);
    assertFinding(result, 'same-server', 'refuse', /one server/);
    assert.throws(
      () =>
        assertPreflight(
          { name: 'cart', source: endpointOf(sourceServer), target: endpointOf(sourceServer) },
          result,
        ),
      (error) => error instanceof PreflightError && error.code === 'same-server' && error.exitCode === 3,
    );
  });

  it('knows replicas: as a target, as a source with its link down, and of each other', async () => {
    const replicaServer = await serverWith('--replicaof', '127.0.0.1', String(targetServer.port));
    const replica = await open(replicaServer, 'source');
    while (!(await replica.info('replication')).masterLinkUp) await replica.call('PING');
    assertFinding(await run({}, source, replica), 'target-role', 'refuse', /replica/);
    const fromReplica = await run({}, replica, target);
    assertFinding(fromReplica, 'same-server', 'refuse', /replica of the target/);
    assertFinding(fromReplica, 'source-role', 'warn', /replica/);
    assertFinding(await run({}, replica, source), 'source-fence', 'warn', /master goes on/);
    await replica.call('REPLICAOF', '127.0.0.1', '1');
    assertFinding(await run({}, replica, source), 'source-role', 'refuse', /link to its master is down/);
  });

  it('guards a target that holds keys, and does not count our own two', async () => {
    await target.call('HSET', 'redis-cutover:checkpoint', 'run', 'old');
    assertFinding(await run(), 'target-empty', 'ok', /no keys/);
    await target.pipeline([
      ['SELECT', '5'],
      ['SET', 'k', 'v'],
      ['SELECT', '0'],
    ]);
    assertFinding(await run(), 'target-empty', 'refuse', /holds 1 keys/);
    assertFinding(await run({ flushTarget: true }), 'target-empty', 'warn', /deleted/);
    assertFinding(await run({ allowNonempty: true }), 'target-empty', 'warn', /stay/);
  });

  it('compares memory, policy and databases', async () => {
    const small = await open(
      await serverWith('--maxmemory', '2mb', '--maxmemory-policy', 'allkeys-lru', '--databases', '2'),
      'target',
    );
    await source.pipeline([
      ['SELECT', '9'],
      ['SET', 'big', 'x'.repeat(3 << 20)],
      ['SELECT', '0'],
    ]);
    const result = await run({}, source, small);
    assertFinding(result, 'target-memory', 'refuse', /maxmemory is 2\.0 MB/);
    assertFinding(result, 'target-policy', 'refuse', /allkeys-lru/);
    assertFinding(result, 'databases', 'refuse', /uses database 9, the target has 2/);
    await small.call('CONFIG', 'SET', 'maxmemory', '1gb');
    const roomy = await run({}, source, small);
    assertFinding(roomy, 'target-memory', 'ok', /1024 MB/);
    assertFinding(roomy, 'target-policy', 'warn', /allkeys-lru/);
    await small.call('CONFIG', 'SET', 'maxmemory', '0');
    assertFinding(await run({}, source, small), 'target-policy', 'ok', /no maxmemory/);
  });

  it('tries databases by SELECT where CONFIG is not allowed', async () => {
    const few = await serverWith('--databases', '2');
    const admin = await open(few, 'target');
    await admin.call('ACL', 'SETUSER', 'm', 'on', '>p', '~*', '&*', '+@all', '-config');
    const session = await open(few, 'target', { name: 'm', password: 'p' });
    assertFinding(await run({}, source, session), 'databases', 'ok', /takes it/);
    await source.pipeline([
      ['SELECT', '2'],
      ['SET', 'k', 'v'],
      ['SELECT', '0'],
    ]);
    assertFinding(await run({}, source, session), 'databases', 'refuse', /refuses it/);
    assert.match(String(await session.call('CLIENT', 'INFO')), / db=0 /);
  });

  it('sees what a user may not do, and never calls an unmade check ok', async () => {
    await source.call('ACL', 'SETUSER', 'm', 'on', '>p', '~*', '&*', '+@all', '-psync');
    const user = { name: 'm', password: 'p' };
    const limited = await open(sourceServer, 'source', user);
    assertFinding(await run({}, limited), 'source-no-psync', 'warn', /SYNC only/);
    await source.call('ACL', 'SETUSER', 'm', '-sync');
    assertFinding(await run({}, limited), 'source-no-psync', 'refuse', /may not run/);
    await source.call('ACL', 'SETUSER', 'm', '+psync', '-replconf');
    assertFinding(await run({}, limited), 'source-no-psync', 'refuse', /REPLCONF/);

    await source.call('ACL', 'SETUSER', 'm', '-@all', '+info', '+ping', '+psync', '+replconf');
    const blind = await run({}, limited);
    for (const name of [
      'source-no-psync',
      'output-buffer',
      'step-rights',
      'source-sentinel',
      'clock',
      'modules',
      'functions',
      'source-is-target',
    ]) {
      assertFinding(blind, name, 'warn', /^not checked/);
    }
    assertFinding(blind, 'source-fence', 'warn', /none: no right to use ACL/);

    await target.call('ACL', 'SETUSER', 'm', 'on', '>p', '~*', '&*', '+@all', '-restore', '-acl');
    const writer = await open(targetServer, 'target', user);
    assertFinding(
      await run({ feed: 'write' }, source, writer),
      'target-fence',
      'warn',
      /none: no right to use ACL/,
    );
    assertFinding(await run({}, source, writer), 'target-permissions', 'warn', /not checked/);
    await target.call('ACL', 'SETUSER', 'm', '+acl|dryrun', '+acl|whoami');
    assertFinding(await run({}, source, writer), 'target-permissions', 'refuse', /RESTORE/);

    await target.call('ACL', 'SETUSER', 'm', '-info');
    const noInfo = await run({}, source, writer);
    assertFinding(noInfo, 'target-info', 'refuse', /NOPERM/);
    assert.equal(noInfo.facts, null);
    await source.call('ACL', 'DELUSER', 'm');
    await target.call('ACL', 'DELUSER', 'm');
  });

  it('sees a source without PSYNC, as managed services have it', async () => {
    const managed = await open(
      await serverWith('--rename-command', 'PSYNC', 'aws_psync', '--rename-command', 'SYNC', ''),
      'source',
    );
    assertFinding(await run({}, managed), 'source-no-psync', 'refuse', /neither PSYNC nor SYNC/);
    const commandNames = { ...RUN_OPTIONS.commandNames, psync: 'aws_psync' };
    assertFinding(await run({ commandNames }, managed), 'source-no-psync', 'ok', /allowed/);
  });

  it('says how keys are kept from running out, and warns where they are not', async (t) => {
    assertFinding(await run({ feed: 'write' }), 'expiry', 'ok', /held back/);
    assertFinding(await run({ feed: 'attach' }), 'expiry', 'ok', /a replica expires nothing/);
    for (let i = 0; i < 50; i++) await source.call('SET', `lock:${i}`, 'v', 'PX', 60_000 + i);
    const sampled = async (): Promise<boolean> =>
      ((await source.info('keyspace')).keyspace[0]?.averageTtlMs ?? 0) > 0;
    await until(sampled, { what: 'the server to sample its times to live' });
    const ancient = serverReleases().find(({ kind, major }) => kind === 'redis' && major < 5);
    if (ancient === undefined) return t.diagnostic('no release before 5.0 is installed');
    const server = await startServer({ binary: ancient.path });
    more.push({ close: () => server.stop() });
    const checks = await run({ feed: 'write' }, source, await open(server, 'target'));
    assertFinding(checks, 'expiry', 'warn', /database 0 live for minutes only/);
  });

  it('sees small output buffers, missing fences, functions and a source that no run may use', async () => {
    const tight = await open(
      await serverWith('--client-output-buffer-limit', 'replica 10mb 5mb 5'),
      'source',
    );
    assertFinding(await run({}, tight), 'output-buffer', 'warn', /replica 10 MB, 5\.0 MB for 5 s/);
    assertFinding(await run({ sourceFence: false }), 'source-fence', 'warn', /can be lost/);
    await source.call(
      'FUNCTION',
      'LOAD',
      "#!lua name=l\nredis.register_function('f', function() return 1 end)",
    );
    assertFinding(await run(), 'functions', 'ok', /1 libraries/);

    await target.call('HSET', 'redis-cutover:lease', 'run', 'other', 'host', 'h', 'pid', '1', 'pair', 'p');
    await source.call('HSET', 'redis-cutover:lease', 'run', 'other', 'host', 'h', 'pid', '1', 'pair', 'p');
    const held = await run();
    assertFinding(held, 'lease', 'refuse', /run other/);
    assertFinding(held, 'source-is-target', 'refuse', /run other/);
    await source.pipeline([
      ['DEL', 'redis-cutover:lease'],
      ['HSET', 'redis-cutover:checkpoint', 'run', 'x'],
    ]);
    assertFinding(await run(), 'source-is-target', 'warn', /did not end/);
  });

  it('takes the script engine of Valkey 9.1 for no module with values', async (t) => {
    const release = serverReleases().find(
      ({ kind, major, minor }) => kind === 'valkey' && major * 100 + minor > 900,
    );
    if (release === undefined) return t.diagnostic('no Valkey of 9.1 or later is installed');
    const server = await startServer({ binary: release.path });
    more.push({ close: () => server.stop() });
    const checks = await run({}, await open(server, 'source'));
    assertFinding(checks, 'modules', 'ok', /^the target has all that the source has$/);
  });

  it('refuses streams towards a target that has none', async (t) => {
    assertFinding(await run(), 'streams', 'ok', /has them/);
    const ancient = serverReleases().find(({ kind, major }) => kind === 'redis' && major < 5);
    if (ancient === undefined) return t.diagnostic('no release before 5.0 is installed');
    const server = await startServer({ binary: ancient.path });
    more.push({ close: () => server.stop() });
    const old = await open(server, 'target');
    await source.call('SET', 'a', '1');
    assertFinding(await run({}, source, old), 'streams', 'ok', /the source holds none/);
    await source.pipeline([
      ['SELECT', 3],
      ['XADD', 'stream', '*', 'a', 'b'],
      ['SELECT', 0],
    ]);
    const refused = await run({}, source, old);
    assertFinding(refused, 'streams', 'refuse', /of 2 keys looked at 1 are streams/);
    assert.match(finding(refused, 'streams').hint ?? '', /--skip-unknown/);
    assertFinding(await run({ skipUnknown: true }, source, old), 'streams', 'warn', /are skipped/);
    await source.call('ACL', 'SETUSER', 'default', '-scan');
    assertFinding(await run({}, source, old), 'streams', 'warn', /one on the source stops the run/);
    assertFinding(await run({}, old, source), 'streams', 'ok', /has them/);
  });

  it('refuses clusters for now', async () => {
    const node = await open(await serverWith('--cluster-enabled', 'yes'), 'target');
    assertFinding(await run({}, source, node), 'cluster', 'refuse', /target is in cluster mode/);
    assertFinding(await run({}, node, target), 'cluster', 'ok', /one shard/);
  });

  it('takes attach where it can, and says what speaks against it', async () => {
    const attached = await run({ feed: 'attach' });
    assertFinding(attached, 'feed', 'ok', /^attach: /);
    assertFinding(attached, 'target-fence', 'ok', /replica/);
    const asked = await run({ feed: 'write' });
    assertFinding(asked, 'feed', 'ok', /^write: as asked for/);
    assertFinding(asked, 'target-fence', 'ok', /ACL/);
    assert.equal(asked.facts?.feed, 'write');
    const kept = await run({ allowNonempty: true });
    assertFinding(kept, 'feed', 'ok', /^write: .*--allow-nonempty/);
    assert.equal(kept.facts?.feed, 'write');
    assertFinding(await run({ feed: 'attach', allowNonempty: true }), 'feed', 'refuse', /--allow-nonempty/);

    const few = await open(await serverWith('--databases', '2'), 'target');
    assertFinding(await run({}, source, few), 'feed', 'ok', /^write: .*16 databases, the target 2/);
    assertFinding(await run({}, few, target), 'feed', 'ok', /^attach: /);

    const node = await open(await serverWith('--cluster-enabled', 'yes'), 'target');
    assertFinding(await run({}, source, node), 'feed', 'ok', /^write: the target is in cluster mode/);
    const managed = await open(await serverWith('--rename-command', 'REPLICAOF', ''), 'target');
    assertFinding(await run({}, source, managed), 'feed', 'ok', /^write: .*let us run REPLICAOF/);
  });

  it('asks our rights on both sides before it takes attach', async () => {
    const user = { name: 'm', password: 'p' };
    await source.call('ACL', 'SETUSER', 'm', 'on', '>p', '~*', '&*', '+@all', '-psync');
    await target.call('ACL', 'SETUSER', 'm', 'on', '>p', '~*', '&*', '+@all', '-replicaof');
    const reader = await open(sourceServer, 'source', user);
    const writer = await open(targetServer, 'target', user);
    assertFinding(await run({}, reader), 'feed', 'ok', /^write: the source does not let us run PSYNC/);
    await source.call('ACL', 'SETUSER', 'm', '+psync', '-module');
    assertFinding(await run({}, reader), 'feed', 'ok', /^write: the modules .* are not known \(NOPERM/);
    await source.call('ACL', 'SETUSER', 'm', '+module', '-config');
    assertFinding(await run({}, reader), 'feed', 'ok', /^write: a server does not tell how many databases/);
    assertFinding(
      await run({}, source, writer),
      'feed',
      'ok',
      /^write: the target does not let us run REPLICAOF/,
    );
    await target.call('ACL', 'SETUSER', 'm', '+replicaof', '-config|set');
    assertFinding(
      await run({}, source, writer),
      'feed',
      'ok',
      /^write: the target does not let us run CONFIG/,
    );
    await target.call('ACL', 'SETUSER', 'm', '+config|set', '-config|get');
    assertFinding(await run({}, source, writer), 'feed', 'ok', /^write: .*CONFIG GET \(NOPERM/);
    await target.call('ACL', 'SETUSER', 'm', '+config|get');
    assertFinding(await run({}, source, writer), 'feed', 'ok', /^attach: /);
    await source.call('ACL', 'DELUSER', 'm');
    await target.call('ACL', 'DELUSER', 'm');
  });

  it('attaches a target that wants TLS of its master only where there is a certificate to show', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-preflight-tls-'));
    more.push({ close: async () => rmSync(dir, { recursive: true }) });
    makeCertificates(dir);
    const path = (name: string): string => join(dir, name);
    const file = (name: string): Buffer => readFileSync(path(name));
    const port = await freePort();
    const files = ['--tls-cert-file', path('server.crt'), '--tls-key-file', path('server.key')];
    const authority = ['--tls-ca-cert-file', path('ca.crt'), '--tls-auth-clients', 'no'];
    const server = await serverWith('--tls-port', String(port), ...files, ...authority);
    const openTls = async (own: { cert: Buffer; key: Buffer } | null) => {
      const tls = {
        ca: file('ca.crt'),
        cert: own?.cert ?? null,
        key: own?.key ?? null,
        sni: null,
        insecure: false,
      };
      const endpoint = { ...endpointOf(server), host: 'localhost', port, tls };
      const session = await ServerSession.open(endpoint, 'target', { connectTimeoutMs: 3000 });
      more.push(session);
      return session;
    };
    const without = await openTls(null);
    assertFinding(await run({}, source, without), 'feed', 'ok', /^attach: /);
    await without.call('CONFIG', 'SET', 'tls-replication', 'yes');
    assertFinding(await run({}, source, without), 'feed', 'ok', /^write: .*TLS to its master/);
    assertFinding(await run({}, source, await open(server, 'target')), 'feed', 'ok', /^write: .*TLS/);
    const own = await openTls({ cert: file('server.crt'), key: file('server.key') });
    assertFinding(await run({}, source, own), 'feed', 'ok', /^attach: /);
  });

  it('keeps the feed of a run that is gone on with, and knows what it made of the target', async () => {
    const replica = await open(
      await serverWith('--replicaof', '127.0.0.1', String(sourceServer.port)),
      'target',
    );
    await source.call('SET', 'k', 'v');
    await source.call('HSET', 'redis-cutover:lease', 'run', 'other', 'host', 'h', 'pid', '1', 'pair', 'p');
    await until(async () => (await replica.call('EXISTS', 'redis-cutover:lease')) === 1);
    const resumed = await preflight(source, replica, { ...RUN_OPTIONS, resumes: 'own' }, 'attach');
    for (const name of ['same-server', 'lease', 'target-role', 'target-empty', 'target-permissions']) {
      assertFinding(resumed, name, 'ok', /./);
    }
    assertFinding(resumed, 'feed', 'ok', /^attach: as the run began/);
    assert.equal(resumed.facts?.feed, 'attach');

    // a target that is a master again may be another run's by now
    await replica.call('REPLICAOF', 'NO', 'ONE');
    const taken = await preflight(source, replica, { ...RUN_OPTIONS, resumes: 'own' }, 'attach');
    assertFinding(taken, 'lease', 'refuse', /run other/);
    assertFinding(taken, 'target-empty', 'ok', /copy of this run/);

    const written = await preflight(source, target, { ...RUN_OPTIONS, resumes: 'own' }, 'write');
    assertFinding(written, 'feed', 'ok', /^write: as the run began/);
    assert.equal(written.facts?.feed, 'write');
  });
});
