/** Runs the built program (bin/redis-cutover.js over dist/) as a child process and reads its NDJSON. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { atEnd, type Cleanup } from './server.ts';
import { within } from './wait.ts';

const BIN = fileURLToPath(new URL('../../bin/redis-cutover.js', import.meta.url));

/** One line of `--json`; which keys there are depends on `event` (design.md). */
export type CliEvent = { readonly ts: string; readonly event: string } & Readonly<Record<string, unknown>>;

export interface CliOptions {
  /** Added to this process's environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Written to standard input, which then ends; left out: standard input is empty. */
  readonly stdin?: string;
  /** Another script to run than the program. */
  readonly script?: string;
  /** Ends the program with the test, should it still run. */
  readonly t?: Cleanup;
  /** For `exit`; default 120 s. */
  readonly exitTimeoutMs?: number;
}

export interface CliRun {
  readonly pid: number;
  /** NDJSON lines of stdout so far; grows. */
  readonly events: readonly CliEvent[];
  stdout(): string;
  stderr(): string;
  /**
   * The exit code once the program ended and its output is complete; null when a signal ended it. A program that
   * has not ended 120 s after this was first asked for is ended by SIGKILL; this rejects with the end of its output.
   */
  readonly exit: Promise<number | null>;
  /** The first event, past or to come, that `matches`. Throws when the program ends before, or after `timeoutMs`. */
  until(matches: (event: CliEvent) => boolean, timeoutMs?: number): Promise<CliEvent>;
  /** Waits for the phase event that enters `name` (of any pair). */
  phase(name: string, timeoutMs?: number): Promise<CliEvent>;
  kill(signal?: NodeJS.Signals): void;
  /** The most memory that the process had resident, as far as seen; 0 where /proc is missing. Linux only. */
  peakRssBytes(): number;
}

const RSS_SAMPLE_MS = 100;
const DEFAULT_TIMEOUT_MS = 120_000;
const EXIT_TIMEOUT_MS = 120_000;

interface Watcher {
  check(): void;
}

export function runCli(args: readonly string[], options: CliOptions = {}): CliRun {
  const child = spawn(process.execPath, [options.script ?? BIN, ...args], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const events: CliEvent[] = [];
  const watchers = new Set<Watcher>();
  const notify = (): void => {
    for (const watcher of watchers) watcher.check();
  };
  let stdout = '';
  let stderr = '';
  let parsedTo = 0;
  let ended = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (let end = stdout.indexOf('\n', parsedTo); end >= 0; end = stdout.indexOf('\n', parsedTo)) {
      const event = parseEvent(stdout.slice(parsedTo, end));
      if (event !== null) events.push(event);
      parsedTo = end + 1;
    }
    notify();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  // A program that ends at once does not read its input
  child.stdin.on('error', () => {});
  child.stdin.end(options.stdin ?? '');

  let peak = 0;
  const sampleRss = (): void => {
    peak = Math.max(peak, residentPeak(child.pid ?? 0));
  };
  const sampler = setInterval(sampleRss, RSS_SAMPLE_MS);
  const closed = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      clearInterval(sampler);
      ended = true;
      notify();
      resolve(code);
    });
  });
  closed.catch(() => clearInterval(sampler));
  let exit: Promise<number | null> | undefined;
  const exitInTime = async (): Promise<number | null> => {
    const { exitTimeoutMs = EXIT_TIMEOUT_MS } = options;
    try {
      return await within(closed, exitTimeoutMs, 'the end of the program');
    } catch (error) {
      child.kill('SIGKILL');
      throw new Error(`${String(error)}\nstdout: ${tail(stdout)}\nstderr: ${tail(stderr)}`, { cause: error });
    }
  };

  const until = (
    matches: (event: CliEvent) => boolean,
    timeoutMs = DEFAULT_TIMEOUT_MS,
    what = matches.toString(),
  ): Promise<CliEvent> =>
    new Promise((resolve, reject) => {
      let next = 0;
      const timer = setTimeout(() => finish(`not within ${timeoutMs} ms`), timeoutMs);
      const watcher: Watcher = {
        check: () => {
          for (; next < events.length; next += 1) {
            const event = events[next]!;
            if (matches(event)) {
              finish(event);
              return;
            }
          }
          if (ended) finish('the program ended before');
        },
      };
      const finish = (result: CliEvent | string): void => {
        clearTimeout(timer);
        watchers.delete(watcher);
        if (typeof result !== 'string') resolve(result);
        else reject(new Error(`${result}: ${what}\nstdout: ${tail(stdout)}\nstderr: ${tail(stderr)}`));
      };
      watchers.add(watcher);
      watcher.check();
    });

  if (options.t !== undefined) {
    atEnd(options.t, async () => {
      if (ended) return;
      child.kill('SIGKILL');
      await closed;
    });
  }
  return {
    pid: child.pid ?? 0,
    events,
    stdout: () => stdout,
    stderr: () => stderr,
    get exit() {
      exit ??= exitInTime();
      return exit;
    },
    until: (matches, timeoutMs) => until(matches, timeoutMs),
    phase: (name, timeoutMs) =>
      until((event) => event.event === 'phase' && event['to'] === name, timeoutMs, `phase ${name}`),
    kill: (signal = 'SIGTERM') => {
      child.kill(signal);
    },
    peakRssBytes: () => {
      sampleRss();
      return peak;
    },
  };
}

function parseEvent(line: string): CliEvent | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && 'event' in value ? (value as CliEvent) : null;
  } catch {
    return null;
  }
}

/** VmHWM: the kernel's own high-water mark of this process. */
function residentPeak(pid: number): number {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function tail(text: string): string {
  return text.slice(-2_000);
}
