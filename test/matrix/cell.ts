/** Runs one cell of the matrix: two servers, data, traffic, the built program, and the comparison. */
import { compareServers } from '../../src/demo/compare.ts';
import { loadDataset } from '../../src/demo/dataset.ts';
import type { DemoServer } from '../../src/demo/server.ts';
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { asRound } from '../bench/round.ts';
import type { CliRun } from '../helpers/cli.ts';
import type { Release } from '../helpers/releases.ts';
import { atEnd, type Cleanup, testServer } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { ask, eventsOf, migrate } from '../scenarios/support.ts';
import {
  type Feed,
  type Finding,
  judge,
  type OptionalType,
  refusal,
  type Verdict,
  type WouldLose,
} from './verdict.ts';

export interface Pair {
  readonly source: Release;
  readonly target: Release;
  readonly feed: Feed;
}

interface Setting {
  readonly allowLoss: boolean;
  /** Of the types that not every release has: those in the data set, and those left out that the source has. */
  readonly types: ReadonlySet<OptionalType>;
  readonly without: readonly OptionalType[];
}

/** The preflight's, for types that the target has not. */
const TYPE_CHECKS: ReadonlySet<string> = new Set(['modules', 'streams']);
const KEYS = 1_000;
/** More than fit into the compact form of any type. */
const BIG_MEMBERS = 600;
const WRITES_PER_SECOND = 1_000;
/** Of the traffic: few, so that each key is written to many times. */
const KEYS_PER_TYPE = 30;

/**
 * Never throws: what goes wrong is a verdict. What the target has no type for must stop a run first, and is then left
 * out; what it loses must be refused first, and is then allowed.
 */
export async function runCell(pair: Pair): Promise<Verdict> {
  try {
    const offered = typesOf(pair.source);
    const known = typesOf(pair.target);
    const without = [...offered].filter((type) => !known.has(type));
    const types = new Set([...offered].filter((type) => known.has(type)));
    const verdict = await movedAsAllowed(pair, { types, without });
    // attach, where it is refused: `write` has shown what becomes of such types
    if (verdict.kind !== 'equal') return verdict;
    for (const type of without) await asRound((t) => mustStop(t, pair, new Set([...types, type])));
    return verdict;
  } catch (error) {
    return { kind: 'failed', reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Streams: 5.0. Vector sets: Redis 8.0. */
function typesOf({ kind, major }: Release): ReadonlySet<OptionalType> {
  const types: OptionalType[] = [];
  if (major >= 5) types.push('streams');
  if (kind === 'redis' && major >= 8) types.push('vector sets');
  return new Set(types);
}

/** First without --allow-loss; with it where the preflight says that it needs it. */
async function movedAsAllowed(pair: Pair, data: Omit<Setting, 'allowLoss'>): Promise<Verdict> {
  for (const allowLoss of [false, true]) {
    const outcome = await asRound((t) => move(t, pair, { ...data, allowLoss }));
    if (outcome.kind !== 'would-lose') return outcome;
  }
  return { kind: 'failed', reason: 'refused with --allow-loss, too' };
}

async function move(
  t: Cleanup,
  pair: Pair,
  { types, without, allowLoss }: Setting,
): Promise<Verdict | WouldLose> {
  const { source, target } = await servers(t, pair, types);
  const traffic = await startTraffic({
    port: source.port,
    ratePerSecond: WRITES_PER_SECOND,
    streams: types.has('streams'),
    manyForms: true,
    keysPerType: KEYS_PER_TYPE,
  });
  atEnd(t, async () => {
    await traffic.stop();
  });
  const flags = allowLoss ? ['--allow-loss'] : [];
  const run = migrate(t, [source.uri, target.uri], ['--cutover', 'auto', ...flags], { feed: pair.feed });
  const code = await run.exit;
  if (code === 3) {
    if (Number(await ask(target.port, 'DBSIZE')) > 0) throw new Error('refused, and the target holds keys');
    return refusal(findingsOf(run));
  }
  if (code !== 0) throw new Error(endOf(run, code));
  await until(() => traffic.stats().refused > 0, { timeoutMs: 30_000, what: 'a fenced source' });
  const { witness } = await traffic.stop();
  const comparison = await compareServers(source.port, target.port, { thorough: true });
  const there = Number(await ask(target.port, 'GET', WITNESS_KEY));
  if (there !== witness) throw new Error(`${witness} batches were acknowledged, the target has ${there}`);
  return judge(findingsOf(run), comparison, without);
}

/** A value of a type that the target has not is refused, or ends the run; it is never left out without a word. */
async function mustStop(t: Cleanup, pair: Pair, types: ReadonlySet<OptionalType>): Promise<void> {
  const { source, target } = await servers(t, pair, types);
  const args = ['--allow-loss', '--stop-at', 'in-sync'];
  const run = migrate(t, [source.uri, target.uri], args, { feed: pair.feed });
  const code = await run.exit;
  const refused =
    code === 3 && findingsOf(run).some(({ status, name }) => status === 'refuse' && TYPE_CHECKS.has(name));
  const stopped = code === 1 && eventsOf(run, 'error').some((error) => error['code'] === 'target-lacks-type');
  if (!refused && !stopped) throw new Error(`a value of a type that the target has not: ${endOf(run, code)}`);
}

async function servers(
  t: Cleanup,
  pair: Pair,
  types: ReadonlySet<OptionalType>,
): Promise<{ source: DemoServer; target: DemoServer }> {
  const [source, target] = await Promise.all([
    testServer(t, { binary: pair.source.path }),
    testServer(t, { binary: pair.target.path }),
  ]);
  await loadDataset(source.port, {
    keys: KEYS,
    bigMembers: BIG_MEMBERS,
    streams: types.has('streams'),
    vectorSets: types.has('vector sets'),
  });
  return { source, target };
}

function findingsOf(run: CliRun): Finding[] {
  return eventsOf(run, 'check').map((event) => ({
    name: String(event['name']),
    status: String(event['status']),
    detail: String(event['detail']),
    hint: String(event['hint'] ?? ''),
  }));
}

function endOf(run: CliRun, code: number | null): string {
  const errors = eventsOf(run, 'error').map((error) => `${error['code']}: ${error['message']}`);
  return `exit code ${code}; ${errors.join('; ') || 'no error'}`;
}
