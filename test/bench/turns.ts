/** Ways that take turns, so that what else the machine does meets all of them; and what each costs in CPU and memory. */

import type { Cleanup } from '../helpers/server.ts';
import { fixed, median, megabytes, NOTHING } from './figures.ts';
import type { ProcessMeter } from './process-usage.ts';
import { asRound } from './round.ts';
import { type Pair, serverCpuSeconds } from './servers.ts';
import type { Way } from './way.ts';

/** How much, and how often. */
export interface Effort {
  /** Part of the data; 1: as the titles say. */
  readonly scale: number;
  readonly runs: number;
  /** Copies of ours also with `--tune-source compression`. */
  readonly plain: boolean;
}

/** CPU in seconds, user and system. */
export interface Cost {
  /** Where the servers do it by themselves there is no tool: 0 for both of its figures. */
  readonly tool: number;
  readonly toolPeakBytes: number;
  readonly sources: number;
  readonly targets: number;
}

export interface Turns<Sample> {
  readonly samples: ReadonlyMap<Way, readonly Sample[]>;
  /** Names of ways, each as often as it has failed. */
  readonly failures: readonly string[];
}

/** A way that hangs takes minutes until it is given up. */
const MOST_FAILURES = 2;

/**
 * One after another, `runs` times over, each in a round of its own. What fails is told on stderr, and the others go
 * on; what has failed twice gets no further turn.
 */
export async function inTurns<Sample>(
  ways: readonly Way[],
  runs: number,
  one: (round: Cleanup, way: Way) => Promise<Sample>,
): Promise<Turns<Sample>> {
  const samples = new Map<Way, Sample[]>(ways.map((way) => [way, []]));
  const failures: string[] = [];
  for (let run = 0; run < runs; run++) {
    for (const [way, ofWay] of samples) {
      if (failures.filter((name) => name === way.name).length === MOST_FAILURES) continue;
      try {
        ofWay.push(await asRound((round) => one(round, way)));
      } catch (error) {
        failures.push(way.name);
        console.error(`${way.name} has failed:`, error);
      }
    }
  }
  return { samples, failures };
}

/**
 * Begins to count; the function that comes back says what was used since.
 * @param running the tool's processes, as far as they run already
 */
export async function countCosts(
  pairs: readonly Pair[],
  running: readonly ProcessMeter[] = [],
): Promise<(meters: readonly ProcessMeter[]) => Promise<Cost>> {
  const sources = pairs.map(({ source }) => source);
  const targets = pairs.map(({ target }) => target);
  const before = {
    tool: sum(running.map((meter) => meter.read().cpuSeconds)),
    sources: await serverCpuSeconds(sources),
    targets: await serverCpuSeconds(targets),
  };
  return async (meters) => {
    const tool = meters.map((meter) => meter.read());
    return {
      tool: sum(tool.map(({ cpuSeconds }) => cpuSeconds)) - before.tool,
      toolPeakBytes: sum(tool.map(({ peakBytes }) => peakBytes)),
      sources: (await serverCpuSeconds(sources)) - before.sources,
      targets: (await serverCpuSeconds(targets)) - before.targets,
    };
  };
}

export const COST_COLUMNS = ['CPU s, tool', 'CPU s, source', 'CPU s, target', 'peak MB, tool'] as const;

/** Medians for COST_COLUMNS; of the memory the most that was seen. */
export function costCells(costs: readonly Cost[]): string[] {
  const cpu = (of: 'tool' | 'sources' | 'targets'): string => fixed(median(costs.map((cost) => cost[of])));
  const peak = Math.max(...costs.map(({ toolPeakBytes }) => toolPeakBytes));
  const tool = peak === 0 ? [NOTHING, NOTHING] : [cpu('tool'), megabytes(peak)];
  return [tool[0]!, cpu('sources'), cpu('targets'), tool[1]!];
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
