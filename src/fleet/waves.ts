/**
 * In which order `--cutover auto`, and the operator's key for a wave, take the pairs: wave after wave as the host list
 * has them; within a wave a canary first, where one is asked for. Pure: what is due now is told from how things are.
 */
import { isOver, type Phase } from '../core/phase.ts';

export interface WavePair {
  readonly phase: Phase;
  /** A pair that the operator holds back is not cut over. */
  readonly paused: boolean;
  readonly pair: { readonly name: string; readonly wave?: string };
}

export interface Wave<Pair> {
  /** null: the host list knows no waves. */
  readonly name: string | null;
  readonly pairs: readonly Pair[];
}

export interface WaveRules {
  /** More failures than that, and no further pair is cut over; null: any number. */
  readonly maxFailures: number | null;
  /** So long a wave's first pair is alone on its new server; null: no canary. */
  readonly canaryMs: number | null;
}

/** What is due: pairs to be cut over now, nothing yet, or nothing any more and why. */
export type WaveStep<Pair> =
  | { readonly kind: 'cut-over'; readonly pairs: readonly Pair[] }
  | { readonly kind: 'wait' }
  | { readonly kind: 'halt'; readonly reason: string };

/** Waves in the order in which the list names them. */
export function wavesOf<Pair extends WavePair>(pairs: readonly Pair[]): Wave<Pair>[] {
  const waves = new Map<string | null, Pair[]>();
  for (const pair of pairs) {
    const name = pair.pair.wave ?? null;
    const wave = waves.get(name);
    if (wave === undefined) waves.set(name, [pair]);
    else wave.push(pair);
  }
  return [...waves].map(([name, members]) => ({ name, pairs: members }));
}

/** The first wave that is not through. */
export function currentWave<Pair extends WavePair>(pairs: readonly Pair[]): Wave<Pair> | null {
  return wavesOf(pairs).find((wave) => wave.pairs.some(({ phase }) => !isOver(phase))) ?? null;
}

/**
 * What `--cutover auto` does now.
 *
 * @param promotedAt when a pair was promoted, ms of the same clock as `nowMs`; undefined: it was not, or before our time
 */
export function nextStep<Pair extends WavePair>(
  pairs: readonly Pair[],
  rules: WaveRules,
  promotedAt: (pair: Pair) => number | undefined,
  nowMs: number,
): WaveStep<Pair> {
  const failures = pairs.filter(({ phase }) => phase === 'failed' || phase === 'rolled-back').length;
  if (rules.maxFailures !== null && failures > rules.maxFailures) {
    return { kind: 'halt', reason: `${failures} pairs failed (--max-failures ${rules.maxFailures})` };
  }
  const waves = wavesOf(pairs);
  const wave = currentWave(pairs);
  if (wave === null) return { kind: 'wait' };
  const left = wave.pairs.filter(({ phase }) => !isOver(phase));
  const ready = left.filter(({ phase, paused }) => !paused && (phase === 'in-sync' || phase === 'writable'));
  const [canary] = wave.pairs;
  if (rules.canaryMs !== null && canary !== undefined && wave.pairs.length > 1) {
    if (canary.phase === 'failed' || canary.phase === 'rolled-back' || canary.phase === 'stopped') {
      return { kind: 'halt', reason: `the canary ${canary.pair.name} did not come through` };
    }
    if (canary.phase !== 'promoted') {
      return ready.includes(canary) ? { kind: 'cut-over', pairs: [canary] } : { kind: 'wait' };
    }
    const at = promotedAt(canary);
    if (at !== undefined && nowMs - at < rules.canaryMs) return { kind: 'wait' };
  }
  // several waves: one moves as a whole; a single one pair by pair, as they get ready
  const whole = waves.length > 1 && !wave.pairs.some(({ phase }) => phase === 'promoted');
  if (ready.length === 0 || (whole && ready.length < left.length)) return { kind: 'wait' };
  return { kind: 'cut-over', pairs: ready };
}
