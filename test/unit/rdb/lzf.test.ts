import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { RdbFormatError } from '../../../src/core/errors.ts';
import { LzfStream, lzfDecompress } from '../../../src/rdb/lzf.ts';
import { Cursor, startServer } from './support.ts';

type Step = { readonly literals: Uint8Array } | { readonly distance: number; readonly length: number };

/** Encodes steps and says what they must come to, with nothing but the format's definition. */
function compose(steps: readonly Step[]): { packed: Buffer; plain: Buffer } {
  const packed: number[] = [];
  const plain: number[] = [];
  for (const step of steps) {
    if ('literals' in step) {
      packed.push(step.literals.length - 1, ...step.literals);
      plain.push(...step.literals);
    } else if (plain.length > 0) {
      const distance = ((step.distance - 1) % Math.min(plain.length, 8192)) + 1;
      const [high, low] = [(distance - 1) >> 8, (distance - 1) & 255];
      const short = step.length - 2;
      if (short < 7) packed.push((short << 5) | high, low);
      else packed.push((7 << 5) | high, short - 7, low);
      for (let i = 0; i < step.length; i++) plain.push(plain.at(-distance)!);
    }
  }
  return { packed: Buffer.from(packed), plain: Buffer.from(plain) };
}

const steps = fc.array(
  fc.oneof(
    fc.record({ literals: fc.uint8Array({ minLength: 1, maxLength: 32 }) }),
    fc.record({ distance: fc.integer({ min: 1, max: 8192 }), length: fc.integer({ min: 3, max: 264 }) }),
  ),
  { maxLength: 60 },
);

/** Feeds a stream in pieces of the given sizes, over and over. */
function stream(packed: Buffer, length: number, pieces: readonly number[]): Buffer {
  const out: Buffer[] = [];
  // A copy: the chunk's memory is used again.
  const inflate = new LzfStream(length, (chunk) => out.push(Buffer.from(chunk)), 7);
  for (let at = 0, i = 0; at < packed.length; i++) {
    const end = Math.min(at + pieces[i % pieces.length]!, packed.length);
    inflate.push(packed, at, end);
    at = end;
  }
  inflate.end();
  return Buffer.concat(out);
}

test('whole and in any pieces', () => {
  fc.assert(
    fc.property(
      steps,
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      fc.nat(9),
      (program, pieces, shift) => {
        const { packed, plain } = compose(program);
        const shifted = Buffer.concat([Buffer.alloc(shift, 0xff), packed, Buffer.alloc(3, 0xff)]);
        const whole = lzfDecompress(shifted, shift, shift + packed.length, plain.length, 0);
        assert.deepEqual(whole, plain);
        assert.deepEqual(stream(packed, plain.length, pieces), plain);
      },
    ),
  );
});

test('distances up to the window over more output than the stream holds', () => {
  const program: Step[] = [];
  for (let i = 0; i < 300; i++)
    program.push({ literals: Uint8Array.from({ length: 32 }, (_, j) => i * 7 + j * j) });
  for (let i = 0; i < 2000; i++) {
    program.push({ distance: 8192 - (i % 3), length: 3 + (i % 262) });
    program.push({ literals: Uint8Array.of(i, i >> 8) });
  }
  const { packed, plain } = compose(program);
  assert.ok(plain.length > 200_000);
  assert.deepEqual(lzfDecompress(packed, 0, packed.length, plain.length, 0), plain);
  assert.deepEqual(stream(packed, plain.length, [4096]), plain);
  assert.deepEqual(stream(packed, plain.length, [1]), plain);
});

test('another announced length, a cut and a copy from before the start are refused', () => {
  const { packed, plain } = compose([
    { literals: Buffer.from('abcdef') },
    { distance: 3, length: 20 },
    { distance: 1, length: 4 },
  ]);
  const refused = (bytes: Buffer, length: number) => {
    assert.throws(() => lzfDecompress(bytes, 0, bytes.length, length, 500), isDamage(500));
    assert.throws(() => stream(bytes, length, [2]), isDamage(7));
  };
  for (const length of [0, 5, plain.length - 1, plain.length + 1]) refused(packed, length);
  for (let cut = 0; cut < packed.length; cut++) refused(packed.subarray(0, cut), plain.length);
  refused(Buffer.from([0, 97, 0x20, 1]), 4);
  refused(Buffer.from([0x20, 0]), 3);
});

test('a length that the input cannot hold is refused before it is allocated', () => {
  const claim = 4 * 1024 ** 4; // allocating it would be a RangeError
  assert.throws(() => lzfDecompress(Buffer.from([0, 97]), 0, 2, claim, 9), isDamage(9));
});

test('any bytes: the announced length, or a refusal; and both forms agree', () => {
  const outcome = (decompress: () => Buffer): string => {
    try {
      return decompress().toString('hex');
    } catch (error) {
      if (error instanceof RdbFormatError) return 'refused';
      throw error;
    }
  };
  // Small distances and lengths, so that more than a few inputs are valid.
  const bytes = fc.array(fc.oneof(fc.nat(3), fc.constant(32), fc.nat(255)), { maxLength: 40 });
  fc.assert(
    fc.property(bytes, fc.nat(60), (input, length) => {
      const packed = Buffer.from(input);
      const whole = outcome(() => lzfDecompress(packed, 0, packed.length, length, 0));
      if (whole !== 'refused') assert.equal(whole.length, length * 2);
      assert.equal(
        outcome(() => stream(packed, length, [1, 5])),
        whole,
      );
    }),
    { numRuns: 2000 },
  );
});

function isDamage(offset: number): (error: unknown) => boolean {
  return (error) => error instanceof RdbFormatError && error.offset === offset && /LZF/.test(error.message);
}

let server: { client: Redis; close: () => Promise<void> };
before(async () => {
  server = await startServer('--rdbcompression', 'yes');
});
after(() => server.close());

test('strings that a real server compressed', async () => {
  const text = 'the quick brown fox jumps over the lazy dog and then goes home to sleep. ';
  const values = [
    'a'.repeat(21),
    'ab'.repeat(5000),
    text.repeat(3000),
    `${'x'.repeat(400)}${text}`.repeat(50),
  ];
  for (const value of values) {
    await server.client.set('key', value);
    const payload = await server.client.dumpBuffer('key');
    assert.equal(payload[1], 0xc3, 'the server did compress it');
    const cursor = new Cursor(payload, 2);
    const [compressed, length] = [cursor.length(), cursor.length()];
    const packed = payload.subarray(cursor.at, cursor.at + compressed);
    assert.equal(lzfDecompress(packed, 0, compressed, length, 0).toString(), value);
    assert.equal(stream(packed, length, [1000]).toString(), value);
  }
});
