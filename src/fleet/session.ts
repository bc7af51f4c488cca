/**
 * The operator's session over one pair or a list: check all, show what is to be done, start, keep in sync, let the
 * operator (or `--cutover auto`) cut over, keep the way back open for the operator, and end with a summary. Decides
 * nothing about data: each pair is a Migration of its own. What the keys do is in operator-keys.ts.
 */
import { randomBytes } from 'node:crypto';
import type { PairSpec } from '../core/endpoint.ts';
import { type CutoverError, EXIT, type ExitCode, PreflightError, toCutoverError } from '../core/errors.ts';
import type { MigrationEvent, PairSnapshot } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import { isOver } from '../core/phase.ts';
import type { Operator, OperatorCommand, Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import { leftoversOf } from '../migrate/leftovers.ts';
import { Migration } from '../migrate/migration.ts';
import { type JournalEntry, RunFolder } from '../migrate/run-folder.ts';
import { hasWayBack, OperatorKeys } from './operator-keys.ts';
import { failureCodeOf, outcomeOf } from './outcome.ts';

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
  readonly #migrations: readonly Migration[];
  readonly #keys: OperatorKeys;
  /** Resolves with the first Ctrl-C or SIGTERM. */
  readonly #aborted: Promise<'quit'>;
  #folder: RunFolder | null = null;
  /** Wakes the loop: a phase or a way back changed, or a signal came. */
  #wake: () => void = () => undefined;
  #frames: NodeJS.Timeout | null = null;
  #allowed: readonly OperatorCommand[] = [];
  /** Pairs whose cutover by itself is under way: the loop comes round meanwhile. */
  readonly #promoting = new Set<Migration>();
  readonly #autoTries = new Map<Migration, { tries: number; notBefore: number }>();

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
    this.#migrations = pairs.map(
      (pair) =>
        new Migration(
          pair,
          options,
          { emit, phaseChanged: () => this.#wake() },
          former === null ? null : leftoversOf(former.journal, pair.name),
        ),
    );
    this.#keys = new OperatorKeys(this.#migrations, options, {
      operator: io.operator,
      renderer: io.renderer,
      signal: io.signal,
      report: (error, pair) => this.#report(error, pair),
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
    if (refused !== null) return this.end('refused', refused);
    if (this.#io.signal.aborted) return this.end('interrupted', EXIT.interrupted);
    this.#io.renderer.say(this.#totals());
    if (!(await this.#confirmedStart())) {
      return this.#io.signal.aborted
        ? this.end('interrupted', EXIT.interrupted)
        : this.end('cancelled', EXIT.cancelled);
    }
    try {
      this.#folder ??= await RunFolder.create(
        this.#options.runDir,
        randomBytes(6).toString('hex'),
        this.#migrations.map(({ pair }) => pair),
        this.#options,
      );
      this.#showFrames();
      const folder = this.#folder;
      await Promise.all(this.#migrations.map((migration) => migration.start(folder)));
      const { outcome, exitCode } = await this.#steer();
      return await this.end(outcome, exitCode);
    } catch (error) {
      const classed = toCutoverError(error);
      this.#report(classed);
      return await this.end('failed', classed.exitCode);
    }
  }

  async check(): Promise<void> {
    const queue = [...this.#migrations];
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        if (this.#io.signal.aborted) return;
        const done = this.#io.renderer.step(`checking ${printable(next.pair.name)}`);
        await next.check();
        done(next.error === null ? 'ok' : 'failed');
      }
    };
    // a spinner is for one step: pairs of a terminal session are checked one after the other
    const workers = this.#options.cutover === 'ask' ? 1 : CHECKS_AT_ONCE;
    await Promise.all(Array.from({ length: workers }, worker));
  }

  /** The exit code of what failed; null: nothing did. */
  failureCode(): ExitCode | null {
    return failureCodeOf(this.#migrations);
  }

  /** Stops what still runs, closes the folder, and says how it ended. */
  async end(outcome: string, exitCode: ExitCode): Promise<ExitCode> {
    // all at once: one server that hangs must not keep the fences of the others up
    await Promise.all(
      this.#migrations.map((migration) =>
        migration.stop(outcome).catch((error: unknown) => this.#report(toCutoverError(error))),
      ),
    );
    if (this.#frames !== null) clearInterval(this.#frames);
    if (this.#frames !== null) this.#io.renderer.frame(this.#snapshots(), '');
    await this.#folder?.close();
    const leftBehind = this.#migrations.some((migration) => migration.leftBehind);
    const finalCode = leftBehind ? EXIT.attention : exitCode;
    this.#io.renderer.event({
      event: 'summary',
      outcome,
      exitCode: finalCode,
      pairs: this.#migrations.map((migration) => migration.summary()),
    });
    return finalCode;
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
      const running = this.#migrations.filter((pair) => !isOver(pair.phase) || (asks && hasWayBack(pair)));
      if (running.length === 0) return outcomeOf(this.#migrations);
      const settled = running.every(({ phase }) => ['in-sync', 'writable', 'promoted'].includes(phase));
      if (this.#options.stopAtInSync && settled) {
        return this.failureCode() === null
          ? { outcome: 'in-sync', exitCode: EXIT.done }
          : { outcome: 'partly-failed', exitCode: EXIT.attention };
      }
      if (this.#options.cutover === 'auto' && !this.#options.stopAtInSync) {
        await Promise.race([this.#autoCutOver(running), changed]);
        continue;
      }
      this.#allowed = this.#keys.allowed();
      const command = await Promise.race([changed, this.#io.operator.next(this.#allowed)]);
      if (command === 'changed') continue;
      if (command === 'quit') {
        return running.every(hasWayBack)
          ? outcomeOf(this.#migrations)
          : { outcome: 'cancelled', exitCode: EXIT.cancelled };
      }
      // a signal need not wait for a step: what is under way is called off at the end
      await Promise.race([this.#keys.obey(command), this.#aborted]);
    }
  }

  /** Cuts over every pair that is in sync; resolves when something has changed or is worth another look. */
  async #autoCutOver(running: readonly Migration[]): Promise<void> {
    const ready = running.filter((migration) => {
      const waits = this.#autoTries.get(migration);
      // writable: a resumed pair whose target was open already
      const due = migration.phase === 'in-sync' || migration.phase === 'writable';
      return due && !this.#promoting.has(migration) && (waits === undefined || Date.now() >= waits.notBefore);
    });
    await Promise.all(ready.map((migration) => this.#tryPromote(migration)));
    if (ready.length === 0) await new Promise((resolve) => setTimeout(resolve, AUTO_RETRY_MS / 5).unref());
  }

  async #tryPromote(migration: Migration): Promise<void> {
    this.#promoting.add(migration);
    try {
      await this.#promoteByItself(migration);
    } finally {
      this.#promoting.delete(migration);
    }
  }

  async #promoteByItself(migration: Migration): Promise<void> {
    const { divergences } = migration.snapshot();
    if (divergences > 0) {
      migration.abandon(
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
      await migration.promote();
    } catch (error) {
      const classed = toCutoverError(error);
      const tries = (this.#autoTries.get(migration)?.tries ?? 0) + 1;
      this.#autoTries.set(migration, { tries, notBefore: Date.now() + AUTO_RETRY_MS });
      const passes =
        ['cutover-timeout', 'not-now'].includes(classed.code) || classed.recovery === 'reconnect';
      if (passes && tries < AUTO_TRIES) this.#report(classed, migration.pair.name);
      else migration.abandon(classed);
    }
  }

  async #confirmedStart(): Promise<boolean> {
    if (this.#options.cutover !== 'ask' || this.#options.assumeYes) return true;
    this.#allowed = ['start', 'quit'];
    this.#io.renderer.say(this.#io.keysLine(this.#allowed));
    const command = await Promise.race([this.#io.operator.next(this.#allowed), this.#aborted]);
    return command === 'start';
  }

  // ---- showing -------------------------------------------------------------------------------------------

  #totals(): string {
    const facts = this.#migrations.flatMap((migration) => migration.facts ?? []);
    return this.#io.totalsLine({
      bytes: facts.reduce((sum, { usedMemory }) => sum + (usedMemory ?? 0), 0),
      keys: facts.reduce((sum, { keysTotal }) => sum + keysTotal, 0),
      sources: this.#migrations.length,
    });
  }

  #showFrames(): void {
    const show = (): void => {
      const footer = this.#options.cutover === 'ask' ? this.#io.keysLine(this.#allowed) : '';
      this.#io.renderer.frame(this.#snapshots(), footer);
    };
    this.#allowed = ['clients', 'quit', 'help'];
    show();
    this.#frames = setInterval(show, FRAME_MS);
  }

  #snapshots(): PairSnapshot[] {
    return this.#migrations.map((migration) => migration.snapshot());
  }

  #report(error: CutoverError, pair?: string): void {
    this.#io.renderer.event({
      event: 'error',
      ...(pair === undefined ? {} : { pair }),
      code: error.code,
      message: printable(error.message, 600),
      hint: printable(error.hint, 600),
      recovery: error.recovery,
    });
  }
}
