import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { RdbFormatError } from '../../../src/core/errors.ts';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { payloadLength, stampOf, writeFooter } from '../../../src/rdb/dump-payload.ts';
import type { VisitElement } from '../../../src/rdb/encodings/element.ts';
import { forEachIntset } from '../../../src/rdb/encodings/intset.ts';
import { forEachListpack } from '../../../src/rdb/encodings/listpack.ts';
import { forEachQuicklistNode } from '../../../src/rdb/encodings/quicklist.ts';
import { forEachZiplist } from '../../../src/rdb/encodings/ziplist.ts';
import { forEachZipmap } from '../../../src/rdb/encodings/zipmap.ts';
import { Cursor, dumpFixtures, rdbFixtures, startServer, walk, withoutFixtures } from './support.ts';

type ForEach = (bytes: Buffer, start: number, end: number, visit: VisitElement, base: number) => number;

/** All elements, walked in the middle of a larger buffer so that a wrong bound shows. */
function elements(forEach: ForEach, container: Buffer): Buffer[] {
  const around = Buffer.concat([Buffer.alloc(5, 0xff), container, Buffer.alloc(9, 0xff)]);
  const seen: Buffer[] = [];
  const count = forEach(
    around,
    5,
    5 + container.length,
    (bytes, start, end) => seen.push(Buffer.from(bytes.subarray(start, end))),
    1000,
  );
  assert.equal(count, seen.length);
  return seen;
}

function texts(forEach: ForEach, container: Buffer): string[] {
  return elements(forEach, container).map(String);
}

const CONTAINERS: Readonly<Record<number, ForEach>> = {
  9: forEachZipmap,
  10: forEachZiplist,
  11: forEachIntset,
  12: forEachZiplist,
  13: forEachZiplist,
  16: forEachListpack,
  17: forEachListpack,
  20: forEachListpack,
};

/** The elements of a whole value of types 9 to 14, 16 to 18 and 20; null: another type. */
function elementsOfValue(type: number, value: Buffer): Buffer[] | null {
  const cursor = new Cursor(value, 0);
  const container = CONTAINERS[type];
  if (container !== undefined) return elements(container, cursor.string());
  if (type !== 14 && type !== 18) return null;
  const all: Buffer[] = [];
  cursor.times(cursor.length(), () => {
    const kind = type === 18 ? cursor.length() : 0;
    const node: ForEach = kind === 0 ? forEachZiplist : (...rest) => forEachQuicklistNode(kind, ...rest);
    all.push(...elements(node, cursor.string()));
  });
  return all;
}

function refused(forEach: ForEach, container: Buffer, message?: RegExp): void {
  assert.throws(
    () => elements(forEach, container),
    (error) =>
      error instanceof RdbFormatError && error.offset === 1005 && (message?.test(error.message) ?? true),
  );
  // Where nothing follows in memory, a read beyond the end would be a RangeError.
  const alone = Uint8Array.from(container).buffer;
  assert.throws(() => forEach(Buffer.from(alone), 0, container.length, () => {}, 0), RdbFormatError);
}

const u16 = (value: number) => [value & 255, value >> 8];
const u32 = (value: number) => [...u16(value & 0xffff), ...u16(value >>> 16)];
const text = (value: string) => [...Buffer.from(value)];

/** A ziplist of encoded entries (without their first field); `count` as written, by default the true one. */
function ziplist(entries: readonly (readonly number[])[], count = entries.length): Buffer {
  const body: number[] = [];
  let previous = 0;
  let tail = 10;
  for (const entry of entries) {
    tail = 10 + body.length;
    const prefix = previous < 254 ? [previous] : [254, ...u32(previous)];
    body.push(...prefix, ...entry);
    previous = prefix.length + entry.length;
  }
  return Buffer.from([...u32(11 + body.length), ...u32(tail), ...u16(count), ...body, 255]);
}

