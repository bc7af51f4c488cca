/**
 * Replays the source's stream on the target, exactly once. Commands go in batches
 *
 *     MULTI   [mark]   [SELECT db]   <commands as they came>   SELECT 0   HMSET checkpoint …   EXEC
 *
 * so that data and position change together. Transactions of the source are merged whole into a batch. While one
 * batch executes, the next is already queued on the target, but its EXEC is held back until the first has
 * succeeded: order is kept whatever fails. Runs of commands are copied as bytes, arguments are not touched.
 * The mark tells a reader of the target's own stream that the batch is ours: own-writes.ts, for the way back.
 *
 * Like the RDB reader it is shown the bytes at `position` and moves on; after a failure attach() begins again at
 * the last applied position.
 */
import { InvariantError, TargetError } from '../../core/errors.ts';
import { printable } from '../../core/text.ts';
import { FORM, type Form } from '../../rdb/forms.ts';
import { TYPE } from '../../rdb/opcodes.ts';
import { commandArguments } from '../../resp/arguments.ts';
import type { CommandBuffer } from '../../resp/command-buffer.ts';
import { frame, garbage, scanArgument, scanCommand } from '../../resp/command-frame.ts';
import { encodeCommand } from '../../resp/encode.ts';
import { trailingNumber } from '../../resp/stream-scanner.ts';
import { CHECKPOINT_KEY, type Checkpoint, checkpointFields } from './checkpoint.ts';
import type { TargetConnection } from './connection.ts';
import type { HeldTtls } from './held-ttls.ts';
import { isKeyAt, type KeyPositions, type KeyRange } from './key-positions.ts';
import { LEASE_KEY } from './lease.ts';
import { type Lowering, type LoweringContext, loweringsFor, type StreamLoss } from './lowering.ts';
import { type MissingForms, NONE_MISSING } from './missing-forms.ts';
import { writesOfScript } from './own-scripts.ts';
import { batchMark, type OwnWrites } from './own-writes.ts';
import { badFrame, ReplayFrames } from './replay-frames.ts';
import { judgeExec, judgeReply, type ReplyVerdict } from './reply-policy.ts';
import type { SkipRules } from './skipped.ts';
import {
  ActionTable,
  absoluteExpiry,
  expiryWord,
  rewriteCommand,
  type StreamAction,
  sameName,
  type WordAt,
} from './stream-rules.ts';
import { lowerCase, type Word } from './words.ts';
import { WriteTally } from './write-tally.ts';

/** A batch is closed at this size; other clients of the target wait for one batch at most. */
const BATCH_BYTES = 256 * 1024;
const BATCH_COMMANDS = 4096;
/** Commands above this pass through in pieces instead of being held. */
const HELD_BYTES = 1 << 20;
/** Those that must be held all the same, since they are rewritten, are no longer than this: a string's 512 MiB, and room. */
const LARGEST_REWRITTEN = 600 << 20;
/** What has words of a few bytes, from any server. */
const SHORT_COMMANDS: ReadonlySet<StreamAction> = new Set(['select', 'multi', 'exec', 'consume', 'replconf']);
/** Options and numbers are no longer than this. */
const LONGEST_WORD = 32;

/** Tags of replies that belong to no command of the source. */
const OURS = -1;
const EXEC = -2;

export interface StreamListener {
  /** Everything before this position is on the target, with its checkpoint or needing none. */
  applied(position: number): void;
  /** The source asks how far we are. */
  ackWanted(): void;
  /** A command of an executed transaction was answered with an error: data differ. */
  divergence(position: number, line: string): void;
  /**
   * Something of the command at `position`, and all of its kind behind it, is not to go to the target, which is too old
   * for it. Told once; what this throws, consume() throws.
   */
  loses(loss: StreamLoss, position: number): void;
  /**
   * A command is left out, since the target does not know it, or has no form for what it brings; `what` names the kind,
   * `key` is its first argument, where it has one. Told for each; what this throws, consume() throws.
   */
  skips(what: string, key: Buffer | null, position: number): void;
  /**
   * The batch was not executed; nothing of it or behind it is on the target. Or it was, but without what we added to
   * it: then the verdict is `fatal`. The connection is of no more use.
   */
  rejected(position: number, line: string, verdict: ReplyVerdict): void;
}

