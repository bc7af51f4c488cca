/**
 * The dialogue by which a replica introduces itself: a table of steps, and for each reply what it means
 * (protocol.md 1.1-1.4). Pure: link.ts sends and waits. PSYNC is never pipelined: a server with
 * unsent output refuses it.
 */

import { EXIT, SourceError } from '../core/errors.ts';
import type { ReplicationCommandNames } from '../core/options.ts';
import { isReplid, parseOffset, type ReplicationPosition } from '../core/position.ts';
import { printable, withoutEchoes } from '../core/text.ts';

export interface HandshakeStep {
  readonly words: readonly string[];
  /**
   * `auth`: must succeed. `ping`: the server must answer. `option`: any answer will do, but that REPLCONF is unknown.
   * `wish`: any refusal will do.
   */
  readonly kind: 'auth' | 'ping' | 'option' | 'wish';
}

export interface Introduction {
  readonly username: string | null;
  readonly password: string | null;
  readonly names: ReplicationCommandNames;
  /** For Valkey >= 8.0 only: decides the RDB version that a 9.1 sends (protocol.md 1.7). */
  readonly announceVersion: string | null;
  /**
   * Redis >= 8.6: the snapshot without LZF, which costs the source's child most of its time (protocol.md 1.2). That the
   * checksum be left out as well is not asked for: it guards the way to the target, and a copy that is kept.
   */
  readonly plainSnapshot?: boolean;
}

/**
 * An unresolvable name and port 0: no Sentinel registers such a replica, none can ever promote us
 * (protocol.md 1.9, measured on 7.0).
 */
const ANNOUNCED_ADDRESS = 'migrator.invalid';

/** One option per REPLCONF: an unknown one makes the server drop those behind it. */
export function handshakeSteps(introduction: Introduction): HandshakeStep[] {
  const { username, password, names, announceVersion, plainSnapshot = false } = introduction;
  const option = (...words: string[]): HandshakeStep => ({
    words: [names.replconf, ...words],
    kind: 'option',
  });
  const steps: HandshakeStep[] = [];
  if (password !== null) {
    steps.push({
      words: username === null ? ['AUTH', password] : ['AUTH', username, password],
      kind: 'auth',
    });
  }
  steps.push({ words: ['PING'], kind: 'ping' });
  steps.push(option('listening-port', '0'), option('ip-address', ANNOUNCED_ADDRESS));
  steps.push(option('capa', 'eof'), option('capa', 'psync2'));
  if (announceVersion !== null) steps.push(option('version', announceVersion));
  if (plainSnapshot) steps.push({ words: [names.replconf, 'rdb-no-compress', '1'], kind: 'wish' });
  return steps;
}

export type StepOutcome =
  | { readonly kind: 'next' }
  /** The server knows no REPLCONF, so no acknowledgements either: good enough for SYNC only (see judgeStep). */
  | { readonly kind: 'no-replconf'; readonly reason: string }
  /** AUTH with a user name on a server before 6.0: again with the password alone. */
  | { readonly kind: 'auth-without-user' }
  | { readonly kind: 'retry'; readonly reason: string }
  | { readonly kind: 'stop'; readonly error: SourceError };

const NEXT: StepOutcome = { kind: 'next' };

/**
 * What the answer to a step means (protocol.md 1.3). A server that refuses REPLCONF would refuse each
 * acknowledgement, too: 7.0 closes the link at the first one (measured), older ones put the error into the stream.
 */
