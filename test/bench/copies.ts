/** Time until the targets have everything, by all ways in turn: one pair, or a fleet's pairs at once. */
import { performance } from 'node:perf_hooks';
import type { DemoServer } from '../../src/demo/server.ts';
import { type Cleanup, testServer } from '../helpers/server.ts';
import type { DataSet } from './data-sets.ts';
import { fixed, median, type Section, spread } from './figures.ts';
import { asRound } from './round.ts';
import { keyCount, memoryUsed, type Pair, SOURCE_ARGS } from './servers.ts';
import { COST_COLUMNS, type Cost, costCells, countCosts, type Effort, inTurns, type Turns } from './turns.ts';
import type { Way } from './way.ts';
import { copyWays, NATIVE } from './ways.ts';

interface Sample {
  readonly seconds: number;
  readonly cost: Cost;
}

/** Beside REPLICAOF. Each source is filled once; each target is a new server every time. */
export function copies(data: DataSet, effort: Effort, pairCount = 1): Promise<Section> {
  return asRound(async (round) => {
    const sources = await filledSources(round, data, effort.scale, pairCount);
    const [first] = sources;
    const used = await memoryUsed(first!);
    const keys = await keyCount(first!);
    const turns = await inTurns(copyWays(effort.plain), effort.runs, (inner, way) =>
      copy(inner, way, sources),
    );
    return {
      title: pairCount === 1 ? data.title : `${pairCount} pairs at once, each of ${data.title}`,
      about: `${keys} keys, ${used} in memory${pairCount === 1 ? '' : ', in each source'}: seconds until in sync.`,
      ...table(turns),
    };
  });
}

/** Each on a loopback address of its own: a fleet takes one copy at a time from one host. */
async function filledSources(
  round: Cleanup,
  data: DataSet,
  scale: number,
  count: number,
): Promise<DemoServer[]> {
  const sources: DemoServer[] = [];
  for (let index = 0; index < count; index++) {
    const bind = index === 0 ? [] : ['--bind', '127.0.0.1', hostOf(index)];
    const source = await testServer(round, { args: [...bind, ...SOURCE_ARGS] });
    await data.fill(source.port, scale);
    sources.push(source);
  }
  return sources;
}

function hostOf(index: number): string {
  return `127.0.0.${index + 1}`;
}

async function copy(round: Cleanup, way: Way, sources: readonly DemoServer[]): Promise<Sample> {
  const pairs: Pair[] = [];
  for (const [index, source] of sources.entries()) {
    const target = await testServer(round, { args: way.targetArgs });
    pairs.push({ source, sourceHost: hostOf(index), target });
  }
  const countedCost = await countCosts(pairs);
  const began = performance.now();
  const { inSync, meters, end } = way.begin(round, pairs, false);
  await inSync;
  const seconds = (performance.now() - began) / 1000;
  const cost = await countedCost(meters);
  await end();
  for (const { source, target } of pairs) {
    const [there, wanted] = [await keyCount(target), await keyCount(source)];
    if (there < wanted) throw new Error(`only ${there} of ${wanted} keys came`);
  }
  return { seconds, cost };
}

function table({ samples, failures }: Turns<Sample>): Omit<Section, 'title' | 'about'> {
  const secondsOf = (way: Way): number[] => (samples.get(way) ?? []).map(({ seconds }) => seconds);
  return {
    columns: ['native = 1', 'way', 'seconds', 'from-to', ...COST_COLUMNS],
    rows: [...samples].map(([way, ofWay]) => {
      const seconds = secondsOf(way);
      return [
        fixed(median(seconds) / median(secondsOf(NATIVE))),
        way.name,
        fixed(median(seconds)),
        spread(seconds),
        ...costCells(ofWay.map(({ cost }) => cost)),
      ];
    }),
    failures,
  };
}
