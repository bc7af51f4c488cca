/** Releases from which no partial resync may be taken. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { offsetsCanBeTrusted } from '../../../src/source/trust.ts';

const CASES: readonly (readonly [readonly [number, number, number], boolean])[] = [
  [[2, 6, 17], false],
  [[2, 8, 21], false],
  [[2, 8, 22], true],
  [[3, 0, 3], false],
  [[3, 0, 4], true],
  [[3, 2, 0], true],
  [[5, 0, 10], true],
  [[6, 0, 3], false],
  [[6, 0, 4], true],
  [[6, 2, 0], true],
  [[7, 0, 15], true],
  [[8, 1, 8], true],
];

for (const [version, trusted] of CASES) {
  test(`${version.join('.')}: ${trusted ? 'partial' : 'full copies only'}`, () => {
    assert.equal(offsetsCanBeTrusted(version), trusted);
  });
}
