/** The port of feed `attach` against scripted replicas: to the byte what they get, and who is kept out. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { Secret } from '../../src/core/endpoint.ts';
import { InvariantError } from '../../src/core/errors.ts';
import { type PsyncAnswer, ReplicaServer } from '../../src/target/attach/replica-server.ts';
import { until } from '../helpers/wait.ts';
import { MARK, makeCertificates, REPLID } from './link-support.ts';
import {
  GrowingBytes,
  PASSWORD,
  RecordingListener,
  runServer,
  ScriptedReplica,
  UNHINDERED,
} from './replica-support.ts';

const FULL: PsyncAnswer = {
  kind: 'full',
  replid: REPLID,
  offset: 100,
  framing: { kind: 'length', bytes: 5 },
};
const DISKLESS: PsyncAnswer = { ...FULL, framing: { kind: 'mark', mark: Buffer.from(MARK) } };
const LENGTH_LINES = `+FULLRESYNC ${REPLID} 100\r\n$5\r\n`;
const MARK_LINES = `+FULLRESYNC ${REPLID} 100\r\n$EOF:${MARK}\r\n`;

/** A round trip, so that whatever was written to the replica before has been written. */
async function afterARoundTrip(port: number): Promise<void> {
  const probe = connect(port, '127.0.0.1');
  probe.write('PING\r\n');
  await once(probe, 'data');
  probe.destroy();
}

