/**
 * The fleet form of the soak: many pairs moved at once under traffic, first all well, then with one of them poisoned in
 * each way that poisoned-fleet.ts knows. Says what the others felt of it.
 */
import { type FleetFigures, POISONS, type Poison, poisonedFleet } from '../scenarios/poisoned-fleet.ts';
import { asRound } from './round.ts';

const WRITES_PER_SECOND = 40;
const WATCH_MS = 10_000;

/**
 * One line each; sets the exit code 1 where a round failed.
 *
 * @param only the one poison; undefined: none, then each
 */
export async function fleetRounds(pairs: number, only: string | undefined): Promise<void> {
  const all: readonly (Poison | null)[] = [null, ...POISONS];
  for (const poison of all.filter((each) => only === undefined || (each ?? 'none') === only)) {
    const began = Date.now();
    const name = poison ?? 'all well';
    try {
      const setting = { pairs, poison, rate: WRITES_PER_SECOND, watchMs: WATCH_MS };
      const figures = await asRound((t) => poisonedFleet(t, setting));
      console.log(`${pairs} pairs, ${name}: ${said(figures)}; ${Math.round((Date.now() - began) / 1000)} s`);
    } catch (error) {
      process.exitCode = 1;
      console.log(
        `${pairs} pairs, ${name}: FAILED: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
}

function said({ inSyncMs, before, behind, worst, outagesMs, memoryBytes, deaths }: FleetFigures): string {
  return [
    `all in sync after ${(inSyncMs / 1000).toFixed(1)} s`,
    `lag before ${spread(before)}, behind ${spread(behind)}; worst of each pair ${spread(worst)}`,
    `writes stood still for ${spread(outagesMs)}`,
    `${(memoryBytes / (1 << 20)).toFixed(0)} MB resident in all`,
    `${deaths} workers died`,
  ].join('; ');
}

/** `median 3, p99 20, most 41 ms`. */
function spread(values: readonly number[]): string {
  const sorted = [...values].sort((one, other) => one - other);
  const at = (share: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(0);
  return `median ${at(0.5)}, p99 ${at(0.99)}, most ${at(1)} ms`;
}
