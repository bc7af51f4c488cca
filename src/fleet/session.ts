/**
 * The operator's session over one pair or a list: check all, show what is to be done, start, keep in sync, let the
 * operator (or `--cutover auto`) cut over, and end with a summary. Decides nothing about data: each pair is a
 * Migration of its own.
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
  #folder: RunFolder | null = null;
  /** Wakes the loop: a phase changed, or a signal came. */
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
    io.signal.addEventListener('abort', () => this.#wake());
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
    const errors = this.#migrations.flatMap(({ error }) => (error === null ? [] : [error]));
    const first = errors[0];
    if (first === undefined) return null;
    if (this.#migrations.some(({ leftBehind }) => leftBehind)) return EXIT.attention;
    const someWentOn = this.#migrations.some(({ phase }) => phase === 'promoted');
    if (someWentOn) return EXIT.attention;
    return first.exitCode;
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
      const running = this.#migrations.filter(({ phase }) => !isOver(phase));
      if (running.length === 0) return this.#outcome();
      const settled = running.every(({ phase }) => phase === 'in-sync' || phase === 'writable');
      if (this.#options.stopAtInSync && settled) {
        return this.failureCode() === null
          ? { outcome: 'in-sync', exitCode: EXIT.done }
          : { outcome: 'partly-failed', exitCode: EXIT.attention };
      }
      if (this.#options.cutover === 'auto' && !this.#options.stopAtInSync) {
        await Promise.race([this.#autoCutOver(running), changed]);
        continue;
      }
      const command = await Promise.race([changed, this.#nextCommand(running)]);
      if (command === 'changed') continue;
      if (command === 'quit') return { outcome: 'cancelled', exitCode: EXIT.cancelled };
      await this.#obey(command, running);
    }
  }

  #outcome(): { outcome: string; exitCode: ExitCode } {
    const failure = this.failureCode();
    if (failure === null) return { outcome: 'promoted', exitCode: EXIT.done };
    const promoted = this.#migrations.some(({ phase }) => phase === 'promoted');
    return { outcome: promoted ? 'partly-failed' : 'failed', exitCode: failure };
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

  #nextCommand(running: readonly Migration[]): Promise<OperatorCommand> {
    const all = (...phases: string[]): boolean => running.every(({ phase }) => phases.includes(phase));
    this.#allowed = [
      ...(all('in-sync') ? (['enable-writes'] as const) : []),
      ...(all('in-sync', 'writable') ? (['promote'] as const) : []),
      'clients',
      'quit',
      'help',
    ];
    return this.#io.operator.next(this.#allowed);
  }

  async #obey(command: OperatorCommand, running: readonly Migration[]): Promise<void> {
    const { renderer } = this.#io;
    try {
      switch (command) {
        case 'enable-writes':
          for (const migration of running) if (migration.phase === 'in-sync') await migration.enableWrites();
          renderer.say('The targets take writes now: move the applications, then press m.');
          return;
        case 'promote':
          await this.#promoteByHand(running);
          return;
        case 'clients':
          await this.#showClients(running);
          return;
        case 'help':
          for (const line of HELP) renderer.say(line);
          return;
        case 'start':
        case 'quit':
          return;
      }
    } catch (error) {
      this.#report(toCutoverError(error));
    }
  }

  async #promoteByHand(running: readonly Migration[]): Promise<void> {
    const only = running.length === 1 ? running[0] : undefined;
    const expected = only === undefined ? `promote ${running.length}` : only.pair.name;
    const what =
      only === undefined
        ? `Make ${running.length} targets masters and fence their sources.`
        : `Make the target of ${printable(only.pair.name)} the master and fence the source.`;
    if (
      !(await this.#io.operator.confirmByTyping(`${what} Type "${printable(expected)}" to go on`, expected))
    ) {
      this.#io.renderer.say('Nothing was changed.');
      return;
    }
    for (const migration of running) {
      try {
        await migration.promote();
      } catch (error) {
        this.#report(toCutoverError(error), migration.pair.name);
      }
    }
  }

  async #showClients(running: readonly Migration[]): Promise<void> {
    for (const migration of running) {
      const clients = await migration.clients();
      if (clients.length === 0)
        this.#io.renderer.say(`${printable(migration.pair.name)}: no clients on the source`);
      for (const client of clients) {
        this.#io.renderer.event({ event: 'clients', pair: migration.pair.name, ...client });
      }
    }
  }

  async #confirmedStart(): Promise<boolean> {
    if (this.#options.cutover !== 'ask' || this.#options.assumeYes) return true;
    const aborted = new Promise<'quit'>((resolve) => {
      this.#io.signal.addEventListener('abort', () => resolve('quit'));
    });
    this.#allowed = ['start', 'quit'];
    this.#io.renderer.say(this.#io.keysLine(this.#allowed));
    const command = await Promise.race([this.#io.operator.next(this.#allowed), aborted]);
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

const HELP = [
  's  start: fence the targets and begin to sync',
  'e  enable writes on the targets, when all are in sync; then move the applications',
  'm  make the targets masters: the sources are fenced, the rest is drained, the links end',
  'l  list the clients that are still on the sources',
  'q  quit: the sources stay as they are, the targets are given back as far as they have come',
];
