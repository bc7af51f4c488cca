/** The scripted master, the splitting and the waiting: the helpers that other tests trust. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { everySplit } from '../../helpers/every-split.ts';
import { fakeSource, handshake } from '../../helpers/fake-source.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';

/** A raw connection that keeps what it received. */
async function dial(t: Cleanup, port: number): Promise<{ socket: Socket; text: () => string }> {
  const socket = connect(port, '127.0.0.1');
  t.after(() => {
    socket.destroy();
  });
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  await once(socket, 'connect');
  return { socket, text: () => text };
}

test('a handshake in any order, then bytes, an ACK, and the end', async (t) => {
  let called = 0;
  const source = await fakeSource(t, [
    handshake('+FULLRESYNC aaaa 1\r\n'),
    { kind: 'send', bytes: '$3\r\nabc', cuts: 'every-byte' },
    { kind: 'wait', name: 'REPLCONF ACK', where: (args) => args[2] === '7' },
    {
      kind: 'call',
      run: () => {
        called += 1;
      },
    },
    { kind: 'close' },
  ]);
  const { socket, text } = await dial(t, source.port);
  socket.write('PING\r\n');
  socket.write('*3\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n*3\r\n$5\r\nPSY');
  await until(() => text() === '+PONG\r\n+OK\r\n');
  socket.write('NC\r\n$1\r\n?\r\n$2\r\n-1\r\n');
  await until(() => text().endsWith('$3\r\nabc'));
  assert.equal(called, 0);
  socket.write('REPLCONF ACK 3\r\nREPLCONF ACK 7\r\n');
  await once(socket, 'end');
  await source.finished();
  assert.equal(called, 1);
  assert.deepEqual(
    source.received.map((command) => command.name),
    ['PING', 'REPLCONF CAPA', 'PSYNC', 'REPLCONF ACK', 'REPLCONF ACK'],
  );
  assert.deepEqual(source.received[2]?.args.map(String), ['PSYNC', '?', '-1']);
});

test('finished() says where the other side left the script', async (t) => {
  const source = await fakeSource(t, [{ kind: 'expect', name: 'PING' }], [{ kind: 'wait', name: 'PSYNC' }]);
  const first = await dial(t, source.port);
  first.socket.write('AUTH x\r\n');
  await assert.rejects(source.finished(0), /expected PING, got AUTH/);
  const second = await dial(t, source.port);
  second.socket.end();
  await assert.rejects(source.finished(1), /closed the connection; expected PSYNC/);
  assert.equal(source.connections(), 2);
});

test('reset breaks the connection; one too many is closed', async (t) => {
  const source = await fakeSource(t, [{ kind: 'reset' }]);
  const socket = connect(source.port, '127.0.0.1');
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  const { socket: unscripted } = await dial(t, source.port);
  await once(unscripted.resume(), 'close');
});

test('everySplit feeds every cut once and names the one that fails', async () => {
  const seen = new Set<string>();
  await everySplit(Buffer.from('abcd'), (chunks) => {
    assert.equal(Buffer.concat(chunks).toString(), 'abcd');
    seen.add(chunks.map(String).join('|'));
  });
  assert.deepEqual([...seen].sort(), ['a|b|c|d', 'a|bcd', 'abc|d', 'ab|cd', 'abcd'].sort());
  await assert.rejects(
    everySplit(Buffer.from('abcd'), (chunks) => assert.notEqual(String(chunks[0]), 'abc')),
    /^Error: split at byte 3: /,
  );
});

test('until returns the value, and fails with the last error', async () => {
  let asked = 0;
  assert.equal(await until(() => (++asked === 3 ? 'yes' : null)), 'yes');
  const failing = until(
    () => {
      throw new Error('not there');
    },
    { timeoutMs: 30, what: 'the thing' },
  );
  await assert.rejects(failing, (error: Error) => {
    assert.match(error.message, /not within 30 ms: the thing/);
    assert.match(String(error.cause), /not there/);
    return true;
  });
});
