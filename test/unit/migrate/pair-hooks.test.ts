/** Hooks that only tell somebody: each once, one after the other, and none can do harm. Runs /bin/sh. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Hooks, RunOptions } from '../../../src/core/options.ts';
import { Announcements, pairHook } from '../../../src/migrate/pair-hooks.ts';
import type { PairFacts } from '../../../src/migrate/preflight.ts';

function hooked(hooks: Hooks) {
  const notes: string[] = [];
  const server = (host: string) => ({ host, port: 6379, username: null, password: null, tls: null });
  const pair = {
    pair: { name: 'cart', source: server('old'), target: server('new') },
    options: { hooks } as RunOptions,
    facts: { feed: 'write' } as PairFacts,
    runDir: '/run',
    note: (message: string) => void notes.push(message),
  };
  return { pair, notes };
}

test('each event once, in order, though the first takes longer; a failure is no more than a note', async () => {
  const { pair, notes } = hooked({
    'in-sync': 'sleep 0.3; echo "$REDIS_CUTOVER_EVENT of $REDIS_CUTOVER_PAIR"; exit 3',
    failure: 'echo "$REDIS_CUTOVER_EVENT"',
  });
  const announcements = new Announcements();
  announcements.announce(pair, 'in-sync');
  announcements.announce(pair, 'in-sync');
  announcements.announce(pair, 'rollback');
  announcements.announce(pair, 'failure');
  assert.deepEqual(notes, [], 'nobody waits');
  await announcements.settled();
  assert.deepEqual(notes, [
    'hook: in-sync of cart',
    'the hook "in-sync" ended with exit code 3',
    'hook: failure',
  ]);
});

test('there is no hook where none was given', () => {
  assert.equal(pairHook(hooked({ failure: 'true' }).pair, 'start', new AbortController().signal), null);
});
