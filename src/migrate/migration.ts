/**
 * One pair, told top-down. check() looks and touches nothing. start() takes hold of the target, becomes a replica of
 * the source and keeps the target in step: snapshot → catching-up → in-sync. Then the operator's words:
 * enableWrites(), cutOver(), promote(), behind them rollBack() or finish(); or stop() at any time before, which leaves
 * the source as it was.
 *
 * Next to read: attachment.ts and write-side.ts (the two ways to feed a target, and what each holds of it), attach-feed.ts
 * and write-feed.ts (how bytes reach it), sampler.ts (how in sync is known), copy-guard.ts (when a copy may be taken),
 * handover.ts and cutover.ts (the last steps), way-back.ts (behind them).
 */
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerInfo } from '../client/server-info.ts';
import { ServerSession } from '../client/session.ts';
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import {
  assertNever,
  type CutoverError,
  EXIT,
  InvariantError,
  PreflightError,
  TargetError,
  toCutoverError,
} from '../core/errors.ts';
import type { CheckResult, ClientInfo, MigrationEvent, PairSnapshot, PairSummary } from '../core/events.ts';
import { optionsOfPair, type RunOptions } from '../core/options.ts';
import { assertMove, isOver, type Phase } from '../core/phase.ts';
import { printable } from '../core/text.ts';
import { isThrottled, type Throttle, throttleText } from '../core/throttle.ts';
import { SourceLink } from '../source/link.ts';
import { Spool } from '../spool/spool.ts';
import type { Checkpoint } from '../target/write/checkpoint.ts';
import { Fence } from '../target/write/fence.ts';
import type { StopPlace } from './attach-feed.ts';
import { isSameAddress, takenBySomebodyElse } from './attach-hold.ts';
import { type Attachment, attach, isNoWayToAttach, stopInZero } from './attachment.ts';
import { changeMark } from './change-mark.ts';
import { clientsOn, killClients } from './clients.ts';
import { CopyGuard } from './copy-guard.ts';
import { cutOver, swapRoles } from './cutover.ts';
import { CutoverKit, fenceLeftNotes } from './cutover-kit.ts';
import { type Feed, type FeedListener, FeedSwitch } from './feed.ts';
import { giveWay } from './give-way.ts';
import { handOver } from './handover.ts';
import { type CompleteCopy, keptCopyToJournal, reaches, takeUpKeptCopy } from './kept-copy.ts';
import type { Leftovers } from './leftovers.ts';
import { Nudge } from './nudge.ts';
import { type CheckedPair, notNow, type PairContext, type PairState } from './pair-context.ts';
import { Announcements, pairHook } from './pair-hooks.ts';
import { pairSnapshot } from './pair-snapshot.ts';
import { PairVoice } from './pair-voice.ts';
import { assertPreflight, type PairFacts, preflight } from './preflight.ts';
import { type AttachedResume, judgeAttached } from './resume-attached.ts';
import { primeBacklog, ReverseLink } from './reverse-link.ts';
import { follow, replicationState } from './roles.ts';
import { type Durability, type RunFolder, safeFileName } from './run-folder.ts';
import { Sampler } from './sampler.ts';
import { writeSettings } from './settings.ts';
import { type Silence, USUAL_SILENCE } from './silence.ts';
import { SourceTuning } from './source-tuning.ts';
import { keysOf, SourceWatch } from './source-watch.ts';
import { SpoolAlarm } from './spool-alarm.ts';
import { Steps } from './steps.ts';
import { SAMPLE_INTERVAL_MS } from './sync-gauge.ts';
import { isThrough, TakeUp } from './take-up.ts';
import { Valve } from './valve.ts';
import {
  keepsWrittenWayBack,
  NativeWayBack,
  type RollbackBasics,
  type Sides,
  type WayBack,
  WrittenWayBack,
  watchFollowing,
  whyNoWrittenWayBack,
} from './way-back.ts';
import type { Beginning, WriteFeed } from './write-feed.ts';
import { WriteSide } from './write-side.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** The newest Valkey whose RDB the reader knows (protocol.md 1.7): decides what a 9.1 sends. */
const NEWEST_VALKEY = '9.1.0';
const LOST_TARGET_MS = 3_000;
/** Behind a copy, until one counts. */
const EARLY_SAMPLE_MS = 25;
const EARLY_SAMPLES = 40;