describe('ziplist', () => {
  test('every encoding', () => {
    const long = 'y'.repeat(20_000);
    const medium = 'x'.repeat(300);
    const list = ziplist([
      [0x00],
      [0x03, ...text('abc')],
      [0x40 | (300 >> 8), 300 & 255, ...text(medium)],
      [0x80, 0, 0, 20_000 >> 8, 20_000 & 255, ...text(long)],
      [0xf1],
      [0xfd],
      [0xfe, 0x80],
      [0xc0, 0x00, 0x80],
      [0xf0, 0x00, 0x00, 0x80],
      [0xf0, 0xff, 0xff, 0x7f],
      [0xd0, 0x00, 0x00, 0x00, 0x80],
      [0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80],
      [0xe0, 255, 255, 255, 255, 255, 255, 255, 0x7f],
      [0xe0, 1, 0, 0, 0, 0, 0, 32, 0],
    ]);
    assert.deepEqual(texts(forEachZiplist, list), [
      ...['', 'abc', medium, long, '0', '12', '-128', '-32768', '-8388608', '8388607', '-2147483648'],
      ...['-9223372036854775808', '9223372036854775807', '9007199254740993'],
    ]);
  });

  test('more elements than the count field can say', () => {
    const many = Array.from({ length: 70_000 }, () => [0xf2]);
    assert.equal(elements(forEachZiplist, ziplist(many, 65_535)).length, 70_000);
    refused(forEachZiplist, ziplist(many, 70_000 - 65_536), /count/);
  });

  test('an empty one, and a long form of a short previous length', () => {
    assert.deepEqual(texts(forEachZiplist, ziplist([])), []);
    const list = Buffer.from([...u32(20), ...u32(12), ...u16(2), 0, 0xf1, 254, ...u32(2), 0xf2, 255, 255]);
    assert.deepEqual(texts(forEachZiplist, Buffer.from([...u32(19), ...list.subarray(4, 18), 255])), [
      '0',
      '1',
    ]);
  });

  test('wrong fields are refused', () => {
    const good = ziplist([[1, 97], [0xf3], [2, 98, 99]]);
    const changed = (at: number, value: number) => Buffer.from(good).fill(value, at, at + 1);
    assert.deepEqual(texts(forEachZiplist, good), ['a', '2', 'bc']);
    refused(forEachZiplist, changed(0, good.length + 1), /length field/);
    refused(forEachZiplist, changed(4, 10), /tail/);
    refused(forEachZiplist, changed(8, 4), /count/);
    refused(forEachZiplist, changed(good.length - 1, 0), /end mark/);
    refused(forEachZiplist, changed(13, 4), /before it/);
    refused(forEachZiplist, changed(13, 255), /end mark/);
    refused(forEachZiplist, changed(14, 0xee), /encoding 0xee/);
    refused(forEachZiplist, changed(11, 0x3f), /over the end/);
    // The end mark must not pass for the last byte of an entry.
    for (const entry of [
      [0xc0, 5],
      [0xfe],
      [0xf0, 1, 2],
      [0xe0, 1, 2, 3, 4, 5, 6, 7],
      [0x01],
      [0x40, 1],
      [0x80, 0, 0, 0],
    ]) {
      refused(forEachZiplist, ziplist([entry]), /over the end/);
    }
    refused(forEachZiplist, Buffer.from([...u32(14), ...u32(10), ...u16(1), 254, 1, 2, 255]), /over the end/);
    refused(forEachZiplist, Buffer.from([...u32(12), ...u32(10), ...u16(1), 0, 255]), /encoding 0xff/);
  });
});

