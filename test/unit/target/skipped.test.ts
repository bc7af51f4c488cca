/** What a target has no type or module for: it stops the run, or is left out and counted, whatever it is. */
import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { describe, it } from 'node:test';
import type { CutoverError } from '../../../src/core/errors.ts';
import { TYPE } from '../../../src/rdb/opcodes.ts';
import { SAMPLES } from '../../../src/rdb/samples.ts';
import { capabilitiesOf } from '../../../src/target/write/capabilities.ts';
import { TargetConnection } from '../../../src/target/write/connection.ts';
import { Losses } from '../../../src/target/write/losses.ts';
import { Skipped } from '../../../src/target/write/skipped.ts';
import { SnapshotWriter } from '../../../src/target/write/snapshot-writer.ts';
import { len, rdb, str } from '../rdb/build.ts';
import { Feeding } from '../rdb/records.ts';

const key = (type: number, name: string, ...value: Buffer[]): Buffer =>
  Buffer.concat([Buffer.of(type), str(name), ...value]);
const aux = (name: string, value: string): Buffer => Buffer.concat([Buffer.of(250), str(name), str(value)]);
/** "vectorset" version 1, as Redis 8.2.3 writes it. */
const VECTORSET = Buffer.from('81bde72da2bb1eb400', 'hex');
const vectors = (name: string, bytes = 1): Buffer =>
  key(TYPE.module2, name, VECTORSET, len(5), str(Buffer.alloc(bytes)), len(0));
const META = Buffer.concat([Buffer.of(243), len(1), Buffer.from('abcd'), len(2), len(7), len(0)]);
const CRON = key(64, 'job', str('return 1'), Buffer.alloc(16), len(0), len(0));
const MANY = [
  ...[vectors('a'), vectors('b', 3 << 20), CRON, vectors('c'), vectors('d')],
  ...[META, key(TYPE.string, 'plain', str('v')), key(TYPE.stream, 's', SAMPLES.get(TYPE.stream)!)],
];
/** 4.0, but no module: it takes no streams either. */
const OLD = capabilitiesOf({ major: 4, minor: 0 });
const TARGET = { ...OLD, forms: new Set([...OLD.forms].filter((form) => form !== TYPE.module2)) };

interface Written {
  readonly notes: readonly string[];
  /** Commands on their way to the target. */
  readonly sent: number;
}

function write(skipped: Skipped | null, losses: Losses, ...parts: Buffer[]): Written {
  const notes: string[] = [];
  const listener = { aux: () => {}, note: (message: string) => void notes.push(message) };
  const writer = new SnapshotWriter(TARGET, listener, null, null, losses, skipped);
  const connection = new TargetConnection(new Socket(), {
    reply: () => {},
    nestedError: () => {},
    progress: () => {},
    lost: () => {},
  });
  writer.attach(connection);
  const file = rdb('REDIS0013', ...parts);
  const feeding = new Feeding(file, 1 << 20, { sink: writer });
  feeding.arrive(file.length);
  assert.ok(feeding.reader.done);
  return { notes, sent: connection.unanswered };
}

const stopped = (part: Buffer, code: string, message: RegExp): void =>
  assert.throws(
    () => write(null, new Losses(false), part),
    (error: CutoverError) => {
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.match(error.hint, code === 'would-lose' ? /--allow-loss/ : /resume RUN_DIR --skip-unknown/);
      return true;
    },
  );

describe('what a target has no type or module for', () => {
  it('stops the run, and is named', () => {
    stopped(vectors('a'), 'target-lacks-type', /values of the module type vectorset, and key 86f7e437faa5 /);
    stopped(vectors('b', 3 << 20), 'target-lacks-type', /module type vectorset/);
    stopped(CRON, 'target-lacks-type', /cron jobs \(KeyDB\)/);
    stopped(Buffer.concat([META, key(0, 'a', str('v'))]), 'target-lacks-type', /metadata of keys/);
    stopped(aux('keydb-subexpire-key', 'member'), 'would-lose', /expiry of 1 member /);
  });

  it('is left out with --skip-unknown, and counted once, however often it comes', () => {
    const skipped = new Skipped();
    // SELECT and SET
    assert.equal(write(skipped, new Losses(false), ...MANY).sent, 2);
    const told = skipped.told();
    assert.equal(told.length, 4);
    assert.match(
      told[0]!,
      /: 4 values of the module type vectorset \(.*: 86f7e437faa5, e9d71f5ee7c9, 84a516841ba7\)$/,
    );
    assert.match(told[1]!, /: 1 cron jobs/);
    assert.match(told[2]!, /: 1 metadata of keys/);
    assert.match(told[3]!, /: 1 streams/);
    assert.equal(skipped.count, 7);
    assert.equal(skipped.meet('things', 5, 'a'), true);
    assert.equal(skipped.meet('things', 5, 'a'), false);
    assert.equal(skipped.count, 8);
    // the copy again
    write(skipped, new Losses(false), ...MANY);
    assert.equal(skipped.count, 7);
  });

  it('says whose file it is', () => {
    const { notes } = write(null, new Losses(false), aux('mvcc-tstamp', '1'), aux('mvcc-tstamp', '2'));
    assert.deepEqual(notes, ['this RDB was written by KeyDB']);
  });

  it('counts members that would expire', () => {
    const losses = new Losses(true);
    const expiring = [aux('keydb-subexpire-key', 'm'), aux('keydb-subexpire-when', '1')];
    write(null, losses, ...expiring, ...expiring);
    assert.match(losses.told().join(), /^lost, .* the expiry of 2 members /);
  });
});

describe('a value too big to be written in an older form', () => {
  it('ends the run before anything of it is sent, with what would help', () => {
    const writer = new SnapshotWriter(TARGET, { aux: () => {}, note: () => {} });
    const connection = new TargetConnection(new Socket(), {
      reply: () => {},
      nestedError: () => {},
      progress: () => {},
      lost: () => {},
    });
    writer.attach(connection);
    // so that streams of the first form are taken
    writer.takeForms(new Set([...TARGET.forms, TYPE.stream]));
    const none = { module: '', valueStart: 80, expireAtMs: -1, idleSeconds: -1, freq: -1 };
    const entry = {
      start: 77,
      db: 0,
      type: TYPE.stream3,
      key: Buffer.from('k'),
      keyStart: 0,
      keyEnd: 1,
      ...none,
    };
    assert.throws(() => writer.blobStart(entry, 'payload', (64 << 20) + 1), {
      code: 'value-too-big',
      message: /key 13fbd79c3d39, and at 67108865 bytes .* \(67108864 at most\)/,
      hint: /XTRIM/,
    });
    assert.equal(connection.unanswered, 0);
    writer.blobStart(entry, 'payload', 64 << 20);
    assert.equal(connection.unanswered, 0);
  });
});
