/** What of a stream is ours and what is not: the marks that are written, and the reader that leaves them out. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CHECKPOINT_KEY } from '../../../src/target/write/checkpoint.ts';
import { LEASE_KEY } from '../../../src/target/write/lease.ts';
import { batchMark, OwnWrites, openedMark } from '../../../src/target/write/own-writes.ts';
import { everySplit } from '../../helpers/every-split.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';
import { command, effective, type FakeTarget, fakeTarget, REPLID, Replay } from './support.ts';

const MB = 1 << 20;
const RUN = 'run';
/** A history that is not the one replayed: checkpoints that name it must not come through. */
const OTHER_REPLID = 'cd';

const select = (db: number): Buffer => command('SELECT', db);
const set = (key: string): Buffer => command('SET', key, 1);
const MULTI = command('MULTI');
const EXEC = command('EXEC');
const BATCH_MARK = command(...batchMark(RUN));
const OPENED = command(...openedMark(RUN));
// shorter than a real one, since it is split at every byte
const CHECKPOINT = command('HMSET', CHECKPOINT_KEY, 'replid', OTHER_REPLID, 'db', 3);

/** A replay that leaves out our own writes, connected to a scripted target. */
async function replayOf(
  t: Cleanup,
  waitsForMark = false,
  target?: FakeTarget,
): Promise<{ replay: Replay; target: FakeTarget; own: OwnWrites }> {
  const own = new OwnWrites({ run: RUN, waitsForMark });
  const to = target ?? (await fakeTarget(t));
  const replay = new Replay({ leaveOut: own });
  await replay.attach(t, to.port);
  return { replay, target: to, own };
}

/** What came of the marks and checkpoints of others; must be nothing. */
const leaked = (received: readonly (readonly string[])[]): unknown =>
  received.filter((words) => words[1] === CHECKPOINT_KEY && words[3] !== REPLID);

/** until() asks every 10 ms: too slow for a thousand splits, which mostly take a few turns of the event loop each. */
async function complete(replay: Replay): Promise<void> {
  for (let turn = 0; turn < 1000 && !replay.complete; turn++) await nextTurn();
  await until(() => replay.complete);
}

async function outcome(t: Cleanup, ...stream: readonly Buffer[]): Promise<string[]> {
  const { replay, target } = await replayOf(t);
  replay.arrive(Buffer.concat(stream));
  await until(() => replay.complete);
  assert.deepEqual(leaked(target.received), []);
  return effective(target.received);
}

describe('marks of batches', () => {
  it('are the first command, in database 0, and can be switched while running', async (t) => {
    const target = await fakeTarget(t);
    const replay = new Replay();
    await replay.attach(t, target.port);
    const marked = async (...stream: readonly Buffer[]): Promise<string[]> => {
      const from = target.received.length;
      replay.arrive(Buffer.concat(stream));
      await until(() => replay.complete);
      return target.received.slice(from).map((words) => words.slice(0, 4).join(' '));
    };
    const end = `HMSET ${CHECKPOINT_KEY} replid ${REPLID}`;
    assert.deepEqual(await marked(set('a')), ['MULTI', 'SELECT 0', 'SET a 1', end, 'EXEC']);
    replay.writer.marksBatches = true;
    const mark = ['MULTI', 'SELECT 0', `HSET ${CHECKPOINT_KEY} run run`];
    assert.deepEqual(await marked(set('b')), [...mark, 'SET b 1', end, 'EXEC']);
    assert.deepEqual(await marked(select(3), set('c')), [
      ...mark,
      'SELECT 3',
      'SET c 1',
      'SELECT 0',
      end,
      'EXEC',
    ]);
    replay.writer.marksBatches = false;
    assert.deepEqual(await marked(set('d')), ['MULTI', 'SELECT 3', 'SET d 1', 'SELECT 0', end, 'EXEC']);
  });

  it('stand in checkpoints without data, too', async (t) => {
    const target = await fakeTarget(t);
    const replay = new Replay({ markBatches: true });
    await replay.attach(t, target.port);
    replay.arrive(command('PING'));
    replay.writer.writeCheckpoint();
    await until(() => replay.writer.idle);
    assert.deepEqual(
      target.received.map(([name]) => name),
      ['MULTI', 'SELECT', 'HSET', 'HMSET', 'EXEC'],
    );
  });
});

