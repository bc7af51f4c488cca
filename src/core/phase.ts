/** The named states of a pair (design.md, fixed) and the moves between them that are legal. */
import { InvariantError } from './errors.ts';

export type Phase =
  | 'checking'
  | 'snapshot'
  | 'catching-up'
  | 'in-sync'
  | 'writable'
  | 'promoted'
  | 'rolled-back'
  | 'failed'
  | 'stopped';

const MOVES: Record<Phase, readonly Phase[]> = {
  // a resumed pair: its snapshot is already on the target, or it was through with everything
  checking: ['snapshot', 'catching-up', 'promoted', 'failed', 'stopped'],
  snapshot: ['catching-up', 'snapshot', 'failed', 'stopped'],
  'catching-up': ['in-sync', 'snapshot', 'writable', 'failed', 'stopped'],
  'in-sync': ['catching-up', 'writable', 'snapshot', 'failed', 'stopped'],
  // writable → in-sync: a cutover that was undone
  writable: ['promoted', 'in-sync', 'catching-up', 'failed', 'stopped'],
  promoted: ['rolled-back', 'failed', 'stopped'],
  'rolled-back': ['stopped', 'failed'],
  failed: ['stopped'],
  stopped: [],
};

/** All phases, in the order of a pair's life. */
export const PHASES = Object.keys(MOVES) as readonly Phase[];

export function assertMove(from: Phase, to: Phase): void {
  if (!MOVES[from].includes(to)) throw new InvariantError(`illegal phase change ${from} -> ${to}`);
}

/** True where the run has nothing more to do for the pair, well or badly. */
export function isOver(phase: Phase): boolean {
  return phase === 'promoted' || isTerminal(phase);
}

/** True where nothing runs for the pair any more. */
export function isTerminal(phase: Phase): boolean {
  return phase === 'failed' || phase === 'stopped' || phase === 'rolled-back';
}
