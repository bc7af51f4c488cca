/**
 * Values that lie: lengths without end in every place that has one, cuts at every byte, and what is wrong inside of them,
 * on its way to a target that takes an older form only. What real servers do with the same: integration/hostile-files.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CutoverError, RdbFormatError } from '../../../src/core/errors.ts';
import { OP, type RdbFamily } from '../../../src/rdb/opcodes.ts';
import { capabilitiesOf } from '../../../src/target/write/capabilities.ts';
import { TargetConnection } from '../../../src/target/write/connection.ts';
import { Losses } from '../../../src/target/write/losses.ts';
import { SnapshotWriter } from '../../../src/target/write/snapshot-writer.ts';
import { FakeSocket } from '../../fuzz/fake-connection.ts';
import { everySplit } from '../../helpers/every-split.ts';
import { f64, i64, intset, len, listpack, lzfStr, rdb, str, ziplist } from './build.ts';
import {
  EVERY_TYPE,
  entry,
  everyTypeFile,
  LATER_MS,
  MAGIC,
  type StreamParts,
  stream,
  streamId,
  streamNode,
} from './every-type.ts';
import { Feeding, read } from './records.ts';

const MB = 1 << 20;
/** Behind the magic, and the head of entry(). */
const ENTRY_AT = 9;
const VALUE_AT = ENTRY_AT + 3;

/** The error that `work` throws, which must be one of ours. */
function thrownBy(work: () => void): CutoverError | null {
  try {
    work();
    return null;
  } catch (error) {
    assert.ok(error instanceof CutoverError, String(error));
    return error;
  }
}

/** Whole, byte by byte, and cut in two at every place: refused at `offset` each time. */
async function refusedAt(file: Buffer, offset: number, message: RegExp): Promise<void> {
  await everySplit(file, (chunks) => {
    const error = thrownBy(() => read(chunks));
    assert.ok(error instanceof RdbFormatError, `it was taken: ${error}`);
    assert.match(error.message, message);
    assert.equal(error.offset, offset);
  });
}

