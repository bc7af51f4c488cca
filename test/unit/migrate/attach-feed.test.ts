/** What a target that asks is answered: its place in the source's history, or a new copy. Pure: no socket is open. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type AttachBeginning, AttachFeed, type AttachListener } from '../../../src/migrate/attach-feed.ts';
import type { KeptCopy } from '../../../src/migrate/kept-copy.ts';
import { Valve } from '../../../src/migrate/valve.ts';
import { Spool } from '../../../src/spool/spool.ts';

const [OURS, NEW, FOREIGN] = ['a', 'b', 'c'].map((digit) => digit.repeat(40)) as [string, string, string];
/** Offset of the last byte that the target had when the run was resumed. */
const START = 100;
const STREAM = Buffer.from('*1\r\n$4\r\nPING\r\n'.repeat(4));

/** A snapshot of one key, without a checksum. */
const RDB = Buffer.concat([Buffer.from('REDIS0009\0\x01k\x01v\xff', 'latin1'), Buffer.alloc(8)]);

function spoolOf(t: TestContext): Spool {
  const dir = mkdtempSync(join(tmpdir(), 'redis-cutover-attach-feed-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return new Spool({
    dir: join(dir, 'spool'),
    memoryBytes: 1 << 20,
    limitBytes: Number.POSITIVE_INFINITY,
  });
}

/** A feed over a spool, its own where none is given; `lost` are its notes that a copy was lost, `kept` what it says of kept copies. */
function feedOf(
  t: TestContext,
  begin: AttachBeginning,
  keeps: boolean,
  spool = spoolOf(t),
): { feed: AttachFeed; spool: Spool; lost: string[]; kept: (KeptCopy | null)[]; nudges: () => number } {
  const lost: string[] = [];
  const kept: (KeptCopy | null)[] = [];
  let nudges = 0;
  const listener: AttachListener = {
    copyBegins: async () => undefined,
    prepareTarget: async () => null,
    snapshotLoaded: () => undefined,
    keepCopy: keeps ? async (copy) => void kept.push(copy) : null,
    waiting: () => undefined,
    note: (message) => void lost.push(message),
    divergence: () => assert.fail('a replica tells of none'),
    failed: (error) => assert.fail(error),
    redial: () => undefined,
    acknowledge: () => undefined,
    nudge: () => nudges++,
  };
  const target = { state: () => Promise.reject(new Error('not asked')) };
  const feed = new AttachFeed(spool, target, begin, listener, new Valve(), new AbortController().signal);
  return { feed, spool, lost, kept, nudges: () => nudges };
}

