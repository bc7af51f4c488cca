import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WriteTally } from '../../../src/target/write/write-tally.ts';

test('what is under way may be executed, or not; what is answered was', () => {
  const tally = new WriteTally();
  tally.begin(3);
  assert.deepEqual([tally.least, tally.most, tally.quiet], [0, 3, false]);
  tally.done(3);
  assert.deepEqual([tally.least, tally.most, tally.quiet], [3, 3, true]);
});

test('what was lost stays in doubt until it is settled, or a new count begins', () => {
  const tally = new WriteTally();
  tally.begin(12);
  tally.lost(12);
  assert.deepEqual([tally.least, tally.most, tally.quiet], [0, 12, true]);
  tally.settle(3, true);
  tally.settle(4, false);
  assert.deepEqual([tally.least, tally.most], [3, 8]);
  tally.forgetDoubt();
  assert.equal(tally.least, tally.most);
});

test('a request beside the stream: done where it succeeds, in doubt where it fails', async () => {
  const tally = new WriteTally();
  const answer = await tally.around(2, async () => {
    assert.equal(tally.most, 2);
    return 'answer';
  });
  assert.equal(answer, 'answer');
  const failure = new Error('lost');
  await assert.rejects(
    tally.around(1, () => Promise.reject(failure)),
    failure,
  );
  assert.deepEqual([tally.least, tally.most, tally.begun], [2, 3, 3]);
});

test('a script of the source makes it uncountable for good', () => {
  const tally = new WriteTally();
  assert.equal(tally.uncountable, false);
  tally.meetScript();
  tally.forgetDoubt();
  assert.equal(tally.uncountable, true);
});