export interface MigrationPorts {
  readonly emit: (event: MigrationEvent) => void;
  /** Called after each change of phase, and where a way back opens or closes. */
  readonly phaseChanged: (phase: Phase) => void;
}

/** What follows the source, whichever way the target is fed. */
interface Parts {
  readonly spool: Spool;
  readonly watch: SourceWatch;
  readonly copies: CopyGuard;
  readonly sampler: Sampler;
}

export class Migration {
  readonly pair: PairSpec;
  readonly #options: RunOptions;
  readonly #ports: MigrationPorts;
  readonly #left: Leftovers | null;
  readonly #silence: Silence;
  readonly #voice: PairVoice;
  readonly #announcements = new Announcements();
  readonly #valve: Valve;
  readonly #abort = new AbortController();
  #phase: Phase = 'checking';
  #reason: string | null = null;
  #error: CutoverError | null = null;
  #source: ServerSession | null = null;
  #target: ServerSession | null = null;
  #facts: PairFacts | null = null;
  #folder: RunFolder | null = null;
  /** What is changed of the source's settings; null before start(). */
  #tuning: SourceTuning | null = null;
  #agreesToTune = false;
  /** How the target is fed: one of the two. After **e** an attached target is written to. */
  #attached: Attachment | null = null;
  #written: WriteSide | null = null;
  #into: FeedSwitch | null = null;
  #link: SourceLink | null = null;
  /** Made by start(), unless an earlier process has brought the pair to its end. */
  #parts: Parts | null = null;
  #following: Promise<void> = Promise.resolve();
  #timers: NodeJS.Timeout[] = [];
  #sampling: NodeJS.Timeout | null = null;
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
  #settled = false;
  readonly #notes: string[] = [];
  /** What is true as long as the pair stays promoted, and of no use behind a rollback. */
  #promotedNotes: readonly string[] = [];
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
    this.#options = optionsOfPair(pair, options);
    this.#ports = ports;
    this.#left = left;
    this.#silence = silence;
    this.#valve = new Valve(this.#options.throttle);
    this.#voice = new PairVoice(pair.name, ports.emit);
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Why the pair failed; null where it did not. */
  get error(): CutoverError | null {
    return this.#error;
  }

  /** True where the pair is over, and all is put away that was to be put away then. */
  get settled(): boolean {
    return this.#settled;
  }

  get facts(): PairFacts | null {
    return this.#facts;
  }

