/**
 * Takes up what an earlier process of the run has left on both servers: undoes a cutover that had not come far enough,
 * brings one that had to its end, and puts away what a pair that was through has left. Every step asks the servers
 * themselves, since the process may have died between a command and its answer, or between the answer and the journal.
 */
import { ReplyError } from '../client/reply-error.ts';
import { ServerSession } from '../client/session.ts';
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import { EXIT, PreflightError } from '../core/errors.ts';
import { CHECKPOINT_KEY } from '../target/write/checkpoint.ts';
import { createRunUser, dropRunUser, Fence } from '../target/write/fence.ts';
import { LEASE_KEY } from '../target/write/lease.ts';
import { fenceLeftNotes } from './cutover-kit.ts';
import { endImportMode } from './expiry.ts';
import type { Leftovers } from './leftovers.ts';
import type { PairContext } from './pair-context.ts';
import type { AttachedResume } from './resume-attached.ts';
import { follow, isFollowing, replicationState } from './roles.ts';
import { writeSettings } from './settings.ts';

const CONNECT_TIMEOUT_MS = 10_000;

/** True where nothing is left to do but to tidy up. */
export async function isThrough(
  left: Leftovers,
  pair: PairSpec,
  sessions: { readonly source: ServerSession; readonly target: ServerSession },
): Promise<boolean> {
  if (left.phase === 'promoted' || left.phase === 'rolled-back') return true;
  if (left.swap === null) return false;
  // the source may follow the target already: the preflight would take that for a mistake
  const source = await replicationState(sessions.source);
  const target = await replicationState(sessions.target);
  return target.role === 'master' && isFollowing(source, target, pair.target);
}

export class TakeUp {
  readonly #pair: PairContext;
  readonly #left: Leftovers;

  constructor(pair: PairContext, left: Leftovers) {
    this.#pair = pair;
    this.#left = left;
  }

