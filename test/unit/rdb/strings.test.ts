import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { RdbFormatError } from '../../../src/core/errors.ts';
import { decodeString, integerText, keyOfEntry, lzfHeader } from '../../../src/rdb/strings.ts';
import { len, lzfStr, str } from './build.ts';

/** Decodes in the middle of a larger buffer; every shorter end must come to null. */
function decoded(bytes: Buffer): string {
  const around = Buffer.concat([Buffer.alloc(3, 0xff), bytes, Buffer.alloc(40, 0x01)]);
  const end = 3 + bytes.length;
  for (let short = 3; short < end; short++) assert.equal(decodeString(around, 3, short, 1000), null);
  const result = decodeString(around, 3, around.length, 1000);
  assert.equal(result?.next, end);
  return result.bytes.toString('latin1');
}

describe('decodeString', () => {
  it('plain, with lengths of every form', () => {
    for (const size of [0, 1, 63, 64, 16_383, 16_384]) {
      const text = 'x'.repeat(size);
      assert.equal(decoded(str(text)), text);
      for (const bits of [32, 64] as const)
        assert.equal(decoded(Buffer.concat([len(size, bits), Buffer.from(text)])), text);
    }
    assert.equal(decoded(Buffer.concat([len(5, 14), Buffer.from('\0\xff\r\n ', 'latin1')])), '\0\xff\r\n ');
  });

  it('numbers', () => {
    const forms: [number[], string][] = [
      [[0xc0, 0], '0'],
      [[0xc0, 0x80], '-128'],
      [[0xc1, 0xff, 0x7f], '32767'],
      [[0xc1, 0, 0x80], '-32768'],
      [[0xc2, 0xff, 0xff, 0xff, 0x7f], '2147483647'],
      [[0xc2, 0, 0, 0, 0x80], '-2147483648'],
    ];
    for (const [bytes, text] of forms) assert.equal(decoded(Buffer.from(bytes)), text);
    assert.equal(integerText(Buffer.from([9, 0xfe]), 1, 0), '-2');
  });

  it('LZF', () => {
    for (const size of [1, 40, 264, 265, 10_000]) assert.equal(decoded(lzfStr(size, 0x61)), 'a'.repeat(size));
  });

  it('refuses what is none, with its place', () => {
    const refused: [Buffer, RegExp][] = [
      [Buffer.from([0xc4]), /unknown string encoding 4/],
      [Buffer.from([0xff]), /unknown string encoding 63/],
      [Buffer.from([0xc3, 0xc0, 0]), /a length was expected/],
      [len(2n ** 41n), /a string of \d+ bytes/],
      [len(2n ** 64n - 1n), /a string of Infinity bytes/],
      [Buffer.concat([Buffer.from([0xc3]), len(3), len(1_000_000), Buffer.alloc(3)]), /cannot hold|claims/],
    ];
    for (const [bytes, message] of refused) {
      assert.throws(
        () => decodeString(bytes, 0, bytes.length, 500),
        (error) => error instanceof RdbFormatError && message.test(error.message) && error.offset >= 500,
        message.source,
      );
    }
  });

  it('never reads beyond its end, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(40), (bytes, cut) => {
        const buf = Buffer.from(bytes);
        const end = Math.min(cut, buf.length);
        let result: ReturnType<typeof decodeString>;
        try {
          result = decodeString(buf, 0, end, 0);
        } catch (error) {
          assert.ok(error instanceof RdbFormatError);
          return;
        }
        if (result !== null) assert.ok(result.next <= end);
      }),
    );
  });
});

it('an LZF header, and the bomb that it may claim', () => {
  const bytes = Buffer.concat([len(300), len(26_400)]);
  for (let end = 0; end < bytes.length; end++) assert.equal(lzfHeader(bytes, 0, end, 0), null);
  const header = lzfHeader(bytes, 0, bytes.length, 0);
  assert.deepEqual(header, { compressed: 300, length: 26_400, body: bytes.length });
  const bomb = Buffer.concat([len(300), len(26_401)]);
  assert.throws(() => lzfHeader(bomb, 0, bomb.length, 8), /claims 26401 bytes out of 300.*offset 7/);
});

it('the key of an entry, behind any opcodes', () => {
  const opcodes = [
    Buffer.alloc(0),
    Buffer.from([252, 1, 2, 3, 4, 5, 6, 7, 8]),
    Buffer.from([253, 1, 2, 3, 4]),
    Buffer.from([249, 200]),
    Buffer.concat([Buffer.from([248]), len(70_000)]),
    Buffer.concat([Buffer.from([252, 0, 0, 0, 0, 0, 0, 0, 0, 248]), len(300)]),
  ];
  for (const opcode of opcodes) {
    assert.equal(String(keyOfEntry(Buffer.concat([opcode, Buffer.from([4]), str('name'), len(1)]))), 'name');
    assert.equal(String(keyOfEntry(Buffer.concat([opcode, Buffer.from([0, 0xc1, 0xd2, 4])]))), '1234');
    assert.equal(keyOfEntry(Buffer.concat([opcode, Buffer.from([4]), len(10), Buffer.from('short')])), null);
  }
  for (const cut of [Buffer.alloc(0), Buffer.from([252, 1]), Buffer.from([248])])
    assert.equal(keyOfEntry(cut), null);
});
