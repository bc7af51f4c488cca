/**
 * The fence: every other user loses write commands and nothing else. On the target it keeps applications off until
 * they are let in; on the source it stops the last writes before the drain. protocol.md 5.1, 5.2.
 *
 * With ACL (Redis >= 6.0, Valkey) it works at once on open connections, in scripts and functions, and at EXEC.
 * A source without ACL is told to want more replicas than there are (`min-slaves-to-write`, >= 2.8).
 *
 * Order of use: prepare() → toJournal() made durable → set() → lift(). After a crash: fromJournal() → lift().
 */
import { createHash, randomBytes } from 'node:crypto';
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerInfo } from '../../client/server-info.ts';
import type { BufferReply, Command, ServerSession } from '../../client/session.ts';
import { Secret } from '../../core/endpoint.ts';
import { assertNever, CheckpointError, EXIT, InvariantError, TargetError } from '../../core/errors.ts';
import { printable } from '../../core/text.ts';
import { copyRules, parseAclLine, planFence, type UserFence } from './acl-rules.ts';

/** What to fence, and the one user who goes on writing; null: nobody. */
export interface FenceRequest {
  readonly side: 'source' | 'target';
  readonly exceptUser: string | null;
}

/** How a server can be fenced. */
export type FenceMeans =
  | { readonly kind: 'acl' }
  | { readonly kind: 'min-replicas'; readonly caveat: string }
  | { readonly kind: 'none'; readonly reason: string };

interface FencedUser extends UserFence {
  /** SHA-256 of the user's line in ACL LIST before, and as this very server writes it with the fence. */
  readonly formerDigest: string;
  readonly fencedDigest: string;
}

/** What is needed to lift a fence: plain JSON, names and rules in latin1. Holds no password and no hash of one. */
export type FenceJournal =
  | { readonly kind: 'acl'; readonly exceptUser: string | null; readonly users: readonly FencedUser[] }
  | {
      readonly kind: 'min-replicas';
      readonly toWrite: string;
      readonly maxLag: string;
      readonly fencedLag: string;
    }
  | { readonly kind: 'none'; readonly reason: string };

/** More replicas than any server has, so that every write is answered NOREPLICAS. */
const IMPOSSIBLE_REPLICAS = '1000000';
/** Users that runs make for themselves on their targets. */
const RUN_USER_PREFIX = 'redis-cutover-';
/** Exists only inside one MULTI/EXEC: nobody can log in as it. */
const PROBE_USER = 'redis-cutover-fence-probe';

export class Fence {
  readonly #session: ServerSession;
  readonly #journal: FenceJournal;
  /** As recheck() found them. */
  #toFence: readonly FencedUser[] = [];

  private constructor(session: ServerSession, journal: FenceJournal) {
    this.#session = session;
    this.#journal = journal;
  }

  /**
   * Reads what is there and works out the fence; nobody's rights change yet. A server that cannot be fenced gives
   * kind `none` with the reason. Throws ReplyError for what the server refuses on the way.
   */
  static async prepare(session: ServerSession, info: ServerInfo, request: FenceRequest): Promise<Fence> {
    const means = await fenceMeans(session, info, request.side);
    switch (means.kind) {
      case 'acl':
        return new Fence(session, await prepareAcl(session, request.exceptUser));
      case 'min-replicas':
        return new Fence(session, await prepareMinReplicas(session));
      case 'none':
        return new Fence(session, means);
      default:
        return assertNever(means);
    }
  }

  /** A fence that an earlier process may have set. Throws CheckpointError `fence-journal` where `json` is none. */
  static fromJournal(session: ServerSession, json: unknown): Fence {
    if (!isJournal(json)) {
      throw new CheckpointError('the fence in the run folder cannot be read', {
        code: 'fence-journal',
        hint: 'compare ACL LIST with your own ACL file and give the users their write permission back: ACL SETUSER <user> +@write',
      });
    }
    return new Fence(session, json);
  }