  /** Feed write: whether the target had been opened by a cutover, noted or not. */
  async wasOpened(): Promise<boolean> {
    const { sourceFence, targetFence, cutOver } = this.#left;
    if (cutOver || sourceFence === null || targetFence === null) return cutOver;
    return (await Fence.fromJournal(this.#pair.target, targetFence).standing()) === false;
  }

  /** The source takes writes again, and what a cutover had changed on it is as before. */
  async undoCutover(): Promise<void> {
    const { source, journal, note } = this.#pair;
    const { swap, sourceUser, sourceFence } = this.#left;
    if (swap?.pings) await writeSettings(source, [swap.pings]);
    if (swap !== null) await journal('swap', null);
    if (sourceUser) {
      await dropRunUser(source, this.#pair.runId);
      await journal('source-user-dropped');
    }
    if (sourceFence === null) return;
    await this.#lift(source, sourceFence, 'source-fence-lifted');
    note('the run had ended in the middle of a cutover: the source takes writes again');
  }

  /**
   * Feed attach: the roles had changed, or half of them. The rest is done, since the target has taken writes.
   * @param whyNotFollowing why the source must not become the target's replica; null: it may
   * @throws PreflightError `two-masters` (exit 7) where the source may have been written to as well
   */
  async finishSwap(
    found: AttachedResume & { kind: 'promoted' },
    whyNotFollowing: (fence: Fence | null) => Promise<string | null>,
  ): Promise<void> {
    const { pair, source, note, remember } = this.#pair;
    note('the run had ended with the target being a master: the cutover is brought to its end');
    const { sourceFence } = this.#left;
    const fence = sourceFence === null ? null : Fence.fromJournal(source, sourceFence);
    // keys that expire move it on, too; writes of applications are kept away by the fence
    if (!found.sourceEqual && (await fence?.standing()) !== true) {
      throw new PreflightError('the source has moved on since the target was made a master', {
        code: 'two-masters',
        hint: 'both may have been written to: compare them, decide which side is right, and lift the fence of that one (ACL LIST)',
        exitCode: EXIT.attention,
      });
    }
    if (found.sourceFollows) return;
    const whyNot = found.sourceEqual
      ? await whyNotFollowing(fence)
      : 'the old source has gone on by itself, and would need a full copy';
    if (whyNot === null) {
      await follow(source, await source.info('server'), pair.target);
    } else {
      remember(`no way back was kept: ${whyNot}`);
      if (fence !== null) remember(...fenceLeftNotes(fence, addressOf(pair.source)));
    }
  }

  /** Whether a rollback had come as far as letting applications write to the old source. */
  async wasRolledBack(): Promise<boolean> {
    const { source } = this.#pair;
    const { phase, backSwap, sourceFence, targetFence } = this.#left;
    if (phase === 'rolled-back') return true;
    if (backSwap !== null) return (await replicationState(source)).role === 'master';
    // behind a promotion the target is fenced by a rollback alone
    if (targetFence === null) return false;
    return sourceFence === null || (await Fence.fromJournal(source, sourceFence).standing()) === false;
  }

  /** Puts away what is left of a pair that was through. */
  async tidy(rolledBack: boolean): Promise<void> {
    const { source, target, runId, journal } = this.#pair;
    const { swap, backSwap, attached, importMode, runUser } = this.#left;
    if (rolledBack) await this.#tidyRollback();
    else await this.#tidyPromotion();
    if (swap?.pings) await writeSettings(source, [swap.pings]);
    if (backSwap?.pings) await writeSettings(target, [backSwap.pings]);
    await writeSettings(target, attached ?? []);
    if (importMode) await endImportMode(target);
    if (runUser) await dropRunUser(target, runId);
    await journal('swap', null);
    await journal('back-swap', null);
  }

  async #tidyPromotion(): Promise<void> {
    const { pair, source, target, remember } = this.#pair;
    const { sourceFence, targetFence, sourceUser } = this.#left;
    const follows = isFollowing(await replicationState(source), await replicationState(target), pair.target);
    if (sourceFence !== null && follows) await this.#lift(source, sourceFence, 'source-fence-lifted');
    if (targetFence !== null) await this.#lift(target, targetFence, 'target-fence-lifted');
    await target.call('DEL', CHECKPOINT_KEY, LEASE_KEY);
    if (sourceUser) {
      await this.#tidySourceUser();
      remember('the way back was closed when the run ended: what was written since is on the target only');
    }
    if (follows) remember('the old source follows the new master, read-only');
  }

  async #tidyRollback(): Promise<void> {
    const { pair, source, target, journal, remember } = this.#pair;
    const { sourceFence, targetFence, backSwap, sourceUser } = this.#left;
    const now = { source: await replicationState(source), target: await replicationState(target) };
    if (sourceFence !== null) await this.#lift(source, sourceFence, 'source-fence-lifted');
    let follows = now.target.role === 'replica';
    if (backSwap !== null && !follows) {
      const { former } = now.source;
      follows = former?.replid === now.target.replid && former.endOffset === now.target.offset;
      if (follows) await follow(target, await target.info('server'), pair.source);
    }
    if (targetFence !== null) {
      const fence = Fence.fromJournal(target, targetFence);
      if (follows) {
        remember(...(await fence.lift()));
        await journal('target-fence-lifted');
      } else {
        remember('the target stays fenced; to lift that, on the target:', ...fence.liftCommands());
      }
    }
    if (sourceUser) await this.#tidySourceUser();
  }

  /** Our user on the old source and its checkpoint there: only as that user it can be deleted behind the fence. */
  async #tidySourceUser(): Promise<void> {
    const { pair, source, runId, journal } = this.#pair;
    const own = await createRunUser(source, await source.info('server'), runId);
    const session = await ServerSession.open({ ...pair.source, ...own }, 'source', {
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
    });
    await session.call('DEL', CHECKPOINT_KEY);
    await session.close();
    await dropRunUser(source, runId);
    await journal('source-user-dropped');
  }

  /** Lifts a fence, and a pause that may still stand before it. */
  async #lift(session: ServerSession, fence: unknown, noted: string): Promise<void> {
    this.#pair.remember(...(await Fence.fromJournal(session, fence).lift()));
    // unknown before 6.2, where there is none either
    await session.call('CLIENT', 'UNPAUSE').catch((error: unknown) => {
      if (!(error instanceof ReplyError)) throw error;
    });
    await this.#pair.journal(noted);
  }
}
