/** What the session needs from the outside: somebody who answers, and somewhere to show things. ui/ implements both. */
import type { MigrationEvent, PairSnapshot } from './events.ts';

/** A key that the operator pressed, by meaning. */
export type OperatorCommand =
  | 'start'
  | 'start-tuned'
  | 'check-again'
  | 'enable-writes'
  | 'promote'
  | 'cut-over'
  | 'cut-over-wave'
  | 'pause'
  | 'throttle'
  | 'clients'
  | 'verify'
  | 'kill'
  | 'roll-back'
  | 'roll-back-wave'
  | 'finish'
  | 'quit'
  | 'help';

export interface Operator {
  /** Name of the pair that is chosen on the screen: the keys act on it alone; null: on all pairs. */
  selected(): string | null;
  /**
   * Resolves with the next command out of `allowed`; rejects never; after close it stays pending. The latest call
   * counts: an earlier one that is still pending stays so, and keys pressed while nobody waits are dropped. `chosen`:
   * selected() has changed, so other keys may act now.
   */
  next(allowed: readonly OperatorCommand[]): Promise<OperatorCommand | 'chosen'>;
  /** `question` says what to type; typeahead is thrown away first. True only where the answer is exactly `expected`. */
  confirmByTyping(question: string, expected: string): Promise<boolean>;
  /** The line that is typed, typeahead thrown away first; null: nobody answers. Changes nothing that could be lost. */
  ask(question: string): Promise<string | null>;
  close(): void;
}

export interface Renderer {
  event(event: MigrationEvent): void;
  /** Redraws the live view; called a few times a second with one frozen snapshot per pair. */
  frame(pairs: readonly PairSnapshot[], footer: string): void;
  /** One line of text for people. */
  say(text: string): void;
  /** Starts a single step (spinner on a terminal); the returned function ends it. */
  step(text: string): (result: 'ok' | 'failed', text?: string) => void;
  /** Puts the terminal back as it was. */
  close(): void;
}
