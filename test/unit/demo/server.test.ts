/** The throwaway server: it starts, answers, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { findServer } from '../../../src/demo/find-server.ts';
import { atLeast, readRelease } from '../../../src/demo/release.ts';
import { freePort, startServer } from '../../../src/demo/server.ts';
import { RespConnection } from '../../../src/resp/connection.ts';
import { testClient } from '../../helpers/client.ts';
import { testServer } from '../../helpers/server.ts';

test('a server answers on its port, and stop() ends it and removes its folder', async (t) => {
  const server = await testServer(t);
  const client = await testClient(t, server.port);
  assert.equal(String(await client.call('PING')), 'PONG');
  assert.equal((await readRelease(client)).version, server.version);
  assert.equal(server.uri, `redis://127.0.0.1:${server.port}`);
  assert.ok(existsSync(server.dir));

  await server.stop();
  await server.stop();
  assert.equal(server.process.exitCode, 0);
  assert.ok(!existsSync(server.dir));
  await assert.rejects(RespConnection.connect(server.port), { code: 'demo-connection' });
});

test('a server with a password counts as ready', async (t) => {
  const server = await testServer(t, { args: ['--requirepass', 'open sesame'] });
  const client = await testClient(t, server.port);
  await assert.rejects(client.call('GET', 'x'), /NOAUTH/);
  assert.equal(String(await client.call('AUTH', 'open sesame')), 'OK');
});

test('a stopped process is ended, too', async (t) => {
  const server = await testServer(t);
  server.process.kill('SIGSTOP');
  await server.stop();
  assert.equal(server.process.signalCode, 'SIGKILL');
});

test('a server that cannot start is an error with the end of its log', async () => {
  await assert.rejects(startServer({ port: await freePort(), args: ['--maxmemory-policy', 'nonsense'] }), {
    name: 'SourceError',
    code: 'demo-server',
    message: /ended at once/,
  });
});

test('a port that is taken is not mistaken for ours', async (t) => {
  const first = await testServer(t);
  await assert.rejects(startServer({ port: first.port }), { code: 'demo-server' });
  const client = await testClient(t, first.port);
  assert.equal(String(await client.call('PING')), 'PONG');
});

test('a port on which somebody else listens and says nothing is no server of ours, and is not waited for', async (t) => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => void sockets.push(socket));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  const { port } = silent.address() as AddressInfo;
  await assert.rejects(startServer({ port }), { code: 'demo-server', message: /ended at once/ });
});

test('REDIS_SERVER must name a program', (t) => {
  const before = process.env['REDIS_SERVER'];
  t.after(() => {
    if (before === undefined) delete process.env['REDIS_SERVER'];
    else process.env['REDIS_SERVER'] = before;
  });
  process.env['REDIS_SERVER'] = '/nowhere/redis-server';
  assert.throws(() => findServer(), { name: 'UsageError', code: 'no-redis-server', exitCode: 2 });
  process.env['REDIS_SERVER'] = process.execPath;
  assert.equal(findServer(), process.execPath);
});

test('a program that is no server is refused before it is started', async () => {
  await assert.rejects(startServer({ binary: process.execPath }), { code: 'no-redis-server' });
});

test('atLeast compares numbers, not text', () => {
  assert.ok(atLeast('2.8.18', '2.8.9'));
  assert.ok(atLeast('7.0.15', '7.0'));
  assert.ok(atLeast('10.0.0', '9.9.9'));
  assert.ok(!atLeast('6.2.16', '7.0'));
  assert.ok(!atLeast('2.8.17', '2.8.18'));
});
