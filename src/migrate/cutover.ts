/**
 * The last steps, each timed, each undone if a later one fails or the cutover is called off. Two ways to the same end:
 *
 * - cutOver(), feed `write`: pause writes on the source → drain → fence it → drain to the offset read behind the fence →
 *   end the stream → compare the tail → nobody else has written → target writable → hook. The fence on the source stays.
 * - swapRoles(), feed `attach`: the same up to the tail; then the target becomes a master at that very offset, and the
 *   source a read-only replica of it before its pause ends: the lasting fence is its new role. A rollback is the same
 *   in the other direction.
 *
 * Told as steps so that the story in migration.ts stays short.
 */
import { performance } from 'node:perf_hooks';
import { ReplyError } from '../client/reply-error.ts';
import type { ServerInfo } from '../client/server-info.ts';
import type { ServerSession } from '../client/session.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { toCutoverError } from '../core/errors.ts';
import type { Fence } from '../target/write/fence.ts';
import type { Expiry } from './expiry.ts';
import {
  assertLeftAt,
  follow,
  makeMaster,
  pingPeriodName,
  type ReplicationState,
  replicaOf,
  replicationState,
} from './roles.ts';
import { readSettingIfAllowed, type Setting, writeSettings } from './settings.ts';
import { offsetIn } from './source-watch.ts';
import { type Steps, type TimeLimit, within } from './steps.ts';
import type { WriteFeed } from './write-feed.ts';

/** Longer than a drain may take: a pause ends by itself, should we die. */
const PAUSE_MARGIN_MS = 5_000;
/** A master so told sends no PING that would move its offset while the roles change (checked once in so many seconds). */
const QUIET_SECONDS = 3600;

/** What both ways have in common: who gives up writing, and how that is made sure. */
export interface CutoverBasics {
  readonly steps: Steps;
  /** The server that has taken the writes so far. */
  readonly from: { readonly session: ServerSession; readonly info: ServerInfo };
  /** null after `--no-source-fence`: then there is no pause either. */
  readonly fence: Fence | null;
  /** For draining: from the fence to the end of the stream. */
  readonly timeoutMs: number;
  /** Aborted with a CutoverError where the cutover is to be called off: everything is undone. */
  readonly signal: AbortSignal;
  readonly note: (message: string) => void;
  /** What stands in the journal before the source is touched, and after it was set free again: durable on return. */
  readonly journalFence: (set: boolean) => Promise<void>;
  /** The keys written last are equal on both sides, or it throws. */
  readonly tailCheck: () => Promise<string>;
  /** `--before-cutover` and `--on-cutover`; null: none. A veto throws. */
  readonly hooks: {
    readonly before: (() => Promise<void>) | null;
    readonly onCutover: (() => Promise<void>) | null;
  };
}

export interface CutoverRequest extends CutoverBasics {
  readonly gates: {
    readonly fenced: boolean;
    /** Lets the applications onto the new server; returns notes for people. */
    openGates(): Promise<readonly string[]>;
    closeGates(): Promise<void>;
  };
  readonly feed: WriteFeed;
  /** Throws where others have written to the new server; null: they could not, or may. */
  readonly foreignWrites: (() => Promise<void>) | null;
  /** Expiry times of the target's keys; null: applications write to it already, and they are true. */
  readonly expiry: Pick<Expiry, 'open' | 'holdAgain'> | null;
  /** The last write of ours before the applications': the link back counts from it. null: there is no link back. */
  readonly mark: (() => Promise<void>) | null;
}

export interface CutoverResult {
  /** From the pause, or the fence, on the one side to the other being writable. */
  readonly writeOutageMs: number;
  readonly notes: readonly string[];
}

/**
 * On return every write that the source acknowledged is on the target, which takes writes; the feed has ended.
 * On a failure everything is as before: source writable, target fenced, the feed goes on.
 * @throws CutoverError `cutover-timeout`, `tail-differs`, `foreign-writes`, `hook-vetoed`, what the servers refuse, the signal's reason;
 * `cutover-undo` (exit 7) where undoing failed
 */
export async function cutOver(request: CutoverRequest): Promise<CutoverResult> {
  const { steps, hooks, gates, feed, foreignWrites, expiry } = request;
  try {
    if (hooks.before !== null) await steps.step('hook before', hooks.before);
    const stopped = await stopWrites(request, feed);
    steps.undo('stream goes on', async () => feed.goOn());
    await steps.step('stream ended', () => within(feed.finish(stopped.offset), stopped.limit));
    if (expiry !== null) {
      steps.undo('expiry times held back', () => expiry.holdAgain());
      await steps.step('expiry times right', () => within(expiry.open(feed), stopped.limit));
    }
    if (foreignWrites !== null) {
      await steps.step('no foreign writes', () => within(foreignWrites(), stopped.limit));
    }
    if (request.mark !== null) await request.mark();
    if (gates.fenced) steps.undo('target fenced again', () => gates.closeGates());
    const notes = await steps.step('target writable', () => gates.openGates());
    const writeOutageMs = stopped.sinceMs();
    if (hooks.onCutover !== null) await steps.step('hook', hooks.onCutover);
    steps.keep();
    await afterwards(request, stopped.unpause);
    return { writeOutageMs, notes };
  } catch (error) {
    throw await steps.back(error);
  }
}

