/** The reader against files of real servers, damaged files, and values too big to be held. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { RdbFormatError } from '../../../src/core/errors.ts';
import type { RespConnection } from '../../../src/resp/connection.ts';
import { testClient } from '../../helpers/client.ts';
import { everySplit } from '../../helpers/every-split.ts';
import { type Cleanup, testServer } from '../../helpers/server.ts';
import { len, lzfStr, rdb, str } from './build.ts';
import { Feeding, Recorder, read } from './records.ts';
import { type Fixture, rdbFixtures, withoutFixtures } from './support.ts';

/** Beyond this not every split of a file is tried, but so many. */
const SPLITS = 300;

/** The same records however the bytes are cut, also where each view ends at a small block's end. */
async function sameAtEverySplit(bytes: Buffer): Promise<Feeding> {
  const whole = read([bytes]);
  assert.ok(whole.reader.done, 'the file ends');
  const same = (chunks: readonly Buffer[]): void => {
    const again = read(chunks);
    assert.ok(again.reader.done);
    assert.deepEqual(again.sink.entries, whole.sink.entries);
    assert.deepEqual(again.sink.others, whole.sink.others);
    assert.equal(again.reader.position, whole.reader.position);
    assert.equal(again.reader.keys, whole.sink.entries.length);
  };
  if (bytes.length <= SPLITS) {
    await everySplit(bytes, same);
  } else {
    const step = Math.ceil(bytes.length / SPLITS);
    for (let at = 1; at < bytes.length; at += step) same([bytes.subarray(0, at), bytes.subarray(at)]);
    if (bytes.length <= 8192) same(Array.from(bytes, (byte) => Buffer.from([byte])));
  }
  for (const block of [16, 61, 4096]) {
    const again = read([bytes], block);
    assert.deepEqual(again.sink.entries, whole.sink.entries, `blocks of ${block}`);
  }
  return whole;
}

/** What is thrown while these bytes are read; null where they end, undisputed, too early. */
function failure(bytes: Buffer, splitAt = bytes.length): RdbFormatError | null {
  try {
    const { reader } = read([bytes.subarray(0, splitAt), bytes.subarray(splitAt)]);
    assert.equal(reader.done, false, 'damage was not seen');
    return null;
  } catch (error) {
    assert.ok(error instanceof RdbFormatError, String(error));
    return error;
  }
}

/** SAVEs and reads the file. */
async function saved(client: RespConnection, dir: string): Promise<Buffer> {
  await client.call('SAVE');
  return readFileSync(join(dir, 'dump.rdb'));
}

async function freshServer(
  t: Cleanup,
  ...args: string[]
): Promise<{ client: RespConnection; save: () => Promise<Buffer> }> {
  const server = await testServer(t, { args });
  const client = await testClient(t, server.port);
  return { client, save: () => saved(client, server.dir) };
}

/** Names of the collection's index for type numbers. */
const TYPES: Readonly<Record<string, number>> = {
  string: 0,
  list: 1,
  set: 2,
  zset: 3,
  hash: 4,
  zset2: 5,
  module2: 7,
  'hash-zipmap': 9,
  'list-ziplist': 10,
  'set-intset': 11,
  'zset-ziplist': 12,
  'hash-ziplist': 13,
  'list-quicklist': 14,
  stream1: 15,
  'hash-listpack': 16,
  'zset-listpack': 17,
  'list-quicklist2': 18,
  stream2: 19,
  'set-listpack': 20,
  stream3: 21,
  hash2: 22,
  'hash-metadata-pre-ga': 22,
  'hash-listpack-ex-pre-ga': 23,
  'hash-metadata': 24,
  'hash-listpack-ex': 25,
  stream4: 26,
  array: 28,
};

