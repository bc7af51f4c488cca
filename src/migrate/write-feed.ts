/**
 * Feed `write`: takes what the link receives through the spool, the RDB reader and the stream writer to the target.
 * Everything is driven by three calls that may come at any time: bytes arrived, replies arrived, the target
 * connection was lost. Each ends in #pump(), which does what can be done now and never waits.
 *
 * A retry is always the same: a new connection to the target, the checkpoint read back from it, and the bytes
 * looked at again from the spool (or from the source, where the target has lost its tail).
 */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type CutoverError,
  InvariantError,
  RdbFormatError,
  TargetError,
  toCutoverError,
} from '../core/errors.ts';
import { isReplid, parseOffset, type ReplicationPosition } from '../core/position.ts';
import { printable } from '../core/text.ts';
import { RdbReader } from '../rdb/reader.ts';
import { keyOfEntry } from '../rdb/strings.ts';
import { commandArguments } from '../resp/arguments.ts';
import { scanCommand } from '../resp/command-frame.ts';
import type { Framing } from '../source/handshake.ts';
import type { LinkSink } from '../source/link.ts';
import type { Spool } from '../spool/spool.ts';
import type { TargetCapabilities } from '../target/write/capabilities.ts';
import type { Checkpoint } from '../target/write/checkpoint.ts';
import { type ReplyListener, TargetConnection } from '../target/write/connection.ts';
import { judgeReply, type ReplyVerdict, retryHint } from '../target/write/reply-policy.ts';
import { SnapshotWriter } from '../target/write/snapshot-writer.ts';
import { ActionTable } from '../target/write/stream-rules.ts';
import { StreamWriter } from '../target/write/stream-writer.ts';
import type { TargetDoor } from './target-door.ts';

/** What a migration wants to hear from its feed. */
export interface FeedListener {
  /** A full copy begins: empty the target of what an earlier one left, or throw where that must not be done. */
  prepareCopy(): Promise<void>;
  /** Every entry of the snapshot is on the target; the stream follows. */
  snapshotLoaded(): void;
  /** What is waited for, for people; null: nothing. */
  waiting(reason: string | null): void;
  note(message: string): void;
  divergence(sample: DivergenceSample): void;
  /** The feed cannot go on. */
  failed(error: CutoverError): void;
  /** A reconnect from this end: the link must ask the source again. */
  redial(): void;
  acknowledge(): void;
}

export interface DivergenceSample {
  readonly command: string;
  readonly keyDigest: string;
  readonly offset: number;
  readonly reply: string;
}

export interface FeedSettings {
  readonly run: string;
  readonly capabilities: TargetCapabilities;
  /** True for sources before 7.0: they send relative TTLs. */
  readonly relativeTtls: boolean;
  readonly forwardPublish: boolean;
}

type Stage =
  /** No copy has begun. */
  | { readonly kind: 'idle' }
  | {
      readonly kind: 'snapshot';
      readonly reader: RdbReader;
      readonly framing: Framing;
      position: ReplicationPosition | null;
    }
  /** The snapshot is read and sent, its answers are awaited. */
  | {
      readonly kind: 'answers';
      readonly reader: RdbReader;
      readonly framing: Framing;
      position: ReplicationPosition | null;
      readonly streamStart: number;
    }
  | { readonly kind: 'stream' };

const RETRY_MS = [200, 500, 1000, 2000] as const;
/** A target that answers nothing for this long, with commands waiting, counts as dead. */
const TARGET_SILENCE_MS = 60_000;
/** A history that nobody named: behind SYNC from a server before 4.0. No partial resync is possible. */
const NAMELESS = '0'.repeat(40);

export class WriteFeed implements LinkSink, ReplyListener {
  readonly #spool: Spool;
  readonly #door: TargetDoor;
  readonly #settings: FeedSettings;
  readonly #listener: FeedListener;
  readonly #signal: AbortSignal;
  readonly #snapshot: SnapshotWriter;
  readonly #stream: StreamWriter;
  #stage: Stage = { kind: 'idle' };
  #connection: TargetConnection | null = null;
  #pumping = false;
  /** spool.end when the reader last found nothing complete: no use to look again before more has come. */
  #starvedAt = -1;
  /** Offset of everything that the target has. */
  #applied = -1;
  #appliedPosition = 0;
  #waiters: { readonly offset: number; readonly resolve: () => void }[] = [];
  /** Where the link must go on instead of behind what was received: the target has lost its tail. */
  #goBackTo: Checkpoint | null = null;
  #auxDb = 0;
  #auxPosition: { replid?: string; offset?: number } = {};
  #finishing: (() => void) | null = null;
  #finished = false;
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