describe('listpack', () => {
  test('more elements than the count field can say', () => {
    const body = Buffer.alloc(2 * 70_000, Buffer.from([5, 1]));
    const pack = (count: number) => Buffer.from([...u32(7 + body.length), ...u16(count), ...body, 255]);
    assert.equal(elements(forEachListpack, pack(65_535)).length, 70_000);
    refused(forEachListpack, pack(70_000 - 65_536), /count/);
  });

  test('wrong fields are refused', () => {
    const pack = Buffer.from([...u32(15), ...u16(3), 5, 1, 0x81, 97, 2, 0xc0 | 31, 255, 2, 255]);
    assert.deepEqual(texts(forEachListpack, pack), ['5', 'a', '-1']);
    const changed = (at: number, value: number) => Buffer.from(pack).fill(value, at, at + 1);
    refused(forEachListpack, changed(0, 14), /length field/);
    refused(forEachListpack, changed(4, 2), /count/);
    refused(forEachListpack, changed(7, 2), /two lengths/);
    refused(forEachListpack, changed(8, 0xbf), /over the end/);
    refused(forEachListpack, changed(8, 0xf5), /encoding 0xf5/);
    refused(forEachListpack, changed(8, 0xff), /encoding 0xff/);
    refused(forEachListpack, changed(11, 0xf0), /over the end/);
    refused(forEachListpack, changed(14, 0), /end mark/);
    // The end mark must not pass for the last byte of an entry: here a backward length of 01 FF.
    const body = [0xe0, 253, ...text('x'.repeat(253)), 1];
    refused(forEachListpack, Buffer.from([...u32(7 + body.length), ...u16(1), ...body, 255]), /over the end/);
    for (const entry of [[0xf0, 1, 0, 0], [0xf4, 1], [0xe1], [0xc1], [0x81], [5]]) {
      refused(forEachListpack, Buffer.from([...u32(7 + entry.length), ...u16(1), ...entry, 255]));
    }
  });
});

describe('intset', () => {
  const intset = (width: number, count: number, bytes: readonly number[]) =>
    Buffer.from([...u32(width), ...u32(count), ...bytes]);

  test('widths and limits', () => {
    assert.deepEqual(texts(forEachIntset, intset(2, 2, [0, 0x80, 255, 0x7f])), ['-32768', '32767']);
    const wide = [0, 0, 0, 0, 0, 0, 0, 0x80, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 32, 0];
    assert.deepEqual(texts(forEachIntset, intset(8, 3, wide)), [
      '-9223372036854775808',
      '-1',
      '9007199254740993',
    ]);
  });

  test('wrong fields are refused', () => {
    refused(forEachIntset, intset(2, 3, [0, 0, 1, 0]), /count/);
    refused(forEachIntset, intset(2, 0xffffffff, [0, 0, 1, 0]), /count/);
    refused(forEachIntset, intset(3, 1, [0, 0, 1]), /width/);
    refused(forEachIntset, intset(2, 2, [1, 0, 1, 0]), /order/);
    refused(forEachIntset, intset(4, 2, [0, 0, 0, 0, 255, 255, 255, 255]), /order/);
    refused(forEachIntset, Buffer.from([2, 0, 0]), /short/);
    const low = (value: number) => [...u32(value), ...u32(7)];
    refused(forEachIntset, intset(8, 2, [...low(2), ...low(1)]), /order/);
    refused(forEachIntset, intset(8, 2, [...low(0x80000000), ...low(1)]), /order/);
    assert.equal(elements(forEachIntset, intset(8, 2, [...low(1), ...low(0x80000000)])).length, 2);
  });
});

describe('zipmap', () => {
  test('pairs, unused bytes and long lengths', () => {
    const long = 'z'.repeat(300);
    const map = Buffer.from([
      ...[2, 1, ...text('a'), 2, 3, ...text('bc'), 0, 0, 0],
      ...[2, ...text('kk'), 254, ...u32(300), 0, ...text(long), 255],
    ]);
    assert.deepEqual(texts(forEachZipmap, map), ['a', 'bc', 'kk', long]);
    const uncounted = Buffer.from(map).fill(254, 0, 1);
    assert.equal(elements(forEachZipmap, uncounted).length, 4);
    assert.deepEqual(texts(forEachZipmap, Buffer.from([0, 255])), []);
  });

  test('wrong fields are refused', () => {
    const map = Buffer.from([1, 1, 97, 1, 0, 98, 255]);
    assert.deepEqual(texts(forEachZipmap, map), ['a', 'b']);
    const changed = (at: number, value: number) => Buffer.from(map).fill(value, at, at + 1);
    refused(forEachZipmap, changed(0, 2), /count/);
    refused(forEachZipmap, changed(1, 5), /over the end/);
    refused(forEachZipmap, changed(3, 2), /over the end/);
    refused(forEachZipmap, changed(4, 1), /over the end/);
    refused(forEachZipmap, changed(1, 255), /before the end/);
    refused(forEachZipmap, changed(6, 0), /end mark/);
    refused(forEachZipmap, Buffer.from([1, 1, 97, 255]), /without a value/);
    refused(forEachZipmap, Buffer.from([1, 1, 97, 1, 255]), /over the end/);
    refused(forEachZipmap, Buffer.from([1, 254, 1, 0, 255]), /over the end/);
    refused(forEachZipmap, Buffer.from([1, 1, 97, 254, 0, 0, 0, 255]), /over the end/);
    // Redis 8.2.3 takes these, and reads other pairs out of them; Valkey 9.1.2 refuses them
    refused(forEachZipmap, Buffer.from([1, 254, ...u32(1), 97, 1, 0, 98, 255]), /longer form/);
    refused(forEachZipmap, Buffer.from([1, 1, 97, 254, ...u32(1), 0, 98, 255]), /longer form/);
  });
});