describe('files of real servers', { skip: withoutFixtures }, () => {
  const readable = ({ columns }: Fixture): boolean =>
    /^(valid|structurally valid|decodable)/.test(columns[6]!);
  /** Valid, but of a version that no release of the family writes. */
  const future = new Set(['valkey-io_valkey/encodings-rdb987.rdb']);

  for (const fixture of withoutFixtures ? [] : rdbFixtures()) {
    const { name, bytes, columns } = fixture;
    if (!readable(fixture) || future.has(name)) continue;
    it(name, async () => {
      const { sink, reader } = await sameAtEverySplit(bytes);
      assert.equal(sink.entries.length, Number(columns[3]));
      assert.equal(reader.keys, Number(columns[3]));
      const counts = new Map<number, number>();
      for (const { type } of sink.entries) counts.set(type, (counts.get(type) ?? 0) + 1);
      for (const [, what, count] of columns[4]!.matchAll(/([a-z0-9-]+):(\d+)/g)) {
        if (what!.startsWith('op-')) continue;
        const type = TYPES[what!];
        assert.ok(type !== undefined, `a number for ${what}`);
        assert.equal(counts.get(type), Number(count), what);
      }
    });
  }

  const fixtureOf = (name: string): Buffer => {
    const found = rdbFixtures().find((fixture) => fixture.name === name);
    assert.ok(found !== undefined);
    return found.bytes;
  };

  it('expiry, idle time, frequency and databases', () => {
    const entries = (name: string) => read([fixtureOf(`redis_librdb/${name}`)]).sink.entries;
    assert.ok(entries('mem_policy_lru.rdb')[0]!.idleSeconds >= 0);
    assert.ok(entries('mem_policy_lfu.rdb')[0]!.freq > 0);
    assert.deepEqual(
      entries('multiple_dbs.rdb').map(({ db }) => db),
      [0, 1, 2],
    );
    assert.ok(entries('set_not_expired_v11.rdb')[0]!.expireAtMs > 1_600_000_000_000);
  });

  it('what is beyond the format', () => {
    const version = /version .* is not known/;
    for (const name of ['redis_librdb/future_v19.rdb', ...future]) {
      const error = failure(fixtureOf(name));
      assert.equal(error?.offset, 0);
      assert.match(error?.message ?? '', version);
      assert.equal(error?.code, 'rdb-version');
    }
    const wrong = fixtureOf('redis_librdb/invalid_chksum_v8.rdb');
    const error = failure(wrong);
    assert.equal(error?.offset, wrong.length - 8);
    assert.equal(error?.code, 'rdb-checksum');
    assert.equal(failure(fixtureOf('redis_redis/array-32bit.2e997c9.rdb'))?.code, 'rdb-unknown-type');
  });
});