export interface StreamSettings {
  /** True for sources before 7.0: they send relative TTLs. */
  readonly relativeTtls: boolean;
  /** What the source may send and the target does not know; left out: nothing. */
  readonly missing?: MissingForms;
  /** What may be left out; left out itself or null: nothing. */
  readonly skip?: SkipRules | null;
  /** The forms of values that the target takes. */
  readonly forms: ReadonlySet<Form>;
  readonly forwardPublish: boolean;
  /** See TargetCapabilities. */
  readonly execIsWhole: boolean;
  readonly run: string;
  readonly receivedAt: (position: number) => number;
  /** Which expiries are held back; left out or null: none is. */
  readonly ttls?: HeldTtls | null;
  /** Each batch begins with batchMark(); left out: not. See StreamWriter.marksBatches. */
  readonly markBatches?: boolean;
  /** The source is fed by us, too: what of its stream is our own stays out. Left out or null: everything counts. */
  readonly leaveOut?: OwnWrites | null;
  /** Where what is executed is counted, the same as the connection's; left out: nobody asks. */
  readonly tally?: WriteTally;
  /** Where the keys that are written are noted (--allow-nonempty); left out or null: they are not. */
  readonly written?: KeyPositions | null;
}

interface Batch {
  /** Position of each queued command, in order; OURS for our own. */
  readonly positions: number[];
  readonly startBytes: number;
  readonly startPosition: number;
  commands: number;
  /** Those of them that the target counts as writes. */
  writes: number;
  queueError: { readonly line: string; readonly position: number } | null;
  endPosition: number;
  /** Database selected in the source's stream at `endPosition`. */
  endDb: number;
  closed: boolean;
  /** True from EXEC on. */
  executing: boolean;
}

/** A command too big to be held, on its way through. */
interface Passing {
  readonly start: number;
  readonly name: string;
  /** Only passed over: nothing of it goes to the target. */
  readonly leftOut: boolean;
  /** Its short words are looked at: it may set an expiry. */
  readonly ttl: boolean;
  /** Where the keys stand that are to be noted; null: none is. */
  readonly keys: KeyRange | null;
  readonly argumentCount: number;
  index: number;
  bodyLeft: number;
  key: Buffer;
  readonly words: (string | null)[];
}

const ascii = (text: string): Buffer => Buffer.from(text, 'latin1');
const MULTI = ascii('*1\r\n$5\r\nMULTI\r\n');
const SPUBLISH = ascii('spublish');
const EXEC_COMMAND = ascii('*1\r\n$4\r\nEXEC\r\n');

export class StreamWriter {
  readonly #settings: StreamSettings;
  readonly #listener: StreamListener;
  readonly #leaveOut: OwnWrites | null;
  readonly #ttls: HeldTtls | null;
  readonly #written: KeyPositions | null;
  readonly #actions: ActionTable;
  readonly #missing: MissingForms;
  readonly #lowerings: ReadonlyMap<string, Lowering>;
  readonly #leftOut: ReadonlySet<string>;
  #forms: ReadonlySet<Form>;
  readonly #lost = new Set<StreamLoss>();
  readonly #frames = new ReplayFrames();
  readonly #tally: WriteTally;
  #marksBatches: boolean;
  #connection: TargetConnection | null = null;
  #replid = '';
  /** Replication offset = position + shift - newlines before the position. */
  #shift = 0;
  /** Positions of bare newlines since the checkpoint: they have no place in the history (protocol.md 1.12). */
  #newlines: number[] = [];
  /** Database selected in the source's stream. */
  #db = 0;
  /** Database selected in the batch on the target; -1: none yet. */
  #targetDb = -1;
  #inTransaction = false;
  #passing: Passing | null = null;
  /** Oldest first; at most one executing, one held, one open. */
  #batches: Batch[] = [];
  /** True while a closed batch waits for its EXEC: nothing may be queued behind it. */
  #held = false;
  /** Position up to which a checkpoint is on the target. */
  #checkpointed = 0;
  #checkpointedDb = 0;
  #applied = 0;
  #commands = 0;

  position = 0;
  want = 1;