test('an integer stays readable while the next seven elements are visited', () => {
  const list = ziplist(Array.from({ length: 13 }, (_, i) => [0xf1 + i]));
  const held: string[] = [];
  const slices: Buffer[] = [];
  forEachZiplist(
    list,
    0,
    list.length,
    (bytes, start, end) => {
      slices.push(bytes.subarray(start, end));
      if (slices.length > 7) held.push(slices.at(-8)!.toString());
    },
    0,
  );
  assert.deepEqual(held, ['0', '1', '2', '3', '4', '5']);
});

test('a quicklist node of an unknown container, or without content, is refused', () => {
  refused((...rest) => forEachQuicklistNode(3, ...rest), Buffer.from('x'), /container 3/);
  refused((...rest) => forEachQuicklistNode(1, ...rest), Buffer.alloc(0), /empty node/);
});

describe('any change of any byte ends in elements or a refusal', () => {
  const entry = fc.oneof(
    fc.string({ maxLength: 20 }).map((value) => {
      const bytes = text(value).slice(0, 60);
      return [bytes.length, ...bytes];
    }),
    fc.integer({ min: 0xf1, max: 0xfd }).map((code) => [code]),
    fc.integer({ min: 0, max: 255 }).map((low) => [0xc0, low, 1]),
  );
  const seeds: Readonly<Record<string, [ForEach, fc.Arbitrary<Buffer>]>> = {
    ziplist: [forEachZiplist, fc.array(entry, { maxLength: 12 }).map((list) => ziplist(list))],
    listpack: [
      forEachListpack,
      fc.array(fc.nat(127), { maxLength: 20 }).map((numbers) => {
        const body = numbers.flatMap((number) =>
          number % 2 === 0 ? [number, 1] : [0x82, number, number, 3],
        );
        return Buffer.from([...u32(7 + body.length), ...u16(numbers.length), ...body, 255]);
      }),
    ],
    zipmap: [forEachZipmap, fc.constant(Buffer.from([2, 1, 97, 1, 0, 98, 2, 99, 99, 3, 1, 1, 2, 3, 0, 255]))],
    intset: [forEachIntset, fc.constant(Buffer.from([...u32(4), ...u32(2), 1, 0, 0, 0, 2, 0, 0, 0]))],
  };
  for (const [name, [forEach, seed]] of Object.entries(seeds)) {
    test(name, () => {
      const change = fc.tuple(fc.nat(100), fc.nat(255));
      fc.assert(
        fc.property(seed, fc.array(change, { maxLength: 3 }), (container, changes) => {
          if (changes.length === 0) elements(forEach, container);
          const broken = Buffer.from(container);
          for (const [at, value] of changes) broken[at % broken.length] = value;
          let found = -1;
          try {
            found = elements(forEach, broken).length;
          } catch (error) {
            assert.ok(error instanceof RdbFormatError, String(error));
          }
          if (found < 0) refused(forEach, broken);
        }),
        { numRuns: 1500 },
      );
    });
  }
});

