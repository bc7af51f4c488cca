/** When this process steps back, and when it takes its place again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GiveWay, type OwnPriority } from '../../../src/migrate/give-way.ts';

const given = (priority: number | null): OwnPriority & { readonly seen: number[] } => {
  const seen: number[] = [];
  return { given: priority, seen, set: (value) => void seen.push(value) };
};

describe('the priority of this process', () => {
  it('is lower from the first copy that begins until the last has come', () => {
    const own = given(0);
    const giveWay = new GiveWay();
    giveWay.enable(own);
    const [one, two] = [{}, {}];
    giveWay.copying(one, true);
    giveWay.copying(two, true);
    giveWay.copying(one, true);
    giveWay.copying(one, false);
    assert.deepEqual(own.seen, [7]);
    giveWay.copying(two, false);
    giveWay.copying(two, false);
    assert.deepEqual(own.seen, [7, 0]);
  });

  it('is its own during each cutover, also one that fails, whatever else is copied', async () => {
    const own = given(0);
    const giveWay = new GiveWay();
    giveWay.enable(own);
    giveWay.copying({}, true);
    const ends: (() => void)[] = [];
    const cutover = () => giveWay.duringCutover(new Promise((resolve) => ends.push(resolve)));
    const [first, second] = [cutover(), cutover()];
    assert.deepEqual(own.seen, [7, 0]);
    ends[0]?.();
    await first;
    assert.deepEqual(own.seen, [7, 0]);
    ends[1]?.();
    await second;
    assert.deepEqual(own.seen, [7, 0, 7]);
    await assert.rejects(giveWay.duringCutover(Promise.reject(new Error('no'))), /no/);
    assert.deepEqual(own.seen, [7, 0, 7, 0, 7]);
  });

  it('keeps within what a system knows, and counts from what it was', () => {
    const own = given(15);
    const giveWay = new GiveWay();
    giveWay.enable(own);
    giveWay.copying(own, true);
    giveWay.copying(own, false);
    assert.deepEqual(own.seen, [19, 15]);
  });

  it('stays where it could not be taken again, where the system refuses, and before it is enabled', () => {
    const fixed = given(null);
    const one = new GiveWay();
    one.enable(fixed);
    one.copying(fixed, true);
    assert.deepEqual(fixed.seen, []);

    let calls = 0;
    const refusing = {
      given: 0,
      set: () => {
        calls++;
        throw new Error('EACCES');
      },
    };
    const two = new GiveWay();
    two.enable(refusing);
    two.copying(refusing, true);
    two.copying(refusing, false);
    assert.equal(calls, 1);

    const late = given(0);
    const three = new GiveWay();
    three.copying(late, true);
    assert.deepEqual(late.seen, []);
    three.enable(late);
    assert.deepEqual(late.seen, [7]);
  });
});
