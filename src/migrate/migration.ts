/**
 * One pair, told top-down. check() looks and touches nothing. start() takes hold of the target, becomes a replica of
 * the source and keeps the target in step: snapshot → catching-up → in-sync. Then the operator's words:
 * enableWrites(), cutOver(), promote(), behind them rollBack() or finish(); or stop() at any time before, which leaves
 * the source as it was.
 *
 * Next to read: attach-feed.ts and write-feed.ts (how bytes reach the target), cutover.ts (the last steps), way-back.ts
 * (behind them), attach-hold.ts and target-hold.ts (what is changed on the target for the run, and how it is given
 * back).
 */
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ReplyError } from '../client/reply-error.ts';
import type { ServerInfo } from '../client/server-info.ts';
import { ServerSession } from '../client/session.ts';
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import {
  assertNever,
  type CutoverError,
  InvariantError,
  PreflightError,
  SourceError,
  TargetError,
  toCutoverError,
} from '../core/errors.ts';
import type { CheckResult, ClientInfo, MigrationEvent, PairSnapshot, PairSummary } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import { assertMove, isOver, type Phase } from '../core/phase.ts';
import type { ReplicationPosition } from '../core/position.ts';
import { printable } from '../core/text.ts';
import type { Form } from '../rdb/forms.ts';
import { SourceLink } from '../source/link.ts';
import { offsetsCanBeTrusted } from '../source/trust.ts';
import { Spool } from '../spool/spool.ts';
import type { Checkpoint } from '../target/write/checkpoint.ts';
import { Fence } from '../target/write/fence.ts';
import { KeyPositions } from '../target/write/key-positions.ts';
import { levelOf, missingForms } from '../target/write/missing-forms.ts';
import { openedMark } from '../target/write/own-writes.ts';
import { probeForms } from '../target/write/probe.ts';
import { WriteTally } from '../target/write/write-tally.ts';
import { removeWritten, WrittenKeys } from '../target/write/written-keys.ts';
import type { StopPlace } from './attach-feed.ts';
import { isSameAddress, takenBySomebodyElse } from './attach-hold.ts';
import { type Attachment, attach } from './attachment.ts';
import { ask, askConfig } from './checks/context.ts';
import { clientsOn, killClients } from './clients.ts';
import { cutOver, swapRoles } from './cutover.ts';
import { CutoverKit, fenceLeftNotes } from './cutover-kit.ts';
import { Expiry } from './expiry.ts';
import { type DivergenceSample, type Feed, type FeedListener, FeedSwitch } from './feed.ts';
import { ForeignWrites } from './foreign-writes.ts';
import { type CompleteCopy, keptCopyToJournal, reaches, takeUpKeptCopy } from './kept-copy.ts';
import type { Leftovers } from './leftovers.ts';
import type { PairContext } from './pair-context.ts';
import { assertPreflight, type PairFacts, preflight } from './preflight.ts';
import { RateMeter } from './rate-meter.ts';
import { type AttachedResume, judgeAttached } from './resume-attached.ts';
import { type LoopSettings, loopHint, parseOutputBuffer, ResyncLoop } from './resync-loop.ts';
import { primeBacklog, ReverseLink } from './reverse-link.ts';
import { assertLeftAt, follow, makeMaster, replicationState } from './roles.ts';
import type { RunFolder } from './run-folder.ts';
import { writeSettings } from './settings.ts';
import { type Silence, USUAL_SILENCE } from './silence.ts';
import { keysOf, SourceWatch } from './source-watch.ts';
import { Steps, within } from './steps.ts';
import { SAMPLE_INTERVAL_MS, SyncGauge } from './sync-gauge.ts';
import { isThrough, TakeUp } from './take-up.ts';
import { TargetDoor } from './target-door.ts';
import { TargetHold } from './target-hold.ts';
import {
  NativeWayBack,
  type RollbackBasics,
  type Sides,
  type WayBack,
  WrittenWayBack,
  whyLossyWayBack,
} from './way-back.ts';
import { type Beginning, WriteFeed } from './write-feed.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** For the answers that a sample takes; far above what a healthy server on a busy machine needs. */
const SAMPLE_LIMIT_MS = 5_000;
const SAME_NOTE_MS = 30_000;
/** The newest Valkey whose RDB the reader knows (protocol.md 1.7): decides what a 9.1 sends. */
const NEWEST_VALKEY = '9.1.0';
/** For expiry times to be set right when a run is quit. */
const LEAVE_LIMIT_MS = 5_000;
/** Expiries that are due so soon after a quit stay held back. */
const LEFT_HELD_MS = 10 * 60_000;
/** For the old source to have its link to the new master. */
const FOLLOW_LIMIT_MS = 10_000;
const LOST_TARGET_MS = 3_000;

export interface MigrationPorts {
  readonly emit: (event: MigrationEvent) => void;
  /** Called after each change of phase, and where a way back opens or closes. */
  readonly phaseChanged: (phase: Phase) => void;
}

export class Migration {
  readonly pair: PairSpec;
  readonly #options: RunOptions;
  readonly #ports: MigrationPorts;
  readonly #left: Leftovers | null;
  readonly #silence: Silence;
  readonly #abort = new AbortController();
  readonly #gauge = new SyncGauge();
  readonly #byteRate = new RateMeter();
  readonly #commandRate = new RateMeter();
  #phase: Phase = 'checking';
  #reason: string | null = null;
  #error: CutoverError | null = null;
  #source: ServerSession | null = null;
  #target: ServerSession | null = null;
  #facts: PairFacts | null = null;
  #folder: RunFolder | null = null;
  /** How the target is fed: one of the two. After **e** an attached target is written to. */
  #attached: Attachment | null = null;
  #written: WriteSide | null = null;
  #into: FeedSwitch | null = null;
  #link: SourceLink | null = null;
  #spool: Spool | null = null;
  #following: Promise<void> = Promise.resolve();
  #timers: NodeJS.Timeout[] = [];
  #seenSource: SourceWatch | null = null;
  #copies = 0;
  readonly #loop = new ResyncLoop();
  /** With --allow-nonempty: which keys of the target are ours. */
  #keys: KeyPositions | null = null;
  /** True where an earlier process has brought the pair to its end. */
  #through = false;
  /** True where a resumed pair was left with applications writing to its target. */
  #open = false;
  /** The source's fence, where a resumed pair was left with it. */
  #sourceFence: Fence | null = null;
  #startedAt = performance.now();
  #endedAt: number | null = null;
  #writeOutageMs: number | null = null;
  /** The cutover that is under way, and how to call it off. */
  #cutover: { readonly done: Promise<void>; readonly calledOff: AbortController } | null = null;
  /** From the moment on at which the target was, or is about to be, opened: what comes back from it. */
  #reverse: ReverseLink | null = null;
  #wayBack: WayBack | null = null;
  /** Why the old source could follow only by a full copy; null: it need not. */
  #needsCopy: string | null = null;
  #ending: Promise<void> | null = null;
  #lastWaiting: { readonly reason: string; readonly atMs: number } | null = null;
  readonly #notes: string[] = [];
  /** What the latest copy has lost, since the target has no place for it. */
  #lost: readonly string[] = [];

