/** Where values end: each type's program, in any pieces. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RdbFormatError } from '../../../src/core/errors.ts';
import type { RdbFamily } from '../../../src/rdb/opcodes.ts';
import {
  isSingleString,
  lengthResult,
  MODULE_AUX_PROGRAM,
  OPCODE_PROGRAMS,
  readLength,
  readPlainLength,
  Skipper,
  skipProgram,
  stringBodyLength,
} from '../../../src/rdb/skip.ts';
import { everySplit } from '../../helpers/every-split.ts';
import { len, lzfStr, str } from './build.ts';

type Program = NonNullable<ReturnType<typeof skipProgram>>;

/** Skips in the given pieces as the reader does: what was not used is shown again. Returns what was used. */
function skipped(program: Program, chunks: readonly Buffer[]): number {
  const skipper = new Skipper();
  skipper.start(program);
  let rest = Buffer.alloc(0);
  let used = 0;
  for (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    const at = skipper.run(rest, 0, rest.length, used);
    assert.ok(at <= rest.length);
    used += at;
    rest = rest.subarray(at);
    if (skipper.done) break;
  }
  assert.ok(skipper.done, 'the value ends');
  return used;
}

async function endsAt(program: Program | null, value: Buffer): Promise<void> {
  assert.ok(program !== null);
  await everySplit(Buffer.concat([value, Buffer.from([0xff, 0xff])]), (chunks) => {
    assert.equal(skipped(program, chunks), value.length);
  });
  for (let end = 0; end < value.length; end++) {
    const skipper = new Skipper();
    skipper.start(program);
    assert.ok(skipper.run(value, 0, end, 0) <= end);
    assert.equal(skipper.done, false, `too early, at ${end} of ${value.length}`);
  }
}

const bytes = (count: number): Buffer => Buffer.alloc(count, 0xab);
const strings = (count: number): Buffer =>
  Buffer.concat(
    Array.from(
      { length: count },
      (_, i) => [str('text'), Buffer.from([0xc1, 1, 2]), lzfStr(50, 1), str('')][i % 4]!,
    ),
  );
const big = len(2n ** 64n - 1n);

/** A stream of each generation, with a group, a pending entry, and two consumers (protocol.md 3.4). */
function stream(generation: number): Buffer {
  const since = (first: number, ...parts: Buffer[]): Buffer[] => (generation >= first ? parts : []);
  const consumer = (pending: number): Buffer[] => [
    str('consumer'),
    bytes(8),
    ...since(3, bytes(8)),
    len(pending),
    bytes(16 * pending),
  ];
  return Buffer.concat([
    ...[len(2), bytes(0), str(bytes(16)), str(bytes(30)), str(bytes(16)), lzfStr(100, 1)],
    ...[len(2), len(70_000), len(0)],
    ...since(2, len(1), len(2), big, big, len(2)),
    ...[len(1), str('group'), len(5), len(6)],
    ...since(2, big),
    ...[len(1), bytes(16), bytes(8), len(300)],
    ...[len(2), ...consumer(1), ...consumer(0)],
    ...since(5, len(2), bytes(32)),
    ...since(4, len(100), len(100), len(1), str('producer'), len(1), str('iid'), len(1), big, len(7), len(8)),
  ]);
}

