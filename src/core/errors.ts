/**
 * The error classes of the program, split by who must act. Every layer throws one of these; the command line
 * turns one into an exit code, a message and a hint. Callers branch on `recovery`, never on message text.
 */

import { printable, withoutEchoes } from './text.ts';

/** What can be done about an error: dial again, take a new full copy, ask a person, or nothing. */
export type Recovery = 'reconnect' | 'resync' | 'operator' | 'none';

/** Exit codes of the command line (design.md, fixed). */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  preflight: 3,
  auth: 4,
  different: 5,
  cancelled: 6,
  attention: 7,
  interrupted: 130,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface ErrorDetails {
  /** Stable, machine-readable: `source-auth`, `target-nonempty`, … */
  readonly code: string;
  /** What an operator can type or change at 3 a.m. */
  readonly hint: string;
  readonly recovery?: Recovery;
  readonly exitCode?: ExitCode;
  readonly cause?: unknown;
}

/** Base of all errors that this program raises on purpose. */
export abstract class CutoverError extends Error {
  readonly code: string;
  readonly hint: string;
  readonly recovery: Recovery;
  readonly exitCode: ExitCode;

  constructor(message: string, details: ErrorDetails, defaults: { recovery: Recovery; exitCode: ExitCode }) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = details.code;
    this.hint = details.hint;
    this.recovery = details.recovery ?? defaults.recovery;
    this.exitCode = details.exitCode ?? defaults.exitCode;
  }
}

/** The command line, a URI or a host list is wrong: nothing was connected. */
export class UsageError extends CutoverError {
  constructor(message: string, details: ErrorDetails) {
    super(message, details, { recovery: 'none', exitCode: EXIT.usage });
  }
}

/** A guard refused the pair before anything was touched. */
export class PreflightError extends CutoverError {
  constructor(message: string, details: ErrorDetails) {
    super(message, details, { recovery: 'operator', exitCode: EXIT.preflight });
  }
}

/** The source, or the link to it, failed. */
export class SourceError extends CutoverError {
  constructor(message: string, details: ErrorDetails) {
    super(message, details, { recovery: 'reconnect', exitCode: EXIT.failed });
  }
}

/** The snapshot's bytes are not what the format allows. `offset` counts from the first byte of the RDB. */
export class RdbFormatError extends CutoverError {
  readonly offset: number;
  constructor(message: string, offset: number, details: Partial<ErrorDetails> = {}) {
    super(
      `${message} (RDB byte offset ${offset})`,
      {
        code: 'rdb-format',
        hint: 'check the source with redis-check-rdb; if the source is healthy, report this offset and its release',
        ...details,
      },
      { recovery: 'operator', exitCode: EXIT.failed },
    );
    this.offset = offset;
  }
}

export interface TargetErrorDetails extends ErrorDetails {
  /** Upper-case name of the command that was refused. */
  readonly command?: string;
  /** Short digest of the key; never the key itself. */
  readonly keyDigest?: string;
  /** The server's reply, as received. */
  readonly reply?: string;
}

/** The target refused or lost something that must not be skipped. */
export class TargetError extends CutoverError {
  readonly command: string | undefined;
  readonly keyDigest: string | undefined;
  readonly reply: string | undefined;
  constructor(message: string, details: TargetErrorDetails) {
    super(message, details, { recovery: 'operator', exitCode: EXIT.failed });
    this.command = details.command;
    this.keyDigest = details.keyDigest;
    this.reply = details.reply;
  }
}

/** The stored position, the run folder or the spool cannot be used. */
export class CheckpointError extends CutoverError {
  constructor(message: string, details: ErrorDetails) {
    super(message, details, { recovery: 'operator', exitCode: EXIT.failed });
  }
}

/** A bug of ours: a rule that the code promises to keep was broken. */
export class InvariantError extends CutoverError {
  constructor(message: string) {
    super(
      message,
      { code: 'invariant', hint: 'this is a bug in redis-cutover: keep the run folder and report it' },
      { recovery: 'none', exitCode: EXIT.failed },
    );
  }
}

export function assertNever(value: never): never {
  throw new InvariantError(`unexpected case: ${JSON.stringify(value)}`);
}

/** Any thrown value as one of ours; a stranger becomes an InvariantError that keeps it as the cause. */
export function toCutoverError(error: unknown): CutoverError {
  if (error instanceof CutoverError) return error;
  const wrapped = new InvariantError(withoutEchoes(error instanceof Error ? error.message : String(error)));
  wrapped.cause = error;
  if (error instanceof Error && error.stack !== undefined) wrapped.stack = error.stack;
  return wrapped;
}

/**
 * The message and the trace of an error that nobody has caught, on lines of their own. node would print the fields of
 * the error as well, and those of ioredis' errors are the arguments of the command: passwords.
 */
export function crashText(error: unknown): string {
  if (!(error instanceof Error)) return `Error: ${printable(withoutEchoes(String(error)))}`;
  // the trace begins with the message, which may look like anything
  const calls = error.stack?.split('\n').filter((line) => /^ {4}at /.test(line)) ?? [];
  const message = withoutEchoes(`${error.name}: ${error.message}`);
  return [message, ...calls].map((line) => printable(line)).join('\n');
}
