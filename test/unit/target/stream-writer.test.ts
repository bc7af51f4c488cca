/** Replay of a stream: against a target that follows a script, and against a real server. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InvariantError, SourceError } from '../../../src/core/errors.ts';
import { encodeCommand } from '../../../src/resp/encode.ts';
import { CHECKPOINT_KEY, parseCheckpoint } from '../../../src/target/write/checkpoint.ts';
import { HeldTtls, SHIFT_MS } from '../../../src/target/write/held-ttls.ts';
import { LEASE_KEY } from '../../../src/target/write/lease.ts';
import { plain, testClient } from '../../helpers/client.ts';
import { everySplit } from '../../helpers/every-split.ts';
import { type Cleanup, testServer } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';
import { command, effective, type FakeTarget, fakeTarget, REPLID, Replay, type Script } from './support.ts';

const PING = command('PING');
const MB = 1 << 20;

/** A replay that is connected to a scripted target. */
async function replayTo(
  t: Cleanup,
  script?: Script,
  settings?: ConstructorParameters<typeof Replay>[0],
): Promise<{ replay: Replay; target: FakeTarget }> {
  const target = await fakeTarget(t, script);
  const replay = new Replay(settings);
  await replay.attach(t, target.port);
  return { replay, target };
}

/** Offsets in the checkpoints that the target received, in order. */
function checkpoints(target: FakeTarget): number[] {
  return target.received.filter(([name]) => name === 'HMSET').map((words) => Number(words[5]));
}

const names = (target: FakeTarget): string[] => target.received.map(([name]) => name!);

describe('batches', () => {
  it('data and position in one transaction', async (t) => {
    const { replay, target } = await replayTo(t);
    const stream = Buffer.concat([command('SELECT', 3), command('set', 'a', 1), command('DEL', 'b')]);
    replay.arrive(stream);
    await until(() => replay.complete);
    assert.deepEqual(target.received, [
      ['MULTI'],
      ['SELECT', '3'],
      ['set', 'a', '1'],
      ['DEL', 'b'],
      ['SELECT', '0'],
      [
        'HMSET',
        CHECKPOINT_KEY,
        'replid',
        REPLID,
        'offset',
        String(1000 + stream.length),
        'db',
        '3',
        'run',
        'run',
        'phase',
        'stream',
      ],
      ['EXEC'],
    ]);
    assert.deepEqual(replay.applied, [stream.length]);
    assert.equal(replay.writer.commands, 2);
    replay.arrive(command('SET', 'c', 1), command('SELECT', 0), command('SET', 'd', 1));
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['3 set a 1', '3 DEL b', '3 SET c 1', '0 SET d 1']);
    assert.equal(checkpoints(target).at(-1), 1000 + replay.received);
    assert.equal(target.received.at(-2)?.[7], '0');
  });

  it('a second EXEC is not sent before the first is answered', async (t) => {
    const { replay, target } = await replayTo(t);
    target.holdExec = true;
    replay.arrive(command('SET', 'a', 1));
    await until(() => names(target).includes('EXEC'));
    // as many as several batches hold
    replay.arrive(Buffer.concat(Array.from({ length: 10_000 }, (_, i) => command('SET', 'b', i))));
    await until(() => target.received.filter(([name]) => name === 'HMSET').length === 2);
    assert.equal(names(target).filter((name) => name === 'EXEC').length, 1);
    assert.equal(
      names(target).filter((name) => name === 'MULTI').length,
      2,
      'nothing is queued behind a batch that is held',
    );
    assert.deepEqual(replay.applied, []);
    target.releaseExec();
    await until(() => names(target).filter((name) => name === 'EXEC').length === 2);
    assert.equal(replay.applied.length, 1);
    target.holdExec = false;
    target.releaseExec();
    await until(() => replay.complete);
    assert.equal(effective(target.received).length, 10_001);
    const execs = names(target).filter((name) => name === 'EXEC' || name === 'MULTI');
    assert.deepEqual(
      execs,
      Array.from({ length: execs.length }, (_, i) => (i % 2 === 0 ? 'MULTI' : 'EXEC')),
    );
    assert.deepEqual(replay.appliedOffsets, checkpoints(target));
  });

  it('a transaction of the source is never split, however long', async (t) => {
    const { replay, target } = await replayTo(t);
    const inside = Array.from({ length: 6000 }, (_, i) => command('RPUSH', 'list', `${i}`.padEnd(60, 'x')));
    const before = command('SET', 'before', 1);
    const stream = Buffer.concat([
      before,
      command('MULTI'),
      ...inside,
      command('SELECT', 2),
      command('SET', 'k', 1),
      command('EXEC'),
      command('SET', 'after', 1),
    ]);
    replay.arrive(stream.subarray(0, 200_000));
    replay.arrive(stream.subarray(200_000));
    await until(() => replay.complete);
    const all = target.received;
    const first = all.findIndex(([name]) => name === 'RPUSH');
    const last = all.findIndex((words) => words[1] === 'k');
    assert.deepEqual(
      all.slice(first, last).filter(([name]) => name !== 'RPUSH'),
      [['SELECT', '2']],
    );
    const end = all.slice(last).findIndex(([name]) => name === 'EXEC');
    assert.ok(end > 0);
    for (const offset of checkpoints(target)) {
      const position = offset - 1000;
      const inTransaction =
        position > before.length && position < stream.length - command('SET', 'after', 1).length;
      assert.equal(inTransaction, false, `a checkpoint at ${position}, inside the transaction`);
    }
    assert.equal(effective(all).length, 6003);
    assert.equal(effective(all).at(-1), '2 SET after 1');
  });

  it('a half transaction stays half: nothing is executed, nothing counts as applied', async (t) => {
    const { replay, target } = await replayTo(t);
    replay.arrive(command('MULTI'), command('SET', 'a', 1));
    await until(() => target.received.length >= 3);
    assert.equal(replay.writer.midway, true);
    assert.equal(replay.writer.idle, false);
    assert.deepEqual(names(target), ['MULTI', 'SELECT', 'SET']);
    assert.deepEqual(replay.applied, []);
    replay.arrive(command('EXEC'));
    await until(() => replay.complete);
  });

  it('an EXEC without MULTI and a MULTI within one do no harm', async (t) => {
    const { replay, target } = await replayTo(t);
    replay.arrive(
      command('EXEC'),
      command('SET', 'a', 1),
      command('MULTI'),
      command('MULTI'),
      command('SET', 'b', 1),
      command('EXEC'),
    );
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['0 SET a 1', '0 SET b 1']);
  });
});