export interface RoleSwap extends CutoverBasics {
  /** The server that becomes the master. */
  readonly to: { readonly session: ServerSession; readonly info: ServerInfo };
  /** Where and as whom the old master finds the new one; null: it is not to follow, and its fence stays. */
  readonly followAs: Endpoint | null;
  /** How far the new master is. */
  readonly applier: Applier;
  /** History that both have now. */
  readonly replid: () => string;
  /** Makes the new master a replica again, to undo its promotion. */
  readonly demote: (promoted: ReplicationState) => Promise<void>;
  /** What must be put back, durable before the roles change; null: the change was undone. */
  readonly journalSwap: (swap: { readonly pings: Setting | null } | null) => Promise<void>;
}

export interface SwapResult {
  readonly writeOutageMs: number;
  /** null: the old master follows the new one. Else why it does not, and would need a full copy to. */
  readonly notFollowing: string | null;
}

/**
 * On return the new master has everything that the old one acknowledged; the old one follows it, or stays fenced.
 * On a failure everything is as before.
 * @throws as cutOver()
 */
export async function swapRoles(request: RoleSwap): Promise<SwapResult> {
  const { steps, from, to, fence, hooks, followAs } = request;
  try {
    if (hooks.before !== null) await steps.step('hook before', hooks.before);
    steps.undo('noted', () => request.journalSwap(null));
    const pingsGoOn = followAs === null ? null : await keepPingsAway(request);
    if (pingsGoOn === null) await request.journalSwap({ pings: null });
    const stopped = await stopWrites(request, request.applier);
    const place = { replid: request.replid(), offset: request.applier.appliedOffset() };
    let promoted: ReplicationState | null = null;
    steps.undo('the target follows again', async () => {
      // where its answer was lost nobody knows yet
      promoted ??= await replicationState(to.session);
      if (promoted.role === 'master') await request.demote(promoted);
    });
    await steps.step('target writable', async () => {
      promoted = await makeMaster(to.session, to.info);
      assertLeftAt(promoted, place, to.session.where);
    });
    const writeOutageMs = stopped.sinceMs();
    if (hooks.onCutover !== null) await steps.step('hook', hooks.onCutover);
    let notFollowing: string | null = '--no-reverse';
    if (followAs !== null) {
      const now = await sourceOffset(from.session);
      notFollowing = now === place.offset ? null : `it is ${now - place.offset} bytes ahead`;
      if (notFollowing === null) {
        steps.undo('a master again', async () => {
          const [command, ...args] = replicaOf(from.info, 'NO', 'ONE');
          await from.session.call(command, ...args);
        });
        try {
          await steps.step('the old master follows the new one', () =>
            follow(from.session, from.info, followAs),
          );
        } catch (error) {
          // where its fence stays the cutover stands
          if (!(error instanceof ReplyError) || fence === null || fence.kind === 'none') throw error;
          notFollowing = `it refuses to follow: ${error.reply}`;
        }
      }
    }
    steps.keep();
    await afterwards(request, async () => {
      await stopped.unpause();
      await pingsGoOn?.();
      if (notFollowing === null && fence !== null) {
        // its role keeps writes away from now on
        await fence.lift();
        await request.journalFence(false);
      }
    });
    return { writeOutageMs, notFollowing };
  } catch (error) {
    throw await steps.back(error);
  }
}

/** Who brings the writes to the new master. */
export interface Applier {
  whenApplied(offset: number): Promise<unknown>;
  appliedOffset(): number;
}

interface Stopped {
  /** Everything that was acknowledged lies at or before it, and is on the new master. */
  readonly offset: number;
  readonly limit: TimeLimit;
  /** Since writes were stopped. */
  sinceMs(): number;
  unpause(): Promise<void>;
}

/**
 * Stops writes and drains what was acknowledged. Where the server can pause them (6.2) they wait during the drain,
 * instead of failing while it is open whether the cutover succeeds; then the fence is put behind the pause, so that
 * none of those that wait is executed here when the pause ends (it would be: measured on 7.0). An ACL alone is checked
 * before a pause is, so that a fence that stood first would leave nothing to wait.
 */
