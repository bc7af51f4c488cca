/**
 * The operator's session over one pair or a list: check all, show what is to be done, start (copy-queue.ts), keep in
 * sync, let the operator (operator-keys.ts) or `--cutover auto` (waves.ts) cut over, keep the way back open for the
 * operator, and end with a summary. Decides nothing about data: each pair is a Migration of its own, in a worker process
 * (worker-pool.ts), but for a single one off a terminal.
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { PairSpec } from '../core/endpoint.ts';
import { type CutoverError, EXIT, type ExitCode, PreflightError, toCutoverError } from '../core/errors.ts';
import { errorEvent, type MigrationEvent, type PairSnapshot } from '../core/events.ts';
import { optionsOfPair, type RunOptions, STANDARD_VERIFY } from '../core/options.ts';
import type { Operator, OperatorCommand, Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import { leftoversOf } from '../migrate/leftovers.ts';
import { Migration } from '../migrate/migration.ts';
import { type JournalEntry, RunFolder, safeFileName } from '../migrate/run-folder.ts';
import { configLine } from '../migrate/source-tuning.ts';
import { ControlServer } from './control-server.ts';
import { CopyQueue } from './copy-queue.ts';
import type { FleetPair } from './fleet-pair.ts';
import { hasWayBack, OperatorKeys } from './operator-keys.ts';
import { failureCodeOf, outcomeOf } from './outcome.ts';
import { controlOf } from './run-control.ts';
import { nextStep } from './waves.ts';
import { WorkerPool } from './worker-pool.ts';

export interface SessionIo {
  readonly renderer: Renderer;
  readonly operator: Operator;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** The line of keys that act now. */
  readonly keysLine: (allowed: readonly OperatorCommand[]) => string;
  /** `Syncing 588 MB and 3,000,000 keys from 2 redises`. */
  readonly totalsLine: (totals: { bytes: number; keys: number; sources: number }) => string;
}

const CHECKS_AT_ONCE = 8;
const FRAME_MS = 100;
/** After a cutover that could not drain in time, `--cutover auto` waits this long before the next try. */
const AUTO_RETRY_MS = 5_000;
const AUTO_TRIES = 5;
/** So many cutovers at once: writes stand still the longer, the more of them share our cores. */
const CUTOVERS_AT_ONCE = 8;
/** Where nothing is due, `--cutover auto` looks again so soon, if nothing changes before. */
const AUTO_LOOK_MS = 1_000;
const TUNING_KEYS = ['start-tuned', 'check-again'] as const;
/** Lines of settings above the question whether to set them. */
const MOST_PROPOSALS = 12;

/** Preflight only: no side effects. */
export async function runCheck(
  pairs: readonly PairSpec[],
  options: RunOptions,
  io: SessionIo,
): Promise<ExitCode> {
  const session = new Session(pairs, options, io);
  await session.check();
  const exitCode = session.failureCode() ?? EXIT.done;
  await session.end(exitCode === EXIT.done ? 'ready' : 'refused', exitCode);
  return exitCode;
}

/** A whole migration; emits the summary last. */
export async function runMigrate(
  pairs: readonly PairSpec[],
  options: RunOptions,
  io: SessionIo,
): Promise<ExitCode> {
  const session = new Session(pairs, options, io);
  return session.run();
}

/** Goes on with the run in `folder` after a crash or a quit; emits the summary last. */
export async function runResume(
  folder: RunFolder,
  pairs: readonly PairSpec[],
  options: RunOptions,
  io: SessionIo,
): Promise<ExitCode> {
  const session = new Session(pairs, options, io, { folder, journal: await folder.readJournal() });
  return session.run();
}

