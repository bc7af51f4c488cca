/**
 * What a run that fed its target by `attach` has left, and how it goes on: decided from the journal and from what both
 * servers say of themselves. Pure; migration.ts acts on it.
 */
import { EXIT, PreflightError } from '../core/errors.ts';
import type { ReplicationPosition } from '../core/position.ts';
import type { StopPlace } from './attach-feed.ts';
import type { Leftovers } from './leftovers.ts';
import type { ReplicationState } from './roles.ts';

export type AttachedResume =
  /** Nothing of use is on the target. */
  | { readonly kind: 'copy' }
  /**
   * The target has the copy, up to here; `db`: selected in the stream there, -1: not known; `ownReplid`: the history that
   * it began when it was given back.
   */
  | {
      readonly kind: 'go-on';
      readonly from: ReplicationPosition;
      readonly db: number;
      readonly ownReplid: string | null;
    }
  /** It was made a master by **e**: it is fed by `write` from here on. */
  | { readonly kind: 'written'; readonly place: StopPlace }
  /** It was made a master by the cutover, which is through but for what is left to do on the source. */
  | { readonly kind: 'promoted'; readonly sourceFollows: boolean; readonly sourceEqual: boolean };

/**
 * @param targetKeys how many keys the target holds
 * @param targetMark as changeMark() gives it
 * @throws PreflightError `target-written` where the target has data of its own, which a copy would wipe; `other-history`
 * where it is as it was given back, and the source is not what it was;
 * `two-masters` (exit 7) where a cutover was under way, and nothing tells whether it had come to the target
 */
export function judgeAttached(
  left: Pick<Leftovers, 'swap' | 'handover' | 'releasedAt' | 'ownHistory' | 'useless'>,
  source: ReplicationState,
  target: ReplicationState,
  targetKeys: number,
  targetMark: string | null,
): AttachedResume {
  if (target.role === 'replica') {
    const sameHistory =
      target.replid === source.replid ||
      (target.replid === source.former?.replid && target.offset <= source.former.endOffset);
    if (!sameHistory) return { kind: 'copy' };
    const { replid, offset } = target;
    return { kind: 'go-on', from: { replid, offset }, db: -1, ownReplid: null };
  }
  const { former } = target;
  const { handover } = left;
  // behind a change of roles that was begun, the place is an older one, at which the target was not made a master
  const byWriting = left.swap === null && handover !== null;
  if (byWriting && former?.replid === handover.replid && former.endOffset === handover.offset) {
    return { kind: 'written', place: handover };
  }
  const fromSource =
    former !== null && (former.replid === source.replid || former.replid === source.former?.replid);
  if (left.swap !== null) {
    const sourceFollows = source.role === 'replica' && source.replid === target.replid;
    if (sourceFollows) return { kind: 'promoted', sourceFollows, sourceEqual: true };
    if (fromSource && former !== null) {
      const sourceEqual = source.role === 'master' && source.offset === former.endOffset;
      return { kind: 'promoted', sourceFollows: false, sourceEqual };
    }
  }
  if (fromSource && former !== null && target.offset === former.endOffset) {
    const { replid, endOffset } = former;
    const db = left.releasedAt?.offset === endOffset ? left.releasedAt.db : -1;
    return { kind: 'go-on', from: { replid, offset: endOffset }, db, ownReplid: target.replid };
  }
  // given back before it had followed again
  const own = left.ownHistory;
  const unwritten = former !== null && target.offset === former.endOffset;
  if (own !== null && unwritten && former.replid === own.replid && former.endOffset === own.offset) {
    const known = own.of === source.replid || own.of === source.former?.replid;
    const from = { replid: own.of, offset: own.offset };
    if (known) return { kind: 'go-on', from, db: -1, ownReplid: target.replid };
  }
  if (targetKeys === 0) return { kind: 'copy' };
  const useless = unwritten && former.replid === left.useless?.replid ? left.useless : null;
  const untouched = useless === null ? unwritten : targetMark === useless.mark;
  if (left.swap === null && useless !== null && untouched) {
    if (useless.of === source.replid || useless.of === source.former?.replid) return { kind: 'copy' };
  }
  if (left.swap !== null) {
    throw new PreflightError(
      `a cutover was under way, and the target is a master with ${targetKeys} keys: both sides may have been written to`,
      {
        code: 'two-masters',
        hint: 'compare them and decide which side is right; a fence that is left on the source shows in its ACL LIST',
        exitCode: EXIT.attention,
      },
    );
  }
  if (untouched) {
    throw new PreflightError(
      `the source has another history than the ${targetKeys} keys of the target, which nobody has written to since`,
      {
        code: 'other-history',
        hint: 'look first whether the source has its data; then, to copy them anew: FLUSHALL on the target, and resume',
      },
    );
  }
  throw new PreflightError(
    `the target is a master again and holds ${targetKeys} keys, written, expired or restored since this run had it`,
    {
      code: 'target-written',
      hint: 'look at what they are; to throw them away: FLUSHALL on the target, then resume',
    },
  );
}