describe('against a real server', () => {
  let server: { client: Redis; close: () => Promise<void> };
  before(async () => {
    server = await startServer(
      ...['--rdbcompression', 'no', '--list-max-listpack-size', '-5', '--proto-max-bulk-len', '16mb'],
      ...['--hash-max-listpack-value', '100000', '--hash-max-listpack-entries', '100000'],
      ...['--sanitize-dump-payload', 'yes', '--enable-debug-command', 'yes'],
    );
  });
  after(() => server.close());

  /** Integers at all the limits of the encodings, and strings at those of their lengths. */
  const integer = fc
    .tuple(
      fc.constantFrom(7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 53, 63),
      fc.integer({ min: -2, max: 1 }),
      fc.boolean(),
    )
    .map(([bits, delta, negative]) => {
      const value = 2n ** BigInt(bits) + BigInt(delta);
      const signed = negative ? -value : value;
      return String(BigInt.asIntN(64, signed));
    });
  const length = fc.constantFrom(0, 1, 62, 63, 64, 65, 120, 126, 127, 128, 250, 255, 4094, 4095, 4096, 5000);
  const word = fc.oneof(
    integer,
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
    fc.tuple(length, fc.constantFrom('a', '0', '-', '\u00ff')).map(([size, char]) => char.repeat(size)),
    fc.string({ maxLength: 30 }),
  );

  async function dumped(key: string): Promise<{ type: number; found: Buffer[] | null }> {
    const payload = await server.client.dumpBuffer(key);
    return { type: payload[0]!, found: elementsOfValue(payload[0]!, payload.subarray(1, -10)) };
  }

  test('lists: listpack nodes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(word, { minLength: 1, maxLength: 60 }), async (words) => {
        await server.client.del('list');
        await server.client.rpush('list', ...words);
        const { type, found } = await dumped('list');
        assert.equal(type, 18);
        assert.deepEqual(found?.map(String), words);
      }),
      { numRuns: 150 },
    );
  });

  test('hashes: listpack pairs', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(word, word, { minKeys: 1, maxKeys: 40 }), async (fields) => {
        const pairs = Object.entries(fields).flat();
        await server.client.del('hash');
        await server.client.call('HSET', 'hash', ...pairs);
        const { type, found } = await dumped('hash');
        assert.equal(type, 16);
        assert.deepEqual(found?.map(String), pairs);
      }),
      { numRuns: 100 },
    );
  });

  test('sets: intsets of all widths', async () => {
    const members = fc.constantFrom(15n, 31n, 63n).chain((bits) =>
      fc.uniqueArray(fc.bigInt({ min: -(2n ** bits), max: 2n ** bits - 1n }), {
        minLength: 1,
        maxLength: 50,
      }),
    );
    await fc.assert(
      fc.asyncProperty(members, async (numbers) => {
        await server.client.del('set');
        await server.client.sadd('set', ...numbers.map(String));
        const { type, found } = await dumped('set');
        assert.equal(type, 11);
        const sorted = [...numbers].sort((a, b) => (a < b ? -1 : 1));
        assert.deepEqual(found?.map(String), sorted.map(String));
      }),
      { numRuns: 100 },
    );
  });

  test('elements at the limits of the backward length', async () => {
    // 16,383 is where Redis itself takes three bytes although two would do; likewise 2,097,151.
    for (const entryBytes of [16_382, 16_383, 16_384, 2_097_150, 2_097_151, 2_097_152]) {
      const value = 'v'.repeat(entryBytes - 5);
      await server.client.config('SET', 'hash-max-listpack-value', String(entryBytes));
      await server.client.del('hash');
      await server.client.hset('hash', { before: '1', big: value, after: '-1' });
      const { type, found } = await dumped('hash');
      assert.equal(type, 16);
      assert.deepEqual(found?.map(String), ['before', '1', 'big', value, 'after', '-1'], String(entryBytes));
    }
  });

  test('a listpack of more than 65,534 elements', async () => {
    const fields = Array.from({ length: 33_000 }, (_, i) => [`f${i}`, String(i - 16_000)]);
    await server.client.del('hash');
    await server.client.call('HSET', 'hash', ...fields.flat());
    const { type, found } = await dumped('hash');
    assert.equal(type, 16);
    assert.deepEqual(found?.map(String), fields.flat());
  });

  test('a plain node', async () => {
    const big = 'b'.repeat(70_000);
    // Without this it takes an element of 1 GB.
    await server.client.debug('QUICKLIST-PACKED-THRESHOLD', '64K');
    await server.client.del('list');
    await server.client.rpush('list', 'small', big, '12');
    const { found } = await dumped('list');
    assert.deepEqual(found?.map(String), ['small', big, '12']);
    const cursor = new Cursor(await server.client.dumpBuffer('list'), 1);
    const containers: number[] = [];
    cursor.times(cursor.length(), () => {
      containers.push(cursor.length());
      cursor.string();
    });
    assert.deepEqual(containers, [2, 1, 2]);
  });

  test('the values of real files, as the server reads them', { skip: withoutFixtures }, async () => {
    const { client } = server;
    await client.config('SET', 'list-max-listpack-size', '-2');
    await client.config('SET', 'hash-max-listpack-value', '64');
    await client.config('SET', 'hash-max-listpack-entries', '128');
    const compared = new Map<number, number>();
    const crc = new Crc64();
    for (const { name, bytes, columns } of rdbFixtures()) {
      if (!columns[6]?.includes('valid') || columns[6].includes('EMPTY')) continue;
      for (const { type, value } of walk(bytes)) {
        const found = elementsOfValue(type, value);
        if (found === null || type > 19) continue; // 20 is for 7.2 and later
        const payload = Buffer.alloc(payloadLength(value.length));
        payload[0] = type;
        value.copy(payload, 1);
        crc.reset();
        crc.update(payload, 0, 1 + value.length);
        writeFooter(crc, payload, 1 + value.length, stampOf(type, 'redis')!);
        await client.call('RESTORE', 'copy', '0', payload, 'REPLACE');
        assert.deepEqual(shape(type, found), await readBack(client, type), `${name}, type ${type}`);
        compared.set(type, (compared.get(type) ?? 0) + 1);
      }
    }
    for (const type of [9, 10, 11, 12, 13, 14, 16, 17, 18])
      assert.ok(compared.get(type), `type ${type} was met`);
  });
});