describe('a server of our own', () => {
  it('all types in all encodings, as DUMP has them', async (t) => {
    const { client, save } = await freshServer(t, '--maxmemory-policy', 'noeviction');
    const long = 'x'.repeat(100);
    const fill: (string | number)[][] = [
      ['SET', '', 'a key without a name'],
      ...[0, -1, 127, 128, -129, 32767, 32768, 2147483647, 2147483648].map((n) => ['SET', `int:${n}`, n]),
      // keys that are numbers are stored as such
      ...['7', '-300', '70000', '2147483648', '007'].map((key) => ['SET', key, 'v']),
      ['SET', 'k'.repeat(300), 'an LZF key'],
      ['SET', 'lzf', 'abc'.repeat(1000)],
      ...[63, 64, 16383, 16384].map((size) => ['SET', `size:${size}`, randomText(size)]),
      ['SET', randomText(64), 'k'],
      ['SET', randomText(16384), 'k'],
      ['SET', 'ttl', 'v', 'PXAT', 4102444800123],
      ['RPUSH', 'list', 'a', '1', '-5', long],
      ['SADD', 'set:int', 1, 70000, 5_000_000_000],
      ['SADD', 'set', 'a', long],
      ['HSET', 'hash', 'f', 'v', 'n', 12],
      ['HSET', 'hash:big', 'f', long, 'g', '77'],
      ['ZADD', 'zset', 1.5, 'm', '-inf', 'least'],
      ['ZADD', 'zset:big', 1.5, 'm', 'inf', long, '-inf', 'least', 3, '77'],
      ['XADD', 'stream', '1-1', 'f', 'v'],
      ['XADD', 'stream', '1-2', 'f', 'v', 'g', 'w'],
      ['XGROUP', 'CREATE', 'stream', 'group', '0'],
      ['XREADGROUP', 'GROUP', 'group', 'me', 'COUNT', '1', 'STREAMS', 'stream', '>'],
      ['PFADD', 'hll', 'a', 'b'],
      ['SELECT', '5'],
      ['HSET', 'hash', 'f', 'v'],
      ['PEXPIREAT', 'hash', 4102444800999],
      ['SELECT', '15'],
      ['SET', 'last', 'v'],
      ['SELECT', '0'],
    ];
    const replies = await client.pipeline(fill);
    for (const reply of replies) assert.ok(!(reply instanceof Error), String(reply));
    const many = Array.from({ length: 2000 }, (_, i) => `element ${i}`);
    await client.call('RPUSH', 'list:quick', ...many);
    await client.call('DEBUG', 'QUICKLIST-PACKED-THRESHOLD', '90b');
    await client.call('RPUSH', 'list:plain', 'small', long, 'l'.repeat(5000), randomText(200));
    await client.call(
      'FUNCTION',
      'LOAD',
      '#!lua name=lib\nredis.register_function("f", function() return 1 end)',
    );

    const { sink } = await sameAtEverySplit(await save());
    const libraries = sink.others.filter((line) => line.startsWith('function'));
    assert.equal(libraries.length, 1);
    assert.match(libraries[0]!, /function \d+ #!lua name=lib\n/);
    let found = 0;
    for (const db of [0, 5, 15]) {
      await client.call('SELECT', db);
      const keys = (await client.call('KEYS', '*')) as Buffer[];
      found += keys.length;
      for (const key of keys) {
        const entry = sink.entries.find((one) => one.db === db && one.key === key.toString('latin1'));
        assert.ok(entry !== undefined, `${db} ${key}`);
        const dump = (await client.call('DUMP', key)) as Buffer;
        assert.equal(entry.type, dump[0]);
        const body = dump.toString('latin1', 1, dump.length - 10);
        if (entry.kind === 'value') assert.equal(entry.value, body, String(key));
        else assert.equal(entry.value, ((await client.call('GET', key)) as Buffer).toString('latin1'));
        assert.equal(entry.expireAtMs, Number(await client.call('PEXPIRETIME', key)));
        assert.equal(entry.idleSeconds, -1);
      }
    }
    assert.equal(sink.entries.length, found);
    const types = new Set(sink.entries.map(({ type }) => type));
    assert.deepEqual(
      [...types].sort((a, b) => a - b),
      [0, 2, 4, 5, 11, 16, 17, 18, 19],
    );
  });

  for (const policy of ['allkeys-lru', 'allkeys-lfu'] as const) {
    it(`tells the usage of keys under ${policy}`, async (t) => {
      const { client, save } = await freshServer(t, '--maxmemory-policy', policy);
      await client.pipeline([
        ['SET', 'plain', 'v'],
        ['SET', 'ttl', 'v', 'PXAT', 4102444800123],
        ['RPUSH', 'list', 'a'],
        ['GET', 'plain'],
      ]);
      const { sink } = await sameAtEverySplit(await save());
      assert.equal(sink.entries.length, 3);
      for (const { idleSeconds, freq, key, expireAtMs } of sink.entries) {
        assert.ok(
          policy === 'allkeys-lru' ? idleSeconds >= 0 && freq === -1 : freq > 0 && idleSeconds === -1,
        );
        assert.equal(expireAtMs, key === 'ttl' ? 4102444800123 : -1);
      }
    });
  }

  it('without a checksum', async (t) => {
    const { client, save } = await freshServer(t, '--rdbchecksum', 'no');
    await client.call('SET', 'k', 'v');
    const bytes = await save();
    assert.ok(bytes.subarray(-8).every((byte) => byte === 0));
    await sameAtEverySplit(bytes);
  });
});

describe('damage', () => {
  const key = (type: number, name: string, ...value: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([type]), str(name), ...value]);
  const good = rdb(
    'REDIS0011',
    Buffer.from([250]),
    str('redis-ver'),
    str('7.2.0'),
    Buffer.from([254, 0, 251, 2, 1]),
    key(0, 'string', str('value')),
    Buffer.from([252, 1, 2, 3, 4, 5, 0, 0, 0]),
    key(4, 'hash', len(1), str('field'), str('value')),
    key(16, 'lp', str('not looked into')),
  );

  it('every cut leaves the reader waiting, every flipped bit is found', () => {
    for (let end = 0; end < good.length; end++) assert.equal(failure(good.subarray(0, end)), null);
    assert.ok(read([good]).reader.done);
    // behind the magic: with another version there may be no checksum
    for (let at = 9; at < good.length; at++) {
      for (let bit = 1; bit < 256; bit <<= 1) {
        const bad = Buffer.from(good);
        bad[at]! ^= bit;
        const error = failure(bad);
        const later = failure(bad, Math.min(at + 1, bad.length));
        assert.equal(later?.message, error?.message);
        if (error === null) continue;
        assert.ok(error.offset >= 0 && error.offset < good.length, `offset ${error.offset}`);
        assert.match(error.message, new RegExp(`offset ${error.offset}\\)$`));
        assert.equal(error.recovery, 'operator');
      }
    }
  });

  it('says where', () => {
    const expected: [string, Buffer, number, RegExp, string][] = [
      ['no RDB', Buffer.from('-ERR unknown'), 0, /no RDB begins with/, 'rdb-format'],
      ['version 0', Buffer.from('REDIS0000'), 0, /version/, 'rdb-version'],
      ['a newer version', Buffer.from('REDIS0015'), 0, /newest: 14/, 'rdb-version'],
      ['a newer Valkey', Buffer.from('VALKEY081'), 0, /newest: 80/, 'rdb-version'],
      [
        'an unknown type',
        rdb('REDIS0011', key(0, 'k', str('v')), key(29, 'k')),
        9 + 5,
        /type or opcode 29/,
        'rdb-unknown-type',
      ],
      ['an unknown opcode', rdb('REDIS0011', Buffer.from([242])), 9, /opcode 242/, 'rdb-unknown-type'],
      ['a type of the other family', rdb('VALKEY080', key(24, 'k')), 9, /24/, 'rdb-unknown-type'],
      [
        'a string encoding',
        rdb('REDIS0011', key(16, 'k', Buffer.from([0xc4]))),
        9 + 3,
        /encoding 4/,
        'rdb-format',
      ],
      [
        'a special length',
        rdb('REDIS0011', key(1, 'k', Buffer.from([0xc0]))),
        9 + 3,
        /length was expected/,
        'rdb-format',
      ],
      ['a module item', rdb('REDIS0011', key(7, 'k', len(1), len(9))), 9 + 4, /module item 9/, 'rdb-format'],
      [
        'an array element',
        rdb('REDIS0014', key(28, 'k', len(1), len(0), len(0), len(4))),
        9 + 5,
        /array element 4/,
        'rdb-format',
      ],
      [
        'an endless field',
        rdb('REDIS0011', key(4, 'k', len(1), len(2n ** 62n), str('v'))),
        9 + 4,
        /string of/,
        'rdb-format',
      ],
      [
        'an endless field, safe',
        rdb('REDIS0011', key(4, 'k', len(1), len(2n ** 50n), str('v'))),
        9 + 4,
        /string of/,
        'rdb-format',
      ],
    ];
    for (const [what, bytes, offset, message, code] of expected) {
      for (const splitAt of [bytes.length, 10]) {
        const error = failure(bytes, Math.min(splitAt, bytes.length));
        assert.equal(error?.offset, offset, what);
        assert.match(error?.message ?? '', message);
        assert.equal(error?.code, code);
      }
    }
  });

  it('a wrong checksum, also where the EOF comes alone', () => {
    const bad = Buffer.from(good);
    bad[bad.length - 1]! ^= 1;
    for (const splitAt of [bad.length, bad.length - 8, bad.length - 9, bad.length - 3]) {
      const error = failure(bad, splitAt);
      assert.equal(error?.code, 'rdb-checksum');
      assert.equal(error?.offset, bad.length - 8);
    }
  });

  const endless = (of: Buffer): RdbFormatError | null => failure(rdb('REDIS0011', of, Buffer.alloc(4096)));
  it('an endless key', () => {
    assert.equal(endless(Buffer.concat([Buffer.from([0]), len(2n ** 62n)]))?.offset, 10);
  });
  it('an endless string', () => {
    assert.equal(endless(key(0, 'k', len(2n ** 62n)))?.offset, 12);
  });
});