describe('commands that write nothing', () => {
  it('PING moves the position alone, until a checkpoint is asked for', async (t) => {
    const { replay, target } = await replayTo(t);
    replay.arrive(PING, command('ping'), command('SELECT', 4));
    assert.deepEqual(target.received, []);
    assert.ok(replay.complete);
    assert.ok(replay.writer.checkpointIsOld);
    assert.deepEqual(replay.appliedOffsets, [1014, 1028, 1000 + replay.received]);
    replay.writer.writeCheckpoint();
    await until(() => replay.writer.idle);
    assert.deepEqual(checkpoints(target), [1000 + replay.received]);
    assert.equal(target.received.at(-2)?.[7], '4');
    assert.equal(replay.writer.checkpointIsOld, false);
    replay.arrive(command('MULTI'));
    assert.throws(() => replay.writer.writeCheckpoint(), InvariantError);
  });

  it('REPLCONF asks for an answer, PUBLISH goes on only where wanted', async (t) => {
    const stream = [
      command('REPLCONF', 'GETACK', '*'),
      command('PUBLISH', 'c', 'm'),
      command('spublish', 'c', 'm'),
    ];
    const { replay, target } = await replayTo(t);
    replay.arrive(...stream);
    assert.equal(replay.acksWanted, 1);
    assert.ok(replay.complete);
    assert.deepEqual(target.received, []);
    const forwarding = await replayTo(t, undefined, { forwardPublish: true });
    forwarding.replay.arrive(...stream);
    await until(() => forwarding.replay.complete);
    assert.deepEqual(effective(forwarding.target.received), ['0 PUBLISH c m', '0 spublish c m']);
  });
});

describe('rewrites', () => {
  it('relative TTLs become absolute by the time of reception', async (t) => {
    const { replay, target } = await replayTo(t, undefined, { receivedAt: (position) => 5000 + position });
    const stream = [
      command('SETEX', 'a', 10, 'v'),
      command('set', 'px', 'EX', 'PX', 7),
      command('SET', 'b', 'v', 'KEEPTTL'),
      command('EXPIRE', 'c', 2),
      command('FUNCTION', 'LOAD', 'code'),
      command('SELECT', 6),
      command('SWAPDB', 0, 6),
      command('GETEX', '\xff\0', 'PX', 5),
    ];
    const at = (index: number): number =>
      5000 + stream.slice(0, index).reduce((sum, one) => sum + one.length, 0);
    replay.arrive(...stream);
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), [
      '0 SETEX a 10 v',
      `0 PEXPIREAT a ${at(0) + 10_000}`,
      '0 set px EX PX 7',
      `0 PEXPIREAT px ${at(1) + 7}`,
      '0 SET b v KEEPTTL',
      `0 PEXPIREAT c ${at(3) + 2000}`,
      '0 FUNCTION LOAD REPLACE code',
      `6 SWAPDB 0 6`,
      '6 GETEX \xff\0 PX 5',
      `6 PEXPIREAT \xff\0 ${at(7) + 5}`,
    ]);
    const guard = target.received.findIndex(([name]) => name === 'DEL');
    assert.deepEqual(target.received.slice(guard - 1, guard + 3), [
      ['SELECT', '0'],
      ['DEL', CHECKPOINT_KEY, LEASE_KEY],
      ['SELECT', '6'],
      ['SWAPDB', '0', '6'],
    ]);
  });

  it('SET of sources from 7.0 on is left alone', async (t) => {
    const { replay, target } = await replayTo(t, undefined, { relativeTtls: false });
    replay.arrive(command('SET', 'a', 'v', 'EX', 10));
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['0 SET a v EX 10']);
  });

  it('lines become arrays', async (t) => {
    const { replay, target } = await replayTo(t);
    replay.arrive(Buffer.from('select 5\r\nset a  b\r\nexpire a 1\r\n'));
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), ['5 set a b', '5 PEXPIREAT a 1001000']);
  });
});

