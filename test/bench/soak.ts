/**
 * `npm run soak [-- --minutes 10 --seed 1 --rounds 50 --feed attach]`: rounds of a migration under random faults, one line
 * each, until the minutes or the rounds are over. Seeds are counted up from the first one; `--seed S --rounds 1` repeats
 * the faults of one round. A round that failed keeps its folder. `-- --way-back [--minutes 2 --behind 30]`: four rounds
 * there and back instead. `-- --fleet 50 [--poison refusing]`: a fleet, one of whose pairs goes wrong (soak-fleet.ts). Exit
 * code 1 if a round failed.
 */
import { parseArgs } from 'node:util';
import { planOf } from './fault-plan.ts';
import { faultRound, type RoundResult } from './fault-round.ts';
import { asRound } from './round.ts';
import { fleetRounds } from './soak-fleet.ts';
import { thereAndBack } from './soak-way-back.ts';
import type { Feed } from './witness.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seed: { type: 'string' },
    rounds: { type: 'string' },
    feed: { type: 'string' },
    'way-back': { type: 'boolean', default: false },
    behind: { type: 'string', default: '30' },
    fleet: { type: 'string' },
    poison: { type: 'string' },
  },
});
const feeds: readonly Feed[] =
  values.feed === 'attach' || values.feed === 'write' ? [values.feed] : ['attach', 'write'];

// 'exit' ends the servers
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));
if (values.fleet !== undefined) await fleetRounds(Number(values.fleet), values.poison);
else if (values['way-back']) await waysBack();
else await faultRounds();
// a round that failed may have left a socket open; servers end with this process
process.exit();

async function faultRounds(): Promise<void> {
  const first = Number(values.seed ?? 1 + Math.floor(Math.random() * 1_000_000));
  const rounds = Number(values.rounds ?? Number.POSITIVE_INFINITY);
  const until =
    Date.now() +
    Number(values.minutes ?? (values.rounds === undefined ? 10 : Number.POSITIVE_INFINITY)) * 60_000;
  const totals = { rounds: 0, failed: [] as string[], faults: new Map<string, number>(), acknowledged: 0 };
  for (let seed = first; seed < first + rounds && Date.now() < until; seed++) {
    // both feeds in turn, and the same one for the same seed
    const feed = feeds[seed % feeds.length] ?? 'write';
    const began = Date.now();
    totals.rounds++;
    try {
      const result = await asRound((t) => faultRound(t, planOf(seed, feed)));
      for (const [name, times] of result.faults)
        totals.faults.set(name, (totals.faults.get(name) ?? 0) + times);
      totals.acknowledged += result.acknowledged;
      console.log(
        `seed ${seed}  ${feed}  equal  ${said(result)}; ${Math.round((Date.now() - began) / 1000)} s`,
      );
    } catch (error) {
      totals.failed.push(`${seed} (${feed})`);
      process.exitCode = 1;
      console.log(`seed ${seed}  ${feed}  FAILED  ${error instanceof Error ? error.message : String(error)}`);
      console.log(`  again: npm run soak -- --seed ${seed} --rounds 1 --feed ${feed}`);
    }
  }
  console.log(
    `${totals.rounds} rounds from seed ${first}, ${totals.failed.length} failed ${totals.failed.join(', ')}`,
  );
  console.log(`${totals.acknowledged} writes acknowledged; survived: ${counted(totals.faults)}`);
}

function said({ faults, fullCopies, refusals, acknowledged, digest }: RoundResult): string {
  const left = refusals.length > 0 ? `; left to the operator: ${refusals.join(', ')}` : '';
  return `${digest.slice(0, 10)}; ${counted(faults)}; full copies: ${fullCopies}${left}; ${acknowledged} writes`;
}

function counted(faults: ReadonlyMap<string, number>): string {
  const sorted = [...faults].sort(([one], [other]) => one.localeCompare(other));
  return sorted.map(([name, times]) => `${times} ${name}`).join(', ') || 'no fault';
}

async function waysBack(): Promise<void> {
  const times = { beforeMs: Number(values.minutes ?? '2') * 60_000, behindMs: Number(values.behind) * 1000 };
  for (const feed of feeds) {
    for (const way of ['c', 'e, m'] as const) {
      try {
        console.log(`${feed}  ${way}: ${await asRound((t) => thereAndBack(t, feed, way, times))}`);
      } catch (error) {
        process.exitCode = 1;
        console.log(`${feed}  ${way}: FAILED: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
}
