/** What the scenarios share: two real servers, the built program between them, and what must hold at the end. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { compareServers, digest } from '../../src/demo/compare.ts';
import type { DemoServer, ServerOptions } from '../../src/demo/server.ts';
import { RespConnection } from '../../src/resp/connection.ts';
import { type CliEvent, type CliOptions, type CliRun, runCli } from '../helpers/cli.ts';
import { ANSWER_MS, infoField, plain } from '../helpers/client.ts';
import { seedFrom } from '../helpers/seed.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { until, within } from '../helpers/wait.ts';

const COMPARE_MS = 120_000;

/** A path that does not exist yet, in a folder that goes with the test. */
export function newRunDir(t: Cleanup): string {
  const folder = mkdtempSync(join(tmpdir(), 'redis-cutover-run-'));
  atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'run');
}

export interface MigrateOptions extends CliOptions {
  readonly runDir?: string;
  /** For `--feed`; left out: write. */
  readonly feed?: 'auto' | 'attach' | 'write';
}

/** `migrate --json` from one URI to another. */
export function migrate(
  t: Cleanup,
  [src, dst]: readonly [string, string],
  args: readonly string[],
  options: MigrateOptions = {},
): CliRun {
  const runDir = options.runDir ?? newRunDir(t);
  const { feed = 'write' } = options;
  const fixed = ['migrate', '--src', src, '--dst', dst, '--feed', feed, '--json', '--run-dir', runDir];
  return runCli([...fixed, ...args], { t, ...options });
}

/** Waits for the end of the program and checks that its last line is the summary with this exit code. */
export async function ends(run: CliRun, exitCode: number): Promise<CliEvent> {
  assert.equal(await run.exit, exitCode, `${run.stdout().slice(-3000)}\n${run.stderr().slice(-1000)}`);
  const last = run.events.at(-1);
  assert.equal(last?.event, 'summary');
  assert.equal(last['exitCode'], exitCode);
  return last;
}

/** The first pair of a summary. */
export function firstPair(summary: CliEvent): Readonly<Record<string, unknown>> {
  const [pair] = summary['pairs'] as Readonly<Record<string, unknown>>[];
  assert.ok(pair);
  return pair;
}

/** Every key, value, expiry and function; and DEBUG DIGEST where both servers are of one release. */
export async function assertEqualServers(source: number, target: number, digests = true): Promise<void> {
  const { different, missing, extra, first } = await within(
    compareServers(source, target),
    COMPARE_MS,
    'the comparison of the two servers',
  );
  assert.deepEqual({ different, missing, extra }, { different: 0, missing: 0, extra: 0 }, first ?? '');
  if (digests) assert.equal(await digest(target), await digest(source));
}

/** A connection for `work`, which is given 60 s: no command of a test takes as long. */
export async function withClient<T>(port: number, work: (client: RespConnection) => Promise<T>): Promise<T> {
  const client = await within(RespConnection.connect(port), ANSWER_MS, `a connection to port ${port}`);
  try {
    return await within(work(client), ANSWER_MS, `the answers of the server on port ${port}`);
  } finally {
    client.close();
  }
}

/** One command on a connection of its own, its reply as plain values. */
export function ask(port: number, ...words: readonly (string | number)[]): Promise<unknown> {
  return withClient(port, async (client) => plain(await client.call(...words)));
}

/** What a run must not change, or must give back: users, settings, number of keys. */
export function stateOf(port: number): Promise<unknown> {
  return withClient(port, async (client) => ({
    acl: plain(await client.call('ACL', 'LIST')),
    config: plain(await client.call('CONFIG', 'GET', '*')),
    keys: String(await client.call('INFO', 'keyspace')).replaceAll(/,(expires|avg_ttl|subexpiry)=\d+/g, ''),
  }));
}

/** Ends a server as a crash does, and starts it again on its port and in its folder. */
export async function crashAndRestart(
  t: Cleanup,
  server: DemoServer,
  options: ServerOptions,
  whileDown: () => void = () => undefined,
): Promise<DemoServer> {
  const ended = new Promise((resolve) => server.process.once('exit', resolve));
  server.process.kill('SIGKILL');
  await ended;
  whileDown();
  return testServer(t, { ...options, port: server.port, dir: server.dir });
}

/** A number of INFO. */
export function infoNumber(port: number, section: string, field: string): Promise<number> {
  return withClient(port, async (client) => Number(await infoField(client, section, field)));
}

/** The latest snapshot of the pair that was shown. */
export function lastProgress(run: CliRun): CliEvent | undefined {
  return run.events.findLast((event) => event.event === 'progress');
}

/**
 * Waits until the run has shown that the target has everything that the source has now, and is in sync. Within one
 * history: where the source comes back with another one, the offset of before may lie behind it, so wait for the phases
 * of the new copy first.
 */
export async function caughtUp(run: CliRun, sourcePort: number, timeoutMs = 60_000): Promise<void> {
  const offset = await infoNumber(sourcePort, 'replication', 'master_repl_offset');
  await until(
    () => {
      const shown = lastProgress(run);
      return Number(shown?.['appliedOffset'] ?? -1) >= offset && shown?.['phase'] === 'in-sync';
    },
    { timeoutMs, what: `applied up to ${offset}, and in sync` },
  );
}

/** Events of one kind so far. */
export function eventsOf(run: CliRun, event: string): readonly CliEvent[] {
  return run.events.filter((each) => each.event === event);
}

/** A note whose message matches, past or to come. */
export function note(run: CliRun, message: RegExp, timeoutMs?: number): Promise<CliEvent> {
  return run.until((event) => event.event === 'note' && message.test(String(event['message'])), timeoutMs);
}

/** Random numbers that a failing test prints: the same seed repeats the same faults. */
export function seededRandom(t: TestContext): (below: number) => number {
  let state = seedFrom('FAULT_SEED');
  t.diagnostic(`FAULT_SEED=${state}`);
  return (below) => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
