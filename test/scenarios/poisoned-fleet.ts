/**
 * A fleet that is moved by `--cutover auto` while one of its pairs goes wrong in the middle of the run, when all of them
 * are in sync: it alone is reported, and no other pair pays for it. Used by fleet.test.ts with 8 pairs, and with 50 by
 * `npm run soak -- --fleet 50`.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { CliRun } from '../helpers/cli.ts';
import type { Cleanup } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import {
  assertMoved,
  type FleetPair,
  fleet,
  migrateFleet,
  phasesOf,
  summaryOf,
  workersOf,
} from './fleet-scene.ts';
import { ask, ends, newRunDir } from './support.ts';

/**
 * What happens to one pair. `refusing`: somebody takes our user's rights on its target. `stopped`: its target does not
 * answer any more, and keeps its connections. `killer`: each cutover of it takes its worker process with it.
 */
export const POISONS = ['refusing', 'stopped', 'killer'] as const;
export type Poison = (typeof POISONS)[number];

export interface PoisonedFleet {
  readonly pairs: number;
  /** null: nothing goes wrong, to compare with. */
  readonly poison: Poison | null;
  /** Writes each second on each source. */
  readonly rate: number;
  /** All are in sync for so long before the poison, and again behind it. */
  readonly watchMs: number;
}

export interface FleetFigures {
  /** From the start of the program until all pairs were in sync. */
  readonly inSyncMs: number;
  /** Lags of the pairs that are well, in ms, while all are in sync: before the poison, and behind it. */
  readonly before: readonly number[];
  readonly behind: readonly number[];
  /** The largest lag of each of them behind the poison. */
  readonly worst: readonly number[];
  /** How long writes stood still, of each pair that was promoted. */
  readonly outagesMs: readonly number[];
  /** The most that the session and all its workers had resident together, in bytes, as sampled. */
  readonly memoryBytes: number;
  /** Worker processes that died before all other pairs were promoted. */
  readonly deaths: number;
}

const IN_SYNC_MS = 240_000;
const MEMORY_EVERY_MS = 250;