describe('what a replica is sent', () => {
  it('newlines while it waits, then the answer and the bytes, and from there on nothing else', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const bytes = new GrowingBytes();
    const { server, listener } = await runServer(t, bytes);
    const replica = ScriptedReplica.to(t, server.port);
    await replica.ask();
    await until(() => listener.requests.length > 0);
    assert.deepEqual([server.connected, server.sentPosition, server.peerAddress], [false, -1, null]);
    t.mock.timers.tick(3_000);
    await replica.hears('\n\n\n');

    bytes.add('RDB');
    listener.decide = () => FULL;
    server.pump();
    await replica.hears(`\n\n\n${LENGTH_LINES}RDB`);
    assert.deepEqual([server.connected, server.sentPosition, server.peerAddress], [true, 3, '127.0.0.1']);
    t.mock.timers.tick(60_000);
    bytes.add('.!');
    server.pump();
    bytes.add('*1\r\n$4\r\nPING\r\n');
    server.pump();
    for (const words of [['PING'], ['REPLCONF', 'GETACK', '*'], ['PSYNC', '?', '-1']]) replica.say(words);
    replica.socket.write('\n\n');
    t.mock.timers.tick(60_000);
    await afterARoundTrip(server.port);
    replica.say(['REPLCONF', 'ACK', '114']);
    await until(() => listener.acks.length > 0);
    t.mock.timers.tick(60_000);
    bytes.add('end');
    server.pump();
    await replica.hears(`\n\n\n${LENGTH_LINES}RDB.!*1\r\n$4\r\nPING\r\nend`);
    await until(() => listener.lastSent === bytes.end);
    assert.deepEqual(listener.calls, ['reached', 'attached full']);
    assert.deepEqual(listener.requests.at(-1), { replid: '?', offset: -1 });
    assert.deepEqual(listener.acks, [114]);
  });

  it('where it comes back: the rest, with the id only where it takes one', async (t) => {
    const bytes = new GrowingBytes();
    bytes.add('RDB.!stream');
    const { server, listener } = await runServer(t, bytes);
    listener.decide = ({ replid, offset }) =>
      replid === REPLID ? { kind: 'continue', replid, position: offset - 101 + 5 } : FULL;
    const first = ScriptedReplica.to(t, server.port);
    await first.ask();
    await first.hears(`${LENGTH_LINES}RDB.!stream`);
    server.disconnect('a new name');
    await first.hangsUp();
    assert.deepEqual([server.connected, server.sentPosition], [false, -1]);

    const second = ScriptedReplica.to(t, server.port);
    await second.ask(REPLID, 104);
    await second.hears(`+CONTINUE ${REPLID}\r\neam`);
    const third = ScriptedReplica.to(t, server.port);
    await third.ask(REPLID, 107, []);
    await third.hears('+CONTINUE\r\n');
    await second.hangsUp();
    bytes.add('more');
    server.pump();
    await third.hears('+CONTINUE\r\nmore');
    assert.equal(server.sentPosition, 15);
    third.socket.destroy();
    await until(() => !server.connected);
    assert.deepEqual(
      listener.calls.filter((call) => call !== 'reached'),
      [
        'attached full',
        'detached a new name',
        'attached continue',
        'detached it has connected anew',
        'attached continue',
        'detached it closed the connection',
      ],
    );
  });

  it('a target that stops to acknowledge is cut off, one that loads, or acknowledges, is not', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval', 'Date'] });
    const bytes = new GrowingBytes();
    bytes.add('RDB.!stream');
    const { server, listener } = await runServer(t, bytes);
    listener.decide = ({ replid }) => (replid === REPLID ? { kind: 'continue', replid, position: 11 } : FULL);
    const first = ScriptedReplica.to(t, server.port);
    await first.ask();
    await first.hears(`${LENGTH_LINES}RDB.!stream`);
    t.mock.timers.tick(100_000);
    for (let acknowledged = 1; acknowledged <= 3; acknowledged++) {
      first.say(['REPLCONF', 'ACK', '100']);
      await until(() => listener.acks.length === acknowledged);
      t.mock.timers.tick(60_000);
    }
    assert.equal(server.connected, true);
    t.mock.timers.tick(1_000);
    await first.hangsUp();
    assert.equal(listener.calls.at(-1), 'detached it has acknowledged nothing for 60 s');

    const second = ScriptedReplica.to(t, server.port);
    await second.ask(REPLID, 107);
    await second.hears(`+CONTINUE ${REPLID}\r\n`);
    t.mock.timers.tick(60_000);
    assert.equal(server.connected, true);
    t.mock.timers.tick(1_000);
    await second.hangsUp();
  });

  it('a feed that calls back before the answer: the answer still comes first, once', async (t) => {
    const bytes = new GrowingBytes();
    bytes.add('RDB.!stream');
    const { server, listener } = await runServer(t, bytes);
    listener.decide = () => FULL;
    listener.whenAttached = () => {
      server.pump();
      server.payloadEnd(5);
      server.holdAt(8);
    };
    const replica = ScriptedReplica.to(t, server.port);
    await replica.ask();
    await replica.hears(`${LENGTH_LINES}RDB.!str`);
    assert.deepEqual(listener.calls, ['reached', 'attached full']);

    listener.whenAttached = () => server.disconnect('not now');
    const refused = ScriptedReplica.to(t, server.port);
    await refused.ask();
    await refused.hangsUp();
    await refused.hears('');
    assert.deepEqual(listener.calls.slice(-2), ['attached full', 'detached not now']);
  });

  it('nothing at or behind the hold, until it is raised', async (t) => {
    const bytes = new GrowingBytes();
    bytes.add('0123456789');
    const { server, listener } = await runServer(t, bytes);
    listener.decide = () => FULL;
    server.holdAt(4);
    const replica = ScriptedReplica.to(t, server.port);
    await replica.ask();
    await replica.hears(`${LENGTH_LINES}0123`);
    await until(() => listener.lastSent === 4);
    server.pump();
    server.holdAt(7);
    server.holdAt(2);
    await until(() => listener.lastSent === 7);
    bytes.add('abc');
    server.pump();
    await afterARoundTrip(server.port);
    await replica.hears(`${LENGTH_LINES}0123456`);
    assert.equal(server.sentPosition, 7);
    server.holdAt(null);
    await replica.hears(`${LENGTH_LINES}0123456789abc`);
  });

  it('behind a mark nothing before its acknowledgement, on each connection anew', async (t) => {
    const payload = `RDB${MARK}`;
    const bytes = new GrowingBytes();
    bytes.add(`${payload}stream`);
    const { server, listener } = await runServer(t, bytes);
    listener.decide = () => DISKLESS;
    for (const attempt of [1, 2]) {
      server.payloadEnd(null);
      server.holdAt(null);
      const replica = ScriptedReplica.to(t, server.port);
      await replica.ask();
      await replica.hears(MARK_LINES);
      server.holdAt(10);
      await replica.hears(`${MARK_LINES}${payload.slice(0, 10)}`);
      replica.say(['REPLCONF', 'ACK', '0']); // too early to say anything
      await until(() => listener.acks.length === 2 * attempt - 1);
      server.payloadEnd(payload.length);
      server.holdAt(null);
      await replica.hears(`${MARK_LINES}${payload}`);
      server.pump();
      await until(() => listener.lastSent === payload.length);
      await afterARoundTrip(server.port);
      await replica.hears(`${MARK_LINES}${payload}`);
      replica.say(['REPLCONF', 'ACK', '100']);
      await replica.hears(`${MARK_LINES}${payload}stream`);
    }
  });

  it('everything, however slowly it reads, while views are overwritten', async (t) => {
    const bytes = new GrowingBytes();
    const all = Buffer.alloc(24 << 20);
    for (let i = 0; i < all.length; i += 4) all.writeUInt32LE(i, i);
    bytes.add(all);
    const { server, listener } = await runServer(t, bytes);
    listener.decide = () => FULL;
    const replica = ScriptedReplica.to(t, server.port);
    await replica.ask();
    replica.socket.pause();
    await until(() => listener.lastSent > 0);
    await afterARoundTrip(server.port);
    for (let i = 0; i < 5; i++) server.pump();
    assert.ok(server.sentPosition - listener.lastSent <= 1 << 20, 'one write at a time');
    assert.ok(server.sentPosition < all.length, 'what the system does not take stays where it is');
    replica.socket.resume();
    await until(() => replica.length >= LENGTH_LINES.length + all.length, { timeoutMs: 60_000 });
    assert.ok(replica.received.subarray(LENGTH_LINES.length).equals(all));
    await until(() => listener.lastSent === all.length);
  });
});

