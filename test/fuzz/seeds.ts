/** Good inputs for the fuzzer: what a real server writes, and the collection of real files where it is there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { RespConnection } from '../../src/resp/connection.ts';
import { randomDataset } from '../helpers/random-dataset.ts';
import { serverReleases } from '../helpers/releases.ts';
import type { Cleanup } from '../helpers/server.ts';
import { testServer } from '../helpers/server.ts';
import { CAPTURES, captureWire } from '../protocol/capture.ts';
import { rdbFixtures, withoutFixtures } from '../unit/rdb/support.ts';

/** Larger files are slow to be read again and again, and hold nothing else. */
const LARGEST_FILE = 8 * 1024;

/** Random snapshots of each of the newest releases. */
const RANDOM_FILES = 25;

/**
 * RDB files: of a server started here, compressed and not; random ones of the newest releases here, other ones for
 * another `seed`; and of the collection.
 */
export async function rdbSeeds(t: Cleanup, seed: number): Promise<Buffer[]> {
  const files = [await savedBy(t, 'yes'), await savedBy(t, 'no'), ...(await randomFiles(t, seed))];
  if (withoutFixtures !== false) console.error(`fuzz: ${withoutFixtures}`);
  else files.push(...rdbFixtures().map(({ bytes }) => bytes));
  return files.filter(({ length }) => length <= LARGEST_FILE);
}

async function randomFiles(t: Cleanup, seed: number): Promise<Buffer[]> {
  const releases = serverReleases();
  const newest = ['redis', 'valkey'].map((family) => releases.findLast(({ kind }) => kind === family));
  const files: Buffer[] = [];
  for (const release of newest) {
    if (release === undefined) continue;
    const server = await testServer(t, { binary: release.path });
    const client = await RespConnection.connect(server.port);
    for (const { commands } of fc.sample(randomDataset(release), { seed, numRuns: RANDOM_FILES })) {
      await client.pipeline([['FLUSHALL'], ...commands, ['SAVE']]);
      files.push(readFileSync(join(server.dir, 'dump.rdb')));
    }
    client.close();
  }
  return files;
}

async function savedBy(t: Cleanup, compression: 'yes' | 'no'): Promise<Buffer> {
  const server = await testServer(t, {
    args: [
      '--rdbcompression',
      compression,
      '--maxmemory-policy',
      compression === 'yes' ? 'allkeys-lfu' : 'allkeys-lru',
    ],
  });
  const client = await RespConnection.connect(server.port);
  const text = 'some text that repeats, some text that repeats'.repeat(4);
  const replies = await client.pipeline([
    ['SET', 'plain', text],
    ['SET', '12345', '-70000', 'PXAT', 4_102_444_800_123],
    ['RPUSH', 'list', 'a', '1', '-5', text],
    ['SADD', 'set:int', 1, 70_000, 5_000_000_000],
    ['SADD', 'set', 'a', text],
    ['HSET', 'hash', 'f', 'v', 'n', 12],
    ['HSET', 'hash:big', 'f', text, 'g', '77'],
    ['ZADD', 'zset', 1.5, 'm', '-inf', 'least'],
    ['ZADD', 'zset:big', 1.5, 'm', 'inf', text, 3, '77'],
    ['XADD', 'stream', '1-1', 'f', 'v'],
    ['XADD', 'stream', '1-2', 'f', 'v', 'g', 'w'],
    ['XGROUP', 'CREATE', 'stream', 'group', '0'],
    ['XREADGROUP', 'GROUP', 'group', 'me', 'COUNT', '1', 'STREAMS', 'stream', '>'],
    ['SELECT', '5'],
    ['HSET', 'hash', 'f', 'v'],
    ['SAVE'],
  ]);
  client.close();
  const refused = replies.find((reply) => reply instanceof Error);
  if (refused !== undefined) throw refused;
  return readFileSync(join(server.dir, 'dump.rdb'));
}

const WIRE = new URL('../../../shared/rdb/wire/', import.meta.url).pathname;

/** Streams of real servers: what follows the payload. */
export async function streamSeeds(t: Cleanup): Promise<Buffer[]> {
  const { body } = await captureWire(t, CAPTURES['from disk, with its length']);
  const captures = [body];
  if (existsSync(WIRE)) {
    captures.push(
      ...readdirSync(WIRE)
        .filter((name) => name.endsWith('.bin'))
        .map((name) => readFileSync(join(WIRE, name))),
    );
  }
  return captures.flatMap(streamOf);
}

/** From the first SELECT on, which opens the stream behind a payload. */
function streamOf(capture: Buffer): Buffer[] {
  const start = capture.indexOf('*2\r\n$6\r\nSELECT\r\n');
  return start < 0 ? [] : [capture.subarray(start)];
}
