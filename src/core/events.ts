/**
 * What a run tells the world: one union, shown as NDJSON by ui/json.ts, as lines or a table by the other
 * renderers. Keys named in design.md are fixed; `ts` is added by the renderer.
 */
import type { CutoverError } from './errors.ts';
import type { SourceTuningName } from './options.ts';
import type { Phase } from './phase.ts';
import { printable } from './text.ts';
import type { Throttle } from './throttle.ts';

/** Of an error's message and hint, in characters. */
const LONGEST_TEXT = 600;

export type CheckStatus = 'ok' | 'warn' | 'refuse';

/** One finding of the preflight. */
export interface CheckResult {
  readonly name: string;
  readonly status: CheckStatus;
  readonly detail: string;
  readonly hint?: string;
  /** The same as `hint`, for us to do: where it can be put back. */
  readonly proposal?: SettingProposal;
}

/** A setting of the source that the run would do better with, see migrate/source-tuning.ts. */
export interface SettingProposal {
  readonly tuning: SourceTuningName;
  /** As CONFIG SET takes them. */
  readonly setting: string;
  readonly value: string;
}

/** A client connection on the source. */
export interface ClientInfo {
  readonly addr: string;
  readonly name: string;
  readonly user: string;
  readonly lastCommand: string;
  readonly idleSeconds: number;
  /** True where the last command writes and was sent in the last seconds. */
  readonly writing: boolean;
}

/** Keys, all databases together. A set of function libraries that differs counts as one that is different. */
export interface VerifyResult {
  /** Found on both sides. */
  readonly compared: number;
  readonly different: number;
  /** On the source only. */
  readonly missing: number;
  /** On the target only. */
  readonly extra: number;
  /** Not the same in any look, and written to between the last two: nothing can be said of them. Left out: 0. */
  readonly unsettled?: number;
  /** Of those that were different, missing or extra, and are none of it any more. Left out: 0. */
  readonly repaired?: number;
}

/** How far a comparison is. */
export interface VerifyProgress {
  readonly compared: number;
  /** Keys that are to be compared, as told when it began. */
  readonly total: number;
  /** Not the same in the first look; they are looked at again. */
  readonly suspects: number;
  /** The round of looking again; 0: all keys are read for the first time. */
  readonly round: number;
}

export interface PairSummary {
  readonly pair: string;
  readonly phase: Phase;
  readonly keys: number;
  readonly seconds: number;
  /** From the source's fence to the target being writable; null where there was no cutover. */
  readonly writeOutageMs: number | null;
  /** What is left to do or to know, for people; e.g. how to lift a fence. */
  readonly notes: readonly string[];
}

/** Frozen state of one pair; every screen and every progress line prints from one of these. */
export interface PairSnapshot {
  readonly pair: string;
  /** `host:port`. */
  readonly source: string;
  readonly target: string;
  /** The wave of the host list that it is cut over with; null: none. */
  readonly wave: string | null;
  readonly phase: Phase;
  /** How the target is fed; null before the preflight has decided it. */
  readonly feed: 'attach' | 'write' | null;
  /** Why the pair is in this phase, or what it waits for; null where there is nothing to say. */
  readonly reason: string | null;
  /** True while the operator lets nothing go to the target. */
  readonly paused: boolean;
  /** What the operator lets go to the target at most; null: there is no limit. */
  readonly throttle: Throttle | null;
  /** Behind the cutover: whether a rollback loses nothing, and for how long; null where there is nothing to say. */
  readonly wayBack: string | null;
  readonly snapshotBytes: number;
  /** null when unknown: a diskless source does not say how long the snapshot is. */
  readonly snapshotTotal: number | null;
  readonly keys: number;
  /** Keys on the source as of preflight. */
  readonly keysTotal: number | null;
  readonly bytesPerSecond: number;
  readonly etaSeconds: number | null;
  readonly appliedOffset: number;
  readonly sourceOffset: number;
  readonly lagBytes: number;
  readonly lagSeconds: number;
  readonly commandsPerSecond: number;
  /** Commands that the target answered with an error that shows different data (WRONGTYPE and the like). */
  readonly divergences: number;
}

export type MigrationEvent =
  | {
      readonly event: 'phase';
      readonly pair: string;
      readonly from: Phase;
      readonly to: Phase;
      readonly reason?: string;
    }
  | ({ readonly event: 'progress' } & PairSnapshot)
  | ({ readonly event: 'check'; readonly pair: string } & CheckResult)
  | ({ readonly event: 'clients'; readonly pair: string } & ClientInfo)
  | ({ readonly event: 'verify'; readonly pair: string } & VerifyResult)
  | ({ readonly event: 'verify-progress'; readonly pair: string } & VerifyProgress)
  /** What a person, or a signal, asked for, and what came of it: the audit of a run. */
  | {
      readonly event: 'action';
      readonly pair?: string;
      /** `control`: the socket of the run folder. */
      readonly by: 'keyboard' | 'control' | 'signal';
      /** The key's meaning, as in core/ports.ts; `SIGINT` and the like; the word that was sent to the socket. */
      readonly action: string;
      /** `confirmed` and `declined` answer a question; `failed`: an error says why. */
      readonly result: 'asked' | 'confirmed' | 'declined' | 'done' | 'failed';
      readonly detail?: string;
    }
  /** One timed step of a cutover. */
  | {
      readonly event: 'step';
      readonly pair: string;
      readonly name: string;
      readonly ms: number;
      readonly detail?: string;
    }
  /** Something a person should know and no machine needs to act on. */
  | { readonly event: 'note'; readonly pair?: string; readonly message: string }
  | {
      readonly event: 'error';
      readonly pair?: string;
      readonly code: string;
      readonly message: string;
      readonly hint: string;
      readonly recovery: string;
    }
  | {
      readonly event: 'summary';
      readonly outcome: string;
      readonly exitCode: number;
      readonly pairs: readonly PairSummary[];
    };

/** How an error is told, of a pair or of the run: safe to show. */
export function errorEvent(
  { code, message, hint, recovery }: Pick<CutoverError, 'code' | 'message' | 'hint' | 'recovery'>,
  pair?: string,
): MigrationEvent & { readonly event: 'error' } {
  return {
    event: 'error',
    ...(pair === undefined ? {} : { pair }),
    code,
    message: printable(message, LONGEST_TEXT),
    hint: printable(hint, LONGEST_TEXT),
    recovery,
  };
}