describe('a length without end', () => {
  const claims = [2n ** 41n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n].map((claim) => len(claim));
  const id = str(streamId(1));
  const zeros = (count: number): Buffer => Buffer.alloc(count);
  const group = (generation: number): Buffer =>
    Buffer.concat([zeros(4), zeros(generation >= 2 ? 5 : 0), len(1)]);
  const inGroup = (generation: number): Buffer =>
    Buffer.concat([group(generation), str('g'), zeros(generation >= 2 ? 3 : 2)]);
  const inConsumer = (generation: number): Buffer =>
    Buffer.concat([inGroup(generation), len(0), len(1), str('c'), zeros(generation >= 3 ? 16 : 8)]);
  const streams = (
    [
      [15, 1],
      [19, 2],
      [21, 3],
      [26, 4],
      [27, 5],
    ] as const
  ).flatMap(([type, generation]): [string, number, Buffer][] => [
    ['nodes', type, zeros(0)],
    ['the id of a node', type, len(1)],
    ['the entries of a node', type, Buffer.concat([len(1), id])],
    ['groups', type, zeros(generation >= 2 ? 9 : 4)],
    ['the name of a group', type, group(generation)],
    ['pending entries', type, inGroup(generation)],
    ['consumers', type, Buffer.concat([inGroup(generation), len(0)])],
    ['the name of a consumer', type, Buffer.concat([inGroup(generation), len(0), len(1)])],
    ['the pending entries of a consumer', type, inConsumer(generation)],
  ]);
  const nacked = Buffer.concat([inGroup(5), len(0), len(0)]);
  const producers = Buffer.concat([zeros(10), len(100), len(100)]);

  /** What stands before the length in a value of the type, which is sound up to there. */
  const places: readonly (readonly [what: string, type: number, before: Buffer, family?: RdbFamily])[] = [
    ...[0, 9, 10, 11, 12, 13, 16, 17, 20, 23].map((type) => ['the string', type, zeros(0)] as const),
    ...[1, 2, 3, 4, 5, 14, 18, 22, 28].map((type) => ['elements', type, zeros(0)] as const),
    ...[1, 2, 3, 4, 5, 14].map((type) => ['the first element', type, len(1)] as const),
    ['the second element', 1, Buffer.concat([len(2), str('a')])],
    ['the value of a field', 4, Buffer.concat([len(1), str('f')])],
    ['a plain node', 18, Buffer.concat([len(1), len(1)])],
    ['a packed node', 18, Buffer.concat([len(1), len(2)])],
    ['a field', 22, Buffer.concat([len(1), len(5)])],
    ['the value of a field', 22, Buffer.concat([len(1), len(5), str('f')])],
    ['fields', 24, i64(LATER_MS)],
    ['a field', 24, Buffer.concat([i64(LATER_MS), len(1), len(1)])],
    ['the listpack', 25, i64(LATER_MS)],
    ['fields', 22, zeros(0), 'valkey'],
    ['a field', 22, len(1), 'valkey'],
    ['the value of a field', 22, Buffer.concat([len(1), str('f')]), 'valkey'],
    ['a string of an array', 28, Buffer.concat([len(1), len(0), len(7), len(0)])],
    ['a short string of an array', 28, Buffer.concat([len(1), len(0), len(7), len(3)])],
    ['a string of a module', 7, Buffer.concat([len(2n ** 60n), len(5)])],
    ...streams,
    ['entries that nobody holds', 27, nacked],
    ['producers', 26, producers],
    ['the name of a producer', 26, Buffer.concat([producers, len(1)])],
    ['the ids of a producer', 26, Buffer.concat([producers, len(1), str('p')])],
    ['an id of a producer', 26, Buffer.concat([producers, len(1), str('p'), len(1)])],
  ];

  for (const [what, type, before, family = 'redis'] of places) {
    it(`${what}, type ${type} of ${family}`, async () => {
      const most = process.memoryUsage().arrayBuffers + 200 * MB;
      for (const claim of claims) {
        const file = rdb(MAGIC[family], entry(type, before, claim), Buffer.alloc(16));
        await refusedAt(file, VALUE_AT + before.length, /a string of|elements/);
      }
      assert.ok(process.memoryUsage().arrayBuffers < most);
    });
  }

  it('in opcodes', async () => {
    const module = Buffer.concat([len(2n ** 60n), len(2), len(1), len(5)]);
    for (const [family, opcode, before] of [
      ['redis', 245, zeros(0)],
      ['redis', 247, module],
      ['redis', 250, zeros(0)],
      ['redis', 250, str('lua')],
      ['valkey', 243, zeros(0)],
      ['valkey', 243, str('j'.repeat(40))],
    ] as const) {
      for (const claim of claims) {
        const file = rdb(MAGIC[family], Buffer.of(opcode), before, claim, Buffer.alloc(16));
        await refusedAt(file, ENTRY_AT + 1 + before.length, /a string of|elements/);
      }
    }
  });

  it('an opcode of Redis alone in a file of Valkey is not waited for', async () => {
    await refusedAt(rdb(MAGIC.valkey, Buffer.of(OP.ramLru, 5), entry(0, str('v'))), ENTRY_AT, /unknown/);
  });

  it('opcodes without end in front of a key', async () => {
    const before = (count: number): Buffer => Buffer.alloc(2 * count, Buffer.of(249, 5));
    assert.ok(read([rdb('REDIS0011', before(100_000), entry(0, str('v')))]).reader.done);
    const endless = rdb('REDIS0011', before(1_000_000));
    for (const chunks of [[endless], [endless.subarray(0, 1_000), endless.subarray(1_000)]]) {
      const error = thrownBy(() => read(chunks));
      assert.ok(error instanceof RdbFormatError && /in front of a key/.test(error.message), String(error));
      assert.equal(error.offset, ENTRY_AT);
    }
  });

  it('metadata of a key without end', () => {
    // a class, its only item a string of 4 GB of which 2 MB have come
    const meta = [Buffer.of(243), len(1), Buffer.alloc(4), len(5), len(2 ** 32), Buffer.alloc(2 * MB)];
    const error = thrownBy(() => read([rdb('REDIS0014', ...meta)]));
    assert.ok(error instanceof RdbFormatError && /in front of a key/.test(error.message), String(error));
  });

  it('where it is a mere number, it is one: nobody waits for as much', () => {
    const mere = [len(2n ** 63n), len(2n ** 64n - 1n)];
    const last = Buffer.concat([len(0), ...mere, len(0), len(0)]);
    for (const value of [entry(15, last), entry(7, mere[0]!, len(2), mere[1]!, len(0))]) {
      const hints = [Buffer.of(251), ...mere, Buffer.of(244), ...mere, len(0)];
      assert.ok(read([rdb('REDIS0011', ...hints, value)]).reader.done);
    }
  });
});

