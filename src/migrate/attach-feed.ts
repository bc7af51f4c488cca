/**
 * Feed `attach`: the target is our replica. What the link receives goes from the spool to the target as it came; it is
 * only looked at beside the path, to know where the payload ends, which database is selected, and where transactions
 * end. Offsets and history are the source's own, so that the target can later follow the source, or the source the
 * target, without a copy (protocol.md 5.4).
 *
 * The spool serves the target's reconnects: it keeps what the target has not acknowledged, and with `--keep-snapshot`
 * the whole copy until the target has loaded it: one that breaks off meanwhile is handed it again.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import {
  assertNever,
  type CutoverError,
  InvariantError,
  RdbFormatError,
  SourceError,
  TargetError,
  toCutoverError,
} from '../core/errors.ts';
import { parseOffset, type ReplicationPosition } from '../core/position.ts';
import { RdbReader } from '../rdb/reader.ts';
import { IGNORING_SINK, type RdbSink } from '../rdb/sink.ts';
import { frame, scanCommand } from '../resp/command-frame.ts';
import { StreamScanner } from '../resp/stream-scanner.ts';
import type { Framing } from '../source/handshake.ts';
import type { Spool } from '../spool/spool.ts';
import type { Pace, PsyncAnswer, ReplicaListener, ReplicaServer } from '../target/attach/replica-server.ts';
import { AppliedOffset } from './applied-offset.ts';
import type { Feed, FeedListener } from './feed.ts';
import { type CompleteCopy, CopyKeeper } from './kept-copy.ts';
import { notNow } from './pair-context.ts';
import type { ReplicationState } from './roles.ts';
import { type StreamTail, TailKeeper } from './stream-tail.ts';
import type { Valve } from './valve.ts';

/** Bytes of the payload that are looked at before the event loop gets its turn. */
const TURN_BYTES = 4 << 20;
/** Of the stream, to find out which command comes first. */
const PEEK_BYTES = 64 * 1024;
/** So many times a kept copy is handed out: a target that never comes to its end may find it damaged. */
const MOST_HANDOUTS = 5;

type Stage =
  /** There is no copy: the source is to be asked for one. */
  | { readonly kind: 'idle' }
  | {
      readonly kind: 'payload';
      readonly reader: RdbReader;
      readonly framing: Framing;
      position: ReplicationPosition;
      /** Where the stream begins; null: not known yet. */
      streamStart: number | null;
    }
  | {
      readonly kind: 'stream';
      readonly streamStart: number;
      /** Offset of the last byte before `streamStart`. */
      readonly startOffset: number;
      readonly scanner: StreamScanner;
    }
  /** A resumed run: the target has the copy and waits at this place. */
  | { readonly kind: 'back'; readonly at: ReplicationPosition; readonly db: number };

/** Where the feed begins. */
export type AttachBeginning =
  /** With a full copy. */
  | { readonly kind: 'copy' }
  /** A resumed run: behind what the target has already; `db`: selected in the stream there, -1: not known. */
  | { readonly kind: 'back'; readonly at: ReplicationPosition; readonly db: number }
  /** A resumed run: the copy is in the spool, and the target may have come to the end of it. */
  | { readonly kind: 'kept'; readonly copy: CompleteCopy };

export interface AttachListener extends FeedListener {
  /** The source is to say in its stream which database is selected; asked again as long as it has not. */
  nudge(): void;
}

/** Asks the target itself; implemented by AttachHold. */
export interface AttachedTarget {
  /** @throws CutoverError where it cannot be asked now */
  state(): Promise<ReplicationState>;
}

/** Where the target is to be stopped: see stopAtBoundary(). */
export interface StopPlace extends ReplicationPosition {
  readonly db: number;
}

export class AttachFeed implements Feed, ReplicaListener {
  readonly divergences = 0;
  readonly #spool: Spool;
  readonly #target: AttachedTarget;
  readonly #listener: AttachListener;
  readonly #signal: AbortSignal;
  readonly #tail: TailKeeper;
  readonly #keeper: CopyKeeper;
  readonly #valve: Valve;
  #server: ReplicaServer | null = null;
  #stage: Stage;
  #replid = '';
  /** Earlier names of the history, and up to which offset they are good. */
  #formerIds = new Map<string, number>();
  /** Histories that the target began when it was a master for a moment: as formerIds. */
  #ownIds = new Map<string, number>();
  readonly #applied = new AppliedOffset();
  #appliedPosition = 0;
  #closedBy: CutoverError | null = null;
  #onReached: () => void = () => undefined;
  #stopped = false;
  #looking = false;
  /** How often the present copy was begun to be handed out. */
  #handouts = 0;
  #snapshotBytes = 0;
  #snapshotTotal: number | null = null;
  #keys = 0;
  /** Database of the stream behind the snapshot, as the snapshot says (protocol.md 1.13). */
  #auxDb = 0;

