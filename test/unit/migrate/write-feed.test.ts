/**
 * The write feed between a real target and a link that is played here: which of the places that a target comes back
 * with it goes on from, and which it asks the source about.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CutoverError } from '../../../src/core/errors.ts';
import { Valve } from '../../../src/migrate/valve.ts';
import { WriteFeed } from '../../../src/migrate/write-feed.ts';
import type { Form } from '../../../src/rdb/forms.ts';
import { TYPE } from '../../../src/rdb/opcodes.ts';
import { SAMPLES } from '../../../src/rdb/samples.ts';
import { encodeCommand } from '../../../src/resp/encode.ts';
import { Spool } from '../../../src/spool/spool.ts';
import { capabilitiesOf } from '../../../src/target/write/capabilities.ts';
import { CHECKPOINT_KEY, type Checkpoint, parseCheckpoint } from '../../../src/target/write/checkpoint.ts';
import { NONE_MISSING } from '../../../src/target/write/missing-forms.ts';
import { WriteTally } from '../../../src/target/write/write-tally.ts';
import { plain, testClient } from '../../helpers/client.ts';
import { atEnd, testServer } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';
import { len, rdb as rdbFile, str } from '../rdb/build.ts';

const RUN = 'ab12';
const NEW = 'b'.repeat(40);
/** No keys; no checksum. */
const EMPTY_RDB = Buffer.concat([Buffer.from('REDIS0009\xff', 'latin1'), Buffer.alloc(8)]);

interface Scene {
  readonly feed: WriteFeed;
  readonly valve: Valve;
  readonly redials: () => number;
  /** How often the target was emptied for a copy. */
  readonly prepared: () => number;
  readonly notes: readonly string[];
  /** What the stream has done to the target: the value of a counter. */
  count(): Promise<number>;
  /** Sends one more INCR of the source. */
  incr(): void;
  /** Ends the writer's connection; the target then shows this place, as another process where that is said. */
  comeBackWith(change: Partial<Checkpoint>, sameProcess: boolean): Promise<void>;
}

interface Snapshot {
  readonly rdb: Buffer;
  /** What the target says that it takes; null: it was not asked. */
  readonly forms: ReadonlySet<Form> | null;
  /** The code with which the feed ends; null: it does not. */
  readonly fails: string | null;
  /** --skip-unknown. */
  readonly skips?: true;
}

const EMPTY: Snapshot = { rdb: EMPTY_RDB, forms: null, fails: null };

