/** One round of a benchmark or of the soak: servers and a pair of its own, which end with it. */
import type { Cleanup } from '../helpers/server.ts';

/** Does `work`; then what it asked for with after(), the last first, whether or not it failed. */
export async function asRound<Value>(work: (round: Cleanup) => Promise<Value>): Promise<Value> {
  const ends: (() => void | Promise<void>)[] = [];
  try {
    return await work({ after: (end) => void ends.push(end) });
  } finally {
    for (const end of ends.reverse()) await end();
  }
}