/** A resumed feed that has received STREAM. */
function resumed(t: TestContext, db = 0): { feed: AttachFeed; lost: string[]; nudges: () => number } {
  const begin = { kind: 'back', at: { replid: OURS, offset: START }, db } as const;
  const { feed, lost, nudges } = feedOf(t, begin, false);
  assert.deepEqual(feed.answer({ replid: OURS, offset: START + 1 }), { kind: 'wait' });
  feed.continued(null);
  feed.append(STREAM);
  return { feed, lost, nudges };
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

/** What the source sends next, in pieces, and what a target is told that goes on in database 0 there. */
const SELECT_2 = '*2\r\n$6\r\nselect\r\n$1\r\n2\r\n';
const SET = '*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n';
const PUBLISH = '*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$0\r\n\r\n';
for (const [what, db, pieces, outcomes] of [
  ['database 0, whatever comes', 0, [SET], ['continue', 'continue']],
  [
    'another database, until one is selected',
    2,
    [PUBLISH, SELECT_2, SET],
    ['nudge', 'nudge', 'continue', 'continue'],
  ],
  ['another database, a write before one is selected', 2, [PUBLISH, SET], ['nudge', 'nudge', 'lost']],
  [
    'an unknown database, a selection in two halves',
    -1,
    [SELECT_2.slice(0, 9), SELECT_2.slice(9)],
    ['nudge', 'nudge', 'continue'],
  ],
  ['an unknown database, a write', -1, [SET], ['nudge', 'lost']],
] as const) {
  test(`a target that was a master for a moment goes on in database 0; the stream is in ${what}`, (t) => {
    const { feed, lost, nudges } = resumed(t, db);
    feed.takeForOurs(FOREIGN, START + STREAM.length);
    const found: string[] = [];
    const look = (): void => {
      const before = nudges();
      const { kind } = feed.answer({ replid: FOREIGN, offset: START + STREAM.length + 1 });
      found.push(
        kind === 'continue' ? 'continue' : lost.length > 0 ? 'lost' : nudges() > before ? 'nudge' : kind,
      );
    };
    look();
    for (const piece of pieces) {
      feed.append(Buffer.from(piece));
      look();
    }
    assert.deepEqual(found, outcomes);
  });
}

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

/** The answer with which the target begins anew. */
const FULL = {
  kind: 'full',
  replid: OURS,
  offset: START,
  framing: { kind: 'length', bytes: RDB.length },
} as const;
const NO_HISTORY = { replid: '?', offset: -1 };

/** A feed that has received a copy at START and STREAM behind it. */
async function loading(t: TestContext, keeps: boolean) {
  const parts = feedOf(t, { kind: 'copy' }, keeps);
  await parts.feed.fullResync({ replid: OURS, offset: START }, FULL.framing);
  parts.feed.append(Buffer.concat([RDB, STREAM]));
  return parts;
}

test('a target that breaks off while it loads: a new copy, or the kept one again, but not for ever', async (t) => {
  const { feed, lost } = await loading(t, false);
  feed.attached(feed.answer(NO_HISTORY));
  feed.sent(10);
  assert.deepEqual(feed.answer(NO_HISTORY), { kind: 'wait' });
  assert.match(lost.join(), /broke off while it was loading: a new one/);

  const keeping = await loading(t, true);
  for (let times = 0; times < 5; times++) {
    const answer = keeping.feed.answer(NO_HISTORY);
    assert.deepEqual(answer, FULL);
    keeping.feed.attached(answer);
    keeping.feed.sent(10);
  }
  assert.deepEqual(keeping.lost, []);
  assert.deepEqual(keeping.feed.answer(NO_HISTORY), { kind: 'wait' });
  assert.match(keeping.lost.join(), /broke off while it was loading: a new one/);
});

test('a kept copy: noted before its first byte, again where the history is renamed, not any more with the next', async (t) => {
  const { feed, spool, kept } = feedOf(t, { kind: 'copy' }, true);
  await feed.fullResync({ replid: OURS, offset: START }, FULL.framing);
  assert.deepEqual([spool.keeps, spool.end], [true, 0]);
  const [first] = kept;
  assert.deepEqual(first?.position, { replid: OURS, offset: START });
  feed.continued(NEW);
  assert.deepEqual(kept[1], { ...first, position: { replid: NEW, offset: START } });
  await feed.fullResync({ replid: OURS, offset: START + 500 }, FULL.framing);
  assert.equal(kept.length, 3);
  assert.notEqual(kept[2]?.name, first?.name);
});

test('a kept copy, resumed: the source is asked for what follows, the target gets the copy or what it lacks', async (t) => {
  const former = await loading(t, true);
  const copy = { ...former.kept[0]!, streamStart: RDB.length };
  const { feed, lost } = feedOf(t, { kind: 'kept', copy }, true, former.spool);
  assert.deepEqual(await feed.resumePosition(), { replid: OURS, offset: START + STREAM.length });
  assert.deepEqual(feed.answer(NO_HISTORY), FULL);
  assert.deepEqual(feed.answer({ replid: OURS, offset: START }), FULL);
  assert.deepEqual(feed.answer({ replid: FOREIGN, offset: START + 1 }), FULL);
  for (let more = 0; more <= STREAM.length; more++) {
    const answer = { kind: 'continue', replid: OURS, position: RDB.length + more };
    assert.deepEqual(feed.answer({ replid: OURS, offset: START + 1 + more }), answer);
  }
  // handed out by the process before, and not saved by it: the source sends it again
  assert.deepEqual(feed.answer({ replid: OURS, offset: START + 2 + STREAM.length }), { kind: 'wait' });
  assert.deepEqual(lost, []);
});
