import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CheckResult } from '../../../src/core/events.ts';
import { findingsTable } from '../../../src/ui/findings-table.ts';

const check = (name: string, status: CheckResult['status'], detail = ''): CheckResult => ({
  name,
  status,
  detail,
});

test('one row a pair: what it is, and why', () => {
  const lines = findingsTable([
    { pair: 'cart', checks: [check('versions', 'ok')], error: null },
    { pair: 'sessions', checks: [check('clock', 'warn'), check('backlog', 'warn')], error: null },
    {
      pair: 'geo',
      checks: [
        check('clock', 'warn'),
        check('target-empty', 'refuse', 'holds 40 keys'),
        check('databases', 'refuse'),
      ],
      error: 'geo: holds 40 keys',
    },
    { pair: 'auth', checks: [], error: 'source 10.0.0.4:6379: connection refused' },
  ]);
  assert.deepEqual(lines, [
    'NAME      STATE     WHY',
    'cart      ready',
    'sessions  warnings  clock, backlog',
    'geo       refused   target-empty: holds 40 keys (and databases)',
    'auth      failed    source 10.0.0.4:6379: connection refused',
    '4 pairs checked: 1 ready, 1 with warnings, 1 refused, 1 failed',
  ]);
});

test('hostile and long text makes no second line and no control characters', () => {
  const lines = findingsTable([
    {
      pair: `\x1b[2J\u202e${'n'.repeat(500)}`,
      checks: [check('x', 'refuse', `\n\x07${'d'.repeat(9000)}`)],
      error: null,
    },
  ]);
  assert.equal(lines.length, 3);
  for (const line of lines) {
    assert.ok(line.length < 180, String(line.length));
    assert.doesNotMatch(line, /[\u0000-\u001f\u202e]/);
  }
});