export function judgeStep(step: HandshakeStep, line: string): StepOutcome {
  if (line.startsWith('+')) return NEXT;
  if (!line.startsWith('-')) return stop(notRedis(line));
  const text = errorText(line);
  const prefix = text.split(' ', 1)[0] ?? '';
  switch (prefix) {
    case 'LOADING':
    case 'BUSY':
    case 'MASTERDOWN':
    case 'NOMASTERLINK':
      return retry(text);
    case 'DENIED':
      return stop(
        failure('source-protected', `the source refuses connections from outside: ${text}`, {
          hint: 'the source runs in protected mode: give it a password, or bind it to an address that we may use',
        }),
      );
  }
  if (/^ERR max number of clients/i.test(text)) return retry(text);
  switch (step.kind) {
    case 'auth':
      return judgeAuth(step, text);
    case 'ping':
      return judgePing(text);
    case 'option':
      if (isCredentialsMissing(text)) return stop(credentialsMissing(text));
      if (/^NOPERM/.test(text)) return stop(notPermitted(text));
      return isUnknownCommand(text) ? { kind: 'no-replconf', reason: text } : NEXT;
    case 'wish':
      return NEXT;
  }
}

function judgeAuth(step: HandshakeStep, text: string): StepOutcome {
  if (/wrong number of arguments/i.test(text) && step.words.length === 3)
    return { kind: 'auth-without-user' };
  // a password for a server that has none: harmless (<= 5: first form, >= 6: second)
  if (/no password is set|without any password configured/i.test(text)) return NEXT;
  return stop(
    failure('source-auth', `the source refuses the credentials: ${text}`, {
      hint: 'check user and password of the source (--src-auth-env, --auth-file, or in the URI)',
      exitCode: EXIT.auth,
    }),
  );
}

function judgePing(text: string): StepOutcome {
  if (isCredentialsMissing(text)) return stop(credentialsMissing(text));
  // PING is grouped with the writes when persistence fails (>= 2.8); PSYNC is not affected. NOPERM to PING neither.
  if (/^(MISCONF|NOPERM)/.test(text)) return NEXT;
  return stop(
    failure('source-ping', `the source answers PING with: ${text}`, {
      hint: 'is it a Redis or Valkey server?',
    }),
  );
}

export type PsyncOutcome =
  | { readonly kind: 'full-resync'; readonly position: ReplicationPosition }
  /** `replid` null: the server did not name its history (before 4.0). */
  | { readonly kind: 'continue'; readonly replid: string | null }
  | { readonly kind: 'retry'; readonly reason: string }
  /** PSYNC is unknown here: use SYNC. */
  | { readonly kind: 'use-sync'; readonly reason: string }
  | { readonly kind: 'stop'; readonly error: SourceError };

