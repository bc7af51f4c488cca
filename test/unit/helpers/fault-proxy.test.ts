/** The fault proxy itself: exact to the byte, in both directions, in every way of ending. */
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { type Fault, faultProxy } from '../../helpers/fault-proxy.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';

/** A server that answers each byte with `<byte>`, and remembers what it got. */
async function echo(t: Cleanup): Promise<{ port: number; got: () => string }> {
  let got = '';
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      got += chunk.toString();
      socket.write([...chunk.toString()].map((byte) => `<${byte}>`).join(''));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as { port: number }).port, got: () => got };
}

async function talk(port: number, text: string): Promise<{ got: () => string; ended: () => string }> {
  let got = '';
  let ended = '';
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('data', (chunk) => {
    got += chunk.toString();
  });
  socket.on('error', (error) => {
    ended = (error as NodeJS.ErrnoException).code ?? 'error';
  });
  socket.on('close', () => {
    ended ||= 'closed';
  });
  socket.write(text);
  return { got: () => got, ended: () => ended };
}

const ABC: Fault['after'] = [{ direction: 'to-server', text: 'abc' }];

test('passes everything on when nothing is wrong, also byte by byte', async (t) => {
  const server = await echo(t);
  for (const options of [{}, { pieceBytes: 1 }]) {
    const proxy = await faultProxy(t, server.port, options);
    const client = await talk(proxy.port, 'hello');
    await until(() => client.got() === '<h><e><l><l><o>');
    assert.equal(proxy.connections(), 1);
  }
});

test('cuts at the byte, in either direction', async (t) => {
  const server = await echo(t);
  for (const pieceBytes of [1, 2, 1000]) {
    for (const bytes of [0, 1, 4]) {
      const proxy = await faultProxy(t, server.port, { pieceBytes });
      const before = server.got().length;
      const happened = proxy.fault({ after: ABC, direction: 'to-server', bytes, how: 'close' });
      const client = await talk(proxy.port, 'xxabcdefghijk');
      await happened;
      await until(client.ended);
      await until(() => server.got().length >= before + 5 + bytes);
      assert.equal(server.got().slice(before), 'xxabcdefghijk'.slice(0, 5 + bytes));
    }
  }
  const proxy = await faultProxy(t, server.port);
  const happened = proxy.fault({
    after: [...ABC, { direction: 'to-client', text: '<d>' }],
    direction: 'to-client',
    bytes: 4,
    how: 'close',
  });
  const client = await talk(proxy.port, 'abcdefgh');
  await happened;
  await until(client.ended);
  assert.equal(client.got(), '<a><b><c><d><e><');
});

test('resets, stalls, refuses, and uses each fault once', async (t) => {
  const server = await echo(t);
  const proxy = await faultProxy(t, server.port);
  const reset = proxy.fault({ after: ABC, direction: 'to-server', bytes: 0, how: 'reset' });
  const other = await talk(proxy.port, 'xyz');
  await until(() => other.got() === '<x><y><z>');
  const first = await talk(proxy.port, 'abc');
  await reset;
  assert.equal(await until(first.ended), 'ECONNRESET');
  const second = await talk(proxy.port, 'abc');
  await until(() => second.got() === '<a><b><c>');
  assert.equal(other.ended(), '');

  const stall = proxy.fault({ after: ABC, direction: 'to-client', bytes: 1, how: 'stall' });
  const third = await talk(proxy.port, 'abc');
  await stall;
  assert.equal(third.ended(), '');
  proxy.cutAll('close');
  await until(second.ended);
  await until(third.ended);
  proxy.refuse(true);
  await until((await talk(proxy.port, 'x')).ended);
});

test('holds and lets go, slices, tells of a place, and forgets', async (t) => {
  const server = await echo(t);
  const proxy = await faultProxy(t, server.port);
  const client = await talk(proxy.port, 'a');
  await until(() => client.got() === '<a>');

  proxy.hold(true);
  const held = await talk(proxy.port, 'bc');
  const other = await talk(server.port, 'x');
  await until(() => other.got() === '<x>');
  assert.equal(held.got(), '');
  assert.doesNotMatch(server.got(), /b/);
  proxy.slice(1);
  proxy.hold(false);
  await until(() => held.got() === '<b><c>');

  const passed = proxy.fault({ after: ABC, direction: 'to-server', bytes: 1, how: 'pass' });
  const third = await talk(proxy.port, 'abcde');
  await passed;
  await until(() => third.got() === '<a><b><c><d><e>');
  assert.equal(third.ended(), '');

  void proxy.fault({ after: ABC, direction: 'to-server', bytes: 0, how: 'reset' });
  proxy.clear();
  const fourth = await talk(proxy.port, 'abcd');
  await until(() => fourth.got() === '<a><b><c><d>');
});