describe('leaving out', () => {
  // captured: up to 7.0 SELECT stands before MULTI, from 7.2 on within
  const SHAPES = {
    'SELECT before MULTI': (db: number) => [select(db), MULTI],
    'SELECT within MULTI': (db: number) => [MULTI, select(db)],
  };
  for (const [shape, begin] of Object.entries(SHAPES)) {
    it(`every split of a stream with both, ${shape}`, async (t) => {
      const target = await fakeTarget(t);
      const ours = [BATCH_MARK, select(3), set('ours'), select(0), CHECKPOINT, EXEC];
      const stream = Buffer.concat([
        ...begin(0),
        ...ours,
        ...begin(2),
        command('INCR', 'n'),
        select(5),
        command('EXPIRE', 'n', 5),
        EXEC,
        ...begin(0),
        ...ours,
        set('between'),
        command('PING'),
        ...begin(0),
        command('HMSET', LEASE_KEY, 'run', 'r'),
        command('PEXPIREAT', LEASE_KEY, 99),
        EXEC,
        select(4),
        set('last'),
        ...begin(0),
        ...ours,
      ]);
      await everySplit(stream, async (chunks) => {
        const from = target.received.length;
        const { replay } = await replayOf(t, false, target);
        replay.arrive(...chunks);
        await complete(replay);
        const received = target.received.slice(from);
        replay.connection?.close();
        assert.deepEqual(leaked(received), []);
        assert.deepEqual(effective(received), [
          '2 INCR n',
          '5 PEXPIREAT n 1005000',
          '0 SET between 1',
          '4 SET last 1',
        ]);
        assert.equal(replay.appliedOffsets.at(-1), 1000 + stream.length);
      });
    });
  }

  it('single commands on our keys, EVAL up to 4.0 among them', async (t) => {
    const lease = ['return 1', 1, LEASE_KEY, 'redis-cutover'] as const;
    assert.deepEqual(
      await outcome(
        t,
        command('HMSET', LEASE_KEY, 'run', 'r'),
        command('eval', ...lease),
        command('DEL', LEASE_KEY),
        command('EXPIRE', LEASE_KEY, 5),
        command('SETEX', LEASE_KEY, 5, 'v'),
        command('del', CHECKPOINT_KEY, LEASE_KEY),
        command('EVAL', 'return 1', 0),
        command('EVAL', 'return 1', 1, 'key'),
        command('FLUSHALL'),
        command('DEL', LEASE_KEY),
        command('DEL', 'a', CHECKPOINT_KEY),
        command('SET', `${LEASE_KEY}s`, 1),
      ),
      [
        '0 EVAL return 1 0',
        '0 EVAL return 1 1 key',
        '0 FLUSHALL',
        `0 DEL a ${CHECKPOINT_KEY}`,
        `0 SET ${LEASE_KEY}s 1`,
      ],
    );
  });

  it('of a transaction that is not ours only the commands on our keys', async (t) => {
    assert.deepEqual(
      await outcome(
        t,
        MULTI,
        set('a'),
        CHECKPOINT,
        set('b'),
        EXEC,
        MULTI,
        command('DEL', CHECKPOINT_KEY),
        set('c'),
        EXEC,
      ),
      ['0 SET a 1', '0 SET b 1', '0 SET c 1'],
    );
  });

  it('commands that are replaced or dropped elsewhere are left out as well', async (t) => {
    const inside = [command('SWAPDB', 0, 1), command('PUBLISH', 'c', 'm'), command('SETEX', 'k', 1, 'v')];
    assert.deepEqual(await outcome(t, MULTI, BATCH_MARK, ...inside, EXEC, set('a')), ['0 SET a 1']);
  });

  it('what is left out moves the position and, when asked, the checkpoint', async (t) => {
    const { replay, target } = await replayOf(t);
    const { writer } = replay;
    replay.arrive(select(6), MULTI, BATCH_MARK);
    assert.equal(writer.midway, true);
    assert.equal(replay.applied.at(-1), select(6).length);
    replay.arrive(select(7), set('a'), EXEC);
    assert.ok(replay.complete);
    assert.equal(target.received.length, 0);
    assert.deepEqual([writer.checkpointed, writer.checkpointedDb], [0, 0]);
    writer.writeCheckpoint();
    await until(() => writer.idle);
    assert.deepEqual([writer.checkpointed, writer.checkpointedDb], [replay.received, 7]);
    const words = target.received.at(-2) ?? [];
    assert.deepEqual(words.slice(4, 8), ['offset', String(1000 + replay.received), 'db', '7']);
  });

  it('a retry from within a batch of ours begins it anew', async (t) => {
    const { replay, target } = await replayOf(t);
    replay.arrive(set('a'));
    await until(() => replay.complete);
    replay.arrive(MULTI, BATCH_MARK, set('ours'));
    await replay.attach(t, target.port, set('a').length, 1000 + set('a').length);
    replay.arrive(EXEC, MULTI, set('b'), EXEC, MULTI, BATCH_MARK, set('ours'), EXEC);
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['0 SET a 1', '0 SET b 1']);
    // and where the new place is behind that batch, nothing of it is remembered
    replay.arrive(MULTI, BATCH_MARK);
    await replay.attach(t, target.port, replay.received, 1000 + replay.received);
    replay.arrive(set('c'));
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received).slice(2), ['0 SET c 1']);
  });
});

