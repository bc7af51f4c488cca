/** Waits of tests end, also for what never comes; and what a test began is undone in the reverse order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atEnd } from '../../helpers/server.ts';
import { until, within } from '../../helpers/wait.ts';

const never = new Promise<never>(() => {});

test('until: an answer that never comes', async () => {
  await assert.rejects(
    until(() => never, { timeoutMs: 20, what: 'a yes' }),
    /not within 20 ms: a yes/,
  );
});

test('within: what the work gives, its error, or the limit', async () => {
  assert.equal(await within(Promise.resolve('done'), 60_000, 'work'), 'done');
  await assert.rejects(within(Promise.reject(new Error('broken')), 60_000, 'work'), /broken/);
  await assert.rejects(within(never, 20, 'work'), /not within 20 ms: work/);
});

test('atEnd: the last begun ends first, and one that fails does not keep the others from ending', async () => {
  const hooks: (() => void | Promise<void>)[] = [];
  const ended: string[] = [];
  const t = { after: (end: () => void | Promise<void>) => void hooks.push(end) };
  atEnd(t, () => void ended.push('server'));
  atEnd(t, async () => {
    ended.push('folder');
    throw new Error('not empty');
  });
  atEnd(t, () => void ended.push('program'));
  assert.equal(hooks.length, 1);
  await assert.rejects(async () => hooks[0]?.(), /at the end of the test: .*not empty/);
  assert.deepEqual(ended, ['program', 'folder', 'server']);
});
