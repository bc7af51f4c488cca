/**
 * The person at the keyboard. Single keys in raw mode, those that only move about in the table (view-keys.ts), questions that are answered by typing a name, and Ctrl-C;
 * where there is no terminal, nobody ever answers. See core/ports.ts for the contract.
 */
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { EXIT } from '../core/errors.ts';
import type { Operator, OperatorCommand } from '../core/ports.ts';
import { printable } from '../core/text.ts';
import type { Screen } from './live.ts';
import { guardTerminal, stopLikeCtrlZ } from './terminal-guard.ts';
import type { ViewKey } from './view.ts';
import { readViewKeys } from './view-keys.ts';

const KEYS: readonly { readonly key: string; readonly command: OperatorCommand; readonly label: string }[] = [
  { key: 's', command: 'start', label: 'start' },
  { key: 'e', command: 'enable-writes', label: 'enable writes' },
  { key: 'm', command: 'promote', label: 'make masters' },
  { key: 'c', command: 'cut-over', label: 'cut over' },
  { key: 'w', command: 'cut-over-wave', label: 'cut over the wave' },
  { key: 'p', command: 'pause', label: 'pause' },
  { key: 't', command: 'throttle', label: 'throttle' },
  { key: 'l', command: 'clients', label: 'clients' },
  { key: 'v', command: 'verify', label: 'verify' },
  { key: 'k', command: 'kill', label: 'kill clients' },
  { key: 'b', command: 'roll-back', label: 'roll back' },
  { key: 'u', command: 'roll-back-wave', label: 'roll back the wave' },
  { key: 'f', command: 'finish', label: 'finish' },
  { key: 'q', command: 'quit', label: 'quit' },
  { key: 'f', command: 'start-tuned', label: 'start with these, put back after' },
  { key: 'r', command: 'check-again', label: 'check again' },
  { key: '?', command: 'help', label: 'help' },
];

const CTRL_C = '\x03';
const CTRL_Z = '\x1a';
const ESCAPE = '\x1b';
/** ESC that nothing has followed for so long is the key; a sequence comes in one go, or nearly so over a slow line. */
const ESCAPE_ALONE_MS = 100;
const SORT_KEY = 'o';
/** So much silence in raw mode kept every typed-ahead answer from a prompt when it was measured (2026-11). */
const DRAIN_QUIET_MS = 150;
const DRAIN_MAX_MS = 2_000;

/** Where a question is put. */
type QuestionOutput = Writable & { readonly columns?: number };

/** stdin of a terminal. */
export interface KeyInput extends Readable {
  setRawMode(raw: boolean): unknown;
}

export interface TerminalOperatorOptions {
  /** The first Ctrl-C, which raw mode keeps from becoming SIGINT: the process's own SIGINT handling. */
  readonly onInterrupt: () => void;
  /** The table that shares the terminal; without one, hints are printed as lines. */
  readonly screen?: Screen;
  /** The second Ctrl-C; ends the process with code 130 unless a test says otherwise. */
  readonly endHard?: () => void;
}

/** `[s] start  [q] quit`: what a footer says about the keys that act now. */
export function keysFooter(allowed: readonly OperatorCommand[]): string {
  return KEYS.filter(({ command }) => allowed.includes(command))
    .map(({ key, label }) => `[${key}] ${label}`)
    .join('  ');
}

/** Somebody who never answers: for runs without a terminal. */
export function headlessOperator(): Operator {
  return {
    selected: () => null,
    next: () => new Promise(() => {}),
    confirmByTyping: async () => false,
    ask: async () => null,
    close() {},
  };
}

/** Takes the terminal into raw mode at once; close() gives it back. One operator per terminal. */
export function terminalOperator(
  stdin: KeyInput,
  stdout: QuestionOutput,
  options: TerminalOperatorOptions,
): Operator {
  return new TerminalOperator(stdin, stdout, options);
}

type Mode = 'keys' | 'draining' | 'asking' | 'closed';

