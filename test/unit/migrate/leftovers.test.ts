/** What the journal of a run says is left. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leftoversOf } from '../../../src/migrate/leftovers.ts';
import type { JournalEntry } from '../../../src/migrate/run-folder.ts';

const entry = (kind: string, data: unknown = null, pair = 'a'): JournalEntry => ({ kind, pair, data });
const begun = [entry('run-user'), entry('target-fence', { kind: 'acl' }), entry('phase', 'snapshot')];

test('nothing was begun', () => {
  assert.deepEqual(leftoversOf([entry('run-user', null, 'b')], 'a'), {
    phase: null,
    targetFence: null,
    sourceFence: null,
    cutOver: false,
    runUser: false,
  });
});

test('killed while it ran: fence and user are left', () => {
  const left = leftoversOf(begun, 'a');
  assert.deepEqual(left.targetFence, { kind: 'acl' });
  assert.equal(left.runUser, true);
  assert.equal(left.phase, 'snapshot');
});

test('killed in a drain: the source is fenced, the target not open', () => {
  const left = leftoversOf([...begun, entry('source-fence', { kind: 'acl', users: [] })], 'a');
  assert.notEqual(left.sourceFence, null);
  assert.equal(left.cutOver, false);
});

test('killed between opening the target and promoting it', () => {
  const left = leftoversOf([...begun, entry('source-fence', {}), entry('target-fence-lifted')], 'a');
  assert.equal(left.cutOver, true);
  assert.equal(left.targetFence, null);
});

test('a cutover that was undone leaves no fence on the source', () => {
  const undone = [entry('source-fence', {}), entry('target-fence-lifted'), entry('target-fence', {})];
  const left = leftoversOf([...begun, ...undone, entry('source-fence-lifted')], 'a');
  assert.equal(left.sourceFence, null);
  assert.equal(left.cutOver, false);
});

test('writes enabled by the operator are no cutover', () => {
  const left = leftoversOf([...begun, entry('target-fence-lifted'), entry('phase', 'writable')], 'a');
  assert.equal(left.cutOver, false);
  assert.equal(left.phase, 'writable');
});

test('all was put away', () => {
  const left = leftoversOf([...begun, entry('target-fence-lifted'), entry('run-user-dropped')], 'a');
  assert.equal(left.targetFence, null);
  assert.equal(left.runUser, false);
});

test('an entry of a later release is refused', () => {
  assert.throws(() => leftoversOf([entry('from-the-future')], 'a'), /unknown kind/);
});
