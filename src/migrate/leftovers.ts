/**
 * What a run that ended, or was ended, has left: read from the run folder's journal. Pure; resume acts on it.
 * A fence stands in the journal before it is set, so "set" here means "may be set".
 */
import { CheckpointError } from '../core/errors.ts';
import type { Phase } from '../core/phase.ts';
import type { JournalEntry } from './run-folder.ts';

export interface Leftovers {
  /** The last phase that was noted; null: the pair was never begun. */
  readonly phase: Phase | null;
  /** As written by Fence.toJournal(); null: lifted, or never set. */
  readonly targetFence: unknown;
  readonly sourceFence: unknown;
  /** True where the cutover had come as far as letting the applications onto the target, the source fenced. */
  readonly cutOver: boolean;
  readonly runUser: boolean;
}

export function leftoversOf(journal: readonly JournalEntry[], pair: string): Leftovers {
  let phase: Phase | null = null;
  let targetFence: unknown = null;
  let sourceFence: unknown = null;
  let cutOver = false;
  let runUser = false;
  for (const entry of journal) {
    if (entry.pair !== pair) continue;
    switch (entry.kind) {
      case 'phase':
        phase = entry.data as Phase;
        break;
      case 'run-user':
        runUser = true;
        break;
      case 'run-user-dropped':
        runUser = false;
        break;
      case 'target-fence':
        targetFence = entry.data;
        cutOver = false;
        break;
      case 'target-fence-lifted':
        targetFence = null;
        cutOver = sourceFence !== null;
        break;
      case 'source-fence':
        sourceFence = entry.data;
        break;
      case 'source-fence-lifted':
        sourceFence = null;
        cutOver = false;
        break;
      default:
        throw new CheckpointError(`the journal of the run holds an entry of unknown kind "${entry.kind}"`, {
          code: 'run-dir-damaged',
          hint: 'the run was made by another release of redis-cutover: resume it with that one',
        });
    }
  }
  return { phase, targetFence, sourceFence, cutOver, runUser };
}
