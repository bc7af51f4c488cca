/** What the parts of one pair's migration share: its servers, its run, and who hears of what happens. */
import type { ServerSession } from '../client/session.ts';
import type { PairSpec } from '../core/endpoint.ts';
import type { MigrationEvent } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import type { PairFacts } from './preflight.ts';

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
  /** Durable in the run folder when it resolves. */
  readonly journal: (kind: string, data?: unknown) => Promise<void>;
}

/** The same behind a preflight. */
export interface CheckedPair extends PairContext {
  readonly facts: PairFacts;
}
