import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { InvariantError, RdbFormatError } from '../../../src/core/errors.ts';
import { formatDouble, parseTextDouble } from '../../../src/rdb/doubles.ts';
import { startServer } from './support.ts';

/** Type 3's form of a text, behind two bytes that are not part of it. */
const stored = (text: string) => Buffer.from(`..${String.fromCharCode(text.length)}${text}..`, 'latin1');

test('every double comes back bit by bit', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true }), (value) => {
      const text = formatDouble(value);
      if (Number.isFinite(value)) assert.ok(Object.is(parseTextDouble(stored(text), 2, 0), value), text);
      else assert.equal(text, value > 0 ? 'inf' : '-inf');
    }),
    { numRuns: 5000 },
  );
});

test('a real server reads them as the same double', async () => {
  const server = await startServer('--zset-max-listpack-entries', '0');
  try {
    const values = fc.oneof(
      fc.double({ noNaN: true }),
      fc.constantFrom(-0, 5e-324, 1.7976931348623157e308, 0.1),
    );
    await fc.assert(
      fc.asyncProperty(values, async (value) => {
        await server.client.del('zset');
        await server.client.zadd('zset', formatDouble(value), 'member');
        // Type 5: the score's eight bytes stand just before the footer.
        const payload = await server.client.dumpBuffer('zset');
        assert.equal(payload[0], 5);
        const score = payload.readDoubleLE(payload.length - 18);
        assert.ok(Object.is(score, value), `${value} became ${score}`);
      }),
      { numRuns: 300 },
    );
  } finally {
    await server.close();
  }
});

test('the bytes without text', () => {
  assert.ok(Number.isNaN(parseTextDouble(Buffer.from([253]), 0, 0)));
  assert.equal(parseTextDouble(Buffer.from([254]), 0, 0), Infinity);
  assert.equal(parseTextDouble(Buffer.from([255]), 0, 0), -Infinity);
});

test('what a server writes is taken, anything else refused', () => {
  for (const text of ['3.0000000000000000e+22', '-0.10000000000000001', '17', '1e-7']) {
    assert.equal(parseTextDouble(stored(text), 2, 0), Number(text));
  }
  for (const text of ['', ' 1', '0x10', '1,5', 'nan', '1e', '--1', '1 ']) {
    assert.throws(
      () => parseTextDouble(stored(text), 2, 100),
      (error) => error instanceof RdbFormatError && error.offset === 102,
      JSON.stringify(text),
    );
  }
});

test('NaN is never sent', () => {
  assert.throws(() => formatDouble(Number.NaN), InvariantError);
});
