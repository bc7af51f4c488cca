/**
 * How long writes stand still at c, at 2,000 writes a second: from the pause to the target being writable. Each time on
 * new servers, with the way back of a session, in this process: an operator's session is warm, too.
 */
import { startTraffic, WITNESS_KEY } from '../../src/demo/traffic.ts';
import { plain } from '../helpers/client.ts';
import { atEnd, type Cleanup } from '../helpers/server.ts';
import { until } from '../helpers/wait.ts';
import { inSync } from '../integration/migration-scene.ts';
import { fixed, median, type Section, spread } from './figures.ts';
import { asRound } from './round.ts';

const FEEDS = ['write', 'attach'] as const;
/** Writes of the application before each cutover. */
const WRITES_BEFORE = 2_000;

/** @param runs cutovers of each feed */
export async function cutovers(runs: number): Promise<Section> {
  const rows: string[][] = [];
  const failures: string[] = [];
  for (const feed of FEEDS) {
    const outages: number[] = [];
    for (let run = 0; run < runs; run++) {
      try {
        outages.push(await asRound((round) => outageMs(round, feed)));
      } catch (error) {
        failures.push(feed);
        console.error(`${feed} has failed:`, error);
      }
    }
    rows.push([fixed(median(outages), 0), feed, spread(outages, 0), String(outages.length)]);
  }
  return {
    title: 'Cutover: how long writes stand still',
    about: 'Under 2,000 writes a second, from the pause on the source until the target takes writes.',
    columns: ['ms', 'feed', 'from-to', 'cutovers'],
    rows,
    failures,
  };
}

async function outageMs(round: Cleanup, feed: (typeof FEEDS)[number]): Promise<number> {
  const { source, onTarget, migration } = await inSync(round, {
    feed,
    cutover: 'ask',
    cutoverTimeoutMs: 10_000,
  });
  const traffic = await startTraffic({ port: source.port });
  atEnd(round, async () => void (await traffic.stop()));
  await until(() => traffic.stats().acknowledged >= WRITES_BEFORE && migration.phase === 'in-sync', {
    timeoutMs: 60_000,
  });
  await migration.cutOver();
  const { witness, lastError } = await traffic.stop();
  const arrived = Number(plain(await onTarget.call('GET', WITNESS_KEY)));
  if (arrived < witness)
    throw new Error(`${witness - arrived} acknowledged writes are missing: ${lastError}`);
  return migration.summary().writeOutageMs ?? Number.NaN;
}
