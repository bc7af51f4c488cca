/** Files that lie: every claim is refused where it stands, before anything is allocated or waited for because of it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RdbFormatError } from '../../../src/core/errors.ts';
import { ElementReader } from '../../../src/rdb/elements.ts';
import { len, lzfStr, rdb, str, u32 } from './build.ts';
import { Feeding, Recorder, read } from './records.ts';
import { rdbFixtures, withoutFixtures } from './support.ts';

const MB = 1 << 20;
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const entry = (type: number, ...value: readonly Buffer[]): Buffer =>
  Buffer.concat([Buffer.from([type]), str('k'), ...value]);
/** Behind the magic and the head of entry(). */
const VALUE_AT = 9 + 3;

/** The error that these bytes end in; null where none does: they end too early, or well. */
function refusal(work: () => unknown): RdbFormatError | null {
  try {
    work();
    return null;
  } catch (error) {
    assert.ok(error instanceof RdbFormatError, String(error));
    return error;
  }
}

/** Whole, and cut behind each of its bytes. */
function refusedAt(file: Buffer, offset: number, message: RegExp): void {
  const whole = refusal(() => read([file]));
  assert.ok(whole !== null, 'it was taken');
  assert.equal(whole.offset, offset, whole.message);
  assert.match(whole.message, message);
  for (let at = 1; at < file.length; at++) {
    const cut = refusal(() => read([file.subarray(0, at), file.subarray(at)]));
    assert.equal(cut?.message, whole.message);
  }
}

