/**
 * Names of keys that must be looked at again later, in the order in which they came: a few in memory, more in a file,
 * so that their number is bounded by the disk alone. The file is for this process only and goes away with it.
 */
import { closeSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { CheckpointError } from '../../core/errors.ts';

export interface KeyName {
  readonly db: number;
  readonly key: Buffer;
}

const BLOCK_BYTES = 64 * 1024;
/** Blocks beyond these go to the file. */
const MEMORY_BLOCKS = 16;
/** u32 database, u32 length of the key. */
const HEAD_BYTES = 8;

interface Block {
  /** null: in the file. */
  bytes: Buffer | null;
  readonly length: number;
  readonly fileOffset: number;
}

export class KeyLog {
  readonly #file: string;
  #fd: number | null = null;
  #fileBytes = 0;
  #full: Block[] = [];
  #block = Buffer.allocUnsafe(BLOCK_BYTES);
  #used = 0;
  #count = 0;

  /** @param file made when it is needed, removed by clear() */
  constructor(file: string) {
    this.#file = file;
  }

  get count(): number {
    return this.#count;
  }

  /** @throws CheckpointError `key-log` where the disk takes no more */
  add(db: number, key: Buffer, start: number, end: number): void {
    const size = HEAD_BYTES + end - start;
    if (this.#used + size > this.#block.length) {
      this.#blockFull();
      if (size > this.#block.length) this.#block = Buffer.allocUnsafe(size);
    }
    const at = this.#used;
    this.#block.writeUInt32LE(db, at);
    this.#block.writeUInt32LE(end - start, at + 4);
    key.copy(this.#block, at + HEAD_BYTES, start, end);
    this.#used += size;
    this.#count++;
  }

  /** All names, at most `size` a page, a page of one database. Nothing may be added meanwhile. */
  *pages(size: number): Generator<{ readonly db: number; readonly keys: readonly Buffer[] }> {
    let db = 0;
    let keys: Buffer[] = [];
    for (const name of this.#names()) {
      if (keys.length === size || (name.db !== db && keys.length > 0)) {
        yield { db, keys };
        keys = [];
      }
      db = name.db;
      keys.push(name.key);
    }
    if (keys.length > 0) yield { db, keys };
  }

  clear(): void {
    this.#full = [];
    this.#used = 0;
    this.#count = 0;
    this.#fileBytes = 0;
    if (this.#fd === null) return;
    closeSync(this.#fd);
    this.#fd = null;
    rmSync(this.#file, { force: true });
  }

  *#names(): Generator<KeyName> {
    for (const block of this.#full) yield* namesIn(block.bytes ?? this.#readBack(block), block.length);
    yield* namesIn(this.#block, this.#used);
  }

  #blockFull(): void {
    if (this.#used === 0) return;
    const toFile = this.#full.length >= MEMORY_BLOCKS;
    const block: Block = { bytes: this.#block, length: this.#used, fileOffset: this.#fileBytes };
    if (toFile) {
      this.#write(this.#block.subarray(0, this.#used));
      block.bytes = null;
      this.#fileBytes += this.#used;
    }
    this.#full.push(block);
    this.#block =
      toFile && this.#block.length === BLOCK_BYTES ? this.#block : Buffer.allocUnsafe(BLOCK_BYTES);
    this.#used = 0;
  }

  #write(bytes: Buffer): void {
    try {
      if (this.#fd === null) {
        mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o700 });
        this.#fd = openSync(this.#file, 'w+', 0o600);
      }
      for (let at = 0; at < bytes.length; ) {
        at += writeSync(this.#fd, bytes, at, bytes.length - at, this.#fileBytes + at);
      }
    } catch (cause) {
      throw fileError(this.#file, cause);
    }
  }

  #readBack(block: Block): Buffer {
    const bytes = Buffer.allocUnsafe(block.length);
    try {
      for (let at = 0; at < bytes.length; ) {
        const read =
          this.#fd === null ? 0 : readSync(this.#fd, bytes, at, bytes.length - at, block.fileOffset + at);
        if (read === 0) throw new Error('it is shorter than what was written to it');
        at += read;
      }
    } catch (cause) {
      throw fileError(this.#file, cause);
    }
    return bytes;
  }
}

function* namesIn(bytes: Buffer, length: number): Generator<KeyName> {
  for (let at = 0; at < length; ) {
    const db = bytes.readUInt32LE(at);
    const end = at + HEAD_BYTES + bytes.readUInt32LE(at + 4);
    // a copy: the block is filled again
    yield { db, key: Buffer.from(bytes.subarray(at + HEAD_BYTES, end)) };
    at = end;
  }
}

function fileError(file: string, cause: unknown): CheckpointError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new CheckpointError(`the list of keys in ${file} cannot be kept: ${reason}`, {
    code: 'key-log',
    hint: 'check the disk of the run folder, then go on with resume: the source was not touched',
    cause,
  });
}