describe('expiries held back', () => {
  const NOW = 1_700_000_000_000;
  const SOON = NOW + 1_000;
  const FAR = NOW + 1_000_000;
  const value = 'v'.repeat(MB + 1000);

  interface Held {
    readonly source: 'relative' | 'absolute';
    /** True where those that are due within 30 s are held, the others not. */
    readonly near?: boolean;
  }

  function replayWith({ source, near = false }: Held): { replay: Replay; ttls: HeldTtls } {
    const ttls = new HeldTtls('/nowhere', () => NOW);
    if (near) ttls.holdNear(30_000);
    return {
      ttls,
      replay: new Replay({ relativeTtls: source === 'relative', receivedAt: () => NOW, ttls }),
    };
  }

  /** What the target is sent of a stream that arrives in these chunks, and which keys are noted. */
  async function sent(
    t: Cleanup,
    target: FakeTarget,
    held: Held,
    chunks: readonly Buffer[],
  ): Promise<{ seen: string[]; noted: string[] }> {
    const from = target.received.length;
    const { replay, ttls } = replayWith(held);
    await replay.attach(t, target.port);
    replay.arrive(...chunks);
    // in hundreds of ways: asked each turn, until() would sleep
    const deadline = Date.now() + 60_000;
    while (!replay.complete && replay.failure === null && Date.now() < deadline)
      await new Promise((resolve) => setImmediate(resolve));
    assert.equal(replay.failure, null);
    assert.ok(replay.complete, 'the target has not answered all of it');
    replay.connection?.close();
    const noted = [...ttls.take(100)].flatMap(({ kind, db, keys }) =>
      keys.map((key) => `${kind} ${db} ${key}`),
    );
    return { seen: effective(target.received.slice(from)), noted: [...new Set(noted)] };
  }

  /** Of a source before 7.0: relative TTLs, absolute ones, and what carries them about. */
  const OLD = [
    command('SELECT', 2),
    command('SET', 'a', 'EX', 'EX', 1000),
    command('SETEX', 'b', 1, 'v'),
    command('RESTORE', 'c', SOON, 'payload', 'ABSTTL'),
    command('RESTORE', 'd', 1000, 'payload'),
    command('SET', 'e', 'v', 'PXAT', FAR),
    command('EXPIRE', 'f', 1, 'NX'),
    command('RENAME', 'a', 'g'),
    command('MOVE', 'g', 4),
  ];
  const held = (atMs: number): number => atMs + SHIFT_MS;
  const OLD_SEEN = (soon: number, far: number): string[] => [
    '2 SET a EX EX 1000',
    `2 PEXPIREAT a ${far}`,
    '2 SETEX b 1 v',
    `2 PEXPIREAT b ${soon}`,
    `2 RESTORE c ${soon} payload ABSTTL`,
    '2 RESTORE d 1000 payload',
    `2 PEXPIREAT d ${soon}`,
    `2 SET e v PXAT ${far}`,
    `2 PEXPIREAT f ${soon}`,
    '2 RENAME a g',
    '2 MOVE g 4',
  ];
  /** Of one from 7.0 on. */
  const NEW = [
    command('SELECT', 2),
    command('SET', 'a', 'v', 'PXAT', SOON),
    command('SET', 'a', 'v', 'KEEPTTL'),
    command('set', 'PXAT', 'v', 'xx', 'pxat', FAR, 'get'),
    command('SET', 'a', 'v', 'EXAT', SOON / 1000),
    command('RESTORE', 'b', SOON, 'payload', 'REPLACE', 'ABSTTL'),
    command('RESTORE', 'b', 0, 'payload', 'ABSTTL'),
    command('PEXPIREAT', 'c', FAR, 'GT'),
    command('HPEXPIREAT', 'h', SOON, 'LT', 'FIELDS', 1, 'f'),
    command('HSETEX', 'h', 'PXAT', FAR, 'FIELDS', 1, 'f', 'v'),
    command('COPY', 'a', 'd', 'DB', 3),
    command('SWAPDB', 2, 3),
    command('PERSIST', 'c'),
  ];
  const NEW_SEEN = (soon: number, far: number): string[] => [
    `2 SET a v PXAT ${soon}`,
    '2 SET a v KEEPTTL',
    `2 set PXAT v xx pxat ${far} get`,
    `2 SET a v EXAT ${soon / 1000}`,
    `2 RESTORE b ${soon} payload REPLACE ABSTTL`,
    '2 RESTORE b 0 payload ABSTTL',
    `2 PEXPIREAT c ${far}`,
    `2 HPEXPIREAT h ${soon} FIELDS 1 f`,
    `2 HSETEX h PXAT ${far} FIELDS 1 f v`,
    '2 COPY a d DB 3',
    '2 SWAPDB 2 3',
    '2 PERSIST c',
  ];

  for (const [source, stream, seen, noted] of [
    [
      'relative',
      OLD,
      OLD_SEEN,
      ['keys 2 b', 'keys 2 c', 'keys 2 d', 'keys 2 f', 'keys 2 g', 'keys 4 g', 'hashes 2 g', 'hashes 4 g'],
    ],
    ['absolute', NEW, NEW_SEEN, ['keys 2 a', 'keys 2 b', 'keys 3 d', 'hashes 2 h', 'hashes 3 d']],
  ] as const) {
    it(`a source of ${source} TTLs, at every split`, async (t) => {
      const target = await fakeTarget(t);
      const bytes = Buffer.concat([...stream]);
      await everySplit(bytes, async (chunks) => {
        assert.deepEqual(await sent(t, target, { source }, chunks), {
          seen: seen(held(SOON), held(FAR)),
          noted: [],
        });
      });
      assert.deepEqual(await sent(t, target, { source, near: true }, [bytes]), {
        seen: seen(held(SOON), FAR),
        noted,
      });
    });
  }

  it('a batch that is tried again holds, and notes, the same again', async (t) => {
    let refused = 0;
    const target = await fakeTarget(t, ([name]) =>
      name === 'EXEC' && ++refused === 1
        ? '-EXECABORT Transaction discarded because of: OOM x\r\n'
        : undefined,
    );
    const { replay, ttls } = replayWith({ source: 'absolute', near: true });
    await replay.attach(t, target.port);
    replay.arrive(command('SET', 'a', 'v', 'PXAT', SOON), command('SET', 'b', 'v', 'PXAT', FAR));
    await until(() => replay.rejections.length > 0);
    // what is left is held by now
    ttls.beginCopy(Number.POSITIVE_INFINITY);
    const from = target.received.length;
    await replay.attach(t, target.port);
    await until(() => replay.complete);
    const all = [`0 SET a v PXAT ${held(SOON)}`, `0 SET b v PXAT ${held(FAR)}`];
    assert.deepEqual(effective(target.received.slice(from)), all);
    ttls.holdNear(30_000);
    const again = target.received.length;
    await replay.attach(t, target.port);
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received.slice(again)), [all[0], `0 SET b v PXAT ${FAR}`]);
    assert.equal(ttls.noted, 1);
  });

  describe('in commands that pass in pieces', () => {
    /** RESTORE of a source before 7.0 says only behind its payload that its expiry is absolute. */
    const cases: [source: Held['source'], words: (string | number)[], becomes: (atMs: number) => string[]][] =
      [
        ['absolute', ['SET', 'k', value, 'PXAT', SOON], (at) => [`SET k ${value} PXAT ${at}`]],
        [
          'absolute',
          ['SET', 'k', value, 'XX', 'EXAT', SOON / 1000, 'GET'],
          (at) => [`SET k ${value} XX EXAT ${at / 1000} GET`],
        ],
        [
          'absolute',
          ['RESTORE', 'k', SOON, value, 'REPLACE', 'ABSTTL'],
          (at) => [`RESTORE k ${at} ${value} REPLACE ABSTTL`],
        ],
        [
          'relative',
          ['SET', 'k', value, 'PX', 1000],
          (at) => [`SET k ${value} PX 1000`, `PEXPIREAT k ${at}`],
        ],
        ['relative', ['SET', 'k', value, 'PXAT', SOON], (at) => [`SET k ${value} PXAT ${at}`]],
        [
          'relative',
          ['RESTORE', 'k', SOON, value, 'REPLACE', 'ABSTTL'],
          (at) => [`RESTORE k ${SOON} ${value} REPLACE ABSTTL`, `PEXPIREAT k ${at}`],
        ],
        ['relative', ['RESTORE', 'k', 1000, value], (at) => [`RESTORE k 1000 ${value}`, `PEXPIREAT k ${at}`]],
      ];

    for (const [source, words, becomes] of cases) {
      const what = words.map((word) => (word === value ? '…' : word)).join(' ');
      it(`${what} of a source of ${source} ones`, async (t) => {
        const target = await fakeTarget(t);
        const bytes = Buffer.concat([command(...words), command('SET', 'after', 1)]);
        const assertSent = async (how: Held, chunks: readonly Buffer[], noted: string[]): Promise<void> => {
          const found = await sent(t, target, how, chunks);
          const expected = [...becomes(held(SOON)), 'SET after 1'].map((one) => `0 ${one}`);
          assert.equal(
            found.seen.length,
            expected.length,
            found.seen.map((one) => one.slice(0, 60)).join('; '),
          );
          for (const [i, one] of found.seen.entries()) {
            const shown = one.replace(value, '…');
            assert.equal(shown, expected[i]?.replace(value, '…'));
          }
          assert.deepEqual(found.noted, noted);
          target.received.length = 0;
        };
        await assertSent({ source }, [bytes], []);
        await assertSent({ source, near: true }, [bytes], ['keys 0 k']);
        const tail = bytes.length - bytes.lastIndexOf('v\r\n') + 4;
        const head = bytes.subarray(0, bytes.length - tail);
        const rest = bytes.subarray(bytes.length - tail);
        for (let at = 1; at < tail; at += 1)
          await assertSent({ source }, [head, rest.subarray(0, at), rest.subarray(at)], []);
        await assertSent({ source }, [head, ...Array.from(rest, (byte) => Buffer.of(byte))], []);
        for (let at = 3; at < 50; at += 7)
          await assertSent({ source }, [bytes.subarray(0, at), bytes.subarray(at)], []);
      });
    }

    it('a huge key, and words that are none', async (t) => {
      const target = await fakeTarget(t);
      const key = 'k'.repeat(1.2 * MB);
      const stream = Buffer.concat([
        command('SET', key, 'PXAT', 'PXAT', SOON),
        command('SET', 'k', value, 'KEEPTTL'),
        command('APPEND', 'k', value),
      ]);
      const { seen, noted } = await sent(t, target, { source: 'absolute', near: true }, [stream]);
      const expected = [
        `0 SET ${key} PXAT PXAT ${held(SOON)}`,
        `0 SET k ${value} KEEPTTL`,
        `0 APPEND k ${value}`,
      ];
      assert.equal(seen.length, 3);
      for (const [i, one] of expected.entries()) assert.ok(seen[i] === one, `command ${i}`);
      assert.ok(noted.length === 1 && noted[0] === `keys 0 ${key}`);
    });
  });
});