describe('programs', () => {
  const cases: [number, RdbFamily, Buffer][] = [
    [0, 'redis', str('v')],
    [0, 'redis', Buffer.from([0xc2, 1, 2, 3, 4])],
    [0, 'redis', lzfStr(300, 1)],
    [1, 'redis', Buffer.concat([len(5), strings(5)])],
    [2, 'redis', Buffer.concat([len(0)])],
    [
      3,
      'redis',
      Buffer.concat([
        len(4),
        str('a'),
        Buffer.from([3, 49, 46, 53]),
        str('b'),
        Buffer.from([253]),
        str('c'),
        Buffer.from([254]),
        strings(1),
        Buffer.from([255]),
      ]),
    ],
    [4, 'redis', Buffer.concat([len(3), strings(6)])],
    [5, 'redis', Buffer.concat([len(2), str('m'), bytes(8), str('n'), bytes(8)])],
    [
      7,
      'redis',
      Buffer.concat([
        big,
        len(1),
        big,
        len(2),
        len(5),
        len(3),
        bytes(4),
        len(4),
        bytes(8),
        len(5),
        str('s'),
        len(5),
        lzfStr(90, 2),
        len(0),
      ]),
    ],
    ...[9, 10, 11, 12, 13, 16, 17, 20].map(
      (type) => [type, 'redis', str('container')] as [number, RdbFamily, Buffer],
    ),
    [14, 'redis', Buffer.concat([len(2), str('node'), lzfStr(80, 3)])],
    [15, 'redis', stream(1)],
    [18, 'redis', Buffer.concat([len(2), len(1), str('plain'), len(2), lzfStr(80, 3)])],
    [19, 'redis', stream(2)],
    [21, 'valkey', stream(3)],
    [22, 'redis', Buffer.concat([len(2), len(4_102_444_800_000), strings(2), len(0), strings(2)])],
    [22, 'valkey', Buffer.concat([len(2), strings(2), bytes(8), strings(2), bytes(8)])],
    [23, 'redis', str('container')],
    [24, 'redis', Buffer.concat([bytes(8), len(2), len(1), strings(2), len(0), strings(2)])],
    [25, 'redis', Buffer.concat([bytes(8), str('container')])],
    [26, 'redis', stream(4)],
    [27, 'redis', stream(5)],
    [
      28,
      'redis',
      Buffer.concat([
        len(4),
        len(0),
        len(0),
        len(0),
        str('s'),
        len(1),
        len(1),
        bytes(8),
        len(70_000),
        len(2),
        bytes(8),
        len(3),
        len(3),
        Buffer.from([0xc0, 1]),
      ]),
    ],
    [28, 'redis', Buffer.concat([len(1), len(1), len(70_000), len(0), len(0), str('s')])],
    [28, 'redis', Buffer.concat([len(0), len(0)])],
  ];
  for (const [type, family, value] of cases) {
    it(`type ${type} of ${family}, ${value.length} bytes`, () => endsAt(skipProgram(type, family), value));
  }

  it('opcodes that are passed over', async () => {
    await endsAt(MODULE_AUX_PROGRAM, Buffer.concat([big, len(2), len(1), len(5), str('s'), len(0)]));
    await endsAt(OPCODE_PROGRAMS.redis[244] ?? null, Buffer.concat([len(1), len(20_000), len(3)]));
    await endsAt(
      OPCODE_PROGRAMS.valkey[243] ?? null,
      Buffer.concat([str('job'), len(2), len(1), len(2), len(3), len(16_383)]),
    );
    assert.equal(OPCODE_PROGRAMS.redis[243], undefined);
  });

  it('strings at the bound between one byte of length and two', async () => {
    const each = [62, 63, 64, 65, 300].map((length) => str('x'.repeat(length)));
    await endsAt(skipProgram(2, 'redis'), Buffer.concat([len(each.length), ...each]));
  });

  it('one skipper for many values, also behind half of one', () => {
    const skipper = new Skipper();
    skipper.start(skipProgram(19, 'redis')!);
    const half = stream(2).subarray(0, -20);
    skipper.run(half, 0, half.length, 0);
    assert.equal(skipper.done, false);
    const set = Buffer.concat([len(4), strings(4)]);
    for (let i = 0; i < 3; i++) {
      skipper.start(skipProgram(2, 'redis')!);
      assert.equal(skipper.run(Buffer.concat([set, set]), 0, set.length * 2, 0), set.length);
      assert.ok(skipper.done);
    }
  });

  it('types that are not known', () => {
    for (const type of [6, 8, 29, 65, 243, 255]) assert.equal(skipProgram(type, 'redis'), null);
    for (const type of [6, 8, 23, 24, 25, 26, 28]) assert.equal(skipProgram(type, 'valkey'), null);
  });

  it('knows values that are one string', () => {
    const single = (type: number): boolean => isSingleString(skipProgram(type, 'redis')!);
    for (const type of [0, 9, 10, 11, 12, 13, 16, 17, 20, 23]) assert.ok(single(type));
    for (const type of [1, 4, 5, 7, 14, 15, 18, 24, 25, 28]) assert.ok(!single(type));
  });
});