class TerminalOperator implements Operator {
  readonly #stdin: KeyInput;
  readonly #stdout: QuestionOutput;
  readonly #options: TerminalOperatorOptions;
  readonly #release: () => void;
  #mode: Mode = 'keys';
  #waiting: {
    readonly allowed: readonly OperatorCommand[];
    readonly resolve: (command: OperatorCommand | 'chosen') => void;
  } | null = null;
  #interrupted = false;
  /** The beginning of an escape sequence, whose end is still to come. */
  #sequence = '';
  #escapeAlone: NodeJS.Timeout | undefined;
  /** While draining: called for every chunk thrown away. */
  #onDrained: (chunk: string) => void = () => {};
  /** While asking: answers no. */
  #refuse: () => void = () => {};

  constructor(stdin: KeyInput, stdout: QuestionOutput, options: TerminalOperatorOptions) {
    this.#stdin = stdin;
    this.#stdout = stdout;
    this.#options = options;
    // a terminal that hangs up fails with EIO; SIGHUP tells the process
    stdin.on('error', () => {});
    this.#release = guardTerminal({
      restore: () => this.#setRaw(false),
      reapply: () => this.#setRaw(true),
    });
    this.#readKeys();
  }

  selected(): string | null {
    return this.#options.screen?.chosen() ?? null;
  }

  /** The latest call counts: an earlier one that is still pending stays pending. */
  next(allowed: readonly OperatorCommand[]): Promise<OperatorCommand | 'chosen'> {
    return new Promise((resolve) => {
      if (this.#mode !== 'closed') this.#waiting = { allowed, resolve };
    });
  }

  async confirmByTyping(question: string, expected: string): Promise<boolean> {
    return (await this.#typed(question, 'Anything else, or Ctrl-C, means no.')) === expected;
  }

  ask(question: string): Promise<string | null> {
    return this.#typed(question, 'Nothing, or Ctrl-C, changes nothing.');
  }

  async #typed(question: string, otherwise: string): Promise<string | null> {
    if (this.#mode !== 'keys') return null;
    this.#forgetSequence();
    this.#mode = 'draining';
    // loaded where it is used: most sessions of scripts never ask
    const [quiet, { wrapWords }] = await Promise.all([this.#drain(), import('./table.ts')]);
    if (this.#isClosed()) return null;
    if (!quiet) {
      this.#mode = 'keys';
      return null;
    }
    this.#mode = 'asking';
    const columns = this.#stdout.columns ?? Number.POSITIVE_INFINITY;
    const lines = question.split('\n').flatMap((line) => wrapWords(printable(line), columns));
    const answer = await this.#ask(lines, otherwise);
    if (!this.#isClosed()) {
      this.#mode = 'keys';
      this.#readKeys();
    }
    this.#options.screen?.resume();
    return answer;
  }

  close(): void {
    if (this.#mode === 'closed') return;
    this.#mode = 'closed';
    this.#forgetSequence();
    this.#waiting = null;
    this.#refuse();
    this.#onDrained(CTRL_C);
    this.#stdin.off('data', this.#onData);
    this.#stdin.pause();
    this.#setRaw(false);
    this.#release();
  }

  #isClosed(): boolean {
    return this.#mode === 'closed';
  }

  #readKeys(): void {
    this.#setRaw(true);
    this.#stdin.on('data', this.#onData);
    this.#stdin.resume();
  }

  #setRaw(raw: boolean): void {
    try {
      if (!raw || this.#mode !== 'closed') this.#stdin.setRawMode(raw);
    } catch {
      // the terminal is gone: nothing is left to restore
    }
  }

  readonly #onData = (chunk: Buffer | string): void => {
    const text = chunk.toString();
    if (this.#mode === 'draining') this.#onDrained(text);
    else if (this.#mode === 'keys') this.#onKeys(text);
  };

  #onKeys(text: string): void {
    if (text.includes(CTRL_C)) {
      this.#forgetSequence();
      this.#interrupt();
      return;
    }
    if (text === CTRL_Z) {
      stopLikeCtrlZ();
      return;
    }
    // arrows, mouse, answers of the terminal: their letters are no keys
    if (this.#sequence !== '' || text.startsWith(ESCAPE)) {
      this.#onSequence(this.#sequence + text);
      return;
    }
    const key = text.charAt(0).toLowerCase();
    // a pasted text must not act by the letters in it; a key that repeats is still one key
    const isOneKey = [...text].every((char) => char.toLowerCase() === key);
    const view = viewKeyOf(key);
    if (isOneKey && view !== null && this.#viewKey(view)) return;
    const waiting = this.#waiting;
    // a key may mean one thing before the start and another behind it
    const command = KEYS.find(
      (entry) => entry.key === key && waiting?.allowed.includes(entry.command),
    )?.command;
    if (!isOneKey || waiting === null || command === undefined) {
      this.#hint(isOneKey ? key : text);
      return;
    }
    this.#waiting = null;
    waiting.resolve(command);
  }

  /** False where the screen has nothing to do for the key. Who waits is told when another pair is chosen. */
  #viewKey(key: ViewKey): boolean {
    const before = this.selected();
    const done = this.#options.screen?.viewKey(key) ?? false;
    if (this.selected() !== before) {
      this.#waiting?.resolve('chosen');
      this.#waiting = null;
    }
    return done;
  }

  #onSequence(text: string): void {
    this.#forgetSequence();
    const { keys, rest } = readViewKeys(text);
    for (const key of keys) this.#viewKey(key);
    this.#sequence = rest;
    if (rest !== ESCAPE) return;
    this.#escapeAlone = setTimeout(() => {
      this.#sequence = '';
      this.#viewKey('leave');
    }, ESCAPE_ALONE_MS).unref();
  }

  #forgetSequence(): void {
    clearTimeout(this.#escapeAlone);
    this.#sequence = '';
  }

  #hint(typed: string): void {
    const now = this.#waiting === null ? 'please wait' : keysFooter(this.#waiting.allowed);
    const key = /^[\r\n]+$/.test(typed) ? 'Enter' : printable(typed, 10);
    const text = `[${key}] does nothing now  ${now}`;
    if (this.#options.screen === undefined) this.#stdout.write(`${text}\n`);
    else this.#options.screen.hint(text);
  }

  #interrupt(): void {
    if (!this.#interrupted) {
      this.#interrupted = true;
      this.#options.onInterrupt();
      return;
    }
    this.close();
    // process.exit lets the guard restore what others hold of the terminal
    (this.#options.endHard ?? (() => process.exit(EXIT.interrupted)))();
  }

  /** Throws away what was typed so far, until nothing more comes; false on Ctrl-C. */
  #drain(): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (quiet: boolean): void => {
        clearTimeout(timer);
        clearTimeout(limit);
        this.#onDrained = () => {};
        resolve(quiet);
      };
      const timer = setTimeout(() => end(true), DRAIN_QUIET_MS);
      // somebody leans on the keyboard: that is no answer
      const limit = setTimeout(() => end(false), DRAIN_MAX_MS);
      this.#onDrained = (chunk) => {
        if (chunk.includes(CTRL_C)) end(false);
        else timer.refresh();
      };
    });
  }

  /** One line from the person, or null on Ctrl-C, Ctrl-D and close(). readline edits the line in its own raw mode. */
  #ask(question: readonly string[], otherwise: string): Promise<string | null> {
    this.#stdin.off('data', this.#onData);
    return new Promise((resolve) => {
      // history: an answer of before must not be one arrow key away
      const readline: Interface = createInterface({
        input: this.#stdin,
        output: this.#stdout,
        terminal: true,
        historySize: 0,
        prompt: '> ',
      });
      const end = (answer: string | null): void => {
        this.#refuse = () => {};
        // first: close() emits 'close', whose answer then comes too late to count
        resolve(answer);
        readline.close();
      };
      this.#refuse = () => end(null);
      this.#options.screen?.suspend(() => readline.prompt(true));
      for (const line of question) this.#stdout.write(`${line}\n`);
      this.#stdout.write(`${otherwise}\n`);
      readline.on('line', end);
      readline.on('SIGINT', () => {
        this.#stdout.write('\n');
        end(null);
      });
      readline.on('close', () => end(null));
      // stopping here would leave the question half asked
      readline.on('SIGTSTP', () => {});
      readline.prompt();
    });
  }
}

/** Enter and `o`; what comes as a sequence is read elsewhere. */
function viewKeyOf(key: string): ViewKey | null {
  if (key === '\r' || key === '\n') return 'details';
  return key === SORT_KEY ? 'sort' : null;
}
