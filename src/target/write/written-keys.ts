/**
 * With --allow-nonempty: which keys of the target are ours. A second full copy removes these, and these alone, before
 * it is loaded. Their names lie in a file of the run folder, so that they outlive the process: a name is in the file
 * before the command that writes the key goes to the target's socket (flush() is called before each write to it). That
 * holds for kill -9; a machine that loses its power may lose the last names.
 *
 * The file is a sequence of frames, each written at once: u32 length of the body, u32 CRC-32 of it, body. The body is
 * a sequence of names: u32 database, u32 length, bytes. A frame that is torn at the end was never followed by its
 * commands: it is cut off. Names are never taken out again: a target that comes back with older data may hold keys of
 * an earlier copy. Where names can no longer be kept the file is removed, and no second copy is possible.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { ReplyError } from '../../client/reply-error.ts';
import type { Command, ServerSession } from '../../client/session.ts';
import { CheckpointError } from '../../core/errors.ts';
import { printable } from '../../core/text.ts';
import { CHECKPOINT_KEY } from './checkpoint.ts';
import { LEASE_KEY } from './lease.ts';

/** In the place of a database: what follows is the name of a function library. */
const LIBRARY = 0xffff_ffff;
const HEAD_BYTES = 8;
/** Names are gathered up to this size where nothing is sent meanwhile. */
const FRAME_BYTES = 64 * 1024;
const MOST_BYTES = 4 * 2 ** 30;
/** Names remembered, so that those written again and again are noted once; long ones are not worth it. */
const RECENT = 1 << 16;
const LONGEST_RECENT = 256;
const NAMES_AT_ONCE = 500;

/** Names of one database; `db` null: of function libraries. */
interface Names {
  readonly db: number | null;
  readonly names: readonly Buffer[];
}

export class WrittenKeys {
  readonly #file: string;
  readonly #note: (message: string) => void;
  /** null: names are no longer kept. */
  #fd: number | null = null;
  #bytes = 0;
  readonly #mostBytes: number;
  /** The frame under way, its head left free. */
  #frame = Buffer.allocUnsafe(HEAD_BYTES + FRAME_BYTES);
  #used = HEAD_BYTES;
  #recent: (Buffer | undefined)[] = new Array(RECENT);
  #lostBecause: string | null = null;

  /**
   * @param file made where it is missing
   * @param former true where an earlier process of the run has kept names: without its file they are lost
   * @param note for people: from when on, and why, a second copy is not possible
   * @throws CheckpointError `written-keys` where the file cannot be made or read
   */
  constructor(file: string, former: boolean, note: (message: string) => void, mostBytes = MOST_BYTES) {
    this.#file = file;
    this.#note = note;
    this.#mostBytes = mostBytes;
    try {
      this.#fd = openSync(file, former ? 'r+' : 'a+', 0o600);
      this.#cutTornFrame(this.#fd);
    } catch (cause) {
      if (!former || !isMissing(cause)) throw fileError(file, cause);
      this.#lostBecause = 'the file with their names is not in the run folder';
    }
  }

  /** Why it is no longer known which keys are ours; null: it is. */
  get lostBecause(): string | null {
    return this.#lostBecause;
  }

