import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatEta,
  formatPercent,
  formatRate,
  formatShortCount,
} from '../../../src/ui/format.ts';
import { pairSnapshot } from './fake.ts';

test('bytes have three significant digits and never show 1000 of a unit', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [999.6, '1.00 kB'],
    [1_000, '1.00 kB'],
    [9_996, '10.0 kB'],
    [99_960, '100 kB'],
    [999_600, '1.00 MB'],
    [588_000_000, '588 MB'],
    [1_470_000_000, '1.47 GB'],
    [2 ** 53, '9.01 PB'],
    [-5, '0 B'],
    [Number.NaN, '?'],
    [Number.POSITIVE_INFINITY, '?'],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
  assert.equal(formatRate(61_000_000), '61.0 MB/s');
});

test('counts', () => {
  assert.equal(formatCount(3_000_000), '3,000,000');
  assert.equal(formatCount(7), '7');
  assert.equal(formatCount(Number.NaN), '?');
  assert.equal(formatShortCount(18_240_000), '18.2M');
  assert.equal(formatShortCount(999), '999');
});

test('durations pick the unit that a person would', () => {
  const cases: [number, string][] = [
    [0, '0 s'],
    [0.003, '3 ms'],
    [0.0996, '0.10 s'],
    [0.46, '0.46 s'],
    [0.996, '1.0 s'],
    [7.24, '7.2 s'],
    [9.96, '10 s'],
    [59.6, '1m 00s'],
    [190, '3m 10s'],
    [7_500, '2h 05m'],
    [3 * 86_400 + 4 * 3_600, '3d 04h'],
    [Number.POSITIVE_INFINITY, '?'],
  ];
  for (const [seconds, text] of cases) assert.equal(formatDuration(seconds), text);
});

test('100% is only said of everything, and nothing of an unknown total', () => {
  assert.equal(formatPercent(999, 1000), '99%');
  assert.equal(formatPercent(1000, 1000), '100%');
  assert.equal(formatPercent(1200, 1000), '100%');
  assert.equal(formatPercent(5, null), null);
  assert.equal(formatPercent(0, 0), null);
});

test('no ETA below 1 %, without a total, or outside the snapshot', () => {
  assert.equal(formatEta(pairSnapshot()), '21 s');
  assert.equal(formatEta(pairSnapshot({ snapshotBytes: 5_879_999 })), null);
  assert.equal(formatEta(pairSnapshot({ snapshotBytes: 5_880_000 })), '21 s');
  assert.equal(formatEta(pairSnapshot({ snapshotTotal: null })), null);
  assert.equal(formatEta(pairSnapshot({ phase: 'catching-up' })), null);
});