  constructor(settings: StreamSettings, listener: StreamListener) {
    this.#settings = settings;
    this.#listener = listener;
    this.#leaveOut = settings.leaveOut ?? null;
    this.#ttls = settings.ttls ?? null;
    this.#written = settings.written ?? null;
    this.#missing = settings.missing ?? NONE_MISSING;
    this.#leftOut = settings.skip?.commands ?? new Set();
    this.#forms = settings.forms;
    const restores =
      (this.#ttls !== null && this.#forms.has(FORM.hashTtls)) ||
      !this.#forms.has(TYPE.module2) ||
      settings.skip?.modules === true;
    this.#lowerings = loweringsFor(this.#missing, restores);
    const looked = [...this.#lowerings.keys(), ...this.#leftOut];
    this.#actions = new ActionTable(settings.relativeTtls, this.#ttls !== null, looked);
    this.#tally = settings.tally ?? new WriteTally();
    this.#marksBatches = settings.markBatches ?? false;
  }

  /** Whether batches begin with batchMark(); counts from the next batch that is opened. */
  set marksBatches(on: boolean) {
    this.#marksBatches = on;
  }

  /** The forms of values that the target takes, as it has shown itself. */
  takeForms(forms: ReadonlySet<Form>): void {
    this.#forms = forms;
  }

  /** Commands sent to the target since the start, retries counted again. */
  get commands(): number {
    return this.#commands;
  }

  get replid(): string {
    return this.#replid;
  }

  /** Everything before this position is on the target together with its checkpoint: a retry never begins earlier. */
  get checkpointed(): number {
    return this.#checkpointed;
  }

  /** Database selected in the source's stream at `checkpointed`. */
  get checkpointedDb(): number {
    return this.#checkpointedDb;
  }

  /**
   * Begins, or begins again, at `position`, whose offset in the history `replid` is `offset`. Without a connection
   * only the place is taken: consume() must wait until there is one. With `leaveOut` positions must go on from those
   * before: a full copy needs a writer of its own.
   */
  attach(
    connection: TargetConnection | null,
    position: number,
    place: { replid: string; offset: number; db: number },
  ): void {
    this.#connection = connection;
    this.#replid = place.replid;
    this.#shift = place.offset - position;
    this.#newlines = [];
    this.#db = place.db;
    this.#targetDb = -1;
    this.#inTransaction = false;
    this.#passing = null;
    this.#batches = [];
    this.#held = false;
    this.#checkpointed = position;
    this.#checkpointedDb = place.db;
    this.#applied = position;
    this.#leaveOut?.beginAt(position);
    this.#frames.forget();
    this.position = position;
    this.want = 1;
  }

  /**
   * After a break, before attach(): what the checkpoint that was found says of the batch whose EXEC was not answered. It
   * says nothing of one that did not move it.
   * @param position of the checkpoint, counted as all positions before
   */
  settleUnanswered(position: number): void {
    const [batch] = this.#batches;
    if (batch?.executing !== true || batch.endPosition === this.#checkpointed) return;
    this.#tally.settle(batch.writes, position >= batch.endPosition);
    batch.writes = 0;
  }

  /** The history goes on under another name (`+CONTINUE <replid>`). */
  renameHistory(replid: string): void {
    this.#replid = replid;
  }

  offsetAt(position: number): number {
    return position + this.#shift - this.#newlines.filter((at) => at < position).length;
  }

  positionAt(offset: number): number {
    let position = offset - this.#shift;
    for (const at of this.#newlines) if (at < position) position++;
    return position;
  }

  /** Looks at `view`, the bytes from `position` on; true where it came on. */
  consume(view: Buffer): boolean {
    const leaveOut = this.#leaveOut;
    const base = this.position;
    const end = view.length;
    let pos = 0;
    let run = 0;
    this.want = 1;
    while (pos < end && !this.#held && !this.#choked()) {
      if (this.#passing !== null) {
        pos = this.#pass(this.#passing, view, pos, end, this.offsetAt(base));
        run = pos;
        if (this.#passing !== null) break;
        if (this.#batchIsFull(0)) this.#closeBatch(base + pos);
        continue;
      }
      const next = scanCommand(view, pos, end, base + this.#shift - this.#newlines.length);
      if (next < 0) {
        if (frame.needed > HELD_BYTES && this.#startPassing(view, pos, end, base)) {
          this.#copyRun(view, run, pos);
          run = pos;
          continue;
        }
        // doubled: many small arguments make themselves known one by one
        this.want = Math.max(frame.needed, 2 * (end - pos));
        break;
      }
      if (frame.argumentCount === 0) {
        // a bare newline: no current server sends one
        this.#copyRun(view, run, pos);
        for (; pos < next; pos++) this.#newlines.push(base + pos);
        run = next;
        continue;
      }
      let action = this.#actions.of(view, frame.nameStart, frame.nameEnd);
      // the commonest of all: SET key value
      if (action === 'ttl' && frame.argumentCount <= 3) action = 'pass';
      if (leaveOut !== null && this.#isLeftOut(leaveOut, action, view, pos, next, base)) {
        this.#copyRun(view, run, pos);
        pos = next;
        run = next;
        continue;
      }
      if (this.#written !== null && isWrite(action)) this.#written.note(view, pos, next, this.#db);
      if (action === 'pass' && !frame.inline) {
        if (this.#targetDb !== this.#db || this.#openBatch === null) {
          this.#copyRun(view, run, pos);
          run = pos;
          this.#prepare(base + pos);
        }
        this.#expectCommand(base + pos);
        pos = next;
      } else {
        this.#copyRun(view, run, pos);
        this.#special(action, view, pos, next, base + pos);
        pos = next;
        run = next;
      }
      if (this.#batchIsFull(pos - run)) {
        this.#copyRun(view, run, pos);
        run = pos;
        this.#closeBatch(base + pos);
      }
    }
    this.#copyRun(view, run, pos);
    this.position = base + pos;
    return pos > 0;
  }

  /** No more bytes for now: closes what may be closed, so that nothing waits for traffic that may not come. */
  settle(): void {
    const open = this.#openBatch;
    if (this.midway) {
      this.#connection?.out.flush();
      return;
    }
    if (open !== null) {
      if (this.#batches.length === 1) this.#closeBatch(this.position);
    } else if (this.#batches.length === 0) {
      this.#advance(this.position);
    }
  }

  /** True inside a transaction, or a huge command, of the source: more bytes are needed to come to an end. */
  get midway(): boolean {
    return this.#inTransaction || this.#passing !== null;
  }

  /** Nothing of the stream is half done: every batch is answered and no transaction is open. */
  get idle(): boolean {
    return this.#batches.length === 0 && !this.midway;
  }

  /** True where applied has moved past the last checkpoint by commands that write nothing (PING). */
  get checkpointIsOld(): boolean {
    return this.#applied > this.#checkpointed;
  }

  /** Writes a checkpoint by itself; only where idle. */
  writeCheckpoint(): void {
    if (!this.idle) throw new InvariantError('a checkpoint in the middle of a batch');
    this.#prepare(this.position);
    this.#closeBatch(this.position);
  }

  // ---- replies -------------------------------------------------------------------------------------------

  reply(tag: number, line: string | null): void {
    const batch = this.#batches[0];
    if (batch === undefined) throw new InvariantError('a reply without a batch');
    if (tag !== EXEC) {
      if (line !== null) batch.queueError ??= { line, position: tag >= 0 ? tag : batch.startPosition };
      if (!this.#settings.execIsWhole && batch.closed && this.#live.unanswered === 0)
        this.#executeQueued(batch);
      return;
    }
    if (line !== null) {
      const position = batch.queueError?.position ?? batch.startPosition;
      this.#connection = null;
      // it was refused as a whole
      this.#tally.settle(batch.writes, false);
      batch.writes = 0;
      this.#listener.rejected(
        position,
        batch.queueError?.line ?? line,
        judgeExec(line, batch.queueError?.line ?? null),
      );
      return;
    }
    this.#batches.shift();
    this.#checkpointed = batch.endPosition;
    this.#checkpointedDb = batch.endDb;
    const passed = this.#newlines.filter((at) => at < batch.endPosition).length;
    this.#newlines.splice(0, passed);
    this.#shift -= passed;
    this.#advance(batch.endPosition);
    const next = this.#batches[0];
    if (next?.closed === true) this.#executeWhenQueued();
  }

  /** Every command of the batch was answered, and EXEC was not sent. */
  #executeQueued(batch: Batch): void {
    const { queueError } = batch;
    if (queueError === null) {
      this.#execute();
      return;
    }
    // the end of the connection is the end of the transaction
    this.#connection = null;
    this.#listener.rejected(queueError.position, queueError.line, judgeReply(queueError.line));
  }

  nestedError(index: number, line: string): void {
    const batch = this.#batches[0];
    if (batch === undefined) throw new InvariantError('an error without a batch');
    const position = batch.positions[index] ?? OURS;
    if (position !== OURS) {
      this.#listener.divergence(position, line);
      return;
    }
    // without our SELECT commands went to another database, without our HMSET their position is not known
    this.#connection = null;
    this.#listener.rejected(batch.startPosition, line, 'fatal');
  }

  // ---- batches -------------------------------------------------------------------------------------------

  get #openBatch(): Batch | null {
    const last = this.#batches.at(-1);
    return last === undefined || last.closed ? null : last;
  }

  get #live(): TargetConnection {
    if (this.#connection === null) throw new InvariantError('the stream has no connection to go to');
    return this.#connection;
  }

  get #out(): CommandBuffer {
    return this.#live.out;
  }

  /** True where the connection has enough to do; asked now and then, not for each command that is held. */
  #choked(): boolean {
    const commands = this.#openBatch?.commands ?? 0;
    if ((commands & 0xff) !== 0 && this.#passing === null) return false;
    return this.#connection === null || this.#connection.full;
  }

  /** Makes sure that a batch is open and that it is in the stream's database. */
  #prepare(position: number): void {
    let batch = this.#openBatch;
    if (batch === null) {
      batch = {
        positions: [],
        startBytes: this.#out.totalBytes,
        startPosition: position,
        commands: 0,
        writes: 0,
        queueError: null,
        endPosition: position,
        endDb: this.#db,
        closed: false,
        executing: false,
      };
      this.#batches.push(batch);
      this.#live.expect(OURS);
      this.#out.raw(MULTI, 0, MULTI.length);
      this.#targetDb = -1;
      if (this.#marksBatches) {
        this.#send(OURS, 'SELECT', 0);
        this.#send(OURS, ...batchMark(this.#settings.run));
        this.#targetDb = 0;
      }
    }
    if (this.#targetDb !== this.#db) {
      this.#send(OURS, 'SELECT', this.#db);
      this.#targetDb = this.#db;
    }
  }

  #expectCommand(tag: number): void {
    this.#live.expect(tag);
    const batch = this.#openBatch!;
    batch.positions.push(tag);
    batch.commands++;
    batch.writes++;
    if (tag >= 0) this.#commands++;
  }

  #send(tag: number, ...words: readonly (string | number | Buffer)[]): void {
    this.#expectCommand(tag);
    this.#out.command(...words);
    if (words[0] === 'SELECT') this.#countAside();
  }

  /** The same for what came of a command of the source: there may be any number of words. */
  #sendRewritten(tag: number, words: readonly Word[]): void {
    this.#expectCommand(tag);
    const bytes = encodeCommand(words);
    this.#out.raw(bytes, 0, bytes.length);
    switch (String(words[0]).toLowerCase()) {
      case 'select':
      case 'script':
        this.#countAside();
        break;
      case 'eval':
      case 'evalsha': {
        this.#countAside();
        const writes = writesOfScript(words);
        if (writes === null) this.#tally.meetScript();
        else this.#openBatch!.writes += writes;
        break;
      }
    }
  }

  /** As the target can take it, where it does not know it as it is. */
  #sendLowered(tag: number, name: string, words: readonly Word[]): void {
    if (this.#leftOut.has(name)) {
      const command = printable(name.toUpperCase(), 30);
      this.#skips(`${command}, which the target does not know`, words[1], tag);
      return;
    }
    const lowering = this.#lowerings.get(name);
    if (lowering === undefined) {
      this.#sendRewritten(tag, words);
      return;
    }
    const context: LoweringContext = {
      missing: this.#missing,
      forms: this.#forms,
      ttls: this.#ttls,
      db: this.#db,
      lose: (loss) => this.#lose(loss, tag),
      lacks: (what, key) => this.#skips(`RESTORE of ${what}`, key, tag),
    };
    for (const lowered of lowering(words, context)) this.#sendRewritten(tag, lowered);
  }

  #skips(what: string, key: Word | undefined, position: number): void {
    this.#listener.skips(what, Buffer.isBuffer(key) ? key : null, position);
  }

