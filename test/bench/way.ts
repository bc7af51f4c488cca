/** One way to bring servers into others, as the benchmark times it. The ways themselves: ways.ts and peer.ts. */
import type { Cleanup } from '../helpers/server.ts';
import { ProcessMeter } from './process-usage.ts';
import { atAnyEnd } from './scratch.ts';
import type { Pair } from './servers.ts';

export interface Way {
  readonly name: string;
  /** Settings of each target, as on the server's command line. */
  readonly targetArgs: readonly string[];
  /**
   * Begins for all pairs at once. If not told that it is to go on from there (`stays`), it may end as soon as all are
   * in sync. Whatever it begins ends with the round.
   */
  begin(round: Cleanup, pairs: readonly Pair[], stays: boolean): Copying;
}

export interface Copying {
  /** Resolves when every target has what its source has, and follows it. */
  readonly inSync: Promise<void>;
  /** Of the processes that do it; none where the servers do it by themselves. */
  readonly meters: readonly ProcessMeter[];
  /** Behind inSync: lets it come to its own end. What is not ended so is killed with the round. */
  end(): Promise<void>;
}

/** For a copy of all pairs. */
export const COPY_LIMIT_MS = 300_000;

/** Watches process `pid` until the round ends. */
export function metered(round: Cleanup, pid: number): ProcessMeter {
  const meter = new ProcessMeter(pid);
  atAnyEnd(round, () => meter.stop());
  return meter;
}
