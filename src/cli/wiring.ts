/** Ties a command to this process: its environment, its terminal (src/ui) and its signals. */
import { text } from 'node:stream/consumers';
import { EXIT, type ExitCode } from '../core/errors.ts';
import type { RunOptions } from '../core/options.ts';
import type { Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import type { SessionIo } from '../fleet/session.ts';
import { jsonRenderer } from '../ui/json.ts';
import { canRedraw, type LiveRenderer, liveRenderer } from '../ui/live.ts';
import { headlessOperator, keysFooter, terminalOperator } from '../ui/operator.ts';
import { plainRenderer } from '../ui/plain.ts';
import { formatTotals } from '../ui/table.ts';
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

/** A second SIGINT within this time ends the process on the spot. */
const HARD_EXIT_MS = 2_000;

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
  let live: LiveRenderer | undefined;
  let renderer: Renderer;
  if (raw.json) renderer = jsonRenderer(process.stdout);
  else if (canRedraw(process.stdout)) renderer = live = liveRenderer(process.stdout);
  else renderer = plainRenderer(process.stdout);

  let interruptedAtMs = Number.NEGATIVE_INFINITY;
  const stop = (): void => {
    if (abort.signal.aborted) return;
    renderer.say('stopping; Ctrl-C again within 2 seconds leaves at once');
    abort.abort();
  };
  const interrupt = (): void => {
    const now = performance.now();
    if (now - interruptedAtMs < HARD_EXIT_MS) {
      close();
      process.exit(EXIT.interrupted);
    }
    interruptedAtMs = now;
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