  get kind(): FenceJournal['kind'] {
    return this.#journal.kind;
  }

  /** Of kind `none`: why there is no fence; else null. */
  get reason(): string | null {
    return this.#journal.kind === 'none' ? this.#journal.reason : null;
  }

  /** What a person types on the server to lift the fence by hand; holds no password and no hash of one. */
  liftCommands(): string[] {
    const journal = this.#journal;
    switch (journal.kind) {
      case 'acl':
        return journal.users.map(({ user, restoreRules }) =>
          [
            'ACL SETUSER',
            user,
            ...restoreRules.map((rule) => (rule.includes(' ') ? `"${rule}"` : rule)),
          ].join(' '),
        );
      case 'min-replicas':
        return [
          `CONFIG SET min-slaves-to-write ${journal.toWrite}`,
          `CONFIG SET min-slaves-max-lag ${journal.maxLag}`,
        ];
      case 'none':
        return [];
      default:
        return assertNever(journal);
    }
  }

  /** To be on disk before set() is called. */
  toJournal(): FenceJournal {
    return this.#journal;
  }

  /**
   * Takes the write commands away, from all users at one moment, and sees that it is so. May be called again.
   * Throws `<side>-fence` (TargetError, exit 7 where users may have lost rights) when users changed since prepare()
   * or the server does not show the fence afterwards; nothing changed in the first case.
   */
  async set(): Promise<void> {
    await this.recheck();
    await this.apply();
  }

  /**
   * Gives back exactly what was taken. May be called again, and when the fence was never set. Returns one line for
   * people per user that somebody else changed meanwhile: these are left as they are.
   */
  async lift(): Promise<readonly string[]> {
    const journal = this.#journal;
    switch (journal.kind) {
      case 'acl':
        return this.#liftAcl(journal.users);
      case 'min-replicas':
        return this.#liftMinReplicas(journal);
      case 'none':
        return [];
      default:
        return assertNever(journal);
    }
  }

  /** Whether it is set now, as after a crash it may be or not; null: not to be told, or half of both. */
  async standing(): Promise<boolean | null> {
    const journal = this.#journal;
    switch (journal.kind) {
      case 'acl': {
        const present = await readAclList(this.#session);
        const lines = journal.users.flatMap((user) => {
          const line = present.get(user.user);
          return line === undefined ? [] : [{ user, digest: digestOf(line) }];
        });
        if (lines.length === 0) return null;
        if (lines.every(({ user, digest }) => digest === user.fencedDigest)) return true;
        return lines.every(({ user, digest }) => digest === user.formerDigest) ? false : null;
      }
      case 'min-replicas':
        return (await readConfig(this.#session, 'min-slaves-to-write')) === IMPOSSIBLE_REPLICAS;
      case 'none':
        return null;
      default:
        return assertNever(journal);
    }
  }

  /** Nothing changed since prepare(). @throws TargetError `<side>-fence` */
  async recheck(): Promise<void> {
    if (this.#journal.kind !== 'acl') return;
    const { users, exceptUser } = this.#journal;
    const planned = new Map(users.map((user) => [user.user, user]));
    const present = await readAclList(this.#session);
    for (const [name, line] of present) {
      const plan = planned.get(name);
      if (
        plan === undefined
          ? // another run that began in this moment; the lease turns it away
            name !== exceptUser && !name.startsWith(RUN_USER_PREFIX)
          : digestOf(line) !== plan.formerDigest && digestOf(line) !== plan.fencedDigest
      ) {
        throw this.#fenceError(`user ${shown(name)} was changed since the fence was prepared`, EXIT.failed);
      }
    }
    // one that was deleted meanwhile must not be made again
    this.#toFence = users.filter((user) => present.has(user.user));
  }

  /**
   * What set() does behind recheck(), in one round trip: for callers who count milliseconds, and called recheck() just
   * before. Throws as set().
   */
  async apply(): Promise<void> {
    const journal = this.#journal;
    switch (journal.kind) {
      case 'acl':
        return this.#setAcl(this.#toFence);
      case 'min-replicas':
        await this.#session.transaction([
          ['CONFIG', 'SET', 'min-slaves-max-lag', journal.fencedLag],
          ['CONFIG', 'SET', 'min-slaves-to-write', IMPOSSIBLE_REPLICAS],
        ]);
        return;
      case 'none':
        return;
      default:
        return assertNever(journal);
    }
  }

  async #setAcl(users: readonly FencedUser[]): Promise<void> {
    const replies = await this.#session.transaction([
      ...users.map((user) => setUser(user.user, user.fenceRules)),
      ['ACL', 'LIST'],
    ]);
    const after = linesByName(replies.at(-1));
    for (const user of users) {
      if (digestOf(after.get(user.user) ?? '') !== user.fencedDigest) {
        throw this.#fenceError(`user ${shown(user.user)} does not show the fence`, EXIT.attention);
      }
    }
  }