describe('values above 1 MiB', () => {
  const MB = 1 << 20;
  const head = (type: number, name: string | Buffer): Buffer =>
    Buffer.concat([Buffer.from([type]), str(name)]);
  const around = (...parts: Buffer[]): Buffer =>
    rdb('REDIS0011', head(0, 'before'), str('1'), ...parts, head(0, 'after'), str('2'));

  /** Reads in blocks of a MiB and in odd ones, in pieces of several sizes; the entry in the middle. */
  function big(bytes: Buffer): ReturnType<typeof read>['sink']['entries'][number] {
    let first: string | undefined;
    let found: ReturnType<typeof read>['sink']['entries'][number] | undefined;
    for (const [piece, block] of [
      [bytes.length, MB],
      [65536, MB],
      [300_007, 777_777],
      [MB, 5 * MB],
    ] as const) {
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += piece) chunks.push(bytes.subarray(at, at + piece));
      const { sink, reader } = read(chunks, block);
      assert.ok(reader.done);
      assert.deepEqual(
        sink.entries.map(({ key }) => key),
        ['before', 'big', 'after'],
      );
      found = sink.entries[1]!;
      if (block === 5 * MB) continue; // may be whole in one view
      const text = JSON.stringify(found);
      first ??= text;
      assert.ok(text === first, `other records in pieces of ${piece}`);
      first = text;
    }
    return found!;
  }
  const elementsOf = (bytes: Buffer): readonly string[] => {
    const entry = read([bytes]).sink.entries[1]!;
    assert.equal(entry.kind, 'elements');
    assert.ok(Array.isArray(entry.value));
    big(bytes);
    const value = bytes.subarray(BEFORE, bytes.length - BEHIND);
    for (const block of [MB, 777_777]) comesAsPayload(bytes, value, block);
    return entry.value as string[];
  };
  /** Bytes in front of the big value, and behind it. */
  const BEFORE = Buffer.concat([
    Buffer.from('REDIS0011'),
    head(0, 'before'),
    str('1'),
    head(0, 'big'),
  ]).length;
  const BEHIND = Buffer.concat([head(0, 'after'), str('2')]).length + 9;
  /** Where no elements are wanted. */
  function comesAsPayload(bytes: Buffer, value: Buffer, block: number): void {
    const sink = new Recorder(false);
    const feeding = new Feeding(bytes, block, { sink });
    for (let at = 0; at < bytes.length; at += 300_007) feeding.arrive(Math.min(bytes.length, at + 300_007));
    feeding.arrive(bytes.length);
    assert.ok(feeding.reader.done);
    assert.deepEqual(
      sink.entries.map(({ key, kind, form }) => [key, kind, form]),
      [
        ['before', 'string', null],
        ['big', 'blob', 'payload'],
        ['after', 'string', null],
      ],
    );
    assert.ok(sink.entries[1]!.value === value.toString('latin1'));
  }
  // more than twice a MiB: below that a value may still be whole in one view
  const pool = randomText(64_000);
  const texts = Array.from(
    { length: 60_000 },
    (_, i) => `${i} ${pool.slice((i * 997) % 63_000, ((i * 997) % 63_000) + 30 + (i % 50))}`,
  );
  const huge = 'h'.repeat(MB + 5);

  it('lists and sets', () => {
    const value = [
      len(texts.length + 3),
      ...texts.map(str),
      str(huge),
      lzfStr(3 * MB, 0x7a),
      Buffer.from([0xc1, 0xff, 0xff]),
    ];
    for (const type of [1, 2]) {
      assert.deepEqual(elementsOf(around(head(type, 'big'), ...value)), [
        ...texts,
        huge,
        'z'.repeat(3 * MB),
        '-1',
      ]);
    }
  });

  it('hashes', () => {
    const value = [len(texts.length / 2 + 1), ...texts.map(str), str(huge), lzfStr(2 * MB, 0x7a)];
    assert.deepEqual(elementsOf(around(head(4, 'big'), ...value)), [...texts, huge, 'z'.repeat(2 * MB)]);
  });

  it('sorted sets, with text and binary scores', () => {
    const scores = ['1.5', '-inf', 'inf', '-0.25'];
    const member = (text: string, i: number, binary: boolean): Buffer => {
      const score = scores[i % 4]!;
      if (binary) {
        const bytes = Buffer.alloc(8);
        bytes.writeDoubleLE(Number(score.replace('inf', 'Infinity')));
        return Buffer.concat([str(text), bytes]);
      }
      const tail =
        score === 'inf'
          ? Buffer.from([254])
          : score === '-inf'
            ? Buffer.from([255])
            : Buffer.concat([len(score.length), Buffer.from(score)]);
      return Buffer.concat([str(text), tail]);
    };
    const expected = texts.flatMap((text, i) => [scores[i % 4]!, text]);
    for (const binary of [false, true]) {
      const value = texts.map((text, i) => member(text, i, binary));
      assert.deepEqual(
        elementsOf(around(head(binary ? 5 : 3, 'big'), len(texts.length), ...value)),
        expected,
      );
    }
  });

  it('lists of a real server: listpack nodes, plain nodes, LZF nodes', async (t) => {
    for (const compression of ['yes', 'no']) {
      const { client, save } = await freshServer(t, '--rdbcompression', compression);
      await client.call('DEBUG', 'QUICKLIST-PACKED-THRESHOLD', '500b');
      const elements = [
        ...texts,
        '17',
        '-70000',
        randomText(1 << 16),
        huge,
        randomText(MB + 9),
        'z'.repeat(700),
      ];
      await client.call('SET', 'before', '1');
      await client.call('RPUSH', 'big', ...elements);
      const bytes = await save();
      const { sink } = read([bytes]);
      const entry = sink.entries.find(({ key }) => key === 'big');
      assert.equal(entry?.kind, 'elements');
      assert.deepEqual(entry?.value, elements);
      for (const block of [300_007, MB / 2])
        assert.deepEqual(read([bytes], block).sink.entries, sink.entries);
    }
  });

  it('above 32 MiB by element, whatever is wanted', () => {
    const element = randomText(MB - 9);
    for (const count of [32, 34]) {
      const value = [len(count), ...Array.from({ length: count }, () => str(element))];
      const bytes = around(head(1, 'big'), ...value);
      if (count === 32) {
        comesAsPayload(bytes, Buffer.concat(value), MB);
        continue;
      }
      const sink = new Recorder(false);
      const feeding = new Feeding(bytes, MB, { sink });
      for (let at = 0; at < bytes.length; at += 999_983) feeding.arrive(at);
      feeding.arrive(bytes.length);
      assert.ok(feeding.reader.done);
      assert.deepEqual(
        sink.entries.map(({ key, kind }) => [key, kind]),
        [
          ['before', 'string'],
          ['big', 'elements'],
          ['after', 'string'],
        ],
      );
      assert.ok(sink.entries[1]!.value.length === count);
      assert.ok((sink.entries[1]!.value as string[]).every((text) => text === element));
    }
  });

  it('a stream and a module value are measured, then handed on as they stand', () => {
    const body = texts.map((text) => Buffer.concat([str('0123456789abcdef'), str(text)]));
    const stream = Buffer.concat([len(texts.length), ...body, len(1), len(2), len(3), len(0)]);
    const items = texts.map((text) =>
      Buffer.concat([len(5), str(text), len(4), Buffer.alloc(8), len(2), len(70_000)]),
    );
    const module = Buffer.concat([len(2n ** 60n), ...items, len(0)]);
    for (const [type, value] of [
      [15, stream],
      [7, module],
    ] as const) {
      const entry = read([around(head(type, 'big'), value)]).sink.entries[1]!;
      assert.equal(entry.kind, 'blob');
      assert.equal(entry.form, 'payload');
      assert.ok(entry.value === value.toString('latin1'));
      assert.equal(big(around(head(type, 'big'), value)).type, type);
    }
  });

  it('strings: plain in pieces, LZF as they stand', () => {
    const plain = randomText(5 * MB + 17);
    const asString = read([around(head(0, 'big'), str(plain))]).sink.entries[1]!;
    assert.equal(asString.form, 'string');
    assert.ok(asString.value === plain);
    big(around(head(0, 'big'), str(plain)));
    const packed = lzfStr(200 * MB, 0x61);
    assert.ok(packed.length > MB);
    const entry = read([around(head(0, 'big'), packed)]).sink.entries[1]!;
    assert.equal(entry.form, 'payload');
    assert.ok(entry.value === packed.toString('latin1'));
  });

  it('a container in one string', () => {
    const container = randomText(3 * MB);
    const entry = read([around(head(16, 'big'), str(container))]).sink.entries[1]!;
    assert.equal(entry.form, 'payload');
    assert.ok(entry.value === str(container).toString('latin1'));
    big(around(head(16, 'big'), str(container)));
  });

  it('with a number as key', () => {
    const bytes = rdb('REDIS0011', Buffer.from([2, 0xc1, 0xd2, 0x04]), len(texts.length), ...texts.map(str));
    for (const block of [MB, 100_003]) {
      const [entry] = read([bytes], block).sink.entries;
      assert.equal(entry?.key, '1234');
      assert.deepEqual(entry?.value, texts);
    }
  });

  it('a big stream behind a key that made the views large', () => {
    const body = texts.map((text) => Buffer.concat([str('0123456789abcdef'), str(text)]));
    const stream = Buffer.concat([len(texts.length), ...body, len(1), len(2), len(3), len(0)]);
    // seen where a view of 8 MiB and more ends between two strings of the stream
    for (let more = 0; more < 60; more++) {
      const key = Buffer.alloc(4_508_877 + more, 'k');
      const { reader } = read([rdb('REDIS0011', head(0, key), str('v'), head(15, 'big'), stream)]);
      assert.ok(reader.done);
    }
  });
});

