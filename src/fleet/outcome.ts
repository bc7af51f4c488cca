/** How a session has ended, told from how its pairs have: the outcome's name and the exit code. Pure. */
import { type CutoverError, EXIT, type ExitCode } from '../core/errors.ts';
import type { Phase } from '../core/phase.ts';

/** What counts of a pair; Migration has it. */
interface EndedPair {
  readonly phase: Phase;
  readonly error: CutoverError | null;
  /** True where something of ours may still be on a server. */
  readonly leftBehind: boolean;
}

/** The exit code of what failed; null: nothing did. */
export function failureCodeOf(pairs: readonly EndedPair[]): ExitCode | null {
  const first = pairs.find(({ error }) => error !== null)?.error ?? null;
  if (first === null) return null;
  const someWentOn = pairs.some(({ phase }) => phase === 'promoted' || phase === 'rolled-back');
  return someWentOn || pairs.some(({ leftBehind }) => leftBehind) ? EXIT.attention : first.exitCode;
}

/** For a session in which no pair runs any more. */
export function outcomeOf(pairs: readonly EndedPair[]): { outcome: string; exitCode: ExitCode } {
  const some = (wanted: Phase): boolean => pairs.some(({ phase }) => phase === wanted);
  const failure = failureCodeOf(pairs);
  if (failure !== null) {
    const someWentOn = some('promoted') || some('rolled-back');
    return { outcome: someWentOn ? 'partly-failed' : 'failed', exitCode: failure };
  }
  if (!some('rolled-back')) return { outcome: 'promoted', exitCode: EXIT.done };
  return { outcome: some('promoted') ? 'partly-rolled-back' : 'rolled-back', exitCode: EXIT.cancelled };
}
