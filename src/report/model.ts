/**
 * What a report holds: the content of report.json, from which page.ts makes report.html. Built by recorder.ts; a
 * resumed run reads it back and goes on with it.
 */
import type { CheckResult, ClientInfo, MigrationEvent, VerifyResult } from '../core/events.ts';
import type { Phase } from '../core/phase.ts';
import type { SeriesData } from './series.ts';
import type { SettingChange } from './setting-changes.ts';

/** All times are ISO texts. */
export interface RunReport {
  readonly format: typeof REPORT_FORMAT;
  /** null: no run; `check` or `verify` alone. Nothing is told of phases and cutovers then. */
  readonly runId: string | null;
  readonly startedAt: string;
  /** The processes that worked on the run, in order. */
  readonly sessions: readonly SessionReport[];
  /** How the last one ended: as in the `summary` event. */
  readonly outcome: string;
  readonly exitCode: number;
  readonly pairs: readonly PairReport[];
  readonly actions: readonly ActionRecord[];
  /** Messages that are about no pair. */
  readonly messages: readonly MessageRecord[];
}

/** Raised where an older reader would misunderstand the file. */
export const REPORT_FORMAT = 1;

export type SessionReport =
  | {
      readonly kind: 'ended';
      readonly command: string;
      /** Of redis-cutover. */
      readonly version: string;
      /** `user@machine`. */
      readonly by: string;
      readonly startedAt: string;
      readonly endedAt: string;
      readonly outcome: string;
      readonly exitCode: number;
    }
  /** It made no report: the journal alone knows of it, from its first line to its last. */
  | { readonly kind: 'killed'; readonly startedAt: string; readonly endedAt: string };

export interface PairReport {
  readonly name: string;
  /** `host:port`. */
  readonly source: string;
  readonly target: string;
  readonly feed: 'attach' | 'write' | null;
  /** At the end. */
  readonly phase: Phase;
  readonly keys: number;
  /** See PairSummary; of the latest cutover that took place. */
  readonly writeOutageMs: number | null;
  /** What is left to do or to know, as of the latest summary. */
  readonly remarks: readonly string[];
  readonly phases: readonly PhaseRecord[];
  readonly series: SeriesData;
  /** Of the latest preflight. */
  readonly checks: readonly CheckResult[];
  readonly verifies: readonly (VerifyResult & { readonly at: string })[];
  readonly clients: readonly ClientRecord[];
  readonly steps: readonly StepRecord[];
  readonly settings: readonly SettingChange[];
  readonly messages: readonly MessageRecord[];
  /** Entries that long lists have lost from their middle. */
  readonly omitted: number;
}

export interface PhaseRecord {
  readonly at: string;
  readonly phase: Phase;
  readonly reason: string | null;
}

/** A connection that was shown, the last time; `firstAt` the first. */
export interface ClientRecord extends ClientInfo {
  readonly firstAt: string;
  readonly at: string;
}

/** `ms` counts from the beginning of its cutover. */
export interface StepRecord {
  readonly at: string;
  readonly name: string;
  readonly ms: number;
  readonly detail: string | null;
}

export interface MessageRecord {
  readonly at: string;
  readonly kind: 'note' | 'error';
  readonly text: string;
  /** Of errors. */
  readonly code: string | null;
  readonly hint: string | null;
}

export type ActionRecord = Omit<Extract<MigrationEvent, { event: 'action' }>, 'event'> & {
  readonly at: string;
};
