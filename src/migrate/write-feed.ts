/**
 * Feed `write`: takes what the link receives through the spool, the RDB reader and the stream writer to the target.
 * Everything is driven by three calls that may come at any time: bytes arrived, replies arrived, the target
 * connection was lost. Each ends in #pump(), which does what can be done now and never waits.
 *
 * A retry is always the same: a new connection to the target, the checkpoint read back from it, and the bytes
 * looked at again from the spool (or from the source, where the target has lost its tail).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ReplyError } from '../client/reply-error.ts';
import {
  assertNever,
  type CutoverError,
  RdbFormatError,
  TargetError,
  toCutoverError,
} from '../core/errors.ts';
import { keyDigest } from '../core/key-digest.ts';
import { isReplid, parseOffset, type ReplicationPosition } from '../core/position.ts';
import { printable, withoutEchoes } from '../core/text.ts';
import { moduleTypeName } from '../rdb/module-type.ts';
import { TYPE } from '../rdb/opcodes.ts';
import { checkMagic, MAGIC_BYTES, RdbReader } from '../rdb/reader.ts';
import { keyOfEntry, moduleOfEntry } from '../rdb/strings.ts';
import { commandArguments } from '../resp/arguments.ts';
import { scanCommand } from '../resp/command-frame.ts';
import type { Framing } from '../source/handshake.ts';
import type { Spool } from '../spool/spool.ts';
import type { TargetCapabilities } from '../target/write/capabilities.ts';
import type { Checkpoint } from '../target/write/checkpoint.ts';
import { type ReplyListener, TargetConnection } from '../target/write/connection.ts';
import { COPY_HORIZON_MS, type HeldTtls } from '../target/write/held-ttls.ts';
import type { KeyPositions } from '../target/write/key-positions.ts';
import { Losses } from '../target/write/losses.ts';
import type { StreamLoss } from '../target/write/lowering.ts';
import type { MissingForms } from '../target/write/missing-forms.ts';
import type { OwnWrites } from '../target/write/own-writes.ts';
import {
  isBadValue,
  isUnknownCommand,
  judgeReply,
  type ReplyVerdict,
  retryHint,
} from '../target/write/reply-policy.ts';
import { kindOf, lacking, Skipped, type SkipRules } from '../target/write/skipped.ts';
import { SnapshotWriter } from '../target/write/snapshot-writer.ts';
import { StreamWriter } from '../target/write/stream-writer.ts';
import type { WriteTally } from '../target/write/write-tally.ts';
import { AppliedOffset } from './applied-offset.ts';
import type { Feed, FeedListener } from './feed.ts';
import { type CompleteCopy, CopyKeeper } from './kept-copy.ts';
import { type StreamTail, TailKeeper } from './stream-tail.ts';
import type { Entrance } from './target-door.ts';
import type { Valve } from './valve.ts';

/** How the feed comes to its target; see target-door.ts. */
export interface Door {
  /** @throws CutoverError; recovery `reconnect` where trying again may help */
  enter(signal: AbortSignal): Promise<Entrance>;
}

/** Where the feed begins. */
export type Beginning =
  /** With a full copy. */
  | { readonly kind: 'copy' }
  /** With a copy that lies in the spool. */
  | { readonly kind: 'kept'; readonly copy: CompleteCopy }
  /** Behind what the target has already; the source is asked for what follows. */
  | { readonly kind: 'checkpoint'; readonly checkpoint: Checkpoint }
  /** The same, and what follows lies in the spool. The target has the checkpoint. */
  | { readonly kind: 'spool'; readonly checkpoint: Checkpoint; readonly position: number };

export interface FeedSettings {
  readonly run: string;
  readonly capabilities: TargetCapabilities;
  /** True for sources before 7.0: they send relative TTLs. */
  readonly relativeTtls: boolean;
  /** What the source may send and the target does not know. */
  readonly missing: MissingForms;
  readonly forwardPublish: boolean;
  /** Which expiries are held back; null: none is. */
  readonly ttls: HeldTtls | null;
  /** False where the source's offsets cannot be trusted: each break of the link costs a full copy. */
  readonly partialResync: boolean;
  readonly begin: Beginning;
  /** What of the source's stream is our own and stays out; null: nothing is. */
  readonly leaveOut: OwnWrites | null;
  /** Where the keys that are written to the target are noted (--allow-nonempty); null: they are not. */
  readonly written: KeyPositions | null;
  /** True where a reader of the target's stream is to know which writes are ours. */
  readonly markBatches: boolean;
  /** Where what is executed on the target is counted. */
  readonly tally: WriteTally;
  /** Shut and narrowed by the operator. */
  readonly valve: Valve;
  /** True where what the target has no place for may be lost (--allow-loss). */
  readonly allowLoss: boolean;
  /** What of the source the target has nothing for may be left out (--skip-unknown); null: it stops the run. */
  readonly skip: SkipRules | null;
  /** A target that answers nothing for this long, with commands waiting, counts as dead. */
  readonly silenceMs: number;
}

