/**
 * Runs a shell command of the operator, with the facts of the pair in its environment and nothing of its passwords.
 * What it prints is shown line by line. pair-hooks.ts knows when which one is run.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { addressOf, type Endpoint } from '../core/endpoint.ts';
import { TargetError } from '../core/errors.ts';
import type { HookEvent } from '../core/options.ts';
import { printable } from '../core/text.ts';

type Address = Pick<Endpoint, 'host' | 'port'>;

/** What a hook is told, as `REDIS_CUTOVER_…` variables. */
export interface HookFacts {
  readonly event: HookEvent;
  readonly pair: string;
  readonly source: Address;
  readonly target: Address;
  readonly feed: 'attach' | 'write';
  readonly runDir: string;
}

export interface HookOptions {
  readonly timeoutMs: number;
  /** Aborted: the hook is killed. */
  readonly signal: AbortSignal;
  /** A line that the hook printed, on stdout or stderr, fit for a terminal. */
  onLine(line: string): void;
}

/** What the failure of a hook has done. */
const CALLED_OFF: Record<HookEvent, string> = {
  start: 'the pair was not begun: ',
  'in-sync': '',
  before: 'the cutover was called off: ',
  cutover: 'the cutover was called off: ',
  rollback: '',
  failure: '',
};
/** More is read, so that the hook does not block, and thrown away. */
const MOST_LINES = 200;
/** Of one line; printable() shows less. */
const LONGEST_LINE = 1024;
/** For what is still in the pipes when the hook has ended: a child that it left behind may hold them open forever. */
const LAST_OUTPUT_MS = 200;

/**
 * Runs `/bin/sh -c command` without stdin, in a process group of its own; resolves when it exits with 0. A child that
 * it leaves behind lives on, but its output is no longer read.
 *
 * @throws TargetError `hook-vetoed` for another exit code, a signal, or a command that cannot be started;
 * `hook-timeout` after `timeoutMs`. The signal's reason after an abort. In both cases the whole group was killed.
 */
export async function runHook(command: string, facts: HookFacts, options: HookOptions): Promise<void> {
  const { timeoutMs, signal, onLine } = options;
  signal.throwIfAborted();
  const end = await new Promise<string | null>((resolve, reject) => {
    const hook = start(command, facts);
    if (hook instanceof Error) {
      resolve(`could not be started: ${printable(hook.message)}`);
      return;
    }
    const flush = forwardLines([hook.stdout, hook.stderr], onLine);
    const killWith = (error: unknown): void => {
      killGroup(hook);
      settle(() => reject(error));
    };
    const calledOff = (): void => killWith(signal.reason);
    const timer = setTimeout(() => killWith(timedOut(facts, timeoutMs)), timeoutMs);
    signal.addEventListener('abort', calledOff);
    let drained: NodeJS.Timeout | undefined;
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      clearTimeout(drained);
      signal.removeEventListener('abort', calledOff);
      hook.stdout.destroy();
      hook.stderr.destroy();
      flush();
      finish();
    };
    hook.once('error', (error) => settle(() => resolve(`could not be started: ${printable(error.message)}`)));
    hook.once('exit', (code, signalName) => {
      const outcome = code === 0 ? null : `ended with ${signalName ?? `exit code ${code}`}`;
      clearTimeout(timer);
      drained = setTimeout(() => settle(() => resolve(outcome)), LAST_OUTPUT_MS);
      // both pipes are at their end, too
      hook.once('close', () => settle(() => resolve(outcome)));
    });
  });
  if (end !== null) {
    throw new TargetError(`${nameOf(facts)} ${end}`, {
      code: 'hook-vetoed',
      hint: `${CALLED_OFF[facts.event]}see what the hook printed, then run it by hand with the same REDIS_CUTOVER_… variables`,
    });
  }
}

type Hook = ChildProcess & { readonly stdout: Readable; readonly stderr: Readable };

/** An Error where the command cannot even be handed to the system (a NUL in it). */
function start(command: string, facts: HookFacts): Hook | Error {
  try {
    return spawn('/bin/sh', ['-c', command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // a group of its own: it can be killed as a whole, and Ctrl-C in the terminal is for us to act on
      detached: true,
      env: environmentOf(facts),
    });
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function environmentOf(facts: HookFacts): NodeJS.ProcessEnv {
  const { event, pair, source, target, feed, runDir } = facts;
  return {
    // without the variables that hold passwords: cli/credentials.ts has taken those out
    ...process.env,
    REDIS_CUTOVER_EVENT: event,
    REDIS_CUTOVER_PAIR: pair,
    REDIS_CUTOVER_SOURCE: addressOf(source),
    REDIS_CUTOVER_SOURCE_HOST: source.host,
    REDIS_CUTOVER_SOURCE_PORT: String(source.port),
    REDIS_CUTOVER_TARGET: addressOf(target),
    REDIS_CUTOVER_TARGET_HOST: target.host,
    REDIS_CUTOVER_TARGET_PORT: String(target.port),
    REDIS_CUTOVER_FEED: feed,
    REDIS_CUTOVER_RUN_DIR: runDir,
  };
}

/** Returns what ends it: shows what came without a newline behind it. */
function forwardLines(streams: readonly Readable[], onLine: (line: string) => void): () => void {
  let lines = 0;
  const show = (line: string): void => {
    lines++;
    if (lines <= MOST_LINES) onLine(printable(line.endsWith('\r') ? line.slice(0, -1) : line));
    else if (lines === MOST_LINES + 1) onLine(`… (more than ${MOST_LINES} lines)`);
  };
  const begun = streams.map(() => '');
  for (const [index, stream] of streams.entries()) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      const parts = `${begun[index]}${text}`.split('\n');
      begun[index] = (parts.pop() ?? '').slice(0, LONGEST_LINE);
      for (const line of parts) show(line);
    });
    // destroyed by us, or broken: how the hook ended says what counts
    stream.on('error', () => {});
  }
  return () => {
    for (const [index, line] of begun.entries()) {
      if (line !== '') show(line);
      begun[index] = '';
    }
  };
}

function killGroup(hook: ChildProcess): void {
  if (hook.pid === undefined) return;
  try {
    process.kill(-hook.pid, 'SIGKILL');
  } catch {
    // ended by itself in this moment
  }
}

/** The command itself is not named: it may hold a password. */
function nameOf(facts: HookFacts): string {
  return `the hook "${facts.event}"`;
}

function timedOut(facts: HookFacts, timeoutMs: number): TargetError {
  return new TargetError(`${nameOf(facts)} took longer than ${timeoutMs / 1000} s and was killed`, {
    code: 'hook-timeout',
    hint: `${CALLED_OFF[facts.event]}let the hook do less, or put its work in the background with its output in a file`,
  });
}
