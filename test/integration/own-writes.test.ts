/**
 * The way back on real servers of each release: a new master is written by us and by an application at the same time,
 * its stream is recorded as a replica gets it, and replayed into another server without what is ours. There must be
 * exactly what the application wrote, once.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { ServerSession } from '../../src/client/session.ts';
import { compareServers } from '../../src/demo/compare.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import type { Command, RespConnection } from '../../src/resp/connection.ts';
import { encodeCommand } from '../../src/resp/encode.ts';
import { CHECKPOINT_KEY, parseCheckpoint } from '../../src/target/write/checkpoint.ts';
import { Lease } from '../../src/target/write/lease.ts';
import { OwnWrites, openedMark } from '../../src/target/write/own-writes.ts';
import { infoField, testClient } from '../helpers/client.ts';
import { type Release, serverReleases } from '../helpers/releases.ts';
import { type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { command, Replay } from '../unit/target/support.ts';

const RUN = 'run';
const DATABASES = 3;
const ROUNDS = 60;

interface Recording {
  /** The stream behind the snapshot, so far. */
  readonly stream: () => Buffer;
  /** Offset of its first byte. */
  readonly offset: number;
}

/** Follows `server` as a replica. The stream begins when something is written after this has resolved. */
async function record(t: Cleanup, server: DemoServer): Promise<Recording> {
  let bytes = Buffer.alloc(0);
  const socket = connect(server.port, '127.0.0.1');
  t.after(() => {
    socket.destroy();
  });
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
  });
  socket.write(encodeCommand(['PSYNC', '?', '-1']));
  const [announced, offset, length] = await until(() =>
    /\+FULLRESYNC \S+ (\d+)\r\n\n*\$(\d+)\r\n/.exec(bytes.toString('latin1')),
  );
  const start = bytes.indexOf(announced, 0, 'latin1') + announced.length + Number(length);
  await until(() => bytes.length >= start);
  socket.write(encodeCommand(['REPLCONF', 'ACK', '0']));
  return { stream: () => bytes.subarray(start), offset: Number(offset) };
}

/** Nothing that is done twice, or not at all, goes unseen. */
function applicationsWrites(round: number): Command[] {
  return [
    ['SELECT', round % DATABASES],
    ['INCR', 'app:n'],
    ['MULTI'],
    ['RPUSH', 'app:list', round],
    ['SELECT', (round + 1) % DATABASES],
    ['APPEND', 'app:text', `${round},`],
    ['EXEC'],
    ['MULTI'],
    ['INCR', 'app:alone'],
    ['EXEC'],
    ['SETEX', 'app:ttl', 1000, round],
  ];
}

/** What the old source's applications wrote: comes by our forward writer. */
function forwardWrites(round: number): Buffer {
  const writes = [command('SELECT', (round * 2) % DATABASES), command('INCR', 'old:n')];
  if (round % 5 === 0) writes.push(command('MULTI'), command('RPUSH', 'old:list', round), command('EXEC'));
  if (round % 20 === 0) writes.push(command('APPEND', 'old:big', 'b'.repeat(1_200_000)));
  return Buffer.concat(writes);
}

async function perDatabase(client: RespConnection, run: Command): Promise<void> {
  for (let db = 0; db < DATABASES; db++) await client.pipeline([['SELECT', db], run]);
}

async function wayBack(t: Cleanup, release: Release): Promise<void> {
  const newMaster = await testServer(t, { binary: release.path });
  const oldSource = await testServer(t);
  const application = await testClient(t, newMaster.port);
  const observer = await testClient(t, newMaster.port);
  const recording = await record(t, newMaster);
  const where = { host: '127.0.0.1', port: newMaster.port, username: null, password: null, tls: null };
  const session = await ServerSession.open(where, 'target', { connectTimeoutMs: 10_000 });
  t.after(() => session.close());
  const lease = new Lease(session, {
    runId: RUN,
    pair: 'a',
    onLost: () => assert.fail('the lease was lost'),
  });

  const forward = new Replay();
  await forward.attach(t, newMaster.port);
  // before applications are let in nothing counts, marked or not
  forward.arrive(command('SELECT', 1), command('SET', 'old:early', 1));
  await until(() => forward.complete);
  forward.writer.marksBatches = true;
  forward.arrive(forwardWrites(0));
  await until(() => forward.complete);
  await observer.pipeline([['SELECT', 0], openedMark(RUN)]);

  for (let round = 1; round <= ROUNDS; round++) {
    const answered = application.pipeline(applicationsWrites(round));
    forward.arrive(forwardWrites(round));
    if (round % 10 === 0) await lease.renew();
    await answered;
  }
  await until(() => forward.complete);
  await lease.release();
  assert.deepEqual(forward.rejections, []);
  const end = Number(await infoField(observer, 'replication', 'master_repl_offset'));
  await until(() => recording.stream().length >= end - recording.offset);
  const stream = Buffer.from(recording.stream().subarray(0, end - recording.offset));
  assert.ok(stream.includes('old:early') && stream.includes('old:list'));

  const back = new Replay({
    leaveOut: new OwnWrites({ run: RUN, waitsForMark: true }),
    receivedAt: Date.now,
  });
  await back.attach(t, oldSource.port, 0, recording.offset, 2);
  const reader = await testClient(t, oldSource.port);
  // odd pieces, and now and then a break: on from what the old source says that it has
  for (let at = 0, piece = 0; at < stream.length; at += 50_021, piece++) {
    back.arrive(stream.subarray(at, at + 50_021));
    if (piece % 7 !== 0) continue;
    back.connection?.close();
    const stored = parseCheckpoint((await reader.call('HGETALL', CHECKPOINT_KEY)) ?? []);
    const place = stored ?? { offset: recording.offset, db: 2 };
    await back.attach(t, oldSource.port, back.writer.positionAt(place.offset), place.offset, place.db);
  }
  await until(() => back.complete);
  assert.equal(back.failure, null);
  assert.deepEqual([back.rejections, back.divergences], [[], []]);
  if (back.writer.checkpointIsOld) back.writer.writeCheckpoint();
  await until(() => back.writer.idle);
  const stored = parseCheckpoint(await reader.call('HGETALL', CHECKPOINT_KEY));
  assert.deepEqual(
    { offset: stored?.offset, db: stored?.db },
    { offset: recording.offset + stream.length, db: back.writer.checkpointedDb },
  );

  await perDatabase(observer, ['DEL', 'old:early', 'old:n', 'old:list', 'old:big']);
  const found = await compareServers(newMaster.port, oldSource.port, { ttlToleranceMs: 60_000 });
  const { different, missing, extra } = found;
  assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 }, found.first ?? '');
  assert.equal(await reader.call('LLEN', 'app:list'), ROUNDS / DATABASES);
}

for (const release of serverReleases()) {
  test(`a new master of ${release.kind} ${release.version}`, (t) => wayBack(t, release));
}