describe('lengths', () => {
  it('of every form, at their bounds', () => {
    const values: [bigint, 6 | 14 | 32 | 64][] = [
      [0n, 6],
      [63n, 6],
      [0n, 14],
      [64n, 14],
      [16_383n, 14],
      [16_384n, 32],
      [2n ** 32n - 1n, 32],
      [2n ** 32n, 64],
      [2n ** 53n - 1n, 64],
    ];
    for (const [value, bits] of values) {
      const header = len(value, bits);
      for (let end = 0; end < header.length; end++) assert.equal(readLength(header, 0, end), -1);
      assert.equal(readLength(header, 0, header.length), Number(value));
      assert.deepEqual(lengthResult, { next: header.length, special: false });
    }
    assert.equal(readLength(len(2n ** 53n), 0, 9), Number.POSITIVE_INFINITY);
    assert.equal(readLength(Buffer.from([0xc3]), 0, 1), 3);
    assert.equal(lengthResult.special, true);
    assert.throws(() => readPlainLength(Buffer.from([0xc1]), 0, 1, 40), /a length was expected.*offset 40/);
  });

  it('of strings', () => {
    const body = (header: Buffer): number => stringBodyLength(header, 0, header.length, 0);
    assert.equal(body(len(300)), 300);
    assert.deepEqual(
      [0xc0, 0xc1, 0xc2].map((form) => body(Buffer.from([form]))),
      [1, 2, 4],
    );
    const lzf = Buffer.concat([Buffer.from([0xc3]), len(70), len(6_000)]);
    for (let end = 0; end < lzf.length; end++) assert.equal(stringBodyLength(lzf, 0, end, 0), -1);
    assert.equal(body(lzf), 70);
    assert.equal(lengthResult.next, lzf.length);
    for (const bad of [Buffer.from([0xc4]), len(2n ** 60n), Buffer.from([0xc3, 0xc0])]) {
      assert.throws(() => body(bad), RdbFormatError);
    }
  });
});

describe('damage', () => {
  it('is an error where it stands, not a wait', () => {
    const run = (type: number, value: Buffer): void => {
      const skipper = new Skipper();
      skipper.start(skipProgram(type, 'redis')!);
      skipper.run(value, 0, value.length, 700);
    };
    const at = (offset: number) => (error: unknown) =>
      error instanceof RdbFormatError && error.offset === offset;
    assert.throws(() => run(4, Buffer.concat([len(2), str('f'), len(2n ** 63n)])), at(703));
    assert.throws(() => run(7, Buffer.concat([len(1), len(6)])), at(701));
    assert.throws(() => run(1, Buffer.from([1, 0xc5])), at(701));
    assert.throws(() => run(18, Buffer.from([1, 0xc0])), at(701));
    assert.throws(() => run(28, Buffer.from([1, 0, 0, 7])), at(702));
  });

  it('a count without end takes no memory', () => {
    const skipper = new Skipper();
    skipper.start(skipProgram(2, 'redis')!);
    const chunk = Buffer.alloc(1 << 16, 0); // empty strings
    assert.equal(skipper.run(len(2n ** 40n), 0, 9, 0), 9);
    for (let i = 0; i < 100; i++) assert.equal(skipper.run(chunk, 0, chunk.length, 9), chunk.length);
    assert.equal(skipper.done, false);
  });
});