describe('who is kept out', () => {
  it('who has no password, or a wrong one: the history is not even asked for', async (t) => {
    const { server, listener } = await runServer(t, new GrowingBytes(), { username: 'run' });
    const replica = ScriptedReplica.to(t, server.port);
    replica.say(['PSYNC', '?', '-1']);
    await replica.hears('-NOAUTH Authentication required.\r\n');
    replica.forget();
    replica.say(['AUTH', 'run', 'wrong']);
    replica.say(['PSYNC', '?', '-1']);
    await replica.hangsUp();
    await replica.hears('-WRONGPASS invalid username-password pair or user is disabled.\r\n');
    assert.deepEqual([listener.calls, listener.requests], [[], []]);
  });

  it('who never comes to an end', async (t) => {
    const { server } = await runServer(t, new GrowingBytes());
    const chatty = ScriptedReplica.to(t, server.port);
    chatty.socket.write('x'.repeat(70_000));
    await chatty.hangsUp();

    t.mock.timers.enable({ apis: ['setTimeout'] });
    const silent = ScriptedReplica.to(t, server.port);
    silent.socket.write('PING\r\n');
    await once(silent.socket, 'data');
    t.mock.timers.tick(9_999);
    silent.socket.write('PING\r\n');
    await once(silent.socket, 'data');
    t.mock.timers.tick(1);
    t.mock.timers.reset();
    await silent.hangsUp();
  });

  it('a crowd does not keep the target out, nor end the one that is served', async (t) => {
    const bytes = new GrowingBytes();
    bytes.add('RDB.!');
    const { server, listener } = await runServer(t, bytes);
    listener.decide = () => FULL;
    const target = ScriptedReplica.to(t, server.port);
    await target.ask();
    await target.hears(`${LENGTH_LINES}RDB.!`);
    const crowd = Array.from({ length: 20 }, () => ScriptedReplica.to(t, server.port));
    await until(() => crowd.filter(({ ended }) => ended).length === 12);
    await afterARoundTrip(server.port);
    bytes.add('on');
    server.pump();
    await target.hears(`${LENGTH_LINES}RDB.!on`);
  });

  it('a target that takes no mark: the feed hears of it, and the port is closed', async (t) => {
    const { server, listener } = await runServer(t, new GrowingBytes());
    listener.decide = () => DISKLESS;
    const replica = ScriptedReplica.to(t, server.port);
    await replica.ask('?', -1, []);
    await replica.hangsUp();
    await replica.hears('');
    assert.deepEqual(listener.calls, ['reached', 'failed target-no-mark']);
  });
});

