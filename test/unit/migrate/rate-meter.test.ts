import assert from 'node:assert/strict';
import { it } from 'node:test';
import { RateMeter } from '../../../src/migrate/rate-meter.ts';

it('is 0 until there are two samples at two times', () => {
  const meter = new RateMeter();
  assert.equal(meter.perSecond, 0);
  meter.add(500, 1000);
  assert.equal(meter.perSecond, 0);
  meter.add(900, 1000);
  assert.equal(meter.perSecond, 0);
  meter.add(1000, 2000);
  assert.equal(meter.perSecond, 500);
});

it('looks back three seconds', () => {
  const meter = new RateMeter();
  for (let second = 0; second <= 10; second++) meter.add(second < 5 ? 0 : (second - 5) * 100, second * 1000);
  assert.equal(meter.perSecond, 100);
  for (let second = 11; second <= 14; second++) meter.add(500, second * 1000);
  assert.equal(meter.perSecond, 0);
});

it('keeps two samples however old, so that a slow counter has a rate', () => {
  const meter = new RateMeter();
  meter.add(0, 0);
  meter.add(100, 10_000);
  assert.equal(meter.perSecond, 10);
});

it('begins anew where the counter does', () => {
  const meter = new RateMeter();
  meter.add(1000, 0);
  meter.add(2000, 1000);
  meter.add(10, 1500);
  assert.equal(meter.perSecond, 0);
  meter.add(60, 2000);
  assert.equal(meter.perSecond, 100);
});
