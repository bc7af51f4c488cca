/**
 * A target that is written to, put together: our hold on it, the door for what we write, who lets its keys expire,
 * what others write to it, and the feed behind all that. attachment.ts is the same for a target that is attached.
 *
 * Order of use: take() → watchForeignWrites() → begin() → openGates() or a cutover → release().
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type CutoverError, InvariantError, TargetError } from '../core/errors.ts';
import type { Form } from '../rdb/forms.ts';
import { offsetsCanBeTrusted } from '../source/trust.ts';
import type { Spool } from '../spool/spool.ts';
import { capabilitiesOf } from '../target/write/capabilities.ts';
import { KeyPositions } from '../target/write/key-positions.ts';
import { levelOf, missingForms } from '../target/write/missing-forms.ts';
import { openedMark } from '../target/write/own-writes.ts';
import { probeForms } from '../target/write/probe.ts';
import { WriteTally } from '../target/write/write-tally.ts';
import { removeWritten, WrittenKeys } from '../target/write/written-keys.ts';
import { ask } from './checks/context.ts';
import { Expiry } from './expiry.ts';
import type { FeedListener } from './feed.ts';
import { ForeignWrites } from './foreign-writes.ts';
import type { Leftovers } from './leftovers.ts';
import type { CheckedPair } from './pair-context.ts';
import { safeFileName } from './run-folder.ts';
import type { Silence } from './silence.ts';
import { TargetDoor } from './target-door.ts';
import { TargetHold } from './target-hold.ts';
import type { Valve } from './valve.ts';
import { keepsWrittenWayBack } from './way-back.ts';
import { type Beginning, WriteFeed } from './write-feed.ts';

/** For the expiry times of a target that a rehearsal leaves. */
const LEAVE_LIMIT_MS = 5_000;

export interface WriteSideRequest extends CheckedPair {
  /** What an earlier process of this run has left; null: the pair is new. */
  readonly left: Leftovers | null;
  /** The fence that it may have left on the target (Fence.toJournal()); null: none. */
  readonly formerFence: unknown;
  /** True where the applications write to the target already. */
  readonly open: boolean;
  readonly silence: Silence;
  readonly valve: Valve;
  /** Throws where the pair has ended meanwhile. */
  readonly assertGoingOn: () => void;
  /** The target is no longer ours. */
  readonly onLost: (error: CutoverError) => void;
}

export class WriteSide {
  readonly #request: WriteSideRequest;
  readonly hold: TargetHold;
  readonly door: TargetDoor;
  readonly expiry: Expiry;
  /** What we write. */
  readonly #tally: WriteTally;
  #foreign: ForeignWrites | null = null;
  /** With --allow-nonempty: which keys of the target are ours. */
  #keys: KeyPositions | null = null;
  #feed: WriteFeed | null = null;

  private constructor(request: WriteSideRequest, hold: TargetHold, expiry: Expiry, tally: WriteTally) {
    this.#request = request;
    this.hold = hold;
    this.expiry = expiry;
    this.door = new TargetDoor(hold, request.runId, tally, expiry);
    this.#tally = tally;
  }

  /**
   * Takes the target for us: a user of our own, the lease, and, unless it is open, the fence; and while it follows, the
   * target must not let keys expire by its own clock. Leaves nothing behind where it fails.
   * @throws PreflightError where another run has the target, or the pair has ended meanwhile
   */
  static async take(request: WriteSideRequest): Promise<WriteSide> {
    const { pair, facts, options, runDir, open, left, silence, note, journal } = request;
    const tally = new WriteTally();
    const hold = await TargetHold.take({ ...request, tally, replyTimeoutMs: silence.replyMs });
    try {
      // nobody else knows of it yet
      request.assertGoingOn();
      if (hold.noFenceReason !== null && !open) {
        note(`others can write to the target while it is filled: ${hold.noFenceReason}`);
      }
      const expiry = await Expiry.take(
        {
          info: facts.target,
          session: hold.session,
          dir: path.join(runDir, 'expiring', safeFileName(pair.name)),
          open,
          tally,
          answerLimitMs: options.cutoverTimeoutMs,
          journal: (on) => journal('import-mode', on),
          note,
        },
        left,
      );
      try {
        request.assertGoingOn();
      } catch (error) {
        await expiry.release();
        throw error;
      }
      return new WriteSide(request, hold, expiry, tally);
    } catch (error) {
      await hold.release();
      throw error;
    }
  }

  /** What others write to it; null where they cannot, or may, or where it cannot be noticed. */
  get foreign(): ForeignWrites | null {
    return this.#foreign;
  }

