/** What the rounds of the soak share: the witness of the traffic, which shows each lost or doubled write. */
import type { TrafficStats } from '../../src/demo/traffic.ts';

export type Feed = 'attach' | 'write';

/** What the witness may be: every acknowledged batch once; of the unanswered ones nobody knows. */
export function witnessed(stats: readonly TrafficStats[]): { least: number; most: number } {
  const least = stats.reduce((sum, { witness }) => sum + witness, 0);
  return { least, most: least + stats.reduce((sum, { unanswered }) => sum + unanswered, 0) };
}

/** @throws Error where an acknowledged write is missing, or counted twice */
export function assertCounted(
  key: string,
  found: number,
  { least, most }: { least: number; most: number },
): void {
  if (found >= least && found <= most) return;
  throw new Error(`${key} is ${found}; acknowledged: ${least}${most > least ? ` to ${most}` : ''}`);
}
