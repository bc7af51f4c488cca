/** What every check of the preflight works with, and the small words they share. */
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerInfo } from '../../client/server-info.ts';
import type { Argument, Reply, ServerSession } from '../../client/session.ts';
import type { CheckResult } from '../../core/events.ts';
import type { RunOptions } from '../../core/options.ts';
import type { FenceMeans } from '../../target/write/fence.ts';
import { isAllowed } from './acl-rights.ts';

/** How the target gets its data: as our replica, or by an ordinary client that writes to it. */
export type Feed = 'attach' | 'write';

export interface CheckContext {
  readonly source: ServerSession;
  readonly target: ServerSession;
  readonly sourceInfo: ServerInfo;
  readonly targetInfo: ServerInfo;
  readonly sourceFence: FenceMeans;
  readonly targetFence: FenceMeans;
  readonly options: RunOptions;
  /** The feed of the run that is gone on with; null: a new run. */
  readonly resumesFeed: Feed | null;
  /** What checks/feed.ts has chosen. */
  readonly feed: Feed;
}

/** A command and arguments that make it complete. */
export type CommandWords = readonly [string, ...string[]];

/** One guard: reads, changes nothing. What it cannot find out is a `warn`, never an `ok`. */
export type Check = (context: CheckContext) => Promise<CheckResult> | CheckResult;

export function ok(name: string, detail: string): CheckResult {
  return { name, status: 'ok', detail };
}

export function warn(name: string, detail: string, hint?: string): CheckResult {
  return hint === undefined ? { name, status: 'warn', detail } : { name, status: 'warn', detail, hint };
}

export function refuse(name: string, detail: string, hint: string): CheckResult {
  return { name, status: 'refuse', detail, hint };
}

/** The warning of a check that could not be made. */
export function unknown(name: string, what: string, error: ReplyError): CheckResult {
  return warn(name, `not checked: ${what} (${error.reply})`, error.hint);
}

/** A reply, an error reply as a value. A broken connection still throws. */
export async function ask(session: ServerSession, command: string, ...args: Argument[]): Promise<Reply> {
  try {
    return await session.call(command, ...args);
  } catch (error) {
    if (error instanceof ReplyError) return error;
    throw error;
  }
}

/** One setting of CONFIG GET; the error where the server does not tell, null where it has no such setting. */
export async function askConfig(session: ServerSession, name: string): Promise<string | ReplyError | null> {
  const reply = await ask(session, 'CONFIG', 'GET', name);
  if (reply instanceof ReplyError) return reply;
  const value = Array.isArray(reply) ? reply[1] : undefined;
  return typeof value === 'string' ? value : null;
}

/** Bytes for people, in units of 1024 as redis.conf writes them. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(bytes < 10 * 1024 * 1024 ? 1 : 0)} MB`;
}

/**
 * Which of some commands our own user may not run. null: the server does not say (ACL DRYRUN: Redis >= 7.0; before that
 * by the rules of ACL GETUSER, which do not look at keys). Each command with arguments that make it complete: DRYRUN
 * looks at its keys too.
 */
export async function forbiddenCommands(
  session: ServerSession,
  commands: readonly CommandWords[],
): Promise<readonly string[] | null> {
  const me = await ask(session, 'ACL', 'WHOAMI');
  if (typeof me !== 'string') return null;
  const verdicts = await session.pipeline(commands.map((words) => ['ACL', 'DRYRUN', me, ...words]));
  const forbidden: string[] = [];
  for (const [index, [command]] of commands.entries()) {
    const verdict = verdicts[index];
    if (!Buffer.isBuffer(verdict)) {
      // A command that the server does not know is for COMMAND INFO to find.
      if (verdict instanceof ReplyError && /command '.*' not found/i.test(verdict.reply)) continue;
      return forbiddenByRules(session, me, commands);
    }
    if (verdict.toString() !== 'OK') forbidden.push(command);
  }
  return forbidden;
}

/** The same before 7.0; null where the server does not tell the rules. */
async function forbiddenByRules(
  session: ServerSession,
  me: string,
  commands: readonly CommandWords[],
): Promise<readonly string[] | null> {
  const user = await ask(session, 'ACL', 'GETUSER', me);
  const infos = await ask(session, 'COMMAND', 'INFO', ...commands.map(([command]) => command));
  // from 7.0 on selectors can allow more than these rules
  if (!Array.isArray(user) || !Array.isArray(infos) || user.includes('selectors')) return null;
  const at = user.indexOf('commands');
  const rules: unknown = at === -1 ? null : user[at + 1];
  if (typeof rules !== 'string') return null;
  return commands
    .filter((words, index) => {
      const categories: unknown = Array.isArray(infos[index]) ? infos[index][6] : undefined;
      return Array.isArray(categories) && !isAllowed(rules, words, categories.map(String));
    })
    .map(([command]) => command);
}

/** Which of some commands the server does not have (renamed, blocked). null: it does not say (COMMAND INFO: >= 2.8.13). */
export async function missingCommands(
  session: ServerSession,
  names: readonly string[],
): Promise<readonly string[] | null> {
  const reply = await ask(session, 'COMMAND', 'INFO', ...names);
  if (!Array.isArray(reply) || reply.length !== names.length) return null;
  return names.filter((_name, index) => !Array.isArray(reply[index]) || reply[index].length === 0);
}
