/**
 * What becomes of the pairs of a worker process that has died. Which of them has killed it nobody knows: from the second
 * death on they are parted, half by half, until the one that does it is alone. Pure.
 */

/** How often a pair may take its own worker with it. */
const MOST_STRIKES = 3;

export interface Suspect {
  readonly pair: number;
  /** Deaths of workers that it was in, without the present one. */
  readonly strikes: number;
}

export interface Verdict {
  /** Not tried again: whoever was alone in a worker for the last of three deaths. */
  readonly quarantined: readonly number[];
  /** Each goes into a new worker of its own. */
  readonly groups: readonly (readonly number[])[];
}

export function afterDeath(suspects: readonly Suspect[]): Verdict {
  const pairs = suspects.map(({ pair }) => pair);
  const [first] = suspects;
  if (first === undefined) return { quarantined: [], groups: [] };
  if (suspects.length === 1) {
    return first.strikes + 1 >= MOST_STRIKES
      ? { quarantined: pairs, groups: [] }
      : { quarantined: [], groups: [pairs] };
  }
  // once may be an accident: the system was short of memory, somebody has ended it
  if (suspects.every(({ strikes }) => strikes === 0)) return { quarantined: [], groups: [pairs] };
  const half = Math.ceil(pairs.length / 2);
  return { quarantined: [], groups: [pairs.slice(0, half), pairs.slice(half)] };
}