describe('bare newlines', () => {
  it('have no place in the history', async (t) => {
    const { replay, target } = await replayTo(t);
    const set = command('SET', 'a', 1);
    replay.arrive(Buffer.from('\n'), set, Buffer.from('\r\n\n'), set);
    await until(() => replay.complete);
    assert.equal(checkpoints(target).at(-1), 1000 + 2 * set.length);
    assert.equal(replay.appliedOffsets.at(-1), 1000 + 2 * set.length);
  });

  it('shift no position that a retry may begin at', async (t) => {
    const { replay, target } = await replayTo(t);
    const set = command('SET', 'a', 1);
    target.holdExec = true;
    replay.arrive(set);
    await until(() => names(target).includes('EXEC'));
    replay.arrive(set, Buffer.from('\n'), set);
    const { writer } = replay;
    assert.equal(writer.position, 3 * set.length + 1);
    assert.equal(writer.positionAt(1000), 0);
    assert.equal(writer.positionAt(1000 + set.length), set.length);
    assert.equal(writer.offsetAt(set.length), 1000 + set.length);
    assert.equal(writer.positionAt(1000 + 3 * set.length), 3 * set.length + 1);
    assert.equal(writer.offsetAt(3 * set.length + 1), 1000 + 3 * set.length);
    target.holdExec = false;
    target.releaseExec();
    await until(() => replay.complete);
    assert.deepEqual(replay.appliedOffsets, checkpoints(target));
    assert.equal(writer.positionAt(1000 + 3 * set.length), 3 * set.length + 1);
  });
});

