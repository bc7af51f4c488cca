/**
 * One pair, told top-down. check() looks and touches nothing. start() takes hold of the target, becomes a replica of
 * the source and keeps the target in step: snapshot → catching-up → in-sync. Then the operator's words:
 * enableWrites() and promote(), or stop() at any time, which leaves the source as it was.
 *
 * Next to read: write-feed.ts (how bytes reach the target), cutover.ts (the last steps), target-hold.ts (what is
 * changed on the target for the run, and how it is given back).
 */
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { ServerSession } from '../client/session.ts';
import { addressOf, type PairSpec } from '../core/endpoint.ts';
import {
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
import { printable } from '../core/text.ts';
import { SourceLink } from '../source/link.ts';
import { offsetsCanBeTrusted } from '../source/trust.ts';
import { Spool } from '../spool/spool.ts';
import { CHECKPOINT_KEY, type Checkpoint } from '../target/write/checkpoint.ts';
import { dropRunUser, Fence } from '../target/write/fence.ts';
import { LEASE_KEY } from '../target/write/lease.ts';
import { clientsOn } from './clients.ts';
import { cutOver, sourceOffset } from './cutover.ts';
import type { Leftovers } from './leftovers.ts';
import { assertPreflight, type PairFacts, preflight } from './preflight.ts';
import { RateMeter } from './rate-meter.ts';
import type { RunFolder } from './run-folder.ts';
import { SAMPLE_INTERVAL_MS, SyncGauge } from './sync-gauge.ts';
import { TargetDoor } from './target-door.ts';
import { TargetHold } from './target-hold.ts';
import { type DivergenceSample, WriteFeed } from './write-feed.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const SOURCE_SILENCE_MS = 60_000;
const SAME_NOTE_MS = 30_000;
/** So many full copies in one run without ever being in sync: something throws the link off again and again. */
const MOST_COPIES = 5;
/** The newest Valkey whose RDB the reader knows (protocol.md 1.7): decides what a 9.1 sends. */
const NEWEST_VALKEY = '9.1.0';

export interface MigrationPorts {
  readonly emit: (event: MigrationEvent) => void;
  /** Called after each change of phase. */
  readonly phaseChanged: (phase: Phase) => void;
}

export class Migration {
  readonly pair: PairSpec;
  readonly #options: RunOptions;
  readonly #ports: MigrationPorts;
  readonly #left: Leftovers | null;
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
  #hold: TargetHold | null = null;
  #door: TargetDoor | null = null;
  #feed: WriteFeed | null = null;
  #link: SourceLink | null = null;
  #spool: Spool | null = null;
  #following: Promise<void> = Promise.resolve();
  #timers: NodeJS.Timeout[] = [];
  #sourceOffset = 0;
  #copies = 0;
  /** True where a resumed pair was left with applications writing to its target. */
  #open = false;
  /** The source's fence, where a resumed pair was left with it. */
  #sourceFence: Fence | null = null;
  #copiesInARow = 0;
  #startedAt = performance.now();
  #endedAt: number | null = null;
  #writeOutageMs: number | null = null;
  /** The cutover that is under way, and how to call it off. */
  #cutover: { readonly done: Promise<void>; readonly calledOff: AbortController } | null = null;
  #ending: Promise<void> | null = null;
  #lastWaiting: { readonly reason: string; readonly atMs: number } | null = null;
  readonly #notes: string[] = [];

  /** @param left what an earlier process of this run has left; null: the pair is new */
  constructor(pair: PairSpec, options: RunOptions, ports: MigrationPorts, left: Leftovers | null) {
    this.pair = pair;
    this.#options = options;
    this.#ports = ports;
    this.#left = left;
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
      const connectTimeoutMs = CONNECT_TIMEOUT_MS;
      this.#source ??= await ServerSession.open(this.pair.source, 'source', { connectTimeoutMs });
      this.#target ??= await ServerSession.open(this.pair.target, 'target', { connectTimeoutMs });
      if (this.#left?.phase === 'promoted') {
        const detail = 'this pair was promoted before: what may be left on its target is put away';
        this.#emit({ event: 'check', pair: this.pair.name, name: 'resume', status: 'ok', detail });
        return [];
      }
      const result = await preflight(this.#source, this.#target, this.#options);
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
      if (this.#left?.phase === 'promoted') await this.#finishPromoted(this.#left);
      else await this.#begin(folder);
    } catch (error) {
      this.#fail(toCutoverError(error));
      await this.#ending;
    }
  }

  async #begin(folder: RunFolder): Promise<void> {
    const { source, target, facts } = this.#checked;
    const left = this.#left;
    if (left !== null) await this.#takeUp(left, source);
    this.#hold = await TargetHold.take({
      pair: this.pair,
      facts,
      folder,
      source,
      target,
      formerFence: left?.targetFence ?? null,
      open: this.#open,
      onLost: (error) => this.#fail(error),
      note: (message) => this.#note(message),
    });
    if (this.#hold.noFenceReason !== null) {
      this.#note(`others can write to the target while it is filled: ${this.#hold.noFenceReason}`);
    }
    this.#door = new TargetDoor(this.#hold, folder.run.runId);
    this.#spool = new Spool({
      dir: path.join(folder.dir, 'spool', safeFileName(this.pair.name)),
      memoryBytes: this.#options.spoolMemoryBytes,
      limitBytes: this.#options.spoolLimitBytes,
    });
    const resumeFrom = left === null ? null : await this.#door.checkpointOf(folder.run.runId);
    this.#feed = this.#makeFeed(this.#spool, this.#door, facts, folder.run.runId, resumeFrom);
    this.#link = new SourceLink(
      {
        endpoint: this.pair.source,
        names: this.#options.commandNames,
        announceVersion:
          facts.source.family === 'valkey' && facts.source.atLeast(8, 0) ? NEWEST_VALKEY : null,
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        silenceMs: SOURCE_SILENCE_MS,
      },
      this.#feed,
    );
    if (resumeFrom === null) this.#moveTo('snapshot');
    else this.#moveTo('catching-up', `resumed at offset ${resumeFrom.offset}: the snapshot is on the target`);
    this.#following = this.#link
      .run(this.#abort.signal)
      .catch((error: unknown) => this.#fail(toCutoverError(error)));
    this.#watch();
  }

  /** Says in what state an earlier process has left the pair, and undoes a cutover that it was in the middle of. */
  async #takeUp(left: Leftovers, source: ServerSession): Promise<void> {
    this.#note(`the run had come to: ${left.phase ?? 'nothing yet'}`);
    // anything left is ours: a copy that is not complete is emptied away
    this.#copies = 1;
    this.#open = left.cutOver || left.phase === 'writable';
    if (left.sourceFence === null) return;
    const fence = Fence.fromJournal(source, left.sourceFence);
    if (left.cutOver) {
      this.#note(
        'the run had ended between opening the target and promoting it: the source stays fenced, promote goes on',
      );
      this.#sourceFence = fence;
      return;
    }
    this.#notes.push(...(await fence.lift()));
    await this.#checkedFolder.append(
      { kind: 'source-fence-lifted', pair: this.pair.name, data: null },
      'durable',
    );
    this.#note('the run had ended in the middle of a cutover: the source takes writes again');
  }

  /** The pair was through: only what a crash may have left on the target is put away. */
  async #finishPromoted(left: Leftovers): Promise<void> {
    const target = this.#target;
    if (target === null) throw new InvariantError('the pair was not checked');
    if (left.targetFence !== null)
      this.#notes.push(...(await Fence.fromJournal(target, left.targetFence).lift()));
    await target.call('DEL', CHECKPOINT_KEY, LEASE_KEY);
    if (left.runUser) await dropRunUser(target, this.#checkedFolder.run.runId);
    this.#moveTo('promoted', 'it was promoted before');
    await this.#letGo('promoted');
  }

  /** **e**: applications may write to the target from now on. */
  async enableWrites(): Promise<void> {
    if (this.#phase !== 'in-sync') throw notNow('enable writes', this.#phase);
    const notes = await this.#running.hold.openGates();
    this.#notes.push(...notes);
    this.#moveTo('writable');
  }

  /**
   * **m**: fences the source, drains, makes the target writable where it is not yet, and lets go of both. If it
   * cannot be done in time everything is undone and the pair goes on.
   */
  async promote(): Promise<void> {
    if (this.#phase !== 'in-sync' && this.#phase !== 'writable') throw notNow('promote', this.#phase);
    if (this.#cutover !== null) throw notNow('promote a second time', this.#phase);
    if (!this.#bothConnected) throw notNow('promote', 'not connected to both servers');
    const calledOff = new AbortController();
    const done = this.#cutOver(calledOff.signal);
    this.#cutover = { done, calledOff };
    try {
      await done;
    } finally {
      this.#cutover = null;
    }
    await this.#letGo('promoted');
  }

  async #cutOver(signal: AbortSignal): Promise<void> {
    const { hold, feed, folder, source, facts } = this.#running;
    const wasWritable = this.#phase === 'writable';
    const fence =
      this.#sourceFence ??
      (this.#options.sourceFence
        ? await Fence.prepare(source, facts.source, { side: 'source', exceptUser: null })
        : null);
    signal.throwIfAborted();
    if (fence === null || fence.kind === 'none') {
      this.#note(
        `writes on the source are not stopped (${fence?.reason ?? '--no-source-fence'}): the last ones can be lost`,
      );
    }
    const result = await cutOver({
      pair: this.pair.name,
      source,
      sourceFence: fence,
      hold,
      feed,
      timeoutMs: this.#options.cutoverTimeoutMs,
      signal,
      emit: this.#ports.emit,
      journal: (kind) =>
        folder.append({ kind, pair: this.pair.name, data: fence?.toJournal() ?? null }, 'durable'),
    });
    this.#writeOutageMs = wasWritable ? 0 : result.writeOutageMs;
    this.#notes.push(...result.notes);
    if (!wasWritable) this.#moveTo('writable');
    this.#moveTo('promoted');
    if (fence !== null) this.#notes.push(...fenceLeftNotes(fence, addressOf(this.pair.source)));
  }

  /** Undoes a cutover that is under way and waits until that is done; one that is through stays. */
  async #callOffCutover(reason: CutoverError): Promise<void> {
    this.#cutover?.calledOff.abort(reason);
    await this.#cutover?.done.catch(() => undefined);
  }

  /**
   * **q**, Ctrl-C, or the end of a rehearsal: the source stays as it was; the target is given back. A cutover that is
   * under way is undone first.
   */
  async stop(reason: string): Promise<void> {
    await this.#callOffCutover(calledOff(reason));
    if (isOver(this.#phase)) {
      await this.#ending;
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
    return clientsOn(this.#checked.source);
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
    return Object.freeze({
      pair: this.pair.name,
      source: addressOf(this.pair.source),
      target: addressOf(this.pair.target),
      phase: this.#phase,
      reason: this.#reason,
      snapshotBytes: bytes,
      snapshotTotal: total,
      keys: feed?.keys ?? 0,
      keysTotal: this.#facts?.keysTotal ?? null,
      bytesPerSecond: loading ? rate : 0,
      etaSeconds:
        loading && total !== null && rate > 0 && bytes > total / 100 ? (total - bytes) / rate : null,
      appliedOffset: applied,
      sourceOffset: this.#sourceOffset,
      lagBytes: loading ? 0 : Math.max(0, this.#sourceOffset - applied),
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
      notes: this.#notes,
    };
  }

  // ---- how it is kept going ------------------------------------------------------------------------------

  #makeFeed(
    spool: Spool,
    door: TargetDoor,
    facts: PairFacts,
    run: string,
    resumeFrom: Checkpoint | null,
  ): WriteFeed {
    return new WriteFeed(
      spool,
      door,
      {
        run,
        capabilities: facts.capabilities,
        relativeTtls: !facts.source.atLeast(7, 0),
        forwardPublish: this.#options.forwardPublish,
        partialResync: offsetsCanBeTrusted(facts.source.commandLevel),
        resumeFrom,
      },
      {
        copyBegins: () => this.#copyBegins(),
        prepareTarget: () => this.#prepareTarget(),
        snapshotLoaded: () => {
          if (this.#phase === 'snapshot') this.#moveTo('catching-up');
          void this.#sample();
        },
        waiting: (reason) => {
          this.#reason = reason;
          if (reason !== null) this.#noteWaiting(reason);
        },
        note: (message) => this.#note(message),
        divergence: (sample) => this.#diverged(sample),
        failed: (error) => this.#fail(error),
        redial: () => this.#link?.redial(),
        acknowledge: () => this.#link?.acknowledge(),
      },
      this.#abort.signal,
    );
  }

  /** Before each full copy. Throws where one must not be taken. */
  #copyBegins(): void {
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
    this.#copies++;
    this.#copiesInARow++;
    if (this.#copiesInARow > MOST_COPIES) {
      throw new SourceError(
        `the source has asked for ${this.#copiesInARow} full copies without the pair getting in sync`,
        {
          code: 'resync-loop',
          hint: 'on the source: CONFIG SET repl-backlog-size 256mb, CONFIG SET client-output-buffer-limit "replica 1gb 512mb 120", then start again',
          recovery: 'operator',
        },
      );
    }
    if (this.#copies > 1 && this.#options.allowNonempty) {
      throw new TargetError('a new full copy is needed, and --allow-nonempty forbids emptying the target', {
        code: 'full-resync-nonempty',
        hint: 'start again: keys that the source has deleted meanwhile would stay on the target',
      });
    }
    this.#gauge.reset();
    if (this.#phase !== 'snapshot') this.#moveTo('snapshot', 'a new full copy is taken');
  }

  /** The first copy finds the target as the preflight left it, later ones find our own keys and functions. */
  async #prepareTarget(): Promise<void> {
    const { hold, facts, door } = this.#running;
    await door.endWriters();
    await hold.renewLease();
    if (this.#copies > 1 || this.#options.flushTarget) {
      await hold.session.call('FLUSHALL', ...(facts.target.atLeast(4, 0) ? ['ASYNC'] : []));
      if (facts.capabilities.functions) await hold.session.call('FUNCTION', 'FLUSH');
    }
    await door.beginCopy(this.#checkedFolder.run.runId);
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
      this.#emit({ event: 'progress', ...this.snapshot() });
    });
  }

  /** True while bytes of the source arrive and can go on to the target. */
  get #bothConnected(): boolean {
    return this.#link?.connected === true && this.#feed?.connected === true;
  }

  #sampling = false;

  async #sample(): Promise<void> {
    const source = this.#source;
    if (this.#sampling || source === null || this.#feed === null) return;
    this.#sampling = true;
    try {
      this.#sourceOffset = await sourceOffset(source);
      const now = performance.now();
      if (!this.#bothConnected) this.#gauge.reset();
      const inSync = this.#gauge.sample(this.#sourceOffset, this.#feed.appliedOffset(), now);
      if (this.#phase === 'catching-up' && inSync) {
        this.#copiesInARow = 0;
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
      this.#sampling = false;
    }
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
    this.#abort.abort();
    await this.#following;
    this.#feed?.close();
    try {
      if (how === 'promoted') await this.#door?.removeCheckpoint();
      this.#notes.push(...((await this.#hold?.release()) ?? []));
    } catch (error) {
      const left = toCutoverError(error);
      this.#notes.push(
        `the target could not be given back whole (${printable(left.message)}): its fence or our user may be left; redis-cutover resume puts it right`,
      );
      this.#leftBehind = true;
    }
    this.#spool?.close();
    await this.#folder
      ?.append({ kind: 'phase', pair: this.pair.name, data: this.#phase }, 'durable')
      .catch(() => undefined);
    if (how !== 'promoted') await this.#closeSessions();
  }

  #leftBehind = false;

  /** True where something of ours may still be on the target. */
  get leftBehind(): boolean {
    return this.#leftBehind;
  }

  async #closeSessions(): Promise<void> {
    await this.#source?.close();
    await this.#target?.close();
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

  get #checked(): { source: ServerSession; target: ServerSession; facts: PairFacts } {
    if (this.#source === null || this.#target === null || this.#facts === null) {
      throw new InvariantError('the pair was not checked');
    }
    return { source: this.#source, target: this.#target, facts: this.#facts };
  }

  get #checkedFolder(): RunFolder {
    if (this.#folder === null) throw new InvariantError('the pair has no run folder');
    return this.#folder;
  }

  get #running(): {
    hold: TargetHold;
    door: TargetDoor;
    feed: WriteFeed;
    folder: RunFolder;
    source: ServerSession;
    facts: PairFacts;
  } {
    if (this.#hold === null || this.#door === null || this.#feed === null) {
      throw new InvariantError('the pair was not started');
    }
    const { source, facts } = this.#checked;
    return {
      hold: this.#hold,
      door: this.#door,
      feed: this.#feed,
      folder: this.#checkedFolder,
      source,
      facts,
    };
  }
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

/** How to give the applications their rights on the source back, as commands to type. */
function fenceLeftNotes(fence: Fence, where: string): string[] {
  const commands = fence.liftCommands();
  if (commands.length === 0) return [];
  return [
    `the source ${where} stays fenced: its users have lost write commands and nothing else; to lift it, on the source:`,
    ...commands.map((command) => printable(command, 2000)),
  ];
}

function safeFileName(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 100);
}