  /** @param left what an earlier process of this run has left; null: the pair is new */
  constructor(
    pair: PairSpec,
    options: RunOptions,
    ports: MigrationPorts,
    left: Leftovers | null,
    silence = USUAL_SILENCE,
  ) {
    this.pair = pair;
    this.#options = options;
    this.#ports = ports;
    this.#left = left;
    this.#silence = silence;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Why the pair failed; null where it did not. */
  get error(): CutoverError | null {
    return this.#error;
  }

  get facts(): PairFacts | null {
    return this.#facts;
  }

  // ---- the story -----------------------------------------------------------------------------------------

  /** Looks at both sides and changes nothing. Returns all findings; a refusal, or a side out of reach, fails the pair. */
  async check(): Promise<readonly CheckResult[]> {
    try {
      const limits = { connectTimeoutMs: CONNECT_TIMEOUT_MS, replyTimeoutMs: this.#silence.replyMs };
      this.#source ??= await ServerSession.open(this.pair.source, 'source', limits);
      this.#target ??= await ServerSession.open(this.pair.target, 'target', limits);
      this.#through = this.#left !== null && (await isThrough(this.#left, this.pair, this.#sessions));
      if (this.#through) {
        const detail = 'this pair was promoted before: what may be left on its servers is put away';
        this.#emit({ event: 'check', pair: this.pair.name, name: 'resume', status: 'ok', detail });
        return [];
      }
      const result = await preflight(this.#source, this.#target, this.#options, this.#left?.feed ?? null);
      for (const check of result.checks) this.#emit({ event: 'check', pair: this.pair.name, ...check });
      this.#facts = assertPreflight(this.pair, result);
      return result.checks;
    } catch (error) {
      this.#fail(toCutoverError(error));
      return [];
    }
  }

  /** Takes hold of the target and begins to follow the source; returns when that is under way, or the pair failed. */
  async start(folder: RunFolder): Promise<void> {
    try {
      this.#folder = folder;
      this.#startedAt = performance.now();
      if (this.#through && this.#left !== null) await this.#finishThrough(this.#left);
      else await this.#begin();
    } catch (error) {
      this.#fail(toCutoverError(error));
      await this.#ending;
    }
  }

  async #begin(): Promise<void> {
    const { facts, folder } = this.#checked;
    this.#spool = new Spool({
      dir: path.join(folder.dir, 'spool', safeFileName(this.pair.name)),
      memoryBytes: this.#options.spoolMemoryBytes,
      limitBytes: this.#options.spoolLimitBytes,
    });
    const left = this.#left;
    if (left !== null) this.#note(`the run had come to: ${left.phase ?? 'nothing yet'}`);
    if (facts.feed === 'attach') await this.#beginAttached(left);
    else await this.#beginWritten(left, null);
  }

  // ---- feed attach ---------------------------------------------------------------------------------------

  async #beginAttached(left: Leftovers | null): Promise<void> {
    const found: AttachedResume = left === null ? { kind: 'copy' } : await this.#judgeAttached(left);
    switch (found.kind) {
      case 'promoted':
        return this.#finishSwap(left, found);
      case 'written':
        this.#open = true;
        await writeSettings(this.#checked.target, left?.attached ?? []);
        await this.#journal('attach-released');
        return this.#beginWritten(left, found.place);
      case 'copy':
      case 'go-on':
        break;
      default:
        return assertNever(found);
    }
    if (left !== null) await new TakeUp(this.#context, left).undoCutover();
    const has = found.kind === 'go-on' ? found : null;
    let kept = await this.#takeUpKeptCopy(left);
    if (kept !== null && has !== null && !reaches(kept, this.#checkedSpool, has.from)) {
      this.#checkedSpool.close();
      kept = null;
    }
    try {
      await this.#journal('feed', 'attach');
      await this.#attach(left, has, kept);
    } catch (error) {
      const cause = toCutoverError(error);
      const fallBack = this.#options.feed === 'auto' && left === null && !this.#abort.signal.aborted;
      if (!fallBack || !isNoWayToAttach(cause)) throw cause;
      await this.#fallBackToWrite(cause);
      return;
    }
    this.#follow(has === null || kept !== null ? null : has.from.offset);
  }

  async #judgeAttached(left: Leftovers): Promise<AttachedResume> {
    const { source, target } = this.#checked;
    const state = await replicationState(target);
    const keys = keysOf(await target.info('keyspace'));
    const found = judgeAttached(left, await replicationState(source), state, keys);
    const stranger = state.role === 'replica' && !isSameAddress(state.master, left.attachedAt);
    if (found.kind === 'copy' && stranger) throw takenBySomebodyElse(target.where, state.master);
    return found;
  }

  async #attach(
    left: Leftovers | null,
    has: (AttachedResume & { kind: 'go-on' }) | null,
    kept: CompleteCopy | null,
  ): Promise<void> {
    const { facts, folder, target } = this.#checked;
    this.#attached = await attach({
      pair: this.pair,
      facts,
      folder,
      target,
      listen: this.#options.listen,
      spool: this.#checkedSpool,
      listener: this.#listener({
        // as our replica it is emptied by the copy itself
        prepareTarget: async () => null,
      }),
      signal: this.#abort.signal,
      former: left?.attached ?? [],
      has,
      kept,
      silenceMs: this.#silence.targetMs,
      flush: this.#options.flushTarget && has === null,
    });
    this.#into = new FeedSwitch(this.#attached.feed);
  }

  /** The target cannot, or must not, become our replica: it is written to instead, if the preflight finds nothing. */
  async #fallBackToWrite(cause: CutoverError): Promise<void> {
    const { source, target } = this.#checked;
    this.#note(`attach does not work here (${cause.message}): the target is fed by write instead`);
    const result = await preflight(source, target, { ...this.#options, feed: 'write' });
    this.#facts = assertPreflight(this.pair, result);
    this.#checkedSpool.reset();
    await this.#beginWritten(null, null);
  }

  // ---- feed write ----------------------------------------------------------------------------------------

  /** @param handover where an attached target was made a master; null: the feed was write from the beginning */
  async #beginWritten(left: Leftovers | null, handover: StopPlace | null): Promise<void> {
    const { folder } = this.#checked;
    await this.#journal('feed', handover === null ? 'write' : 'attach');
    if (left !== null) await this.#takeUp(left);
    await this.#takeHold(left?.targetFence ?? null);
    if (this.#options.allowNonempty) this.#keys = await this.#writtenKeys(left);
    const { hold, door } = this.#writing;
    const { runId } = folder.run;
    const checkpoint =
      left === null
        ? null
        : ((await door.checkpointOf(runId)) ?? (handover === null ? null : checkpointAt(handover, runId)));
    if (handover !== null && checkpoint !== null) await door.writeCheckpoint(checkpoint);
    if (left === null && this.#keepsWayBack) await primeBacklog(hold.session, hold.endpoint);
    this.#into = new FeedSwitch(this.#write(await this.#beginning(left, checkpoint)));
    this.#follow(checkpoint?.offset ?? null);
  }

  /** @param checkpoint what the target has already; null: a copy is due */
  async #beginning(left: Leftovers | null, checkpoint: Checkpoint | null): Promise<Beginning> {
    // a copy must not wipe what applications write
    const kept = await this.#takeUpKeptCopy(checkpoint === null && !this.#open ? left : null);
    if (kept !== null) return { kind: 'kept', copy: kept };
    return checkpoint === null ? { kind: 'copy' } : { kind: 'checkpoint', checkpoint };
  }

  /** Takes the target for us: a user of our own, the lease, and, unless it is open, the fence. */
  async #takeHold(formerFence: unknown): Promise<void> {
    const { source, target, facts, folder } = this.#checked;
    const tally = new WriteTally();
    const hold = await TargetHold.take({
      pair: this.pair,
      facts,
      folder,
      source,
      target,
      formerFence,
      open: this.#open,
      replyTimeoutMs: this.#silence.replyMs,
      tally,
      onLost: (error) => this.#fail(error),
      note: (message) => this.#note(message),
    });
    if (isOver(this.#phase)) {
      // the pair failed, or was stopped, meanwhile: nobody else knows of it
      await hold.release();
      throw notNow('go on', this.#phase);
    }
    if (hold.noFenceReason !== null && !this.#open) {
      this.#note(`others can write to the target while it is filled: ${hold.noFenceReason}`);
    }
    const expiry = await this.#keepFromExpiring(hold, tally);
    const door = new TargetDoor(hold, folder.run.runId, tally, expiry);
    this.#written = { hold, door, expiry, tally, foreign: null, feed: null };
    if (hold.noFenceReason !== null && !this.#open) await this.#watchForeignWrites(this.#written);
  }

  /** While it follows, the target must not let keys expire by its own clock. */
  async #keepFromExpiring(hold: TargetHold, tally: WriteTally): Promise<Expiry> {
    const { facts, folder } = this.#checked;
    const request = {
      info: facts.target,
      session: hold.session,
      dir: path.join(folder.dir, 'expiring', safeFileName(this.pair.name)),
      open: this.#open,
      tally,
      answerLimitMs: this.#options.cutoverTimeoutMs,
      journal: (on: boolean) => this.#journal('import-mode', on),
      note: (message: string) => this.#note(message),
    };
    return Expiry.take(request, this.#left).catch(async (error: unknown) => {
      await hold.release();
      throw error;
    });
  }

  /** Takes up, or begins, the list of the keys that we write: they alone go before another copy. */
  async #writtenKeys(left: Leftovers | null): Promise<KeyPositions> {
    const { target, folder } = this.#checked;
    const file = path.join(folder.dir, `written-keys-${safeFileName(this.pair.name)}`);
    const begun = left !== null && left.phase !== null;
    const keys = new WrittenKeys(file, begun, (message) => this.#note(message));
    return new KeyPositions(keys, await ask(target, 'COMMAND'));
  }

  #write(begin: Beginning): WriteFeed {
    const { facts, folder } = this.#checked;
    const written = this.#writing;
    written.feed = new WriteFeed(
      this.#checkedSpool,
      written.door,
      {
        run: folder.run.runId,
        capabilities: facts.capabilities,
        relativeTtls: !facts.source.atLeast(7, 0),
        missing: missingForms(levelOf(facts.source), levelOf(facts.target)),
        forwardPublish: this.#options.forwardPublish,
        allowLoss: this.#options.allowLoss,
        ttls: written.expiry.ttls,
        partialResync: offsetsCanBeTrusted(facts.source.commandLevel),
        begin,
        leaveOut: null,
        written: this.#keys,
        markBatches: this.#keepsWayBack,
        tally: written.tally,
        silenceMs: this.#silence.targetMs,
      },
      this.#listener({ prepareTarget: () => this.#prepareTarget() }),
      this.#abort.signal,
    );
    return written.feed;
  }

  /** Keys of the run that a resumed pair found on the target, at least: others may lie beside them, and our own two. */
  get #leftOnTarget(): number {
    const keys = keysOf(this.#checked.facts.target);
    if (this.#options.allowNonempty) return Math.min(1, keys);
    return Math.max(0, this.#attached === null ? keys - 2 : keys);
  }

  /** Becomes a replica of the source. @param resumedAt the offset that the target has already; null: none */
  #follow(resumedAt: number | null): void {
    const { facts } = this.#checked;
    const { into } = this.#running;
    this.#link = new SourceLink(
      {
        endpoint: this.pair.source,
        names: this.#options.commandNames,
        announceVersion: announcedTo(facts.source),
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        silenceMs: this.#silence.sourceMs,
      },
      into,
    );
    // a copy that an earlier process began is emptied away
    if (this.#left !== null) this.#copies = 1;
    if (this.#left !== null) this.#sourceWatch.copied(this.#leftOnTarget);
    if (resumedAt === null) this.#moveTo('snapshot');
    else this.#moveTo('catching-up', `resumed at offset ${resumedAt}: the snapshot is on the target`);
    this.#following = this.#link
      .run(this.#abort.signal)
      .catch((error: unknown) => this.#fail(toCutoverError(error)));
    this.#watch();
  }

  // ---- taking up what an earlier process has left --------------------------------------------------------

  /** May take a while: all that is kept is read. */
  async #takeUpKeptCopy(left: Leftovers | null): Promise<CompleteCopy | null> {
    const note = (message: string): void => this.#note(message);
    const { signal } = this.#abort;
    const kept = await takeUpKeptCopy(this.#checkedSpool, left?.kept ?? null, note, signal);
    signal.throwIfAborted();
    return kept;
  }

  /** Feed write: goes on where the target was opened, and undoes a cutover that had not come so far. */
  async #takeUp(left: Leftovers): Promise<void> {
    const takeUp = new TakeUp(this.#context, left);
    const opened = await takeUp.wasOpened();
    this.#open ||= opened || left.phase === 'writable';
    if (left.sourceFence === null || !opened) return takeUp.undoCutover();
    this.#note(
      'the run had ended between opening the target and promoting it: the source stays fenced, promote goes on',
    );
    this.#sourceFence = Fence.fromJournal(this.#checked.source, left.sourceFence);
  }

  /** Feed attach: the target had been made a master, and has taken writes since. */
  async #finishSwap(left: Leftovers | null, found: AttachedResume & { kind: 'promoted' }): Promise<void> {
    if (left === null) throw new InvariantError('a new pair was promoted before it began');
    await new TakeUp(this.#context, left).finishSwap(found, (fence) => this.#kit.whyNotFollowing(fence));
    await this.#finishThrough(left);
  }

  /** The pair was through: only what a crash may have left on the servers is put away. */
  async #finishThrough(left: Leftovers): Promise<void> {
    const takeUp = new TakeUp(this.#context, left);
    this.#moveTo('promoted', 'it was promoted before');
    const rolledBack = await takeUp.wasRolledBack();
    if (rolledBack) this.#moveTo('rolled-back', 'it was rolled back before');
    await takeUp.tidy(rolledBack);
    await this.#letGo('promoted');
  }

  // ---- e: applications may write to the target -----------------------------------------------------------

  /** **e**: applications may write to the target from now on, which goes on being fed. */
  async enableWrites(): Promise<void> {
    if (this.#phase !== 'in-sync') throw notNow('enable writes', this.#phase);
    if (this.#cutover !== null) throw notNow('enable writes', 'cutting over');
    const attached = this.#attached;
    await this.#asCutover((signal) =>
      attached === null ? this.#openGates(signal) : this.#handOver(attached, signal),
    );
    this.#moveTo('writable');
  }

  async #openGates(signal: AbortSignal): Promise<void> {
    const { hold, foreign, expiry } = this.#writing;
    await foreign?.assertNone();
    await this.#connectReverse(null);
    await this.#withExpiryTimes(signal, async () => {
      await expiry.open(this.#writeFeed);
      await foreign?.assertNone();
      if (this.#reverse !== null) await this.#writeOpenedMark();
      this.#notes.push(...(await hold.openGates()));
    });
  }

  /** Sets the expiry times of a target right that is about to be opened; where that fails they are held back again. */
  async #withExpiryTimes<Value>(signal: AbortSignal, open: () => Promise<Value>): Promise<Value> {
    if (this.#phase === 'writable') return open();
    const { expiry } = this.#writing;
    try {
      await expiry.prepareToOpen(this.#writeFeed, signal);
      signal.throwIfAborted();
      return await open();
    } catch (error) {
      await expiry.holdAgain(this.#writeFeed);
      throw error;
    }
  }

  /**
   * An attached target becomes a master, at an exact place, and is written to from that place on. A replica that was
   * only made writable would lose on its own replicas what applications write to it (protocol.md 7a).
   */
  async #handOver({ hold, feed }: Attachment, calledOff: AbortSignal): Promise<void> {
    const { source, target, facts, folder } = this.#checked;
    const { into } = this.#running;
    const timeoutMs = this.#options.cutoverTimeoutMs;
    const over = new AbortController();
    const signal = AbortSignal.any([calledOff, over.signal]);
    const limit = {
      timeoutMs,
      untilMs: performance.now() + timeoutMs,
      signal,
      missing: () => 'no place between two commands was reached',
    };
    const steps = new Steps(this.pair.name, this.#ports.emit, signal);
    try {
      if (!feed.databaseKnown) await nudgeDatabase(source);
      steps.undo('stream goes on', async () => feed.goOn());
      const place = await within(feed.stopAtBoundary(signal), limit);
      await steps.step('stream stopped', () => within(feed.whenApplied(place.offset), limit));
      steps.undo('noted', () => this.#journal('handover', null));
      await this.#journal('handover', place);
      let own: string | null = null;
      steps.undo('the target follows again', async () => {
        if (own === null) {
          // where its answer was lost nobody knows yet
          const state = await replicationState(target);
          if (state.role === 'replica') return;
          own = state.replid;
        }
        feed.takeForOurs(own, place.offset);
        await hold.follow();
      });
      await steps.step('target writable', async () => {
        const state = await makeMaster(target, facts.target);
        own = state.replid;
        assertLeftAt(state, place, target.where);
      });
      this.#open = true;
      steps.undo('the target is no longer written to', async () => {
        this.#open = false;
        await this.#written?.hold.release();
        this.#written = null;
      });
      await this.#takeHold(null);
      const checkpoint = checkpointAt(place, folder.run.runId);
      await this.#writing.door.writeCheckpoint(checkpoint);
      await this.#connectReverse(own === null ? null : { replid: own, offset: place.offset });
      into.feed = this.#write({ kind: 'spool', checkpoint, position: feed.positionOf(place.offset) });
      steps.keep();
    } catch (error) {
      over.abort(toCutoverError(error));
      throw await steps.back(error);
    }
    feed.close();
    this.#attached = null;
    await hold.release();
  }

  // ---- c and m: the cutover ------------------------------------------------------------------------------

  /** **c**: everything in one go, from in-sync to promoted. If it cannot be done in time it is undone. */
  async cutOver(): Promise<void> {
    if (this.#phase !== 'in-sync') throw notNow('cut over', this.#phase);
    await this.promote();
  }

  /**
   * **m**: fences the source, drains, makes the target writable where it is not yet, and lets go of both. If it
   * cannot be done in time everything is undone and the pair goes on.
   */
  async promote(): Promise<void> {
    if (this.#phase !== 'in-sync' && this.#phase !== 'writable') throw notNow('promote', this.#phase);
    if (this.#cutover !== null) throw notNow('promote a second time', this.#phase);
    if (!this.#bothConnected) throw notNow('promote', 'not connected to both servers');
    await this.#asCutover((signal) =>
      this.#attached === null ? this.#cutOverWritten(signal) : this.#swapRoles(this.#attached, signal),
    );
    await this.#letGo('promoted');
    this.#ports.phaseChanged(this.#phase);
  }

  /** Runs a cutover or a rollback so that it can be called off. */
  async #asCutover(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const calledOff = new AbortController();
    const done = work(calledOff.signal);
    this.#cutover = { done, calledOff };
    try {
      await done;
    } finally {
      this.#cutover = null;
    }
  }

  async #cutOverWritten(signal: AbortSignal): Promise<void> {
    const { hold, foreign, expiry } = this.#writing;
    const feed = this.#writeFeed;
    const wasWritable = this.#phase === 'writable';
    if (!wasWritable) await foreign?.assertNone();
    if (!wasWritable) await this.#connectReverse(null);
    const reverse = this.#reverse;
    const fence = this.#sourceFence ?? (await this.#kit.prepareSourceFence(reverse?.user ?? null));
    const result = await this.#withExpiryTimes(signal, async () => {
      await this.#kit.warmUp(feed, fence);
      signal.throwIfAborted();
      return cutOver({
        ...this.#kit.basics(signal, fence),
        gates: hold,
        feed,
        expiry: wasWritable ? null : expiry,
        tailCheck: async () => (wasWritable ? '' : this.#kit.compareTail(feed.tail())),
        foreignWrites: wasWritable || foreign === null ? null : () => foreign.assertNone(),
        mark: wasWritable || reverse === null ? null : () => this.#writeOpenedMark(),
      });
    });
    this.#writeOutageMs = wasWritable ? 0 : result.writeOutageMs;
    this.#notes.push(...result.notes);
    if (!wasWritable) this.#moveTo('writable');
    if (reverse !== null && fence !== null) {
      this.#wayBack = new WrittenWayBack(
        this.#sides,
        reverse,
        fence,
        () => this.#journal('source-fence-lifted'),
        hold.endpoint.username,
      );
      await reverse.open().catch((error: unknown) => this.#reverseLost(toCutoverError(error)));
    } else {
      this.#notes.push(`no way back was kept: ${this.#whyNoWrittenWayBack(fence)}`);
    }
    // last: the commands to type stand below it
    if (fence !== null) this.#notes.push(...fenceLeftNotes(fence, addressOf(this.pair.source)));
    this.#moveTo('promoted');
  }

  #whyNoWrittenWayBack(fence: Fence | null): string {
    if (!this.#options.reverse) return '--no-reverse';
    if (fence === null) return '--no-source-fence leaves the source writable';
    if (fence.kind !== 'acl') return 'the source knows no users: nobody could be let through its fence';
    return this.#options.cutover === 'ask'
      ? 'the target could not be followed before it was opened'
      : 'with feed write it needs a session that goes on (--cutover ask)';
  }

  /** Feed attach: the target becomes the master, and the source its replica. */
  async #swapRoles({ hold, feed }: Attachment, signal: AbortSignal): Promise<void> {
    const { target } = this.#checked;
    const fence = await this.#kit.prepareSourceFence(null);
    const noFollowing = await this.#kit.whyNotFollowing(fence);
    await this.#kit.warmUp(feed, fence);
    signal.throwIfAborted();
    const fullCopies = (await target.info('stats')).number('sync_full');
    const result = await swapRoles({
      ...this.#kit.basics(signal, fence),
      to: this.#sides.target,
      followAs: noFollowing === null ? this.pair.target : null,
      applier: feed,
      replid: () => feed.replid,
      demote: async ({ replid, former }) => {
        feed.takeForOurs(replid, former?.endOffset ?? -1);
        await hold.follow();
      },
      tailCheck: () => this.#kit.compareTail(feed.tail()),
      journalSwap: (swap) => this.#journal('swap', swap),
    });
    this.#writeOutageMs = result.writeOutageMs;
    this.#moveTo('writable');
    const notFollowing = noFollowing ?? result.notFollowing;
    if (notFollowing === null) {
      await this.#watchFollowing(new NativeWayBack(this.#sides), fullCopies);
    } else {
      this.#notes.push(`no way back was kept: ${notFollowing}`);
      if (fence !== null) this.#notes.push(...fenceLeftNotes(fence, addressOf(this.pair.source)));
      if (noFollowing === null && this.#options.reverse) this.#needsCopy = notFollowing;
    }
    this.#moveTo('promoted');
    await this.#journal('swap', null);
  }

  /** The old source was told to follow: says whether it does, and whether that is a way back. */
  async #watchFollowing(wayBack: NativeWayBack, fullCopiesBefore: number | null): Promise<void> {
    const { target, facts } = this.#checked;
    const [from, to] = [addressOf(this.pair.source), addressOf(this.pair.target)];
    if (!(await wayBack.established(FOLLOW_LIMIT_MS))) {
      this.#notes.push(
        `the old source does not reach the new master at ${to}: no way back yet; it is read-only, see master_link_status in its INFO replication`,
      );
      return;
    }
    const copied = (await target.info('stats')).number('sync_full') !== fullCopiesBefore;
    const follows = `the old source ${from} follows the new master${copied ? ' after a full copy' : ''}`;
    const lossy = whyLossyWayBack(facts);
    if (lossy === null) this.#wayBack = wayBack;
    this.#notes.push(
      lossy === null
        ? `${follows}: a rollback loses nothing; to end that, on it: REPLICAOF NO ONE`
        : `${follows} and is read-only, but that is no way back: ${lossy}`,
    );
  }

  // ---- behind the cutover --------------------------------------------------------------------------------

  /** Whether a way back is wanted that needs us: in a session that ends with the promotion it would have no use. */
  get #keepsWayBack(): boolean {
    const { reverse, cutover, sourceFence } = this.#options;
    return reverse && sourceFence && cutover === 'ask' && this.#facts?.sourceFence.kind === 'acl';
  }

  /** Follows the target before it is opened. Where that cannot be done there is no way back, and it is said. */
  async #connectReverse(from: { replid: string; offset: number } | null): Promise<void> {
    if (!this.#keepsWayBack || this.#reverse !== null) return;
    const { facts } = this.#checked;
    try {
      this.#reverse = await ReverseLink.connect({
        ...this.#context,
        facts,
        targetAccess: this.#writing.hold.endpoint,
        announceVersion: announcedTo(facts.target),
        from,
        lost: (error) => this.#reverseLost(error),
      });
    } catch (error) {
      this.#note(`there will be no way back: ${toCutoverError(error).message}`);
    }
  }

  #reverseLost(error: CutoverError): void {
    this.#note(`the way back is lost: ${error.message}; ${error.hint}`);
    if (this.#wayBack instanceof WrittenWayBack) this.#wayBack.lost(error);
    else if (this.#phase === 'writable' || this.#phase === 'in-sync') {
      const reverse = this.#reverse;
      this.#reverse = null;
      void reverse?.close().catch(() => undefined);
    }
  }

  /** The last write of ours before those of the applications. */
  async #writeOpenedMark(): Promise<void> {
    const { hold, tally } = this.#writing;
    const [command, ...args] = openedMark(this.#checkedFolder.run.runId);
    await tally.around(1, () => hold.session.call(command ?? '', ...args));
  }

  /** True behind the cutover while a rollback is possible, which then loses nothing. */
  get wayBackOpen(): boolean {
    return this.#phase === 'promoted' && this.#wayBack !== null;
  }

  /** Why a way back would need a full copy onto the old source; null: it needs none, or there is to be none. */
  get wayBackNeedsCopy(): string | null {
    return this.#phase === 'promoted' ? this.#needsCopy : null;
  }

  /** Wipes the old source: it becomes a replica of the new master by a full copy. */
  async openWayBackByCopy(): Promise<void> {
    const { source } = this.#sides;
    await follow(source.session, source.info, this.pair.target);
    this.#needsCopy = null;
    this.#wayBack = new NativeWayBack(this.#sides);
    this.#ports.phaseChanged(this.#phase);
  }

  /** **b**: the source becomes the master again, with everything that was written to the new one. */
  async rollBack(): Promise<void> {
    const wayBack = this.#wayBack;
    if (this.#phase !== 'promoted' || wayBack === null) throw notNow('roll back', this.#phase);
    if (this.#cutover !== null) throw notNow('roll back a second time', this.#phase);
    await this.#asCutover(async (signal) => {
      this.#notes.push(...(await wayBack.rollBack(this.#rollbackBasics(signal))));
      this.#moveTo('rolled-back');
    });
    await this.#closeWayBack();
    this.#ports.phaseChanged(this.#phase);
  }

  #rollbackBasics(signal: AbortSignal): RollbackBasics {
    return {
      steps: new Steps(this.pair.name, this.#ports.emit, signal),
      timeoutMs: this.#options.cutoverTimeoutMs,
      signal,
      note: (message) => this.#note(message),
      tailCheck: (tail) => this.#kit.compareTail(tail),
      journalFence: (fence) =>
        fence === null
          ? this.#journal('target-fence-lifted')
          : this.#journal('target-fence', fence.toJournal()),
      journalSwap: (swap) => this.#journal('back-swap', swap),
    };
  }

  /** **f**: closes the way back; the pair stays promoted. */
  async finish(): Promise<void> {
    const outlivesUs = this.#wayBack?.outlivesUs === true;
    await this.#closeWayBack();
    if (outlivesUs) this.#note('the old source goes on following the new master');
    this.#ports.phaseChanged(this.#phase);
  }

  async #closeWayBack(): Promise<void> {
    const wayBack = this.#wayBack;
    this.#wayBack = null;
    if (this.#wayBackTimer !== null) clearInterval(this.#wayBackTimer);
    this.#wayBackTimer = null;
    try {
      await wayBack?.close();
      await this.#giveTargetBack();
    } catch (error) {
      this.#notGivenBack(toCutoverError(error));
    }
  }

  #wayBackTimer: NodeJS.Timeout | null = null;

  /** Undoes a cutover that is under way and waits until that is done; one that is through stays. */
  async #callOffCutover(reason: CutoverError): Promise<void> {
    this.#cutover?.calledOff.abort(reason);
    await this.#cutover?.done.catch(() => undefined);
  }

  /**
   * **q**, Ctrl-C, or the end of a rehearsal: the source stays as it was; the target is given back. A cutover that is
   * under way is undone first. Behind a promotion: the way back is closed, as far as it is ours.
   */
  async stop(reason: string): Promise<void> {
    await this.#callOffCutover(calledOff(reason));
    if (isOver(this.#phase)) {
      await this.#ending;
      if (this.#wayBack !== null && !this.#wayBack.outlivesUs) {
        this.#notes.push('the way back is closed: what is written from now on is on the target only');
      }
      await this.#closeWayBack();
      await this.#closeSessions();
      return;
    }
    this.#moveTo('stopped', reason);
    await this.#letGo('stopped');
  }

  /** Ends the pair for a reason that lies outside of it. */
  abandon(error: CutoverError): void {
    this.#fail(error);
  }

  /** The clients that are still on the source. */
  async clients(): Promise<readonly ClientInfo[]> {
    return clientsOn(this.#sessions.source);
  }

  /** Ends connections of clients on the source; returns how many were ended. */
  async killClients(addresses: readonly string[]): Promise<number> {
    return killClients(this.#sessions.source, addresses);
  }

  // ---- what can be seen ----------------------------------------------------------------------------------

  snapshot(): PairSnapshot {
    const feed = this.#feed;
    const applied = Math.max(0, feed?.appliedOffset() ?? 0);
    const total = feed?.snapshotTotal ?? null;
    const bytes = feed?.snapshotBytes ?? 0;
    const rate = this.#byteRate.perSecond;
    const loading = this.#phase === 'snapshot';
    const oldest = feed?.oldestPendingAt ?? null;
    const sourceOffset = this.#seenSource?.offset ?? 0;
    return Object.freeze({
      pair: this.pair.name,
      source: addressOf(this.pair.source),
      target: addressOf(this.pair.target),
      phase: this.#phase,
      feed: this.#attached === null && this.#written !== null ? 'write' : (this.#facts?.feed ?? null),
      reason: this.#reason,
      wayBack: this.#phase === 'promoted' ? (this.#wayBack?.description ?? null) : null,
      snapshotBytes: bytes,
      snapshotTotal: total,
      keys: feed?.keys ?? 0,
      keysTotal: this.#facts?.keysTotal ?? null,
      bytesPerSecond: loading ? rate : 0,
      etaSeconds:
        loading && total !== null && rate > 0 && bytes > total / 100 ? (total - bytes) / rate : null,
      appliedOffset: applied,
      sourceOffset,
      lagBytes: loading ? 0 : Math.max(0, sourceOffset - applied),
      lagSeconds: loading || oldest === null ? 0 : Math.max(0, (Date.now() - oldest) / 1000),
      commandsPerSecond: loading ? 0 : this.#commandRate.perSecond,
      divergences: feed?.divergences ?? 0,
    });
  }

  summary(): PairSummary {
    return {
      pair: this.pair.name,
      phase: this.#phase,
      // a resumed pair loads no snapshot: what the source held at the preflight
      keys: this.#feed?.keys || (this.#left === null ? 0 : (this.#facts?.keysTotal ?? 0)),
      seconds: Math.round(((this.#endedAt ?? performance.now()) - this.#startedAt) / 100) / 10,
      writeOutageMs: this.#writeOutageMs,
      notes: [...this.#lost, ...this.#notes],
    };
  }

  // ---- how it is kept going ------------------------------------------------------------------------------

  #listener(own: Pick<FeedListener, 'prepareTarget'>): FeedListener {
    return {
      ...own,
      copyBegins: (position) => this.#copyBegins(position),
      snapshotLoaded: (lost) => {
        this.#lost = lost;
        for (const message of lost) this.#note(message);
        this.#sourceWatch.copied(this.#feed?.keys ?? 0);
        if (this.#phase === 'snapshot') this.#moveTo('catching-up');
        void this.#sample();
      },
      waiting: (reason) => {
        this.#reason = reason;
        // a target that changes its role breaks off
        if (reason !== null && this.#cutover === null) this.#noteWaiting(reason);
      },
      note: (message) => this.#note(message),
      keepCopy: this.#options.keepSnapshot
        ? (copy) => this.#journal('kept-copy', copy === null ? null : keptCopyToJournal(copy))
        : null,
      divergence: (sample) => this.#diverged(sample),
      failed: (error) => this.#fail(error),
      redial: () => this.#link?.redial(),
      acknowledge: () => this.#link?.acknowledge(),
    };
  }

  /** Before each full copy. Throws where one must not be taken. */
  async #copyBegins(position: ReplicationPosition | null): Promise<void> {
    this.#refuseCopy();
    this.#copies++;
    const { feed } = this.#running.into;
    const share = feed.snapshotTotal === null ? null : feed.snapshotBytes / Math.max(1, feed.snapshotTotal);
    this.#loop.begins(performance.now(), position?.offset ?? this.#sourceWatch.offset, share);
    if (this.#loop.tooMany) throw await this.#loopError();
    await this.#sourceWatch.assertNotEmptied(position, feed.replid);
    // the source was asked meanwhile
    this.#refuseCopy();
    this.#gauge.reset();
    if (this.#phase !== 'snapshot') this.#moveTo('snapshot', 'a new full copy is taken');
  }

  #refuseCopy(): void {
    if (isOver(this.#phase)) throw notNow('take a copy', this.#phase);
    if (this.#cutover !== null) {
      throw new SourceError('the source wants a full copy in the middle of a cutover: first that is undone', {
        code: 'full-resync-in-cutover',
        hint: 'nothing is to be done: the copy is taken behind --cutover-timeout',
      });
    }
    if (this.#phase === 'writable' || this.#open) {
      throw new TargetError(
        'the source wants a full copy, but the target already takes writes, which it would wipe',
        {
          code: 'full-resync-refused',
          hint: 'decide which side is right: point the applications back to the source and start again, or promote without draining',
        },
      );
    }
  }

  async #loopError(): Promise<SourceError> {
    const setting = async (name: string): Promise<string | null> => {
      const value = await askConfig(this.#checked.source, name).catch(() => null);
      return typeof value === 'string' ? value : null;
    };
    const backlog = await setting('repl-backlog-size');
    const now: LoopSettings = {
      backlogBytes: backlog === null ? null : Number(backlog),
      outputBuffer: parseOutputBuffer(await setting('client-output-buffer-limit')),
    };
    return new SourceError(
      `the source has asked for ${this.#loop.copies} full copies without the pair getting in sync`,
      { code: 'resync-loop', hint: loopHint(this.#loop.measure, now), recovery: 'operator' },
    );
  }

  /** The first copy finds the target as the preflight left it, later ones find our own keys and functions. */
  async #prepareTarget(): Promise<ReadonlySet<Form> | null> {
    const { hold, door, tally, foreign } = this.#writing;
    const { facts } = this.#checked;
    await door.endWriters();
    await hold.renewLease();
    const begunBefore = this.#copies > 1 || this.#left !== null;
    if (this.#keys !== null) {
      if (begunBefore) await this.#removeWritten(hold.session, this.#keys.keys);
    } else if (begunBefore || this.#options.flushTarget) {
      await foreign?.restart();
      const mode = facts.target.atLeast(4, 0) ? ['ASYNC'] : [];
      await tally.around(1, () => hold.session.call('FLUSHALL', ...mode));
      if (facts.capabilities.functions) await tally.around(1, () => hold.session.call('FUNCTION', 'FLUSH'));
    }
    const forms = await probeForms(hold.session, tally);
    await door.beginCopy(this.#checkedFolder.run.runId);
    return forms;
  }

  /** After --allow-nonempty: what was on the target before us stays. */
  async #removeWritten(session: ServerSession, keys: WrittenKeys): Promise<void> {
    if (keys.lostBecause !== null) {
      throw new TargetError(
        `a new full copy is needed, and it is not known which keys of the target are ours: ${keys.lostBecause}`,
        {
          code: 'full-resync-nonempty',
          hint: 'after --allow-nonempty the target is never emptied: begin a new run into an empty target',
        },
      );
    }
    await removeWritten(session, keys, this.#checked.facts.target.atLeast(4, 0));
  }

  /** Samples lag, moves between catching-up and in-sync, shows progress. */
  #watch(): void {
    const every = (ms: number, work: () => void): void => {
      this.#timers.push(setInterval(work, ms));
    };
    every(SAMPLE_INTERVAL_MS, () => void this.#sample());
    every(500, () => {
      const now = performance.now();
      this.#byteRate.add(this.#feed?.snapshotBytes ?? 0, now);
      this.#commandRate.add(this.#feed?.commands ?? 0, now);
    });
    every(1000, () => {
      this.#feed?.tick(Date.now());
      this.#saveSpool();
      this.#lookForForeignWrites();
      this.#emit({ event: 'progress', ...this.snapshot() });
    });
    every(LOST_TARGET_MS, () => void this.#lookForTarget());
  }

  async #watchForeignWrites(written: WriteSide): Promise<void> {
    const { facts } = this.#checked;
    const { hold, tally } = written;
    let former = this.#left?.foreignWrites ?? null;
    if (former !== null && this.#options.cutover === 'ask') {
      this.#note(`others had written to the target before the resume: ${former}; compare both sides first`);
      former = null;
    }
    written.foreign = await ForeignWrites.watch({
      session: hold.session,
      info: facts.target,
      tally,
      note: (message) => this.#note(message),
      former,
      journal: (found) => this.#journal('foreign-writes', found),
    });
  }

  /** Only until the target is opened, and not in a cutover, which looks for itself. */
  #lookForForeignWrites(): void {
    const { foreign = null, feed = null } = this.#written ?? {};
    const filling = ['snapshot', 'catching-up', 'in-sync'].includes(this.#phase) && this.#cutover === null;
    if (filling && foreign !== null && feed?.connected === true) void foreign.tick(feed);
  }

  #saveSpool(): void {
    try {
      this.#spool?.save();
    } catch (error) {
      this.#fail(toCutoverError(error));
    }
  }

  /**
   * An attached target may have forgotten us: a restart makes it a master again. It is asked also while it seems to be
   * connected: of a host that dies nothing is heard.
   */
  async #lookForTarget(): Promise<void> {
    const attached = this.#attached;
    if (attached === null || this.#cutover !== null || isOver(this.#phase)) return;
    try {
      if (await attached.hold.regain()) {
        this.#note('the target had forgotten that it is our replica (was it restarted?): it was told again');
      }
    } catch (error) {
      const cause = toCutoverError(error);
      if (cause instanceof PreflightError) this.#fail(cause);
    }
  }

  /** True while bytes of the source arrive and can go on to the target. */
  get #bothConnected(): boolean {
    return this.#link?.connected === true && this.#feed?.connected === true;
  }

  /** Our questions, and the fence of a cutover, would go to another server than the one that the link follows. */
  #otherSource(): void {
    if (this.#link?.connected === true && this.#cutover === null) this.#sourceWatch.redial();
  }

  #samplingSince: number | null = null;

  async #sample(): Promise<void> {
    const source = this.#source;
    if (source === null || this.#feed === null) return;
    if (this.#samplingSince !== null) {
      this.#noSample(performance.now() - this.#samplingSince);
      return;
    }
    this.#samplingSince = performance.now();
    try {
      const followed = await this.#sourceWatch.look(this.#feed.replid);
      await this.#feed.refresh();
      const now = performance.now();
      if (!followed) this.#otherSource();
      if (!this.#bothConnected || !followed) this.#gauge.reset();
      const inSync = this.#gauge.sample(this.#sourceWatch.offset, this.#feed.appliedOffset(), now);
      if (this.#phase === 'catching-up' && inSync) {
        this.#loop.reset();
        this.#emit({ event: 'progress', ...this.snapshot() });
        this.#moveTo('in-sync');
        if (this.#open)
          this.#moveTo('writable', 'the applications write to the target since before the resume');
      } else if (this.#phase === 'in-sync' && !inSync && this.#cutover === null) {
        this.#moveTo('catching-up', this.#bothConnected ? 'the lag grew' : 'a connection was lost');
      }
    } catch (error) {
      // the link notices a dead source by itself; a source that cannot be asked is not in sync
      this.#gauge.reset();
      const { recovery } = toCutoverError(error);
      if (recovery === 'operator' && !this.#abort.signal.aborted) this.#fail(toCutoverError(error));
    } finally {
      this.#samplingSince = null;
    }
  }

  /** A sample is under way: in sync is what was proved, not what was true when the last answer came. */
  #noSample(sinceMs: number): void {
    if (sinceMs < SAMPLE_LIMIT_MS || this.#cutover !== null || this.#phase !== 'in-sync') return;
    this.#gauge.reset();
    this.#moveTo('catching-up', 'a server does not answer');
  }

  #diverged(sample: DivergenceSample): void {
    const shown = 20;
    const count = this.#feed?.divergences ?? 0;
    if (count > shown) return;
    const more = count === shown ? ' (more are only counted)' : '';
    this.#note(
      `the target answered ${sample.command} of key ${sample.keyDigest} at offset ${sample.offset} with ${sample.reply}${more}`,
    );
  }

  #fail(error: CutoverError): void {
    if (isOver(this.#phase)) return;
    this.#error = error;
    this.#emit({
      event: 'error',
      pair: this.pair.name,
      code: error.code,
      message: printable(error.message, 600),
      hint: printable(error.hint, 600),
      recovery: error.recovery,
    });
    this.#moveTo('failed', error.message);
    void this.#letGo('failed', error);
  }

  /** Ends link and feed and gives the target back. The checkpoint stays, unless the pair was promoted. */
  #letGo(how: 'promoted' | 'stopped' | 'failed', error?: CutoverError): Promise<void> {
    this.#ending ??= this.#end(how, error);
    return this.#ending;
  }

  async #end(how: 'promoted' | 'stopped' | 'failed', error?: CutoverError): Promise<void> {
    if (error !== undefined) await this.#callOffCutover(error);
    this.#endedAt = performance.now();
    for (const timer of this.#timers) clearInterval(timer);
    this.#emit({ event: 'progress', ...this.snapshot() });
    if (how === 'stopped') await this.#leaveExpiryTimes();
    this.#abort.abort();
    await this.#following;
    this.#feed?.close();
    try {
      if (this.#wayBack === null) await this.#reverse?.close();
      if (how === 'promoted') {
        await this.#written?.door.removeCheckpoint();
        this.#keys?.keys.remove();
      } else this.#keys?.keys.close();
      // our user goes on following the target on a way back of ours
      if (this.#wayBack === null || this.#wayBack.outlivesUs) await this.#giveTargetBack();
    } catch (error) {
      this.#notGivenBack(toCutoverError(error));
    }
    try {
      await this.#closeSpool(how);
    } catch (error) {
      this.#note(`the spool could not be removed: ${toCutoverError(error).message}`);
    }
    await this.#folder
      ?.append({ kind: 'phase', pair: this.pair.name, data: this.#phase }, 'durable')
      .catch(() => undefined);
    if (this.#wayBack !== null) this.#watchWayBack();
    if (how !== 'promoted') await this.#closeSessions();
  }

  /**
   * A target that is left unpromoted: behind a rehearsal its expiry times are true, behind a quit those that are not due
   * soon, since the source may renew what is due before the run is gone on with.
   */
  async #leaveExpiryTimes(): Promise<void> {
    const { expiry, feed } = this.#written ?? { expiry: null, feed: null };
    if (expiry === null || feed?.streaming !== true || this.#open) return;
    const signal = AbortSignal.timeout(LEAVE_LIMIT_MS);
    const rehearsal = this.#options.stopAtInSync;
    const work = async (): Promise<void> => {
      await expiry.prepareToOpen(feed, signal, rehearsal ? undefined : LEFT_HELD_MS);
      if (rehearsal) await expiry.open(feed);
    };
    await Promise.race([work(), delay(LEAVE_LIMIT_MS, undefined, { ref: false })]).catch(() => undefined);
  }

  /** What is kept of a copy stays only where resume can go on with it. */
  async #closeSpool(how: 'promoted' | 'stopped' | 'failed'): Promise<void> {
    const spool = this.#spool;
    if (spool === null) return;
    if (!spool.keeps) spool.close();
    else if (how === 'stopped') {
      spool.leave();
      this.#notes.push('the snapshot is kept in the run folder: resume loads it from there');
    } else {
      spool.close();
      await this.#journal('kept-copy', null);
    }
  }

  /** Undoes what was changed on the target for the run. May be called again. */
  async #giveTargetBack(): Promise<void> {
    await this.#attached?.hold.release();
    await this.#written?.expiry.release();
    this.#notes.push(...((await this.#written?.hold.release()) ?? []));
  }

  #notGivenBack(cause: CutoverError): void {
    this.#notes.push(
      `the target could not be given back whole (${printable(cause.message)}): its fence, our user or settings may be left; redis-cutover resume puts it right`,
    );
    this.#leftBehind = true;
  }

  #watchWayBack(): void {
    const look = (): void => {
      void this.#wayBack?.tick().catch(() => undefined);
      this.#emit({ event: 'progress', ...this.snapshot() });
    };
    void this.#wayBack?.tick().catch(() => undefined);
    this.#wayBackTimer = setInterval(look, 1000);
  }

  #leftBehind = false;

  /** True where something of ours may still be on the target. */
  get leftBehind(): boolean {
    return this.#leftBehind;
  }

  async #closeSessions(): Promise<void> {
    await this.#source?.close();
    await this.#target?.close();
    // release() does it, unless it failed before: one open socket would keep the process from ending
    await this.#written?.hold.session.close();
  }

  #moveTo(to: Phase, reason?: string): void {
    const from = this.#phase;
    assertMove(from, to);
    this.#phase = to;
    if (to !== 'snapshot' || reason === undefined) this.#reason = reason ?? null;
    this.#emit({
      event: 'phase',
      pair: this.pair.name,
      from,
      to,
      ...(reason === undefined ? {} : { reason: printable(reason, 600) }),
    });
    void this.#folder?.append({ kind: 'phase', pair: this.pair.name, data: to }).catch(() => undefined);
    this.#ports.phaseChanged(to);
  }

  /** A condition that lasts is found anew with each retry: it is said once, and again after a while. */
  #noteWaiting(reason: string): void {
    const last = this.#lastWaiting;
    const now = performance.now();
    if (last !== null && last.reason === reason && now - last.atMs < SAME_NOTE_MS) return;
    this.#lastWaiting = { reason, atMs: now };
    this.#note(reason);
  }

  #note(message: string): void {
    this.#emit({ event: 'note', pair: this.pair.name, message: printable(message, 600) });
  }

  #emit(event: MigrationEvent): void {
    this.#ports.emit(event);
  }

  get #feed(): Feed | null {
    return this.#into?.feed ?? null;
  }

  get #sessions(): { source: ServerSession; target: ServerSession } {
    if (this.#source === null || this.#target === null) throw new InvariantError('the pair was not checked');
    return { source: this.#source, target: this.#target };
  }

  get #checked(): { source: ServerSession; target: ServerSession; facts: PairFacts; folder: RunFolder } {
    if (this.#facts === null) throw new InvariantError('the pair was not checked');
    return { ...this.#sessions, facts: this.#facts, folder: this.#checkedFolder };
  }

  get #sides(): Sides {
    const { source, target, facts } = this.#checked;
    return {
      pair: this.pair,
      source: { session: source, info: facts.source },
      target: { session: target, info: facts.target },
    };
  }

  get #context(): PairContext {
    const folder = this.#checkedFolder;
    return {
      ...this.#sessions,
      pair: this.pair,
      options: this.#options,
      runId: folder.run.runId,
      runDir: folder.dir,
      emit: this.#ports.emit,
      note: (message) => this.#note(message),
      remember: (...notes) => void this.#notes.push(...notes),
      journal: (kind, data) => this.#journal(kind, data),
    };
  }

  get #kit(): CutoverKit {
    return new CutoverKit({ ...this.#context, facts: this.#checked.facts });
  }

  get #checkedFolder(): RunFolder {
    if (this.#folder === null) throw new InvariantError('the pair has no run folder');
    return this.#folder;
  }

  get #sourceWatch(): SourceWatch {
    this.#seenSource ??= new SourceWatch(this.#sessions.source);
    return this.#seenSource;
  }

  get #checkedSpool(): Spool {
    if (this.#spool === null) throw new InvariantError('the pair was not begun');
    return this.#spool;
  }

  get #writing(): WriteSide {
    if (this.#written === null) throw new InvariantError('the target is not written to');
    return this.#written;
  }

  get #writeFeed(): WriteFeed {
    const { feed } = this.#writing;
    if (feed === null) throw new InvariantError('the target is not written to yet');
    return feed;
  }

  get #running(): { into: FeedSwitch } {
    if (this.#into === null) throw new InvariantError('the pair was not started');
    return { into: this.#into };
  }

  #journal(kind: string, data: unknown = null): Promise<void> {
    return this.#checkedFolder.append({ kind, pair: this.pair.name, data }, 'durable');
  }
}

