/** A run for the tests of report/: events and journal as a session makes them, on a clock of its own. */
import type { MigrationEvent } from '../../../src/core/events.ts';
import type { JournalLine, RunFile } from '../../../src/migrate/run-folder.ts';
import type { RunReport } from '../../../src/report/model.ts';
import { Recorder } from '../../../src/report/recorder.ts';
import { pairSnapshot } from '../ui/fake.ts';

const BEGIN = Date.parse('2026-04-12T03:15:00.000Z');

/** ISO time, so many seconds behind the beginning of the run. */
export function at(seconds: number): string {
  return new Date(BEGIN + seconds * 1000).toISOString();
}

export function runFile(names: readonly string[]): RunFile {
  const server = (host: string) => ({ host, port: 6379, username: null, tls: null });
  return {
    runId: 'f00',
    startedAt: at(0),
    pairs: names.map((name) => ({ name, source: server(`old-${name}`), target: server(`new-${name}`) })),
    // not looked at
    options: {} as RunFile['options'],
  };
}

export class Session {
  readonly journal: JournalLine[] = [];
  readonly recorder: Recorder;
  #now: number;

  /** @param seconds when it begins */
  constructor(seconds: number, former: RunReport | null = null, command = 'migrate', pairs = 1) {
    this.#now = BEGIN + seconds * 1000;
    const facts = { command, version: '0.1.0', by: 'op@desk', pairs };
    this.recorder = new Recorder(facts, former, () => new Date(this.#now));
  }

  at(seconds: number, ...events: readonly MigrationEvent[]): this {
    this.#now = BEGIN + seconds * 1000;
    for (const event of events) this.recorder.event(event);
    return this;
  }

  /** A phase is an event, and a line of the journal. */
  phase(seconds: number, pair: string, from: PhaseName, to: PhaseName, reason?: string): this {
    this.journal.push({ kind: 'phase', pair, data: to, at: at(seconds) });
    return this.at(seconds, {
      event: 'phase',
      pair,
      from,
      to,
      ...(reason === undefined ? {} : { reason }),
    });
  }

  progress(seconds: number, pair: string, lagBytes: number): this {
    const snapshot = pairSnapshot({ pair, phase: 'in-sync', lagBytes, lagSeconds: lagBytes / 1e6 });
    return this.at(seconds, { event: 'progress', ...snapshot, commandsPerSecond: 2_000 });
  }
}

type PhaseName = Extract<MigrationEvent, { event: 'phase' }>['to'];
