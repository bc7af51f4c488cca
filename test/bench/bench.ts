/**
 * `npm run bench [-- --scale 1 --runs 5 --only small,mixed,blob,live,verify,parts,wrapper]`: time until the target has everything,
 * both feeds beside native REPLICAOF on the same machine, alternating in one run; medians and ratios. Also the
 * machinery alone (CRC64, cutting of an RDB), in CPU time. `npm run bench -- --only cutover [--runs 20]`: how long
 * writes stand still at a cutover. Prints figures, judges nothing: timings never decide a test.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { STANDARD_VERIFY } from '../../src/core/options.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import { type DemoServer, startServer } from '../../src/demo/server.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { verifyPair } from '../../src/migrate/verify/verify.ts';
import { Crc64 } from '../../src/rdb/crc64.ts';
import { RdbReader } from '../../src/rdb/reader.ts';
import { IGNORING_SINK } from '../../src/rdb/sink.ts';
import { RespConnection } from '../../src/resp/connection.ts';
import { runCli } from '../helpers/cli.ts';
import { plain } from '../helpers/client.ts';
import { until } from '../helpers/wait.ts';
import { inSync } from '../integration/migration-scene.ts';
import { asRound } from './round.ts';
import { wrapper } from './wrapper.ts';

const { values } = parseArgs({
  options: {
    scale: { type: 'string', default: '1' },
    runs: { type: 'string' },
    only: { type: 'string', default: 'small,mixed,blob,live,verify,parts,wrapper' },
  },
});
const scale = Number(values.scale);
const runs = Number(values.runs ?? 5);
const cutovers = Number(values.runs ?? 20);
const only = new Set(values.only.split(','));

const PIPELINE = 1000;

/** Fills with `count` strings of `minBytes` to `maxBytes`, half text, half noise. */
async function fillStrings(port: number, count: number, minBytes: number, maxBytes: number): Promise<void> {
  const connection = await RespConnection.connect(port);
  const pool = Buffer.alloc(maxBytes + 4096, 'the quick brown fox jumps over it ');
  for (let i = 0; i < pool.length; i += 2) pool[i] = 33 + ((i * 2654435761) % 90);
  const perPipeline = Math.max(1, Math.min(PIPELINE, Math.floor((8 << 20) / maxBytes)));
  for (let at = 0; at < count; at += perPipeline) {
    const commands = [];
    for (let i = at; i < Math.min(count, at + perPipeline); i++) {
      const length = minBytes + ((i * 7919) % (maxBytes - minBytes + 1));
      const from = (i * 31) % 4096;
      commands.push(['SET', `user:${i}:name`, pool.subarray(from, from + length)]);
    }
    await connection.pipeline(commands);
  }
  connection.close();
}

async function connected<Value>(
  server: DemoServer,
  use: (to: RespConnection) => Promise<Value>,
): Promise<Value> {
  const connection = await RespConnection.connect(server.port);
  try {
    return await use(connection);
  } finally {
    connection.close();
  }
}

async function info(server: DemoServer, section: string): Promise<string> {
  return connected(server, async (to) => String(await to.call('INFO', section)));
}

interface Timing {
  readonly seconds: number;
  readonly rssMegabytes: number;
}

async function native(source: DemoServer, target: DemoServer, disklessLoad: boolean): Promise<Timing> {
  return connected(target, async (to) => {
    if (disklessLoad) await to.call('CONFIG', 'SET', 'repl-diskless-load', 'on-empty-db');
    const began = performance.now();
    await to.call('REPLICAOF', '127.0.0.1', source.port);
    while (!(await info(target, 'replication')).includes('master_link_status:up')) await delay(10);
    return { seconds: (performance.now() - began) / 1000, rssMegabytes: 0 };
  });
}

