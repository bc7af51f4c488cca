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
    feed: null,
    attached: null,
    releasedAt: null,
    ownHistory: null,
    useless: null,
    attachedAt: null,
    handover: null,
    swap: null,
    backSwap: null,
    sourceUser: false,
    importMode: false,
    kept: null,
    foreignWrites: null,
    tuned: [],
  });
});

test('settings of the source, until they are put back or somebody else has changed them', () => {
  const tuned = (tuning: string): JournalEntry => entry('tuned', { tuning, before: 'a', value: 'b' });
  const journal = [...begun, tuned('output-buffer'), tuned('backlog'), tuned('compression')];
  const left = [...journal, entry('tuned-back', 'compression'), entry('tuned-left', 'backlog')];
  assert.deepEqual(leftoversOf([tuned('backlog'), entry('tuned-refused', 'backlog')], 'a').tuned, []);
  assert.deepEqual(leftoversOf(left, 'a').tuned, [{ tuning: 'output-buffer', before: 'a', value: 'b' }]);
  assert.deepEqual(leftoversOf([entry('tuned', { tuning: 'maxmemory' }), entry('tuned')], 'a').tuned, []);
});

test('a copy that is kept, until it is loaded or another begins', () => {
  const kept = (name: string): JournalEntry =>
    entry('kept-copy', { name, replid: PLACE.replid, offset: 7, bytes: 12 });
  const left = leftoversOf([...begun, kept('one'), kept('two')], 'a');
  assert.equal(left.kept?.name, 'two');
  assert.deepEqual(left.kept?.position, { replid: PLACE.replid, offset: 7 });
  assert.equal(leftoversOf([...begun, kept('one'), entry('kept-copy')], 'a').kept, null);
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

const PINGS = { pings: { name: 'repl-ping-replica-period', value: '10' } };
const PLACE = { replid: 'S', offset: 90, db: 2 };

test('an attached target: its settings of before are known until they are put back', () => {
  const settings = [{ name: 'masterauth', value: '' }];
  const attached = [entry('feed', 'attach'), entry('attach', settings)];
  assert.equal(leftoversOf(attached, 'a').feed, 'attach');
  assert.deepEqual(leftoversOf(attached, 'a').attached, settings);
  assert.equal(leftoversOf([...attached, entry('attach-released')], 'a').attached, null);
});

test('a place at which the target was, or was to be, made a master counts until it is taken back', () => {
  assert.deepEqual(leftoversOf([entry('handover', PLACE)], 'a').handover, PLACE);
  assert.equal(leftoversOf([entry('handover', PLACE), entry('handover')], 'a').handover, null);
});

test('a change of roles counts until it is through or undone, each direction by itself', () => {
  const left = leftoversOf([entry('swap', PINGS), entry('swap'), entry('back-swap', PINGS)], 'a');
  assert.equal(left.swap, null);
  assert.deepEqual(left.backSwap, PINGS);
  assert.deepEqual(leftoversOf([entry('swap', { pings: null })], 'a').swap, { pings: null });
});

test('our user on the source', () => {
  assert.equal(leftoversOf([entry('source-user')], 'a').sourceUser, true);
  assert.equal(leftoversOf([entry('source-user'), entry('source-user-dropped')], 'a').sourceUser, false);
});

test('a rollback behind a promotion fences the target', () => {
  const promotion = [
    ...begun,
    entry('source-fence', {}),
    entry('target-fence-lifted'),
    entry('phase', 'promoted'),
  ];
  const back = leftoversOf([...promotion, entry('target-fence', { of: 'the way back' })], 'a');
  assert.deepEqual(back.targetFence, { of: 'the way back' });
  assert.notEqual(back.sourceFence, null);
  const through = leftoversOf([...promotion, entry('target-fence', {}), entry('source-fence-lifted')], 'a');
  assert.equal(through.sourceFence, null);
});

test('an entry of a later release is refused', () => {
  assert.throws(() => leftoversOf([entry('from-the-future')], 'a'), /unknown kind/);
});