/** Every answer that PSYNC can get (protocol.md 1.3); empty keep-alive lines are taken out before. */
export function judgePsync(line: string): PsyncOutcome {
  const words = line.trim().split(/ +/);
  switch (words[0]) {
    case '+FULLRESYNC': {
      const replid = words[1] ?? '';
      const offset = parseOffset(words[2] ?? '');
      if (!isReplid(replid) || offset === null) {
        return stop(
          failure('source-psync', `the source announces a full copy without a position: ${printable(line)}`),
        );
      }
      return { kind: 'full-resync', position: { replid, offset } };
    }
    case '+CONTINUE': {
      const replid = words[1];
      return { kind: 'continue', replid: replid !== undefined && isReplid(replid) ? replid : null };
    }
    case '+RDBCHANNELSYNC':
    case '+DUALCHANNELSYNC':
      return stop(
        failure(
          'source-psync',
          `the source wants two connections, which was not offered: ${printable(line)}`,
        ),
      );
  }
  if (!line.startsWith('-')) return stop(notRedis(line));
  const text = errorText(line);
  if (/^(NOMASTERLINK|LOADING|BUSY|MASTERDOWN|TRYAGAIN)/.test(text)) return retry(text);
  // 2.8-3.2 say this where later releases say NOMASTERLINK: it does not mean that PSYNC is unknown
  if (/Can't SYNC while not connected with my master/i.test(text)) return retry(text);
  if (/BGSAVE failed|max number of clients|pending output|pending input/i.test(text)) return retry(text);
  if (isCredentialsMissing(text)) return stop(credentialsMissing(text));
  if (/^NOPERM/.test(text)) return stop(notPermitted(text));
  if (isUnknownCommand(text)) return { kind: 'use-sync', reason: text };
  return stop(failure('source-psync', `the source refuses PSYNC: ${text}`));
}

/** What an error line in place of the payload means, or in answer to SYNC: there is nothing to fall back to. */
export function judgeSyncError(
  line: string,
):
  | { readonly kind: 'retry'; readonly reason: string }
  | { readonly kind: 'stop'; readonly error: SourceError } {
  const outcome = judgePsync(line);
  if (outcome.kind === 'retry' || outcome.kind === 'stop') return outcome;
  return {
    kind: 'stop',
    error: failure('source-no-psync', `the source allows neither PSYNC nor SYNC: ${errorText(line)}`, {
      hint:
        'a managed service hides replication: ask its support for the renamed command (--psync-command, --sync-command), ' +
        "or use the service's own export or online migration; redis-cutover needs replication to lose nothing",
    }),
  };
}

export type Framing =
  | { readonly kind: 'length'; readonly bytes: number }
  /** Diskless: ends where the RDB ends by its structure; the mark follows. */
  | { readonly kind: 'mark'; readonly mark: Buffer };

/**
 * The line before the payload: `$<length>` or `$EOF:<40 bytes>` (protocol.md 1.6); null for anything else.
 */
export function parseFraming(line: string): Framing | null {
  const mark = /^\$EOF:(.{40})$/s.exec(line)?.[1];
  if (mark !== undefined) return { kind: 'mark', mark: Buffer.from(mark, 'latin1') };
  const bytes = Number(/^\$(\d{1,16})$/.exec(line)?.[1] ?? Number.NaN);
  return Number.isSafeInteger(bytes) ? { kind: 'length', bytes } : null;
}

/** Where the history is to be had, but not a way to acknowledge it. `reason`: what REPLCONF was answered. */
export function replconfMissing(reason: string): SourceError {
  return failure('source-no-replconf', `the source knows PSYNC, but not REPLCONF: ${reason}`, {
    hint: 'was the command renamed there (rename-command)? give its name: --replconf-command NAME',
  });
}

/** The text of an error reply, without the arguments that servers echo: they can be a password. */
function errorText(line: string): string {
  return printable(withoutEchoes(line.slice(1)));
}

/** Old servers, proxies and managed services, each in its own words. */
function isUnknownCommand(text: string): boolean {
  return /unknown command|not (supported|allowed|available)|disabled|unsupported/i.test(text);
}

function isCredentialsMissing(text: string): boolean {
  return /^NOAUTH|^ERR operation not permitted/i.test(text);
}

function credentialsMissing(text: string): SourceError {
  return failure('source-auth', `the source asks for credentials: ${text}`, {
    hint: 'give a password for the source: --src-auth-env NAME, --auth-file FILE, or in the URI',
    exitCode: EXIT.auth,
  });
}

function notPermitted(text: string): SourceError {
  return failure('source-permission', `the user may not replicate from the source: ${text}`, {
    hint: 'on the source: ACL SETUSER <user> +psync +replconf +ping (+sync for servers without PSYNC)',
    exitCode: EXIT.auth,
  });
}

function notRedis(line: string): SourceError {
  return failure('source-protocol', `the source answers in no protocol of Redis: ${printable(line, 80)}`, {
    hint: 'is this address a Redis port, and TLS on both sides or on none (redis:// or rediss://)?',
  });
}

function failure(code: string, message: string, details: { hint?: string; exitCode?: 4 } = {}): SourceError {
  return new SourceError(message, {
    code,
    recovery: 'operator',
    hint: details.hint ?? 'see the log of the source for the reason',
    ...(details.exitCode === undefined ? {} : { exitCode: details.exitCode }),
  });
}

function stop(error: SourceError): { readonly kind: 'stop'; readonly error: SourceError } {
  return { kind: 'stop', error };
}

function retry(text: string): { readonly kind: 'retry'; readonly reason: string } {
  return { kind: 'retry', reason: text };
}
