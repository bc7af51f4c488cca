import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { rdbFixtures, withoutFixtures } from './support.ts';

/** The definition, bit by bit. */
function slowCrc(bytes: Uint8Array): bigint {
  let crc = 0n;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x95ac9329ac4bc9b5n : crc >> 1n;
  }
  return crc;
}

function numberOf(crc: Crc64): bigint {
  const out = Buffer.alloc(8);
  crc.writeTo(out, 0);
  assert.ok(crc.equals(out, 0));
  return out.readBigUInt64LE(0);
}

/** Bytes without a pattern, the same in every run. */
function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let seed = 1;
  for (let i = 0; i < length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
    bytes[i] = seed >>> 24;
  }
  return bytes;
}

test('the check value', () => {
  const crc = new Crc64();
  crc.update(Buffer.from('123456789'), 0, 9);
  assert.equal(numberOf(crc), 0xe9c6d914c4b8d9can);
});

test('every length around the steps of 8, 16 and the change to WebAssembly', () => {
  const bytes = noise(300);
  for (let length = 0; length <= 200; length++) {
    const crc = new Crc64();
    const start = length % 7;
    crc.update(bytes, start, start + length);
    assert.equal(numberOf(crc), slowCrc(bytes.subarray(start, start + length)), `length ${length}`);
  }
});

test('any pieces of any input come to the same', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 2000 }),
      fc.array(fc.nat(2000), { maxLength: 8 }),
      (bytes, cuts) => {
        const crc = new Crc64();
        const places = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)), bytes.length].sort(
          (a, b) => a - b,
        );
        for (let i = 1; i < places.length; i++) crc.update(bytes, places[i - 1]!, places[i]!);
        assert.equal(numberOf(crc), slowCrc(bytes));
      },
    ),
  );
});

test('input larger than the memory of the module', () => {
  const bytes = noise(65_536 * 2 + 77);
  const crc = new Crc64();
  crc.update(bytes, 3, bytes.length);
  assert.equal(numberOf(crc), slowCrc(bytes.subarray(3)));
});

test('two at once do not disturb each other', () => {
  const bytes = noise(1000);
  const [one, other] = [new Crc64(), new Crc64()];
  for (let at = 0; at < 1000; at += 100) {
    one.update(bytes, at, at + 100);
    other.update(bytes, 900 - at, 1000 - at);
  }
  assert.equal(numberOf(one), slowCrc(bytes));
  assert.notEqual(numberOf(other), numberOf(one));
});

test('reset, zero and a difference in any byte', () => {
  const crc = new Crc64();
  assert.ok(crc.isZero());
  crc.update(Buffer.from('x'), 0, 1);
  assert.ok(!crc.isZero());
  const out = Buffer.alloc(10);
  crc.writeTo(out, 1);
  for (let i = 1; i < 9; i++) {
    out[i]! ^= 1;
    assert.ok(!crc.equals(out, 1));
    out[i]! ^= 1;
  }
  assert.ok(crc.equals(out, 1));
  crc.reset();
  assert.ok(crc.isZero());
});

test('the trailers of real files', { skip: withoutFixtures }, () => {
  let compared = 0;
  for (const { name, bytes, columns } of rdbFixtures()) {
    const [said, status] = [columns[5], columns[6]];
    if ((said !== 'ok' && said !== 'BAD') || status?.includes('bytes after')) continue;
    const crc = new Crc64();
    crc.update(bytes, 0, bytes.length - 8);
    assert.equal(crc.equals(bytes, bytes.length - 8), said === 'ok', name);
    compared++;
  }
  assert.ok(compared > 50);
});
