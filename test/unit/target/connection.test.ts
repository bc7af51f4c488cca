/** The hot connection against a server of the test: replies find their commands, fullness, and the end. */
import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import type { CutoverError } from '../../../src/core/errors.ts';
import { TargetConnection } from '../../../src/target/write/connection.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';
import { dial } from './support.ts';

interface Pair {
  readonly connection: TargetConnection;
  /** The target's end. */
  readonly far: Socket;
  readonly replies: (readonly [number, string | null])[];
  readonly nested: (readonly [number, string])[];
  readonly lost: CutoverError[];
  progressed: number;
}

async function pair(t: Cleanup): Promise<Pair> {
  let far: Socket | undefined;
  const server = createServer({ noDelay: true }, (socket) => {
    far = socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const socket = await dial(t, (server.address() as AddressInfo).port);
  t.after(() => {
    far?.destroy();
    server.close();
  });
  const seen = { replies: [], nested: [], lost: [], progressed: 0 } as Omit<Pair, 'connection' | 'far'>;
  const connection = new TargetConnection(socket, {
    reply: (tag, line) => (seen.replies as (readonly [number, string | null])[]).push([tag, line]),
    nestedError: (index, line) => (seen.nested as (readonly [number, string])[]).push([index, line]),
    progress: () => seen.progressed++,
    lost: (error) => seen.lost.push(error),
  });
  return Object.assign(seen, { connection, far: await until(() => far) });
}

describe('TargetConnection', () => {
  it('hands each reply on with the tag of its command', async (t) => {
    const { connection, far, replies, nested } = await pair(t);
    far.on('data', () => {});
    for (let tag = 0; tag < 20_000; tag++) {
      connection.expect(tag);
      connection.out.command('PING');
    }
    connection.out.flush();
    assert.equal(connection.unanswered, 20_000);
    assert.equal(connection.oldestTag, 0);
    for (let tag = 0; tag < 20_000; tag++) far.write(tag % 100 === 7 ? `-ERR ${tag}\r\n` : '+OK\r\n');
    await until(() => connection.unanswered === 0);
    assert.equal(connection.oldestTag, null);
    assert.deepEqual(
      replies,
      Array.from({ length: 20_000 }, (_, tag) => [tag, tag % 100 === 7 ? `ERR ${tag}` : null]),
    );
    connection.expect(-2);
    connection.expect(77);
    far.write('*3\r\n+OK\r\n:1\r\n-WRONGTYPE x\r\n*-1\r\n');
    await until(() => connection.unanswered === 0);
    assert.deepEqual(nested, [[2, 'WRONGTYPE x']]);
    assert.deepEqual(replies.slice(-2), [
      [-2, null],
      [77, 'EXECABORT the transaction was not executed'],
    ]);
  });

  it('is full at a window of bytes that are unanswered, and tells when there is room', async (t) => {
    const { connection, far } = await pair(t);
    far.on('data', () => {});
    const value = Buffer.alloc(64 * 1024);
    let sent = 0;
    for (; !connection.full; sent++) {
      connection.expect(sent);
      connection.out.command('SET', 'k', value);
      if (sent % 4 === 0) await new Promise((resolve) => setImmediate(resolve));
      assert.ok(sent < 1000, 'never full');
    }
    assert.ok(sent * value.length >= 2 << 20);
    connection.out.flush();
    for (let i = 0; i < sent; i++) far.write('+OK\r\n');
    await until(() => connection.unanswered === 0);
    assert.equal(connection.full, false);
  });

  it('counts the window also where it has grown', async (t) => {
    const { connection, far } = await pair(t);
    far.on('data', () => {});
    const value = Buffer.alloc(900);
    for (let tag = 0; tag < 6000; tag++) {
      connection.expect(tag);
      connection.out.command('SET', 'k', value);
      if (tag % 200 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    connection.out.flush();
    // all of it has left, nothing is answered: 5 MB in 6000 commands
    await new Promise<void>((resolve) => {
      far.on('data', () => far.bytesRead === connection.out.totalBytes && resolve());
    });
    assert.equal(connection.full, true);
    for (let i = 0; i < 3000; i++) far.write('+OK\r\n');
    await until(() => connection.unanswered === 3000);
    assert.equal(connection.full, false);
    assert.equal(connection.oldestTag, 3000);
  });

  it('is full while a target reads nothing, also within one command; draining is progress', async (t) => {
    const seen = await pair(t);
    const { connection, far } = seen;
    far.pause();
    connection.expect(1);
    const piece = Buffer.alloc(256 * 1024);
    let bytes = 0;
    for (; !connection.full; bytes += piece.length) {
      connection.out.raw(piece, 0, piece.length);
      assert.ok(bytes < 100 << 20, 'never full');
      await new Promise((resolve) => setImmediate(resolve));
    }
    const before = seen.progressed;
    far.on('data', () => {}).resume();
    await until(() => !connection.full && seen.progressed > before);
  });

  it('says once that it is lost, with the cause, and nothing after close()', async (t) => {
    const first = await pair(t);
    first.connection.expect(5);
    first.far.resetAndDestroy();
    await until(() => first.lost.length > 0);
    assert.equal(first.lost[0]?.code, 'target-lost');
    assert.equal(first.lost[0]?.recovery, 'reconnect');
    assert.equal(first.connection.oldestTag, 5, 'says where to begin again');

    const second = await pair(t);
    second.connection.close();
    second.far.write('+OK\r\n');
    second.connection.out.command('PING');
    second.connection.out.flush();
    await until(() => second.far.readableEnded || second.far.destroyed);
    assert.deepEqual(second.lost, []);
    assert.deepEqual(first.lost.length, 1);
  });

  it('bytes that are no RESP, and answers that nobody asked for, end it', async (t) => {
    for (const [bytes, code] of [
      ['HTTP/1.1 400\r\n', 'target-protocol'],
      ['+OK\r\n+OK\r\n', 'target-protocol'],
      ['-NOAUTH x\r\n-ERR unasked\r\n', 'target-protocol'],
    ] as const) {
      const { connection, far, lost, replies } = await pair(t);
      connection.expect(1);
      far.write(bytes);
      await until(() => lost.length > 0);
      assert.equal(lost[0]?.code, code);
      assert.equal(lost.length, 1);
      assert.ok(replies.length <= 1);
    }
  });
});
