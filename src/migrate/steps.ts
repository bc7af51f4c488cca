/** The steps of a cutover or a rollback: each timed and shown, each undone in reverse order if a later one fails. */
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { type CutoverError, EXIT, TargetError, toCutoverError } from '../core/errors.ts';
import type { MigrationEvent } from '../core/events.ts';

/** Longer than a cutover takes where all goes well. */
const SHOWN_AFTER_MS = 50;
/** How long undoing a step waits for a server that is away. */
const UNDO_LIMIT_MS = 5_000;
const UNDO_RETRY_MS = 200;

export class Steps {
  readonly #pair: string;
  readonly #emit: (event: MigrationEvent) => void;
  readonly #signal: AbortSignal;
  readonly #began = performance.now();
  /** Steps that are done and not shown yet. */
  readonly #done: { readonly name: string; readonly ms: number; readonly detail?: string }[] = [];
  #timer: NodeJS.Timeout | null = null;
  readonly #undo: { readonly name: string; readonly run: () => Promise<unknown> }[] = [];

  /** @param signal aborted with a CutoverError where everything is to be called off and undone */
  constructor(pair: string, emit: (event: MigrationEvent) => void, signal: AbortSignal) {
    this.#pair = pair;
    this.#emit = emit;
    this.#signal = signal;
  }

  /** Does a step and shows how long after the beginning it was done. */
  async step<Value>(name: string, work: () => Promise<Value>, detail?: string): Promise<Value> {
    const value = await this.#timed(name, work, detail);
    this.#signal.throwIfAborted();
    return value;
  }

  /** To be called before the step that it undoes, where that may fail half way. */
  undo(name: string, run: () => Promise<unknown>): void {
    this.#undo.push({ name, run });
  }

  /** From here on nothing is undone any more. */
  keep(): void {
    this.#undo.length = 0;
    this.#show();
  }

  /**
   * Undoes what was done, last first, and returns what is to be thrown: `cause`, or `cutover-undo` (exit 7) where
   * undoing failed. One that fails does not keep the others from being done: above all writes must be possible again.
   * Each may be done twice: a server that is away for some seconds is waited for.
   */
  async back(error: unknown): Promise<CutoverError> {
    const cause = toCutoverError(error);
    let left: CutoverError | null = null;
    for (const { name, run } of this.#undo.reverse()) {
      try {
        await this.#timed(name, () => untilReached(run));
      } catch (undoError) {
        left ??= attention(this.#pair, name, cause, toCutoverError(undoError));
      }
    }
    this.#undo.length = 0;
    this.#show();
    return left ?? cause;
  }

  async #timed<Value>(name: string, work: () => Promise<Value>, detail?: string): Promise<Value> {
    const value = await work();
    const ms = Math.round((performance.now() - this.#began) * 10) / 10;
    this.#done.push({ name, ms, ...(detail === undefined ? {} : { detail }) });
    // not at once: showing takes time, here and in who looks on, and applications wait
    this.#timer ??= setTimeout(() => this.#show(), SHOWN_AFTER_MS);
    return value;
  }

  #show(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    for (const step of this.#done.splice(0)) this.#emit({ event: 'step', pair: this.#pair, ...step });
  }
}

/** What broke the cutover is often a connection, and it is back a moment later. @throws what `run` does */
async function untilReached(run: () => Promise<unknown>): Promise<void> {
  const until = performance.now() + UNDO_LIMIT_MS;
  for (;;) {
    try {
      await run();
      return;
    } catch (error) {
      if (toCutoverError(error).recovery !== 'reconnect' || performance.now() > until) throw error;
    }
    await delay(UNDO_RETRY_MS);
  }
}

export interface TimeLimit {
  readonly timeoutMs: number;
  /** On the clock of performance.now(). */
  readonly untilMs: number;
  readonly signal: AbortSignal;
  /** What is still missing, for people. */
  readonly missing: () => string;
}

/**
 * Waits for `work`, but not past the time limit and not after the cutover was called off.
 * @throws TargetError `cutover-timeout`, the signal's reason
 */
export async function within<Value>(work: Promise<Value>, limit: TimeLimit): Promise<Value> {
  const { untilMs, timeoutMs, signal, missing } = limit;
  let timer: NodeJS.Timeout | undefined;
  let calledOff: (() => void) | undefined;
  const end = new Promise<never>((_resolve, reject) => {
    calledOff = () => reject(signal.reason);
    signal.addEventListener('abort', calledOff);
    timer = setTimeout(
      () =>
        reject(
          new TargetError(`draining took longer than ${timeoutMs / 1000} s (${missing()})`, {
            code: 'cutover-timeout',
            hint: 'everything was undone and the pair goes on syncing: try when there is less traffic, or raise --cutover-timeout',
          }),
        ),
      Math.max(0, untilMs - performance.now()),
    );
  });
  try {
    return await Promise.race([work, end]);
  } finally {
    clearTimeout(timer);
    if (calledOff !== undefined) signal.removeEventListener('abort', calledOff);
  }
}

function attention(pair: string, name: string, cause: CutoverError, undoError: CutoverError): TargetError {
  return new TargetError(
    `${pair}: the cutover failed (${cause.message}), and undoing it failed at "${name}": ${undoError.message}`,
    {
      code: 'cutover-undo',
      hint: 'a fence may be left: redis-cutover resume with the run folder lifts it, or ACL SETUSER <user> +@write',
      exitCode: EXIT.attention,
      cause,
    },
  );
}