  /** True as soon as the source has sent all of its snapshot, loaded or not: the child that made it has ended. */
  get snapshotReceived(): boolean {
    if (this.#phase === 'checking') return false;
    if (this.#phase !== 'snapshot') return true;
    const total = this.#feed?.snapshotTotal ?? null;
    return total === null ? this.#link?.markSeen === true : this.#begun.spool.end >= total;
  }

  // ---- the story -----------------------------------------------------------------------------------------

  /** Looks at both sides and changes nothing. Returns all findings; a refusal, or a side out of reach, fails the pair. */
  async check(): Promise<readonly CheckResult[]> {
    try {
      await this.#openSessions();
      const { source, target } = this.#sessions;
      this.#through = this.#left !== null && (await isThrough(this.#left, this.pair, this.#sessions));
      if (this.#through) {
        const detail = 'this pair was promoted before: what may be left on its servers is put away';
        this.#emit({ event: 'check', pair: this.pair.name, name: 'resume', status: 'ok', detail });
        return [];
      }
      const result = await preflight(source, target, this.#options, this.#left?.feed ?? null);
      for (const check of result.checks) this.#emit({ event: 'check', pair: this.pair.name, ...check });
      this.#facts = assertPreflight(this.pair, result);
      return result.checks;
    } catch (error) {
      this.#fail(toCutoverError(error));
      return [];
    }
  }

  /** Both at once, and both to the end: what is open is closed when the pair fails. */
  async #openSessions(): Promise<void> {
    const limits = { connectTimeoutMs: CONNECT_TIMEOUT_MS, replyTimeoutMs: this.#silence.replyMs };
    const openSource = async (): Promise<void> => {
      this.#source ??= await ServerSession.open(this.pair.source, 'source', limits);
    };
    const openTarget = async (): Promise<void> => {
      this.#target ??= await ServerSession.open(this.pair.target, 'target', limits);
    };
    for (const opened of await Promise.allSettled([openSource(), openTarget()])) {
      if (opened.status === 'rejected') throw opened.reason;
    }
  }

  /**
   * Takes hold of the target and begins to follow the source; returns when that is under way, or the pair failed.
   * @param tuned true: the operator agrees to all settings of the source that check() has proposed
   */
  async start(folder: RunFolder, tuned = false): Promise<void> {
    try {
      this.#folder = folder;
      this.#tuning = new SourceTuning(this.#context, this.#left?.tuned ?? []);
      this.#agreesToTune = tuned;
      this.#startedAt = performance.now();
      if (this.#through && this.#left !== null) await this.#finishThrough(this.#left);
      else {
        await pairHook(this.#checked, 'start', this.#abort.signal)?.();
        await this.#begin();
      }
    } catch (error) {
      this.#fail(toCutoverError(error));
      await this.#ending;
    }
  }

  async #begin(): Promise<void> {
    const { source, facts, runDir } = this.#checked;
    const state = () => this.#state;
    const watch = new SourceWatch(source);
    this.#parts = {
      spool: new Spool({
        dir: path.join(runDir, 'spool', safeFileName(this.pair.name)),
        memoryBytes: this.#options.spoolMemoryBytes,
        limitBytes: this.#options.spoolLimitBytes,
      }),
      watch,
      copies: new CopyGuard(source, watch, state),
      sampler: new Sampler(watch, state, {
        sampled: (inSync) => this.#sampled(inSync),
        silent: () => this.#moveTo('catching-up', 'a server does not answer'),
        failed: (error) => {
          if (!this.#abort.signal.aborted) this.#fail(error);
        },
      }),
    };
    const left = this.#left;
    if (left !== null) this.#note(`the run had come to: ${left.phase ?? 'nothing yet'}`);
    if (facts.feed === 'attach') await this.#beginAttached(left);
    else await this.#beginWritten(left, null);
  }

  // ---- feed attach ---------------------------------------------------------------------------------------

  async #beginAttached(left: Leftovers | null): Promise<void> {
    this.#assertCountable(this.#options.throttle);
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
    if (kept !== null && has !== null && !reaches(kept, this.#begun.spool, has.from)) {
      this.#begun.spool.close();
      kept = null;
    }
    try {
      // each turn of the disk would delay the copy: the line that must be there first brings this one to it
      await this.#journal('feed', 'attach', 'buffered');
      await this.#attach(left, has, kept);
    } catch (error) {
      const cause = toCutoverError(error);
      const fallBack = this.#options.feed === 'auto' && left === null && !this.#abort.signal.aborted;
      if (!fallBack || !isNoWayToAttach(cause)) throw cause;
      await this.#fallBackToWrite(cause);
      return;
    }
    await this.#follow(has === null || kept !== null ? null : has.from.offset);
  }

  async #judgeAttached(left: Leftovers): Promise<AttachedResume> {
    const { source, target } = this.#checked;
    const state = await replicationState(target);
    const keys = keysOf(await target.info('keyspace'));
    const found = judgeAttached(left, await replicationState(source), state, keys, await changeMark(target));
    const stranger = state.role === 'replica' && !isSameAddress(state.master, left.attachedAt);
    if (found.kind === 'copy' && stranger) throw takenBySomebodyElse(target.where, state.master);
    return found;
  }

  async #attach(
    left: Leftovers | null,
    has: (AttachedResume & { kind: 'go-on' }) | null,
    kept: CompleteCopy | null,
  ): Promise<void> {
    const pair = this.#checked;
    const nudge = new Nudge(pair.source, () => this.#state);
    this.#attached = await attach({
      ...pair,
      spool: this.#begun.spool,
      listener: this.#listener({
        // as our replica it is emptied by the copy itself
        prepareTarget: async () => null,
        nudge: () => nudge.send(),
      }),
      signal: this.#abort.signal,
      former: left?.attached ?? [],
      has,
      kept,
      valve: this.#valve,
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
    this.#begun.spool.reset();
    await this.#beginWritten(null, null);
  }

  // ---- feed write ----------------------------------------------------------------------------------------

  /** @param handover where an attached target was made a master; null: the feed was write from the beginning */
  async #beginWritten(left: Leftovers | null, handover: StopPlace | null): Promise<void> {
    const { facts, runId } = this.#checked;
    await this.#journal('feed', handover === null ? 'write' : 'attach');
    if (left !== null) await this.#takeUp(left);
    const written = await this.#takeHold(left?.targetFence ?? null);
    if (this.#options.allowNonempty) await written.listWrittenKeys();
    const { hold, door } = written;
    const checkpoint =
      left === null
        ? null
        : ((await door.checkpointOf(runId)) ?? (handover === null ? null : checkpointAt(handover, runId)));
    if (handover !== null && checkpoint !== null) await door.writeCheckpoint(checkpoint);
    if (left === null && keepsWrittenWayBack(this.#options, facts))
      await primeBacklog(hold.session, hold.endpoint);
    this.#into = new FeedSwitch(this.#write(await this.#beginning(left, checkpoint)));
    await this.#follow(checkpoint?.offset ?? null);
  }

  /** @param checkpoint what the target has already; null: a copy is due */
  async #beginning(left: Leftovers | null, checkpoint: Checkpoint | null): Promise<Beginning> {
    // a copy must not wipe what applications write
    const kept = await this.#takeUpKeptCopy(checkpoint === null && !this.#open ? left : null);
    if (kept !== null) return { kind: 'kept', copy: kept };
    return checkpoint === null ? { kind: 'copy' } : { kind: 'checkpoint', checkpoint };
  }

  /** @param formerFence what an earlier process may have left on the target; null: none */
  async #takeHold(formerFence: unknown): Promise<WriteSide> {
    const written = await WriteSide.take({
      ...this.#checked,
      left: this.#left,
      formerFence,
      open: this.#open,
      silence: this.#silence,
      valve: this.#valve,
      assertGoingOn: () => {
        if (isOver(this.#phase)) throw notNow('go on', this.#phase);
      },
      onLost: (error) => this.#fail(error),
    });
    // from here on whoever ends the pair gives the target back
    this.#written = written;
    await written.watchForeignWrites();
    return written;
  }

  #write(begin: Beginning): WriteFeed {
    const written = this.#writing;
    const prepareTarget = () => written.prepareForCopy(this.#begun.copies.begun > 1 || this.#left !== null);
    return written.begin(begin, this.#begun.spool, this.#listener({ prepareTarget }), this.#abort.signal);
  }

  /** Keys of the run that a resumed pair found on the target, at least: others may lie beside them, and our own two. */
  get #leftOnTarget(): number {
    const keys = keysOf(this.#checked.facts.target);
    if (this.#options.allowNonempty) return Math.min(1, keys);
    return Math.max(0, this.#attached === null ? keys - 2 : keys);
  }

  /** Becomes a replica of the source. @param resumedAt the offset that the target has already; null: none */
  async #follow(resumedAt: number | null): Promise<void> {
    const { facts } = this.#checked;
    const { into } = this.#running;
    const agreed = facts.proposals.filter(
      ({ tuning }) => this.#agreesToTune || this.#options.tuneSource.includes(tuning),
    );
    if (!isOver(this.#phase)) await this.#tuning?.set(agreed, resumedAt === null);
    // it can be stopped, or fail, meanwhile
    if (isOver(this.#phase)) return;
    this.#link = new SourceLink(
      {
        endpoint: this.pair.source,
        names: this.#options.commandNames,
        announceVersion: announcedTo(facts.source),
        plainSnapshot: facts.source.family === 'redis' && facts.source.atLeast(8, 6),
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        silenceMs: this.#silence.sourceMs,
      },
      into,
    );
    // a copy that an earlier process began is emptied away
    if (this.#left !== null) this.#begun.watch.copied(this.#leftOnTarget);
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
    const kept = await takeUpKeptCopy(this.#begun.spool, left?.kept ?? null, note, signal);
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
    this.#assertNotPaused('enable writes');
    if (this.#cutover !== null) throw notNow('enable writes', 'cutting over');
    const attached = this.#attached;
    await this.#asCutover((signal) =>
      attached === null ? this.#openGates(signal) : this.#handOver(attached, signal),
    );
    this.#moveTo('writable');
  }

  async #openGates(signal: AbortSignal): Promise<void> {
    const written = this.#writing;
    const { hold, foreign, expiry } = written;
    await foreign?.assertNone();
    await this.#connectReverse(null);
    await written.withExpiryTimes(signal, async () => {
      await expiry.open(written.feed);
      await foreign?.assertNone();
      if (this.#reverse !== null) await written.writeOpenedMark();
      this.#notes.push(...(await hold.openGates()));
    });
  }

  /** The target is no replica any more behind it: it is written to. */
  async #handOver(attached: Attachment, calledOff: AbortSignal): Promise<void> {
    const { hold, feed } = attached;
    const { into } = this.#running;
    await handOver({
      ...this.#checked,
      attached,
      calledOff,
      writeFrom: async (place, own) => {
        this.#open = true;
        const written = await this.#takeHold(null);
        const checkpoint = checkpointAt(place, this.#checked.runId);
        await written.door.writeCheckpoint(checkpoint);
        await this.#connectReverse(own);
        into.feed = this.#write({ kind: 'spool', checkpoint, position: feed.positionOf(place.offset) });
      },
      stopWriting: async () => {
        this.#open = false;
        await this.#written?.hold.release();
        this.#written = null;
      },
    });
    feed.close();
    this.#attached = null;
    await hold.release(feed.replid);
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
    this.#assertNotPaused('promote');
    if (this.#cutover !== null) throw notNow('promote a second time', this.#phase);
    if (!this.#state.bothConnected) throw notNow('promote', 'not connected to both servers');
    await this.#asCutover((signal) =>
      this.#attached === null ? this.#cutOverWritten(signal) : this.#swapRoles(this.#attached, signal),
    );
    await this.#letGo('promoted');
    this.#ports.phaseChanged(this.#phase);
  }

  /** Runs a cutover or a rollback so that it can be called off. */
  async #asCutover(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const calledOff = new AbortController();
    // applications wait: what is left is brought over as fast as the target takes it
    this.#valve.openWide(true);
    const done = work(calledOff.signal);
    this.#cutover = { done, calledOff };
    try {
      await giveWay.duringCutover(done);
    } finally {
      this.#cutover = null;
      this.#valve.openWide(false);
    }
  }

  async #cutOverWritten(signal: AbortSignal): Promise<void> {
    const written = this.#writing;
    const { hold, foreign, expiry, feed } = written;
    const wasWritable = this.#phase === 'writable';
    if (!wasWritable) await foreign?.assertNone();
    if (!wasWritable) await this.#connectReverse(null);
    const reverse = this.#reverse;
    const fence = this.#sourceFence ?? (await this.#kit.prepareSourceFence(reverse?.user ?? null));
    const openTarget = async () => {
      await this.#kit.warmUp(feed, fence);
      signal.throwIfAborted();
      return cutOver({
        ...this.#kit.basics(signal, fence),
        gates: hold,
        feed,
        expiry: wasWritable ? null : expiry,
        tailCheck: async () => (wasWritable ? '' : this.#kit.compareTail(feed.tail())),
        foreignWrites: wasWritable || foreign === null ? null : () => foreign.assertNone(),
        mark: wasWritable || reverse === null ? null : () => written.writeOpenedMark(),
      });
    };
    const result = await (wasWritable ? openTarget() : written.withExpiryTimes(signal, openTarget));
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
      this.#notes.push(`no way back was kept: ${whyNoWrittenWayBack(this.#options, fence)}`);
    }
    if (fence !== null) this.#promotedNotes = fenceLeftNotes(fence, addressOf(this.pair.source));
    this.#moveTo('promoted');
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
        const offset = former?.endOffset ?? -1;
        feed.takeForOurs(replid, offset);
        await hold.followAgain({ replid, of: feed.replid, offset });
      },
      tailCheck: () => this.#kit.compareTail(feed.tail()),
      journalSwap: (swap) => this.#journal('swap', swap),
    });
    this.#writeOutageMs = result.writeOutageMs;
    this.#moveTo('writable');
    const notFollowing = noFollowing ?? result.notFollowing;
    if (notFollowing === null) {
      const wayBack = new NativeWayBack(this.#sides);
      const { lossless, note } = await watchFollowing(wayBack, this.#checked, fullCopies);
      if (lossless) this.#wayBack = wayBack;
      this.#promotedNotes = [note];
    } else {
      this.#notes.push(`no way back was kept: ${notFollowing}`);
      if (fence !== null) this.#notes.push(...fenceLeftNotes(fence, addressOf(this.pair.source)));
      if (noFollowing === null && this.#options.reverse) this.#needsCopy = notFollowing;
    }
    this.#moveTo('promoted');
    await this.#journal('swap', null);
  }

  // ---- behind the cutover --------------------------------------------------------------------------------

  /** Follows the target before it is opened. Where that cannot be done there is no way back, and it is said. */
  async #connectReverse(from: { replid: string; offset: number } | null): Promise<void> {
    const { facts } = this.#checked;
    if (!keepsWrittenWayBack(this.#options, facts) || this.#reverse !== null) return;
    try {
      this.#reverse = await ReverseLink.connect({
        ...this.#checked,
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
      this.#promotedNotes = [];
      this.#moveTo('rolled-back');
    });
    this.#announcements.announce(this.#checked, 'rollback');
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
    await this.#stop(reason);
    await this.#announcements.settled();
  }

  async #stop(reason: string): Promise<void> {
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
    if (this.#valve.paused) this.#notes.push('it was paused: resume begins without a pause');
    this.#moveTo('stopped', reason);
    await this.#letGo('stopped');
  }

  /** Ends the pair for a reason that lies outside of it. */
  abandon(error: CutoverError): void {
    this.#fail(error);
  }

  // ---- p and t: how fast the target is fed ---------------------------------------------------------------

  /** True while nothing goes to the target: see pause(). */
  get paused(): boolean {
    return this.#valve.paused;
  }

  /**
   * **p**: nothing new goes to the target until it is undone. The source is read all the same: what it sends waits in the
   * spool. Not kept over a restart. What is so already stays so.
   * @throws PreflightError `not-now` in a cutover, and where the pair is over
   */
  async pause(on: boolean): Promise<void> {
    const what = on ? 'pause' : 'go on';
    if (isOver(this.#phase)) throw notNow(what, this.#phase);
    if (on && this.#cutover !== null) throw notNow(what, 'cutting over');
    if (on === this.#valve.paused) return;
    this.#valve.pause(on);
    this.#note(
      on
        ? 'paused by the operator: nothing goes to the target, what the source sends waits in the spool'
        : 'the operator lets it go on',
    );
  }

  /**
   * **t**: no more than that goes to the target in a second, until it is changed. A cutover drains without a limit.
   * @throws PreflightError `not-now` where the pair is over, `throttle-keys` where keys cannot be counted
   */
  async throttle(limits: Throttle): Promise<void> {
    if (isOver(this.#phase)) throw notNow('throttle', this.#phase);
    this.#assertCountable(limits);
    this.#valve.throttle(limits);
    this.#note(isThrottled(limits) ? `throttled to ${throttleText(limits)}` : 'the limits are lifted');
  }

  /** As pause() and throttle() had it in a process that has died: without a word. */
  takeValve(paused: boolean, limits: Throttle): void {
    this.#valve.pause(paused);
    this.#valve.throttle(limits);
  }

  #assertNotPaused(what: string): void {
    if (!this.#valve.paused) return;
    throw new PreflightError(`cannot ${what} while the pair is paused by the operator`, {
      code: 'not-now',
      hint: 'let it go on first: the key p, or redis-cutover pause RUN_DIR --off',
      exitCode: EXIT.attention,
    });
  }

  /** An attached target takes bytes as they come: which of them are keys it knows itself. */
  #assertCountable({ keysPerSecond }: Throttle): void {
    const attached = this.#attached !== null || (this.#written === null && this.#facts?.feed === 'attach');
    if (keysPerSecond === null || !attached) return;
    throw new PreflightError('keys cannot be counted with feed attach: the target loads by itself', {
      code: 'throttle-keys',
      hint: 'limit bytes instead: --mb N, or --throttle-mb N at the start',
    });
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
    return pairSnapshot({
      pair: this.pair,
      phase: this.#phase,
      feedKind: this.#attached === null && this.#written !== null ? 'write' : (this.#facts?.feed ?? null),
      reason: this.#reason,
      valve: this.#valve,
      wayBack: this.#phase === 'promoted' ? (this.#wayBack?.description ?? null) : null,
      keysTotal: this.#facts?.keysTotal ?? null,
      feed: this.#feed,
      sampler: this.#parts?.sampler ?? null,
      sourceOffset: this.#parts?.watch.offset ?? 0,
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
      // last: there are commands to type among them
      notes: [...this.#lost, ...this.#notes, ...this.#promotedNotes],
    };
  }

  // ---- how it is kept going ------------------------------------------------------------------------------

  #listener<Own extends Pick<FeedListener, 'prepareTarget'>>(own: Own): FeedListener & Own {
    return {
      ...own,
      copyBegins: async (position) => {
        const { copies, sampler } = this.#begun;
        await copies.begins(position);
        // the source was asked meanwhile
        copies.assertAllowed();
        sampler.reset();
        if (this.#phase !== 'snapshot') this.#moveTo('snapshot', 'a new full copy is taken');
      },
      snapshotLoaded: (lost) => {
        this.#lost = lost;
        for (const message of lost) this.#note(message);
        this.#begun.watch.copied(this.#feed?.keys ?? 0);
        if (this.#phase === 'snapshot') this.#moveTo('catching-up');
        this.#begun.sampler.loaded();
        void this.#sampleSoon();
      },
      waiting: (reason) => {
        this.#reason = reason;
        // a target that changes its role breaks off
        if (reason !== null && this.#cutover === null) this.#voice.waiting(reason);
      },
      note: (message) => this.#note(message),
      keepCopy: this.#options.keepSnapshot
        ? (copy) => this.#journal('kept-copy', copy === null ? null : keptCopyToJournal(copy))
        : null,
      divergence: (sample) => this.#voice.diverged(sample, this.#feed?.divergences ?? 0),
      failed: (error) => this.#fail(error),
      redial: () => this.#link?.redial(),
      acknowledge: () => this.#link?.acknowledge(),
    };
  }

  /** Begins what is done again and again: samples, progress, a look at the target. */
  #watch(): void {
    const every = (ms: number, work: () => void): NodeJS.Timeout => {
      const timer = setInterval(work, ms);
      this.#timers.push(timer);
      return timer;
    };
    const { sampler, spool } = this.#begun;
    this.#sampling = every(SAMPLE_INTERVAL_MS, () => {
      this.#written?.tickExpiry();
      void sampler.sample();
    });
    every(500, () => sampler.measure());
    const alarm = new SpoolAlarm(spool, {
      limitBytes: this.#options.spoolLimitBytes,
      dir: this.#checkedFolder.dir,
      note: (message) => this.#note(message),
      held: () => this.#valve.paused || isThrottled(this.#valve.limits),
    });
    every(1000, () => {
      this.#feed?.tick(Date.now());
      this.#saveSpool();
      void alarm.look();
      if (this.snapshotReceived) void this.#tuning?.copyMade();
      this.#lookForForeignWrites();
      this.#emit({ event: 'progress', ...this.snapshot() });
    });
    every(LOST_TARGET_MS, () => void this.#lookForTarget());
  }

  /** Only until the target is opened, and not in a cutover, which looks for itself. */
  #lookForForeignWrites(): void {
    const filling = ['snapshot', 'catching-up', 'in-sync'].includes(this.#phase) && this.#cutover === null;
    if (filling) this.#written?.lookForForeignWrites();
  }

  #saveSpool(): void {
    try {
      this.#parts?.spool.save();
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

  /** Behind a copy what the source sent meanwhile is a matter of milliseconds: the first sample that counts is not waited for. */
  async #sampleSoon(): Promise<void> {
    const { sampler } = this.#begun;
    for (let i = 0; i < EARLY_SAMPLES && this.#phase === 'catching-up'; i++) {
      // those that follow come at their distance from it
      this.#sampling?.refresh();
      this.#written?.tickExpiry();
      await sampler.sample();
      if (sampler.inRow) return;
      await delay(EARLY_SAMPLE_MS);
    }
  }

  /** Moves between catching-up and in-sync. */
  #sampled(inSync: boolean): void {
    if (this.#phase === 'catching-up' && inSync) {
      if (this.#written?.expiry.ready === false) return;
      this.#begun.copies.inSync();
      this.#emit({ event: 'progress', ...this.snapshot() });
      this.#moveTo('in-sync');
      this.#announcements.announce(this.#checked, 'in-sync');
      if (this.#open)
        this.#moveTo('writable', 'the applications write to the target since before the resume');
    } else if (this.#phase === 'in-sync' && !inSync && this.#cutover === null) {
      this.#moveTo('catching-up', this.#state.bothConnected ? 'the lag grew' : 'a connection was lost');
    }
  }

  #fail(error: CutoverError): void {
    if (isOver(this.#phase)) return;
    this.#error = error;
    this.#voice.failed(error);
    this.#moveTo('failed', error.message);
    if (this.#folder !== null && this.#facts !== null) this.#announcements.announce(this.#checked, 'failure');
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
    if (how === 'stopped') await this.#written?.leaveExpiryTimes();
    const attached = how === 'stopped' && this.#state.bothConnected ? this.#attached : null;
    const place = attached === null ? null : await stopInZero(attached);
    this.#abort.abort();
    await this.#following;
    this.#feed?.close();
    try {
      if (this.#wayBack === null) await this.#reverse?.close();
      if (how === 'promoted') {
        // without its checkpoint the target is only known by what the journal says
        await this.#journal('phase', this.#phase);
        await this.#written?.removeOwnKeys();
      } else this.#written?.closeKeys();
      // our user goes on following the target on a way back of ours
      if (this.#wayBack === null || this.#wayBack.outlivesUs) await this.#giveTargetBack(place);
    } catch (error) {
      this.#notGivenBack(toCutoverError(error));
    }
    try {
      await this.#tuning?.end();
    } catch {
      // the summary says what it is, and what to type
      this.#leftBehind = true;
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
    this.#settled = true;
    this.#ports.phaseChanged(this.#phase);
  }

  /** What is kept of a copy stays only where resume can go on with it. */
  async #closeSpool(how: 'promoted' | 'stopped' | 'failed'): Promise<void> {
    const spool = this.#parts?.spool;
    if (spool === undefined) return;
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
  async #giveTargetBack(place: StopPlace | null = null): Promise<void> {
    await this.#attached?.hold.release(this.#attached.feed.replid, place);
    this.#notes.push(...((await this.#written?.release()) ?? []));
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

  /** True where something of ours may still be on a server. */
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
    // an attached target takes the snapshot in by itself: we hand it on, and cost little
    giveWay.copying(this, to === 'snapshot' && this.#written !== null);
    if (to !== 'snapshot' || reason === undefined) this.#reason = reason ?? null;
    this.#voice.moved(from, to, reason);
    void this.#folder?.append({ kind: 'phase', pair: this.pair.name, data: to }).catch(() => undefined);
    this.#ports.phaseChanged(to);
  }

  #note(message: string): void {
    this.#voice.note(message);
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

  get #sides(): Sides {
    const { source, target, facts } = this.#checked;
    return {
      pair: this.pair,
      source: { session: source, info: facts.source },
      target: { session: target, info: facts.target },
    };
  }

  get #state(): PairState {
    const linked = this.#link?.connected === true;
    return {
      phase: this.#phase,
      inCutover: this.#cutover !== null,
      open: this.#open,
      into: this.#into,
      linked,
      bothConnected: linked && this.#feed?.connected === true,
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
      journal: (kind, data, durability) => this.#journal(kind, data, durability),
    };
  }

  get #checked(): CheckedPair {
    if (this.#facts === null) throw new InvariantError('the pair was not checked');
    return { ...this.#context, facts: this.#facts };
  }

  get #kit(): CutoverKit {
    return new CutoverKit(this.#checked);
  }

  get #checkedFolder(): RunFolder {
    if (this.#folder === null) throw new InvariantError('the pair has no run folder');
    return this.#folder;
  }

  get #begun(): Parts {
    if (this.#parts === null) throw new InvariantError('the pair was not begun');
    return this.#parts;
  }

  get #writing(): WriteSide {
    if (this.#written === null) throw new InvariantError('the target is not written to');
    return this.#written;
  }

  get #running(): { into: FeedSwitch } {
    if (this.#into === null) throw new InvariantError('the pair was not started');
    return { into: this.#into };
  }

  #journal(kind: string, data: unknown = null, durability: Durability = 'durable'): Promise<void> {
    return this.#checkedFolder.append({ kind, pair: this.pair.name, data }, durability);
  }
}

/** The version that a server must be told of to send what we can read; null: none (protocol.md 1.7). */
function announcedTo(info: ServerInfo): string | null {
  return info.family === 'valkey' && info.atLeast(8, 0) ? NEWEST_VALKEY : null;
}

function checkpointAt({ replid, offset, db }: StopPlace, run: string): Checkpoint {
  return { replid, offset, db, run, phase: 'stream' };
}

function calledOff(reason: string): TargetError {
  return new TargetError(`the cutover was called off: ${reason}`, {
    code: 'cutover-called-off',
    hint: 'nothing is to be done: it was undone',
    recovery: 'none',
  });
}