describe('what the target refuses', () => {
  const commands = [command('SET', 'a', 1), command('SET', 'b', 1), command('SET', 'c', 1)];
  const [a] = commands;

  it('at queueing, before 6.0, where EXEC would not look: EXEC is not sent', async (t) => {
    // a replica that becomes a master in the middle: the first is refused, the checkpoint would be written
    let refuses = true;
    const target = await fakeTarget(t, ([, key]) =>
      refuses && key === 'b'
        ? "queueing -READONLY You can't write against a read only replica.\r\n"
        : undefined,
    );
    const replay = new Replay({ execIsWhole: false });
    await replay.attach(t, target.port);
    replay.arrive(...commands);
    await until(() => replay.rejections.length > 0);
    assert.equal(replay.rejections[0]?.verdict, 'retry');
    assert.match(replay.rejections[0]?.line ?? '', /^READONLY/);
    const refused = target.received.findIndex(([, key]) => key === 'b');
    assert.ok(refused > names(target).lastIndexOf('EXEC'));
    refuses = false;
    const { writer } = replay;
    await replay.attach(t, target.port, writer.checkpointed, writer.offsetAt(writer.checkpointed));
    await until(() => replay.complete);
    assert.equal(checkpoints(target).at(-1), 1000 + replay.received);
  });

  it('at queueing: the position of the first, what it means, and nothing more is sent', async (t) => {
    const script: Script = ([name, key]) => {
      if (name === 'EXEC') return '-EXECABORT Transaction discarded because of previous errors.\r\n';
      if (key === 'b') return "queueing -OOM command not allowed when used memory > 'maxmemory'.\r\n";
      return key === 'c' ? 'queueing -ERR another\r\n' : undefined;
    };
    const { replay } = await replayTo(t, script);
    replay.arrive(Buffer.concat(commands));
    await until(() => replay.rejections.length > 0);
    const [first] = replay.rejections;
    assert.equal(replay.rejections.length, 1);
    assert.equal(first?.position, a!.length);
    assert.match(first?.line ?? '', /^OOM/);
    assert.equal(first?.verdict, 'retry');
    assert.deepEqual(replay.applied, []);
    // as the feed does it: again from what the target has
    const other = await fakeTarget(t);
    await replay.attach(t, other.port);
    await until(() => replay.complete);
    assert.deepEqual(effective(other.received), ['0 SET a 1', '0 SET b 1', '0 SET c 1']);
  });

  it('EXEC itself', async (t) => {
    for (const [line, verdict] of [
      ['EXECABORT Transaction discarded because of: OOM x', 'retry'],
      ["READONLY You can't write against a read only replica.", 'retry'],
      ['NOPERM no', 'fatal'],
    ] as const) {
      const { replay } = await replayTo(t, ([name]) => (name === 'EXEC' ? `-${line}\r\n` : undefined));
      replay.arrive(commands[0]!);
      await until(() => replay.rejections.length > 0);
      assert.deepEqual(replay.rejections, [{ position: 0, line, verdict }]);
      assert.deepEqual(replay.applied, []);
    }
  });

  it('a queued batch behind the one that failed is never executed', async (t) => {
    let execs = 0;
    const { replay, target } = await replayTo(t, ([name]) =>
      name === 'EXEC' && ++execs === 1 ? '-EXECABORT no\r\n' : undefined,
    );
    target.holdExec = true;
    replay.arrive(command('SET', 'x', 0));
    await until(() => execs === 1);
    replay.arrive(Buffer.concat(Array.from({ length: 5000 }, (_, i) => command('SET', 'b', i))));
    await until(() => target.received.filter(([name]) => name === 'HMSET').length === 2);
    target.releaseExec();
    await until(() => replay.rejections.length > 0);
    await until(() => target.sockets[0]?.destroyed);
    assert.equal(names(target).filter((name) => name === 'EXEC').length, 1);
    assert.deepEqual(replay.applied, []);
  });

  it('within EXEC: counted as a difference, and the stream goes on', async (t) => {
    const script: Script = ([, key]) => (key === 'b' ? '-WRONGTYPE no\r\n' : undefined);
    const { replay } = await replayTo(t, script);
    replay.arrive(Buffer.concat([command('SELECT', 2), ...commands]));
    await until(() => replay.complete);
    assert.deepEqual(replay.divergences, [
      { position: command('SELECT', 2).length + a!.length, line: 'WRONGTYPE no' },
    ]);
    assert.deepEqual(replay.rejections, []);
  });

  it('our own SELECT or checkpoint within EXEC: no difference, but the end', async (t) => {
    for (const refused of ['SELECT', 'HMSET']) {
      const script: Script = ([name]) => (name === refused ? '-ERR DB index is out of range\r\n' : undefined);
      const { replay } = await replayTo(t, script);
      replay.arrive(Buffer.concat([command('SELECT', 99), command('SET', 'a', 1)]));
      await until(() => replay.rejections.length > 0);
      assert.equal(replay.rejections[0]?.verdict, 'fatal');
      assert.deepEqual(replay.divergences, []);
      assert.deepEqual(replay.applied, []);
    }
  });
});

