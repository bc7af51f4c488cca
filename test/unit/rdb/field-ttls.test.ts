/** Hashes whose fields expire, as real servers write them: all expiries moved, nothing else. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RdbFormatError } from '../../../src/core/errors.ts';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { payloadLength, stampOf, writeFooter } from '../../../src/rdb/dump-payload.ts';
import {
  EARLIEST_BYTES,
  earliestFieldExpiry,
  HASH_FIELD_TTLS,
  HASH_FIELD_TTLS_LISTPACK,
  laterFromListpack,
  laterHead,
} from '../../../src/rdb/field-ttls.ts';
import { TYPE } from '../../../src/rdb/opcodes.ts';
import type { RespConnection } from '../../../src/resp/connection.ts';
import { plain, testClient } from '../../helpers/client.ts';
import { serverReleases } from '../../helpers/releases.ts';
import { testServer } from '../../helpers/server.ts';
import { len, str } from './build.ts';

/** As much as held-ttls.ts moves them. */
const SHIFT_MS = 40_123_456_789_000;
const AT = 4_102_444_800_123;

interface Hash {
  readonly name: string;
  readonly fields: readonly (readonly [field: string, value: string, atMs: number])[];
  /** Settings of the server: a small listpack gives a hash table. */
  readonly table?: boolean;
}

/** Expiry of a field that has none. */
const NONE = -1;

const FEW: Hash['fields'] = [
  ['short', 'v', AT],
  ['none', '', NONE],
  ['', 'a field without a name', AT + 1],
  ['12', '-7', AT + 70_000],
  ['70000', '5000000000', NONE],
  ['-9223372036854775808', '9223372036854775807', AT + 8_000_000_000],
  ['127', '128', AT + 63],
  ['\0\r\n\xff', '00012', AT + 62],
];
const LONG: Hash['fields'] = [
  ['f'.repeat(63), 'v'.repeat(64), AT + 16_382],
  ['f'.repeat(16_382), 'v'.repeat(16_384), AT],
  ['lzf', 'abc'.repeat(6_000), NONE],
  ['last', 'v'.repeat(4_096), AT + 16_383],
];
const HASHES: readonly Hash[] = [
  { name: 'few', fields: FEW },
  { name: 'all', fields: FEW.map(([field, value], i) => [field, value, AT + i] as const) },
  { name: 'all at once', fields: FEW.map(([field, value]) => [field, value, AT] as const) },
  { name: 'one', fields: [['f', 'v', AT]] },
  { name: 'none any more', fields: FEW.map(([field, value]) => [field, value, NONE] as const) },
  { name: 'long', fields: LONG },
  {
    name: 'many',
    fields: Array.from({ length: 500 }, (_, i) => [`${i}`, `${i * i}`, i % 3 === 0 ? NONE : AT + i] as const),
  },
];

async function make(client: RespConnection, key: string, { fields, table = false }: Hash): Promise<void> {
  const limits = table ? [1, 1] : [100_000, 100_000];
  await client.call(
    'CONFIG',
    'SET',
    'hash-max-listpack-entries',
    limits[0]!,
    'hash-max-listpack-value',
    limits[1]!,
  );
  await client.call('DEL', key);
  await client.call('HSET', key, ...fields.flatMap(([field, value]) => [bytes(field), bytes(value)]));
  for (const [field, , atMs] of fields) {
    await client.call('HPEXPIREAT', key, atMs === NONE ? AT : atMs, 'FIELDS', 1, bytes(field));
    if (atMs === NONE) await client.call('HPERSIST', key, 'FIELDS', 1, bytes(field));
  }
}

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Fields, values and the moments at which they expire, by name. */
async function content(client: RespConnection, key: string): Promise<unknown[]> {
  const all = plain(await client.call('HGETALL', key)) as string[];
  const found: [string, string, number][] = [];
  for (let i = 0; i < all.length; i += 2) {
    const [atMs] = (await client.call('HPEXPIRETIME', key, 'FIELDS', 1, bytes(all[i]!))) as number[];
    found.push([all[i]!, all[i + 1]!, atMs!]);
  }
  return sorted(found);
}

function sorted(fields: Hash['fields']): unknown[] {
  return [...fields].sort(([a], [b]) => (a < b ? -1 : 1));
}

function payloadOf(type: number, value: Buffer): Buffer {
  const out = Buffer.alloc(payloadLength(value.length));
  const crc = new Crc64();
  out[0] = type;
  value.copy(out, 1);
  crc.update(out, 0, 1 + value.length);
  writeFooter(crc, out, 1 + value.length, stampOf(type, 'redis')!);
  return out;
}

/** A value of either type, all fields expiring later; as the writers do it, from within a bigger buffer. */
function later(type: number, value: Buffer): Buffer {
  const around = Buffer.concat([Buffer.from('<<<'), value, Buffer.from('>')]);
  const [start, end] = [3, 3 + value.length];
  if (type === HASH_FIELD_TTLS_LISTPACK) return laterFromListpack(around, start, end, 1_000, SHIFT_MS);
  const earliest = earliestFieldExpiry(around, start, 1_000);
  return Buffer.concat([laterHead(earliest, SHIFT_MS), value.subarray(EARLIEST_BYTES)]);
}

const releases = serverReleases().filter(
  ({ kind, major, minor }) => kind === 'redis' && (major > 7 || (major === 7 && minor >= 4)),
);
if (releases.length === 0) it('real servers', { skip: 'no Redis >= 7.4 is here: npm run servers' }, () => {});