class Session {
  readonly #options: RunOptions;
  readonly #io: SessionIo;
  readonly #pairs: readonly FleetPair[];
  /** null: the pairs run in this process. */
  readonly #pool: WorkerPool | null;
  readonly #keys: OperatorKeys;
  /** null before the pairs are begun. */
  #queue: CopyQueue<FleetPair> | null = null;
  /** Pairs that begin anew in another worker. */
  readonly #beginningAgain = new Set<FleetPair>();
  /** Resolves with the first Ctrl-C or SIGTERM. */
  readonly #aborted: Promise<'quit'>;
  #folder: RunFolder | null = null;
  /** The socket for other terminals; null where there is none. */
  #control: ControlServer | null = null;
  /** Wakes the loop: a phase or a way back changed, or a signal came. */
  #wake: () => void = () => undefined;
  #frames: NodeJS.Timeout | null = null;
  #allowed: readonly OperatorCommand[] = [];
  /** Pairs whose cutover by itself is under way: the loop comes round meanwhile. */
  readonly #promoting = new Set<FleetPair>();
  readonly #autoTries = new Map<FleetPair, { tries: number; notBefore: number }>();
  readonly #promotedAt = new Map<FleetPair, number>();
  #ending = false;
  /** True where the operator has agreed to the settings that were shown. */
  #tuned = false;