async function stopWrites(request: CutoverBasics, applier: Applier): Promise<Stopped> {
  const { steps, from, fence, timeoutMs, signal } = request;
  if (fence !== null) await request.journalFence(true);
  const began = performance.now();
  let offset = 0;
  let unpause: (() => Promise<void>) | null = null;
  const limit: TimeLimit = {
    timeoutMs,
    untilMs: began + timeoutMs,
    signal,
    missing: () => `${Math.max(0, offset - applier.appliedOffset())} bytes were left`,
  };
  // undoing must not wait behind a question that is never answered
  const answered = <Value>(work: Promise<Value>): Promise<Value> =>
    within(work, limit).catch((error: unknown) => {
      if (toCutoverError(error).code === 'cutover-timeout') from.session.redial();
      throw error;
    });
  const drain = async (upTo: Promise<number>): Promise<void> => {
    offset = await steps.step('offset read', () => answered(upTo));
    if (applier.appliedOffset() >= offset) return;
    await steps.step('drained', () => within(applier.whenApplied(offset), limit));
  };
  const readOffset = (): Promise<number> => sourceOffset(from.session);
  if (fence === null) {
    await drain(readOffset());
  } else {
    const paused = await pauseWrites(request, answered);
    unpause = paused?.unpause ?? null;
    // before the pause ends: undone in reverse order
    steps.undo('fence lifted', async () => {
      await fence.lift();
      await request.journalFence(false);
    });
    if (paused === null) {
      await steps.step('writes fenced', () => answered(fence.set()));
      await drain(readOffset());
      await within(compareTail(request), limit);
    } else {
      await Promise.all([drain(paused.offset), answered(fence.recheck())]);
      // nothing is written any more: the data can be looked at while the fence is put
      const fenced = steps.step('writes fenced', () => answered(fence.apply()));
      await Promise.all([fenced, drain(readOffset()), within(compareTail(request), limit)]);
    }
  }
  return {
    offset,
    limit,
    sinceMs: () => Math.round((performance.now() - began) * 10) / 10,
    unpause: async () => unpause?.(),
  };
}

/** What is left to do when the new master is the master: if it fails, it is said, and the cutover stands. */
async function afterwards({ note }: CutoverBasics, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    note(`not all was put back on the old master: ${toCutoverError(error).message}; resume does it`);
  }
}

interface Pause {
  /** Everything that was acknowledged before the pause lies at or before it. */
  readonly offset: Promise<number>;
  unpause(): Promise<void>;
}

/** Lets writes wait; null where the server has no such pause, or does not grant it. */
async function pauseWrites(
  request: CutoverBasics,
  answered: (reply: Promise<unknown>) => Promise<unknown>,
): Promise<Pause | null> {
  const { steps, from, timeoutMs, note } = request;
  const { session } = from;
  if (!from.info.atLeast(6, 2)) return null;
  let paused = true;
  const unpause = async (): Promise<void> => {
    if (paused) await session.call('CLIENT', 'UNPAUSE');
    paused = false;
  };
  // undone last: what waits goes on only when it may be executed
  steps.undo('writes go on', unpause);
  const pausing = session.call('CLIENT', 'PAUSE', timeoutMs + PAUSE_MARGIN_MS, 'WRITE');
  // asked in the same breath: the server answers it behind the pause
  const offset = sourceOffset(session);
  offset.catch(() => undefined);
  try {
    await steps.step('writes paused', () => answered(pausing));
    return { offset, unpause };
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    paused = false;
    note(`writes are fenced without a pause before: ${error.reply}`);
    return null;
  }
}

async function compareTail({ steps, fence, tailCheck }: CutoverBasics): Promise<void> {
  // where writes go on, what was written last differs
  if (fence === null || fence.kind === 'none') return;
  const began = performance.now();
  const said = await tailCheck();
  if (said !== '') {
    const ms = Math.round((performance.now() - began) * 10) / 10;
    await steps.step('tail compared', async () => undefined, `${said} in ${ms} ms`);
  }
}

/**
 * PINGs move a master's offset, which must stand still while the roles change. Returns what lets them go on; null where
 * they come seldom enough, or where the server does not grant it: then one may come in between, and the old master
 * would not follow.
 */
async function keepPingsAway({
  from,
  steps,
  journalSwap,
  note,
}: RoleSwap): Promise<(() => Promise<void>) | null> {
  const pings = await pingPeriod(from);
  if (pings === null) return null;
  await journalSwap({ pings });
  let kept = true;
  const goOn = async (): Promise<void> => {
    if (kept) await writeSettings(from.session, [pings]);
  };
  steps.undo('pings go on', goOn);
  try {
    await writeSettings(from.session, [{ name: pings.name, value: String(QUIET_SECONDS) }]);
    return goOn;
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    kept = false;
    note(`${pings.name} cannot be set for the moment of the change: ${error.reply}`);
    return null;
  }
}

/** The period of a master's PINGs as it is now; null: out of reach, or long enough. */
async function pingPeriod({ session, info }: CutoverBasics['from']): Promise<Setting | null> {
  const name = pingPeriodName(info);
  const value = await readSettingIfAllowed(session, name);
  return value === null || Number(value) >= QUIET_SECONDS ? null : { name, value };
}

/** `master_repl_offset`: of a replica as source, what it has received itself. */
export async function sourceOffset(source: ServerSession): Promise<number> {
  return offsetIn(await source.info('replication'));
}
