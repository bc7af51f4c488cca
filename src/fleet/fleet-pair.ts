/**
 * What the session needs of a pair, wherever it runs: a Migration in this process, or a RemotePair that stands for one
 * in a worker process.
 */
import type { CutoverError } from '../core/errors.ts';
import type { PairSnapshot, PairSummary, SettingProposal } from '../core/events.ts';
import type { RunFolder } from '../migrate/run-folder.ts';
import type { SteeredPair } from './operator-keys.ts';

/** What the preflight has learnt that the session adds up. */
export interface PairSize {
  /** Bytes; null: the source does not say. */
  readonly usedMemory: number | null;
  readonly keysTotal: number;
  /** Settings of its source that the run would do better with. */
  readonly proposals: readonly SettingProposal[];
}

export interface FleetPair extends SteeredPair {
  /** Why the pair failed; null where it did not. */
  readonly error: CutoverError | null;
  /** null before check(), and where it was refused. */
  readonly facts: PairSize | null;
  /** True as soon as the source has sent all of its snapshot, loaded or not. */
  readonly snapshotReceived: boolean;
  /** True where the pair is over, and all is put away that was to be put away then. */
  readonly settled: boolean;
  /** True where something of ours may still be on a server. */
  readonly leftBehind: boolean;
  /** Looks at both sides and changes nothing. A refusal, or a side out of reach, fails the pair. */
  check(): Promise<unknown>;
  /**
   * Begins to follow the source; returns when that is under way, or the pair failed.
   * @param tuned true: all that check() proposes is set on the source for the run, and put back
   */
  start(folder: RunFolder, tuned: boolean): Promise<void>;
  /** Ends the pair: before its cutover the source stays as it was, and the target is given back. */
  stop(reason: string): Promise<void>;
  /** Fails the pair for a reason that lies outside of it. */
  abandon(error: CutoverError): void | Promise<void>;
  snapshot(): PairSnapshot;
  summary(): PairSummary;
}