  constructor(
    spool: Spool,
    target: AttachedTarget,
    begin: AttachBeginning,
    listener: AttachListener,
    valve: Valve,
    signal: AbortSignal,
  ) {
    this.#spool = spool;
    this.#target = target;
    this.#listener = listener;
    this.#signal = signal;
    this.#tail = new TailKeeper(spool);
    this.#keeper = new CopyKeeper(spool, listener.keepCopy, (error) => this.#fail(error));
    this.#valve = valve;
    valve.whenWider(() => this.#server?.pump());
    this.#stage = { kind: 'idle' };
    this.#applied.restart(-1);
    switch (begin.kind) {
      case 'copy':
        return;
      case 'back':
        this.#stage = begin;
        this.#applied.restart(begin.at.offset);
        this.#replid = begin.at.replid;
        return;
      case 'kept': {
        const { position, framing, streamStart } = begin.copy;
        this.#keeper.takeOver(begin.copy);
        this.#beginPayload(position, framing, streamStart);
        return;
      }
      default:
        assertNever(begin);
    }
  }

  /** The port on which the target finds us; to be called before anything else. */
  serveBy(server: ReplicaServer): void {
    this.#server = server;
    if (this.#stage.kind !== 'payload') return;
    server.payloadEnd(this.#stage.streamStart);
    this.#pump();
  }

  /** What the port asks before it sends. On the way to the place where the target is to stop nothing is held back. */
  readonly pace: Pace = {
    mayPass: () => this.#stopped || this.#valve.mayPass(),
    piece: () => this.#valve.piece,
    passed: (bytes) => this.#valve.passed(bytes, 0),
  };

  /** Resolves when a target has come in by the port, with the right password; false after `timeoutMs`. */
  whenReached(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      this.#onReached = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  /**
   * The target was made a master for a moment, at `offset`, and has a history of its own since, `replid`: as long as
   * nobody wrote to it, it is where it was. But it does not know any more which database the stream had selected: it
   * goes on in database 0 (replicationCacheMasterUsingMyself(), 4.0 and later; run on 5.0 to 9.1).
   */
  takeForOurs(replid: string, offset: number): void {
    this.#ownIds.set(replid, offset);
  }

  // ---- what others may ask -------------------------------------------------------------------------------

  get snapshotBytes(): number {
    return this.#snapshotBytes;
  }

  get snapshotTotal(): number | null {
    return this.#snapshotTotal;
  }

  get keys(): number {
    return this.#keys;
  }

  get commands(): number {
    return this.#stage.kind === 'stream' ? this.#stage.scanner.commands : 0;
  }

  get oldestPendingAt(): number | null {
    return this.#spool.end > this.#appliedPosition ? this.#spool.receivedAt(this.#appliedPosition) : null;
  }

  get connected(): boolean {
    return this.#server?.connected === true;
  }

  get replid(): string {
    return this.#replid;
  }

  appliedOffset(): number {
    return this.#applied.value;
  }

  whenApplied(offset: number): Promise<void> {
    const reached = this.#applied.whenReached(offset);
    void this.#look();
    return reached;
  }

  async refresh(): Promise<void> {
    const stage = this.#stage;
    // while it loads it answers slowly, and does not know how far it is
    if (stage.kind === 'payload' && (stage.streamStart === null || this.#sent < stage.streamStart)) return;
    if (!this.connected) return;
    const state = await this.#target.state().catch(() => null);
    if (state?.linkUp && state.replid === this.#replid) this.acknowledged(state.offset);
  }

  tail(): StreamTail | null {
    return this.#tail.tail();
  }

  tick(): void {
    this.#server?.pump();
  }

  close(): void {
    this.#end(
      new TargetError('the pair was stopped', {
        code: 'stopped',
        hint: 'nothing is to be done: what was begun is undone',
        recovery: 'none',
      }),
    );
  }

  /**
   * Hands nothing more to the target behind a boundary that it has been given, and says where that is: the target will
   * come to a halt there, outside of any transaction. goOn() undoes it. Waits for a target that is served, and for a
   * stream whose database is known: see databaseKnown.
   * @throws the reason of `signal`, or why the feed has ended; PreflightError `not-now` where a copy is under way
   */
  async stopAtBoundary(signal: AbortSignal): Promise<StopPlace> {
    for (;;) {
      const stage = this.#stage;
      if (this.#closedBy !== null) throw this.#closedBy;
      signal.throwIfAborted();
      // the target has lost its copy: there will be no such place before it has another one
      if (stage.kind !== 'stream') throw notNow('stop the stream', 'taking a new copy');
      const server = this.#server;
      // one that waits for its answer may get it now
      if (server?.connected === false) server.pump();
      if (server?.connected === true) {
        const sent = Math.max(server.sentPosition, this.#appliedPosition);
        const scanner = stage.scanner.copy();
        this.#scan(scanner, this.#spool.end, sent);
        const { position, db } = scanner.boundary;
        if (position >= sent && db >= 0) {
          this.#stopped = true;
          server.holdAt(position);
          return { replid: this.#replid, offset: this.#offsetAt(stage, position), db };
        }
      }
      await delay(2);
    }
  }

  /** True where the snapshot is on the target, and the stream follows. */
  get streaming(): boolean {
    return this.#stage.kind === 'stream';
  }

  /** False in a resumed run until the source selects a database: behind +CONTINUE it does not say which one is. */
  get databaseKnown(): boolean {
    return this.#stage.kind === 'stream' && this.#stage.scanner.boundary.db >= 0;
  }

  /**
   * As stopAtBoundary(), at a place where database 0 is selected: there a target can be made a master for a while, see
   * takeForOurs(). The source is asked to select it, by `nudge`.
   * @throws what `nudge` throws, too; the feed is stopped then
   */
  async stopInZero(
    signal: AbortSignal,
    nudge: () => Promise<unknown> = async () => this.#listener.nudge(),
  ): Promise<StopPlace> {
    let place = await this.stopAtBoundary(signal);
    if (place.db !== 0) await nudge();
    while (place.db !== 0) {
      await delay(2);
      signal.throwIfAborted();
      if (this.#closedBy !== null) throw this.#closedBy;
      place = this.#nextInZero(place) ?? place;
    }
    return place;
  }

  /** The next boundary behind `place` at which database 0 is selected: handed out up to there; null: not come yet. */
  #nextInZero(place: StopPlace): StopPlace | null {
    const stage = this.#stage;
    if (stage.kind !== 'stream') return null;
    const scanner = new StreamScanner({ position: this.positionOf(place.offset), db: place.db });
    const { end } = this.#spool;
    while (scanner.position < end) {
      const { position } = scanner.boundary;
      this.#scan(scanner, end, position + 1);
      const { boundary } = scanner;
      if (boundary.position === position) return null;
      if (boundary.db !== 0) continue;
      this.#server?.holdAt(boundary.position);
      return { replid: this.#replid, offset: this.#offsetAt(stage, boundary.position), db: 0 };
    }
    return null;
  }

  /** Undoes stopAtBoundary(). */
  goOn(): void {
    this.#stopped = false;
    this.#server?.holdAt(null);
  }

  /** Where in the spool the byte behind `offset` lies. */
  positionOf(offset: number): number {
    const stage = this.#stage;
    if (stage.kind !== 'stream') throw new InvariantError('there is no stream yet');
    return stage.streamStart + offset - stage.startOffset;
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
    const stage = this.#stage;
    switch (stage.kind) {
      case 'idle':
        return null;
      case 'back':
        return stage.at;
      case 'payload':
      case 'stream': {
        // where a snapshot without a length ends is known only after all that was received has been read
        while (
          stage.streamStart === null &&
          this.#looking &&
          this.#stage === stage &&
          !this.#signal.aborted
        ) {
          await delay(20);
        }
        if (stage.streamStart === null || this.#spool.end < stage.streamStart) return null;
        return { replid: this.#replid, offset: this.#offsetAt(stage, this.#spool.end) };
      }
      default:
        return assertNever(stage);
    }
  }

  async fullResync(position: ReplicationPosition | null, framing: Framing): Promise<void> {
    if (position === null) {
      throw new SourceError('the source tells no replication position, which a replica of ours would need', {
        code: 'source-no-position',
        hint: 'use --feed write',
        recovery: 'operator',
      });
    }
    await this.#listener.copyBegins(position);
    // a target that has a part of an older copy begins anew
    this.#server?.disconnect('a new full copy begins');
    this.#spool.reset();
    this.#formerIds.clear();
    this.#tail.reset();
    const streamStart = framing.kind === 'length' ? framing.bytes : null;
    this.#beginPayload(position, framing, streamStart);
    this.#server?.payloadEnd(streamStart);
    this.#listener.waiting(null);
    await this.#keeper.begin(position, framing);
  }

  #beginPayload(position: ReplicationPosition, framing: Framing, streamStart: number | null): void {
    this.#replid = position.replid;
    this.#applied.restart(position.offset);
    this.#appliedPosition = 0;
    this.#snapshotBytes = 0;
    this.#snapshotTotal = framing.kind === 'length' ? framing.bytes : null;
    this.#keys = 0;
    this.#auxDb = 0;
    this.#handouts = 0;
    this.#stage = {
      kind: 'payload',
      reader: new RdbReader(this.#sink, { verify: false }),
      framing,
      position,
      streamStart,
    };
  }

  continued(replid: string | null): void {
    const stage = this.#stage;
    if (stage.kind === 'idle') {
      // the copy was lost after the question had been put
      this.#listener.redial();
      return;
    }
    if (stage.kind === 'back') {
      this.#spool.reset();
      this.#stage = {
        kind: 'stream',
        streamStart: 0,
        startOffset: stage.at.offset,
        scanner: new StreamScanner({ position: 0, db: stage.db }),
      };
    }
    if (replid !== null && replid !== this.#replid) this.#rename(replid);
    this.#server?.pump();
    if (this.connected) this.#listener.waiting(null);
  }

  interrupted(error: CutoverError): void {
    this.#listener.waiting(`the source: ${error.message}`);
  }

  // ---- ReplicaListener: what the target asks and says ----------------------------------------------------

  answer(request: { readonly replid: string; readonly offset: number }): PsyncAnswer {
    const stage = this.#stage;
    switch (stage.kind) {
      case 'idle':
      case 'back':
        return { kind: 'wait' };
      case 'payload': {
        const { framing, position, streamStart } = stage;
        const known = streamStart !== null && this.#isFollowed(request);
        const reached = (streamStart ?? 0) + request.offset - 1 - position.offset;
        // it has come to the end of the copy without our hearing of it
        if (known && reached >= streamStart) {
          // what an earlier process had handed out last may have to come from the source again
          if (reached > this.#spool.end) return { kind: 'wait' };
          return { kind: 'continue', replid: this.#replid, position: reached };
        }
        if (this.#spool.start > 0 || this.#handouts >= MOST_HANDOUTS) {
          this.#copyLost('the target broke off while it was loading');
          return { kind: 'wait' };
        }
        // it keeps what it holds until it is begun to be handed out, and waiting costs it nothing
        if (this.#spool.end === 0 || this.#valve.paused) return { kind: 'wait' };
        return { kind: 'full', replid: this.#replid, offset: position.offset, framing };
      }
      case 'stream': {
        // what is asked for is the first byte that is wanted
        const position = stage.streamStart + (request.offset - 1 - stage.startOffset);
        const own = isUpTo(this.#ownIds, request);
        const known = own || this.#isFollowed(request);
        if (!known || position < this.#spool.start || position > this.#spool.end) {
          this.#copyLost('the target has lost its copy');
          return { kind: 'wait' };
        }
        const inZero = own ? this.#goesOnInZero(stage, position) : 'yes';
        if (inZero === 'yes') return { kind: 'continue', replid: this.#replid, position };
        if (inZero === 'no') this.#copyLost('the target no longer knows the database of the stream');
        else this.#listener.nudge();
        return { kind: 'wait' };
      }
      default:
        return assertNever(stage);
    }
  }

  attached(answer: PsyncAnswer): void {
    if (answer.kind === 'continue') this.#listener.waiting(null);
    else this.#handouts++;
    if (this.#stopped) return;
    // until the mark has been found nothing is sent beyond what has been read
    const stage = this.#stage;
    const searching = stage.kind === 'payload' && stage.streamStart === null;
    this.#server?.holdAt(searching ? this.#read : null);
  }

  reached(): void {
    this.#onReached();
  }

  sent(position: number): void {
    const stage = this.#stage;
    if (stage.kind !== 'payload') return;
    this.#snapshotBytes = Math.max(
      this.#snapshotBytes,
      Math.min(position, stage.streamStart ?? Number.POSITIVE_INFINITY),
    );
    this.#spool.release(
      Math.min(position, stage.reader.keepFrom, stage.streamStart ?? Number.POSITIVE_INFINITY),
    );
  }

  acknowledged(offset: number): void {
    if (this.#closedBy !== null) return;
    const stage = this.#stage;
    if (stage.kind === 'payload') {
      const { streamStart, position } = stage;
      if (streamStart === null || offset < position.offset || this.#sent < streamStart) return;
      this.#stage = {
        kind: 'stream',
        streamStart,
        startOffset: position.offset,
        scanner: new StreamScanner({ position: streamStart, db: this.#auxDb }),
      };
      this.#spool.release(streamStart);
      this.#keeper.end();
      this.#tail.passed({ position: streamStart, db: this.#auxDb });
      this.#setApplied(offset);
      this.#listener.snapshotLoaded([]);
      return;
    }
    if (stage.kind === 'stream' && offset > this.#applied.value) this.#setApplied(offset);
  }

  detached(reason: string): void {
    if (this.#closedBy !== null) return;
    this.#listener.waiting(`the target: ${reason}`);
  }

  failed(error: CutoverError): void {
    this.#fail(error);
  }

  // ---- inside --------------------------------------------------------------------------------------------

  /** The target loads the snapshot by itself: we only look where it ends. */
  readonly #sink: RdbSink = {
    ...IGNORING_SINK,
    aux: (_start, name, value) => {
      if (name === 'repl-stream-db') this.#auxDb = Math.max(0, parseOffset(value.toString('latin1')) ?? 0);
    },
  };

  get #sent(): number {
    return this.#server?.sentPosition ?? -1;
  }

  /** How far the payload has been read, its mark included where it is complete. */
  get #read(): number {
    const stage = this.#stage;
    if (stage.kind !== 'payload') return 0;
    return stage.streamStart ?? stage.reader.position;
  }

  #pump(): void {
    if (this.#closedBy !== null) return;
    try {
      if (this.#stage.kind === 'payload') this.#readPayload(this.#stage);
      this.#server?.pump();
    } catch (error) {
      this.#fail(toCutoverError(error));
    }
  }

  /** Looks at the payload beside its way to the target: for its end, its keys, and damage. */
  #readPayload(stage: Stage & { kind: 'payload' }): void {
    const { reader, framing } = stage;
    const spool = this.#spool;
    const until = reader.position + TURN_BYTES;
    this.#looking = false;
    while (!reader.done) {
      if (reader.position > until) {
        this.#looking = true;
        setImmediate(() => this.#pump());
        break;
      }
      const end = framing.kind === 'length' ? Math.min(spool.end, framing.bytes) : spool.end;
      const available = end - reader.position;
      const view = spool.view(reader.position, reader.want).subarray(0, available);
      if (view.length > 0 && reader.consume(view)) continue;
      if (view.length >= available) break;
    }
    this.#keys = reader.keys;
    if (framing.kind === 'length') return;
    const { length } = framing.mark;
    if (reader.done && stage.streamStart === null && spool.end - reader.position >= length) {
      if (!spool.view(reader.position, length).subarray(0, length).equals(framing.mark)) {
        throw new RdbFormatError('the mark behind the snapshot is not the announced one', reader.position);
      }
      stage.streamStart = reader.position + length;
      this.#server?.payloadEnd(stage.streamStart);
    }
    if (this.connected && !this.#stopped)
      this.#server?.holdAt(stage.streamStart === null ? this.#read : null);
  }

  #isFollowed(request: { readonly replid: string; readonly offset: number }): boolean {
    return request.replid === this.#replid || isUpTo(this.#formerIds, request);
  }

  /** Whether a target that begins at `position` in database 0 does the right thing; `unseen`: nothing came behind it. */
  #goesOnInZero(stage: Stage & { kind: 'stream' }, position: number): 'yes' | 'no' | 'unseen' {
    if (stage.scanner.position <= position) {
      const scanner = stage.scanner.copy();
      this.#scan(scanner, position);
      if (scanner.boundary.position === position && scanner.boundary.db === 0) return 'yes';
    }
    const available = this.#spool.end - position;
    if (available === 0) return 'unseen';
    // a command that is not complete says nothing yet; one so long is none that selects
    const first = firstThatMatters(this.#spool.view(position, Math.min(available, PEEK_BYTES)));
    if (first === null) return available < PEEK_BYTES ? 'unseen' : 'no';
    return first === 'select' ? 'yes' : 'no';
  }

  /** The source's history goes on under another name: the target learns it by asking again. */
  #rename(replid: string): void {
    const stage = this.#stage;
    const until = stage.kind === 'stream' ? this.#offsetAt(stage, this.#spool.end) : Number.POSITIVE_INFINITY;
    this.#formerIds.set(this.#replid, until);
    this.#replid = replid;
    if (stage.kind === 'payload') {
      stage.position = { replid, offset: stage.position.offset };
      this.#keeper.renamed(stage.position, stage.framing);
    }
    this.#server?.disconnect('the history of the source has a new id');
  }

  #copyLost(reason: string): void {
    this.#listener.note(`${reason}: a new one is taken`);
    this.#stage = { kind: 'idle' };
    // answer() is in the middle of something
    setImmediate(() => this.#listener.redial());
  }

  #offsetAt(stage: Stage & { kind: 'payload' | 'stream' }, position: number): number {
    const startOffset = stage.kind === 'stream' ? stage.startOffset : stage.position.offset;
    return startOffset + position - (stage.streamStart ?? 0);
  }

  #setApplied(offset: number): void {
    const stage = this.#stage;
    if (stage.kind !== 'stream') return;
    const position = Math.min(stage.streamStart + offset - stage.startOffset, this.#spool.end);
    this.#appliedPosition = position;
    try {
      this.#scan(stage.scanner, position);
    } catch (error) {
      this.#fail(toCutoverError(error));
      return;
    }
    this.#spool.release(Math.min(position, this.#tail.passed(stage.scanner.boundary)));
    this.#applied.reach(offset);
  }

  /** Moves a scanner on to `end`, or to the first boundary at or behind `firstBoundaryAt`. */
  #scan(scanner: StreamScanner, end: number, firstBoundaryAt = Number.POSITIVE_INFINITY): void {
    while (scanner.position < end && scanner.boundary.position < firstBoundaryAt) {
      const available = end - scanner.position;
      const view = this.#spool
        .view(scanner.position, Math.min(scanner.want, available))
        .subarray(0, available);
      if (!scanner.consume(view, firstBoundaryAt) && view.length >= available) return;
    }
  }

  /** Somebody waits: the target is asked again and again, since it tells by itself only each second. */
  async #look(): Promise<void> {
    while (this.#applied.awaited && this.#closedBy === null && !this.#signal.aborted) {
      const before = this.#applied.value;
      await this.refresh();
      if (this.#applied.value > before || !this.#applied.awaited) continue;
      // a timer of 0 ms takes one: applications wait meanwhile
      await (this.connected ? nextTurn() : delay(20));
    }
  }

  #end(reason: CutoverError): void {
    this.#closedBy ??= reason;
    this.#applied.end(this.#closedBy);
    void this.#server?.close();
  }

  #fail(error: CutoverError): void {
    if (this.#closedBy !== null) return;
    this.#end(error);
    this.#listener.failed(error);
  }
}

/** Whether one of these histories is asked for, at a place up to which it is good. */
function isUpTo(
  histories: ReadonlyMap<string, number>,
  request: { readonly replid: string; readonly offset: number },
): boolean {
  const until = histories.get(request.replid);
  return until !== undefined && request.offset - 1 <= until;
}

/** Commands that do the same in every database. */
const ANYWHERE = new Set(['ping', 'replconf', 'publish', 'spublish']);

/** Name, in lower case, of the first command for which the selected database matters; null: none is complete. */
function firstThatMatters(view: Buffer): string | null {
  for (let pos = 0; pos < view.length; ) {
    const next = scanCommand(view, pos, view.length, 0);
    if (next < 0) return null;
    const name = view.toString('latin1', frame.nameStart, frame.nameEnd).toLowerCase();
    if (frame.argumentCount > 0 && !ANYWHERE.has(name)) return name;
    pos = next;
  }
  return null;
}