  /** Notes the key buf[start..end) of a database; to be called before the command that writes it is encoded. */
  add(db: number, buf: Buffer, start: number, end: number): void {
    if (this.#fd === null || this.#isRecent(db, buf, start, end)) return;
    const size = HEAD_BYTES + end - start;
    if (this.#used + size > this.#frame.length) {
      this.flush();
      if (HEAD_BYTES + size > this.#frame.length) this.#frame = Buffer.allocUnsafe(HEAD_BYTES + size);
    }
    const at = this.#used;
    this.#frame.writeUInt32LE(db, at);
    this.#frame.writeUInt32LE(end - start, at + 4);
    buf.copy(this.#frame, at + HEAD_BYTES, start, end);
    this.#used += size;
  }

  /** Notes a function library; as add(). */
  addLibrary(name: Buffer): void {
    this.add(LIBRARY, name, 0, name.length);
  }

  /** From now on keys of ours are not known any more. */
  lose(reason: string): void {
    if (this.#lostBecause !== null) return;
    this.#lostBecause = reason;
    this.#note(
      `it is no longer known which keys of the target are ours (${reason}): a second full copy would be refused`,
    );
    this.remove();
  }

  /** Brings what was noted to the file; before anything is sent to the target. */
  flush(): void {
    const length = this.#used - HEAD_BYTES;
    if (this.#fd === null || length === 0) return;
    const frame = this.#frame.subarray(0, this.#used);
    this.#used = HEAD_BYTES;
    frame.writeUInt32LE(length, 0);
    frame.writeUInt32LE(crc32(frame.subarray(HEAD_BYTES)), 4);
    if (this.#bytes + frame.length > this.#mostBytes) {
      this.lose('there are too many');
      return;
    }
    try {
      for (let at = 0; at < frame.length; ) {
        at += writeSync(this.#fd, frame, at, frame.length - at, this.#bytes + at);
      }
      this.#bytes += frame.length;
    } catch (error) {
      // the run itself can go on without them
      this.lose(printable(error instanceof Error ? error.message : String(error)));
    }
  }

  /** All names in the order in which they came, some more than once. Nothing may be noted meanwhile. */
  *names(): Generator<Names> {
    this.flush();
    const fd = this.#fd;
    if (fd === null) return;
    let db = -1;
    let names: Buffer[] = [];
    for (let at = 0; at < this.#bytes; ) {
      const body = bodyAt(fd, at, this.#bytes);
      if (body === null) throw fileError(this.#file, new Error(`it is damaged at byte ${at}`));
      at += HEAD_BYTES + body.length;
      for (let pos = 0; pos < body.length; ) {
        const nameDb = body.readUInt32LE(pos);
        const end = pos + HEAD_BYTES + body.readUInt32LE(pos + 4);
        if (names.length === NAMES_AT_ONCE || (names.length > 0 && nameDb !== db)) {
          yield { db: db === LIBRARY ? null : db, names };
          names = [];
        }
        db = nameDb;
        names.push(body.subarray(pos + HEAD_BYTES, end));
        pos = end;
      }
    }
    if (names.length > 0) yield { db: db === LIBRARY ? null : db, names };
  }

  /** The file stays, for a resume. */
  close(): void {
    if (this.#fd === null) return;
    this.flush();
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }

  /** Closes it, and the file goes. */
  remove(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
    this.#recent = [];
    try {
      rmSync(this.#file, { force: true });
    } catch (cause) {
      throw fileError(this.#file, cause);
    }
  }

  #isRecent(db: number, buf: Buffer, start: number, end: number): boolean {
    if (end - start > LONGEST_RECENT) return false;
    let hash = db;
    for (let i = start; i < end; i++) hash = (Math.imul(hash, 31) + buf[i]!) | 0;
    const slot = hash & (RECENT - 1);
    const known = this.#recent[slot];
    // behind the name stands its database
    const same =
      known !== undefined &&
      known.length === end - start + 4 &&
      known.readUInt32LE(end - start) === db &&
      buf.compare(known, 0, end - start, start, end) === 0;
    if (same) return true;
    const entry = Buffer.allocUnsafe(end - start + 4);
    buf.copy(entry, 0, start, end);
    entry.writeUInt32LE(db, end - start);
    this.#recent[slot] = entry;
    return false;
  }

  #cutTornFrame(fd: number): void {
    const { size } = fstatSync(fd);
    let at = 0;
    for (let body = bodyAt(fd, at, size); body !== null; body = bodyAt(fd, at, size)) {
      at += HEAD_BYTES + body.length;
    }
    ftruncateSync(fd, at);
    this.#bytes = at;
    // more than one frame that was being written
    if (size - at > HEAD_BYTES + FRAME_BYTES) this.lose('the file with their names is damaged');
  }
}

/**
 * Removes from a target all keys and function libraries that were noted. May be called again.
 * @param session in database 0, as it is left
 * @throws ReplyError, TargetError where the target does not do it
 */
export async function removeWritten(
  session: ServerSession,
  keys: WrittenKeys,
  unlink: boolean,
): Promise<void> {
  for (const { db, names } of keys.names()) {
    const commands: Command[] =
      db === null
        ? names.map((name) => ['FUNCTION', 'DELETE', name])
        : [
            ['SELECT', db],
            [unlink ? 'UNLINK' : 'DEL', ...names.filter((name) => db !== 0 || !isOwnKey(name))],
            // in the same write: others use this session, too
            ['SELECT', 0],
          ];
    for (const reply of await session.pipeline(commands.filter((words) => words.length > 1))) {
      if (reply instanceof ReplyError && (db !== null || !/not found/i.test(reply.reply))) throw reply;
    }
  }
}

/** The body of the frame at `at`; null where there is no whole one. */
function bodyAt(fd: number, at: number, end: number): Buffer | null {
  const head = Buffer.allocUnsafe(HEAD_BYTES);
  if (at + HEAD_BYTES > end || !readAll(fd, head, at)) return null;
  const length = head.readUInt32LE(0);
  if (length === 0 || at + HEAD_BYTES + length > end) return null;
  const body = Buffer.allocUnsafe(length);
  return readAll(fd, body, at + HEAD_BYTES) && crc32(body) === head.readUInt32LE(4) ? body : null;
}

function readAll(fd: number, into: Buffer, from: number): boolean {
  for (let at = 0; at < into.length; ) {
    const read = readSync(fd, into, at, into.length - at, from + at);
    if (read === 0) return false;
    at += read;
  }
  return true;
}

/** Of our own the target needs the lease while its keys are removed; the checkpoint is written anew. */
function isOwnKey(name: Buffer): boolean {
  const key = name.toString('latin1');
  return key === CHECKPOINT_KEY || key === LEASE_KEY;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function fileError(file: string, cause: unknown): CheckpointError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new CheckpointError(`the list of written keys cannot be used: ${printable(reason)}`, {
    code: 'written-keys',
    hint: `look at ${printable(file)} and its disk, then go on with resume`,
    cause,
  });
}
