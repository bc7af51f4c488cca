/**
 * The spool: every byte received from the source between the snapshot's first byte and what the target has
 * applied, addressed by position (0 = first byte of the RDB). The link appends and never waits; readers look at
 * any kept position; `release` forgets what the target holds. A retry is therefore a look at an older position.
 *
 * Bytes live in blocks of 1 MiB. A block that fills up while the memory bound is reached goes to disk; the
 * older blocks, which the reader wants next, stay in memory. Disk I/O is synchronous on purpose: it goes to the
 * page cache in a fraction of a millisecond a block, and no queue can grow behind it.
 *
 * A full copy can be kept for a process that comes after this one (`--keep-snapshot`): between keep() and
 * keepNoLonger() all that comes goes to disk as well, and release() frees memory only. An index beside the segments
 * says piece by piece what is there: a line is written behind the bytes that it is about, with their checksum, so that
 * neither a kill nor a power cut can make it claim what is not there.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CheckpointError, InvariantError } from '../core/errors.ts';

const BLOCK_BYTES = 1 << 20;
const BLOCKS_PER_SEGMENT = 64;
/** As many as one answer of the target sets free: what is allocated anew piles up until the collector comes round. */
const MOST_FREE_BLOCKS = 12;
/** Hex digits of SHA-256 for each line of an index, and for the bytes that it is about. */
const SUM_LENGTH = 16;
/** Reception times are kept at this grain: relative TTLs become absolute with an error of at most this. */
const TIME_GRAIN_MS = 10;

export interface SpoolSettings {
  /** Folder for segments; made when the first block goes to disk, removed by close(). */
  readonly dir: string;
  readonly memoryBytes: number;
  /** Bytes on disk at which the run ends cleanly; Infinity: what the disk holds. */
  readonly limitBytes: number;
}

interface Segment {
  readonly fd: number;
  readonly file: string;
  /** Whole blocks written to this segment and not yet released. */
  live: number;
}

/** What is kept for a later process, from position 0 on. */
interface Kept {
  /** The index. */
  readonly fd: number;
  readonly file: string;
  /** Everything before this position is on disk, and in the index. */
  savedTo: number;
  /** The highest position that release() was given. */
  passed: number;
  /** Reception times that are not in the index yet. */
  times: ReceptionTime[];
}

/** The first byte that was received at `ms`, since the epoch. */
interface ReceptionTime {
  readonly pos: number;
  readonly ms: number;
}

/** A line of the index: bytes of one block, from where the line before ends. */
interface Piece {
  /** Position behind its last byte. */
  readonly to: number;
  /** checksum() of the bytes. */
  readonly sum: string;
  readonly times: readonly ReceptionTime[];
}

export class Spool {
  readonly #settings: SpoolSettings;
  readonly #memory = new Map<number, Buffer>();
  readonly #onDisk = new Set<number>();
  readonly #segments = new Map<number, Segment>();
  readonly #free: Buffer[] = [];
  /** The last blocks read back from disk: sequential reading needs two where a record crosses a boundary. */
  #cache: { index: number; block: Buffer }[] = [];
  #times: ReceptionTime[] = [];
  #kept: Kept | null = null;
  #start = 0;
  #end = 0;

  constructor(settings: SpoolSettings) {
    this.#settings = settings;
  }

  /** Lowest position that can still be read. */
  get start(): number {
    return this.#start;
  }

  /** Position behind the last byte received. */
  get end(): number {
    return this.#end;
  }

  get diskBytes(): number {
    return this.#onDisk.size * BLOCK_BYTES;
  }

  /** Free space behind the last byte, for a socket to read into; at least one byte. Valid until commit(). */
  reserve(): Buffer {
    return this.#tail().subarray(this.#end % BLOCK_BYTES);
  }

