/**
 * Our hold on a target for the time of a run: a user of our own, the lease, and the fence that keeps all others
 * from writing. Whatever is changed stands in the run folder before it is done, so that it can be undone after a
 * crash; release() undoes it.
 */
import { ServerSession } from '../client/session.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { type CutoverError, TargetError, toCutoverError } from '../core/errors.ts';
import { createRunUser, dropRunUser, Fence } from '../target/write/fence.ts';
import { acquireLease, type Lease } from '../target/write/lease.ts';
import type { WriteTally } from '../target/write/write-tally.ts';
import type { CheckedPair } from './pair-context.ts';

const CONNECT_TIMEOUT_MS = 10_000;

/** The operator's own session with the target sets and lifts the fence. */
export interface HoldRequest extends CheckedPair {
  /** The fence that an earlier process of this run may have set (Fence.toJournal()); null: none. */
  readonly formerFence: unknown;
  /** True where the applications write to the target already: no fence is set. */
  readonly open: boolean;
  /** For our own session, as for the operator's. */
  readonly replyTimeoutMs: number;
  /** Where what the lease executes is counted. */
  readonly tally: WriteTally;
  readonly onLost: (error: CutoverError) => void;
}

export class TargetHold {
  readonly #request: HoldRequest;
  readonly #fence: Fence;
  readonly #lease: Lease;
  readonly #ownUser: boolean;
  /** Where and as whom to write. */
  readonly endpoint: Endpoint;
  /** An ordinary session as that user. */
  readonly session: ServerSession;
  #fenced: boolean;
  #released = false;

  private constructor(
    request: HoldRequest,
    own: { endpoint: Endpoint; session: ServerSession; ownUser: boolean },
    lease: Lease,
    fence: Fence,
  ) {
    this.#request = request;
    this.#ownUser = own.ownUser;
    this.endpoint = own.endpoint;
    this.session = own.session;
    this.#lease = lease;
    this.#fence = fence;
    this.#fenced = !request.open;
  }

  /** @throws PreflightError where another run has the target; what was changed until then is undone */
  static async take(request: HoldRequest): Promise<TargetHold> {
    const { pair, facts, runId, source, target, onLost, formerFence, open, tally, journal } = request;
    const own = await ownAccess(request);
    let lease: Lease | null = null;
    let fence: Fence | null = null;
    try {
      // as our own user: a fence that an earlier process has left does not stop it
      lease = await acquireLease(own.session, source, { runId, pair: pair.name, onLost, tally });
      // a fence that is set must not be taken for the users' own rights
      fence =
        formerFence !== null
          ? Fence.fromJournal(target, formerFence)
          : await Fence.prepare(target, facts.target, {
              side: 'target',
              exceptUser: own.ownUser ? own.endpoint.username : null,
            });
      if (!open) {
        await journal('target-fence', fence.toJournal());
        await fence.set();
      }
      return new TargetHold(request, own, lease, fence);
    } catch (error) {
      await fence?.lift().catch(() => undefined);
      await lease?.release().catch(() => undefined);
      if (own.ownUser) {
        await own.session.close();
        await dropRunUser(target, runId).catch(() => undefined);
      }
      throw error;
    }
  }

  /** Why there is no fence; null where there is one. */
  get noFenceReason(): string | null {
    return this.#fence.reason;
  }

  /** Lets the applications write: the fence is lifted, exactly as it was. Returns notes for people. */
  async openGates(): Promise<readonly string[]> {
    if (!this.#fenced) return [];
    const notes = await this.#fence.lift();
    this.#fenced = false;
    await this.#request.journal('target-fence-lifted');
    return notes;
  }

  /** True where applications cannot write, as far as the server can be fenced at all. */
  get fenced(): boolean {
    return this.#fenced;
  }

  /** Undoes openGates(), for a cutover that is called off. */
  async closeGates(): Promise<void> {
    await this.#request.journal('target-fence', this.#fence.toJournal());
    await this.#fence.set();
    this.#fenced = true;
  }

  /**
   * For a target that does not know our user any more: ACL changes live in its memory, a restart (or ACL LOAD) loses
   * them. Sets the fence again, makes the same user again and renews the lease. The user comes last but one: whoever
   * finds it there may rely on the fence. False where there is no user of ours that could be missing.
   */
  async regain(): Promise<boolean> {
    const password = this.endpoint.password;
    if (!this.#ownUser || this.#released || password === null) return false;
    const { target, facts, runId, note } = this.#request;
    // a target that failed over: the operator's connection may still lead to the server of before
    target.redial();
    if (this.#fenced) await this.#fence.set();
    await createRunUser(target, facts.target, runId, password);
    note(
      this.#fenced
        ? 'the target had forgotten our user and the fence (was it restarted?): both are set again; others could write meanwhile'
        : 'the target had forgotten our user (was it restarted?): it was made again',
    );
    await this.#lease.renew();
    return true;
  }

  /** Makes sure that no other run has taken the target. Throws PreflightError `target-lease`. */
  async renewLease(): Promise<void> {
    await this.#lease.renew();
  }

  /** Gives the target back: fence lifted, lease and run user removed. May be called again. Returns notes for people. */
  async release(): Promise<readonly string[]> {
    if (this.#released) return [];
    this.#released = true;
    const notes = [...(await this.openGates())];
    const { target, runId, journal } = this.#request;
    await this.#lease.release().catch(() => undefined);
    if (this.#ownUser) {
      await this.session.close();
      await dropRunUser(target, runId);
      await journal('run-user-dropped');
    }
    return notes;
  }
}

/** With ACL a user of our own, made for the run; elsewhere the operator's access. */
async function ownAccess(
  request: HoldRequest,
): Promise<{ endpoint: Endpoint; session: ServerSession; ownUser: boolean }> {
  const { pair, facts, runId, target, replyTimeoutMs, journal } = request;
  if (!facts.capabilities.acl) return { endpoint: pair.target, session: target, ownUser: false };
  await journal('run-user');
  const { username, password } = await createRunUser(target, facts.target, runId);
  const endpoint: Endpoint = { ...pair.target, username, password };
  try {
    const limits = { connectTimeoutMs: CONNECT_TIMEOUT_MS, replyTimeoutMs };
    const session = await ServerSession.open(endpoint, 'target', limits);
    return { endpoint, session, ownUser: true };
  } catch (cause) {
    await dropRunUser(target, runId).catch(() => undefined);
    const error = toCutoverError(cause);
    // not refused: it was not asked
    if (error.recovery === 'reconnect') throw error;
    throw new TargetError(`${pair.name}: the user made for the run cannot log in to the target`, {
      code: 'target-run-user',
      hint: 'does something between us and the target handle AUTH? connect to the server itself',
      cause,
    });
  }
}
