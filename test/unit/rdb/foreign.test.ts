/** Files of programs that add to the format, and of modules: named, passed over where that can be, else refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RdbFormatError } from '../../../src/core/errors.ts';
import { everySplit } from '../../helpers/every-split.ts';
import { len, rdb, str } from './build.ts';
import { type EntryRecord, type Feeding, read } from './records.ts';
import { rdbFixtures, withoutFixtures } from './support.ts';

const aux = (name: string, value: string): Buffer => Buffer.concat([Buffer.of(250), str(name), str(value)]);
const string = (key: string): Buffer => Buffer.concat([Buffer.of(0), str(key), str('v')]);
const expiry = (atMs: number): Buffer => {
  const bytes = Buffer.alloc(9, 252);
  bytes.writeBigInt64LE(BigInt(atMs), 1);
  return bytes;
};
/** Two classes of metadata: a number; a string and a double. */
const META = Buffer.concat([
  ...[Buffer.of(243), len(2)],
  ...[Buffer.from('abcd'), len(2), len(77), len(0)],
  ...[Buffer.from('efgh'), len(5), str('text'), len(4), Buffer.alloc(8), len(0)],
]);
/** "vectorset" version 1, as Redis 8.2.3 writes it. */
const VECTORSET = Buffer.from('81bde72da2bb1eb400', 'hex');
const CRON = Buffer.concat([
  ...[Buffer.of(64), str('job'), str('return 1'), Buffer.alloc(16)],
  ...[len(1), str('key'), len(2), str('one'), str('two')],
]);

function refusalOf(file: Buffer): RdbFormatError {
  try {
    read([file]);
  } catch (error) {
    assert.ok(error instanceof RdbFormatError, String(error));
    return error;
  }
  return assert.fail('it was read');
}

async function entriesAtEverySplit(file: Buffer): Promise<Feeding> {
  const whole = read([file]);
  await everySplit(file, (chunks) => {
    const again = read(chunks);
    assert.ok(again.reader.done);
    assert.deepEqual(again.sink.entries, whole.sink.entries);
  });
  return whole;
}

const keys = ({ sink }: Feeding): (string | number)[][] =>
  sink.entries.map(({ key, expireAtMs }: EntryRecord) => [key, expireAtMs]);

describe('what is not known', () => {
  it('is refused with its number and its place, and with the name of who wrote it', () => {
    const known = refusalOf(rdb('REDIS0009', string('a'), Buffer.of(211)));
    assert.equal(known.code, 'rdb-unknown-type');
    assert.equal(known.offset, 9 + 5);
    assert.match(known.message, /^this RDB was written by Dragonfly, .* opcode 211 \(RDB byte offset 14\)$/);
    const version = aux('df-ver', 'df-v1.27.1');
    assert.match(refusalOf(rdb('REDIS0009', version, Buffer.of(32))).message, /by Dragonfly, .* 32 /);
    assert.match(refusalOf(rdb('REDIS0012', Buffer.of(121))).message, /by Redis Enterprise, .* 121 /);
    const nobody = refusalOf(rdb('REDIS0011', Buffer.of(90)));
    assert.match(nobody.message, /^unknown value type or opcode 90 \(/);
    assert.match(nobody.hint, /--skip-unknown cannot/);
  });
});

describe('what is passed over', () => {
  it('a job of KeyDB is cut as a value', async () => {
    const whole = await entriesAtEverySplit(rdb('REDIS0009', string('a'), CRON, string('b')));
    assert.deepEqual(keys(whole), [
      ['a', -1],
      ['job', -1],
      ['b', -1],
    ]);
    assert.equal(whole.sink.entries[1]?.type, 64);
  });

  it("metadata of modules leaves a key's expiry what it is, before and behind it", async () => {
    const file = rdb(
      'REDIS0013',
      expiry(123),
      META,
      string('a'),
      META,
      expiry(456),
      string('b'),
      string('c'),
    );
    const whole = await entriesAtEverySplit(file);
    assert.deepEqual(keys(whole), [
      ['a', 123],
      ['b', 456],
      ['c', -1],
    ]);
    const told = whole.sink.others.filter((other) => other.startsWith('unbringable'));
    assert.equal(new Set(told).size, 2);
  });

  it('what Redis Enterprise notes before its keys', { skip: withoutFixtures }, async () => {
    const fixture = rdbFixtures().find(({ name }) => name.endsWith('redis_ent_opcode_ram_lru.rdb'));
    assert.ok(fixture);
    const whole = await entriesAtEverySplit(fixture.bytes);
    assert.deepEqual(
      whole.sink.entries.map(({ key, value }) => [key, value]),
      [
        ['a', 'b'],
        ['e', 'f'],
        ['c', 'd'],
      ],
    );
  });

  it('data of a module, under the name of its type', async () => {
    const file = rdb(
      'REDIS0011',
      Buffer.of(247),
      VECTORSET,
      len(2),
      len(1),
      len(2),
      len(5),
      len(0),
      string('a'),
    );
    const whole = await entriesAtEverySplit(file);
    assert.ok(whole.sink.others.includes('skipped auxiliary data of the module type vectorset'));
    assert.deepEqual(keys(whole), [['a', -1]]);
  });
});