type Stage =
  /** There is no copy, or the target has lost it: the source is to be asked for one. */
  | { readonly kind: 'idle' }
  | {
      readonly kind: 'snapshot';
      readonly reader: RdbReader;
      readonly framing: Framing;
      position: ReplicationPosition | null;
      /** Position behind the payload; null: not known yet. */
      readonly payloadEnd: number | null;
      /** False until the target is ready to be filled; what comes until then waits in the spool. */
      prepared: boolean;
    }
  /** The snapshot is read and sent, its answers are awaited. */
  | {
      readonly kind: 'answers';
      readonly reader: RdbReader;
      readonly framing: Framing;
      position: ReplicationPosition | null;
      readonly streamStart: number;
    }
  | { readonly kind: 'stream' }
  /**
   * The target has lost more of its tail than the spool still holds: the source is to be asked for it. `asked` is
   * true once it was: an answer to an earlier question does not count.
   */
  | { readonly kind: 'back'; readonly checkpoint: Checkpoint; asked: boolean };

/** What an operator can do about a command that the target refuses. */
const MEND_TARGET = 'mend the cause on the target, or choose a newer release for it';
const MEND_VALUE =
  'the target takes the value for damaged, or is too old for it: read that key on the source, write it anew under another name, and delete it; or choose a newer release for the target';

const RETRY_MS = [200, 500, 1000, 2000] as const;
/**
 * Bytes made for the target before the event loop gets its turn: blocks come back to their pool, acknowledgements go
 * out, and replies come in only then.
 */
const TURN_BYTES = 4 << 20;
/** So long nothing new is sent, at most, for a moment in which nothing is under way. */
const QUIET_LIMIT_MS = 500;
const QUIET_POLL_MS = 2;
/** A history that nobody named: behind SYNC from a server before 4.0. No partial resync is possible. */
const NAMELESS = '0'.repeat(40);

export class WriteFeed implements Feed, ReplyListener {
  readonly #spool: Spool;
  readonly #door: Door;
  readonly #settings: FeedSettings;
  readonly #listener: FeedListener;
  readonly #signal: AbortSignal;
  readonly #losses: Losses;
  /** Of the snapshot; null: nothing may be left out. */
  readonly #skippedValues: Skipped | null;
  /** Of the stream. */
  readonly #skippedCommands = new Skipped();
  #skippedTold = 0;
  readonly #snapshot: SnapshotWriter;
  readonly #stream: StreamWriter;
  readonly #tail: TailKeeper;
  readonly #keeper: CopyKeeper;
  #stage: Stage = { kind: 'idle' };
  #connection: TargetConnection | null = null;
  #pumping = false;
  /** spool.end when the reader last found nothing complete: no use to look again before more has come. */
  #starvedAt = -1;
  /** Offset of everything that the target has. */
  readonly #applied = new AppliedOffset();
  #appliedPosition = 0;
  /** Names that the history of the present copy has had: a checkpoint under another one is of an older copy. */
  readonly #histories = new Set<string>();
  #auxDb = 0;
  #auxPosition: { replid?: string; offset?: number } = {};
  #finishing: Waiter | null = null;
  #finished = false;
  /** True while nothing new is to be sent: see whileQuiet(). */
  #pausing = false;
  /** Why there will be nothing more. */
  #closedBy: CutoverError | null = null;
  #retries = 0;
  #recovering = false;
  /** Position from which the snapshot must be sent again. */
  #snapshotRetryFrom = 0;
  #lastReplyAt = Date.now();
  #lastCheckpointAt = Date.now();
  #divergences = 0;
  #snapshotBytes = 0;
  #snapshotTotal: number | null = null;
  #keys = 0;