async function scene(
  t: TestContext,
  replid: string,
  { rdb, forms, fails, skips }: Snapshot = EMPTY,
): Promise<Scene> {
  const target = await testServer(t);
  const client = await testClient(t, target.port);
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-feed-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  const spool = new Spool({
    dir: join(dir, 'spool'),
    memoryBytes: 8 << 20,
    limitBytes: Number.POSITIVE_INFINITY,
  });
  const ended = new AbortController();
  let socket: Socket | null = null;
  let sameProcess = true;
  let redials = 0;
  let prepared = 0;
  const notes: string[] = [];
  let loaded = false;
  let failure: CutoverError | null = null;
  const place = async (): Promise<Checkpoint | null> =>
    parseCheckpoint(plain(await client.call('HGETALL', CHECKPOINT_KEY)));
  const valve = new Valve();
  const feed = new WriteFeed(
    spool,
    {
      enter: async () => {
        socket = connect(target.port, '127.0.0.1');
        return { socket, checkpoint: await place(), sameProcess };
      },
    },
    {
      run: RUN,
      capabilities: capabilitiesOf({ major: 7, minor: 0 }),
      relativeTtls: false,
      missing: NONE_MISSING,
      forwardPublish: false,
      allowLoss: false,
      skip: skips === true ? { modules: true, commands: new Set() } : null,
      ttls: null,
      partialResync: true,
      begin: { kind: 'copy' },
      leaveOut: null,
      written: null,
      markBatches: false,
      tally: new WriteTally(),
      valve,
      silenceMs: 60_000,
    },
    {
      copyBegins: async () => undefined,
      prepareTarget: async () => {
        prepared++;
        const fields = { replid: '0'.repeat(40), offset: 0, db: 0, run: RUN, phase: 'snapshot' };
        await client.call('HMSET', CHECKPOINT_KEY, ...Object.entries(fields).flat());
        return forms;
      },
      snapshotLoaded: (lost) => {
        notes.push(...lost);
        loaded = true;
      },
      keepCopy: null,
      waiting: () => undefined,
      note: (message) => void notes.push(message),
      divergence: () => undefined,
      failed: (error) => {
        failure = error;
      },
      redial: () => {
        redials++;
      },
      acknowledge: () => undefined,
    },
    ended.signal,
  );
  atEnd(t, () => {
    ended.abort();
    feed.close();
    spool.close();
    assert.equal(failure?.code ?? null, fails, String(failure));
  });
  await feed.fullResync({ replid, offset: 1_000 }, { kind: 'length', bytes: rdb.length });
  feed.append(rdb);
  await until(() => loaded || failure !== null);
  const count = async (): Promise<number> => Number(plain(await client.call('GET', 'counter')));
  return {
    feed,
    valve,
    redials: () => redials,
    prepared: () => prepared,
    notes,
    count,
    incr: () => feed.append(Buffer.from(encodeCommand(['INCR', 'counter']))),
    comeBackWith: async (change, same) => {
      sameProcess = same;
      // as an older dataset would have it: the place and the data of before
      await client.call(
        'HMSET',
        CHECKPOINT_KEY,
        ...Object.entries({ run: RUN, ...change })
          .flat()
          .map(String),
      );
      socket?.destroy();
      await until(() => !feed.connected);
    },
  };
}

async function counted(all: Scene, to: number): Promise<void> {
  for (let n = await all.count(); n < to; n++) all.incr();
  await until(async () => (await all.count()) === to, { what: `a counter of ${to}` });
  await until(() => all.feed.pendingBytes === 0);
}

test('a place in the history that is followed: the stream goes on behind it', async (t) => {
  const all = await scene(t, NEW);
  await counted(all, 5);
  await all.comeBackWith({}, false);
  await until(() => all.feed.connected);
  await counted(all, 8);
  assert.equal(all.redials(), 0);
});

test('a place under another name, though its number fits: the source is asked', async (t) => {
  const all = await scene(t, NEW);
  await counted(all, 5);
  const older = { replid: 'a'.repeat(40), offset: all.feed.appliedOffset() };
  await all.comeBackWith(older, false);
  await until(() => all.redials() > 0);
  const asked = await all.feed.resumePosition();
  assert.deepEqual([asked?.replid, asked?.offset], [older.replid, older.offset]);
  assert.equal(all.feed.connected, false);
});

test('the history goes on under a new name: the place under its old one is still good', async (t) => {
  const all = await scene(t, NEW);
  await counted(all, 5);
  all.feed.continued('c'.repeat(40));
  await all.comeBackWith({}, false);
  await until(() => all.feed.connected);
  await counted(all, 6);
  assert.equal(all.redials(), 0);
});

test('a history without a name: good only on the process that the copy began with', async (t) => {
  const all = await scene(t, '0'.repeat(40));
  await counted(all, 5);
  await all.comeBackWith({}, true);
  await until(() => all.feed.connected);
  await counted(all, 6);
  await all.comeBackWith({}, false);
  await until(() => all.redials() > 0);
  assert.equal(all.feed.connected, false);
});

test('paused: nothing new is sent, not by a new connection either; what was sent is answered, and quiet work goes on', async (t) => {
  const all = await scene(t, NEW);
  await counted(all, 5);
  all.valve.pause(true);
  for (let times = 0; times < 3; times++) all.incr();
  // the look at expiries waits for this, and must not wait for the end of the pause
  await all.feed.whenSentIsApplied();
  let worked = false;
  await all.feed.whileQuiet(async () => {
    worked = true;
  });
  assert.ok(worked);
  await all.comeBackWith({}, true);
  await until(() => all.feed.connected);
  assert.equal(await all.count(), 5);
  assert.ok(all.feed.pendingBytes > 0);
  all.valve.pause(false);
  await until(async () => (await all.count()) === 8);
  await until(() => all.feed.pendingBytes === 0);
});

