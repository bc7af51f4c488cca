/** Limits as people type them, and the bucket that keeps them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MEGABYTE, NO_THROTTLE, parseThrottle, throttleText } from '../../../src/core/throttle.ts';
import { TokenBucket } from '../../../src/core/token-bucket.ts';

describe('a limit that is typed', () => {
  for (const [typed, keysPerSecond, bytesPerSecond] of [
    ['1000 keys', 1000, null],
    ['1000keys/s', 1000, null],
    [' 20 MB ', null, 20 * MEGABYTE],
    ['0.5 mb/s', null, MEGABYTE / 2],
    ['1000 keys 20 mb', 1000, 20 * MEGABYTE],
    ['1000 keys/s and 20 MB/s', 1000, 20 * MEGABYTE],
    ['off', null, null],
  ] as const) {
    test(typed, () => assert.deepEqual(parseThrottle(typed), { keysPerSecond, bytesPerSecond }));
  }

  for (const typed of [
    '',
    '1000',
    'keys',
    '0 keys',
    '0.001 mb',
    '-1 mb',
    '1e3 keys',
    '1.5 keys',
    '20 mb off',
  ]) {
    test(`none: "${typed}"`, () => assert.equal(parseThrottle(typed), null));
  }

  test('is told as it can be typed again', () => {
    const limits = { keysPerSecond: 1000, bytesPerSecond: 1.5 * MEGABYTE };
    assert.equal(throttleText(limits), '1000 keys/s and 1.5 MB/s');
    assert.deepEqual(parseThrottle(throttleText(limits)), limits);
    assert.equal(throttleText(NO_THROTTLE), '');
  });
});

describe('the bucket', () => {
  test('too much at once is made up for by waiting', () => {
    const bucket = new TokenBucket(100, 0);
    assert.equal(bucket.waitMs(0), 0);
    bucket.spend(60);
    // 10 could go at once, 50 were too many: half a second
    assert.equal(bucket.waitMs(0), 500);
    assert.equal(bucket.waitMs(300), 200);
    assert.equal(bucket.waitMs(501), 0);
  });

  test('no more than its rate, however often it is asked, and whatever the pieces', () => {
    const bucket = new TokenBucket(1_000, 5_000);
    let gone = 0;
    for (let now = 5_000; now < 15_000; now += 3) {
      if (bucket.waitMs(now) > 0) continue;
      bucket.spend(37);
      gone += 37;
    }
    assert.ok(gone >= 9_900 && gone <= 10_200, String(gone));
  });

  test('a quiet time allows a tenth of a second, not more', () => {
    const bucket = new TokenBucket(1_000, 0);
    let gone = 0;
    for (; bucket.waitMs(3_600_000) === 0; gone++) bucket.spend(1);
    assert.equal(gone, 100);
  });
});