  /**
   * Takes over the first `length` bytes of the space given by reserve().
   * @throws CheckpointError `spool-disk-full` or `spool-limit`
   */
  commit(length: number, nowMs: number): void {
    const last = this.#times.at(-1);
    // a clock that was set back counts, too: else relative TTLs would be taken from the old time until it is reached
    if (last === undefined || Math.abs(nowMs - last.ms) >= TIME_GRAIN_MS) {
      const time = { pos: this.#end, ms: nowMs };
      this.#times.push(time);
      this.#kept?.times.push(time);
    }
    this.#end += length;
    if (this.#end % BLOCK_BYTES === 0) this.#blockFilled(this.#end / BLOCK_BYTES - 1);
  }

  /** Copies a chunk in: for sockets that bring their own buffers (TLS). */
  append(chunk: Buffer, nowMs: number): void {
    for (let at = 0; at < chunk.length; ) {
      const space = this.reserve();
      const length = Math.min(space.length, chunk.length - at);
      chunk.copy(space, 0, at, at + length);
      this.commit(length, nowMs);
      at += length;
    }
  }

  /**
   * Contiguous bytes from `pos` on: at least `want` where that many have been received, else all there are.
   * The view is valid until the next commit(), view(), release() or reset(): a commit() that fills a block writes that
   * block to disk where memory is full, and its buffer takes what comes next.
   */
  view(pos: number, want: number): Buffer {
    if (pos < this.#start || pos > this.#end) {
      throw new InvariantError(`spool position ${pos} is outside ${this.#start}..${this.#end}`);
    }
    const length = Math.min(want, this.#end - pos);
    const offset = pos % BLOCK_BYTES;
    const inBlock = Math.min(BLOCK_BYTES - offset, this.#end - pos);
    if (inBlock === 0) return Buffer.alloc(0);
    if (inBlock >= length) {
      return this.#block(Math.floor(pos / BLOCK_BYTES)).subarray(offset, offset + inBlock);
    }
    const joined = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; ) {
      const from = pos + at;
      const block = this.#block(Math.floor(from / BLOCK_BYTES));
      at += block.copy(
        joined,
        at,
        from % BLOCK_BYTES,
        Math.min(BLOCK_BYTES, (from % BLOCK_BYTES) + length - at),
      );
    }
    return joined;
  }

  /** Forgets everything before `pos`; what is kept leaves the memory only. */
  release(pos: number): void {
    if (pos <= this.#start) return;
    if (this.#kept !== null) {
      this.#releaseMemory(this.#kept, Math.min(pos, this.#end));
      return;
    }
    const first = Math.floor(this.#start / BLOCK_BYTES);
    const last = Math.floor(Math.min(pos, this.#end) / BLOCK_BYTES);
    this.#start = Math.min(pos, this.#end);
    for (let index = first; index < last; index++) this.#drop(index);
    let stale = 0;
    while (stale + 1 < this.#times.length && this.#times[stale + 1]!.pos <= this.#start) stale++;
    if (stale > 0) this.#times.splice(0, stale);
  }

  /** When the byte at `pos` was received, in ms since the epoch. */
  receivedAt(pos: number): number {
    let low = 0;
    let high = this.#times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#times[middle]!.pos <= pos) low = middle;
      else high = middle - 1;
    }
    return this.#times[low]?.ms ?? Date.now();
  }

  /** True between keep(), or reopen(), and keepNoLonger(). */
  get keeps(): boolean {
    return this.#kept !== null;
  }

  /**
   * Everything from position 0 on is kept on disk from now on: to be called before the first byte.
   * @returns the name by which reopen() finds it
   * @throws CheckpointError `spool-disk-full` or `spool-io`
   */
  keep(): string {
    if (this.#end !== 0) throw new InvariantError('what is kept begins with the first byte');
    const name = randomBytes(6).toString('hex');
    this.#kept = this.#openIndex(name);
    return name;
  }

  /**
   * Where bytes are kept: brings those of the last block, which is not full, to disk; the others are there.
   * @throws CheckpointError `spool-disk-full` or `spool-io`
   */
  save(): void {
    const kept = this.#kept;
    if (kept === null || kept.savedTo === this.#end) return;
    const index = Math.floor(kept.savedTo / BLOCK_BYTES);
    const blockStart = index * BLOCK_BYTES;
    const [from, to] = [kept.savedTo - blockStart, this.#end - blockStart];
    const block = this.#memory.get(index)!;
    this.#write(index, block, from, to);
    const piece = { to: this.#end, sum: checksum(block.subarray(from, to)), times: kept.times };
    try {
      appendFileSync(kept.fd, encodePiece(piece));
    } catch (cause) {
      throw diskError(cause, this.#settings.dir, this.#end - this.#start);
    }
    kept.savedTo = this.#end;
    kept.times = [];
  }

  /** What was kept need not be any more: release() forgets again, also what it was told to forget before. */
  keepNoLonger(): void {
    const kept = this.#kept;
    if (kept === null) return;
    this.#dropIndex();
    for (const index of this.#memory.keys()) this.#dropFromDisk(index);
    this.release(kept.passed);
    for (const [number, { live }] of [...this.#segments]) if (live === 0) this.#removeSegment(number);
  }

  /**
   * Takes over what an earlier process has kept, up to the first byte that is not there or not what it was; `end` says
   * how far that is. It goes on being kept. For a spool that holds nothing. Reads all of it.
   * @param name as returned by keep()
   * @throws CheckpointError `spool-disk-full` or `spool-io`; the reason of `signal`, and nothing was changed then
   */
  async reopen(name: string, signal: AbortSignal): Promise<void> {
    if (this.#end !== 0) throw new InvariantError('a spool that holds bytes cannot take over others');
    const kept = this.#openIndex(name);
    this.#kept = kept;
    const text = readFileSync(kept.file, 'latin1');
    let goodText = 0;
    const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    while (goodText < text.length) {
      const lineEnd = text.indexOf('\n', goodText);
      const piece = lineEnd < 0 ? null : decodePiece(text.slice(goodText, lineEnd));
      if (piece === null || !this.#readPiece(piece, block)) break;
      goodText = lineEnd + 1;
      this.#end = piece.to;
      kept.savedTo = piece.to;
      this.#times.push(...piece.times);
      if (this.#end % BLOCK_BYTES === 0) this.#markOnDisk(this.#end / BLOCK_BYTES - 1);
      await nextTurn();
      signal.throwIfAborted();
    }
    if (this.#end % BLOCK_BYTES !== 0) this.#memory.set(Math.floor(this.#end / BLOCK_BYTES), block);
    // what a torn write left goes, so that the next line does not become its tail
    if (goodText < text.length) truncateSync(kept.file, goodText);
  }

  /** Reads the bytes of a piece to their place in `block`; false where they are not there, or others. */
  #readPiece({ to, sum }: Piece, block: Buffer): boolean {
    const index = Math.floor(this.#end / BLOCK_BYTES);
    const blockStart = index * BLOCK_BYTES;
    if (to <= this.#end || to > blockStart + BLOCK_BYTES) return false;
    const bytes = block.subarray(this.#end - blockStart, to - blockStart);
    try {
      const { fd } = this.#segmentFor(index, 'r+');
      const place = (index % BLOCKS_PER_SEGMENT) * BLOCK_BYTES + this.#end - blockStart;
      return readSync(fd, bytes, 0, bytes.length, place) === bytes.length && checksum(bytes) === sum;
    } catch {
      // a file that is gone, or that cannot be read any more
      return false;
    }
  }

  /** Opens an index, or begins it. */
  #openIndex(name: string): Kept {
    const file = path.join(this.#settings.dir, `kept-${name}`);
    try {
      mkdirSync(this.#settings.dir, { recursive: true, mode: 0o700 });
      return { fd: openSync(file, 'a', 0o600), file, savedTo: 0, passed: 0, times: [] };
    } catch (cause) {
      throw diskError(cause, this.#settings.dir, 0);
    }
  }

  /** The index goes before the bytes that it is about. */
  #dropIndex(): void {
    if (this.#kept === null) return;
    closeSync(this.#kept.fd);
    rmSync(this.#kept.file, { force: true });
    this.#kept = null;
  }

  /** What is on disk as well need not be in memory, too, once it was read. */
  #releaseMemory(kept: Kept, pos: number): void {
    const last = Math.floor(pos / BLOCK_BYTES);
    for (let index = Math.floor(kept.passed / BLOCK_BYTES); index < last; index++)
      this.#dropFromMemory(index);
    kept.passed = Math.max(kept.passed, pos);
  }

  /** Forgets everything and begins again at position 0: a new full copy. */
  reset(): void {
    this.#dropIndex();
    const last = Math.floor(this.#end / BLOCK_BYTES);
    for (let index = Math.floor(this.#start / BLOCK_BYTES); index <= last; index++) this.#drop(index);
    for (const number of [...this.#segments.keys()]) this.#removeSegment(number);
    this.#start = 0;
    this.#end = 0;
    this.#times = [];
    this.#cache = [];
  }

  /** Frees memory and disk, also of what an earlier process has left in the folder. */
  close(): void {
    this.reset();
    this.#free.length = 0;
    rmSync(this.#settings.dir, { recursive: true, force: true });
  }

  /** Like close(), but what is kept stays on disk, complete, for reopen(). */
  leave(): void {
    if (this.#kept === null) {
      this.close();
      return;
    }
    this.save();
    closeSync(this.#kept.fd);
    for (const { fd } of this.#segments.values()) closeSync(fd);
    this.#kept = null;
    this.#segments.clear();
    this.#onDisk.clear();
    this.#memory.clear();
    this.reset();
  }

  #tail(): Buffer {
    const index = Math.floor(this.#end / BLOCK_BYTES);
    let block = this.#memory.get(index);
    if (block === undefined) {
      block = this.#free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
      this.#memory.set(index, block);
    }
    return block;
  }

  #block(index: number): Buffer {
    const inMemory = this.#memory.get(index);
    if (inMemory !== undefined) return inMemory;
    const cached = this.#cache.find((entry) => entry.index === index);
    if (cached !== undefined) return cached.block;
    const segment = this.#segments.get(Math.floor(index / BLOCKS_PER_SEGMENT));
    if (segment === undefined) throw new InvariantError(`spool block ${index} is gone`);
    // two buffers take turns: a new one for each block would pile up faster than the collector comes round
    const block =
      (this.#cache.length < 2 ? null : this.#cache.shift()?.block) ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
    const length = readSync(segment.fd, block, 0, BLOCK_BYTES, (index % BLOCKS_PER_SEGMENT) * BLOCK_BYTES);
    if (length !== BLOCK_BYTES) {
      throw new CheckpointError(`the spool file ${segment.file} is shorter than what was written to it`, {
        code: 'spool-torn',
        hint: 'check the disk of the run folder, then start again: the source was not touched',
      });
    }
    this.#cache.push({ index, block });
    return block;
  }

  #blockFilled(index: number): void {
    const memoryIsFull = this.#memory.size * BLOCK_BYTES > this.#settings.memoryBytes;
    if (!memoryIsFull && this.#kept === null) return;
    if (this.diskBytes + BLOCK_BYTES > this.#settings.limitBytes) throw this.#limitReached();
    const block = this.#memory.get(index)!;
    if (this.#kept !== null) this.save();
    else this.#write(index, block, 0, BLOCK_BYTES);
    this.#markOnDisk(index);
    if (!memoryIsFull) return;
    this.#memory.delete(index);
    this.#free.push(block);
  }

  #limitReached(): CheckpointError {
    const waiting = this.#end - this.#start;
    const limit = this.#settings.limitBytes;
    const kept = this.#kept === null ? '' : ', or leave --keep-snapshot out,';
    return new CheckpointError(
      this.#kept === null
        ? `the spool has reached its limit: ${waiting} bytes wait for the target, the limit on disk is ${limit}`
        : `the spool has reached its limit: ${waiting} bytes are kept by --keep-snapshot, the limit on disk is ${limit}`,
      {
        code: 'spool-limit',
        hint: `raise --spool-limit above ${Math.ceil((waiting * 2) / 1e6)} (MB)${kept} or give the target more speed; the source is unharmed`,
      },
    );
  }

  /** Writes the bytes `from`..`to` of a block to their place on disk. */
  #write(index: number, block: Buffer, from: number, to: number): void {
    try {
      const { fd } = this.#segmentFor(index, 'w+');
      const place = (index % BLOCKS_PER_SEGMENT) * BLOCK_BYTES;
      for (let at = from; at < to; ) at += writeSync(fd, block, at, to - at, place + at);
    } catch (cause) {
      throw diskError(cause, this.#settings.dir, this.#end - this.#start);
    }
  }

  #markOnDisk(index: number): void {
    this.#segments.get(Math.floor(index / BLOCKS_PER_SEGMENT))!.live++;
    this.#onDisk.add(index);
  }

  /** @param flags for a segment that is not open yet: `w+` begins it, `r+` takes over what it holds */
  #segmentFor(index: number, flags: 'w+' | 'r+'): Segment {
    const number = Math.floor(index / BLOCKS_PER_SEGMENT);
    const known = this.#segments.get(number);
    if (known !== undefined) return known;
    mkdirSync(this.#settings.dir, { recursive: true, mode: 0o700 });
    const file = path.join(this.#settings.dir, `segment-${number}`);
    const segment: Segment = { fd: openSync(file, flags, 0o600), file, live: 0 };
    this.#segments.set(number, segment);
    return segment;
  }

  #drop(index: number): void {
    this.#dropFromMemory(index);
    this.#dropFromDisk(index);
  }

  #dropFromMemory(index: number): void {
    const block = this.#memory.get(index);
    if (block === undefined) return;
    this.#memory.delete(index);
    if (this.#free.length < MOST_FREE_BLOCKS) this.#free.push(block);
  }

  #dropFromDisk(index: number): void {
    if (!this.#onDisk.delete(index)) return;
    const number = Math.floor(index / BLOCKS_PER_SEGMENT);
    const segment = this.#segments.get(number)!;
    segment.live--;
    const complete = Math.floor(this.#end / BLOCK_BYTES) >= (number + 1) * BLOCKS_PER_SEGMENT;
    if (segment.live === 0 && (complete || this.#onDisk.size === 0)) this.#removeSegment(number);
  }

  #removeSegment(number: number): void {
    const segment = this.#segments.get(number)!;
    closeSync(segment.fd);
    rmSync(segment.file, { force: true });
    this.#segments.delete(number);
  }
}

/** `<checksum> <JSON>`: a torn line does not match its own. */
function encodePiece(piece: Piece): string {
  const json = JSON.stringify(piece);
  return `${checksum(json)} ${json}\n`;
}

/** The piece of a line without its newline; null where the line is torn or damaged. */
function decodePiece(line: string): Piece | null {
  const json = line.slice(SUM_LENGTH + 1);
  return line === `${checksum(json)} ${json}` ? (JSON.parse(json) as Piece) : null;
}

function checksum(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex').slice(0, SUM_LENGTH);
}

function diskError(cause: unknown, dir: string, waitingBytes: number): CheckpointError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new CheckpointError(
    full
      ? `the disk of the spool (${dir}) is full; ${waitingBytes} bytes from the source wait for the target`
      : `the spool (${dir}) cannot be written: ${code}`,
    {
      code: full ? 'spool-disk-full' : 'spool-io',
      hint: full
        ? `put --run-dir on a disk with at least ${Math.ceil((waitingBytes * 2) / 1e6)} MB free, then start again; the source is unharmed`
        : 'check the disk of the run folder and its permissions, then start again; the source is unharmed',
      cause,
    },
  );
}
