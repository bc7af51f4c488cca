/** A stream for an older target, and KeyDB's frames, on their way through the stream writer. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SourceError, TargetError } from '../../../src/core/errors.ts';
import { encodeCommand } from '../../../src/resp/encode.ts';
import { HeldTtls, SHIFT_MS } from '../../../src/target/write/held-ttls.ts';
import { missingForms, type ReleaseLevel } from '../../../src/target/write/missing-forms.ts';
import * as scripts from '../../../src/target/write/own-scripts.ts';
import type { Word } from '../../../src/target/write/words.ts';
import { WriteTally } from '../../../src/target/write/write-tally.ts';
import { plain, testClient } from '../../helpers/client.ts';
import { type Release, serverReleases } from '../../helpers/releases.ts';
import { type Cleanup, testServer } from '../../helpers/server.ts';
import { until } from '../../helpers/wait.ts';
import { command, effective, type FakeTarget, fakeTarget, Replay } from './support.ts';

const NOW = 1_700_000_000_000;
const AT = NOW + 9000;
const LATER = String(AT + SHIFT_MS);

const redis = (major: number, minor = 0): ReleaseLevel => ({ family: 'redis', version: [major, minor, 0] });

type Settings = ConstructorParameters<typeof Replay>[0];

async function replayTo(
  t: Cleanup,
  from: ReleaseLevel,
  to: ReleaseLevel,
  settings: Settings = {},
): Promise<{ replay: Replay; target: FakeTarget }> {
  const target = await fakeTarget(t);
  const missing = missingForms(from, to);
  const replay = new Replay({ relativeTtls: false, missing, receivedAt: () => NOW, ...settings });
  await replay.attach(t, target.port);
  return { replay, target };
}

/** What the target received, scripts without their text; each with its database. */
async function sent({ replay, target }: { replay: Replay; target: FakeTarget }): Promise<string[]> {
  await until(() => replay.complete);
  return effective(target.received.map((words) => words.map((word) => (word.length > 60 ? '…' : word))));
}