describe('commands too big to be held', () => {
  const value = 'v'.repeat(1.5 * MB);
  const inPieces = (replay: Replay, bytes: Buffer): void => {
    for (let at = 0; at < bytes.length; at += 300_000) replay.arrive(bytes.subarray(at, at + 300_000));
  };

  it('are left out of a batch of ours, and pass anywhere else', async (t) => {
    const { replay, target } = await replayOf(t);
    inPieces(
      replay,
      Buffer.concat([
        MULTI,
        BATCH_MARK,
        command('APPEND', 'ours', value),
        command('SETEX', 'ours', 10, value),
        CHECKPOINT,
        EXEC,
        MULTI,
        command('APPEND', 'first', value),
        CHECKPOINT,
        set('second'),
        EXEC,
        command('SETEX', 'alone', 10, value),
      ]),
    );
    await until(() => replay.complete);
    assert.deepEqual(leaked(target.received), []);
    assert.deepEqual(
      effective(target.received).map((line) => line.replace(value, 'V')),
      ['0 APPEND first V', '0 SET second 1', '0 SETEX alone 10 V', '0 PEXPIREAT alone 1010000'],
    );
  });

  it('are left out before the mark', async (t) => {
    const { replay, target } = await replayOf(t, true);
    inPieces(
      replay,
      Buffer.concat([command('APPEND', 'early', value), OPENED, command('APPEND', 'k', value)]),
    );
    await until(() => replay.complete);
    assert.deepEqual(
      effective(target.received).map((line) => line.replace(value, 'V')),
      ['0 APPEND k V'],
    );
  });
});

describe('the mark that applications are let in', () => {
  it('nothing before it counts, and database 0 is selected there', async (t) => {
    const { replay, target, own } = await replayOf(t, true);
    const { writer } = replay;
    const early = [
      set('early'),
      command('HSET', CHECKPOINT_KEY, 'opened', 'another'),
      command('HSET', LEASE_KEY, 'opened', RUN),
      BATCH_MARK,
      MULTI,
      set('early'),
      EXEC,
      command('REPLCONF', 'GETACK', '*'),
    ];
    await replay.attach(t, target.port, 0, 1000, 9);
    replay.arrive(...early);
    assert.ok(replay.complete);
    assert.equal(replay.acksWanted, 1);
    assert.equal(own.opened, false);
    assert.deepEqual(target.received, []);
    replay.arrive(OPENED);
    assert.equal(own.opened, true);
    assert.ok(replay.complete);
    replay.arrive(Buffer.concat([set('a'), select(2), set('b'), MULTI, BATCH_MARK, set('ours'), EXEC]));
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['0 SET a 1', '2 SET b 1']);
    assert.equal(replay.writer.checkpointedDb, 2);
    assert.equal(writer.checkpointed, replay.received);
  });

  it('every split around it', async (t) => {
    const target = await fakeTarget(t);
    const stream = Buffer.concat([select(4), set('early'), OPENED, set('a')]);
    await everySplit(stream, async (chunks) => {
      const from = target.received.length;
      const { replay } = await replayOf(t, true, target);
      replay.arrive(...chunks);
      await complete(replay);
      replay.connection?.close();
      assert.deepEqual(effective(target.received.slice(from)), ['0 SET a 1']);
    });
  });

  it('a retry from before it waits again, one from behind it does not', async (t) => {
    const { replay, target, own } = await replayOf(t, true);
    replay.arrive(set('early'), OPENED);
    await replay.attach(t, target.port, 0, 1000, 9);
    assert.equal(own.opened, true, 'the pump has read it again');
    assert.deepEqual(target.received, []);
    await replay.attach(t, target.port, replay.received, 1000 + replay.received, 3);
    assert.equal(replay.writer.checkpointedDb, 3);
    replay.arrive(set('a'));
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['3 SET a 1']);
    // the mark itself is read again
    const mark = set('early').length;
    await replay.attach(t, target.port, mark, 1000 + mark, 9);
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['3 SET a 1', '0 SET a 1']);
  });
});
