/** How far behind a following target is, when its source has been driven as hard as it goes. By all ways in turn. */
import { performance } from 'node:perf_hooks';
import { type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { Values } from './data-sets.ts';
import { fixed, median, type Section, spread, thousands } from './figures.ts';
import { drive } from './load.ts';
import { connected, SOURCE_ARGS } from './servers.ts';
import { COST_COLUMNS, type Cost, costCells, countCosts, type Effort, inTurns } from './turns.ts';
import type { Way } from './way.ts';
import { liveWays } from './ways.ts';

const SETS = 3_000_000;
const BEHIND_LIMIT_MS = 180_000;
/** Comes behind all the others. */
const LAST_KEY = 'bench:last';

interface Sample {
  /** From the last answer of the source until the target has it. */
  readonly secondsBehind: number;
  /** SETs that the source has answered, a second. */
  readonly offered: number;
  /** SETs that the target has taken, a second, from the first one offered on. */
  readonly applied: number;
  readonly cost: Cost;
}

export async function live({ scale, runs }: Effort): Promise<Section> {
  const count = Math.max(1, Math.round(SETS * scale));
  const values = new Values(1);
  const { samples, failures } = await inTurns(liveWays(), runs, (round, way) =>
    follow(round, way, count, values),
  );
  return {
    title: 'Live: a source at full speed',
    about: `${count} SETs of 100 B to a source that is followed already, as fast as it takes them: seconds until the target has the last one, too.`,
    columns: ['seconds behind', 'way', 'from-to', 'offered/s', 'applied/s', ...COST_COLUMNS],
    rows: [...samples].map(([way, ofWay]) => {
      const behind = ofWay.map(({ secondsBehind }) => secondsBehind);
      return [
        fixed(median(behind)),
        way.name,
        spread(behind),
        thousands(median(ofWay.map(({ offered }) => offered))),
        thousands(median(ofWay.map(({ applied }) => applied))),
        ...costCells(ofWay.map(({ cost }) => cost)),
      ];
    }),
    failures,
  };
}

async function follow(round: Cleanup, way: Way, count: number, values: Values): Promise<Sample> {
  const source = await testServer(round, { args: [...SOURCE_ARGS, '--repl-backlog-size', '1gb'] });
  const target = await testServer(round, { args: way.targetArgs });
  const pairs = [{ source, sourceHost: '127.0.0.1', target }];
  const { inSync, meters, end } = way.begin(round, pairs, true);
  await inSync;
  await connected(source, async (to) => {
    // behind a snapshot that went over the socket it sends nothing before the replica's first ACK, up to a second later
    await until(async () => !/state=(?!online)/.test(String(await to.call('INFO', 'replication'))));
  });
  const countedCost = await countCosts(pairs, meters);
  const began = performance.now();
  await drive(source.port, count, values);
  await connected(source, (to) => to.call('SET', LAST_KEY, '1'));
  const offered = performance.now();
  await connected(target, (to) =>
    until(async () => (await to.call('EXISTS', LAST_KEY)) === 1, {
      timeoutMs: BEHIND_LIMIT_MS,
      what: 'the target has the last write',
    }),
  );
  const applied = performance.now();
  const cost = await countedCost(meters);
  await end();
  return {
    secondsBehind: (applied - offered) / 1000,
    offered: (count / (offered - began)) * 1000,
    applied: (count / (applied - began)) * 1000,
    cost,
  };
}
