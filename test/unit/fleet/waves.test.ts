/** What is cut over now: wave after wave, a canary first, and nothing more behind too many failures. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Phase } from '../../../src/core/phase.ts';
import { currentWave, nextStep, type WavePair, wavesOf } from '../../../src/fleet/waves.ts';

const pair = (name: string, phase: Phase, wave?: string): WavePair => ({
  phase,
  paused: false,
  pair: { name, ...(wave === undefined ? {} : { wave }) },
});

const NO_RULES = { maxFailures: null, canaryMs: null };

/** Names of the pairs that are due, or what else there is to do. */
function due(
  pairs: readonly WavePair[],
  rules: { maxFailures?: number; canaryMs?: number } = {},
  promotedAt: Readonly<Record<string, number>> = {},
  nowMs = 0,
): string {
  const step = nextStep(pairs, { ...NO_RULES, ...rules }, (each) => promotedAt[each.pair.name], nowMs);
  return step.kind === 'cut-over' ? step.pairs.map((each) => each.pair.name).join(' ') : step.kind;
}

test('waves come in the order of the list', () => {
  const pairs = [pair('a', 'in-sync', '2'), pair('b', 'in-sync', '1'), pair('c', 'in-sync', '2')];
  assert.deepEqual(
    wavesOf(pairs).map(({ name, pairs: members }) => [name, members.length]),
    [
      ['2', 2],
      ['1', 1],
    ],
  );
  assert.equal(currentWave(pairs)?.name, '2');
  assert.equal(currentWave([pair('a', 'promoted'), pair('b', 'failed')]), null);
});

describe('without waves', () => {
  test('one that the operator holds back waits, and keeps its wave waiting', () => {
    const held = { ...pair('a', 'in-sync'), paused: true };
    assert.equal(due([held, pair('b', 'in-sync')]), 'b');
    assert.equal(due([held]), 'wait');
    const first = { ...pair('a', 'in-sync', 'one'), paused: true };
    assert.equal(due([first, pair('b', 'in-sync', 'one'), pair('c', 'in-sync', 'two')]), 'wait');
    assert.equal(due([first, pair('b', 'in-sync', 'one')], { canaryMs: 1 }), 'wait');
  });

  test('each pair as soon as it is in sync', () => {
    assert.equal(due([pair('a', 'in-sync'), pair('b', 'snapshot'), pair('c', 'writable')]), 'a c');
    assert.equal(due([pair('a', 'promoted'), pair('b', 'catching-up')]), 'wait');
    assert.equal(due([pair('a', 'failed'), pair('b', 'in-sync')]), 'b');
  });
});

describe('with waves', () => {
  test('a wave begins when all of it is in sync, and when the one before is through', () => {
    assert.equal(
      due([pair('a', 'in-sync', '1'), pair('b', 'snapshot', '1'), pair('c', 'in-sync', '2')]),
      'wait',
    );
    assert.equal(
      due([pair('a', 'in-sync', '1'), pair('b', 'in-sync', '1'), pair('c', 'in-sync', '2')]),
      'a b',
    );
    assert.equal(
      due([pair('a', 'promoted', '1'), pair('b', 'promoted', '1'), pair('c', 'in-sync', '2')]),
      'c',
    );
  });

  test('a pair that failed keeps nobody waiting', () => {
    assert.equal(due([pair('a', 'failed', '1'), pair('b', 'in-sync', '1'), pair('c', 'in-sync', '2')]), 'b');
  });

  test('one that went back to catching up is waited for, and the next wave with it', () => {
    const pairs = [pair('a', 'promoted', '1'), pair('b', 'catching-up', '1'), pair('c', 'in-sync', '2')];
    assert.equal(due(pairs), 'wait');
    assert.equal(
      due([pair('a', 'promoted', '1'), pair('b', 'in-sync', '1'), pair('c', 'in-sync', '2')]),
      'b',
    );
  });
});

describe('a canary', () => {
  const rules = { canaryMs: 60_000 };
  test('goes alone, and the others so much later', () => {
    const before = [pair('a', 'in-sync'), pair('b', 'in-sync')];
    assert.equal(due(before, rules), 'a');
    const after = [pair('a', 'promoted'), pair('b', 'in-sync')];
    assert.equal(due(after, rules, { a: 1_000 }, 60_999), 'wait');
    assert.equal(due(after, rules, { a: 1_000 }, 61_000), 'b');
  });

  test('is waited for', () => {
    assert.equal(due([pair('a', 'snapshot'), pair('b', 'in-sync')], rules), 'wait');
  });

  test('that does not come through ends it', () => {
    assert.equal(due([pair('a', 'failed'), pair('b', 'in-sync')], rules), 'halt');
    assert.equal(due([pair('a', 'rolled-back'), pair('b', 'in-sync')], rules), 'halt');
  });

  test('of each wave; a wave of one is its own', () => {
    const pairs = [pair('a', 'promoted', '1'), pair('b', 'in-sync', '2'), pair('c', 'in-sync', '2')];
    assert.equal(due(pairs, rules, { a: 0 }, 0), 'b');
  });
});

test('more failures than may be', () => {
  const pairs = [pair('a', 'failed'), pair('b', 'in-sync'), pair('c', 'failed')];
  assert.equal(due(pairs, { maxFailures: 2 }), 'b');
  assert.equal(due(pairs, { maxFailures: 1 }), 'halt');
  assert.equal(due(pairs), 'b');
});
