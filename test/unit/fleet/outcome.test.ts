/** How a session ends, by how its pairs have. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TargetError } from '../../../src/core/errors.ts';
import type { Phase } from '../../../src/core/phase.ts';
import { outcomeOf } from '../../../src/fleet/outcome.ts';

test('outcome and exit code by the ends of the pairs', () => {
  const cases: [Phase[], string, number][] = [
    [['promoted', 'promoted'], 'promoted', 0],
    [['rolled-back', 'rolled-back'], 'rolled-back', 6],
    [['rolled-back', 'promoted'], 'partly-rolled-back', 6],
    [['failed', 'promoted'], 'partly-failed', 7],
    [['failed', 'rolled-back'], 'partly-failed', 7],
    [['promoted', 'rolled-back', 'failed'], 'partly-failed', 7],
    [['failed', 'failed'], 'failed', 1],
  ];
  for (const [phases, outcome, exitCode] of cases) {
    const pairs = phases.map((phase) => ({
      phase,
      error: phase === 'failed' ? new TargetError('gone', { code: 'gone', hint: 'none' }) : null,
      leftBehind: false,
    }));
    assert.deepEqual(outcomeOf(pairs), { outcome, exitCode }, phases.join(' '));
  }
});

test('something of ours that may be left behind needs attention', () => {
  const error = new TargetError('gone', { code: 'gone', hint: 'none' });
  assert.deepEqual(outcomeOf([{ phase: 'failed', error, leftBehind: true }]), {
    outcome: 'failed',
    exitCode: 7,
  });
});
