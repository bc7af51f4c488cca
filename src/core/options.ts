/** What a run was asked to do: filled by cli/, read by migrate/ and fleet/. Paths and URIs are already resolved. */
import type { Throttle } from './throttle.ts';

/** Names under which the source knows its replication commands: some services rename them. */
export interface ReplicationCommandNames {
  readonly psync: string;
  readonly sync: string;
  readonly replconf: string;
}

/**
 * When a shell command of the operator is run, with the facts of the pair in its environment. `start` and `before` may
 * veto by another exit code than 0, and `cutover` may have all undone; the others are only told.
 *
 * `start`: before anything of the pair is touched. `in-sync`: the first time that it is. `before`: before a cutover
 * touches the source. `cutover`: as soon as the target takes writes. `rollback`: as soon as the old source takes them
 * again. `failure`: when a pair that was begun has failed.
 */
export type HookEvent = 'start' | 'in-sync' | 'before' | 'cutover' | 'rollback' | 'failure';

export type Hooks = { readonly [event in HookEvent]?: string };

/** What of the source may be set otherwise for a run, by the names of the checks that propose it. */
export const SOURCE_TUNINGS = ['output-buffer', 'backlog', 'compression'] as const;
export type SourceTuningName = (typeof SOURCE_TUNINGS)[number];

export interface ListenOptions {
  /** null: the address from which we reach the target. */
  readonly host: string | null;
  /** 0: any free port. */
  readonly port: number;
  /** What the target is told to connect to; null: the address that is listened on. */
  readonly advertise: string | null;
}

/** How many pairs are moved together. */
export interface FleetOptions {
  /** Full copies at the same time; one at most for each source's host. */
  readonly parallelCopies: number;
  /** Worker processes; null: one a core where there are several pairs, none for a single one. */
  readonly workers: number | null;
  /** More pairs than that failed: no further one is cut over; null: any number may fail. */
  readonly maxFailures: number | null;
  /** So long the first pair of a wave is alone on its new server; null: no canary. */
  readonly canaryMs: number | null;
}

export interface RunOptions {
  readonly feed: 'auto' | 'attach' | 'write';
  readonly cutover: 'ask' | 'auto' | 'never';
  /** Rehearsal: end as soon as every pair is in sync. */
  readonly stopAtInSync: boolean;
  readonly cutoverTimeoutMs: number;
  /** False after `--no-source-fence`: the last writes on the source can be lost. */
  readonly sourceFence: boolean;
  /** False after `--no-reverse`: no way back is kept open behind the cutover. */
  readonly reverse: boolean;
  readonly hooks: Hooks;
  /** Feed `attach`: where the target finds us. */
  readonly listen: ListenOptions;
  readonly flushTarget: boolean;
  readonly allowNonempty: boolean;
  /** What the target has no place for may be left out, where nothing older holds it. */
  readonly allowLoss: boolean;
  /** Values and commands of types and modules that the target does not have may be left out, counted. */
  readonly skipUnknown: boolean;
  readonly assumeYes: boolean;
  readonly fleet: FleetOptions;
  /** The run that is gone on with; null: a new one. */
  readonly resumes: string | null;
  /** Absolute path; state, journal, spool and report live here. */
  readonly runDir: string;
  readonly commandNames: ReplicationCommandNames;
  /** The most that goes to a target in a second, at the start; a session can change it. */
  readonly throttle: Throttle;
  /** Settings of the source that the run may change, and puts back, where check proposes it. Empty: none. */
  readonly tuneSource: readonly SourceTuningName[];
  /** Send PUBLISH and SPUBLISH on to the target; off: subscribers are still on the source. */
  readonly forwardPublish: boolean;
  /** Keep the snapshot on disk until it is loaded, so that resume need not ask the source for a second one. */
  readonly keepSnapshot: boolean;
  /** Bytes of the source's stream kept in memory before they go to disk. */
  readonly spoolMemoryBytes: number;
  /** Bytes of spool on disk at which the run ends cleanly; Infinity: what the disk holds. */
  readonly spoolLimitBytes: number;
}

/** What one pair of a host list may be asked to do otherwise than the rest of the run. */
export type PairOptions = Partial<
  Pick<
    RunOptions,
    | 'feed'
    | 'flushTarget'
    | 'allowNonempty'
    | 'allowLoss'
    | 'forwardPublish'
    | 'keepSnapshot'
    | 'cutoverTimeoutMs'
    | 'sourceFence'
    | 'reverse'
    | 'hooks'
    | 'listen'
    | 'commandNames'
    | 'throttle'
    | 'tuneSource'
  >
>;

/** What a pair is to do: its own options, and the run's where it has none. */
export function optionsOfPair(pair: { readonly options?: PairOptions }, options: RunOptions): RunOptions {
  return { ...options, ...pair.options };
}

/** How two servers are compared. */
export interface VerifyOptions {
  /** `count`: numbers of keys alone. `sample`: keys taken at random, from both sides. `full`: every key. */
  readonly mode: 'count' | 'sample' | 'full';
  /** Keys taken at random from each side, for `sample`. */
  readonly sampleKeys: number;
  /** Expiries may differ by this much. */
  readonly ttlToleranceMs: number;
  /** How often a key that differs is looked at again before it counts. 0: at once, for servers at rest. */
  readonly rounds: number;
  /** Before the last of these rounds; before each earlier one half as long. */
  readonly lastRoundMs: number;
  /** What is done about keys that differ. `all`: keys that only the target has are deleted, too. */
  readonly repair: 'none' | 'differing' | 'all';
  /** Where a server answers slower than this, both are read more slowly. */
  readonly maxLatencyMs: number;
}

/** Where nothing else is asked for. The last round: a target in sync has had every write by then, also of a busy source. */
export const STANDARD_VERIFY: VerifyOptions = {
  mode: 'full',
  sampleKeys: 10_000,
  ttlToleranceMs: 1000,
  rounds: 5,
  lastRoundMs: 1600,
  repair: 'none',
  maxLatencyMs: 50,
};