  async #liftAcl(users: readonly FencedUser[]): Promise<readonly string[]> {
    const present = await readAclList(this.#session);
    const notes: string[] = [];
    const restores: Command[] = [];
    for (const user of users) {
      const line = present.get(user.user);
      if (line === undefined) {
        notes.push(
          `user ${shown(user.user)} was deleted on the ${this.#session.where} while it was fenced; it was not made again`,
        );
      } else if (digestOf(line) === user.fencedDigest) {
        restores.push(setUser(user.user, user.restoreRules));
      } else if (digestOf(line) !== user.formerDigest) {
        notes.push(
          `user ${shown(user.user)} was changed on the ${this.#session.where} while it was fenced, and left as it is; its former rights: ACL SETUSER ${[user.user, ...user.restoreRules].map(shown).join(' ')}`,
        );
      }
    }
    if (restores.length > 0) await this.#session.transaction(restores);
    return notes;
  }

  async #liftMinReplicas(journal: FenceJournal & { kind: 'min-replicas' }): Promise<readonly string[]> {
    const present = await readConfig(this.#session, 'min-slaves-to-write');
    if (present !== IMPOSSIBLE_REPLICAS) {
      return present === journal.toWrite
        ? []
        : [
            `min-slaves-to-write was changed on the ${this.#session.where} while it was fenced; it was left at ${printable(present)}`,
          ];
    }
    await this.#session.transaction([
      ['CONFIG', 'SET', 'min-slaves-to-write', journal.toWrite],
      ['CONFIG', 'SET', 'min-slaves-max-lag', journal.maxLag],
    ]);
    return [];
  }

  #fenceError(message: string, exitCode: 1 | 7): TargetError {
    return new TargetError(`${this.#session.where}: ${message}`, {
      code: `${this.#session.role}-fence`,
      hint: 'see who changes users there (ACL LIST, ACL LOG), then try again',
      exitCode,
    });
  }
}

/** What a server offers for a fence, without changing anything. */
export async function fenceMeans(
  session: ServerSession,
  info: ServerInfo,
  side: 'source' | 'target',
): Promise<FenceMeans> {
  const noAcl = await whyNoAcl(session, info);
  if (noAcl === null) return { kind: 'acl' };
  // On the target min-replicas would refuse our own writes too.
  if (side === 'target') return { kind: 'none', reason: noAcl };
  const [toWrite, maxLag] = await Promise.all([
    readConfig(session, 'min-slaves-to-write').catch(nullForReplyError),
    readConfig(session, 'min-slaves-max-lag').catch(nullForReplyError),
  ]);
  if (toWrite === null || maxLag === null) {
    return { kind: 'none', reason: `${noAcl}, and no CONFIG SET min-slaves-to-write` };
  }
  return {
    kind: 'min-replicas',
    // Scripts run their commands without this check before 7.0 (scripting.c).
    caveat: info.atLeast(7, 0)
      ? noAcl
      : `${noAcl}; scripts (EVAL) that write are not stopped by min-slaves-to-write`,
  };
}

