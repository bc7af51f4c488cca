/**
 * What the scenarios of a fleet and its soak share: pairs of real servers with an application at work on each source,
 * the program over all of them, and what must hold of a pair that was moved.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, type Traffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { type CliEvent, type CliRun, runCli } from '../helpers/cli.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, assertEqualServers } from './support.ts';

export interface FleetPair {
  readonly name: string;
  readonly wave?: string;
  readonly source: DemoServer;
  readonly target: DemoServer;
  readonly traffic: Traffic;
}

/** `count` pairs of a small data set each, under traffic: `pair1`, `pair2`, … */
export async function fleet(
  t: Cleanup,
  count: number,
  ratePerSecond = 200,
  sourceArgs: readonly string[] = [],
): Promise<FleetPair[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const [source, target] = await Promise.all([testServer(t, { args: sourceArgs }), testServer(t)]);
      await loadDataset(source.port, { keys: 500, bigMembers: 100 });
      const traffic = await startTraffic({ port: source.port, ratePerSecond, seed: at + 1 });
      atEnd(t, async () => {
        await traffic.stop();
      });
      return { name: `pair${at + 1}`, source, target, traffic };
    }),
  );
}

/** `migrate --json` over the pairs, in their order. */
export function migrateFleet(
  t: Cleanup,
  pairs: readonly FleetPair[],
  runDir: string,
  args: readonly string[],
): CliRun {
  const list = pairs.map(({ name, wave = '', source, target }) =>
    `${source.uri} ${target.uri} ${name} ${wave}`.trim(),
  );
  const fixed = ['migrate', '--hosts', '-', '--json', '--run-dir', runDir];
  return runCli([...fixed, ...args], { t, stdin: `${list.join('\n')}\n`, exitTimeoutMs: 300_000 });
}

/** Its worker processes that live. Linux only. */
export function workersOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** The phase of each pair, by name. */
export function phasesOf(run: CliRun): Map<unknown, unknown> {
  const phases = new Map<unknown, unknown>();
  for (const event of run.events) if (event.event === 'phase') phases.set(event['pair'], event['to']);
  return phases;
}

export async function allIn(
  run: CliRun,
  pairs: readonly FleetPair[],
  phase: string,
  timeoutMs = 60_000,
): Promise<void> {
  await until(() => pairs.every(({ name }) => phasesOf(run).get(name) === phase), {
    timeoutMs,
    what: `all ${phase}: ${JSON.stringify([...phasesOf(run)])}\n${run.stderr().slice(-2000)}`,
  });
}

/** The source is closed, every write is on the target once, and nothing of ours is left there. */
export async function assertMoved({ source, target, traffic }: FleetPair): Promise<void> {
  await until(() => traffic.stats().refused > 0, { what: 'refused on the source' });
  const { witness } = await traffic.stop();
  assert.equal(await ask(target.port, 'GET', WITNESS_KEY), String(witness));
  assert.equal(await ask(target.port, 'EXISTS', 'redis-cutover:checkpoint', 'redis-cutover:lease'), 0);
  await assertEqualServers(source.port, target.port);
}

/** What the summary says of one pair. */
export const summaryOf = (summary: CliEvent, name: string) =>
  (summary['pairs'] as Readonly<Record<string, unknown>>[]).find(({ pair }) => pair === name);
