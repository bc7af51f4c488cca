/**
 * The spool: every byte received from the source between the snapshot's first byte and what the target has
 * applied, addressed by position (0 = first byte of the RDB). The link appends and never waits; readers look at
 * any kept position; `release` forgets what the target holds. A retry is therefore a look at an older position.
 *
 * Bytes live in blocks of 1 MiB. A block that fills up while the memory bound is reached goes to disk; the
 * older blocks, which the reader wants next, stay in memory. Disk I/O is synchronous on purpose: it goes to the
 * page cache in a fraction of a millisecond a block, and no queue can grow behind it.
 */
import { closeSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { CheckpointError, InvariantError } from '../core/errors.ts';

const BLOCK_BYTES = 1 << 20;
const BLOCKS_PER_SEGMENT = 64;
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
  /** Blocks written to this segment and not yet released. */
  live: number;
}

export class Spool {
  readonly #settings: SpoolSettings;
  readonly #memory = new Map<number, Buffer>();
  readonly #onDisk = new Set<number>();
  readonly #segments = new Map<number, Segment>();
  readonly #free: Buffer[] = [];
  /** The last blocks read back from disk: sequential reading needs two where a record crosses a boundary. */
  #cache: { index: number; block: Buffer }[] = [];
  #times: { pos: number; ms: number }[] = [];
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
      this.#times.push({ pos: this.#end, ms: nowMs });
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

  /** Forgets everything before `pos`. */
  release(pos: number): void {
    if (pos <= this.#start) return;
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

  /** Forgets everything and begins again at position 0: a new full copy. */
  reset(): void {
    const last = Math.floor(this.#end / BLOCK_BYTES);
    for (let index = Math.floor(this.#start / BLOCK_BYTES); index <= last; index++) this.#drop(index);
    for (const number of [...this.#segments.keys()]) this.#removeSegment(number);
    this.#start = 0;
    this.#end = 0;
    this.#times = [];
    this.#cache = [];
  }

  close(): void {
    this.reset();
    this.#free.length = 0;
    rmSync(this.#settings.dir, { recursive: true, force: true });
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
    if (this.#memory.size * BLOCK_BYTES <= this.#settings.memoryBytes) return;
    const waiting = this.#end - this.#start;
    if (this.diskBytes + BLOCK_BYTES > this.#settings.limitBytes) {
      throw new CheckpointError(
        `the spool has reached its limit: ${waiting} bytes wait for the target, the limit on disk is ${this.#settings.limitBytes}`,
        {
          code: 'spool-limit',
          hint: `raise --spool-limit above ${Math.ceil((waiting * 2) / 1e6)} (MB) or give the target more speed; the source is unharmed`,
        },
      );
    }
    const block = this.#memory.get(index)!;
    const segment = this.#segmentFor(index, waiting);
    try {
      for (let at = 0; at < BLOCK_BYTES; ) {
        at += writeSync(
          segment.fd,
          block,
          at,
          BLOCK_BYTES - at,
          (index % BLOCKS_PER_SEGMENT) * BLOCK_BYTES + at,
        );
      }
    } catch (cause) {
      throw diskError(cause, this.#settings.dir, waiting);
    }
    segment.live++;
    this.#onDisk.add(index);
    this.#memory.delete(index);
    this.#free.push(block);
  }

  #segmentFor(index: number, waiting: number): Segment {
    const number = Math.floor(index / BLOCKS_PER_SEGMENT);
    const known = this.#segments.get(number);
    if (known !== undefined) return known;
    try {
      mkdirSync(this.#settings.dir, { recursive: true, mode: 0o700 });
      const file = path.join(this.#settings.dir, `segment-${number}`);
      const segment: Segment = { fd: openSync(file, 'w+', 0o600), file, live: 0 };
      this.#segments.set(number, segment);
      return segment;
    } catch (cause) {
      throw diskError(cause, this.#settings.dir, waiting);
    }
  }

  #drop(index: number): void {
    const block = this.#memory.get(index);
    if (block !== undefined) {
      this.#memory.delete(index);
      if (this.#free.length < 4) this.#free.push(block);
      return;
    }
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
