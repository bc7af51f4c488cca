/** What the parts of one pair's migration share: its servers, its run, and who hears of what happens. */
import type { ServerSession } from '../client/session.ts';
import type { PairSpec } from '../core/endpoint.ts';
import { PreflightError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import type { Phase } from '../core/phase.ts';
import type { FeedSwitch } from './feed.ts';
import type { PairFacts } from './preflight.ts';
import type { Durability } from './run-folder.ts';

export interface PairContext {
  readonly pair: PairSpec;
  readonly options: RunOptions;
  /** The operator's sessions. */
  readonly source: ServerSession;
  readonly target: ServerSession;
  readonly runId: string;
  readonly runDir: string;
  readonly emit: (event: MigrationEvent) => void;
  /** Says something to people now. */
  readonly note: (message: string) => void;
  /** Says something in the summary. */
  readonly remember: (...notes: readonly string[]) => void;
  /** In the run folder when it resolves; durable, where it is not said otherwise. */
  readonly journal: (kind: string, data?: unknown, durability?: Durability) => Promise<void>;
}

/** The same behind a preflight. */
export interface CheckedPair extends PairContext {
  readonly facts: PairFacts;
}

/** How the pair stands at the moment: to be asked for anew behind each await. */
export interface PairState {
  readonly phase: Phase;
  /** True while a cutover or a rollback is under way, or being undone. */
  readonly inCutover: boolean;
  /** True where the target takes writes of applications though the phase does not say so yet. */
  readonly open: boolean;
  /** What the link pours into; null before there is a feed. */
  readonly into: FeedSwitch | null;
  /** True while there is a link with the source. */
  readonly linked: boolean;
  /** True while bytes of the source arrive and can go on to the target. */
  readonly bothConnected: boolean;
}

/** @param state the phase, or what else the pair is busy with, for people */
export function notNow(what: string, state: string): PreflightError {
  return new PreflightError(`cannot ${what} while the pair is ${state}`, {
    code: 'not-now',
    hint: 'wait until the pair is in sync',
  });
}
