/** What the journal says about changes on the servers: made, put back, or still there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JournalLine } from '../../../src/migrate/run-folder.ts';
import { settingChanges } from '../../../src/report/setting-changes.ts';

function journal(
  ...lines: readonly (readonly [kind: string, data?: unknown, pair?: string])[]
): JournalLine[] {
  return lines.map(([kind, data = null, pair = 'cart'], index) => ({ kind, pair, data, at: `t${index}` }));
}

test('changed and put back, changed and left, of one pair only', () => {
  const changes = settingChanges(
    journal(
      ['phase', 'snapshot'],
      ['run-user'],
      ['target-fence', { kind: 'acl' }],
      ['target-fence', { kind: 'acl' }, 'other'],
      ['import-mode', true],
      ['import-mode', false],
      ['source-fence', { kind: 'acl' }],
      ['target-fence-lifted'],
      ['run-user-dropped'],
      ['a-kind-of-a-later-release', { x: 1 }],
    ),
    'cart',
  );
  assert.deepEqual(
    changes.map(({ side, what, changedAt, putBackAt }) => [side, what, changedAt, putBackAt]),
    [
      ['target', 'a user of the run', 't1', 't8'],
      ['target', 'fence: users may not write', 't2', 't7'],
      ['target', 'import-mode: was no', 't4', 't5'],
      ['source', 'fence: users may not write', 't6', null],
    ],
  );
});

test('what an attached target was, and the PINGs of a change of roles that was undone', () => {
  const pings = { name: 'repl-ping-replica-period', value: '10' };
  const changes = settingChanges(
    journal(
      [
        'attach',
        [
          { name: 'replica-read-only', value: 'no' },
          { name: 'masterauth', value: '' },
        ],
      ],
      ['attach', [{ name: 'replica-read-only', value: 'no' }]],
      ['swap', { pings }],
      ['source-fence', {}],
      ['source-fence-lifted'],
      ['swap', { pings: null }],
      ['swap'],
      ['attach-released'],
    ),
    'cart',
  );
  assert.deepEqual(
    changes.map(({ side, what, changedAt, putBackAt }) => [side, what, changedAt, putBackAt]),
    [
      ['target', 'replica of the run; replica-read-only: was no; masterauth: was ""', 't0', 't7'],
      ['source', 'repl-ping-replica-period: was 10', 't2', 't4'],
      ['source', 'fence: users may not write', 't3', 't4'],
    ],
  );
});

test('settings of the source: put back, still there, and changed by somebody else', () => {
  const tuned = (tuning: string, before: string, value: string) => ({ tuning, before, value });
  const changes = settingChanges(
    journal(
      ['tuned', tuned('compression', 'yes', 'no')],
      ['tuned', tuned('backlog', '1', '2')],
      ['tuned', tuned('output-buffer', 'replica 1 1 1', 'replica 2 2 2')],
      ['tuned-back', 'compression'],
      ['tuned-left', 'backlog'],
      ['tuned', tuned('backlog', '3', '4')],
      ['tuned-refused', 'backlog'],
    ),
    'cart',
  );
  assert.deepEqual(
    changes.map(({ side, what, changedAt, putBackAt }) => [side, what, changedAt, putBackAt]),
    [
      ['source', 'rdbcompression: was yes, set to no', 't0', 't3'],
      [
        'source',
        'repl-backlog-size: was 1, set to 2; changed by somebody else meanwhile, and left so',
        't1',
        null,
      ],
      ['source', 'client-output-buffer-limit: was replica 1 1 1, set to replica 2 2 2', 't2', null],
    ],
  );
});