describe('rewind', () => {
  const MB = 1 << 20;
  const filler = Array.from({ length: 60_000 }, (_, i) => str(`element ${i}`.padEnd(40, '-')));
  let file: Buffer;
  before(() => {
    file = rdb(
      'REDIS0011',
      Buffer.from([250]),
      str('lua'),
      str('return 1'),
      Buffer.from([254, 3, 251, 4, 1]),
      ...[Buffer.from([0]), str('a'), str('1')],
      ...[Buffer.from([252, 1, 2, 3, 4, 5, 0, 0, 0, 4]), str('hash'), len(1), str('f'), str('v')],
      ...[Buffer.from([2]), str('big'), len(filler.length), ...filler],
      ...[Buffer.from([245]), str('#!lua name=x\n')],
      Buffer.from([254, 7]),
      ...[Buffer.from([15]), str('stream'), len(30_000)],
      ...filler,
      ...[len(1), len(2), len(3), len(0)],
      ...[Buffer.from([0]), str('long'), str('s'.repeat(MB + 1))],
      ...[Buffer.from([249, 5, 0]), str('z'), str('1')],
    );
  });

  it('to any entry gives the same entries again, the checksum holds, keys are counted once', () => {
    const whole = read([file]).sink.entries;
    assert.deepEqual(
      whole.map(({ db, key }) => `${db} ${key}`),
      ['3 a', '3 hash', '3 big', '7 stream', '7 long', '7 z'],
    );
    fc.assert(
      fc.property(
        fc.array(fc.record({ from: fc.nat(5), consumed: fc.nat(file.length) }), { maxLength: 4 }),
        fc.integer({ min: 40_000, max: MB }),
        (goBacks, block) => {
          const feeding = new NeverReleased(file, block);
          for (const { from, consumed } of goBacks) {
            feeding.arrive(file.length, () => feeding.reader.position >= consumed);
            const target = whole[from]!;
            // only what was begun before can be sent again
            if (feeding.reader.position <= target.start) continue;
            feeding.sink.entries.length = 0;
            feeding.rewind(target.start);
            feeding.arrive(file.length, () => feeding.sink.entries.length > 0);
            assert.ok(sameText(feeding.sink.entries[0], target), `back to ${target.key}`);
          }
          feeding.arrive(file.length);
          assert.ok(feeding.reader.done);
          assert.equal(feeding.reader.keys, whole.length);
          assert.ok(sameText(feeding.sink.entries.at(-1), whole.at(-1)));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('to the start of the file, before and after its first byte was read', () => {
    for (const consumed of [0, 1, 9, 30, file.length]) {
      const feeding = new NeverReleased(file);
      feeding.arrive(Math.min(consumed, 20));
      feeding.arrive(consumed);
      feeding.sink.entries.length = 0;
      feeding.sink.others.length = 0;
      feeding.rewind(0);
      feeding.arrive(file.length);
      assert.ok(feeding.reader.done);
      assert.equal(feeding.sink.entries.length, 6);
      assert.deepEqual(feeding.sink.others.slice(0, 2), ['header redis 11', 'aux 9 lua=return 1']);
    }
  });
});

/** As when no command has been answered: all bytes are still there. */
class NeverReleased extends Feeding {
  protected override get keptFrom(): number {
    return 0;
  }
}

function sameText(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Printable, does not compress, the same each time. */
function randomText(size: number): string {
  let state = 12345;
  const codes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    codes[i] = 33 + ((state >>> 16) % 90);
  }
  return codes.toString('latin1');
}
