/**
 * The hooks of one pair: which command is run when, and what its failure does. Those of a cutover are steps of it
 * (cutover.ts); the first one is waited for by migration.ts; the others run beside the pair.
 */
import { toCutoverError } from '../core/errors.ts';
import type { HookEvent } from '../core/options.ts';
import { runHook } from './hooks.ts';
import type { CheckedPair } from './pair-context.ts';

const HOOK_LIMIT_MS = 60_000;

type HookedPair = Pick<CheckedPair, 'pair' | 'options' | 'facts' | 'runDir' | 'note'>;

/**
 * Runs the operator's command for `event`, as runHook() does; null where none was given.
 *
 * @param signal aborted: the command is killed
 */
export function pairHook(
  hooked: HookedPair,
  event: HookEvent,
  signal: AbortSignal,
): (() => Promise<void>) | null {
  const { pair, options, facts, runDir, note } = hooked;
  const command = options.hooks[event];
  if (command === undefined) return null;
  const { name, source, target } = pair;
  return () =>
    runHook(
      command,
      { event, pair: name, source, target, feed: facts.feed, runDir },
      { timeoutMs: HOOK_LIMIT_MS, signal, onLine: (line) => note(`hook: ${line}`) },
    );
}

/** Hooks that only tell somebody: each event once, in order, and what goes wrong with them is no more than noted. */
export class Announcements {
  readonly #told = new Set<HookEvent>();
  readonly #never = new AbortController();
  #running: Promise<void> = Promise.resolve();

  announce(hooked: HookedPair, event: 'in-sync' | 'rollback' | 'failure'): void {
    const hook = this.#told.has(event) ? null : pairHook(hooked, event, this.#never.signal);
    this.#told.add(event);
    if (hook === null) return;
    this.#running = this.#running
      .then(hook)
      .catch((error: unknown) => hooked.note(toCutoverError(error).message));
  }

  /** Resolves when all have ended, which their time limit sees to. */
  async settled(): Promise<void> {
    await this.#running;
  }
}