  constructor(spool: Spool, door: Door, settings: FeedSettings, listener: FeedListener, signal: AbortSignal) {
    this.#spool = spool;
    this.#door = door;
    this.#settings = settings;
    this.#listener = listener;
    this.#signal = signal;
    this.#tail = new TailKeeper(spool);
    this.#keeper = new CopyKeeper(spool, listener.keepCopy, (error) => this.#fail(error));
    this.#losses = new Losses(settings.allowLoss);
    this.#skippedValues = settings.skip === null ? null : new Skipped();
    this.#snapshot = new SnapshotWriter(
      settings.capabilities,
      {
        aux: (name, value) => this.#aux(name, value.toString('latin1')),
        note: (message) => listener.note(message),
      },
      settings.ttls,
      settings.written?.keys ?? null,
      this.#losses,
      this.#skippedValues,
    );
    this.#stream = new StreamWriter(
      {
        relativeTtls: settings.relativeTtls,
        missing: settings.missing,
        skip: settings.skip,
        forms: settings.capabilities.forms,
        ttls: settings.ttls,
        forwardPublish: settings.forwardPublish,
        execIsWhole: settings.capabilities.execIsWhole,
        run: settings.run,
        receivedAt: (position) => spool.receivedAt(position),
        markBatches: settings.markBatches,
        leaveOut: settings.leaveOut,
        written: settings.written,
        tally: settings.tally,
      },
      {
        applied: (position) => this.#streamApplied(position),
        ackWanted: () => listener.acknowledge(),
        loses: (loss, position) => this.#loses(loss, position),
        skips: (what, key, position) => this.#skips(what, key, position),
        divergence: (position, line) => this.#diverged(position, line),
        rejected: (position, line, verdict) => this.#rejected(position, line, verdict),
      },
    );
    settings.valve.whenWider(() => this.#pump());
    this.#beginAt(settings.begin);
  }

  #beginAt(begin: Beginning): void {
    switch (begin.kind) {
      case 'copy':
        return;
      case 'kept': {
        const { position, framing, streamStart } = begin.copy;
        this.#keeper.takeOver(begin.copy);
        this.#beginSnapshot(position, framing, streamStart);
        return;
      }
      case 'checkpoint':
        this.#stage = { kind: 'back', checkpoint: begin.checkpoint, asked: false };
        this.#applied.restart(begin.checkpoint.offset);
        return;
      case 'spool':
        this.#stage = { kind: 'stream' };
        this.#histories.add(begin.checkpoint.replid);
        this.#applied.restart(begin.checkpoint.offset);
        this.#appliedPosition = begin.position;
        this.#stream.attach(null, begin.position, begin.checkpoint);
        this.#recover(null);
        return;
      default:
        assertNever(begin);
    }
  }

  // ---- what others may ask -------------------------------------------------------------------------------

  get snapshotBytes(): number {
    return this.#snapshotBytes;
  }

  /** null where the source does not say how long the snapshot is. */
  get snapshotTotal(): number | null {
    return this.#snapshotTotal;
  }

  get keys(): number {
    return this.#keys;
  }

  get commands(): number {
    return this.#stream.commands;
  }

  get divergences(): number {
    return this.#divergences;
  }

  /** Bytes received and not applied. */
  get pendingBytes(): number {
    return this.#spool.end - this.#appliedPosition;
  }

  /** When the oldest byte that is not applied was received; null where all is applied. */
  get oldestPendingAt(): number | null {
    return this.pendingBytes > 0 ? this.#spool.receivedAt(this.#appliedPosition) : null;
  }

  get replid(): string {
    const stage = this.#stage;
    switch (stage.kind) {
      case 'back':
        return stage.checkpoint.replid;
      case 'snapshot':
      case 'answers':
        return stage.position?.replid ?? '';
      case 'idle':
      case 'stream':
        return this.#stream.replid;
      default:
        return assertNever(stage);
    }
  }

  appliedOffset(): number {
    return this.#applied.value;
  }

  /** True while commands can go to the target. */
  get connected(): boolean {
    return this.#connection !== null;
  }

  /** Replies come by themselves. */
  async refresh(): Promise<void> {}

  tail(): StreamTail | null {
    return this.#tail.tail();
  }

  whenApplied(offset: number): Promise<void> {
    return this.#applied.whenReached(offset);
  }

  /** True where the snapshot is on the target, and the stream follows. */
  get streaming(): boolean {
    return this.#stage.kind === 'stream';
  }

  /** Resolves as soon as all that was sent until now is on the target; behind the snapshot only. */
  whenSentIsApplied(): Promise<void> {
    return this.#applied.whenReached(this.#stream.offsetAt(this.#stream.position));
  }

  // ---- life ----------------------------------------------------------------------------------------------

  /** Once a second: heartbeat of the target, and a checkpoint where only PINGs have come for a while. */
  tick(now: number): void {
    const connection = this.#connection;
    if (connection === null || this.#halted) return;
    const { silenceMs, valve } = this.#settings;
    // the silence that counts begins with a question; a value whose rest is held back is none
    const heldBack = valve.paused && this.#stage.kind === 'snapshot';
    if (connection.unanswered === 0 || heldBack) this.#lastReplyAt = now;
    if (now - this.#lastReplyAt > silenceMs) {
      connection.close();
      this.lost(
        new TargetError(`the target has answered nothing for ${silenceMs / 1000} s`, {
          code: 'target-silent',
          hint: 'is the target stopped, or the network down? it is tried again by itself',
          recovery: 'reconnect',
        }),
      );
      return;
    }
    const due = now - this.#lastCheckpointAt > 10_000;
    if (due && this.#stage.kind === 'stream' && this.#stream.idle && this.#stream.checkpointIsOld) {
      this.#lastCheckpointAt = now;
      this.#stream.writeCheckpoint();
    }
  }

  /**
   * Replays up to `offset` and to the end of the transaction there, begins nothing new behind it, and resolves when
   * the target has answered all; rejects when the feed ends before. The target may be lost and come back meanwhile,
   * also with an older state: `offset` is reached again before this resolves.
   */
  finish(offset: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closedBy !== null) {
        reject(this.#closedBy);
        return;
      }
      this.#finishing = { offset, resolve, reject };
      this.#pump();
    });
  }

  /** Undoes finish(): the stream goes on. */
  goOn(): void {
    if (this.#closedBy !== null) return;
    this.#finishing = null;
    this.#finished = false;
    if (this.#connection === null) this.#recover(null);
    else this.#pump();
  }

  /**
   * Sends nothing new until all that was sent is answered, then does `work`, and goes on. Where that takes too long, as
   * in the middle of a huge command or transaction, or without a connection, `work` is not done.
   */
  async whileQuiet(work: () => Promise<void>): Promise<void> {
    if (this.#finished) return work();
    if (this.#pausing) return;
    this.#pausing = true;
    try {
      const until = Date.now() + QUIET_LIMIT_MS;
      this.#pump();
      while (!this.#settings.tally.quiet) {
        if (this.#connection === null || this.#halted || Date.now() > until) return;
        await delay(QUIET_POLL_MS);
      }
      if (this.#connection !== null) await work();
    } finally {
      this.#pausing = false;
      this.#pump();
    }
  }

  close(): void {
    this.#tellSkipped();
    this.#end(
      new TargetError('the pair was stopped', {
        code: 'stopped',
        hint: 'nothing is to be done: what was begun is undone',
        recovery: 'none',
      }),
    );
  }

  #end(reason: CutoverError): void {
    this.#closedBy ??= reason;
    this.#drop();
    this.#applied.end(this.#closedBy);
    this.#finishing?.reject(this.#closedBy);
    this.#finishing = null;
  }

  // ---- LinkSink: what the source sends -------------------------------------------------------------------

  reserve(): Buffer {
    return this.#spool.reserve();
  }

  commit(length: number): void {
    this.#spool.commit(length, Date.now());
    this.#pump();
  }

  append(chunk: Buffer): void {
    this.#spool.append(chunk, Date.now());
    this.#pump();
  }

  async resumePosition(): Promise<ReplicationPosition | null> {
    if (!this.#settings.partialResync) return null;
    const stage = this.#stage;
    // where a snapshot without a length ends is known only after all that was received has been read; it is not read
    // before its version is known
    while (
      stage.kind === 'snapshot' &&
      stage.payloadEnd === null &&
      this.#spool.end >= MAGIC_BYTES &&
      this.#stage === stage &&
      !this.#signal.aborted &&
      this.#starvedAt !== this.#spool.end
    ) {
      await delay(20);
    }
    if (this.#stage.kind !== 'back') return this.#received();
    this.#stage.asked = true;
    return this.#stage.checkpoint;
  }

  /** Never waits for the target: what the source sends from now on goes to the spool until the target is ready. */
  async fullResync(position: ReplicationPosition | null, framing: Framing): Promise<void> {
    await this.#listener.copyBegins(position);
    this.#drop();
    this.#spool.reset();
    this.#tail.reset();
    this.#listener.waiting(null);
    this.#beginSnapshot(position, framing, framing.kind === 'length' ? framing.bytes : null);
    await this.#keeper.begin(this.#settings.partialResync ? position : null, framing);
  }

  #beginSnapshot(position: ReplicationPosition | null, framing: Framing, payloadEnd: number | null): void {
    this.#settings.ttls?.beginCopy(COPY_HORIZON_MS, this.#settings.written !== null);
    this.#starvedAt = -1;
    this.#auxDb = 0;
    this.#auxPosition = {};
    this.#applied.restart(position?.offset ?? -1);
    this.#appliedPosition = 0;
    this.#histories.clear();
    this.#snapshotRetryFrom = 0;
    this.#snapshotBytes = 0;
    this.#snapshotTotal = framing.kind === 'length' ? framing.bytes : null;
    this.#keys = 0;
    this.#skippedCommands.begin();
    const reader = new RdbReader(this.#snapshot, { verify: true, skipUnknown: this.#settings.skip !== null });
    this.#stage = { kind: 'snapshot', reader, framing, position, payloadEnd, prepared: false };
    this.#recover(null);
  }

  continued(replid: string | null): void {
    const stage = this.#stage;
    switch (stage.kind) {
      case 'idle':
        // the copy was lost after the question had been put
        this.#listener.redial();
        return;
      case 'back': {
        const { checkpoint, asked } = stage;
        if (!asked) {
          this.#listener.redial();
          return;
        }
        this.#spool.reset();
        this.#tail.reset();
        this.#starvedAt = -1;
        this.#stage = { kind: 'stream' };
        this.#histories.add(checkpoint.replid).add(replid ?? checkpoint.replid);
        this.#appliedPosition = 0;
        this.#stream.attach(null, 0, { ...checkpoint, replid: replid ?? checkpoint.replid });
        this.#recover(null);
        break;
      }
      case 'stream':
        if (replid !== null) {
          this.#stream.renameHistory(replid);
          this.#histories.add(replid);
        }
        break;
      case 'snapshot':
      case 'answers':
        if (replid !== null && stage.position !== null) {
          stage.position = { replid, offset: stage.position.offset };
          this.#keeper.renamed(stage.position, stage.framing);
        }
        break;
      default:
        assertNever(stage);
    }
    if (this.connected) this.#listener.waiting(null);
  }

  interrupted(error: CutoverError): void {
    this.#listener.waiting(`the source: ${error.message}`);
  }

  // ---- ReplyListener: what the target answers ------------------------------------------------------------

  reply(tag: number, line: string | null): void {
    if (this.#stage.kind === 'stream') {
      this.#stream.reply(tag, line);
      return;
    }
    if (line !== null) this.#rejected(tag, line, judgeReply(line));
  }

  nestedError(index: number, line: string): void {
    this.#stream.nestedError(index, line);
  }

  progress(): void {
    this.#lastReplyAt = Date.now();
    this.#pump();
  }

  lost(error: CutoverError): void {
    const stage = this.#stage;
    if (stage.kind === 'snapshot' || stage.kind === 'answers') {
      this.#snapshotRetryFrom = this.#connection?.oldestTag ?? stage.reader.keepFrom;
    }
    this.#recover(`the target: ${error.message}`);
  }

  // ---- the pump ------------------------------------------------------------------------------------------

  #pump(): void {
    if (this.#pumping || this.#finished || this.#closedBy !== null) return;
    this.#pumping = true;
    try {
      if (this.#stage.kind === 'snapshot') this.#pumpSnapshot(this.#stage);
      if (this.#stage.kind === 'answers') this.#pumpAnswers(this.#stage);
      if (this.#stage.kind === 'stream') this.#pumpStream();
    } catch (error) {
      this.#fail(toCutoverError(error));
    } finally {
      this.#pumping = false;
    }
  }

  #pumpSnapshot(stage: Stage & { kind: 'snapshot' }): void {
    const connection = this.#connection;
    if (connection === null) return;
    const { reader, framing } = stage;
    const spool = this.#spool;
    const begun = connection.out.totalBytes;
    const enough = begun + TURN_BYTES;
    while (!reader.done && !connection.full && this.#starvedAt !== spool.end && this.#mayPass()) {
      if (connection.out.totalBytes > enough) {
        setImmediate(() => this.#pump());
        break;
      }
      // what lies behind an announced length is the stream: a damaged snapshot must not reach into it
      const end = framing.kind === 'length' ? Math.min(spool.end, framing.bytes) : spool.end;
      const available = end - reader.position;
      const { keys } = reader;
      const { totalBytes } = connection.out;
      const view = this.#piece(spool.view(reader.position, reader.want).subarray(0, available), reader.want);
      const moved = view.length > 0 && reader.consume(view);
      this.#settings.valve.passed(connection.out.totalBytes - totalBytes, reader.keys - keys);
      if (moved || view.length < available) continue;
      if (framing.kind === 'length' && end === framing.bytes) {
        throw new RdbFormatError('the snapshot goes on where its announced length ends', end);
      }
      this.#starvedAt = spool.end;
    }
    // a large value that comes slowly is answered only at its end
    if (Number.isFinite(this.#settings.valve.piece) && connection.out.totalBytes > begun) {
      this.#lastReplyAt = Date.now();
    }
    connection.out.flush();
    spool.release(Math.min(reader.keepFrom, connection.oldestTag ?? Number.POSITIVE_INFINITY));
    this.#snapshotBytes = Math.max(this.#snapshotBytes, reader.position);
    this.#keys = reader.keys;
    if (!reader.done) return;
    const streamStart = this.#payloadEnd(reader.position, framing);
    if (streamStart === null) return;
    this.#stage = { kind: 'answers', reader, framing, position: stage.position, streamStart };
  }

  /** Position behind the payload, its frame checked; null where the mark has not come yet. */
  #payloadEnd(position: number, framing: Framing): number | null {
    if (framing.kind === 'length') {
      if (position !== framing.bytes) {
        throw new RdbFormatError(`the snapshot ends, but ${framing.bytes} bytes were announced`, position);
      }
      return position;
    }
    const size = framing.mark.length;
    if (this.#spool.end - position < size) {
      this.#starvedAt = this.#spool.end;
      return null;
    }
    if (!this.#spool.view(position, size).subarray(0, size).equals(framing.mark)) {
      throw new RdbFormatError('the mark behind the snapshot is not the announced one', position);
    }
    return position + size;
  }

  /** All of the snapshot is sent; the stream begins when all of it is answered. */
  #pumpAnswers(stage: Stage & { kind: 'answers' }): void {
    const connection = this.#connection;
    if (connection === null) return;
    connection.out.flush();
    if (connection.unanswered > 0) return;
    const position = stage.position ?? this.#positionFromAux();
    this.#stage = { kind: 'stream' };
    this.#appliedPosition = stage.streamStart;
    this.#histories.add(position.replid);
    this.#spool.release(stage.streamStart);
    this.#stream.attach(connection, stage.streamStart, { ...position, db: this.#auxDb });
    this.#applied.reach(position.offset);
    // the target is complete only now: from here on it need not be loaded again
    this.#stream.writeCheckpoint();
    this.#listener.snapshotLoaded([...this.#losses.told(), ...(this.#skippedValues?.told() ?? [])]);
  }

  #pumpStream(): void {
    const connection = this.#connection;
    if (connection === null) return;
    const stream = this.#stream;
    const spool = this.#spool;
    const enough = connection.out.totalBytes + TURN_BYTES;
    const last = this.#finishing?.offset ?? Number.POSITIVE_INFINITY;
    while (stream.midway || (stream.offsetAt(stream.position) < last && this.#mayPass())) {
      if (connection.out.totalBytes > enough) {
        setImmediate(() => this.#pump());
        return;
      }
      const available = spool.end - stream.position;
      if (available === 0) break;
      const { commands } = stream;
      const { totalBytes } = connection.out;
      const view = this.#piece(spool.view(stream.position, stream.want), stream.want);
      const moved = stream.consume(view);
      this.#settings.valve.passed(connection.out.totalBytes - totalBytes, stream.commands - commands);
      if (moved) continue;
      // not moved: blocked, or a command that is not complete
      if (stream.want <= view.length || view.length === available) break;
    }
    stream.settle();
    const finishing = this.#finishing;
    if (finishing !== null && stream.idle && this.#applied.value >= finishing.offset) {
      this.#finishing = null;
      this.#finished = true;
      this.#tellSkipped();
      finishing.resolve();
    }
  }

  /** True where something new may be handed on now: see whileQuiet() and the valve. */
  #mayPass(): boolean {
    return !this.#pausing && this.#settings.valve.mayPass();
  }

  /** As much of `view` as the valve lets through at once, but never less than is wanted in one piece. */
  #piece(view: Buffer, want: number): Buffer {
    const most = Math.max(this.#settings.valve.piece, want);
    return view.length > most ? view.subarray(0, most) : view;
  }

  #streamApplied(position: number): void {
    this.#retries = 0;
    this.#appliedPosition = position;
    // the snapshot is on the target, and its checkpoint says so
    this.#keeper.end();
    // not what only moved the offset (PING): a retry begins at the last checkpoint
    const { checkpointed, checkpointedDb } = this.#stream;
    this.#spool.release(this.#tail.passed({ position: checkpointed, db: checkpointedDb }));
    this.#applied.reach(this.#stream.offsetAt(position));
  }

  /** Behind the last byte received; null where that has no name or is not known. */
  #received(): ReplicationPosition | null {
    const stage = this.#stage;
    switch (stage.kind) {
      case 'idle':
      case 'back':
        return null;
      case 'stream': {
        const replid = this.#stream.replid;
        return replid === NAMELESS ? null : { replid, offset: this.#stream.offsetAt(this.#spool.end) };
      }
      case 'snapshot':
      case 'answers': {
        if (stage.position === null) return null;
        const end = stage.kind === 'answers' ? stage.streamStart : stage.payloadEnd;
        if (end === null || this.#spool.end < end) return null;
        return { replid: stage.position.replid, offset: stage.position.offset + this.#spool.end - end };
      }
    }
  }

  #aux(name: string, value: string): void {
    if (name === 'repl-stream-db') this.#auxDb = Math.max(0, parseOffset(value) ?? 0);
    if (name === 'repl-id' && isReplid(value)) this.#auxPosition.replid = value;
    if (name === 'repl-offset') this.#auxPosition.offset = parseOffset(value) ?? -1;
  }

  /** Behind SYNC the position stands in the snapshot itself, from 4.0 on (protocol.md 1.4). */
  #positionFromAux(): ReplicationPosition {
    const { replid, offset } = this.#auxPosition;
    if (replid !== undefined && offset !== undefined && offset >= 0) return { replid, offset };
    return { replid: NAMELESS, offset: 0 };
  }

  // ---- when the target does not take it ------------------------------------------------------------------

  #rejected(position: number, line: string, verdict: ReplyVerdict): void {
    const where =
      this.#stage.kind === 'stream'
        ? { ...this.#commandAt(position), place: ` at offset ${this.#stream.offsetAt(position)}` }
        : { ...this.#entryAt(position), place: '' };
    this.#drop();
    if (verdict === 'fatal') {
      const module = isBadValue(line) ? this.#moduleAt(position) : null;
      if (module !== null && this.#settings.skip?.modules === true) {
        this.#snapshot.leaveOutModule(module);
        this.#snapshotRetryFrom = position;
        this.#recover(
          `the target takes no ${kindOf(TYPE.module2, module)}: they are left out (--skip-unknown)`,
        );
        return;
      }
      if (module !== null) {
        const { keyDigest } = where;
        const what = kindOf(TYPE.module2, module);
        this.#fail(lacking(`the target takes no ${what}, and key ${keyDigest} is one`, keyDigest));
        return;
      }
      const unknown = isUnknownCommand(line);
      const what = `${where.command} of key ${where.keyDigest}${where.place}`;
      this.#fail(
        new TargetError(
          unknown ? `the target does not know ${what}` : `the target refuses ${what}: ${shown(line)}`,
          {
            code: unknown ? 'target-unknown-command' : 'target-refused',
            hint: unknown
              ? 'nothing behind this command was applied; choose a target that knows it, or keep applications from using it and begin again; what belongs to a module is left out by resume RUN_DIR --skip-unknown'
              : `nothing behind this command was applied; ${isBadValue(line) ? MEND_VALUE : MEND_TARGET}, and go on with resume`,
            command: where.command,
            keyDigest: where.keyDigest,
            reply: shown(line),
          },
        ),
      );
      return;
    }
    this.#snapshotRetryFrom = position;
    this.#recover(`the target answers ${printable(withoutEchoes(line), 80)}: ${retryHint(line)}`);
  }

  /**
   * A new connection, the checkpoint read back, and on from there; again and again until it works.
   * @param reason what went wrong, for people; null: nothing did, begin at once
   */
  #recover(reason: string | null): void {
    this.#connection = null;
    if (reason !== null) this.#listener.waiting(reason);
    if (this.#recovering || this.#halted) return;
    this.#recovering = true;
    void this.#reconnect(reason !== null).catch((error: unknown) => {
      this.#recovering = false;
      this.#fail(toCutoverError(error));
    });
  }

  get #halted(): boolean {
    return this.#finished || this.#closedBy !== null || this.#signal.aborted;
  }

  async #reconnect(pauseFirst: boolean): Promise<void> {
    for (let pause = pauseFirst; !this.#halted; pause = true) {
      if (pause) {
        const ms = RETRY_MS[Math.min(this.#retries++, RETRY_MS.length - 1)];
        await delay(ms, undefined, { signal: this.#signal }).catch(() => undefined);
      }
      const stage = this.#stage;
      // the source's turn: what it answers leads here again
      if (stage.kind === 'idle' || stage.kind === 'back' || this.#halted) break;
      try {
        if (stage.kind === 'snapshot' && !stage.prepared) {
          // one that we cannot read must not cost the target what it holds
          if (!(await this.#isReadable(stage))) continue;
          const forms = await this.#listener.prepareTarget();
          if (forms !== null) {
            this.#snapshot.takeForms(forms);
            this.#stream.takeForms(forms);
          }
          stage.prepared = true;
        }
        const entrance = await this.#door.enter(this.#signal);
        const connection = new TargetConnection(entrance.socket, this, this.#settings.tally);
        if (this.#stage !== stage || this.#halted) {
          // the source began another copy meanwhile
          connection.close();
          continue;
        }
        const { written } = this.#settings;
        if (written !== null) connection.beforeSend = () => written.keys.flush();
        this.#recovering = false;
        this.#lastReplyAt = Date.now();
        if (!this.#goOnFrom(connection, entrance)) connection.close();
        this.#listener.waiting(null);
        this.#pump();
        return;
      } catch (error) {
        const classed = toCutoverError(error);
        if (this.#signal.aborted) break;
        if (!passesByItself(classed)) throw classed;
        this.#listener.waiting(`the target: ${classed.message}`);
      }
    }
    this.#recovering = false;
  }

  /**
   * Waits for the first bytes of the snapshot, and for a valve that is not shut: a target that is paused is not emptied
   * either. Looks at the snapshot's version; false: it is not the present one any more.
   * @throws RdbFormatError
   */
  async #isReadable(stage: Stage & { kind: 'snapshot' }): Promise<boolean> {
    for (;;) {
      if (this.#stage !== stage || this.#halted) return false;
      if (this.#spool.end >= MAGIC_BYTES && !this.#settings.valve.paused) break;
      await delay(20);
    }
    checkMagic(this.#spool.view(0, MAGIC_BYTES), this.#settings.skip !== null);
    return true;
  }

  #drop(): void {
    this.#connection?.close();
    this.#connection = null;
  }

  /** Compares what the target holds with what we know, and goes on from there; false: from the source's side. */
  #goOnFrom(connection: TargetConnection, found: Entrance): boolean {
    const stage = this.#stage;
    const { checkpoint } = found;
    const ours = checkpoint !== null && checkpoint.run === this.#settings.run;
    switch (stage.kind) {
      case 'idle':
      case 'back':
        return false;
      case 'snapshot':
      case 'answers':
        if (!found.sameProcess || !ours || checkpoint.phase !== 'snapshot') break;
        this.#stage = {
          kind: 'snapshot',
          reader: stage.reader,
          framing: stage.framing,
          position: stage.position,
          payloadEnd: stage.kind === 'answers' ? stage.streamStart : stage.payloadEnd,
          prepared: true,
        };
        this.#starvedAt = -1;
        stage.reader.rewind(this.#snapshotRetryFrom);
        this.#connection = connection;
        this.#snapshot.attach(connection);
        return true;
      case 'stream': {
        if (!ours) break;
        // it may have come back with older data, and with expiries as they were then
        if (!found.sameProcess) this.#settings.ttls?.cameBack();
        if (checkpoint.phase === 'snapshot') {
          // the snapshot was answered, but no batch behind it was executed: each would have written a checkpoint
          if (!found.sameProcess) break;
          this.#goOnWith(connection, this.#stream.checkpointed, this.#stream.checkpointedDb);
          return true;
        }
        const position = this.#stream.positionAt(checkpoint.offset);
        // without a name an older copy cannot be told from the present one, but for a process that lives on
        const ofThisCopy =
          checkpoint.replid === NAMELESS ? found.sameProcess : this.#histories.has(checkpoint.replid);
        if (ofThisCopy && position >= this.#spool.start && position <= this.#spool.end) {
          this.#goOnWith(connection, position, checkpoint.db);
          return true;
        }
        this.#listener.note('the target has lost its last seconds: they are fetched from the source again');
        this.#stage = { kind: 'back', checkpoint, asked: false };
        this.#applied.restart(checkpoint.offset);
        this.#listener.redial();
        return false;
      }
      default:
        assertNever(stage);
    }
    this.#listener.note('the target has lost the copy: a new one is taken');
    this.#stage = { kind: 'idle' };
    this.#listener.redial();
    return false;
  }

  /** The stream goes on from `position`, which the target has come to. */
  #goOnWith(connection: TargetConnection, position: number, db: number): void {
    const offset = this.#stream.offsetAt(position);
    this.#connection = connection;
    this.#appliedPosition = position;
    this.#stream.settleUnanswered(position);
    this.#stream.attach(connection, position, { replid: this.#stream.replid, offset, db });
    this.#applied.reach(offset);
  }

  /** @throws TargetError `would-lose` */
  #loses({ what, matters }: StreamLoss, position: number): void {
    if (!matters || this.#settings.allowLoss) {
      this.#listener.note(`lost, since the target has no place for it: ${what}, as the source sends it`);
      return;
    }
    const { command, keyDigest } = this.#commandAt(position);
    const place = `${command} of key ${keyDigest} at offset ${this.#stream.offsetAt(position)}`;
    throw new TargetError(`the target has no place for ${what} (${place})`, {
      code: 'would-lose',
      hint: 'take a newer release for the target; or begin again with --allow-loss --flush-target: it is left out then, and told',
      command,
      keyDigest,
    });
  }

  #diverged(position: number, line: string): void {
    if (this.#settings.skip?.modules === true && isBadValue(line) && this.#restoresModule(position)) return;
    this.#divergences++;
    const { command, keyDigest } = this.#commandAt(position);
    this.#listener.divergence({
      command,
      keyDigest,
      offset: this.#stream.offsetAt(position),
      reply: shown(line),
    });
  }

  /** True where the command is RESTORE of a value of a module, which the target may lack: counted then. */
  #restoresModule(position: number): boolean {
    const [name, key, , payload] = this.#wordsAt(position);
    if (!/^restore(-asking)?$/i.test(String(name)) || payload?.[0] !== TYPE.module2) return false;
    const module = moduleTypeName(payload, 1, payload.length, 0) ?? '?';
    this.#skips(`RESTORE of ${kindOf(TYPE.module2, module)}`, key ?? null, position);
    return true;
  }

  /** The command at `position` of the stream; nothing where it cannot be seen any more, or is very long. */
  #wordsAt(position: number): readonly Buffer[] {
    if (position < this.#spool.start) return [];
    const view = this.#spool.view(position, 1 << 20);
    const end = scanCommand(view, 0, view.length, position);
    return end < 0 ? [] : commandArguments(view.subarray(0, end));
  }

  #commandAt(position: number): { command: string; keyDigest: string } {
    const [name, key] = this.#wordsAt(position);
    return {
      command: name === undefined ? 'a command' : printable(name.toString('latin1').toUpperCase(), 30),
      keyDigest: keyDigest(key ?? null),
    };
  }

  /** The type of a value of a module in the snapshot; null: it is another value, or nobody can tell. */
  #moduleAt(position: number): string | null {
    const inSnapshot = this.#stage.kind === 'snapshot' || this.#stage.kind === 'answers';
    if (!inSnapshot || position < this.#spool.start || position >= this.#spool.end) return null;
    return moduleOfEntry(this.#spool.view(position, 1 << 20));
  }

  /** @throws TargetError `target-lacks-type` where nothing may be skipped */
  #skips(what: string, key: Buffer | null, position: number): void {
    const digest = keyDigest(key);
    const offset = this.#stream.offsetAt(position);
    const place = `of key ${digest} at offset ${offset}`;
    if (this.#settings.skip === null) throw lacking(`the target does not take ${what} (${place})`, digest);
    if (!this.#skippedCommands.meet(`times ${what}`, offset, digest)) return;
    this.#listener.note(`skipped from here on, since --skip-unknown was given: ${what} (the first ${place})`);
  }

  /** What has been left out of the stream until now, where it is more than was told. */
  #tellSkipped(): void {
    const { count } = this.#skippedCommands;
    if (count === this.#skippedTold) return;
    this.#skippedTold = count;
    for (const message of this.#skippedCommands.told()) this.#listener.note(message);
  }

  #entryAt(position: number): { command: string; keyDigest: string } {
    if (position < this.#spool.start || position >= this.#spool.end)
      return { command: 'a value', keyDigest: '?' };
    const key = keyOfEntry(this.#spool.view(position, 4096));
    return { command: 'a value', keyDigest: key === null ? '?' : keyDigest(key) };
  }

  #fail(error: CutoverError): void {
    if (this.#closedBy !== null) return;
    this.#end(error);
    this.#listener.failed(error);
  }
}

interface Waiter {
  readonly offset: number;
  readonly resolve: () => void;
  readonly reject: (error: CutoverError) => void;
}

/** Whether asking the target again later may help; also for the refusals that are waited out when data meet them. */
function passesByItself(error: CutoverError): boolean {
  if (error.recovery === 'reconnect') return true;
  return error instanceof ReplyError && judgeReply(error.reply) === 'retry';
}

/** A reply of the target for people: servers echo keys and values, which nobody is to read. */
function shown(line: string): string {
  return printable(withoutEchoes(line));
}