  constructor(
    spool: Spool,
    door: TargetDoor,
    settings: FeedSettings,
    listener: FeedListener,
    signal: AbortSignal,
  ) {
    this.#spool = spool;
    this.#door = door;
    this.#settings = settings;
    this.#listener = listener;
    this.#signal = signal;
    this.#snapshot = new SnapshotWriter(settings.capabilities, {
      aux: (name, value) => this.#aux(name, value.toString('latin1')),
      note: (message) => listener.note(message),
    });
    this.#stream = new StreamWriter(
      {
        actions: new ActionTable(settings.relativeTtls),
        forwardPublish: settings.forwardPublish,
        run: settings.run,
        receivedAt: (position) => spool.receivedAt(position),
      },
      {
        applied: (position) => this.#streamApplied(position),
        ackWanted: () => listener.acknowledge(),
        divergence: (position, line) => this.#diverged(position, line),
        rejected: (position, line, verdict) => this.#rejected(position, line, verdict),
      },
    );
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

  appliedOffset(): number {
    return this.#applied;
  }

  /** Resolves as soon as everything up to `offset` is on the target. */
  whenApplied(offset: number): Promise<void> {
    if (this.#applied >= offset) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ offset, resolve }));
  }

  // ---- life ----------------------------------------------------------------------------------------------

  /** Opens the connection to the target; goes on from `checkpoint` where one is given (resume). */
  async open(checkpoint: Checkpoint | null): Promise<void> {
    this.#goBackTo = checkpoint;
    this.#connection = new TargetConnection(await this.#door.dial(this.#signal), this);
  }

  /** Once a second: heartbeat of the target, and a checkpoint where only PINGs have come for a while. */
  tick(now: number): void {
    const connection = this.#connection;
    if (connection === null) return;
    if (connection.unanswered > 0 && now - this.#lastReplyAt > TARGET_SILENCE_MS) {
      connection.close();
      this.lost(
        new TargetError(`the target has answered nothing for ${TARGET_SILENCE_MS / 1000} s`, {
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

  /** Lets what is under way end, begins nothing new, and resolves when the target has answered all. */
  finish(): Promise<void> {
    return new Promise((resolve) => {
      this.#finishing = resolve;
      this.#pump();
    });
  }

  /** Undoes finish(): the stream goes on. */
  goOn(): void {
    this.#finishing = null;
    this.#finished = false;
    this.#pump();
  }

  close(): void {
    this.#finished = true;
    this.#connection?.close();
    this.#connection = null;
    for (const waiter of this.#waiters) waiter.resolve();
    this.#waiters = [];
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
    if (this.#goBackTo !== null) return this.#goBackTo;
    const stage = this.#stage;
    if (stage.kind === 'idle') return null;
    if (stage.kind === 'stream') return this.#received();
    // what the snapshot's end is may be known only after all that was received has been read
    while (this.#stage === stage && !this.#signal.aborted && this.#starvedAt !== this.#spool.end) {
      await delay(20);
    }
    return this.#received();
  }

  async fullResync(position: ReplicationPosition | null, framing: Framing): Promise<void> {
    this.#stage = { kind: 'idle' };
    this.#connection?.close();
    this.#connection = null;
    this.#goBackTo = null;
    await this.#listener.prepareCopy();
    this.#spool.reset();
    this.#starvedAt = -1;
    this.#auxDb = 0;
    this.#auxPosition = {};
    this.#applied = position?.offset ?? -1;
    this.#appliedPosition = 0;
    this.#snapshotRetryFrom = 0;
    this.#snapshotBytes = 0;
    this.#snapshotTotal = framing.kind === 'length' ? framing.bytes : null;
    this.#keys = 0;
    this.#connection = new TargetConnection(await this.#door.dial(this.#signal), this);
    this.#lastReplyAt = Date.now();
    this.#snapshot.attach(this.#connection);
    this.#stage = { kind: 'snapshot', reader: new RdbReader(this.#snapshot), framing, position };
  }

  continued(replid: string | null): void {
    const checkpoint = this.#goBackTo;
    if (checkpoint !== null) {
      this.#goBackTo = null;
      this.#spool.reset();
      this.#starvedAt = -1;
      this.#stage = { kind: 'stream' };
      this.#applied = checkpoint.offset;
      this.#appliedPosition = 0;
      this.#attachStream(0, { ...checkpoint, replid: replid ?? checkpoint.replid });
      this.#listener.snapshotLoaded();
    } else if (replid !== null) {
      if (this.#stage.kind === 'stream') this.#stream.renameHistory(replid);
      else if (this.#stage.kind !== 'idle' && this.#stage.position !== null) {
        this.#stage.position = { replid, offset: this.#stage.position.offset };
      }
    }
    this.#listener.waiting(null);
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
    if (this.#pumping || this.#finished) return;
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
    while (!reader.done && !connection.full && this.#starvedAt !== spool.end) {
      const available = spool.end - reader.position;
      if (available === 0) {
        this.#starvedAt = spool.end;
        break;
      }
      const view = spool.view(reader.position, reader.want);
      if (!reader.consume(view) && view.length === available) this.#starvedAt = spool.end;
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
    this.#spool.release(stage.streamStart);
    this.#attachStream(stage.streamStart, { ...position, db: this.#auxDb });
    this.#setApplied(position.offset);
    // the target is complete only now: from here on it need not be loaded again
    this.#stream.writeCheckpoint();
    this.#listener.snapshotLoaded();
  }

  #pumpStream(): void {
    const connection = this.#connection;
    if (connection === null) return;
    const stream = this.#stream;
    const spool = this.#spool;
    // once finishing, only what leads to the end of a transaction of the source
    while (this.#finishing === null || stream.midway) {
      const available = spool.end - stream.position;
      if (available === 0) break;
      const view = spool.view(stream.position, stream.want);
      if (stream.consume(view)) continue;
      // not moved: blocked, or a command that is not complete
      if (stream.want <= view.length || view.length === available) break;
    }
    stream.settle();
    if (this.#finishing !== null && stream.idle) {
      const resolve = this.#finishing;
      this.#finishing = null;
      this.#finished = true;
      resolve();
    }
  }

  #attachStream(position: number, place: { replid: string; offset: number; db: number }): void {
    if (this.#connection === null) throw new InvariantError('the stream has nowhere to go');
    this.#stream.attach(this.#connection, position, place);
  }

  #streamApplied(position: number): void {
    this.#retries = 0;
    this.#appliedPosition = position;
    this.#spool.release(position);
    this.#setApplied(this.#stream.offsetAt(position));
  }

  #setApplied(offset: number): void {
    this.#applied = offset;
    if (this.#waiters.length === 0) return;
    const ready = this.#waiters.filter((waiter) => waiter.offset <= offset);
    this.#waiters = this.#waiters.filter((waiter) => waiter.offset > offset);
    for (const waiter of ready) waiter.resolve();
  }

  /** Behind the last byte received; null where that has no name or is not known. */
  #received(): ReplicationPosition | null {
    const stage = this.#stage;
    switch (stage.kind) {
      case 'idle':
        return null;
      case 'stream': {
        const replid = this.#stream.replid;
        return replid === NAMELESS ? null : { replid, offset: this.#stream.offsetAt(this.#spool.end) };
      }
      case 'snapshot':
      case 'answers': {
        if (stage.position === null) return null;
        const end =
          stage.kind === 'answers'
            ? stage.streamStart
            : stage.framing.kind === 'length'
              ? stage.framing.bytes
              : Number.POSITIVE_INFINITY;
        if (this.#spool.end < end) return null;
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
    const where = this.#stage.kind === 'stream' ? this.#commandAt(position) : this.#entryAt(position);
    this.#connection?.close();
    this.#connection = null;
    if (verdict === 'fatal') {
      this.#fail(
        new TargetError(`the target refuses ${where.command} of key ${where.keyDigest}: ${printable(line)}`, {
          code: 'target-refused',
          hint: 'nothing behind this command was applied; mend the cause on the target, or choose a newer release for it, and go on with resume',
          command: where.command,
          keyDigest: where.keyDigest,
          reply: line,
        }),
      );
      return;
    }
    this.#snapshotRetryFrom = position;
    this.#recover(`the target answers ${printable(line, 80)}: ${retryHint(line)}`);
  }

  /** A new connection, the checkpoint read back, and on from there; again and again until it works. */
  #recover(reason: string): void {
    this.#connection = null;
    if (this.#recovering || this.#finished || this.#signal.aborted) return;
    this.#recovering = true;
    this.#listener.waiting(reason);
    void this.#reconnect()
      .catch((error: unknown) => this.#fail(toCutoverError(error)))
      .finally(() => {
        this.#recovering = false;
      });
  }

  async #reconnect(): Promise<void> {
    while (!this.#signal.aborted && !this.#finished) {
      await delay(RETRY_MS[Math.min(this.#retries++, RETRY_MS.length - 1)]);
      try {
        const socket = await this.#door.dial(this.#signal);
        const found = await this.#door.look();
        const connection = new TargetConnection(socket, this);
        this.#lastReplyAt = Date.now();
        if (!this.#goOnFrom(connection, found)) connection.close();
        this.#listener.waiting(null);
        this.#recovering = false;
        this.#pump();
        return;
      } catch (error) {
        const classed = toCutoverError(error);
        if (this.#signal.aborted) return;
        if (classed.recovery !== 'reconnect') throw classed;
        this.#listener.waiting(`the target: ${classed.message}`);
      }
    }
  }

  /** Compares what the target holds with what we know, and goes on from there; false: from the source's side. */
  #goOnFrom(
    connection: TargetConnection,
    found: { checkpoint: Checkpoint | null; sameProcess: boolean },
  ): boolean {
    const stage = this.#stage;
    const { checkpoint } = found;
    const ours = checkpoint !== null && checkpoint.run === this.#settings.run;
    switch (stage.kind) {
      case 'idle':
        // a full copy is being prepared and brings its own connection
        return false;
      case 'snapshot':
      case 'answers':
        if (!found.sameProcess || !ours || checkpoint.phase !== 'snapshot') break;
        this.#stage = {
          kind: 'snapshot',
          reader: stage.reader,
          framing: stage.framing,
          position: stage.position,
        };
        this.#starvedAt = -1;
        stage.reader.rewind(this.#snapshotRetryFrom);
        this.#connection = connection;
        this.#snapshot.attach(connection);
        return true;
      case 'stream': {
        if (!ours || checkpoint.phase !== 'stream') break;
        const position = this.#stream.positionAt(checkpoint.offset);
        if (position >= this.#spool.start && position <= this.#spool.end) {
          this.#connection = connection;
          this.#appliedPosition = position;
          this.#attachStream(position, { ...checkpoint, replid: this.#stream.replid });
          this.#setApplied(checkpoint.offset);
          return true;
        }
        this.#listener.note('the target has lost its last seconds: they are fetched from the source again');
        this.#connection = connection;
        this.#goBackTo = checkpoint;
        this.#listener.redial();
        return true;
      }
    }
    this.#listener.note('the target has lost the copy: a new one is taken');
    this.#stage = { kind: 'idle' };
    this.#listener.redial();
    return false;
  }

  #diverged(position: number, line: string): void {
    this.#divergences++;
    const { command, keyDigest } = this.#commandAt(position);
    this.#listener.divergence({
      command,
      keyDigest,
      offset: this.#stream.offsetAt(position),
      reply: printable(line),
    });
  }

  #commandAt(position: number): { command: string; keyDigest: string } {
    if (position < this.#spool.start) return { command: 'a command', keyDigest: '?' };
    const view = this.#spool.view(position, 1 << 20);
    const end = scanCommand(view, 0, view.length, position);
    if (end < 0) return { command: 'a command', keyDigest: '?' };
    const words = commandArguments(view.subarray(0, end));
    return {
      command: printable(words[0]?.toString('latin1').toUpperCase() ?? '', 30),
      keyDigest: digestOf(words[1] ?? null),
    };
  }

  #entryAt(position: number): { command: string; keyDigest: string } {
    if (position < this.#spool.start || position >= this.#spool.end)
      return { command: 'a value', keyDigest: '?' };
    return { command: 'a value', keyDigest: digestOf(keyOfEntry(this.#spool.view(position, 4096))) };
  }

  #fail(error: CutoverError): void {
    if (this.#finished) return;
    this.close();
    this.#listener.failed(error);
  }
}

/** Twelve hex digits of SHA-1: enough to find the key again, says nothing of it. */
function digestOf(key: Buffer | null): string {
  return key === null ? '?' : createHash('sha1').update(key).digest('hex').slice(0, 12);
}
