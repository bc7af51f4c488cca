/** Who is tried again, with whom, and who is not, when a worker has died. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { afterDeath } from '../../../src/fleet/strikes.ts';

const suspects = (...strikes: number[]) => strikes.map((count, pair) => ({ pair, strikes: count }));

test('the first death may be an accident: all go on together', () => {
  assert.deepEqual(afterDeath(suspects(0, 0, 0)), { quarantined: [], groups: [[0, 1, 2]] });
});

test('from the second on they are parted', () => {
  assert.deepEqual(afterDeath(suspects(1, 1, 1)), { quarantined: [], groups: [[0, 1], [2]] });
  assert.deepEqual(afterDeath(suspects(0, 1)), { quarantined: [], groups: [[0], [1]] });
});

test('a pair that is alone is given up at the third', () => {
  assert.deepEqual(afterDeath(suspects(0)), { quarantined: [], groups: [[0]] });
  assert.deepEqual(afterDeath(suspects(1)), { quarantined: [], groups: [[0]] });
  assert.deepEqual(afterDeath(suspects(2)), { quarantined: [0], groups: [] });
});

test('in company no pair is given up, however often', () => {
  assert.deepEqual(afterDeath(suspects(9, 9)), { quarantined: [], groups: [[0], [1]] });
});

test('one that kills each worker it is in is found, and nobody else', () => {
  for (const count of [1, 2, 7, 50]) {
    for (const guilty of [0, count >> 1, count - 1]) {
      const strikes = Array.from({ length: count }, () => 0);
      const quarantined: number[] = [];
      let groups: readonly (readonly number[])[] = [strikes.map((_, pair) => pair)];
      let deaths = 0;
      while (groups.some((group) => group.includes(guilty))) {
        deaths += 1;
        const group = groups.find((members) => members.includes(guilty)) ?? [];
        const verdict = afterDeath(group.map((pair) => ({ pair, strikes: strikes[pair] ?? 0 })));
        for (const pair of group) strikes[pair] = (strikes[pair] ?? 0) + 1;
        quarantined.push(...verdict.quarantined);
        groups = [...groups.filter((other) => other !== group), ...verdict.groups];
      }
      assert.deepEqual(quarantined, [guilty]);
      assert.deepEqual(
        groups.flat().toSorted((a, b) => a - b),
        strikes.map((_, pair) => pair).filter((pair) => pair !== guilty),
      );
      assert.ok(deaths <= 3 + Math.ceil(Math.log2(count)), `${deaths} deaths of ${count}`);
    }
  }
});
