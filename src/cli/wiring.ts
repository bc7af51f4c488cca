/** Ties a command to this process: its environment, its terminal (src/ui) and its signals. */
import { text } from 'node:stream/consumers';
import { EXIT, type ExitCode } from '../core/errors.ts';
import type { RunOptions } from '../core/options.ts';
import { printable } from '../core/text.ts';
import type { SessionIo } from '../fleet/session.ts';
import { withoutRepeats } from '../ui/filter.ts';
import { formatTotals } from '../ui/format.ts';
import { jsonRenderer } from '../ui/json.ts';
import { headlessOperator, keysFooter, terminalOperator } from '../ui/operator.ts';
import { canRedraw, plainRenderer } from '../ui/plain.ts';
import type { RawOptions, Surroundings } from './options.ts';

/** The real environment of the process. With `--json` people read stderr. */
export function surroundings(raw: RawOptions): Surroundings {
  const shown = raw.json ? process.stderr : process.stdout;
  return {
    env: process.env,
    cwd: process.cwd(),
    now: new Date(),
    terminal: process.stdin.isTTY === true && shown.isTTY === true,
    // not readFileSync(0): it fails with EAGAIN where the pipe is non-blocking
    readStdin: () => text(process.stdin),
    warn: (message) => process.stderr.write(`warning: ${printable(message, 500)}\n`),
  };
}

/**
 * Runs `session` with the renderer and the operator that fit, and gives the terminal back however it ends.
 *
 * @returns the session's exit code; 130 where it ended with an AbortError after a signal
 */
export async function inSession(
  raw: RawOptions,
  cutover: RunOptions['cutover'],
  session: (io: SessionIo) => Promise<ExitCode>,
): Promise<ExitCode> {
  const abort = new AbortController();
  // loaded where it is used: with --json, what a migration takes begins with the start of the program
  const live =
    !raw.json && canRedraw(process.stdout)
      ? (await import('../ui/live.ts')).liveRenderer(process.stdout)
      : undefined;
  const renderer = raw.json
    ? jsonRenderer(process.stdout)
    : withoutRepeats(live ?? plainRenderer(process.stdout));

  const stop = (): void => {
    if (abort.signal.aborted) return;
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
    stop();
  };
  // resolveRunOptions() allows `ask` on a terminal only
  const operator =
    cutover === 'ask'
      ? terminalOperator(process.stdin, raw.json ? process.stderr : process.stdout, {
          onInterrupt: interrupt,
          ...(live === undefined ? {} : { screen: live }),
        })
      : headlessOperator();
  const close = (): void => {
    operator.close();
    renderer.close();
    process.off('SIGINT', interrupt).off('SIGTERM', stop).off('SIGHUP', stop);
  };
  process.on('SIGINT', interrupt).on('SIGTERM', stop).on('SIGHUP', stop);

  try {
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
