/** What passes the valve of a pair, and that who waits is told. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { MEGABYTE, NO_THROTTLE } from '../../../src/core/throttle.ts';
import { Valve } from '../../../src/migrate/valve.ts';
import { until } from '../../helpers/wait.ts';

test('open until it is shut, and who listens is told of each opening', () => {
  const valve = new Valve();
  const wider = mock.fn();
  valve.whenWider(wider);
  assert.equal(valve.mayPass(), true);
  assert.equal(valve.piece, Number.POSITIVE_INFINITY);
  valve.pause(true);
  assert.equal(valve.mayPass(), false);
  const before = wider.mock.callCount();
  valve.pause(false);
  assert.equal(wider.mock.callCount(), before + 1);
  assert.equal(valve.mayPass(), true);
});

test('behind a limit nothing passes for a while, then it tells', async () => {
  const valve = new Valve({ keysPerSecond: 100, bytesPerSecond: null });
  const wider = mock.fn();
  valve.whenWider(wider);
  assert.equal(valve.mayPass(), true);
  valve.passed(10_000, 15);
  assert.equal(valve.mayPass(), false);
  assert.equal(valve.mayPass(), false);
  await until(() => wider.mock.callCount() === 1, { what: 'told that something may pass' });
  assert.equal(valve.mayPass(), true);
});

test('bytes count as well as keys; a new limit forgets what was too much', () => {
  const valve = new Valve({ keysPerSecond: null, bytesPerSecond: MEGABYTE });
  valve.passed(100 * MEGABYTE, 1);
  assert.equal(valve.mayPass(), false);
  valve.throttle(NO_THROTTLE);
  assert.equal(valve.mayPass(), true);
});

test('a cutover passes a limit, and what went meanwhile is not made up for', () => {
  const valve = new Valve({ keysPerSecond: 1, bytesPerSecond: null });
  valve.passed(0, 1_000);
  assert.equal(valve.mayPass(), false);
  valve.openWide(true);
  assert.equal(valve.mayPass(), true);
  valve.passed(0, 1_000);
  valve.openWide(false);
  assert.equal(valve.mayPass(), true);
});
