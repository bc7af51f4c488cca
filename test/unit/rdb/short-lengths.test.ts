/** Lengths of 64 bits in values that servers before 4.0 may get. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FORM, type Form } from '../../../src/rdb/forms.ts';
import { TYPE } from '../../../src/rdb/opcodes.ts';
import { withShortLengths } from '../../../src/rdb/short-lengths.ts';
import { transcode } from '../../../src/rdb/transcode.ts';
import { len, lzfStr, str } from './build.ts';

const wide = (text: string): Buffer => Buffer.concat([len(text.length, 64), Buffer.from(text)]);
const short = (form: Form, value: Buffer): Buffer | null => withShortLengths(form, value, 0, value.length, 0);
/** `size` times `a`, both lengths of its LZF form, which are below 64, in 64 bits. */
const wideLzf = (size: number): Buffer => {
  const [, compressed, length] = lzfStr(size, 0x61);
  return Buffer.concat([
    Buffer.from([0xc3]),
    len(compressed!, 64),
    len(length!, 64),
    lzfStr(size, 0x61).subarray(3),
  ]);
};
const textScore = Buffer.from('\x031.5', 'latin1');

describe('lengths of 64 bits', () => {
  it('become as short as they can be', () => {
    const cases: readonly (readonly [Form, Buffer, Buffer])[] = [
      [TYPE.list, Buffer.concat([len(2), wide('a'), str('b')]), Buffer.concat([len(2), str('a'), str('b')])],
      [TYPE.list, Buffer.concat([len(1, 64), str('a')]), Buffer.concat([len(1), str('a')])],
      [TYPE.set, Buffer.concat([len(1), wide('a')]), Buffer.concat([len(1), str('a')])],
      [TYPE.quicklist, Buffer.concat([len(1), wide('a node')]), Buffer.concat([len(1), str('a node')])],
      [TYPE.hash, Buffer.concat([len(1), str('f'), wide('v')]), Buffer.concat([len(1), str('f'), str('v')])],
      [
        TYPE.zset,
        Buffer.concat([len(2), wide('m'), textScore, str('n'), Buffer.from([254])]),
        Buffer.concat([len(2), str('m'), textScore, str('n'), Buffer.from([254])]),
      ],
      [TYPE.hashZiplist, wide('a ziplist'), str('a ziplist')],
      [TYPE.list, Buffer.concat([len(1), wideLzf(40)]), Buffer.concat([len(1), str('a'.repeat(40))])],
    ];
    for (const [form, value, expected] of cases) assert.deepEqual(short(form, value), expected);
  });

  it('nothing is done where there are none, or where the form is as young as they are', () => {
    const text = Buffer.from([0x81, 0x81, 0x81]);
    const value = Buffer.concat([len(1), str(text)]);
    assert.deepEqual(short(TYPE.set, value), value);
    assert.equal(short(TYPE.set, Buffer.concat([len(1), str('a')])), null);
    for (const form of [TYPE.zset2, TYPE.quicklist2, TYPE.stream3, FORM.hashTtls]) {
      assert.equal(short(form, Buffer.concat([len(1), wide('a')])), null);
    }
  });

  it('do not get into an older form', () => {
    const score = Buffer.alloc(8);
    score.writeDoubleLE(1.5);
    const zset = Buffer.concat([len(1), wide('m'), score]);
    assert.deepEqual(
      transcode(TYPE.zset2, TYPE.zset, zset, 0, zset.length, 0).value,
      Buffer.concat([len(1), str('m'), textScore]),
    );
  });
});