describe('huge commands', () => {
  const value = 'v'.repeat(3 * MB);

  it('pass in pieces, among others, inside a transaction too', async (t) => {
    const { replay, target } = await replayTo(t);
    const stream = Buffer.concat([
      command('SELECT', 1),
      command('SET', 'a', 1),
      command('SET', 'huge', value),
      command('MULTI'),
      command('MSET', 'x', value, 'y', value),
      command('EXPIRE', 'x', 1),
      command('EXEC'),
      command('SET', 'b', 1),
    ]);
    for (let at = 0; at < stream.length; at += 400_001) replay.arrive(stream.subarray(at, at + 400_001));
    await until(() => replay.complete);
    const expected = [
      '1 SET a 1',
      `1 SET huge ${value}`,
      `1 MSET x ${value} y ${value}`,
      '1 PEXPIREAT x 1001000',
      '1 SET b 1',
    ];
    const seen = effective(target.received);
    assert.equal(seen.length, expected.length);
    for (const [i, one] of seen.entries()) assert.ok(one === expected[i], `command ${i}`);
    assert.deepEqual(replay.appliedOffsets, checkpoints(target));
    assert.equal(checkpoints(target).at(-1), 1000 + stream.length);
  });

  it('relative TTLs: the words around the value are found', async (t) => {
    const { replay, target } = await replayTo(t);
    const key = 'k'.repeat(1.5 * MB);
    const cases: [string[], string | null][] = [
      [['SETEX', 'a', '10', value], 'a 1010000'],
      [['SET', 'b', value, 'NX', 'PX', '7'], 'b 1000007'],
      [['SET', 'c', value, 'KEEPTTL'], null],
      [['SET', key, 'v', 'EX', '1'], `${key} 1001000`],
      [['RESTORE', 'd', '5', value, 'REPLACE'], 'd 1000005'],
      [['RESTORE', 'e', '5', value, 'ABSTTL'], null],
    ];
    for (const [words] of cases) {
      const bytes = command(...words);
      for (let at = 0; at < bytes.length; at += 300_000) replay.arrive(bytes.subarray(at, at + 300_000));
    }
    await until(() => replay.complete);
    const expected = cases.flatMap(([words, expiry]) => [
      `0 ${words.join(' ')}`,
      ...(expiry === null ? [] : [`0 PEXPIREAT ${expiry}`]),
    ]);
    const seen = effective(target.received);
    assert.equal(seen.length, expected.length);
    for (const [i, one] of seen.entries()) assert.ok(one === expected[i], `command ${i}`);
  });

  it('many small arguments', async (t) => {
    const { replay, target } = await replayTo(t);
    const words = ['SADD', 'set', ...Array.from({ length: 200_000 }, (_, i) => String(i))];
    const bytes = encodeCommand(words);
    for (let at = 0; at < bytes.length; at += 250_000) replay.arrive(bytes.subarray(at, at + 250_000));
    await until(() => replay.complete);
    assert.deepEqual(effective(target.received), [`0 ${words.join(' ')}`]);
  });

  it('wait for a target that does not read', async (t) => {
    const { replay, target } = await replayTo(t);
    target.sockets[0]?.pause();
    const bytes = command('SET', 'huge', 'v'.repeat(40 * MB));
    for (let at = 0; at < bytes.length; at += MB) {
      replay.arrive(bytes.subarray(at, at + MB));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const waiting = replay.socket?.writableLength ?? 0;
    assert.ok(waiting < 8 * MB, `${waiting} bytes wait for the kernel`);
    target.sockets[0]?.resume();
    await until(() => replay.complete);
  });

  it('damage inside one is a classed error', async (t) => {
    for (const bad of ['$-5\r\n', '$x\r\n', ':5\r\n', '$1099511627777\r\n', `$${'0'.repeat(60)}`]) {
      const head = Buffer.from(`*3\r\n$4\r\nMSET\r\n$${2 * MB}\r\n`);
      const { replay } = await replayTo(t);
      replay.arrive(Buffer.concat([head, Buffer.alloc(2 * MB, 'k'), Buffer.from(`\r\n${bad}`)]));
      const at = 1000 + head.length + 2 * MB + 2 + (/^\$[^1]/.test(bad) ? 1 : 0);
      assert.ok(replay.failure instanceof SourceError, `${bad}: ${replay.failure}`);
      assert.equal(replay.failure.code, 'stream-garbage');
      assert.match(replay.failure.message, new RegExp(`offset ${at}$`));
      assert.deepEqual(replay.applied, []);
    }
  });
});

it('a command that is always short, and announces a gigabyte, is damage; nothing waits for its bytes', async (t) => {
  for (const head of [
    '*2\r\n$6\r\nSELECT',
    '*2\r\n$4\r\nping',
    '*3\r\n$8\r\nREPLCONF',
    '*2\r\n$5\r\nMULTI',
  ]) {
    const { replay } = await replayTo(t);
    replay.arrive(Buffer.from(`${head}\r\n$2147483648\r\n`));
    assert.ok(replay.failure instanceof SourceError, `${head}: ${replay.failure}`);
    assert.equal(replay.failure.code, 'stream-garbage');
    assert.match(replay.failure.message, /of over 1 MiB at offset 1000$/);
  }
});

it('every split of a stream gives the same commands and offsets', async (t) => {
  const target = await fakeTarget(t);
  const stream = Buffer.concat([
    PING,
    Buffer.from('select 2\r\n'),
    command('SET', 'a', 'EX', 'EX', 10),
    Buffer.from('\n'),
    command('MULTI'),
    command('incr', 'n'),
    command('SELECT', 0),
    command('EXPIRE', 'n', 5),
    command('EXEC'),
    command('REPLCONF', 'GETACK', '*'),
    command('SWAPDB', 0, 1),
    command('DEL', 'a', 'b', ''),
    command('function', 'load', '#!lua'),
  ]);
  const applyAll = async (chunks: readonly Buffer[]): Promise<string[]> => {
    const from = target.received.length;
    const replay = new Replay();
    await replay.attach(t, target.port);
    replay.arrive(...chunks);
    await until(() => replay.complete);
    const received = target.received.slice(from);
    const offsets = received.filter(([name]) => name === 'HMSET').map((words) => Number(words[5]));
    assert.equal(offsets.at(-1), 1000 + stream.length - 1);
    assert.equal(replay.acksWanted, 1);
    // each applied() that wrote something has its checkpoint
    for (const offset of offsets) assert.ok(replay.appliedOffsets.includes(offset), String(offset));
    replay.connection?.close();
    return effective(received);
  };
  const whole = await applyAll([stream]);
  assert.deepEqual(whole, [
    '2 SET a EX EX 10',
    '2 PEXPIREAT a 1010000',
    '2 incr n',
    '0 PEXPIREAT n 1005000',
    '0 SWAPDB 0 1',
    '0 DEL a b ',
    '0 function LOAD REPLACE #!lua'.replace('function', 'FUNCTION'),
  ]);
  await everySplit(stream, async (chunks) => assert.deepEqual(await applyAll(chunks), whole));
});

describe('a real server', () => {
  it('connections that break anywhere: each command counts once', async (t) => {
    const server = await testServer(t);
    const client = await testClient(t, server.port);
    const commands: Buffer[] = [];
    const expected = { n: 0, list: 0 };
    for (let i = 0; i < 4000; i++) {
      commands.push(command('SELECT', i % 3));
      if (i % 7 === 0) {
        commands.push(command('MULTI'), command('INCR', 'n'), command('RPUSH', 'list', i), command('EXEC'));
        if (i % 3 === 0) expected.list++;
      } else commands.push(command('INCR', 'n'));
      if (i % 3 === 0) expected.n++;
      if (i % 500 === 0) commands.push(PING, command('SET', 'big', 'b'.repeat(1.2 * MB)));
    }
    const stream = Buffer.concat(commands);
    const replay = new Replay();
    await replay.attach(t, server.port);
    // a cut of the link each time that so much has arrived
    for (let at = 0; at < stream.length; at += 250_000) {
      replay.arrive(stream.subarray(at, at + 250_000));
      if (at % 750_000 === 0) {
        replay.connection?.close();
        const stored = parseCheckpoint((await client.call('HGETALL', CHECKPOINT_KEY)) ?? []);
        const from = stored ?? { offset: 1000, db: 0 };
        await replay.attach(t, server.port, replay.writer.positionAt(from.offset), from.offset, from.db);
      }
    }
    await until(() => replay.complete);
    assert.equal(Number(await client.call('GET', 'n')), expected.n);
    assert.equal(await client.call('LLEN', 'list'), expected.list);
    const stored = parseCheckpoint(await client.call('HGETALL', CHECKPOINT_KEY));
    assert.equal(stored?.offset, 1000 + stream.length);
    assert.deepEqual(replay.divergences, []);
  });

  it('out of memory: nothing of the batch is there, its command is named', async (t) => {
    const server = await testServer(t);
    const client = await testClient(t, server.port);
    const replay = new Replay();
    await replay.attach(t, server.port);
    replay.arrive(command('SET', 'a', 1));
    await until(() => replay.complete);
    await client.call('CONFIG', 'SET', 'maxmemory', '1');
    replay.arrive(Buffer.concat([command('DEL', 'a'), command('SET', 'b', 1), command('SET', 'c', 1)]));
    await until(() => replay.rejections.length > 0);
    const [rejection] = replay.rejections;
    assert.equal(rejection?.verdict, 'retry');
    assert.match(rejection?.line ?? '', /^OOM/);
    // from 6.2 on nothing at all can be queued then
    assert.ok(rejection!.position >= command('SET', 'a', 1).length);
    assert.equal(plain(await client.call('GET', 'a')), '1');
    await client.call('CONFIG', 'SET', 'maxmemory', '0');
    const stored = parseCheckpoint(await client.call('HGETALL', CHECKPOINT_KEY));
    await replay.attach(t, server.port, replay.writer.positionAt(stored!.offset), stored!.offset, stored!.db);
    await until(() => replay.complete);
    assert.deepEqual(plain(await client.call('MGET', 'a', 'b', 'c')), [null, '1', '1']);
  });

  it('a wrong type within a batch leaves the rest applied', async (t) => {
    const server = await testServer(t);
    const client = await testClient(t, server.port);
    const replay = new Replay();
    await replay.attach(t, server.port);
    const set = command('SET', 'a', 1);
    replay.arrive(Buffer.concat([set, command('LPUSH', 'a', 1), command('SET', 'b', 1)]));
    await until(() => replay.complete);
    assert.equal(replay.divergences[0]?.position, set.length);
    assert.match(replay.divergences[0]?.line ?? '', /^WRONGTYPE/);
    assert.equal(plain(await client.call('GET', 'b')), '1');
  });

  it('a database that the target does not have', async (t) => {
    const server = await testServer(t, { args: ['--databases', '2'] });
    const replay = new Replay();
    await replay.attach(t, server.port);
    replay.arrive(Buffer.concat([command('SELECT', 5), command('SET', 'a', 1)]));
    await until(() => replay.rejections.length > 0);
    assert.equal(replay.rejections[0]?.verdict, 'fatal');
    assert.match(replay.rejections[0]?.line ?? '', /out of range/);
  });
});