  #lose(loss: StreamLoss, position: number): void {
    if (this.#lost.has(loss)) return;
    this.#listener.loses(loss, position);
    this.#lost.add(loss);
  }

  /** The command that was sent last is none that the target counts as a write. */
  #countAside(): void {
    this.#openBatch!.writes--;
  }

  #copyRun(view: Buffer, start: number, end: number): void {
    if (end > start) this.#out.raw(view, start, end);
  }

  #batchIsFull(uncopiedBytes: number): boolean {
    const batch = this.#openBatch;
    if (batch === null || this.#inTransaction || this.#passing !== null) return false;
    return (
      batch.commands >= BATCH_COMMANDS ||
      this.#out.totalBytes - batch.startBytes + uncopiedBytes >= BATCH_BYTES
    );
  }

  #closeBatch(position: number): void {
    const batch = this.#openBatch;
    if (batch === null) throw new InvariantError('there is no batch to close');
    if (this.#targetDb !== 0) this.#send(OURS, 'SELECT', 0);
    const checkpoint: Checkpoint = {
      replid: this.#replid,
      offset: this.offsetAt(position),
      db: this.#db,
      run: this.#settings.run,
      phase: 'stream',
    };
    this.#send(OURS, 'HMSET', CHECKPOINT_KEY, ...checkpointFields(checkpoint));
    batch.endPosition = position;
    batch.endDb = this.#db;
    batch.closed = true;
    this.#held = true;
    if (this.#batches.length === 1) this.#executeWhenQueued();
    else this.#out.flush();
  }

  /** For the first batch: at once, or when all its commands are known to be queued, where EXEC would not look. */
  #executeWhenQueued(): void {
    if (this.#settings.execIsWhole) this.#execute();
    else this.#out.flush();
  }

  #execute(): void {
    this.#held = false;
    const batch = this.#batches[0]!;
    batch.executing = true;
    this.#live.expect(EXEC, batch.writes);
    this.#out.raw(EXEC_COMMAND, 0, EXEC_COMMAND.length);
    this.#out.flush();
  }

  #advance(position: number): void {
    if (position <= this.#applied) return;
    this.#applied = position;
    this.#listener.applied(position);
  }

  // ---- commands that do not simply pass ------------------------------------------------------------------

  /** True for a command that is one of our own writes: it is counted, and goes nowhere. */
  #isLeftOut(
    leaveOut: OwnWrites,
    action: StreamAction,
    view: Buffer,
    pos: number,
    next: number,
    base: number,
  ): boolean {
    const verdict = leaveOut.judge(action, view, pos, next, base + next);
    // before the mark the stream's database may have been unknown
    if (verdict === 'opened') this.#db = 0;
    return verdict !== 'pass';
  }

  /** @param at position of the command, or of the frame that it came in */
  #special(action: StreamAction, view: Buffer, pos: number, next: number, at: number): void {
    switch (action) {
      case 'consume':
        return;
      case 'publish':
        if (!this.#settings.forwardPublish) return;
        if (this.#lowerings.has('spublish') && sameName(SPUBLISH, view, frame.nameStart, frame.nameEnd)) {
          this.#sendLowered(at, 'spublish', []);
          return;
        }
        this.#forward(view, pos, next, at);
        this.#countAside();
        return;
      case 'aside':
        this.#forward(view, pos, next, at);
        this.#countAside();
        return;
      case 'replconf':
        this.#listener.ackWanted();
        return;
      case 'select':
        this.#db = trailingNumber(view, next);
        return;
      case 'multi':
        this.#inTransaction = true;
        return;
      case 'exec':
        this.#inTransaction = false;
        return;
      case 'pass':
        this.#forward(view, pos, next, at);
        return;
      case 'rewrite': {
        this.#prepare(at);
        const commands = rewriteCommand(commandArguments(view.subarray(pos, next)), {
          receivedAtMs: this.#settings.receivedAt(at),
          db: this.#db,
          ownKeys: [CHECKPOINT_KEY, LEASE_KEY],
          ttls: this.#ttls,
        });
        for (const words of commands) this.#sendLowered(at, lowerCase(words[0]), words);
        return;
      }
      case 'rreplay':
        this.#replay(commandArguments(view.subarray(pos, next)), at);
        return;
      case 'ttl': {
        // read before #forward: framing state is shared
        const words = commandArguments(view.subarray(pos, next));
        const word: WordAt = (i) => {
          const each = words[i];
          return each === undefined || each.length > LONGEST_WORD ? null : each.toString('latin1');
        };
        const name = words[0]!.toString('latin1').toLowerCase();
        const held = this.#heldExpiry(name, words.length, words[1]!, word);
        if (held !== null) {
          this.#prepare(at);
          const later = [...words.slice(0, held.index), held.text, ...words.slice(held.index + 1)];
          this.#sendLowered(at, name, later);
          return;
        }
        if (this.#lowerings.has(name)) {
          this.#prepare(at);
          this.#sendLowered(at, name, words);
        } else {
          this.#forward(view, pos, next, at);
        }
        if (this.#settings.relativeTtls) this.#expireAt(at, name, words.length, words[1]!, word);
      }
    }
  }

  /** The commands of a frame of KeyDB, each as if it had come by itself. @param at position of the frame */
  #replay(words: readonly Buffer[], at: number): void {
    const opened = this.#frames.open(words);
    if (opened === null) return;
    const { commands, db } = opened;
    if (db !== null) this.#db = db;
    for (let pos = 0; pos < commands.length; ) {
      const next = scanCommand(commands, pos, commands.length, 0);
      if (next < 0) throw badFrame();
      if (frame.argumentCount > 0) {
        const action = this.#actions.of(commands, frame.nameStart, frame.nameEnd);
        if (isWrite(action)) this.#written?.note(commands, pos, next, this.#db);
        this.#special(action, commands, pos, next, at);
      }
      pos = next;
    }
  }

  /** An absolute expiry that is to be another one on the target: which word, and how it is to read. */
  #heldExpiry(
    name: string,
    argumentCount: number,
    key: Buffer,
    word: WordAt,
  ): { readonly index: number; readonly text: string } | null {
    if (this.#ttls === null) return null;
    const found = expiryWord(name, argumentCount, word, this.#settings.relativeTtls);
    if (found === null) return null;
    const atMs = this.#ttls.hold(this.#db, key, 0, key.length, found.atMs);
    return atMs === found.atMs ? null : { index: found.index, text: String(atMs / found.unitMs) };
  }

  #forward(view: Buffer, pos: number, next: number, at: number): void {
    const inline = frame.inline;
    this.#prepare(at);
    if (inline) {
      this.#send(at, ...commandArguments(view.subarray(pos, next)));
      return;
    }
    this.#expectCommand(at);
    this.#out.raw(view, pos, next);
  }

  #expireAt(at: number, name: string, argumentCount: number, key: Buffer, word: WordAt): void {
    const expiry = absoluteExpiry(name, argumentCount, word, this.#settings.receivedAt(at));
    if (expiry === null) return;
    const held = this.#ttls?.hold(this.#db, key, 0, key.length, expiry) ?? expiry;
    this.#send(at, 'PEXPIREAT', key, held);
  }

  // ---- commands too big to be held ------------------------------------------------------------------------

  /** Sends the head of a big command on its way; false where the command must be held to be rewritten. */
  #startPassing(view: Buffer, pos: number, end: number, base: number): boolean {
    if (frame.inline || frame.nameEnd > end) return false;
    const action = this.#actions.of(view, frame.nameStart, frame.nameEnd);
    const name = view.toString('latin1', frame.nameStart, frame.nameEnd).toLowerCase();
    if (SHORT_COMMANDS.has(action)) {
      throw garbage(
        `a command ${printable(name.toUpperCase(), 30)} of over ${HELD_BYTES >> 20} MiB`,
        this.offsetAt(base + pos),
      );
    }
    // SET key value, without anything behind it, needs nothing
    const isLowered =
      this.#leftOut.has(name) || (this.#lowerings.has(name) && (name !== 'set' || frame.argumentCount > 3));
    const isRewritten = (action !== 'pass' && action !== 'ttl') || isLowered;
    if (isRewritten && frame.needed > LARGEST_REWRITTEN) throw tooBig(name, this.offsetAt(base + pos));
    if (isRewritten || this.#written?.mustSeeWhole(name) === true) return false;
    const leftOut = this.#leaveOut !== null && this.#leaveOut.judgeBig() !== 'pass';
    this.#passing = {
      start: base + pos,
      name,
      leftOut,
      ttl: action === 'ttl' && !leftOut,
      keys: this.#written?.rangeOf(name) ?? null,
      argumentCount: frame.argumentCount,
      index: -1,
      bodyLeft: 0,
      key: Buffer.alloc(0),
      words: [],
    };
    return true;
  }

  /** Goes on with a big command; returns how far it came. `offset`: of view[0], for errors. */
  #pass(passing: Passing, view: Buffer, from: number, end: number, offset: number): number {
    let pos = from;
    if (passing.index < 0) {
      const headEnd = view.indexOf(10, pos) + 1;
      if (!passing.leftOut) {
        this.#prepare(passing.start);
        this.#expectCommand(passing.start);
        this.#out.raw(view, pos, headEnd);
      }
      pos = headEnd;
      passing.index = 0;
    }
    while (pos < end) {
      if (passing.bodyLeft > 0) {
        const piece = Math.min(passing.bodyLeft, end - pos);
        if (!passing.leftOut) this.#out.raw(view, pos, pos + piece);
        passing.bodyLeft -= piece;
        pos += piece;
        if (passing.bodyLeft > 0) return pos;
      } else {
        const length = scanArgument(view, pos, end, offset);
        if (length < 0) return this.#wantMore(view, pos, end);
        const body = frame.bodyStart;
        const isKey = passing.index === 1;
        const isWord = length <= LONGEST_WORD;
        let held: Buffer | null = null;
        if (passing.keys !== null && isKeyAt(passing.keys, passing.index, passing.argumentCount)) {
          if (body + length > end) return this.#wantMore(view, pos, body + length);
          this.#written?.keys.add(this.#db, view, body, body + length);
        }
        if (passing.ttl && (isKey || isWord)) {
          if (body + length + 2 > end) return this.#wantMore(view, pos, body + length + 2);
          if (isKey) passing.key = Buffer.from(view.subarray(body, body + length));
          if (isWord) passing.words[passing.index] = view.toString('latin1', body, body + length);
          if (isWord) held = this.#heldWord(passing);
        }
        if (held !== null) {
          this.#out.bulk(held, 0, held.length);
          pos = body + length + 2;
        } else {
          if (!passing.leftOut) this.#out.raw(view, pos, body);
          passing.bodyLeft = length + 2;
          pos = body;
        }
        passing.index++;
      }
      if (passing.bodyLeft === 0 && passing.index === passing.argumentCount) {
        this.#passing = null;
        if (passing.ttl && this.#settings.relativeTtls) this.#expirePassed(passing);
        return pos;
      }
      if (this.#live.full) return pos;
    }
    return pos;
  }

  /** What goes to the target in the place of the word that was just read; null: the word itself. */
  #heldWord({ name, key, words, index }: Passing): Buffer | null {
    const held = this.#heldExpiry(name, index + 1, key, (i) => words[i] ?? null);
    return held?.index === index ? ascii(held.text) : null;
  }

  /** What follows a command that has passed, from a source whose expiries may be relative. */
  #expirePassed({ start, name, argumentCount, key, words }: Passing): void {
    const word: WordAt = (i) => words[i] ?? null;
    // ABSTTL stands behind the payload: too late to hold the expiry back in its place
    const held = name.startsWith('restore') ? this.#heldExpiry(name, argumentCount, key, word) : null;
    if (held === null) this.#expireAt(start, name, argumentCount, key, word);
    else this.#send(start, 'PEXPIREAT', key, held.text);
  }

  #wantMore(view: Buffer, pos: number, needed: number): number {
    this.want = Math.max(needed - pos, view.length - pos + 1);
    return pos;
  }
}

/** Whether a command of this kind may change keys, as far as its name says. */
function isWrite(action: StreamAction): boolean {
  return action === 'pass' || action === 'rewrite' || action === 'ttl';
}

function tooBig(name: string, offset: number): TargetError {
  const command = printable(name.toUpperCase(), 30);
  return new TargetError(
    `${command} at offset ${offset} is longer than ${LARGEST_REWRITTEN >> 20} MiB, and must be rewritten for this target`,
    {
      code: 'command-too-big',
      hint: 'choose a target of the same release as the source, or a newer one, and begin again',
      command,
    },
  );
}