describe('claims without end', () => {
  const huge = [2n ** 41n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
  const file = (...parts: readonly Buffer[]): Buffer => rdb('REDIS0011', ...parts, Buffer.alloc(64));

  for (const claim of huge) {
    it(`${claim} of anything`, () => {
      const claimed = len(claim);
      refusedAt(file(Buffer.from([0]), claimed), 10, /a string of/);
      for (const type of [0, 16]) refusedAt(file(entry(type, claimed)), VALUE_AT, /a string of/);
      for (const type of [1, 2, 3, 4, 5, 14, 15, 18]) {
        refusedAt(file(entry(type, claimed)), VALUE_AT, /elements/);
      }
      refusedAt(file(entry(15, len(0), len(0), len(0), len(0), claimed)), VALUE_AT + 4, /elements/);
      refusedAt(rdb('REDIS0014', entry(28, claimed, len(0)), Buffer.alloc(64)), VALUE_AT, /elements/);
      for (const lengths of [
        [claimed, len(4)],
        [len(4), claimed],
        [claimed, claimed],
      ]) {
        const lzf = Buffer.concat([Buffer.from([0xc3]), ...lengths]);
        refusedAt(file(Buffer.from([0]), lzf), 10, /LZF/);
        for (const type of [0, 16]) refusedAt(file(entry(type, lzf)), VALUE_AT, /LZF/);
        for (const type of [1, 4]) refusedAt(file(entry(type, len(2), lzf)), VALUE_AT + 1, /LZF/);
        refusedAt(file(Buffer.from([250]), lzf), 10, /LZF/);
      }
      // would become digits of a command
      if (claim >= 2n ** 53n) refusedAt(file(Buffer.from([248]), claimed, entry(0, str('v'))), 10, /idle/);
      refusedAt(file(Buffer.from([254]), claimed, entry(0, str('v'))), 10, /database/);
    });
  }

  it('what must be held as a whole is no longer than any server takes it', () => {
    const claimed = len(2 ** 29 + 1);
    refusedAt(file(Buffer.from([0]), claimed), 10, /too long/);
    for (const opcode of [250, 245]) refusedAt(file(Buffer.from([opcode]), claimed), 10, /too long/);
    refusedAt(file(Buffer.from([250]), str('lua'), claimed), 14, /too long/);
    // a value is passed on in pieces, whatever its length
    assert.equal(
      refusal(() => read([file(entry(0, len(2 ** 33)))])),
      null,
    );
  });

  it('a count that no walk would ever end is a stream field all the same', () => {
    // entries_read is 2^64 - 1 where the server does not know it (7.0)
    const unknown = len(2n ** 64n - 1n);
    const fields = Buffer.concat(Array.from({ length: 8 }, () => len(0)));
    const stream = entry(19, len(0), fields, len(1), str('group'), len(0), len(0), unknown, len(0), len(0));
    assert.ok(read([rdb('REDIS0011', stream)]).reader.done);
  });
});

describe('LZF', () => {
  const claim = (compressed: number, length: number): Buffer =>
    Buffer.concat([Buffer.from([0xc3]), len(compressed), len(length)]);

  it('more than 88 bytes out of one, or less than half of one, is refused by its two lengths', () => {
    for (const type of [0, 9, 13, 16]) {
      refusedAt(rdb('REDIS0011', entry(type, claim(100, 8801), Buffer.alloc(100))), VALUE_AT, /LZF/);
      refusedAt(rdb('REDIS0011', entry(type, claim(100, 49), Buffer.alloc(100))), VALUE_AT, /LZF/);
    }
    // what they hold is the target's to find out
    assert.ok(read([rdb('REDIS0011', entry(16, claim(100, 8800), Buffer.alloc(100)))]).reader.done);
  });

  it('a bomb in a key, an AUX field or a function', () => {
    const bomb = claim(1000, 88_001);
    refusedAt(rdb('REDIS0011', Buffer.from([0]), bomb), 10, /LZF/);
    refusedAt(rdb('REDIS0011', Buffer.from([245]), bomb), 10, /LZF/);
  });
});

describe('a list node above the limit', () => {
  /** Takes a list apart whose only node claims `claimed` bytes and begins with `head`, of which `sent` come. */
  function taken(
    type: number,
    claimed: number,
    head: Buffer,
    sent: number,
  ): { sink: Recorder; most: number } {
    const sink = new Recorder();
    const reader = new ElementReader(sink);
    const value = Buffer.concat([
      len(1),
      ...(type === 18 ? [len(2)] : []),
      len(claimed, 32),
      head,
      Buffer.alloc(sent),
    ]);
    reader.start(type);
    const before = process.memoryUsage().arrayBuffers;
    for (let at = 0; at < value.length; ) {
      const came = reader.run(value, at, value.length, 0);
      if (came === at) break;
      at = came;
    }
    return { sink, most: process.memoryUsage().arrayBuffers - before };
  }

  it('takes memory for what has come, not for what is claimed', () => {
    const claimed = 1000 * MB;
    for (const [type, head] of [
      [18, Buffer.concat([u32(claimed), hex('02 00')])],
      [14, Buffer.concat([u32(claimed), hex('00 00 00 00 02 00')])],
    ] as const) {
      assert.ok(taken(type, claimed, head, 3 * MB).most < 100 * MB);
    }
    const beyond = 1025 * MB;
    const error = refusal(() => taken(18, beyond, Buffer.concat([u32(beyond), hex('02 00')]), 20));
    assert.match(error?.message ?? '', /list node/);
  });

  it('an only element of another length than its node is not begun', () => {
    const claimed = 2 * MB;
    for (const length of [0, 5, claimed - 16, claimed - 14, claimed, 2 ** 32 - 1]) {
      for (const [type, head] of [
        [18, Buffer.concat([u32(claimed), hex('01 00 f0'), u32(length)])],
        [14, Buffer.concat([u32(claimed), hex('0a000000 0100 00 80'), u32(length).reverse()])],
      ] as const) {
        const sink: { began: boolean } = { began: false };
        const error = refusal(() => {
          const recorder = new (class extends Recorder {
            override elementStart(): void {
              sink.began = true;
            }
          })();
          const reader = new ElementReader(recorder);
          const value = Buffer.concat([
            len(1),
            ...(type === 18 ? [len(2)] : []),
            len(claimed, 32),
            head,
            Buffer.alloc(32),
          ]);
          reader.start(type);
          for (let at = 0; at < value.length; ) at = reader.run(value, at, value.length, 0);
        });
        assert.ok(error !== null, `${type} ${length}`);
        assert.equal(sink.began, false, `${type} ${length}`);
      }
    }
  });

  it('a compressed one that holds less than it says', () => {
    const value = Buffer.concat([len(1), len(2), lzfStr(2 * MB, 0x61)]);
    const reader = new ElementReader(new Recorder());
    reader.start(18);
    assert.match(
      refusal(() => {
        for (let at = 0; at < value.length; ) at = reader.run(value, at, value.length, 0);
      })?.message ?? '',
      /another length than its string/,
    );
  });
});

it('an expiry that a double does not hold is the last one that it holds: as a command it must be a number', () => {
  // SET k v PXAT 9223372036854775807 is taken by servers (7.0)
  for (const [text, expected] of [
    ['ff ff ff ff ff ff 1f 00', Number.MAX_SAFE_INTEGER],
    ['01 00 00 00 00 00 20 00', Number.MAX_SAFE_INTEGER],
    ['ff ff ff ff ff ff ff 7f', Number.MAX_SAFE_INTEGER],
  ] as const) {
    const [found] = read([rdb('REDIS0011', hex('fc'), hex(text), entry(0, str('v')))]).sink.entries;
    assert.equal(found?.expireAtMs, expected);
  }
});

it('no control character of the file reaches a message', () => {
  for (const magic of ['REDIS\x7f\x9b12', '\x1b[2J\x1b[2J\n', '\u009b0000011x']) {
    const message = refusal(() => read([Buffer.from(magic, 'latin1')]))?.message ?? '';
    assert.match(message, /no RDB begins with/);
    assert.doesNotMatch(message, /[\x00-\x1f\x7f-\x9f]/);
  }
});

describe('the collection of real files', { skip: withoutFixtures }, () => {
  it('the corrupt ones: a classed error, or values that the target will judge', () => {
    const outcome = new Map<string, string>();
    for (const { name, bytes, columns } of rdbFixtures()) {
      if (/^valid/.test(columns[6]!) && !name.endsWith('rdb987.rdb')) continue;
      const feeding = new Feeding(bytes);
      const error = refusal(() => feeding.arrive(bytes.length));
      assert.ok(error === null || (error.offset >= 0 && error.offset <= bytes.length));
      outcome.set(name, error?.code ?? (feeding.reader.done ? 'taken' : 'waits'));
    }
    const empty = 'redis_redis/corrupt_empty_keys';
    assert.deepEqual(Object.fromEntries(outcome), {
      'redis_librdb/future_v19.rdb': 'rdb-version',
      'redis_librdb/invalid_chksum_v8.rdb': 'rdb-checksum',
      // of Redis Enterprise: its addition is known
      'redis_librdb/redis_ent_opcode_ram_lru.rdb': 'taken',
      'redis_redis/array-32bit.2e997c9.rdb': 'rdb-unknown-type',
      'valkey-io_valkey/encodings-rdb75-unknown-types.rdb': 'rdb-version',
      'valkey-io_valkey/encodings-rdb987-unknown-types.rdb': 'rdb-version',
      'valkey-io_valkey/encodings-rdb987.rdb': 'rdb-version',
      // wrong inside of values, which are cut by extent: RESTORE looks into them
      'HDT3213_rdb/zipmap_big_len.rdb': 'taken',
      'redis_redis/corrupt_ziplist.rdb': 'taken',
      [`${empty}.rdb`]: 'taken',
      [`${empty}.8f260d4.rdb`]: 'taken',
      [`${empty}.bc2b4f2.rdb`]: 'taken',
      [`${empty}.c28c650.rdb`]: 'taken',
    });
  });

  it('cut at every byte, each of the small ones waits for more', () => {
    let cuts = 0;
    for (const { bytes, columns } of rdbFixtures()) {
      if (!/^valid/.test(columns[6]!) || bytes.length > 700) continue;
      const feeding = new Feeding(bytes);
      if (refusal(() => feeding.arrive(bytes.length)) !== null) continue;
      // what may follow an AOF's snapshot is not a part of it
      const end = feeding.reader.position;
      for (let at = 0; at < end; at++) {
        const cut = read([bytes.subarray(0, at)]);
        assert.equal(cut.reader.done, false);
        assert.ok(cut.reader.position <= at);
        cuts++;
      }
    }
    assert.ok(cuts > 10_000, `${cuts} cuts`);
  });
});