test('the set listpacks of real files', { skip: withoutFixtures }, () => {
  const found = rdbFixtures()
    .filter(({ name }) => /set_lp_v11|set_as_listpack/.test(name))
    .flatMap(({ bytes }) => [...walk(bytes)])
    .map(({ type, value }) => elementsOfValue(type, value)?.length ?? 0);
  assert.ok(found.length > 1 && found.every((count) => count > 0));
});

test('damaged payloads: those of a container are refused, sound ones are not', {
  skip: withoutFixtures,
}, () => {
  let refusals = 0;
  for (const { name, bytes, columns } of dumpFixtures()) {
    const says = columns[3] ?? '';
    const type = bytes[0]!;
    const run = () => elementsOfValue(type, bytes.subarray(1, -10));
    const isContainer = CONTAINERS[type] !== undefined || type === 14 || type === 18;
    if (!isContainer) continue;
    // The index did not look at empty nodes, tail offsets and lengths in a longer form, which is what these are about.
    const sound = says.includes('structurally decodable') && !/015-|051-|089-|091-/.test(name);
    if (sound) run();
    else {
      // A RangeError is the test's own cursor: the damage is around the container.
      assert.throws(run, (error) => error instanceof RdbFormatError || error instanceof RangeError, name);
      refusals++;
    }
  }
  assert.ok(refusals > 10);
});

/** Elements in a form that does not depend on the order where the type has none. */
function shape(type: number, found: readonly Buffer[]): unknown {
  const hex = found.map((element) => element.toString('hex'));
  if (type === 10 || type === 14 || type === 18) return hex;
  if (type === 11) return hex.sort();
  const isZset = type === 12 || type === 17;
  const pairs: [string, string | number][] = [];
  for (let i = 0; i < hex.length; i += 2) {
    pairs.push([hex[i]!, isZset ? Number(found[i + 1]!.toString()) : hex[i + 1]!]);
  }
  return new Map(pairs.sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function readBack(client: Redis, type: number): Promise<unknown> {
  if (type === 10 || type === 14 || type === 18) return shape(type, await client.lrangeBuffer('copy', 0, -1));
  if (type === 11) return shape(type, await client.smembersBuffer('copy'));
  const isZset = type === 12 || type === 17;
  const reply = await (isZset
    ? client.callBuffer('ZRANGE', 'copy', '0', '-1', 'WITHSCORES')
    : client.callBuffer('HGETALL', 'copy'));
  return shape(type, reply as Buffer[]);
}