  /** @throws InvariantError before begin() */
  get feed(): WriteFeed {
    if (this.#feed === null) throw new InvariantError('the target is not written to yet');
    return this.#feed;
  }

  /** Looks from now on for what others write to a target that cannot be fenced. */
  async watchForeignWrites(): Promise<void> {
    const { facts, options, open, left, note, journal } = this.#request;
    if (this.hold.noFenceReason === null || open) return;
    let former = left?.foreignWrites ?? null;
    if (former !== null && options.cutover === 'ask') {
      note(`others had written to the target before the resume: ${former}; compare both sides first`);
      former = null;
    }
    this.#foreign = await ForeignWrites.watch({
      session: this.hold.session,
      info: facts.target,
      tally: this.#tally,
      note,
      former,
      journal: (found) => journal('foreign-writes', found),
    });
  }

  /** Looks once more. Not for a target that is open, and not in a cutover, which looks for itself. */
  lookForForeignWrites(): void {
    if (this.#foreign !== null && this.#feed?.connected === true) void this.#foreign.tick(this.#feed);
  }

  /** Takes up, or begins, the list of the keys that we write: they alone go before another copy. */
  async listWrittenKeys(): Promise<void> {
    const { pair, target, facts, options, runDir, left, note } = this.#request;
    const file = path.join(runDir, `written-keys-${safeFileName(pair.name)}`);
    const begun = left !== null && left.phase !== null;
    const keys = new WrittenKeys(file, begun, note);
    const leftOut = options.skipUnknown ? facts.lacking.commands : [];
    this.#keys = new KeyPositions(keys, await ask(target, 'COMMAND'), leftOut);
  }

  /** Makes the feed. @param signal ends it */
  begin(begin: Beginning, spool: Spool, listener: FeedListener, signal: AbortSignal): WriteFeed {
    const { facts, options, runId, silence, valve } = this.#request;
    this.#feed = new WriteFeed(
      spool,
      this.door,
      {
        run: runId,
        capabilities: facts.capabilities,
        relativeTtls: !facts.source.atLeast(7, 0),
        missing: missingForms(levelOf(facts.source), levelOf(facts.target)),
        allowLoss: options.allowLoss,
        skip: options.skipUnknown ? facts.lacking : null,
        forwardPublish: options.forwardPublish,
        ttls: this.expiry.ttls,
        partialResync: offsetsCanBeTrusted(facts.source.commandLevel),
        begin,
        leaveOut: null,
        written: this.#keys,
        markBatches: keepsWrittenWayBack(options, facts),
        tally: this.#tally,
        valve,
        silenceMs: silence.targetMs,
      },
      listener,
      signal,
    );
    return this.#feed;
  }

  /**
   * Before each copy. The first one finds the target as the preflight left it, later ones find our own keys and
   * functions. @param begunBefore whether there was one before
   * @returns the forms of values that the target takes; null: those that its release promises
   */
  async prepareForCopy(begunBefore: boolean): Promise<ReadonlySet<Form> | null> {
    const { facts, options, runId } = this.#request;
    const { session } = this.hold;
    await this.door.endWriters();
    await this.hold.renewLease();
    if (this.#keys !== null) {
      if (begunBefore) await this.#removeWritten(this.#keys.keys);
    } else if (begunBefore || options.flushTarget) {
      await this.#foreign?.restart();
      const mode = facts.target.atLeast(4, 0) ? ['ASYNC'] : [];
      await this.#tally.around(1, () => session.call('FLUSHALL', ...mode));
      if (facts.capabilities.functions) await this.#tally.around(1, () => session.call('FUNCTION', 'FLUSH'));
    }
    const { forms } = facts.capabilities;
    const [major, minor] = facts.source.commandLevel;
    const family = facts.source.family === 'valkey' ? 'valkey' : 'redis';
    const held = capabilitiesOf({ major, minor }, family).forms;
    const mayLack = [...held].some((form) => !forms.has(form));
    const taken = mayLack ? await probeForms(session, forms, this.#tally) : null;
    await this.door.beginCopy(runId);
    return taken;
  }

  /** After --allow-nonempty: what was on the target before us stays. */
  async #removeWritten(keys: WrittenKeys): Promise<void> {
    if (keys.lostBecause !== null) {
      throw new TargetError(
        `a new full copy is needed, and it is not known which keys of the target are ours: ${keys.lostBecause}`,
        {
          code: 'full-resync-nonempty',
          hint: 'after --allow-nonempty the target is never emptied: begin a new run into an empty target',
        },
      );
    }
    await removeWritten(this.hold.session, keys, this.#request.facts.target.atLeast(4, 0));
  }

  /** Sets the expiry times of a target right that is about to be opened; where that fails they are held back again. */
  async withExpiryTimes<Value>(signal: AbortSignal, open: () => Promise<Value>): Promise<Value> {
    try {
      await this.expiry.prepareToOpen(this.feed, signal);
      signal.throwIfAborted();
      return await open();
    } catch (error) {
      await this.expiry.holdAgain();
      throw error;
    }
  }

  /** To be called now and then while the target follows: see Expiry.tick(). */
  tickExpiry(): void {
    if (this.#feed !== null) this.expiry.tick(this.#feed);
  }

  /** The last write of ours before those of the applications. */
  async writeOpenedMark(): Promise<void> {
    const [command, ...args] = openedMark(this.#request.runId);
    await this.#tally.around(1, () => this.hold.session.call(command ?? '', ...args));
  }

  /**
   * Behind a rehearsal the target's expiry times are true. Behind a quit they stay as they are: the source may renew what
   * is due before the run is gone on with.
   */
  async leaveExpiryTimes(): Promise<void> {
    const feed = this.#feed;
    const { open, options } = this.#request;
    if (feed?.streaming !== true || open) return;
    const signal = AbortSignal.timeout(LEAVE_LIMIT_MS);
    const work = async (): Promise<void> => {
      if (!options.stopAtInSync) return this.expiry.settled(feed);
      await this.expiry.prepareToOpen(feed, signal);
      await this.expiry.open(feed);
    };
    await Promise.race([work(), delay(LEAVE_LIMIT_MS, undefined, { ref: false })]).catch(() => undefined);
  }

  /** The list of written keys stays, for a resume. */
  closeKeys(): void {
    this.#keys?.keys.close();
  }

  /** Behind a promotion nothing of ours stays in the dataset, and no resume asks which keys were ours. */
  async removeOwnKeys(): Promise<void> {
    await this.door.removeCheckpoint();
    this.#keys?.keys.remove();
  }

  /** Gives the target back. May be called again. Returns notes for people. */
  async release(): Promise<readonly string[]> {
    await this.expiry.release();
    return this.hold.release();
  }
}