describe('a file that ends early', () => {
  for (const family of ['redis', 'valkey'] as const) {
    it(`every type of ${family}, cut at every byte: the reader waits`, async () => {
      const file = everyTypeFile(family);
      const whole = read([file]).sink.entries;
      assert.equal(whole.length, EVERY_TYPE[family].length);
      for (let at = 0; at < file.length; at++) {
        const { sink, reader } = read([file.subarray(0, at)]);
        assert.equal(reader.done, false);
        assert.deepEqual(sink.entries, whole.slice(0, sink.entries.length));
      }
      await everySplit(file.subarray(0, 400), (chunks) => assert.equal(read(chunks).reader.done, false));
    });

    it(`every type of ${family} with another checksum`, () => {
      const file = everyTypeFile(family);
      for (let at = file.length - 8; at < file.length; at++) {
        const changed = Buffer.from(file);
        changed[at]! ^= 1;
        const error = thrownBy(() => read([changed]));
        assert.ok(error instanceof RdbFormatError);
        assert.deepEqual([error.code, error.offset], ['rdb-checksum', file.length - 8]);
      }
    });
  }
});

interface Written {
  readonly error: CutoverError | null;
  readonly received: readonly (readonly string[])[];
  readonly notes: readonly string[];
}

/** What a target of this release would be sent. */
function written(chunks: readonly Buffer[], major: number, minor: number): Written {
  const socket = new FakeSocket();
  const notes: string[] = [];
  const connection = new TargetConnection(socket.asSocket(), {
    reply: () => {},
    nestedError: () => {},
    progress: () => {},
    lost: (error) => {
      throw error;
    },
  });
  const listener = { aux: () => {}, note: (message: string) => void notes.push(message) };
  const capabilities = capabilitiesOf({ major, minor });
  const writer = new SnapshotWriter(capabilities, listener, null, null, new Losses(true));
  writer.attach(connection);
  const feeding = new Feeding(Buffer.concat(chunks), 1 << 20, { sink: writer });
  const error = thrownBy(() => {
    let received = 0;
    for (const chunk of chunks) {
      received += chunk.length;
      feeding.arrive(received);
    }
    connection.out.flush();
  });
  return { error, received: socket.received, notes };
}

const fileOf = (type: number, value: Buffer, family: RdbFamily = 'redis'): Buffer =>
  rdb(MAGIC[family], entry(type, value));