for (const { kind, version, path } of releases) {
  describe(`${kind} ${version}`, () => {
    it('takes back what it has written, all fields expiring later by the same', async (t) => {
      const server = await testServer(t, { binary: path });
      const client = await testClient(t, server.port);
      const seen = new Set<number>();
      for (const hash of [...HASHES, ...HASHES.map((one) => ({ ...one, table: true }))]) {
        const what = `${hash.name}${hash.table ? ', a table' : ''}`;
        await make(client, 'h', hash);
        const dump = (await client.call('DUMP', 'h')) as Buffer;
        const type = dump[0]!;
        const value = dump.subarray(1, -10);
        seen.add(type);
        // a table without any expiry is an ordinary hash again, a listpack is not
        if (what === 'none any more, a table' && type === TYPE.hash) continue;
        assert.ok(type === HASH_FIELD_TTLS || type === HASH_FIELD_TTLS_LISTPACK, `${what}: type ${type}`);
        const earliest = Math.min(...hash.fields.map(([, , atMs]) => atMs).filter((atMs) => atMs !== NONE));
        const told = earliestFieldExpiry(value, 0, 1_000);
        if (earliest < Number.POSITIVE_INFINITY) assert.ok(told <= earliest && told > 0, what);
        const payload = payloadOf(HASH_FIELD_TTLS, later(type, value));
        assert.equal(plain(await client.call('RESTORE', 'copy', 0, payload, 'REPLACE')), 'OK', what);
        const expected = hash.fields.map(
          ([field, content, atMs]) => [field, content, atMs === NONE ? NONE : atMs + SHIFT_MS] as const,
        );
        assert.deepEqual(await content(client, 'copy'), sorted(expected), what);
        assert.deepEqual(await content(client, 'h'), sorted(hash.fields), what);
      }
      assert.ok(seen.has(HASH_FIELD_TTLS) && seen.has(HASH_FIELD_TTLS_LISTPACK));
    });
  });
}

describe('damage', () => {
  /** A listpack of texts, by hand. */
  function listpack(...texts: readonly string[]): Buffer {
    const entries = texts.map((text) =>
      Buffer.concat([Buffer.of(0x80 | text.length), bytes(text), Buffer.of(text.length + 1)]),
    );
    const head = Buffer.alloc(6);
    head.writeUInt32LE(7 + Buffer.concat(entries).length, 0);
    head.writeUInt16LE(texts.length, 4);
    return Buffer.concat([head, ...entries, Buffer.of(0xff)]);
  }

  function value(earliest: bigint, ...parts: readonly Buffer[]): Buffer {
    const head = Buffer.alloc(EARLIEST_BYTES);
    head.writeBigUInt64LE(earliest);
    return Buffer.concat([head, ...parts]);
  }

  const shifted = (whole: Buffer, end = whole.length): Buffer =>
    laterFromListpack(whole, 0, end, 1_000, SHIFT_MS);
  const sound = value(1_000n, str(listpack('f', 'v', '1000', 'g', 'w', '0', 'h', 'x', '1063')));

  it('none: the triplets of a hand-made one', () => {
    assert.deepEqual(
      shifted(sound),
      Buffer.concat([
        value(BigInt(SHIFT_MS) + 1_000n, len(3)),
        ...[len(1), str('f'), str('v'), len(0), str('g'), str('w'), len(64), str('h'), str('x')],
      ]),
    );
    assert.deepEqual(shifted(value(0n, str(listpack()))), value(BigInt(SHIFT_MS), len(0)));
  });

  it('a listpack that is cut, or is none', () => {
    for (let end = EARLIEST_BYTES; end < sound.length; end++)
      assert.throws(() => shifted(sound, end), RdbFormatError, `cut at ${end}`);
    for (const packed of ['', 'listpack', '\xff'.repeat(40)])
      assert.throws(() => shifted(value(1_000n, str(bytes(packed)))), RdbFormatError, packed);
    assert.throws(() => shifted(value(1_000n, Buffer.of(0xc3, 1, 50, 0))), RdbFormatError);
  });

  it('triplets that are not whole', () => {
    for (const texts of [['f'], ['f', 'v'], ['f', 'v', '1000', 'g'], ['f', 'v', '1000', 'g', 'w']])
      assert.throws(() => shifted(value(1_000n, str(listpack(...texts)))), RdbFormatError, texts.join(' '));
  });

  it('expiries that are none', () => {
    for (const expiry of ['', 'soon', '1.5', '-1', '1e99', '99999999999999999999'])
      assert.throws(() => shifted(value(1_000n, str(listpack('f', 'v', expiry)))), RdbFormatError, expiry);
  });

  // as 7.4.1 and 8.2.3 write it where a field was set to expire a little earlier than the first
  it('an expiry before the one in front of the listpack', () => {
    const later = shifted(value(1_000n, str(listpack('f', 'v', '999', 'g', 'w', '1005'))));
    const fields = [len(1), str('f'), str('v'), len(7), str('g'), str('w')];
    assert.deepEqual(later, value(BigInt(999 + SHIFT_MS), len(2), ...fields));
  });

  it('an earliest expiry that no server has', () => {
    for (const earliest of [2n ** 64n - 1n, 2n ** 63n, 2n ** 53n])
      assert.throws(() => earliestFieldExpiry(value(earliest), 0, 1_000), {
        code: 'rdb-format',
        offset: 1_000,
      });
    assert.equal(earliestFieldExpiry(value(2n ** 48n), 0, 1_000), 2 ** 48);
  });
});
