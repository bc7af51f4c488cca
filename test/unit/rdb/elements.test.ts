/** Collections taken apart element by element, in any pieces. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InvariantError, RdbFormatError } from '../../../src/core/errors.ts';
import { ElementReader, elementKind } from '../../../src/rdb/elements.ts';
import { everySplit } from '../../helpers/every-split.ts';
import { len, lzfStr, str } from './build.ts';
import { Recorder } from './records.ts';

/** Shows the bytes as the reader does; returns the elements and how much was used. */
function taken(type: number, chunks: readonly Buffer[]): { elements: string[]; used: number; done: boolean } {
  const elements: string[] = [];
  const sink = new (class extends Recorder {
    override element(buf: Buffer, start: number, end: number): void {
      assert.ok(start <= end && end <= buf.length);
      elements.push(buf.toString('latin1', start, end));
    }
    #size = 0;
    #text = '';
    override elementStart(length: number): void {
      this.#size = length;
      this.#text = '';
    }
    override elementData(buf: Buffer, start: number, end: number): void {
      this.#text += buf.toString('latin1', start, end);
    }
    override elementEnd(): void {
      assert.equal(this.#text.length, this.#size);
      elements.push(this.#text);
    }
  })();
  const reader = new ElementReader(sink);
  reader.start(type);
  let rest = Buffer.alloc(0);
  let used = 0;
  for (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    for (let at = -1; at !== 0 && !reader.done && rest.length > 0; ) {
      at = reader.run(Buffer.from(rest), 0, rest.length, used);
      used += at;
      rest = rest.subarray(at);
    }
  }
  return { elements, used, done: reader.done };
}

async function cameApart(type: number, value: Buffer, expected: readonly string[]): Promise<void> {
  const look = (chunks: readonly Buffer[]): void => {
    const { elements, used, done } = taken(type, chunks);
    assert.deepEqual(elements, expected);
    assert.equal(used, value.length);
    assert.ok(done);
  };
  const bytes = Buffer.concat([value, Buffer.from([0xff, 0xff])]);
  if (bytes.length < 3000) await everySplit(bytes, look);
  else for (const size of [100, 65_536, bytes.length]) look(pieces(bytes, size));
  assert.equal(taken(type, [value.subarray(0, -1)]).done, false);
}

function pieces(bytes: Buffer, size: number): Buffer[] {
  const count = Math.ceil(bytes.length / size);
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

const number = Buffer.from([0xc1, 0xd2, 0x04]);
const double = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
};
/** A listpack of short strings. */
const listpack = (...texts: string[]): Buffer => {
  const entries = texts.map((text) =>
    Buffer.from([0x80 | text.length, ...Buffer.from(text), text.length + 1]),
  );
  const body = Buffer.concat([...entries, Buffer.from([0xff])]);
  const head = Buffer.alloc(6);
  head.writeUInt32LE(6 + body.length, 0);
  head.writeUInt16LE(texts.length, 4);
  return Buffer.concat([head, body]);
};
/** A ziplist of short strings. */
const ziplist = (...texts: string[]): Buffer => {
  let previous = 0;
  let tail = 10;
  let at = 10;
  const entries = texts.map((text) => {
    const entry = Buffer.from([previous, text.length, ...Buffer.from(text)]);
    previous = entry.length;
    tail = at;
    at += entry.length;
    return entry;
  });
  const head = Buffer.alloc(10);
  head.writeUInt32LE(at + 1, 0);
  head.writeUInt32LE(tail, 4);
  head.writeUInt16LE(texts.length, 8);
  return Buffer.concat([head, ...entries, Buffer.from([0xff])]);
};

describe('layouts', () => {
  it('strings of every form', async () => {
    const value = Buffer.concat([
      len(5),
      str('plain'),
      number,
      lzfStr(60, 0x61),
      str(''),
      Buffer.from([0xc0, 0xff]),
    ]);
    const texts = ['plain', '1234', 'a'.repeat(60), '', '-1'];
    for (const type of [1, 2]) await cameApart(type, value, texts);
    await cameApart(4, Buffer.concat([len(2), str('f'), number, lzfStr(60, 0x61), str('')]), [
      'f',
      '1234',
      'a'.repeat(60),
      '',
    ]);
  });

  it('scores come before their members', async () => {
    const text = Buffer.concat([
      len(4),
      str('m'),
      len(3),
      Buffer.from('1.5'),
      number,
      Buffer.from([254]),
      str('l'),
      Buffer.from([255]),
      str('e'),
      len(22),
      Buffer.from('0.10000000000000000555'),
    ]);
    await cameApart(3, text, ['1.5', 'm', 'inf', '1234', '-inf', 'l', '0.1', 'e']);
    const binary = Buffer.concat([
      len(4),
      str('m'),
      double(1.5),
      lzfStr(60, 0x61),
      double(-Infinity),
      str('n'),
      double(0.1),
      str('z'),
      double(3e300),
    ]);
    await cameApart(5, binary, ['1.5', 'm', '-inf', 'a'.repeat(60), '0.1', 'n', '3e+300', 'z']);
  });

  it('scores of every size keep every bit, and the sign of a zero', () => {
    const whole = [0, 1, -1, 1e15, -(2 ** 53 - 1), 2 ** 53, -1.2345678901234567e20, 1e21];
    const scores = [
      ...whole,
      -0,
      -1.2345678901234567e-6,
      -Number.MAX_VALUE,
      -Number.MIN_VALUE,
      -(2 ** -1022),
    ];
    const value = Buffer.concat([
      len(scores.length),
      ...scores.flatMap((score) => [str('m'), double(score)]),
    ]);
    const { elements, done } = taken(5, [value]);
    assert.ok(done);
    assert.deepEqual(elements.filter((_, i) => i % 2 === 0).map(Number), scores);
  });

  it('nodes of lists', async () => {
    await cameApart(14, Buffer.concat([len(2), str(ziplist('a', 'bc')), str(ziplist('d'))]), [
      'a',
      'bc',
      'd',
    ]);
    const tagged = Buffer.concat([
      len(4),
      len(2),
      str(listpack('a', 'bc')),
      len(1),
      str('plain'),
      len(1),
      lzfStr(70, 0x62),
      len(2),
      str(listpack('d')),
    ]);
    await cameApart(18, tagged, ['a', 'bc', 'plain', 'b'.repeat(70), 'd']);
  });

  it('elements above 1 MiB in pieces, plain and LZF', async () => {
    const size = (1 << 20) + 1;
    const huge = 'h'.repeat(size);
    await cameApart(1, Buffer.concat([len(3), str('a'), str(huge), str('b')]), ['a', huge, 'b']);
    await cameApart(18, Buffer.concat([len(2), len(1), lzfStr(size, 0x61), len(1), str(huge)]), [
      'a'.repeat(size),
      huge,
    ]);
    await cameApart(4, Buffer.concat([len(2), str(huge), str('v'), str('f'), lzfStr(5 << 20, 0x7a)]), [
      huge,
      'v',
      'f',
      'z'.repeat(5 << 20),
    ]);
  });

  it('can be used again after half a value', () => {
    const reader = new ElementReader(new Recorder());
    reader.start(1);
    const half = Buffer.concat([len(2), str('x'.repeat(1 << 21)).subarray(0, 100)]);
    reader.run(half, 0, half.length, 0);
    assert.equal(reader.done, false);
    reader.start(2);
    const whole = Buffer.concat([len(1), str('member')]);
    assert.equal(reader.run(whole, 0, whole.length, 0), whole.length);
    assert.ok(reader.done);
  });
});

it('which types can be taken apart', () => {
  const kinds = { 1: 'list', 2: 'set', 3: 'zset', 4: 'hash', 5: 'zset', 14: 'list', 18: 'list' };
  for (const [type, kind] of Object.entries(kinds)) assert.equal(elementKind(Number(type)), kind);
  for (const type of [0, 7, 9, 10, 11, 13, 15, 16, 19, 24]) assert.equal(elementKind(type), null);
  assert.throws(() => new ElementReader(new Recorder()).start(15), InvariantError);
});

it('damage has a place', () => {
  const damaged: [number, Buffer, number, RegExp][] = [
    [18, Buffer.concat([len(1), len(3), str('x')]), 1, /quicklist container 3/],
    [18, Buffer.concat([len(2), len(1), str('x'), len(1), str('')]), 4, /empty node/],
    [1, Buffer.from([1, 0xc7]), 1, /string encoding 7/],
    [1, Buffer.from([0xc0]), 0, /length was expected/],
    [5, Buffer.concat([len(1), str('m'), double(Number.NaN)]), 3, /score NaN/],
    [3, Buffer.concat([len(1), str('m'), Buffer.from([253])]), 3, /score NaN/],
    [2, Buffer.concat([len(1), len(2n ** 55n)]), 1, /string of/],
    [5, Buffer.concat([len(1), len(2n ** 39n)]), 1, /too long here/],
    [2, Buffer.concat([len(1), Buffer.from([0xc3]), len(10), len(2 ** 30), Buffer.alloc(10)]), 1, /claims/],
    [14, Buffer.concat([len(1), str('no ziplist')]), 1, /ziplist/],
  ];
  for (const [type, value, offset, message] of damaged) {
    assert.throws(
      () => taken(type, [value]),
      (error) => {
        assert.ok(error instanceof RdbFormatError, String(error));
        assert.match(error.message, message);
        assert.ok(error.offset >= offset && error.offset <= value.length, `offset ${error.offset}`);
        return true;
      },
    );
  }
});
