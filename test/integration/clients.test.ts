/** Clients on a real server: who writes, and throwing them off; on every release that this machine has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReplyError } from '../../src/client/reply-error.ts';
import { ServerSession } from '../../src/client/session.ts';
import { Secret } from '../../src/core/endpoint.ts';
import { clientsOn, killClients } from '../../src/migrate/clients.ts';
import { testClient } from '../helpers/client.ts';
import { serverReleases } from '../helpers/releases.ts';
import { type Cleanup, testServer } from '../helpers/server.ts';

async function open(t: Cleanup, port: number, login?: readonly [string, string]): Promise<ServerSession> {
  const session = await ServerSession.open(
    {
      host: '127.0.0.1',
      port,
      username: login?.[0] ?? null,
      password: login === undefined ? null : new Secret(login[1]),
      tls: null,
    },
    'source',
    { connectTimeoutMs: 10_000 },
  );
  t.after(() => session.close());
  return session;
}

for (const release of serverReleases()) {
  test(`writers and stragglers on ${release.kind} ${release.version}`, async (t) => {
    const server = await testServer(t, { binary: release.path });
    const session = await open(t, server.port);
    const commands: readonly (readonly [string, ...string[]])[] = [
      ['SET', 'k', 'v'],
      ['GET', 'k'],
      ['EVAL', 'return 1', '0'],
      ['CLIENT', 'GETNAME'],
    ];
    for (const command of commands) {
      const client = await testClient(t, server.port);
      await client.call('CLIENT', 'SETNAME', command[0]);
      await client.call(...command);
    }
    const clients = await clientsOn(session);
    const writing = Object.fromEntries(clients.map((client) => [client.name, client.writing]));
    assert.deepEqual(writing, { SET: true, GET: false, EVAL: true, CLIENT: false });

    const [first, second, ...others] = clients.map((client) => client.addr);
    assert.ok(first !== undefined && second !== undefined);
    assert.equal(await killClients(session, []), 0);
    assert.equal(await killClients(session, [first]), 1);
    // the first is gone: no error
    assert.equal(await killClients(session, [first, second]), 1);
    assert.deepEqual((await clientsOn(session)).map((client) => client.addr).sort(), others.sort());
  });
}

test('refusals: no COMMAND INFO is made up for, no CLIENT KILL is an error', async (t) => {
  const server = await testServer(t);
  const admin = await testClient(t, server.port);
  await admin.call('ACL', 'SETUSER', 'list', 'on', '>canary', '+client|list', '+client|setname');
  const session = await open(t, server.port, ['list', 'canary']);
  await admin.call('SET', 'k', 'v');
  const [client] = await clientsOn(session);
  assert.equal(client?.writing, true);
  await admin.call('GET', 'k');
  assert.equal((await clientsOn(session))[0]?.writing, false);
  await assert.rejects(
    killClients(session, [client.addr]),
    (error) => error instanceof ReplyError && error.prefix === 'NOPERM',
  );
});
