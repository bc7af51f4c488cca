/** Ties a command to this process: its environment, its terminal (src/ui) and its signals. */
import { hostname, userInfo } from 'node:os';
import { text } from 'node:stream/consumers';
import { type PairSpec, Secret } from '../core/endpoint.ts';
import { EXIT, type ExitCode } from '../core/errors.ts';
import type { RunOptions } from '../core/options.ts';
import type { Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import type { SessionIo } from '../fleet/session.ts';
import type { SessionFacts } from '../report/recorder.ts';
import { withReport, withReportFile } from '../report/report-files.ts';
import { audited } from '../ui/audit.ts';
import { withoutRepeats } from '../ui/filter.ts';
import { formatTotals } from '../ui/format.ts';
import { jsonRenderer } from '../ui/json.ts';
import { withLog } from '../ui/log-file.ts';
import { headlessOperator, keysFooter, terminalOperator } from '../ui/operator.ts';
import { canRedraw, plainRenderer } from '../ui/plain.ts';
import { type CommandName, type RawOptions, resolveMetricsPort, type Surroundings } from './options.ts';
import { ownVersion } from './version.ts';

/** What the report of a run is made for. */
export interface ReportedRun {
  readonly command: CommandName;
  /** The run folder. */
  readonly dir: string;
  /** True where the run was begun by an earlier session. */
  readonly resumes: boolean;
  readonly pairs: number;
}

/** The same of a command without a run folder. */
export interface ReportedCommand {
  readonly command: CommandName;
  /** A new file. */
  readonly file: string;
  readonly pairs: readonly PairSpec[];
}

/** The real environment of the process. With `--json` people read stderr. */
export function surroundings(raw: RawOptions): Surroundings {
  const shown = raw.json ? process.stderr : process.stdout;
  return {
    // a copy: variables that hold a password are taken out of the process's own, see credentials.ts
    env: { ...process.env },
    cwd: process.cwd(),
    now: new Date(),
    terminal: process.stdin.isTTY === true && shown.isTTY === true,
    // not readFileSync(0): it fails with EAGAIN where the pipe is non-blocking
    readStdin: () => text(process.stdin),
    askPassword: process.stdin.isTTY
      ? async (question) => {
          const { askPassword } = await import('../ui/ask-password.ts');
          // stdout may be a pipe, or NDJSON
          return new Secret(await askPassword(process.stdin, process.stderr, question));
        }
      : null,
    warn: (message) => process.stderr.write(`warning: ${printable(message, 500)}\n`),
  };
}

/**
 * Runs `session` with the renderer and the operator that fit, and gives the terminal back however it ends.
 *
 * @param reported of what a report is made; null: none
 * @returns the session's exit code; 130 where it ended with an AbortError after a signal
 */
export async function inSession(
  raw: RawOptions,
  cutover: RunOptions['cutover'],
  session: (io: SessionIo) => Promise<ExitCode>,
  reported: ReportedRun | ReportedCommand | null = null,
): Promise<ExitCode> {
  const metricsPort = resolveMetricsPort(raw);
  // loaded where it is used: what a migration takes begins with the start of the program
  const metrics =
    metricsPort === null
      ? null
      : await (await import('../fleet/metrics.ts')).serveMetrics(metricsPort, ownVersion());
  const abort = new AbortController();
  const live =
    !raw.json && canRedraw(process.stdout)
      ? (await import('../ui/live.ts')).liveRenderer(process.stdout)
      : undefined;
  const shown = raw.json
    ? jsonRenderer(process.stdout)
    : withoutRepeats(live ?? plainRenderer(process.stdout));
  const logged = raw.log === undefined ? shown : withLog(shown, raw.log);
  const recorded = reported === null ? logged : withReportOf(logged, reported);
  const renderer = metrics === null ? recorded : metrics.watch(recorded);

  const stop = (signal: NodeJS.Signals): void => {
    if (abort.signal.aborted) return;
    renderer.event({ event: 'action', by: 'signal', action: signal, result: 'asked' });
    renderer.say('stopping; Ctrl-C again leaves at once and cleans nothing up');
    abort.abort();
  };
  let interrupted = false;
  const interrupt = (): void => {
    if (interrupted) {
      close();
      process.exit(EXIT.interrupted);
    }
    interrupted = true;
    stop('SIGINT');
  };
  // resolveRunOptions() allows `ask` on a terminal only
  const operator =
    cutover === 'ask'
      ? audited(
          terminalOperator(process.stdin, raw.json ? process.stderr : process.stdout, {
            onInterrupt: interrupt,
            ...(live === undefined ? {} : { screen: live }),
          }),
          (action) => renderer.event(action),
        )
      : headlessOperator();
  const close = (): void => {
    operator.close();
    renderer.close();
    metrics?.close();
    process.off('SIGINT', interrupt).off('SIGTERM', stop).off('SIGHUP', stop);
  };
  process.on('SIGINT', interrupt).on('SIGTERM', stop).on('SIGHUP', stop);

  try {
    if (metrics !== null) renderer.say(`Metrics: ${metrics.url}`);
    return await session({
      renderer,
      operator,
      signal: abort.signal,
      keysLine: keysFooter,
      totalsLine: formatTotals,
    });
  } catch (error) {
    if (!abort.signal.aborted || !(error instanceof Error) || error.name !== 'AbortError') throw error;
    renderer.event({ event: 'summary', outcome: 'interrupted', exitCode: EXIT.interrupted, pairs: [] });
    return EXIT.interrupted;
  } finally {
    close();
  }
}

function withReportOf(inner: Renderer, reported: ReportedRun | ReportedCommand): Renderer {
  const facts = (pairs: number): SessionFacts => ({
    command: reported.command,
    version: ownVersion(),
    by: `${userName()}@${hostname()}`,
    pairs,
  });
  return 'file' in reported
    ? withReportFile(inner, reported.file, reported.pairs, facts(reported.pairs.length))
    : withReport(inner, reported.dir, reported.resumes, facts(reported.pairs));
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // a container may run as a number that has no name
    return String(process.getuid?.() ?? 'unknown');
  }
}