/**
 * Makes the user as which we write while everybody else is fenced. The server is sent a hash: the password itself
 * crosses the wire at login only and appears in no MONITOR and no SLOWLOG. `password` is given where the server has
 * forgotten the user (a restart) and it is made again. Throws ReplyError.
 */
export async function createRunUser(
  session: ServerSession,
  info: ServerInfo,
  runId: string,
  password = new Secret(randomBytes(32).toString('base64url')),
): Promise<{ username: string; password: Secret }> {
  const username = runUserName(runId);
  const hash = createHash('sha256').update(password.reveal()).digest('hex');
  // Channels and payload checks are rules since 6.2; 6.0 refuses words that it does not know.
  const since62 = info.atLeast(6, 2) ? ['&*', 'skip-sanitize-payload'] : [];
  await session.call('ACL', 'SETUSER', username, 'reset', 'on', `#${hash}`, '~*', '+@all', ...since62);
  return { username, password };
}

/** Removes the user of a run; its connections end with it. Nothing happens where it is gone already. */
export async function dropRunUser(session: ServerSession, runId: string): Promise<void> {
  await session.call('ACL', 'DELUSER', runUserName(runId));
}

function runUserName(runId: string): string {
  return `${RUN_USER_PREFIX}${runId}`;
}

async function prepareAcl(session: ServerSession, exceptUser: string | null): Promise<FenceJournal> {
  const present = await readAclList(session);
  const users: FencedUser[] = [];
  for (const plan of planFence([...present.values()], exceptUser)) {
    const formerLine = present.get(plan.user) ?? '';
    const fencedLine = await tryOut(session, plan, formerLine);
    users.push({ ...plan, formerDigest: digestOf(formerLine), fencedDigest: digestOf(fencedLine) });
  }
  return { kind: 'acl', exceptUser, users };
}

/**
 * How this server writes a fenced user in ACL LIST: releases order and shorten rules in their own ways, so it is
 * tried on a copy that lives inside one transaction. It also proves the right to ACL SETUSER, and that the restoring
 * rules give the former line again; throws `<side>-fence` where they do not.
 */
async function tryOut(session: ServerSession, plan: UserFence, formerLine: string): Promise<string> {
  const former = parseAclLine(formerLine);
  if (former === null) throw new InvariantError('a planned user has no line in ACL LIST');
  const replies = await session.transaction([
    setUser(PROBE_USER, copyRules(former)),
    setUser(PROBE_USER, plan.fenceRules),
    ['ACL', 'LIST'],
    setUser(PROBE_USER, plan.restoreRules),
    ['ACL', 'LIST'],
    ['ACL', 'DELUSER', PROBE_USER],
  ]);
  const [fenced, restored] = [replies[2], replies[4]].map((reply) =>
    (linesByName(reply).get(PROBE_USER) ?? '').replace(PROBE_USER, () => plan.user),
  );
  if (fenced === undefined || digestOf(restored ?? '') !== digestOf(formerLine)) {
    throw new TargetError(
      `${session.where}: the rules of user ${shown(plan.user)} cannot be put back exactly`,
      {
        code: `${session.role}-fence`,
        hint: `write its rules so that ACL LIST repeats them unchanged (ACL GETUSER ${shown(plan.user)} shows them)`,
      },
    );
  }
  return fenced;
}

async function prepareMinReplicas(session: ServerSession): Promise<FenceJournal> {
  const toWrite = await readConfig(session, 'min-slaves-to-write');
  const maxLag = await readConfig(session, 'min-slaves-max-lag');
  try {
    // the right to read a setting is not that to set it: seen before it counts, by what changes nothing
    await session.call('CONFIG', 'SET', 'min-slaves-to-write', toWrite);
  } catch (error) {
    if (error instanceof ReplyError) return { kind: 'none', reason: `no right to fence it (${error.reply})` };
    throw error;
  }
  // With a lag of 0 the server does not look at min-slaves-to-write at all.
  return { kind: 'min-replicas', toWrite, maxLag, fencedLag: maxLag === '0' ? '10' : maxLag };
}

