/** For the tests of this folder: a throwaway server, the collected real files, and a plain walk through an RDB. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { lzfDecompress } from '../../../src/rdb/lzf.ts';

/** A redis-server on a socket file of its own; `close` ends it and removes its folder. */
export async function startServer(...args: string[]): Promise<{ client: Redis; close: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'cutover-rdb-'));
  const path = join(folder, 'socket');
  const server = spawn(
    'redis-server',
    ['--port', '0', '--unixsocket', path, '--dir', folder, '--save', '', ...args],
    { stdio: 'ignore' },
  );
  const exited = once(server, 'exit');
  const client = new Redis({ path, protocol: 2, retryStrategy: () => 20, maxRetriesPerRequest: null });
  client.on('error', () => {}); // not listening yet
  const gone = exited.then(() => {
    throw new Error('redis-server ended before it answered');
  });
  await Promise.race([client.ping(), gone]);
  gone.catch(() => {});
  const close = async () => {
    client.disconnect();
    server.kill();
    await exited;
    rmSync(folder, { recursive: true });
  };
  return { client, close };
}

const FIXTURES = new URL('../../../../shared/rdb/', import.meta.url).pathname;
/** A reason to skip where the collection of real files is not beside the checkout; else false. */
export const withoutFixtures = existsSync(FIXTURES) ? false : 'the collection of real RDB files is not here';

export interface Fixture {
  readonly name: string;
  readonly bytes: Buffer;
  /** Its line of the collection's index, column by column. */
  readonly columns: readonly string[];
}

/** Real RDB files (INDEX.tsv: file, bytes, version, keys, contents, crc, status, from). */
export function rdbFixtures(): Fixture[] {
  return rdbFiles().filter(({ name }) => name.endsWith('.rdb'));
}

/** The same, and files that only begin with an RDB: AOFs. */
export function rdbFiles(): Fixture[] {
  return readIndex('INDEX.tsv');
}

/** Payloads of DUMP, most of them damaged (INDEX.tsv: file, bytes, version, classification). */
export function dumpFixtures(): Fixture[] {
  return readIndex('dump-payloads/INDEX.tsv');
}

function readIndex(index: string): Fixture[] {
  const lines = readFileSync(join(FIXTURES, index), 'utf8').trimEnd().split('\n').slice(1);
  return lines
    .map((line) => line.split('\t'))
    .map((columns) => ({ name: columns[0]!, columns }))
    .filter(({ name }) => existsSync(join(FIXTURES, name)))
    .map(({ name, columns }) => ({ name, columns, bytes: readFileSync(join(FIXTURES, name)) }));
}

/** Reads RDB primitives, one after the other (protocol.md 3.3). */
export class Cursor {
  readonly bytes: Buffer;
  at: number;
  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  byte(): number {
    return this.bytes.readUInt8(this.at++);
  }

  skip(count: number): void {
    this.at += count;
    if (this.at > this.bytes.length) throw new RangeError('walked over the end');
  }

  length(): number {
    const first = this.byte();
    if (first < 0x40) return first;
    if (first < 0x80) return ((first & 0x3f) << 8) | this.byte();
    this.skip(first === 0x81 ? 8 : 4);
    if (first === 0x81) return Number(this.bytes.readBigUInt64BE(this.at - 8));
    if (first === 0x80) return this.bytes.readUInt32BE(this.at - 4);
    throw new RangeError(`no plain length: ${first}`);
  }

  string(): Buffer {
    const first = this.bytes.readUInt8(this.at);
    if (first < 0xc0) {
      const length = this.length();
      this.skip(length);
      return this.bytes.subarray(this.at - length, this.at);
    }
    this.at++;
    if (first < 0xc3) {
      const width = 1 << (first - 0xc0);
      this.skip(width);
      return Buffer.from(String(this.bytes.readIntLE(this.at - width, width)));
    }
    const compressed = this.length();
    const length = this.length();
    this.skip(compressed);
    return lzfDecompress(this.bytes, this.at - compressed, this.at, length, 0);
  }

  times(count: number, step: () => void): void {
    for (let i = 0; i < count; i++) step();
  }
}

export interface WalkedValue {
  readonly type: number;
  /** As it stands in the file. */
  readonly value: Buffer;
}

/** The values of an RDB file, up to the first thing that this walk does not know (modules, field TTLs). */
export function* walk(file: Buffer): Generator<WalkedValue> {
  const cursor = new Cursor(file, 9);
  for (;;) {
    const code = cursor.byte();
    if (code === 255) return;
    if (code === 254 || code === 248) cursor.length();
    else if (code === 253) cursor.skip(4);
    else if (code === 252) cursor.skip(8);
    else if (code === 251) cursor.times(2, () => cursor.length());
    else if (code === 250) cursor.times(2, () => cursor.string());
    else if (code === 249) cursor.skip(1);
    else if (code === 245) cursor.string();
    else if (code > 21) return;
    else {
      cursor.string();
      const start = cursor.at;
      if (!skipValue(cursor, code)) return;
      yield { type: code, value: file.subarray(start, cursor.at) };
    }
  }
}

/** Moves the cursor over a value (protocol.md 3.4); false: type not known here. */
function skipValue(cursor: Cursor, type: number): boolean {
  const strings = (each: number) => cursor.times(cursor.length() * each, () => cursor.string());
  if (type === 0 || (type >= 9 && type <= 13) || type === 16 || type === 17 || type === 20) cursor.string();
  else if (type === 1 || type === 2 || type === 14) strings(1);
  else if (type === 4) strings(2);
  else if (type === 18) {
    cursor.times(cursor.length(), () => {
      cursor.length();
      cursor.string();
    });
  } else if (type === 3 || type === 5) {
    cursor.times(cursor.length(), () => {
      cursor.string();
      if (type === 5) cursor.skip(8);
      else {
        const length = cursor.byte();
        cursor.skip(length < 253 ? length : 0);
      }
    });
  } else return false;
  return true;
}