describe('on the way to a target that takes older forms only', () => {
  it('every sound value goes there, but for arrays', () => {
    for (const family of ['redis', 'valkey'] as const) {
      for (const { type, value } of EVERY_TYPE[family]) {
        const { error } = written([fileOf(type, value, family)], 5, 0);
        assert.equal(error?.code ?? null, type === 28 ? 'target-lacks-type' : null, `type ${type}: ${error}`);
      }
    }
  });

  const OLD = [5, 0] as const;
  const OLDEST = [2, 8] as const;
  const fields = (...all: Buffer[][]): Buffer => Buffer.concat([len(all.length), ...all.flat()]);
  const streamOf = (parts: StreamParts): Buffer => stream(3, parts);
  const owned = (pending: number[], ...held: [string, number[]][]): StreamParts => ({
    groups: [{ pending, consumers: held }],
  });
  /** Where the first group of such a stream begins, behind its number. */
  const groupAt = streamOf({ groups: [] }).length;
  const lying = (container: Buffer, length: number): Buffer => {
    container.writeUInt32LE(length);
    return container;
  };

  const cases: readonly (readonly [
    what: string,
    type: number,
    value: Buffer,
    at: number,
    message: RegExp,
    target?: readonly [major: number, minor: number],
    family?: RdbFamily,
  ])[] = [
    ['a field twice', 16, str(listpack(['a', '1', 'b', '1', 'a', '2'])), 0, /twice/],
    ['a field twice, once as a number', 16, str(listpack(['7', 'v', 7, 'v'])), 0, /twice/],
    ['a member of a set twice', 20, str(listpack(['a', 'b', 'a'])), 0, /twice/],
    ['a member of a sorted set twice', 17, str(listpack(['a', '1', 'a', '2'])), 0, /twice/],
    [
      'a member of a sorted set twice, as a table',
      5,
      fields([str('a'), f64(1)], [str('a'), f64(2)]),
      11,
      /twice/,
      OLDEST,
    ],
    [
      'an expiring field twice, 22',
      22,
      fields([len(LATER_MS), str('f'), str('v')], [len(0), str('f'), str('w')]),
      14,
      /twice/,
    ],
    ['an expiring field twice, 23', 23, str(listpack(['f', 'v', LATER_MS, 'f', 'w', 0])), 0, /twice/],
    [
      'an expiring field twice, 24',
      24,
      Buffer.concat([i64(LATER_MS), fields([len(1), str('f'), str('v')], [len(0), str('f'), str('w')])]),
      14,
      /twice/,
    ],
    [
      'an expiring field twice, 25',
      25,
      Buffer.concat([i64(LATER_MS), str(listpack(['f', 'v', LATER_MS, 'f', 'w', 0]))]),
      8,
      /twice/,
    ],
    [
      'an expiring field twice, Valkey',
      22,
      fields([str('f'), str('v'), i64(LATER_MS)], [str('f'), str('w'), i64(-1)]),
      13,
      /twice/,
      OLD,
      'valkey',
    ],
    ['a field without a value', 16, str(listpack(['a', '1', 'b'])), 0, /pair/],
    ['a member without a score', 17, str(listpack(['a', '1', 'b'])), 0, /pair/],
    ['a field without its expiry', 23, str(listpack(['a', '1'])), 0, /lacks/],
    ['a score that is NaN, as text', 17, str(listpack(['a', 'nan'])), 0, /score/],
    ['a score that is no number', 17, str(listpack(['a', '1x'])), 0, /score/],
    ['a score that is NaN', 5, fields([str('a'), f64(Number.NaN)]), 3, /NaN/, OLDEST],
    ['an expiry that is no number', 23, str(listpack(['f', 'v', 'soon'])), 0, /expiry/],
    ['an expiry of 2^63', 22, fields([len(2n ** 63n), str('f'), str('v')]), 1, /expiry/],
    [
      'an expiry of 2^63 behind the first one',
      24,
      Buffer.concat([i64(LATER_MS), fields([len(2n ** 63n), str('f'), str('v')])]),
      9,
      /expiry/,
    ],
    [
      'an earliest expiry of 2^63',
      24,
      Buffer.concat([i64(-(2n ** 63n)), fields([len(1), str('f'), str('v')])]),
      0,
      /out of range/,
    ],
    ['a listpack with more elements than it says', 16, str(listpack(['a', '1', 'b', '2'], 2)), 0, /count/],
    ['a listpack with fewer elements than it says', 16, str(listpack(['a', '1'], 4)), 0, /count/],
    ['a listpack that is longer than it says', 20, str(lying(listpack(['a']), 9)), 0, /length/],
    ['a listpack that is shorter than it says', 20, str(lying(listpack(['a']), 2 ** 32 - 1)), 0, /length/],
    ['a listpack of a few bytes', 20, str('abc'), 0, /listpack/],
    ['a node of an unknown kind', 18, Buffer.concat([len(1), len(3), str(listpack(['a']))]), 1, /container/],
    [
      'a second node that lies about its length',
      18,
      Buffer.concat([len(2), len(2), str(listpack(['a'])), len(2), str(lying(listpack(['a']), 99))]),
      13,
      /length/,
    ],
    [
      'a ziplist that lies about its length',
      14,
      Buffer.concat([len(1), str(lying(ziplist(['a']), 99))]),
      1,
      /length/,
      OLDEST,
    ],
    ['a listpack of many megabytes out of a few bytes', 16, lzfStr(17 * MB, 0x61), 0, /too long/],
    [
      'a node of a stream without an id',
      21,
      streamOf({ nodes: [[Buffer.from('abc'), listpack(['a'])]] }),
      1,
      /id/,
    ],
    [
      'the same node of a stream twice',
      21,
      streamOf({ nodes: [streamNode(1, ['a']), streamNode(1, ['b'])] }),
      1 + 17 + str(streamNode(1, ['a'])[1]).length,
      /twice/,
    ],
    [
      'a node of a stream that holds nothing',
      21,
      streamOf({ nodes: [[streamId(1), listpack([])]] }),
      18,
      /nothing/,
    ],
    [
      'a node of a stream that is none',
      21,
      streamOf({ nodes: [[streamId(1), Buffer.from('x')]] }),
      18,
      /listpack/,
    ],
    [
      'a node of a stream that lies about its length',
      21,
      streamOf({ nodes: [[streamId(1), lying(listpack([0, 1]), 2 ** 31)]] }),
      18,
      /length/,
    ],
    [
      'a group twice',
      21,
      streamOf({ groups: [1, 2].map(() => ({ pending: [], consumers: [] })) }),
      groupAt + 7,
      /twice/,
    ],
    ['a pending entry twice', 21, streamOf(owned([1, 1], ['c', [1]])), groupAt + 6 + 25, /twice/],
    [
      'an entry of a consumer that is not pending',
      21,
      streamOf(owned([1], ['c', [2]])),
      groupAt + 51,
      /pending/,
    ],
    [
      'a pending entry of two consumers',
      21,
      streamOf(owned([1], ['c', [1]], ['d', [1]])),
      groupAt + 86,
      /twice/,
    ],
    ['a consumer twice', 21, streamOf(owned([1], ['c', [1]], ['c', []])), groupAt + 67, /twice/],
    [
      'a pending entry that somebody and nobody holds',
      27,
      stream(5, { groups: [{ pending: [1], consumers: [['c', [1]]], nacked: [1] }] }),
      groupAt + 68,
      /twice/,
    ],
  ];

  for (const [what, type, value, at, message, [major, minor] = OLD, family] of cases) {
    it(what, async () => {
      const file = fileOf(type, value, family);
      const whole = written([file], major, minor);
      // a long one whole only: cut, it goes the same way
      const ways = file.length > 4096 ? [[file]] : [];
      const look = (chunks: readonly Buffer[]): void => {
        const { error, received } = written(chunks, major, minor);
        assert.ok(error instanceof RdbFormatError, `it was taken: ${received.join(' ')}`);
        assert.match(error.message, message);
        assert.equal(error.message, whole.error?.message);
        assert.equal(error.offset, VALUE_AT + at);
        // a server of these releases can end itself by it
        assert.deepEqual(received, []);
      };
      const most = process.memoryUsage().arrayBuffers + 200 * MB;
      for (const way of ways) look(way);
      if (ways.length === 0) await everySplit(file, look);
      assert.ok(process.memoryUsage().arrayBuffers < most);
    });
  }
});

