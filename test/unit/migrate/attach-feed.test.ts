/** What a target that asks is answered: its place in the source's history, or a new copy. Pure: no socket is open. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AttachFeed } from '../../../src/migrate/attach-feed.ts';
import type { FeedListener } from '../../../src/migrate/feed.ts';
import { Spool } from '../../../src/spool/spool.ts';

const [OURS, NEW, FOREIGN] = ['a', 'b', 'c'].map((digit) => digit.repeat(40)) as [string, string, string];
/** Offset of the last byte that the target had when the run was resumed. */
const START = 100;
const STREAM = Buffer.from('*1\r\n$4\r\nPING\r\n'.repeat(4));

/** A resumed feed that has received STREAM; `lost` are its notes that a copy was lost. */
function resumed(t: TestContext): { feed: AttachFeed; lost: string[] } {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-attach-feed-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const spool = new Spool({
    dir: join(dir, 'spool'),
    memoryBytes: 1 << 20,
    limitBytes: Number.POSITIVE_INFINITY,
  });
  const lost: string[] = [];
  const listener: FeedListener = {
    copyBegins: () => undefined,
    prepareTarget: async () => undefined,
    snapshotLoaded: () => undefined,
    waiting: () => undefined,
    note: (message) => void lost.push(message),
    divergence: () => assert.fail('a replica tells of none'),
    failed: (error) => assert.fail(error),
    redial: () => undefined,
    acknowledge: () => undefined,
  };
  const target = { state: () => Promise.reject(new Error('not asked')) };
  const at = { replid: OURS, offset: START };
  const feed = new AttachFeed(spool, target, at, listener, new AbortController().signal);
  assert.deepEqual(feed.answer({ replid: OURS, offset: START + 1 }), { kind: 'wait' });
  feed.continued(null);
  feed.append(STREAM);
  return { feed, lost };
}

test('every byte that was received can be asked for, under the name of the history', (t) => {
  const { feed, lost } = resumed(t);
  for (let position = 0; position <= STREAM.length; position++) {
    assert.deepEqual(feed.answer({ replid: OURS, offset: START + 1 + position }), {
      kind: 'continue',
      replid: OURS,
      position,
    });
  }
  assert.deepEqual(lost, []);
});

for (const [what, request] of [
  ['another history, at a place that ours has', { replid: FOREIGN, offset: START + 5 }],
  ['a place that is not there yet', { replid: OURS, offset: START + 2 + STREAM.length }],
  ['a place that was let go of', { replid: OURS, offset: START }],
  ['no history', { replid: '?', offset: -1 }],
] as const) {
  test(`${what}: a new copy`, (t) => {
    const { feed, lost } = resumed(t);
    assert.deepEqual(feed.answer(request), { kind: 'wait' });
    assert.match(lost.join(), /lost its copy: a new one is taken/);
  });
}

test('a history that the target began when it was a master for a moment: as long as nothing was written to it', (t) => {
  const { feed } = resumed(t);
  feed.takeForOurs(FOREIGN, START + 14);
  const answer = { kind: 'continue', replid: OURS, position: 14 };
  assert.deepEqual(feed.answer({ replid: FOREIGN, offset: START + 15 }), answer);
  assert.deepEqual(feed.answer({ replid: FOREIGN, offset: START + 16 }), { kind: 'wait' });
});

test('a history that goes on under another name: the old one is good up to where it changed', (t) => {
  const { feed } = resumed(t);
  feed.continued(NEW);
  feed.append(STREAM);
  const end = START + STREAM.length;
  assert.equal(feed.replid, NEW);
  assert.deepEqual(feed.answer({ replid: OURS, offset: end + 1 }), {
    kind: 'continue',
    replid: NEW,
    position: STREAM.length,
  });
  assert.equal(feed.answer({ replid: NEW, offset: end + 15 }).kind, 'continue');
  assert.deepEqual(feed.answer({ replid: OURS, offset: end + 15 }), { kind: 'wait' });
});