  /** @param former the run that is gone on with; null: a new one */
  constructor(
    pairs: readonly PairSpec[],
    options: RunOptions,
    io: SessionIo,
    former: { readonly folder: RunFolder; readonly journal: readonly JournalEntry[] } | null = null,
  ) {
    this.#folder = former?.folder ?? null;
    this.#options = options;
    this.#io = io;
    const emit = (event: MigrationEvent): void => io.renderer.event(event);
    const changed = (): void => {
      this.#queue?.look();
      this.#wake();
    };
    const workers = workersFor(pairs.length, options);
    if (workers === 0) {
      this.#pool = null;
      this.#pairs = pairs.map(
        (pair) =>
          new Migration(
            pair,
            options,
            { emit, phaseChanged: changed },
            former === null ? null : leftoversOf(former.journal, pair.name),
          ),
      );
    } else {
      const io = { emit, changed, lost: (pair: FleetPair) => void this.#beginAgain(pair) };
      this.#pool = new WorkerPool(pairs, options, workers, io, former?.folder ?? null);
      this.#pairs = this.#pool.pairs;
    }
    this.#keys = new OperatorKeys(this.#pairs, options, {
      operator: io.operator,
      renderer: io.renderer,
      signal: io.signal,
      report: (error, pair) => this.#report(error, pair),
      compare: (pair, signal) => this.#compare(pair, signal),
    });
    this.#aborted = new Promise((resolve) => {
      io.signal.addEventListener('abort', () => {
        resolve('quit');
        this.#wake();
      });
    });
  }

  async run(): Promise<ExitCode> {
    await this.check();
    const refused = this.failureCode();
    if (refused !== null && this.#ready().length === 0) return this.end('refused', refused);
    if (this.#io.signal.aborted) return this.end('interrupted', EXIT.interrupted);
    if (refused !== null) this.#io.renderer.say(this.#readiness());
    this.#io.renderer.say(this.#totals());
    if (!(await this.#confirmedStart())) {
      if (this.#io.signal.aborted) return this.end('interrupted', EXIT.interrupted);
      // checked again
      const refusedNow = this.#ready().length === 0 ? this.failureCode() : null;
      return refusedNow === null ? this.end('cancelled', EXIT.cancelled) : this.end('refused', refusedNow);
    }
    try {
      this.#folder ??= await RunFolder.create(
        this.#options.runDir,
        randomBytes(6).toString('hex'),
        this.#pairs.map(({ pair }) => pair),
        this.#options,
      );
      this.#showFrames();
      const folder = this.#folder;
      this.#queue = new CopyQueue(this.#options.fleet.parallelCopies, (pair) => this.#begin(pair, folder));
      this.#queue.add(this.#ready());
      await this.#openControl(folder);
      const { outcome, exitCode } = await this.#steer();
      return await this.end(outcome, exitCode);
    } catch (error) {
      const classed = toCutoverError(error);
      this.#report(classed);
      return await this.end('failed', classed.exitCode);
    }
  }

  /** All pairs that have not failed. */
  async check(): Promise<void> {
    const queue = this.#ready();
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        if (this.#io.signal.aborted) return;
        const done = this.#io.renderer.step(`checking ${printable(next.pair.name)}`);
        await next.check().catch((error: unknown) => this.#report(toCutoverError(error), next?.pair.name));
        done(next.error === null ? 'ok' : 'failed');
      }
    };
    // a spinner is for one step: pairs of a terminal session are checked one after the other
    const workers = this.#options.cutover === 'ask' ? 1 : CHECKS_AT_ONCE;
    await Promise.all(Array.from({ length: workers }, worker));
  }

  /** The exit code of what failed; null: nothing did. */
  failureCode(): ExitCode | null {
    return failureCodeOf(this.#pairs);
  }

  /** Stops what still runs, closes the folder, and says how it ended. */
  async end(outcome: string, exitCode: ExitCode): Promise<ExitCode> {
    this.#ending = true;
    this.#queue?.close();
    await this.#keys.stopComparing();
    // all at once: one server that hangs must not keep the fences of the others up
    const stopped = await Promise.all(
      this.#pairs.map(async (pair) => {
        try {
          await this.#queue?.begun(pair);
          await pair.stop(outcome);
          return true;
        } catch (error) {
          this.#report(toCutoverError(error), pair.pair.name);
          return false;
        }
      }),
    );
    await this.#control?.close();
    await this.#pool?.end();
    if (this.#frames !== null) clearInterval(this.#frames);
    if (this.#frames !== null) this.#io.renderer.frame(this.#snapshots(), '');
    await this.#folder?.close();
    const leftBehind = this.#pairs.some((pair) => pair.leftBehind) || stopped.includes(false);
    const finalCode = leftBehind ? EXIT.attention : exitCode;
    this.#io.renderer.event({
      event: 'summary',
      outcome,
      exitCode: finalCode,
      pairs: this.#pairs.map((pair) => pair.summary()),
    });
    return finalCode;
  }

  // ---- beginning -----------------------------------------------------------------------------------------

  /** Pairs that nothing speaks against. */
  #ready(): FleetPair[] {
    return this.#pairs.filter(({ error }) => error === null);
  }

  /** A run can do without: that it has none is said. */
  async #openControl(folder: RunFolder): Promise<void> {
    const target = controlOf({
      pairs: this.#pairs,
      maxFailures: this.#options.fleet.maxFailures,
      canaryMs: this.#options.fleet.canaryMs,
      phase: () => (this.#ending || this.#io.signal.aborted ? 'ending' : 'running'),
      snapshots: () => this.#snapshots(),
      emit: (event) => this.#io.renderer.event(event),
      report: (error, pair) => this.#report(error, pair),
      stopComparing: () => this.#keys.stopComparing(),
    });
    try {
      this.#control = await ControlServer.open(folder.dir, target);
    } catch (error) {
      this.#io.renderer.event({ event: 'note', message: printable(toCutoverError(error).message, 600) });
    }
  }

  async #begin(pair: FleetPair, folder: RunFolder): Promise<void> {
    try {
      await pair.start(folder, this.#tuned);
    } catch (error) {
      this.#report(toCutoverError(error), pair.pair.name);
    }
  }

  /** Its worker has died: it is looked at, and begun, as `resume` would. */
  async #beginAgain(pair: FleetPair): Promise<void> {
    // during the first checks the check itself goes on
    if (this.#queue === null || this.#ending || this.#beginningAgain.has(pair)) return;
    this.#beginningAgain.add(pair);
    this.#queue.remove(pair);
    // as it was before its worker died: the pool tells of it first
    const loaded = pair.phase !== 'checking' && pair.phase !== 'snapshot';
    try {
      await pair.check();
      if (pair.error !== null || this.#ending) return;
      if (loaded) this.#queue.addLoaded(pair);
      else this.#queue.add([pair]);
    } catch (error) {
      this.#report(toCutoverError(error), pair.pair.name);
    } finally {
      this.#beginningAgain.delete(pair);
    }
  }

  // ---- steering ------------------------------------------------------------------------------------------

  async #steer(): Promise<{ outcome: string; exitCode: ExitCode }> {
    for (;;) {
      const changed = new Promise<'changed'>((resolve) => {
        this.#wake = () => resolve('changed');
      });
      if (this.#io.signal.aborted) return { outcome: 'interrupted', exitCode: EXIT.interrupted };
      const asks = this.#options.cutover === 'ask';
      // by itself, a way back is none of our business any more: the servers carry it, or nobody does
      const running = this.#pairs.filter((pair) => !pair.settled || (asks && hasWayBack(pair)));
      if (running.length === 0) return outcomeOf(this.#pairs);
      const settled = running.every(({ phase }) => ['in-sync', 'writable', 'promoted'].includes(phase));
      if (this.#options.stopAtInSync && settled) {
        return this.failureCode() === null
          ? { outcome: 'in-sync', exitCode: EXIT.done }
          : { outcome: 'partly-failed', exitCode: EXIT.attention };
      }
      if (this.#options.cutover === 'auto' && !this.#options.stopAtInSync) {
        const halted = await Promise.race([this.#autoCutOver(), changed]);
        if (halted === 'halted') return { outcome: 'partly-failed', exitCode: EXIT.attention };
        continue;
      }
      this.#allowed = this.#keys.allowed();
      const command = await Promise.race([changed, this.#io.operator.next(this.#allowed)]);
      if (command === 'changed' || command === 'chosen') continue;
      if (command === 'quit') {
        return running.every(hasWayBack)
          ? outcomeOf(this.#pairs)
          : { outcome: 'cancelled', exitCode: EXIT.cancelled };
      }
      // a signal need not wait for a step: what is under way is called off at the end
      await Promise.race([this.#keys.obey(command), this.#aborted]);
    }
  }

  /** Cuts over what is due; resolves when something has changed or is worth another look. */
  async #autoCutOver(): Promise<'halted' | 'look-again'> {
    const step = nextStep(this.#pairs, this.#options.fleet, (pair) => this.#promotedAt.get(pair), Date.now());
    if (step.kind === 'halt') {
      if (this.#promoting.size === 0) {
        this.#io.renderer.event({
          event: 'note',
          message: `no further pair is cut over: ${printable(step.reason)}`,
        });
        return 'halted';
      }
    }
    const ready = (step.kind === 'cut-over' ? step.pairs : []).filter((pair) => {
      const waits = this.#autoTries.get(pair);
      return !this.#promoting.has(pair) && (waits === undefined || Date.now() >= waits.notBefore);
    });
    const due = ready.slice(0, Math.max(0, CUTOVERS_AT_ONCE - this.#promoting.size));
    await Promise.all(due.map((pair) => this.#tryPromote(pair)));
    if (due.length === 0) await new Promise((resolve) => setTimeout(resolve, AUTO_LOOK_MS).unref());
    return 'look-again';
  }

  async #tryPromote(pair: FleetPair): Promise<void> {
    this.#promoting.add(pair);
    try {
      await this.#promoteByItself(pair);
    } catch (error) {
      this.#report(toCutoverError(error), pair.pair.name);
    } finally {
      this.#promoting.delete(pair);
      // there is room for another one
      this.#wake();
    }
  }

  async #promoteByItself(pair: FleetPair): Promise<void> {
    const { divergences } = pair.snapshot();
    if (divergences > 0) {
      await pair.abandon(
        new PreflightError(
          `${divergences} commands were answered with errors by the target, so its data may differ: not promoted by itself`,
          {
            code: 'divergence',
            hint: 'see the notes above: compare the keys on both sides, and cut over by hand if the difference is known',
            exitCode: EXIT.different,
          },
        ),
      );
      return;
    }
    try {
      await pair.promote();
      this.#promotedAt.set(pair, Date.now());
    } catch (error) {
      const classed = toCutoverError(error);
      const tries = (this.#autoTries.get(pair)?.tries ?? 0) + 1;
      this.#autoTries.set(pair, { tries, notBefore: Date.now() + AUTO_RETRY_MS });
      const passes =
        ['cutover-timeout', 'not-now'].includes(classed.code) || classed.recovery === 'reconnect';
      if (passes && tries < AUTO_TRIES) this.#report(classed, pair.pair.name);
      else await pair.abandon(classed);
    }
  }

  /** Other settings on a server in production need a person's consent: `--yes` starts without them. */
  async #confirmedStart(): Promise<boolean> {
    if (this.#options.cutover !== 'ask' || this.#options.assumeYes) return true;
    for (;;) {
      const proposals = this.#proposals();
      for (const line of proposals) this.#io.renderer.say(line);
      this.#allowed = ['start', ...(proposals.length > 0 ? TUNING_KEYS : []), 'quit'];
      this.#io.renderer.say(this.#io.keysLine(this.#allowed));
      const command = await Promise.race([this.#io.operator.next(this.#allowed), this.#aborted]);
      if (command !== 'check-again') {
        this.#tuned = command === 'start-tuned';
        return command === 'start' || this.#tuned;
      }
      await this.check();
      if (this.#ready().length === 0 || this.#io.signal.aborted) return false;
    }
  }

  /** What the sources would do better with and the command line does not agree to yet, for people; none: empty. */
  #proposals(): string[] {
    const lines = this.#ready().flatMap(({ pair, facts }) =>
      (facts?.proposals ?? [])
        .filter(({ tuning }) => !optionsOfPair(pair, this.#options).tuneSource.includes(tuning))
        .map(({ tuning, setting, value }) => {
          const why = tuning === 'compression' ? ' (a faster copy, of more bytes)' : '';
          return `  ${printable(pair.name)}: ${configLine(setting, value)}${why}`;
        }),
    );
    if (lines.length === 0) return [];
    const more = lines.length - MOST_PROPOSALS;
    return [
      'Settings of the source that would help, for this run:',
      ...lines.slice(0, MOST_PROPOSALS),
      ...(more > 0 ? [`  and ${more} more of this kind: redis-cutover check shows them`] : []),
    ];
  }

  /** The keys that differ are listed in the run folder. */
  async #compare(pair: PairSpec, signal: AbortSignal): Promise<void> {
    // loaded where it is used: most sessions never compare
    const { comparePair } = await import('./verify.ts');
    const { MismatchFile } = await import('../migrate/verify/mismatches.ts');
    const at = new Date().toISOString().replaceAll(':', '');
    const path = join(this.#options.runDir, `mismatches-${safeFileName(pair.name)}-${at}.ndjson`);
    const file = await MismatchFile.create(path);
    try {
      await comparePair(pair, STANDARD_VERIFY, file, { renderer: this.#io.renderer, signal });
    } finally {
      await file.close();
    }
  }

  // ---- showing -------------------------------------------------------------------------------------------

  #totals(): string {
    const facts = this.#ready().flatMap((pair) => pair.facts ?? []);
    return this.#io.totalsLine({
      bytes: facts.reduce((sum, { usedMemory }) => sum + (usedMemory ?? 0), 0),
      keys: facts.reduce((sum, { keysTotal }) => sum + keysTotal, 0),
      sources: this.#ready().length,
    });
  }

  #readiness(): string {
    const blocked = this.#pairs.filter(({ error }) => error !== null);
    const why = blocked.map(({ pair, error }) => `${printable(pair.name)}: ${printable(error?.code ?? '')}`);
    const count = this.#pairs.length;
    return `${count} checked: ${count - blocked.length} ready, ${blocked.length} blocked (${why.join('; ')})`;
  }

  #showFrames(): void {
    const show = (): void => {
      const footer = this.#options.cutover === 'ask' ? this.#io.keysLine(this.#allowed) : '';
      this.#io.renderer.frame(this.#snapshots(), footer);
      this.#queue?.look();
    };
    this.#allowed = ['clients', 'quit', 'help'];
    show();
    this.#frames = setInterval(show, FRAME_MS);
  }

  #snapshots(): PairSnapshot[] {
    return this.#pairs.map((pair) => {
      const snapshot = pair.snapshot();
      if (this.#queue?.isWaiting(pair) !== true) return snapshot;
      const paused = snapshot.paused ? `${snapshot.reason}; ` : '';
      return {
        ...snapshot,
        reason: `${paused}waits for its turn to copy (--parallel ${this.#options.fleet.parallelCopies})`,
      };
    });
  }

  #report(error: CutoverError, pair?: string): void {
    this.#io.renderer.event(errorEvent(error, pair));
  }
}

/**
 * A worker for each core, unless it is said otherwise: no pair that hangs or crashes harms the screen. 0: off a terminal
 * a single pair has no screen to harm, and is begun sooner and in less memory without another process.
 */
function workersFor(pairs: number, { cutover, fleet: { workers } }: RunOptions): number {
  const alone = pairs === 1 && cutover !== 'ask';
  return Math.min(pairs, workers ?? (alone ? 0 : availableParallelism()));
}