describe('collections without elements', () => {
  const none = str(listpack([]));
  const emptyZiplist = str(ziplist([]));
  const cases: readonly (readonly [type: number, value: Buffer, family?: RdbFamily])[] = [
    ...[1, 2, 3, 4, 5, 14, 18, 22].map((type) => [type, len(0)] as const),
    // a count may be written in more bytes than it takes
    ...[1, 14].flatMap((type) => ([14, 32, 64] as const).map((bits) => [type, len(0, bits)] as const)),
    ...[16, 17, 20, 23].map((type) => [type, none] as const),
    ...[10, 12, 13].map((type) => [type, emptyZiplist] as const),
    ...[2, 4, 8].map((width) => [11, str(intset(width, []))] as const),
    [9, str(Buffer.of(0, 255))],
    [14, Buffer.concat([len(2), emptyZiplist, emptyZiplist])],
    [18, Buffer.concat([len(2), len(2), none, len(2), none])],
    [24, Buffer.concat([i64(LATER_MS), len(0)])],
    [25, Buffer.concat([i64(LATER_MS), none])],
    [22, len(0), 'valkey'],
  ];
  for (const [type, value, family = 'redis'] of cases) {
    it(`type ${type} of ${family}, ${value.toString('hex')}`, async () => {
      await everySplit(fileOf(type, value, family), (chunks) => {
        for (const [major, minor] of [
          [2, 8],
          [8, 8],
        ] as const) {
          const { error, received, notes } = written(chunks, major, minor);
          assert.equal(error, null);
          assert.deepEqual(received, []);
          assert.match(notes.join(), /without any element/);
        }
      });
    });
  }

  it('what only looks like one goes to the target', () => {
    const one = str(listpack(['a']));
    for (const [type, value] of [
      // an empty text is an element
      [1, Buffer.concat([len(1), str('')])],
      [18, Buffer.concat([len(1), len(1), str('')])],
      [18, Buffer.concat([len(2), len(2), none, len(2), one])],
      [14, Buffer.concat([len(2), emptyZiplist, str(ziplist(['a']))])],
      // damaged: who loads them may judge
      [11, str(intset(2, [], 5))],
      [16, str(listpack([], 2))],
      [13, str(ziplist([], 2))],
      [15, stream(1, { nodes: [] })],
    ] as const) {
      const { error, received, notes } = written([fileOf(type, value)], 8, 8);
      assert.equal(error, null);
      assert.deepEqual(received.at(-1)?.slice(0, 2), ['RESTORE', 'k'], `type ${type}`);
      assert.deepEqual(notes, []);
    }
  });
});

it('a key twice: the later one stays, where servers end themselves', async () => {
  const file = rdb('REDIS0011', entry(0, str('1')), entry(4, len(1), str('f'), str('v')), entry(0, str('2')));
  await everySplit(file, (chunks) => {
    const { error, received } = written(chunks, 7, 0);
    assert.equal(error, null);
    const sent = received.map((words) => words.filter((word) => /^[\w ]+$/.test(word)).join(' '));
    assert.deepEqual(sent, ['SELECT 0', 'SET k 1', 'RESTORE k 0 REPLACE', 'SET k 2']);
  });
});
