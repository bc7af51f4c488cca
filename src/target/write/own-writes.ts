/**
 * Tells our own writes from those of the applications in the stream of a server that we feed. The way back needs it:
 * there we follow the new master, and what we ourselves brought to it must not go back to where it came from.
 *
 * Two marks make that possible, both commands on the checkpoint, written in database 0:
 *
 *     MULTI  HSET checkpoint run <run>  <commands of the old source>  HMSET checkpoint …  EXEC    a batch of ours
 *     HSET checkpoint opened <run>                                     applications are let in now
 *
 * A value that does not change is propagated all the same (measured on 2.8, 3.2, 5.0, 6.0, 6.2, 7.0, 7.2, 7.4, 8.2,
 * Valkey 8.1 and 9.1). StreamWriter asks for each command; database, position and boundaries stay its business. Pure.
 */
import { commandArguments } from '../../resp/arguments.ts';
import { frame, scanArgument } from '../../resp/command-frame.ts';
import { CHECKPOINT_KEY } from './checkpoint.ts';
import { LEASE_KEY } from './lease.ts';
import { type StreamAction, sameName } from './stream-rules.ts';

const CHECKPOINT = Buffer.from(CHECKPOINT_KEY, 'latin1');
const LEASE = Buffer.from(LEASE_KEY, 'latin1');
const HSET = Buffer.from('hset', 'latin1');
const HMSET = Buffer.from('hmset', 'latin1');
const EVAL = Buffer.from('eval', 'latin1');

/** The first command of a batch of ours, right behind MULTI and in database 0. */
export function batchMark(run: string): string[] {
  return ['HSET', CHECKPOINT_KEY, 'run', run];
}

/** What is written in database 0, outside of any transaction, right before applications may write. */
export function openedMark(run: string): string[] {
  return ['HSET', CHECKPOINT_KEY, 'opened', run];
}

export interface OwnWritesSettings {
  /** The run whose openedMark() is waited for. */
  readonly run: string;
  /**
   * True: everything before openedMark() is left out; the stream may begin anywhere, its database need not be known.
   * False: everything counts from the first byte.
   */
  readonly waitsForMark: boolean;
}

/** What becomes of one command. */
type Verdict =
  | 'pass'
  | 'leave-out'
  /** Left out; it is the mark: from here on everything counts, and database 0 is selected. */
  | 'opened';

/** A transaction is whose first command says. */
type Transaction = 'none' | 'undecided' | 'ours' | 'theirs';

/** Serves one StreamWriter. */
export class OwnWrites {
  readonly #run: string;
  readonly #waitsForMark: boolean;
  #openedAt: number | null = null;
  #waiting: boolean;
  #transaction: Transaction = 'none';

  constructor(settings: OwnWritesSettings) {
    this.#run = settings.run;
    this.#waitsForMark = settings.waitsForMark;
    this.#waiting = settings.waitsForMark;
  }

  /** True from the mark on; always where none is waited for. */
  get opened(): boolean {
    return !this.#waiting;
  }

  /**
   * The stream is read from `position` on, for the first time or again. Positions must go on from those before: where
   * a full copy made them begin anew, the mark would be waited for in vain.
   */
  beginAt(position: number): void {
    this.#transaction = 'none';
    this.#waiting = this.#waitsForMark && (this.#openedAt === null || position < this.#openedAt);
  }

  /**
   * What becomes of the command at view[pos..next), the last that scanCommand() found. Those that write nothing pass:
   * the caller follows them, also within what is left out. @param position of `next`
   */
  judge(action: StreamAction, view: Buffer, pos: number, next: number, position: number): Verdict {
    switch (action) {
      case 'select':
      case 'consume':
      case 'replconf':
        return 'pass';
      case 'multi':
        this.#transaction = 'undecided';
        return 'pass';
      case 'exec':
        this.#transaction = 'none';
        return 'pass';
      case 'pass':
      case 'aside':
      case 'publish':
      case 'rreplay':
      case 'rewrite':
      case 'ttl':
        break;
    }
    const key = firstKey(view, next);
    if (this.#transaction === 'undecided') {
      const isMark = key === 'checkpoint' && (nameIs(HSET, view) || nameIs(HMSET, view));
      this.#transaction = isMark ? 'ours' : 'theirs';
    }
    if (this.#waiting) {
      if (key !== 'checkpoint' || !this.#isOpenedMark(view.subarray(pos, next))) return 'leave-out';
      this.#waiting = false;
      this.#openedAt = position;
      return 'opened';
    }
    return key !== null || this.#transaction === 'ours' ? 'leave-out' : 'pass';
  }

  /** The same for a command too big to be in view as a whole: our marks and our keys' values never are. */
  judgeBig(): Verdict {
    if (this.#transaction === 'undecided') this.#transaction = 'theirs';
    return this.#waiting || this.#transaction === 'ours' ? 'leave-out' : 'pass';
  }

  #isOpenedMark(command: Buffer): boolean {
    const words = commandArguments(command).map((word) => word.toString('latin1'));
    const mark = openedMark(this.#run);
    return words.length === mark.length && mark.every((word, i) => i === 0 || word === words[i]);
  }
}

/** Which of our keys the framed command begins with. `next` is its end. */
function firstKey(view: Buffer, next: number): 'checkpoint' | 'lease' | null {
  // sources that send lines (<= 2.6) do not know PSYNC: no way back leads there
  if (frame.inline) return null;
  // EVAL script numkeys key …: up to 4.0 the lease's script is propagated as it is (protocol.md 2.2)
  const keyIndex = nameIs(EVAL, view) ? 3 : 1;
  if (frame.argumentCount <= keyIndex) return null;
  let at = frame.nameEnd + 2;
  for (let i = 1; i < keyIndex; i++) at = scanArgument(view, at, next, 0) + frame.bodyStart + 2;
  const length = scanArgument(view, at, next, 0);
  if (sameBytes(CHECKPOINT, view, frame.bodyStart, length)) return 'checkpoint';
  return sameBytes(LEASE, view, frame.bodyStart, length) ? 'lease' : null;
}

function sameBytes(wanted: Buffer, view: Buffer, start: number, length: number): boolean {
  return length === wanted.length && view.compare(wanted, 0, length, start, start + length) === 0;
}

function nameIs(name: Buffer, view: Buffer): boolean {
  return sameName(name, view, frame.nameStart, frame.nameEnd);
}