/** null where ACL can be used, else the reason for people. */
async function whyNoAcl(session: ServerSession, info: ServerInfo): Promise<string | null> {
  if (info.family === 'dragonfly' || info.family === 'other')
    return `the ACL of ${info.family} servers is not known to us`;
  if (!info.atLeast(6, 0)) return `no ACL in release ${printable(info.version)} (6.0 and later have it)`;
  try {
    await readAclList(session);
  } catch (error) {
    if (error instanceof ReplyError) return `no right to use ACL (${error.reply})`;
    throw error;
  }
  if (!info.atLeast(7, 0)) return null;
  // From 7.0 on the right to each subcommand can differ, and can be asked for.
  const me = await session.callBuffer('ACL', 'WHOAMI').catch(nullForReplyError);
  if (!Buffer.isBuffer(me)) return null;
  const needed = [['ACL', 'SETUSER', PROBE_USER], ['MULTI'], ['EXEC']];
  const verdicts = await session.pipeline(needed.map((words) => ['ACL', 'DRYRUN', me, ...words]));
  const refusal = verdicts.find((verdict) => Buffer.isBuffer(verdict) && verdict.toString() !== 'OK');
  return refusal === undefined ? null : `no right to use ACL (${printable(String(refusal))})`;
}

async function readAclList(session: ServerSession): Promise<Map<string, string>> {
  return linesByName(await session.callBuffer('ACL', 'LIST'));
}

function linesByName(reply: BufferReply | undefined): Map<string, string> {
  const lines = new Map<string, string>();
  for (const item of Array.isArray(reply) ? reply : []) {
    if (!Buffer.isBuffer(item)) continue;
    const line = item.toString('latin1');
    const user = parseAclLine(line);
    if (user !== null) lines.set(user.name, line);
  }
  return lines;
}

function setUser(name: string, rules: readonly string[]): Command {
  return ['ACL', 'SETUSER', ...[name, ...rules].map((word) => Buffer.from(word, 'latin1'))];
}

async function readConfig(session: ServerSession, name: string): Promise<string> {
  const reply = await session.call('CONFIG', 'GET', name);
  const value = Array.isArray(reply) ? reply[1] : undefined;
  if (typeof value !== 'string') {
    throw new ReplyError('CONFIG', session.where, `ERR no setting ${name}`);
  }
  return value;
}

function nullForReplyError(error: unknown): null {
  if (error instanceof ReplyError) return null;
  throw error;
}

/** Of the words in any order: 7.0 shows the subcommands of a command in another order now and then. */
function digestOf(line: string): string {
  return createHash('sha256').update(line.split(' ').sort().join(' '), 'latin1').digest('hex');
}

function shown(latin1Name: string): string {
  return printable(Buffer.from(latin1Name, 'latin1').toString());
}

function isJournal(json: unknown): json is FenceJournal {
  if (typeof json !== 'object' || json === null || !('kind' in json)) return false;
  switch (json.kind) {
    case 'acl':
      return 'users' in json && Array.isArray(json.users) && json.users.every(isFencedUser);
    case 'min-replicas':
      return ['toWrite', 'maxLag', 'fencedLag'].every((name) => isText(json, name));
    case 'none':
      return isText(json, 'reason');
    default:
      return false;
  }
}

function isFencedUser(value: unknown): value is FencedUser {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['user', 'formerDigest', 'fencedDigest'].every((name) => isText(value, name)) &&
    ['fenceRules', 'restoreRules'].every((name) => Array.isArray((value as Record<string, unknown>)[name]))
  );
}

function isText(value: object, name: string): boolean {
  return typeof (value as Record<string, unknown>)[name] === 'string';
}
