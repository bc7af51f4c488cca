/**
 * Where passwords come from besides the URI, and how they are kept out of sight. Strongest first: the URI, the host
 * list's `auth`, `--src-auth-env`/`--dst-auth-env`, `--auth-file`, `--askpass` or else the variable REDISCLI_AUTH. No
 * message repeats a password.
 */
import { readFileSync, statSync } from 'node:fs';
import { addressOf, type Endpoint, Secret } from '../core/endpoint.ts';
import { UsageError } from '../core/errors.ts';
import { printable } from '../core/text.ts';

/** One line of an auth file. */
export interface AuthEntry {
  /** `host:port` in lower case, or null for `default`: any server. */
  readonly address: string | null;
  readonly username: string | null;
  readonly password: Secret;
}

/** Passwords for the servers of one side, each null or empty where it was not given. */
export interface CredentialSources {
  /** From the variable that `--src-auth-env` or `--dst-auth-env` names. */
  readonly fromEnv: Secret | null;
  readonly fromFile: readonly AuthEntry[];
  /** Typed for `--askpass`, else from REDISCLI_AUTH. */
  readonly fallback: Secret | null;
}

/**
 * The endpoint with the password that applies to it.
 *
 * @throws UsageError `no-password` where a user is named and no password is found: redis-cli reads
 *   `redis://secret@host` as a password, and so would many who write it.
 */
export function withCredentials(endpoint: Endpoint, sources: CredentialSources): Endpoint {
  if (endpoint.password !== null) return endpoint;
  if (sources.fromEnv !== null) return { ...endpoint, password: sources.fromEnv };
  const entry = findEntry(endpoint, sources.fromFile);
  if (entry !== undefined) {
    return { ...endpoint, username: endpoint.username ?? entry.username, password: entry.password };
  }
  if (sources.fallback !== null) return { ...endpoint, password: sources.fallback };
  if (endpoint.username !== null) {
    throw new UsageError(`the URI of ${addressOf(endpoint)} names a user, and there is no password for it`, {
      code: 'no-password',
      hint: 'give the password by --auth-file or an --…-auth-env flag; a password alone is written redis://:password@host; a user without one user:@host',
    });
  }
  return endpoint;
}

/** True where there is a password for the server without the fallback. */
export function hasPassword(endpoint: Endpoint, sources: CredentialSources): boolean {
  return (
    endpoint.password !== null ||
    sources.fromEnv !== null ||
    findEntry(endpoint, sources.fromFile) !== undefined
  );
}

/** The first line for the server itself, else the first `default`; a line for another user does not count. */
function findEntry(endpoint: Endpoint, entries: readonly AuthEntry[]): AuthEntry | undefined {
  const address = addressOf(endpoint);
  const fits = (entry: AuthEntry): boolean =>
    endpoint.username === null || entry.username === null || entry.username === endpoint.username;
  return (
    entries.find((entry) => entry.address === address && fits(entry)) ??
    entries.find((entry) => entry.address === null && fits(entry))
  );
}

/**
 * The password in the environment variable `name`.
 *
 * @throws UsageError `auth-env` where it is not set or empty
 */
export function passwordFromEnv(
  name: string,
  flag: string,
  env: Readonly<Record<string, string | undefined>>,
): Secret {
  const value = env[name];
  if (value === undefined || value === '') {
    // not repeated unless it is a plausible name: somebody may have put the password itself here
    const shown = /^[A-Z_][A-Z0-9_]*$/.test(name) ? ` ${name}` : '';
    throw new UsageError(`${flag}: the environment variable${shown} is not set`, {
      code: 'auth-env',
      hint: `${flag} takes the name of a variable that holds the password: export it first`,
    });
  }
  hideVariable(name);
  return new Secret(value);
}

/**
 * Reads an auth file: `host:port [user] password` or `default [user] password` on each line, `#` comments.
 *
 * @returns the entries, and a warning where other users of the machine can read the file
 * @throws UsageError `auth-file`, with line numbers
 */
export function readAuthFile(path: string): { entries: AuthEntry[]; warning: string | null } {
  const text = readSecretFile(path, '--auth-file');
  return { entries: parseAuthFile(text, path), warning: openFileWarning(path) };
}

/**
 * The password that a host list refers to: `env:NAME`, or `file:PATH` with nothing but the password in it.
 *
 * @returns the password, and a warning where other users of the machine can read the file
 * @throws UsageError `auth-env`, `auth-file`
 */
export function passwordFromReference(
  reference: string,
  env: Readonly<Record<string, string | undefined>>,
): { password: Secret; warning: string | null } {
  if (reference.startsWith('env:')) {
    return { password: passwordFromEnv(reference.slice('env:'.length), 'auth', env), warning: null };
  }
  const path = /^file:(.+)$/s.exec(reference)?.[1];
  if (path === undefined) {
    throw new UsageError('auth is neither env:NAME nor file:PATH (not shown)', {
      code: 'auth-file',
      hint: 'say where the password is: in a variable, or alone in a file',
    });
  }
  const text = readSecretFile(path, 'auth').replace(/\r?\n$/, '');
  if (text === '' || /[\r\n]/.test(text)) {
    throw new UsageError(`auth ${printable(path)} must hold one line, the password (not shown)`, {
      code: 'auth-file',
      hint: 'write the password alone into the file; for lines of "host:port [user] password" there is --auth-file',
    });
  }
  return { password: new Secret(text), warning: openFileWarning(path) };
}

function readSecretFile(path: string, flag: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UsageError(`${flag} ${printable(path)} cannot be read`, {
      code: 'auth-file',
      hint: 'check the path and its permissions',
      cause,
    });
  }
}

/** Says so where other users of the machine can read the file, with what to type; else null. */
export function openFileWarning(path: string): string | null {
  const open = process.platform !== 'win32' && (statSync(path).mode & 0o077) !== 0;
  return open
    ? `${printable(path)} can be read by other users of this machine: chmod 600 ${printable(path)}`
    : null;
}

function parseAuthFile(text: string, path: string): AuthEntry[] {
  const entries: AuthEntry[] = [];
  const bad: string[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const trimmed = line.trim();
    // a # further on may belong to a password
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const [address, first, second, ...more] = trimmed.split(/\s+/);
    if (address === undefined || first === undefined || more.length > 0 || !isAddress(address)) {
      bad.push(String(index + 1));
      continue;
    }
    entries.push({
      address: address === 'default' ? null : address.toLowerCase(),
      username: second === undefined ? null : first,
      password: new Secret(second ?? first),
    });
  }
  if (bad.length > 0) {
    throw new UsageError(
      `--auth-file ${printable(path)}: line ${bad.join(', ')} cannot be understood (contents not shown)`,
      { code: 'auth-file', hint: 'each line is "host:port [user] password" or "default [user] password"' },
    );
  }
  return entries;
}

function isAddress(text: string): boolean {
  return text === 'default' || /^(\[[0-9a-f:.%]+\]|[a-z0-9._-]+):\d{1,5}$/i.test(text);
}

/**
 * Hides the arguments from `ps`: a URI may hold a password. On Linux and macOS libuv writes the title over the
 * argument area of the process; between the start of the process and this call they can be seen.
 */
export function hideArguments(argv: readonly string[]): void {
  const command = argv[0] ?? '';
  process.title = /^[a-z]+$/.test(command) ? `redis-cutover ${command}` : 'redis-cutover';
}

/** Takes a password out of the environment of this process, so that no hook, worker or other child inherits it. */
export function hideVariable(name: string): void {
  delete process.env[name];
}
