/** The machinery alone, without any server: CPU time, since the clock also shows what others run beside it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Crc64 } from '../../src/rdb/crc64.ts';
import { lzfDecompress } from '../../src/rdb/lzf.ts';
import { RdbReader } from '../../src/rdb/reader.ts';
import { IGNORING_SINK } from '../../src/rdb/sink.ts';
import { lengthResult, readLength, readPlainLength } from '../../src/rdb/skip.ts';
import { encodeCommand } from '../../src/resp/encode.ts';
import { StreamScanner } from '../../src/resp/stream-scanner.ts';
import { testServer } from '../helpers/server.ts';
import { type DataSet, MIXED, SMALL, Values } from './data-sets.ts';
import { fixed, median, type Section } from './figures.ts';
import { asRound } from './round.ts';
import { connected } from './servers.ts';
import type { Effort } from './turns.ts';

/** What each is measured with, at scale 1. */
const BYTES = 200e6;
/** Of a data set, of which the RDB is cut again and again. */
const PART_OF_DATA = 0.1;
const CHUNK_BYTES = 1 << 20;
const VALUE_BYTES = 64 * 1024;

/** Work over so many bytes, and so many pieces of them. */
interface Work {
  readonly name: string;
  readonly bytes: number;
  readonly pieces: number;
  readonly pieceName: string;
  do(): void;
}

export async function parts({ scale, runs }: Effort): Promise<Section> {
  const works = [
    ...checksums(),
    await cutting(SMALL, scale),
    await cutting(MIXED, scale),
    await unpacking(400),
    await unpacking(VALUE_BYTES),
    framing(scale),
  ];
  return {
    title: 'Parts alone',
    about:
      'CPU time, in this process alone. *RDB* is finding all entries and checking the sum; *framing* is finding where commands, transactions and databases begin and end.',
    columns: ['MB per CPU s', 'part', 'ns each', 'of'],
    rows: works.map((work) => row(work, scale, runs)),
    failures: [],
  };
}

function row(work: Work, scale: number, runs: number): string[] {
  const times = Math.max(1, Math.round((BYTES * scale) / work.bytes));
  const once = (): number => {
    const before = process.cpuUsage();
    for (let i = 0; i < times; i++) work.do();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6 / times;
  };
  once(); // compiled by now
  const seconds = median(Array.from({ length: runs }, once));
  const nanoseconds = (seconds / work.pieces) * 1e9;
  return [fixed(work.bytes / seconds / 1e6, 0), work.name, fixed(nanoseconds, 0), work.pieceName];
}

function checksums(): Work[] {
  const noise = new Values(1).noise(CHUNK_BYTES);
  return [CHUNK_BYTES, 100].map((pieceBytes) => {
    const pieces = Math.floor(CHUNK_BYTES / pieceBytes);
    return {
      name: 'CRC64',
      bytes: pieces * pieceBytes,
      pieces,
      pieceName: `${pieceBytes} B`,
      do: () => {
        const crc = new Crc64();
        for (let i = 0; i < pieces; i++) crc.update(noise, i * pieceBytes, (i + 1) * pieceBytes);
      },
    };
  });
}

/** The RDB of a server that holds a part of the data. */
function cutting(data: DataSet, scale: number): Promise<Work> {
  return asRound(async (round) => {
    const server = await testServer(round);
    await data.fill(server.port, scale * PART_OF_DATA);
    const keys = await connected(server, async (to) => {
      await to.call('SAVE');
      return Number(await to.call('DBSIZE'));
    });
    const rdb = readFileSync(path.join(server.dir, 'dump.rdb'));
    return {
      name: `RDB, as of ${data.title}`,
      bytes: rdb.length,
      pieces: keys,
      pieceName: 'key',
      do: () => cut(rdb),
    };
  });
}

function cut(rdb: Buffer): void {
  const reader = new RdbReader(IGNORING_SINK);
  while (!reader.done) {
    const end = Math.min(rdb.length, reader.position + Math.max(reader.want, CHUNK_BYTES));
    if (!reader.consume(rdb.subarray(reader.position, end)) && end === rdb.length) {
      throw new Error('the RDB ends too early');
    }
  }
}

/** A text as a server packs it, taken out of its DUMP: type, encoding 3, packed length, length, packed bytes. */
function unpacking(length: number): Promise<Work> {
  return asRound(async (round) => {
    const server = await testServer(round);
    const text = Buffer.alloc(length, new Values(1).prose(Math.min(length / 4, 5000)));
    const dump = await connected(server, async (to) => {
      await to.call('SET', 'text', text);
      return to.call('DUMP', 'text');
    });
    if (!Buffer.isBuffer(dump) || readLength(dump, 1, dump.length) !== LZF_ENCODING) {
      throw new Error('the server has not packed the text');
    }
    const packed = readPlainLength(dump, lengthResult.next, dump.length, 0);
    readPlainLength(dump, lengthResult.next, dump.length, 0);
    const start = lengthResult.next;
    return {
      name: 'LZF, unpacked',
      bytes: length,
      pieces: 1,
      pieceName: `${length} B out of ${packed} B`,
      do: () => void lzfDecompress(dump, start, start + packed, length, 0),
    };
  });
}

const LZF_ENCODING = 3;

function framing(scale: number): Work {
  const value = 'v'.repeat(100);
  const pieces = Math.max(1, Math.round(100_000 * scale));
  const stream = Buffer.concat(
    Array.from({ length: pieces }, (_, at) => encodeCommand(['SET', `key:${at}`, value])),
  );
  return {
    name: 'framing of the stream',
    bytes: stream.length,
    pieces,
    pieceName: 'SET of 100 B',
    do: () => {
      const scanner = new StreamScanner({ position: 0, db: 0 });
      while (scanner.position < stream.length) {
        const end = Math.min(stream.length, scanner.position + Math.max(scanner.want, CHUNK_BYTES));
        scanner.consume(stream.subarray(scanner.position, end));
      }
    },
  };
}