describe('the port', () => {
  it('bytes that cannot be read: the feed hears of it, and the port is closed', async (t) => {
    const bytes = new GrowingBytes();
    bytes.add('RDB');
    bytes.view = () => {
      throw new InvariantError('torn');
    };
    const { server, listener } = await runServer(t, bytes);
    listener.decide = () => FULL;
    const replica = ScriptedReplica.to(t, server.port);
    await replica.ask();
    await replica.hangsUp();
    server.pump();
    assert.deepEqual(listener.calls, ['reached', 'attached full', 'failed invariant']);
  });

  it('taken, or not of this machine: said with the address and what to type', async (t) => {
    const { server } = await runServer(t, new GrowingBytes());
    const settings = {
      username: null,
      password: new Secret(PASSWORD),
      tls: null,
      bytes: new GrowingBytes(),
      pace: UNHINDERED,
      signOfLifeMs: 60_000,
      silenceMs: 60_000,
    };
    const listener = new RecordingListener();
    await assert.rejects(
      ReplicaServer.listen({ ...settings, host: '127.0.0.1', port: server.port }, listener),
      {
        name: 'UsageError',
        code: 'listen',
        message: new RegExp(`127\\.0\\.0\\.1:${server.port}`),
        hint: /--listen/,
      },
    );
    await assert.rejects(ReplicaServer.listen({ ...settings, host: '192.0.2.1', port: 0 }, listener), {
      code: 'listen',
      hint: /no such address/,
    });
    const tls = { cert: Buffer.from('no certificate'), key: Buffer.from('no key'), ca: null };
    await assert.rejects(ReplicaServer.listen({ ...settings, tls, host: '127.0.0.1', port: 0 }, listener), {
      code: 'listen-tls',
    });
  });

  it('over TLS, with the certificate of an authority where one is asked for', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-replica-tls-'));
    t.after(() => rmSync(dir, { recursive: true }));
    makeCertificates(dir);
    const file = (name: string): Buffer => readFileSync(join(dir, name));
    const bytes = new GrowingBytes();
    bytes.add('RDB.!stream');
    const { server, listener } = await runServer(t, bytes, {
      tls: { cert: file('server.crt'), key: file('server.key'), ca: file('ca.crt') },
    });
    listener.decide = () => FULL;
    const to = { host: '127.0.0.1', port: server.port, servername: 'localhost', ca: file('ca.crt') };

    const plain = ScriptedReplica.to(t, server.port);
    plain.socket.write('PING\r\n');
    await plain.hangsUp();
    const stranger = new ScriptedReplica(t, connectTls(to));
    stranger.say(['AUTH', PASSWORD]);
    stranger.say(['PING']);
    await until(() => stranger.ended || stranger.length > 0);
    await stranger.hears('');
    assert.deepEqual(listener.calls, []);

    const known = { ...to, cert: file('client.crt'), key: file('client.key') };
    const replica = new ScriptedReplica(t, connectTls(known));
    await replica.ask();
    await replica.hears(`${LENGTH_LINES}RDB.!stream`);
    assert.deepEqual(listener.calls, ['reached', 'attached full']);
    // half a handshake must not keep the port from closing
    const half = ScriptedReplica.to(t, server.port);
    await once(half.socket, 'connect');
    await server.close();
  });
});
