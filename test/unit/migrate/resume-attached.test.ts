/** How a run that fed its target by `attach` goes on, from what the journal and both servers say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CutoverError } from '../../../src/core/errors.ts';
import { type AttachedResume, judgeAttached } from '../../../src/migrate/resume-attached.ts';
import type { ReplicationState } from '../../../src/migrate/roles.ts';

type Left = Parameters<typeof judgeAttached>[0];

const nothing: Left = { swap: null, handover: null, releasedAt: null, ownHistory: null, useless: null };
const swapping: Left = { ...nothing, swap: { pings: null } };
const useless: Left['useless'] = { of: 'S', replid: 'R', mark: 'untouched' };

function master(replid: string, offset: number, former: ReplicationState['former'] = null): ReplicationState {
  return { role: 'master', replid, offset, master: null, linkUp: false, former };
}

function replica(replid: string, offset: number): ReplicationState {
  return { role: 'replica', replid, offset, master: { host: 'here', port: 1 }, linkUp: true, former: null };
}

const was = (replid: string, endOffset: number): ReplicationState['former'] => ({ replid, endOffset });
const promoted = (sourceFollows: boolean, sourceEqual: boolean): AttachedResume => ({
  kind: 'promoted',
  sourceFollows,
  sourceEqual,
});

interface Case {
  readonly what: string;
  readonly left?: Left;
  readonly source?: ReplicationState;
  readonly target: ReplicationState;
  readonly keys?: number;
  readonly mark?: string;
  /** Or the code of what is thrown. */
  readonly is: AttachedResume | string;
}

const CASES: readonly Case[] = [
  {
    what: 'still our replica',
    target: replica('S', 90),
    is: { kind: 'go-on', from: { replid: 'S', offset: 90 }, db: -1, ownReplid: null },
  },
  {
    what: 'still our replica, in a cutover that had not come to the target',
    left: swapping,
    target: replica('S', 100),
    is: { kind: 'go-on', from: { replid: 'S', offset: 100 }, db: -1, ownReplid: null },
  },
  {
    what: 'our replica, and the source has a new history since',
    source: master('S2', 200, was('S', 150)),
    target: replica('S', 150),
    is: { kind: 'go-on', from: { replid: 'S', offset: 150 }, db: -1, ownReplid: null },
  },
  {
    what: 'our replica beyond the end of the old history',
    source: master('S2', 200, was('S', 150)),
    target: replica('S', 151),
    is: { kind: 'copy' },
  },
  { what: 'a replica with another history', target: replica('X', 90), is: { kind: 'copy' } },
  {
    what: 'given back, nothing written since',
    target: master('T', 90, was('S', 90)),
    is: { kind: 'go-on', from: { replid: 'S', offset: 90 }, db: -1, ownReplid: 'T' },
  },
  {
    what: 'given back at a place whose database is known',
    left: { ...nothing, releasedAt: { replid: 'S', offset: 90, db: 0 } },
    target: master('T', 90, was('S', 90)),
    is: { kind: 'go-on', from: { replid: 'S', offset: 90 }, db: 0, ownReplid: 'T' },
  },
  {
    what: 'given back elsewhere than where it was stopped',
    left: { ...nothing, releasedAt: { replid: 'S', offset: 80, db: 0 } },
    target: master('T', 90, was('S', 90)),
    is: { kind: 'go-on', from: { replid: 'S', offset: 90 }, db: -1, ownReplid: 'T' },
  },
  {
    what: 'given back a second time, before it had followed again',
    left: { ...nothing, ownHistory: { replid: 'T', of: 'S', offset: 90 } },
    target: master('T2', 90, was('T', 90)),
    is: { kind: 'go-on', from: { replid: 'S', offset: 90 }, db: -1, ownReplid: 'T2' },
  },
  {
    what: 'given back a second time, written in between',
    left: { ...nothing, ownHistory: { replid: 'T', of: 'S', offset: 90 } },
    target: master('T2', 95, was('T', 95)),
    is: 'other-history',
  },
  { what: 'given back, written since', target: master('T', 95, was('S', 90)), is: 'target-written' },
  {
    what: 'given back, nothing written since, and the source has lost its history',
    target: master('T', 90, was('X', 90)),
    is: 'other-history',
  },
  {
    what: 'given back, emptied since',
    target: master('T', 95, was('S', 90)),
    keys: 0,
    is: { kind: 'copy' },
  },
  { what: 'restarted with its data', target: master('T', 0), is: 'target-written' },
  { what: 'restarted empty', target: master('T', 0), keys: 0, is: { kind: 'copy' } },
  {
    what: 'restarted with its data, given back before it had another copy',
    left: { ...nothing, useless },
    target: master('T', 0, was('R', 0)),
    is: { kind: 'copy' },
  },
  {
    what: 'the same, written since',
    left: { ...nothing, useless },
    target: master('T', 0, was('R', 0)),
    mark: 'touched',
    is: 'target-written',
  },
  {
    what: 'the same, and the source has lost its history',
    left: { ...nothing, useless },
    source: master('S2', 1),
    target: master('T', 0, was('R', 0)),
    is: 'other-history',
  },
  {
    what: 'the same in a cutover',
    left: { ...swapping, useless },
    target: master('T', 0, was('R', 0)),
    is: 'two-masters',
  },
  {
    what: 'opened by e',
    left: { ...nothing, handover: { replid: 'S', offset: 90, db: 2 } },
    target: master('T', 500, was('S', 90)),
    is: { kind: 'written', place: { replid: 'S', offset: 90, db: 2 } },
  },
  {
    what: 'e was noted, and the target not yet made a master',
    left: { ...nothing, handover: { replid: 'S', offset: 90, db: 2 } },
    target: replica('S', 90),
    is: { kind: 'go-on', from: { replid: 'S', offset: 90 }, db: -1, ownReplid: null },
  },
  {
    what: 'a place of e that never was, and a cutover at the very same place',
    left: { ...swapping, handover: { replid: 'S', offset: 100, db: 0 } },
    target: master('T', 100, was('S', 100)),
    is: promoted(false, true),
  },
  {
    what: 'a cutover: the target is the master, the source stands where it was',
    left: swapping,
    target: master('T', 130, was('S', 100)),
    is: promoted(false, true),
  },
  {
    what: 'a cutover: the source has moved on',
    left: swapping,
    source: master('S', 114),
    target: master('T', 130, was('S', 100)),
    is: promoted(false, false),
  },
  {
    what: 'a cutover: the source follows',
    left: swapping,
    source: replica('T', 130),
    target: master('T', 130, was('S', 100)),
    is: promoted(true, true),
  },
  {
    what: 'a cutover: the source has let go of its history since, an hour without replicas',
    left: swapping,
    source: master('S2', 100),
    target: master('T', 130, was('S', 100)),
    is: 'two-masters',
  },
];

for (const each of CASES) {
  const { what, left = nothing, source = master('S', 100), target, keys = 5, mark = 'untouched', is } = each;
  test(what, () => {
    if (typeof is === 'string') {
      assert.throws(
        () => judgeAttached(left, source, target, keys, mark),
        (error) => error instanceof CutoverError && error.code === is,
      );
    } else {
      assert.deepEqual(judgeAttached(left, source, target, keys, mark), is);
    }
  });
}
