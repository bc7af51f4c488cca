/** Figures over time: bounded, with the highest lag and the mean rate kept. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Sample, Series } from '../../../src/report/series.ts';

function sample(change: Partial<Sample> = {}): Sample {
  return { lagBytes: 0, lagSeconds: 0, commandsPerSecond: 10, bytesPerSecond: 0, ...change };
}

test('however long a run takes, there are no more points than asked for, and no peak is lost', () => {
  const series = new Series(600);
  const seconds = 3 * 24 * 3600;
  for (let second = 0; second < seconds; second++) {
    const peak = second === 77_777;
    series.add(second * 1000, sample(peak ? { lagBytes: 5e6, lagSeconds: 3.5 } : {}));
  }
  const { points, everyMs } = series.toJSON();
  assert.ok(points.length <= 600 && points.length > 250, String(points.length));
  assert.equal(Math.max(...points.map((point) => point[1])), 5e6);
  assert.equal(Math.max(...points.map((point) => point[2])), 3.5);
  assert.equal(
    points.reduce((sum, point) => sum + point[5], 0),
    seconds,
  );
  const found = points.findLast((point) => point[0] <= 77_777_000);
  assert.equal(found?.[1], 5e6, 'the peak is where it was');
  assert.ok(points.every((point, index) => point[0] - (points[index - 1]?.[0] ?? 0) <= everyMs));
});

test('what became one is the mean of all samples, not of their means', () => {
  const series = new Series(2);
  for (const [at, commandsPerSecond] of [
    [0, 1],
    [1, 2],
    [2, 9],
    [4_000, 4],
    [9_000, 8],
  ] as const) {
    series.add(at, sample({ commandsPerSecond }));
  }
  const { points } = series.toJSON();
  assert.deepEqual(
    points.map((point) => [point[0], point[3], point[5]]),
    [
      [0, 4, 4],
      [9_000, 8, 1],
    ],
  );
});

test('goes on with what an earlier process has measured, days later', () => {
  const first = new Series(100);
  for (let at = 0; at < 100_000; at += 1000) first.add(at, sample({ lagBytes: 7 }));
  const second = new Series(100, first.toJSON());
  for (let at = 0; at < 100_000; at += 1000) second.add(864e5 + at, sample({ lagBytes: 9 }));
  const { points } = second.toJSON();
  assert.ok(points.length <= 100 && points.length >= 50, String(points.length));
  assert.deepEqual([points[0]?.[1], points.at(-1)?.[1]], [7, 9]);
});
