/**
 * **e** of an attached target: it becomes a master, at an exact place, and is written to from that place on. A replica
 * that was only made writable would lose on its own replicas what applications write to it (protocol.md 7a).
 */
import { performance } from 'node:perf_hooks';
import { ReplyError } from '../client/reply-error.ts';
import { toCutoverError } from '../core/errors.ts';
import type { ReplicationPosition } from '../core/position.ts';
import type { AttachFeed, StopPlace } from './attach-feed.ts';
import type { Attachment } from './attachment.ts';
import { nudgeDatabase } from './nudge.ts';
import type { CheckedPair } from './pair-context.ts';
import { assertLeftAt, makeMaster, replicationState } from './roles.ts';
import { Steps, within } from './steps.ts';

export interface HandoverRequest extends CheckedPair {
  readonly attached: Attachment;
  readonly calledOff: AbortSignal;
  /** Writes to the new master from `place` on. @param own the same place in the history of its own; null: not known */
  readonly writeFrom: (place: StopPlace, own: ReplicationPosition | null) => Promise<void>;
  /** Undoes that, however far it came. */
  readonly stopWriting: () => Promise<void>;
}

/**
 * Does the steps; the attachment is to be let go behind them. Where one fails the target follows again.
 * @throws TargetError `cutover-timeout`, `cutover-undo` (exit 7); what the servers answer
 */
export async function handOver(request: HandoverRequest): Promise<void> {
  const { pair, source, target, facts, options, emit, journal, attached, writeFrom } = request;
  const { hold, feed } = attached;
  const timeoutMs = options.cutoverTimeoutMs;
  const over = new AbortController();
  const signal = AbortSignal.any([request.calledOff, over.signal]);
  const limit = {
    timeoutMs,
    untilMs: performance.now() + timeoutMs,
    signal,
    missing: () => 'no place between two commands was reached',
  };
  const steps = new Steps(pair.name, emit, signal);
  try {
    if (!feed.databaseKnown) await nudgeDatabase(source);
    steps.undo('stream goes on', async () => feed.goOn());
    const place = await within(
      stopWhereItCanComeBack(feed, () => nudgeDatabase(source), signal),
      limit,
    );
    await steps.step('stream stopped', () => within(feed.whenApplied(place.offset), limit));
    steps.undo('noted', () => journal('handover', null));
    await journal('handover', place);
    let own: string | null = null;
    steps.undo('the target follows again', async () => {
      if (own === null) {
        // where its answer was lost nobody knows yet
        const state = await replicationState(target);
        if (state.role === 'replica') return;
        own = state.replid;
      }
      feed.takeForOurs(own, place.offset);
      await hold.followAgain({ replid: own, of: place.replid, offset: place.offset });
    });
    await steps.step('target writable', async () => {
      const state = await makeMaster(target, facts.target);
      own = state.replid;
      assertLeftAt(state, place, target.where);
    });
    steps.undo('the target is no longer written to', request.stopWriting);
    await writeFrom(place, own === null ? null : { replid: own, offset: place.offset });
    steps.keep();
  } catch (error) {
    over.abort(toCutoverError(error));
    throw await steps.back(error);
  }
}

/** In database 0, so that an undo costs no copy; elsewhere only where the source does not let us have it selected. */
async function stopWhereItCanComeBack(
  feed: AttachFeed,
  nudge: () => Promise<void>,
  signal: AbortSignal,
): Promise<StopPlace> {
  try {
    return await feed.stopInZero(signal, nudge);
  } catch (error) {
    if (error instanceof ReplyError) return feed.stopAtBoundary(signal);
    throw error;
  }
}