/** What feed `write` needs of the target. */
interface WriteSide {
  readonly hold: TargetHold;
  readonly door: TargetDoor;
  /** Who lets its keys expire. */
  readonly expiry: Expiry;
  /** What we write to it. */
  readonly tally: WriteTally;
  /** What others write to it; null where they cannot, or may, or where it cannot be noticed. */
  foreign: ForeignWrites | null;
  /** null before it is begun. */
  feed: WriteFeed | null;
}

/** Makes a source say in its stream which database is selected; messages that nobody listens to change no data. */
async function nudgeDatabase(source: ServerSession): Promise<void> {
  const message = ['PUBLISH', 'redis-cutover', ''] as const;
  await source.pipeline([['SELECT', 1], message, ['SELECT', 0], message]);
}

/** The version that a server must be told of to send what we can read; null: none (protocol.md 1.7). */
function announcedTo(info: ServerInfo): string | null {
  return info.family === 'valkey' && info.atLeast(8, 0) ? NEWEST_VALKEY : null;
}

function checkpointAt({ replid, offset, db }: StopPlace, run: string): Checkpoint {
  return { replid, offset, db, run, phase: 'stream' };
}

/** Whether feed `write` may do where attaching failed like this. */
function isNoWayToAttach(error: CutoverError): boolean {
  return error instanceof ReplyError || error.code === 'target-unreachable' || error.code === 'listen';
}

function calledOff(reason: string): TargetError {
  return new TargetError(`the cutover was called off: ${reason}`, {
    code: 'cutover-called-off',
    hint: 'nothing is to be done: it was undone',
    recovery: 'none',
  });
}

function notNow(what: string, state: string): PreflightError {
  return new PreflightError(`cannot ${what} while the pair is ${state}`, {
    code: 'not-now',
    hint: 'wait until the pair is in sync',
  });
}

function safeFileName(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 100);
}