/** @throws Error where another pair is not promoted, has lost a write, or has left its state for the poisoned one's sake */
export async function poisonedFleet(t: Cleanup, setting: PoisonedFleet): Promise<FleetFigures> {
  const { pairs: count, poison, rate, watchMs } = setting;
  // the first wave is not through before its last pair is in sync, which is the last to begin: so all are
  const pairs = (await fleet(t, count, rate)).map((pair, at) => ({
    ...pair,
    wave: at === 0 || at === count - 1 ? 'first' : 'second',
  }));
  const [, gate] = pairs;
  const poisoned = pairs[Math.floor(count / 2)];
  assert.ok(gate && poisoned);
  const well = poison === null ? pairs : pairs.filter((pair) => pair !== poisoned);
  const watched = well.filter(({ wave }) => wave === 'second');

  const runDir = newRunDir(t);
  const opened = join(runDir, 'opened');
  // the second wave waits behind its canary, and that one for the file
  const hold = `[ "$REDIS_CUTOVER_PAIR" != ${gate.name} ] || until [ -e '${opened}' ]; do sleep 0.1; done`;
  // the parent of the hook is the worker
  const kill = `[ "$REDIS_CUTOVER_PAIR" != ${poisoned.name} ] || kill -9 $PPID`;
  const began = Date.now();
  const run = migrateFleet(t, pairs, runDir, [
    ...['--feed', 'write', '--cutover', 'auto', '--canary', '0.5', '--workers', '2'],
    ...['--before-cutover', poison === 'killer' ? `${hold}; ${kill}` : hold],
  ]);
  const memory = memoryOf(run.pid);
  t.after(() => void memory.stop());

  await run.phase('promoted', IN_SYNC_MS);
  await until(
    () => pairs.every(({ name }) => ['in-sync', 'promoted'].includes(String(phasesOf(run).get(name)))),
    {
      timeoutMs: IN_SYNC_MS,
      what: `all in sync: ${JSON.stringify([...phasesOf(run)])}`,
    },
  );
  const inSyncMs = Date.now() - began;
  const from = run.events.length;
  await delay(watchMs);
  const at = run.events.length;
  if (poison === 'refusing') await refuse(poisoned);
  if (poison === 'stopped') poisoned.target.process.kill('SIGSTOP');
  t.after(() => void poisoned.target.process.kill('SIGCONT'));
  await delay(watchMs);
  if (poison === 'refusing') {
    await until(() => phasesOf(run).get(poisoned.name) === 'failed', { what: 'the poisoned pair failed' });
  }
  const to = run.events.length;
  const moved = run.events
    .slice(at, to)
    .filter(({ event, pair }) => event === 'phase' && watched.some(({ name }) => name === pair));
  assert.deepEqual(moved, [], 'another pair left its state');
  writeFileSync(opened, '');

  await until(() => well.every(({ name }) => phasesOf(run).get(name) === 'promoted'), {
    timeoutMs: IN_SYNC_MS,
    what: 'all but one promoted',
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify([...phasesOf(run)])}\n${lastEvents(run)}`);
  });
  const deaths = memory.deaths();
  // nobody but a person can say whether it comes back
  if (poison === 'stopped') run.kill('SIGTERM');
  const summary = await ends(run, poison === null ? 0 : 7);
  poisoned.target.process.kill('SIGCONT');
  for (const pair of well) {
    assert.equal(summaryOf(summary, pair.name)?.['phase'], 'promoted');
    await assertMoved(pair);
  }
  if (poison !== null) {
    assert.notEqual(summaryOf(summary, poisoned.name)?.['phase'], 'promoted');
    const told = run.events.filter(({ event, pair }) => event === 'error' && pair === poisoned.name);
    assert.ok(poison === 'stopped' || told.length > 0, 'the poisoned pair is reported');
  }
  return {
    inSyncMs,
    before: lagsOf(run, watched, from, at).flat(),
    behind: lagsOf(run, watched, at, to).flat(),
    worst: lagsOf(run, watched, at, to).map((lags) => Math.max(0, ...lags)),
    outagesMs: well.map(({ name }) => Number(summaryOf(summary, name)?.['writeOutageMs'])),
    memoryBytes: memory.stop(),
    deaths,
  };
}

/** For whoever looks why a round failed. */
function lastEvents(run: CliRun): string {
  const telling = run.events.filter(({ event }) => event !== 'progress' && event !== 'check');
  return telling
    .slice(-60)
    .map((event) => JSON.stringify(event))
    .join('\n');
}

/** As an administrator would who puts the target's ACL file back. */
async function refuse({ target }: FleetPair): Promise<void> {
  const users = (await ask(target.port, 'ACL', 'USERS')) as string[];
  const ours = users.filter((user) => user.startsWith('redis-cutover-'));
  assert.equal(ours.length, 1, `our user on the target: ${users.join(', ')}`);
  for (const user of ours) await ask(target.port, 'ACL', 'SETUSER', user, '-@write');
}

/** `lagSeconds` of each pair in these events, as ms. */
function lagsOf(run: CliRun, pairs: readonly FleetPair[], from: number, to: number): number[][] {
  const events = run.events.slice(from, to).filter(({ event }) => event === 'progress');
  return pairs.map(({ name }) =>
    events.filter(({ pair }) => pair === name).map((each) => Number(each['lagSeconds']) * 1000),
  );
}

/** Samples what the session and its workers have resident, and counts the workers that are gone. */
function memoryOf(session: number): { stop(): number; deaths(): number } {
  let most = 0;
  const seen = new Set<number>();
  let alive = 0;
  const timer = setInterval(() => {
    try {
      const workers = workersOf(session);
      for (const pid of workers) seen.add(pid);
      alive = workers.length;
      most = Math.max(
        most,
        [session, ...workers].reduce((sum, pid) => sum + residentBytes(pid), 0),
      );
    } catch {
      // it has ended
    }
  }, MEMORY_EVERY_MS);
  return {
    stop: () => {
      clearInterval(timer);
      return most;
    },
    deaths: () => seen.size - alive,
  };
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}
