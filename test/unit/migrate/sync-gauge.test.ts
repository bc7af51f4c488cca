import assert from 'node:assert/strict';
import { it } from 'node:test';
import { SAMPLE_INTERVAL_MS, SyncGauge } from '../../../src/migrate/sync-gauge.ts';

const MB = 1 << 20;

/** Samples `[source, applied]` at the interval; what each came to. */
function samples(gauge: SyncGauge, list: readonly (readonly [number, number])[], from = 0): boolean[] {
  return list.map(([source, applied], i) => gauge.sample(source, applied, from + i * SAMPLE_INTERVAL_MS));
}

it('three times in a row the target had what the source had one sample earlier', () => {
  const gauge = new SyncGauge();
  assert.deepEqual(
    samples(gauge, [
      [100, 100],
      [200, 100],
      [300, 200],
      [400, 300],
    ]),
    [false, false, false, true],
  );
  assert.equal(gauge.inSync, true);
});

it('two in a row and a miss begin again', () => {
  const gauge = new SyncGauge();
  assert.deepEqual(
    samples(gauge, [
      [100, 100],
      [200, 100],
      [300, 200],
      [400, 299],
      [500, 400],
      [600, 500],
      [700, 600],
    ]),
    [false, false, false, false, false, false, true],
  );
});

it('samples that come too soon behind one of the row are not counted', () => {
  const gauge = new SyncGauge();
  gauge.sample(100, 50, 0);
  assert.equal(gauge.sample(100, 100, 7), false, 'the first of the row');
  for (let now = 17; now < 407; now += 10) assert.equal(gauge.sample(100, 100, now), false, String(now));
  assert.equal(gauge.sample(100, 100, 407), true);
});

it('stays in sync over a small lag, falls back over a large one, and comes again', () => {
  const gauge = new SyncGauge();
  samples(gauge, [
    [1, 1],
    [1, 1],
    [1, 1],
    [1, 1],
  ]);
  assert.deepEqual(
    samples(
      gauge,
      [
        [64 * MB, 1],
        [64 * MB + 1, 1],
        [64 * MB + 2, 1],
      ],
      10_000,
    ),
    [true, true, false],
  );
  assert.equal(gauge.inSync, false);
  const now = 200 * MB;
  assert.deepEqual(
    samples(
      gauge,
      [
        [now, now],
        [now, now],
        [now, now],
        [now, now],
      ],
      20_000,
    ),
    [false, false, true, true],
  );
});

it('reset forgets', () => {
  const gauge = new SyncGauge();
  samples(gauge, [
    [1, 1],
    [1, 1],
    [1, 1],
    [1, 1],
  ]);
  gauge.reset();
  assert.equal(gauge.inSync, false);
  assert.deepEqual(
    samples(gauge, [
      [1, 1],
      [1, 1],
      [1, 1],
      [1, 1],
    ]),
    [false, false, false, true],
  );
});

it('quiet while the copy was loaded, then written to: not in sync when it is loaded', () => {
  const gauge = new SyncGauge();
  const quiet = [100, 100] as const;
  samples(gauge, [quiet, quiet, quiet, quiet, [MB, 100], [2 * MB, 100]]);
  gauge.loaded();
  assert.equal(gauge.inSync, false);
  const later = 6 * SAMPLE_INTERVAL_MS;
  const close = [2 * MB, 2 * MB] as const;
  const followed = samples(gauge, [close, close, close], later);
  assert.deepEqual(followed, [false, false, true]);
});

it('quiet until the copy was loaded: in sync at once', () => {
  const gauge = new SyncGauge();
  const quiet = [100, 100] as const;
  samples(gauge, [quiet, quiet, quiet, quiet]);
  gauge.loaded();
  assert.equal(gauge.inSync, true);
});