async function ours(source: DemoServer, target: DemoServer, feed: string): Promise<Timing> {
  const cwd = mkdtempSync(path.join(tmpdir(), 'redis-cutover-bench-'));
  const began = performance.now();
  const run = runCli(
    ['migrate', '--src', source.uri, '--dst', target.uri, '--feed', feed, '--stop-at', 'in-sync', '--json'],
    { cwd },
  );
  await run.phase('in-sync', 300_000);
  const seconds = (performance.now() - began) / 1000;
  await run.exit;
  rmSync(cwd, { recursive: true, force: true });
  return { seconds, rssMegabytes: run.peakRssBytes() / 1e6 };
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? 0;

async function compare(name: string, fill: (port: number) => Promise<unknown>): Promise<void> {
  const source = await startServer({ args: ['--client-output-buffer-limit', 'replica 0 0 0'] });
  await fill(source.port);
  const ways = {
    'native default': (target: DemoServer) => native(source, target, false),
    'native diskless load': (target: DemoServer) => native(source, target, true),
    'ours attach': (target: DemoServer) => ours(source, target, 'attach'),
    'ours write': (target: DemoServer) => ours(source, target, 'write'),
  };
  const timings = new Map<string, Timing[]>();
  for (let run = 0; run < runs; run++) {
    for (const [way, time] of Object.entries(ways)) {
      const target = await startServer();
      timings.set(way, [...(timings.get(way) ?? []), await time(target)]);
      await target.stop();
    }
  }
  const base = median((timings.get('native default') ?? []).map(({ seconds }) => seconds));
  const memory = /used_memory_human:(\S+)/.exec(await info(source, 'memory'))?.[1] ?? '?';
  console.log(`\n${name} (${memory} in memory), medians of ${runs}:`);
  for (const [way, list] of timings) {
    const seconds = median(list.map((timing) => timing.seconds));
    const rss = Math.max(...list.map((timing) => timing.rssMegabytes));
    const memoryNote = rss > 0 ? `, ${Math.round(rss)} MB resident` : '';
    console.log(`  ${(seconds / base).toFixed(2)}  ${way.padEnd(22)} ${seconds.toFixed(2)} s${memoryNote}`);
  }
  await source.stop();
}

/** How far behind the target is when the last of many pipelined SETs was acknowledged. */
async function live(feed: 'attach' | 'write'): Promise<void> {
  const count = Math.round(1_000_000 * scale);
  const source = await startServer({
    args: ['--client-output-buffer-limit', 'replica 0 0 0', '--repl-backlog-size', '256mb'],
  });
  const target = await startServer();
  const cwd = mkdtempSync(path.join(tmpdir(), 'redis-cutover-bench-'));
  const run = runCli(
    ['migrate', '--src', source.uri, '--dst', target.uri, '--feed', feed, '--cutover', 'never', '--json'],
    { cwd },
  );
  await run.phase('in-sync');
  const began = performance.now();
  await fillStrings(source.port, count, 100, 100);
  const offered = performance.now();
  await connected(source, (to) => to.call('SET', 'last', '1'));
  await connected(target, async (to) => {
    while ((await to.call('EXISTS', 'last')) !== 1) await delay(5);
  });
  const behind = performance.now() - offered;
  const rate = Math.round((count / (offered - began)) * 1000);
  console.log(
    `\nlive, ${feed}: ${count} SETs of 100 B offered at ${rate}/s, target behind by ${behind.toFixed(0)} ms at the end`,
  );
  run.kill('SIGTERM');
  await run.exit;
  rmSync(cwd, { recursive: true, force: true });
  await source.stop();
  await target.stop();
}

/** Writes of the application before each cutover. */
const WRITES_BEFORE = 2_000;

/**
 * How long writes stand still at c, in ms, at 2,000 writes a second: from the pause to the target being writable.
 * Each time on new servers, with the way back of a session, in this process: an operator's session is warm, too.
 */
async function cutover(feed: 'attach' | 'write'): Promise<void> {
  const outages: number[] = [];
  for (let run = 0; run < cutovers; run++) {
    outages.push(
      await asRound(async (t) => {
        const { source, onTarget, migration } = await inSync(t, {
          feed,
          cutover: 'ask',
          cutoverTimeoutMs: 10_000,
        });
        const traffic = await startTraffic({ port: source.port });
        t.after(async () => void (await traffic.stop()));
        await until(() => traffic.stats().acknowledged >= WRITES_BEFORE && migration.phase === 'in-sync', {
          timeoutMs: 60_000,
        });
        await migration.cutOver();
        const { witness, lastError } = await traffic.stop();
        const arrived = Number(plain(await onTarget.call('GET', WITNESS_KEY)));
        if (arrived < witness)
          throw new Error(`${witness - arrived} acknowledged writes are missing: ${lastError}`);
        return migration.summary().writeOutageMs ?? Number.NaN;
      }),
    );
  }
  const all = outages.toSorted((a, b) => a - b).join(' ');
  console.log(
    `\ncutover, ${feed}: writes stood still for ${median(outages)} ms (median of ${cutovers}): ${all}`,
  );
}

/** A full comparison of two equal servers, of which nobody writes to either. */
async function verify(name: string, fill: (port: number) => Promise<unknown>): Promise<void> {
  const [source, target] = [await startServer(), await startServer()];
  await fill(source.port);
  await native(source, target, false);
  await connected(target, (to) => to.call('REPLICAOF', 'NO', 'ONE'));
  const endpoint = { host: '127.0.0.1', username: null, password: null, tls: null };
  const seconds: number[] = [];
  let compared = 0;
  for (let run = 0; run < runs; run++) {
    const began = performance.now();
    const result = await verifyPair({
      source: { ...endpoint, port: source.port },
      target: { ...endpoint, port: target.port },
      options: STANDARD_VERIFY,
      signal: new AbortController().signal,
      onProgress: () => undefined,
      onMismatch: ({ kind }) => console.log(`  ${kind}: these servers should be equal`),
    });
    seconds.push((performance.now() - began) / 1000);
    compared = result.compared;
  }
  console.log(`\nverify, ${name}: ${compared} keys in ${median(seconds).toFixed(1)} s (median of ${runs})`);
  await Promise.all([source.stop(), target.stop()]);
}

/** CRC64 and the cutting of an RDB, alone, on one core. */
async function parts(): Promise<void> {
  console.log(`\nparts, CPU time, medians of ${runs}:`);
  const noise = Buffer.alloc(1 << 20);
  for (let i = 0; i < noise.length; i++) noise[i] = Math.imul(i, 0x9e3779b1) >>> 13;
  for (const length of [noise.length, 100]) {
    const pieces = Math.round(200e6 / length);
    cpuOf(`CRC64 of pieces of ${length} B`, pieces * length, () => {
      const crc = new Crc64();
      for (let i = 0; i < pieces; i++) crc.update(noise, 0, length);
    });
  }
  await cutting('all types', (port) => loadDataset(port, { keys: 200_000 }));
  await cutting('strings of 40-160 B', (port) => fillStrings(port, 200_000, 40, 160));
  await cutting('four huge collections', (port) => loadDataset(port, { keys: 1000, bigMembers: 200_000 }));
}

/** The RDB of a server that `fill` has filled, cut and checked. */
async function cutting(name: string, fill: (port: number) => Promise<unknown>): Promise<void> {
  const source = await startServer();
  await fill(source.port);
  await connected(source, (to) => to.call('SAVE'));
  const rdb = readFileSync(path.join(source.dir, 'dump.rdb'));
  await source.stop();
  const cuts = Math.ceil(100e6 / rdb.length);
  cpuOf(`RDB cut and checked, ${name}`, cuts * rdb.length, () => {
    for (let i = 0; i < cuts; i++) cut(rdb);
  });
}

/** Prints what `work` over `bytes` bytes costs. CPU time, since the clock also shows what others run beside it. */
function cpuOf(name: string, bytes: number, work: () => void): void {
  work(); // compiled by now
  const times: number[] = [];
  for (let run = 0; run < runs; run++) {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    times.push((user + system) / 1e6);
  }
  const seconds = median(times);
  const perGigabyte = ((seconds * 1000) / (bytes / 1e9)).toFixed(0);
  console.log(
    `  ${perGigabyte.padStart(5)} ms/GB  ${name}, ${(bytes / seconds / 1e6).toFixed(0)} MB per CPU second`,
  );
}

function cut(rdb: Buffer): void {
  const reader = new RdbReader(IGNORING_SINK);
  while (!reader.done) {
    const end = Math.min(rdb.length, reader.position + Math.max(reader.want, 1 << 20));
    if (!reader.consume(rdb.subarray(reader.position, end)) && end === rdb.length) {
      throw new Error('the RDB ends too early');
    }
  }
}

if (only.has('small')) {
  await compare('strings of 40-160 B', (port) => fillStrings(port, Math.round(3_000_000 * scale), 40, 160));
}
if (only.has('mixed')) {
  await compare('all types', (port) =>
    loadDataset(port, { keys: Math.round(1_500_000 * scale), bigMembers: Math.round(300_000 * scale) }),
  );
}
if (only.has('blob')) {
  await compare('strings of 1 MB', (port) =>
    fillStrings(port, Math.round(1500 * scale), 1_000_000, 1_000_000),
  );
}
if (only.has('live')) {
  await live('attach');
  await live('write');
}
if (only.has('verify')) {
  const keys = Math.round(1_000_000 * scale);
  await verify('strings of 40-160 B', (port) => fillStrings(port, keys, 40, 160));
  await verify('all types', (port) => loadDataset(port, { keys, bigMembers: Math.round(50_000 * scale) }));
}
if (only.has('parts')) await parts();
if (only.has('wrapper')) await wrapper(Math.round(1_000_000 * scale), runs, median);
if (only.has('cutover')) {
  await cutover('attach');
  await cutover('write');
}
