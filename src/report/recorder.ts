/**
 * Listens to the events of a session and keeps, in bounded memory, what the report tells of them. What a session that
 * was killed has done is taken from the journal. Touches no file: report-files.ts does.
 */
import { addressOf, type Endpoint } from '../core/endpoint.ts';
import { assertNever } from '../core/errors.ts';
import type { CheckResult, MigrationEvent, PairSnapshot, VerifyResult } from '../core/events.ts';
import type { Phase } from '../core/phase.ts';
import type { JournalLine } from '../migrate/run-folder.ts';
import { pairRemarks } from '../ui/report.ts';
import {
  type ActionRecord,
  type ClientRecord,
  type MessageRecord,
  type PairReport,
  type PhaseRecord,
  REPORT_FORMAT,
  type RunReport,
  type SessionReport,
  type StepRecord,
} from './model.ts';
import { Series } from './series.ts';
import { settingChanges } from './setting-changes.ts';

/** Points of one pair's plots; a large fleet shares ALL_POINTS, so that the page stays one that a phone opens. */
const MOST_POINTS = 600;
const FEWEST_POINTS = 60;
const ALL_POINTS = 60_000;
const MOST_ENTRIES = 400;
const MOST_ACTIONS = 2_000;

type Summary = Extract<MigrationEvent, { event: 'summary' }>;

/** Who works on the run, and with what. */
export interface SessionFacts {
  readonly command: string;
  readonly version: string;
  /** `user@machine`. */
  readonly by: string;
  /** How many there are in the run. */
  readonly pairs: number;
}

/** What the report is about. */
export interface Reported {
  /** null: no run. */
  readonly runId: string | null;
  /** ISO time. */
  readonly startedAt: string;
  readonly pairs: readonly {
    readonly name: string;
    readonly source: Pick<Endpoint, 'host' | 'port'>;
    readonly target: Pick<Endpoint, 'host' | 'port'>;
  }[];
}

export class Recorder {
  readonly #facts: SessionFacts;
  readonly #former: RunReport | null;
  readonly #startedAt: string;
  readonly #now: () => Date;
  readonly #most: number;
  readonly #pairs = new Map<string, PairRecord>();
  readonly #actions: Kept<ActionRecord>;
  readonly #messages: Kept<MessageRecord>;

  /** @param former what the sessions before this one have reported; null: nothing */
  constructor(facts: SessionFacts, former: RunReport | null = null, now = (): Date => new Date()) {
    this.#facts = facts;
    this.#former = former;
    this.#now = now;
    this.#startedAt = now().toISOString();
    this.#most = Math.max(FEWEST_POINTS, Math.min(MOST_POINTS, Math.floor(ALL_POINTS / facts.pairs)));
    this.#actions = new Kept(MOST_ACTIONS, former?.actions);
    this.#messages = new Kept(MOST_ENTRIES, former?.messages);
    for (const pair of former?.pairs ?? []) this.#pairs.set(pair.name, new PairRecord(this.#most, pair));
  }

  /** ISO time. */
  get startedAt(): string {
    return this.#startedAt;
  }