test('paused in the middle of a large value: a target that waits for its rest is not silent', async (t) => {
  const all = await scene(t, NEW);
  await counted(all, 5);
  const large = rdbFile(
    'REDIS0009',
    Buffer.of(TYPE.string),
    str('large'),
    len(200_000),
    Buffer.alloc(200_000, 'x'),
  );
  await all.feed.fullResync({ replid: NEW, offset: 2_000 }, { kind: 'length', bytes: large.length });
  all.feed.append(large.subarray(0, 150_000));
  await until(() => all.feed.connected && all.feed.snapshotBytes > 100_000);
  all.valve.pause(true);
  all.feed.append(large.subarray(150_000));
  const { snapshotBytes } = all.feed;
  all.feed.tick(Date.now() + 100_000);
  assert.ok(all.feed.connected);
  assert.equal(all.feed.snapshotBytes, snapshotBytes);
  all.valve.pause(false);
  await until(() => all.feed.streaming);
});

test('paused in a transaction of the source: it comes to its end, and nothing behind it', async (t) => {
  const all = await scene(t, NEW);
  await counted(all, 5);
  all.feed.append(Buffer.from(encodeCommand(['MULTI'])));
  all.incr();
  all.valve.pause(true);
  all.incr();
  all.feed.append(Buffer.from(encodeCommand(['EXEC'])));
  all.incr();
  await until(async () => (await all.count()) === 7);
  await all.feed.whenSentIsApplied();
  assert.equal(await all.count(), 7);
  all.valve.pause(false);
  await until(async () => (await all.count()) === 8);
});

test('values go in the forms that the target says it takes, whatever its release promises', async (t) => {
  const stream = Buffer.concat([Buffer.of(TYPE.stream), str('s'), SAMPLES.get(TYPE.stream)!]);
  const snapshot = {
    rdb: rdbFile('REDIS0011', stream),
    forms: new Set([TYPE.hash]),
    fails: 'target-lacks-type',
  };
  await scene(t, 'a'.repeat(40), snapshot);
});

const LATER_RDB = rdbFile('REDIS0015', Buffer.concat([Buffer.of(TYPE.string), str('key'), str('value')]));

test('a snapshot of a version that is not known is refused before the target is touched', async (t) => {
  const all = await scene(t, NEW, { rdb: LATER_RDB, forms: null, fails: 'rdb-version' });
  assert.equal(all.prepared(), 0);
});

test('and tried with --skip-unknown', async (t) => {
  const all = await scene(t, NEW, { rdb: LATER_RDB, forms: null, fails: null, skips: true });
  assert.equal(all.prepared(), 1);
  assert.deepEqual(all.notes, [
    'the snapshot is of RDB version 15, which is not known: tried (--skip-unknown)',
  ]);
});

/** As it stands in an RDB: a type that no server here knows, a counter, the end. */
const MODULE_VALUE = Buffer.concat([len(2n ** 63n + 5n, 64), len(2), len(7), len(0)]);

function moduleEntry(key: string): Buffer {
  return Buffer.concat([Buffer.of(TYPE.module2), str(key), MODULE_VALUE]);
}

const WITH_MODULE = rdbFile('REDIS0011', ...['a', 'b', 'c', 'd', 'e'].map(moduleEntry));

test('a value that the target refuses, of a module that it may lack: skipped with all of its type', async (t) => {
  const all = await scene(t, NEW, { rdb: WITH_MODULE, forms: null, fails: null, skips: true });
  assert.match(
    all.notes.join(),
    /: 5 values of the module type gAAAAAAAA \(the first keys .*: 86f7e437faa5, /,
  );
  await counted(all, 3);
});

test('and without --skip-unknown it ends the feed, its type named', async (t) => {
  await scene(t, NEW, { rdb: WITH_MODULE, forms: null, fails: 'target-lacks-type' });
});
