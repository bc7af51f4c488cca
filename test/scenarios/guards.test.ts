/** What the program refuses before it touches anything: exit 3, one error with a hint, both sides exactly as before. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import type { DemoServer } from '../../src/demo/server.ts';
import { testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, ends, eventsOf, infoNumber, migrate, newRunDir, stateOf, withClient } from './support.ts';

const NAMED = /\S/;

async function refused(
  t: TestContext,
  servers: readonly [DemoServer, DemoServer],
  code: string,
  options: { args?: readonly string[]; uris?: [string, string]; env?: Record<string, string> } = {},
): Promise<void> {
  const [source, target] = servers;
  const before = await Promise.all(servers.map((server) => stateOf(server.port)));
  const fullCopies = await infoNumber(source.port, 'stats', 'sync_full');
  const runDir = newRunDir(t);
  const uris = options.uris ?? [source.uri, target.uri];
  const run = migrate(t, uris, ['--cutover', 'auto', ...(options.args ?? [])], {
    runDir,
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const summary = await ends(run, 3);
  assert.equal(summary['outcome'], 'refused');
  const errors = eventsOf(run, 'error');
  assert.deepEqual(
    errors.map((error) => error['code']),
    [code],
  );
  assert.match(String(errors[0]?.['hint']), NAMED);
  assert.deepEqual(await Promise.all(servers.map((server) => stateOf(server.port))), before);
  assert.equal(await infoNumber(source.port, 'stats', 'sync_full'), fullCopies);
  assert.ok(!existsSync(runDir), 'a refused run leaves no folder');
}

test('one server under two names', async (t) => {
  const server = await testServer(t);
  await refused(t, [server, server], 'same-server', {
    uris: [`redis://localhost:${server.port}`, `redis://127.0.0.1:${server.port}`],
  });
});

test('a target that holds keys, is a replica, is too small, evicts, or has too few databases', async (t) => {
  const source = await testServer(t);
  await withClient(source.port, async (client) => {
    await client.call('SELECT', 9);
    await client.call('SET', 'k', 'x'.repeat(3_000_000));
  });
  const full = await testServer(t);
  await ask(full.port, 'SET', 'k', 'v');
  await refused(t, [source, full], 'target-empty');
  const replica = await testServer(t, { args: ['--replicaof', '127.0.0.1', String(full.port)] });
  await until(async () => (await ask(replica.port, 'EXISTS', 'k')) === 1);
  await refused(t, [source, replica], 'target-role');
  await refused(t, [source, await testServer(t, { args: ['--maxmemory', '3mb'] })], 'target-memory');
  // it fits, but not by much
  const limit = Math.round((await infoNumber(source.port, 'memory', 'used_memory')) * 1.15);
  const evicts = ['--maxmemory', String(limit), '--maxmemory-policy', 'allkeys-lru'];
  await refused(t, [source, await testServer(t, { args: evicts })], 'target-policy');
  await refused(t, [source, await testServer(t, { args: ['--databases', '4'] })], 'databases');
});

test('a user who may not replicate from the source, or not write to the target', async (t) => {
  const [source, target] = [await testServer(t), await testServer(t)];
  await ask(source.port, 'SET', 'k', 'v');
  for (const server of [source, target]) {
    await ask(server.port, 'ACL', 'SETUSER', 'mover', 'on', '>pass', '~*', '&*', '+@all');
  }
  const env = { REDISCLI_AUTH: 'pass' };
  await ask(source.port, 'ACL', 'SETUSER', 'mover', '-psync', '-sync');
  const asMover = ({ port }: DemoServer) => `redis://mover@127.0.0.1:${port}`;
  await refused(t, [source, target], 'source-no-psync', { uris: [asMover(source), target.uri], env });
  await ask(target.port, 'ACL', 'SETUSER', 'mover', '-restore', '-set', '-acl', '+acl|dryrun', '+acl|whoami');
  await refused(t, [source, target], 'target-permissions', { uris: [source.uri, asMover(target)], env });
});

test('a second run on the same target, and A to B while B is fed from A', async (t) => {
  const [a, b, c] = [await testServer(t), await testServer(t), await testServer(t)];
  await ask(a.port, 'SET', 'k', 'v');
  const first = migrate(t, [a.uri, b.uri], ['--cutover', 'never']);
  await first.phase('in-sync');
  // the checkpoint moves and the lease is renewed by the first run: what belongs to the second must not be there
  const refusal = async (uris: [string, string], code: string): Promise<void> => {
    const acl = await ask(b.port, 'ACL', 'LIST');
    const run = migrate(t, uris, ['--cutover', 'auto', '--allow-nonempty']);
    await ends(run, 3);
    assert.deepEqual(
      eventsOf(run, 'error').map((error) => error['code']),
      [code],
    );
    assert.deepEqual(await ask(b.port, 'ACL', 'LIST'), acl);
  };
  await refusal([c.uri, b.uri], 'lease');
  await refusal([b.uri, a.uri], 'source-is-target');
  assert.equal(await ask(a.port, 'INCR', 'count'), 1);
  await until(async () => (await ask(b.port, 'GET', 'count')) === '1');
  first.kill();
  await ends(first, 130);
});

test('two runs that begin at one moment: one gets the target, the other changes nothing', async (t) => {
  const [a, b] = [await testServer(t), await testServer(t)];
  await ask(a.port, 'SET', 'k', 'v');
  const acl = await ask(b.port, 'ACL', 'LIST');
  const runs = [1, 2].map(() => migrate(t, [a.uri, b.uri], ['--stop-at', 'in-sync']));
  const codes = await Promise.all(runs.map((run) => run.exit));
  assert.ok(codes.includes(0), runs.map((run) => run.stdout().slice(-1500)).join('\n'));
  for (const run of runs) {
    const code = await run.exit;
    if (code === 0) continue;
    assert.equal(code, 3);
    assert.match(String(eventsOf(run, 'error')[0]?.['code']), /lease/);
  }
  assert.deepEqual(await ask(b.port, 'ACL', 'LIST'), acl);
});