  event(event: MigrationEvent): void {
    const at = this.#now().toISOString();
    switch (event.event) {
      case 'phase': {
        const pair = this.#pair(event.pair);
        // nothing else is told of when the check began
        if (event.from === 'checking')
          pair.phases.add({ at: this.#startedAt, phase: 'checking', reason: null });
        pair.phases.add({ at, phase: event.to, reason: event.reason ?? null });
        return;
      }
      case 'progress':
        this.#pair(event.pair).progress(event, Date.parse(at));
        return;
      case 'check':
        this.#pair(event.pair).check(event);
        return;
      case 'clients': {
        const { event: _event, pair, ...client } = event;
        this.#pair(pair).client({ ...client, firstAt: at, at });
        return;
      }
      case 'verify': {
        const { event: _event, pair, ...result } = event;
        this.#pair(pair).verifies.add({ ...result, at });
        return;
      }
      case 'step': {
        const { name, ms, detail = null } = event;
        this.#pair(event.pair).steps.add({ at, name, ms, detail });
        return;
      }
      case 'note':
        this.#messagesOf(event.pair).add({ at, kind: 'note', text: event.message, code: null, hint: null });
        return;
      case 'error': {
        const { code, hint } = event;
        this.#messagesOf(event.pair).add({ at, kind: 'error', text: event.message, code, hint });
        return;
      }
      case 'action': {
        const { event: _event, ...action } = event;
        this.#actions.add({ ...action, at });
        return;
      }
      case 'verify-progress':
      case 'summary':
        return;
      default:
        assertNever(event);
    }
  }

  /** The whole report, as of now. */
  report(run: Reported, journal: readonly JournalLine[], summary: Summary): RunReport {
    const { command, version, by } = this.#facts;
    const ended: SessionReport = {
      kind: 'ended',
      command,
      version,
      by,
      startedAt: this.#startedAt,
      endedAt: this.#now().toISOString(),
      outcome: summary.outcome,
      exitCode: summary.exitCode,
    };
    const known = [...(this.#former?.sessions ?? []), ended];
    const unknown = journal.filter(({ at }) => !known.some((session) => isWithin(at, session)));
    const killed = killedSessions(unknown, known);
    return {
      format: REPORT_FORMAT,
      runId: run.runId,
      startedAt: run.startedAt,
      sessions: [...known, ...killed].sort((one, other) => (one.startedAt < other.startedAt ? -1 : 1)),
      outcome: summary.outcome,
      exitCode: summary.exitCode,
      pairs: run.pairs.map(({ name, source, target }) => {
        const own = this.#pair(name).report(name, summary, phasesIn(unknown, name));
        const settings = settingChanges(journal, name);
        return { ...own, source: addressOf(source), target: addressOf(target), settings };
      }),
      actions: this.#actions.items,
      messages: this.#messages.items,
    };
  }

  #pair(name: string): PairRecord {
    const known = this.#pairs.get(name);
    if (known !== undefined) return known;
    const pair = new PairRecord(this.#most, null);
    this.#pairs.set(name, pair);
    return pair;
  }

  #messagesOf(pair: string | undefined): Kept<MessageRecord> {
    return pair === undefined ? this.#messages : this.#pair(pair).messages;
  }
}

class PairRecord {
  readonly phases: Kept<PhaseRecord>;
  readonly verifies: Kept<VerifyResult & { readonly at: string }>;
  readonly steps: Kept<StepRecord>;
  readonly messages: Kept<MessageRecord>;
  readonly series: Series;
  readonly #former: PairReport | null;
  readonly #clients = new Map<string, ClientRecord>();
  #checks = new Map<string, CheckResult>();
  #feed: PairReport['feed'];
  #omitted = 0;

  constructor(most: number, former: PairReport | null) {
    const lost = (): void => {
      this.#omitted += 1;
    };
    this.#former = former;
    this.#feed = former?.feed ?? null;
    this.#omitted = former?.omitted ?? 0;
    this.phases = new Kept(MOST_ENTRIES, former?.phases, lost);
    this.verifies = new Kept(MOST_ENTRIES, former?.verifies, lost);
    this.steps = new Kept(MOST_ENTRIES, former?.steps, lost);
    this.messages = new Kept(MOST_ENTRIES, former?.messages, lost);
    this.series = new Series(most, former?.series);
    for (const client of former?.clients ?? []) this.client(client);
  }

  progress(snapshot: PairSnapshot, at: number): void {
    this.#feed = snapshot.feed ?? this.#feed;
    this.series.add(at, snapshot);
  }

  check({ name, status, detail, hint }: CheckResult): void {
    this.#checks.set(name, { name, status, detail, ...(hint === undefined ? {} : { hint }) });
  }

  /** A connection is shown whenever the operator looks: it is one client all the same. */
  client(client: ClientRecord): void {
    const key = JSON.stringify([client.addr, client.name, client.user]);
    const known = this.#clients.get(key);
    if (known === undefined && this.#clients.size >= MOST_ENTRIES) {
      this.#omitted += 1;
      return;
    }
    const firstAt = known?.firstAt ?? client.firstAt;
    this.#clients.set(key, { ...client, firstAt, writing: client.writing || known?.writing === true });
  }

  /** @param killed phases in which the pair was in sessions that were killed */
  report(
    name: string,
    summary: Summary,
    killed: readonly PhaseRecord[],
  ): Omit<PairReport, 'source' | 'target' | 'settings'> {
    const former = this.#former;
    const end = summary.pairs.find(({ pair }) => pair === name);
    const phases = [...killed, ...this.phases.items].sort((one, other) => (one.at < other.at ? -1 : 1));
    return {
      name,
      feed: this.#feed,
      phase: end?.phase ?? former?.phase ?? 'checking',
      keys: Math.max(end?.keys ?? 0, former?.keys ?? 0),
      // a session that only puts things away has had no cutover of its own
      writeOutageMs: end?.writeOutageMs ?? former?.writeOutageMs ?? null,
      remarks: end === undefined ? (former?.remarks ?? []) : pairRemarks(end, summary),
      phases,
      series: this.series.toJSON(),
      checks: this.#checks.size > 0 ? [...this.#checks.values()] : (former?.checks ?? []),
      verifies: this.verifies.items,
      clients: [...this.#clients.values()],
      steps: this.steps.items,
      messages: this.messages.items,
      omitted: this.#omitted,
    };
  }
}

/** A list of bounded length: its beginning and its end stay. */
class Kept<Item> {
  readonly items: Item[];
  readonly #most: number;
  readonly #lost: () => void;

  constructor(most: number, former: readonly Item[] = [], lost = (): void => undefined) {
    this.#most = most;
    this.#lost = lost;
    this.items = [...former];
  }

  add(item: Item): void {
    this.items.push(item);
    if (this.items.length <= this.#most) return;
    this.items.splice(this.#most / 2, 1);
    this.#lost();
  }
}

function isWithin(at: string, { startedAt, endedAt }: SessionReport): boolean {
  return at >= startedAt && at <= endedAt;
}

/** One for each gap between known sessions in which the journal was written to. */
function killedSessions(lines: readonly JournalLine[], known: readonly SessionReport[]): SessionReport[] {
  const gaps = new Map<number, { startedAt: string; endedAt: string }>();
  for (const { at } of lines) {
    const before = known.filter(({ endedAt }) => endedAt < at).length;
    const gap = gaps.get(before);
    gaps.set(before, { startedAt: gap?.startedAt ?? at, endedAt: at });
  }
  return [...gaps.values()].map((gap) => ({ kind: 'killed', ...gap }));
}

function phasesIn(lines: readonly JournalLine[], pair: string): PhaseRecord[] {
  return lines
    .filter((line) => line.kind === 'phase' && line.pair === pair)
    .map(({ at, data }) => ({ at, phase: data as Phase, reason: null }));
}