describe('a stream for an older target', () => {
  it('keeps its order, its transactions and its databases', async (t) => {
    const pair = await replayTo(t, redis(7), redis(5));
    pair.target.received.length = 0;
    pair.replay.arrive(
      command('MULTI'),
      command('SET', 'a', '1', 'PXAT', AT),
      command('APPEND', 'a', '2'),
      command('SELECT', 3),
      command('LMOVE', 'l', 'm', 'LEFT', 'LEFT'),
    );
    assert.ok(pair.replay.writer.midway);
    pair.replay.arrive(command('XADD', 's', '1-1', 'f', 'v'), command('EXEC'), command('UNLINK', 'a'));
    assert.deepEqual(await sent(pair), [
      '0 SET a 1',
      `0 PEXPIREAT a ${AT}`,
      '0 APPEND a 2',
      '3 EVAL … 2 l m LPOP LPUSH',
      '3 XADD s 1-1 f v',
      '3 UNLINK a',
    ]);
    const first = pair.target.received.findIndex(([name]) => name === 'EXEC');
    const names = pair.target.received.slice(0, first).map(([name]) => name);
    assert.ok(names.includes('XADD') && names.indexOf('MULTI') === 0, 'one transaction');
  });

  it('what is held back is held in the place of what is rewritten', async (t) => {
    const rows: [target: ReleaseLevel, words: (string | number)[], sent: string[], notes: string][] = [
      [redis(5), ['SET', 'k', 'v', 'PXAT', AT], ['0 SET k v', `0 PEXPIREAT k ${LATER}`], 'keys k'],
      [redis(5), ['SET', 'k', 'v', 'EXAT', AT / 1000], ['0 SET k v', `0 PEXPIREAT k ${LATER}`], 'keys k'],
      [redis(5), ['PEXPIREAT', 'k', AT, 'GT'], [`0 PEXPIREAT k ${LATER}`], 'keys k'],
      [
        redis(7),
        ['MSETEX', 2, 'a', 1, 'b', 2, 'XX', 'PXAT', AT],
        ['0 MSET a 1 b 2', `0 PEXPIREAT a ${LATER}`, `0 PEXPIREAT b ${LATER}`],
        'keys a b',
      ],
      [redis(8, 4), ['MSETEX', 1, 'a', 1, 'PXAT', AT], [`0 MSETEX 1 a 1 PXAT ${LATER}`], 'keys a'],
      [redis(8, 4), ['MSETEX', 1, 'a', 1, 'KEEPTTL'], ['0 MSETEX 1 a 1 KEEPTTL'], ''],
      [
        redis(7, 4),
        ['HSETEX', 'h', 'PXAT', AT, 'FIELDS', 1, 'f', 'v'],
        ['0 HSET h f v', `0 HPEXPIREAT h ${LATER} FIELDS 1 f`],
        'hashes h',
      ],
      [
        redis(4),
        ['RESTORE', 'k', AT, 'payload', 'ABSTTL'],
        ['0 RESTORE k 0 payload', `0 PEXPIREAT k ${LATER}`],
        'keys k',
      ],
    ];
    for (const [target, words, expected, notes] of rows) {
      const ttls = new HeldTtls('/nowhere', () => NOW);
      ttls.holdNear(30_000);
      const pair = await replayTo(t, redis(8, 4), target, { ttls });
      pair.replay.arrive(command(...words));
      assert.deepEqual(await sent(pair), expected, words.join(' '));
      const noted = [...ttls.take(10)].map(({ kind, keys }) => `${kind} ${keys.join(' ')}`).join();
      assert.equal(noted, notes, words.join(' '));
    }
  });

  it('relative expiries of a source of 6.2 for a target of 2.8', async (t) => {
    const pair = await replayTo(t, redis(6, 2), redis(2, 8), { relativeTtls: true });
    pair.replay.arrive(
      command('SET', 'k', 'v', 'PX', 9000),
      command('SET', 'k', 'v', 'KEEPTTL'),
      command('RESTORE', 'k', 9000, 'payload', 'REPLACE'),
      command('EXPIRE', 'k', 9),
    );
    assert.deepEqual(await sent(pair), [
      '0 SET k v PX 9000',
      `0 PEXPIREAT k ${AT}`,
      '0 EVAL … 1 k v',
      '0 DEL k',
      '0 RESTORE k 9000 payload',
      `0 PEXPIREAT k ${AT}`,
      `0 PEXPIREAT k ${AT}`,
    ]);
  });

  it('what is left out is told once, and the position moves past it', async (t) => {
    const pair = await replayTo(t, redis(8, 8), redis(6, 2), { forwardPublish: true });
    for (let i = 0; i < 3; i++) {
      pair.replay.arrive(
        command('FUNCTION', 'LOAD', 'x'),
        command('HPERSIST', 'h', 'FIELDS', 1, 'f'),
        command('SPUBLISH', 'c', 'm'),
        command('publish', 'c', 'm'),
        command('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '1-1'),
      );
    }
    assert.deepEqual(await sent(pair), Array(3).fill('0 publish c m'));
    const kinds = pair.replay.losses.map((what) => what.split(' ')[0]);
    assert.deepEqual(kinds, ['function', 'expiries', 'messages', 'given-back']);
  });

  it('a huge command that must be rewritten is held until it is whole', async (t) => {
    const value = 'x'.repeat(3 << 20);
    const pair = await replayTo(t, redis(7), redis(5));
    const plainSet = command('SET', 'plain', value);
    pair.replay.arrive(plainSet.subarray(0, 2 << 20));
    assert.ok(pair.replay.writer.position > 1 << 20, 'a SET without options passes in pieces');
    pair.replay.arrive(plainSet.subarray(2 << 20));
    const begin = pair.replay.received;
    const set = command('SET', 'k', value, 'PXAT', AT);
    for (let at = 0; at < set.length; at += 1 << 20) {
      assert.equal(pair.replay.writer.position, begin);
      pair.replay.arrive(set.subarray(at, at + (1 << 20)));
    }
    const received = await sent(pair);
    assert.deepEqual(received.slice(0, 3), ['0 SET plain …', '0 SET k …', `0 PEXPIREAT k ${AT}`]);
  });

  it('any number of words may be rewritten', async (t) => {
    const pair = await replayTo(t, redis(7), redis(3));
    const keys = Array.from({ length: 300_000 }, (_, i) => i);
    pair.replay.arrive(encodeCommand(['UNLINK', ...keys]), encodeCommand(['HSET', 'h', ...keys]));
    await sent(pair);
    assert.equal(pair.target.received.find(([name]) => name === 'DEL')?.length, 300_001);
    assert.equal(
      pair.target.received.find(([name, key]) => name === 'HMSET' && key === 'h')?.length,
      300_002,
    );
  });

  it('one beyond any limit is refused before it is held', async (t) => {
    const { replay } = await replayTo(t, redis(7), redis(5));
    replay.arrive(command('PING'), Buffer.from('*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$700000000\r\nx'));
    const error = replay.failure;
    assert.ok(error instanceof TargetError, String(error));
    assert.equal(error.code, 'command-too-big');
    assert.match(error.message, /SET at offset 1014 /);
    assert.equal(error.recovery, 'operator');
  });
});

describe('writes of scripts', () => {
  it('of ours count, one of the source makes the count worthless', async (t) => {
    const tally = new WriteTally();
    const pair = await replayTo(t, redis(7), redis(5), { tally });
    const before = tally.least;
    pair.replay.arrive(
      command('SET', 'k', 'v', 'KEEPTTL'),
      command('LMOVE', 'a', 'b', 'LEFT', 'LEFT'),
      command('SCRIPT', 'FLUSH', 'SYNC'),
      command('PFCOUNT', 'k'),
      command('LPOP', 'a', 3),
    );
    await sent(pair);
    await until(() => tally.quiet);
    const checkpoints = pair.target.received.filter(([name]) => name === 'HMSET').length;
    assert.equal(tally.least - before, 2 + 2 + 1 + checkpoints);
    assert.equal(tally.uncountable, false);
    pair.replay.arrive(command('EVAL', 'return 1', 0));
    await sent(pair);
    assert.equal(tally.uncountable, true);
  });

  const RELEASES = serverReleases().filter(({ kind, major }) => kind === 'redis' && major < 8);
  const newest = (major: number): Release | undefined => RELEASES.findLast((each) => each.major === major);
  for (const [release, rows] of [
    [newest(2), plainRows],
    [newest(3), plainRows],
    [newest(5), () => [...plainRows(), ...streamRows()]],
    [RELEASES.find(({ version }) => version.startsWith('7.4')), fieldRows],
  ] as const) {
    if (release === undefined) continue;
    it(`are as many as ${release.version} counts`, async (t) => {
      const { port } = await testServer(t, { binary: release.path });
      const client = await testClient(t, port);
      const writing = new Set<string>();
      for (const line of plain(await client.call('COMMAND')) as [string, number, string[]][]) {
        if (line[2].some((flag) => flag === 'write' || flag === 'denyoom')) writing.add(line[0]);
      }
      for (const words of rows()) {
        await client.call('CONFIG', 'RESETSTAT');
        await client.call(...words);
        if (words[0] !== 'EVAL') continue;
        const stats = String(await client.call('INFO', 'commandstats'));
        let writes = 0;
        for (const [, name, calls] of stats.matchAll(/^cmdstat_([^:|]+)[^:]*:calls=(\d+)/gm)) {
          if (writing.has(name!) && name !== 'eval') writes += Number(calls);
        }
        assert.equal(writes, scripts.writesOfScript(words), words.slice(2).join(' '));
      }
    });
  }
});

function plainRows(): Word[][] {
  return [
    ['SET', 'k', 'v', 'PX', '600000'],
    scripts.setKeepttl('k', 'w'),
    scripts.setKeepttl('none', 'w'),
    ['RPUSH', 'l', 'a', 'b'],
    scripts.moveElement('l', 'm', 'LPOP', 'RPUSH'),
    scripts.copyKey('k', 'copy', null),
    scripts.copyKey('none', 'copy', '3'),
    ['ZADD', 'z', '1', 'a', '2', 'b'],
    scripts.zaddIf('z', ['gt'], ['5', 'a', '1', 'b']),
    scripts.zaddIf('z', ['incr'], ['5', 'a']),
    scripts.zaddIf(
      'z',
      ['nx'],
      Array.from({ length: 1000 }, (_, i) => String(i)),
    ),
  ];
}

function streamRows(): Word[][] {
  return [
    ['XADD', 's', '1-1', 'f', 'v'],
    ['XADD', 's', '2-1', 'f', 'v'],
    scripts.trimBelow('s', '1-5'),
    scripts.trimBelow('s', '1-5'),
  ];
}

function fieldRows(): Word[][] {
  return [
    ['HSET', 'h', 'a', '1', 'b', '2'],
    ['HPEXPIRE', 'h', '600000', 'FIELDS', '1', 'a'],
    scripts.hsetKeepttl('h', ['a', '2', 'b', '3', 'c', '4']),
  ];
}

describe("KeyDB's frames", () => {
  const UUID = '12345678-1234-1234-1234-123456789012';
  const frame = (commands: Buffer, ...more: (string | number)[]): Buffer =>
    command('RREPLAY', UUID, commands.toString('latin1'), ...more);

  it('are unpacked, also frames in frames; the database is theirs', async (t) => {
    const pair = await replayTo(t, redis(6, 2), redis(6, 2), { relativeTtls: true });
    pair.replay.arrive(
      command('SELECT', 1),
      frame(command('INCR', 'a')),
      frame(Buffer.concat([command('INCR', 'a'), command('EXPIRE', 'a', 9)]), 2, 10),
      frame(command('SET', 'b', '\0\xff', 'EX', 9), 0, 11),
      frame(frame(command('INCR', 'c'), 5, 12), 4),
      command('INCR', 'd'),
      frame(Buffer.concat([command('SELECT', 7), command('INCR', 'e')]), 6, 13),
    );
    assert.deepEqual(await sent(pair), [
      '1 INCR a',
      '2 INCR a',
      `2 PEXPIREAT a ${AT}`,
      '0 SET b \0\xff EX 9',
      `0 PEXPIREAT b ${AT}`,
      '5 INCR c',
      '5 INCR d',
      '7 INCR e',
    ]);
  });

  it('that came before are passed over, by server; what is read again is not', async (t) => {
    const pair = await replayTo(t, redis(6, 2), redis(6, 2));
    const other = command('RREPLAY', `9${UUID.slice(1)}`, command('INCR', 'b').toString('latin1'), 0, 5);
    const big = '18446744073709551614';
    pair.replay.arrive(
      frame(command('INCR', 'a'), 0, 10),
      frame(command('INCR', 'never'), 3, 10),
      frame(command('INCR', 'never'), 0, 9),
      other,
      frame(command('INCR', 'c'), 0, 0),
      frame(command('INCR', 'd'), 0, big),
      frame(command('INCR', 'never'), 0, big),
    );
    const once = ['0 INCR a', '0 INCR b', '0 INCR c', '0 INCR d'];
    assert.deepEqual(await sent(pair), once);
    pair.target.received.length = 0;
    await pair.replay.attach(t, pair.target.port);
    assert.deepEqual(await sent(pair), once);
  });

  it('a transaction may go over several', async (t) => {
    const pair = await replayTo(t, redis(6, 2), redis(6, 2));
    pair.replay.arrive(frame(command('MULTI'), 0, 1), frame(command('INCR', 'a'), 0, 2));
    assert.ok(pair.replay.writer.midway);
    pair.replay.arrive(frame(command('EXEC'), 0, 3));
    assert.deepEqual(await sent(pair), ['0 INCR a']);
  });

  it('that are none, or hold half a command: a classed error', async (t) => {
    for (const bytes of [
      command('RREPLAY'),
      command('RREPLAY', UUID),
      frame(command('INCR', 'a'), 'x'),
      frame(command('INCR', 'a'), 0, 'x'),
      frame(command('INCR', 'a').subarray(0, 12)),
      frame(Buffer.from('$')),
    ]) {
      const { replay } = await replayTo(t, redis(6, 2), redis(6, 2));
      replay.arrive(bytes);
      const error = replay.failure;
      assert.ok(error instanceof SourceError, String(error));
      assert.equal(error.code, 'stream-garbage');
      assert.equal(error.recovery, 'resync');
    }
  });
});
