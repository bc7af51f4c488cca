/** Checks of the target: is it ours to fill, and is it big enough. */
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerSession } from '../../client/session.ts';
import { printable } from '../../core/text.ts';
import { CHECKPOINT_KEY } from '../../target/write/checkpoint.ts';
import { LEASE_KEY, leaseHeldError, readLease } from '../../target/write/lease.ts';
import { whyUnwatched } from '../foreign-writes.ts';
import {
  ask,
  askConfig,
  type Check,
  type CheckContext,
  forbiddenCommands,
  megabytes,
  missingCommands,
  ok,
  refuse,
  unknown,
  warn,
} from './context.ts';

/** A dataset that fills this share of maxmemory is close enough to reach it while it grows. */
const MEMORY_HEADROOM = 0.8;

/** Commands that the load and the stream cannot do without, complete enough for ACL DRYRUN. */
const NEEDED: readonly (readonly [string, ...string[]])[] = [
  ['SET', 'k', 'v'],
  ['DEL', 'k'],
  ['RESTORE', 'k', '0', 'v'],
  ['PEXPIREAT', 'k', '1'],
  ['HMSET', CHECKPOINT_KEY, 'f', 'v'],
  ['EVAL', 'return 1', '1', LEASE_KEY],
  ['SELECT', '0'],
  ['MULTI'],
  ['EXEC'],
];

export const targetRole: Check = ({ targetInfo, resumesFeed }) => {
  const name = 'target-role';
  if (targetInfo.role === 'master') return ok(name, 'master');
  return resumesFeed === 'attach'
    ? ok(name, 'a replica, as this run made it')
    : refuse(
        name,
        'the target is a replica: it takes no writes, or loses them when it is promoted',
        'give its master, or make it one first: REPLICAOF NO ONE',
      );
};

export const targetLoading: Check = ({ targetInfo }) =>
  targetInfo.loading
    ? refuse(
        'target-loading',
        'the target is still loading its data',
        'wait until INFO persistence says loading:0',
      )
    : ok('target-loading', 'the target is ready');

export const targetEmpty: Check = async ({ target, targetInfo, options, resumesFeed }) => {
  const name = 'target-empty';
  if (resumesFeed === 'attach') return ok(name, 'what the target holds is the copy of this run');
  const own = await countOwnKeys(target);
  if (own instanceof ReplyError) return unknown(name, 'the keys of the target', own);
  const keys = targetInfo.keyspace.reduce((sum, entry) => sum + entry.keys, 0) - own;
  if (keys <= 0) return ok(name, 'the target holds no keys');
  if (options.resumes !== null) {
    const run = await ask(target, 'HGET', CHECKPOINT_KEY, 'run');
    if (run === options.resumes) return ok(name, `the target holds ${keys} keys of this very run`);
  }
  const detail = `the target holds ${keys} keys`;
  if (options.flushTarget) return warn(name, `${detail}: they will be deleted (--flush-target)`);
  if (options.allowNonempty) {
    return warn(name, `${detail}: they stay, and are overwritten where names are equal (--allow-nonempty)`);
  }
  return refuse(
    name,
    detail,
    'look again at the address; then --flush-target (deletes them) or --allow-nonempty',
  );
};

export const targetMemory: Check = async (context) => {
  const name = 'target-memory';
  const limit = await maxmemory(context);
  if (limit instanceof ReplyError) return unknown(name, 'maxmemory of the target', limit);
  const needed = context.sourceInfo.usedMemory;
  if (limit === null || needed === null) return warn(name, 'not checked: a server does not tell its memory');
  if (limit === 0) {
    const machine = context.targetInfo.number('total_system_memory');
    return machine !== null && needed > machine * MEMORY_HEADROOM
      ? warn(name, `the source uses ${megabytes(needed)}, the target's machine has ${megabytes(machine)}`)
      : ok(name, `the source uses ${megabytes(needed)}, the target has no limit`);
  }
  const detail = `the source uses ${megabytes(needed)}, the target's maxmemory is ${megabytes(limit)}`;
  if (needed > limit)
    return refuse(name, detail, `CONFIG SET maxmemory ${Math.ceil(needed * 1.25)} on the target`);
  return needed > limit * MEMORY_HEADROOM
    ? warn(name, detail, `CONFIG SET maxmemory ${Math.ceil(needed * 1.25)} on the target`)
    : ok(name, detail);
};

/** An evicting target drops keys that the source still has, and nobody is told. */
export const targetPolicy: Check = async (context) => {
  const name = 'target-policy';
  const limit = await maxmemory(context);
  const policy = context.targetInfo.maxmemoryPolicy ?? (await askConfig(context.target, 'maxmemory-policy'));
  if (limit instanceof ReplyError) return unknown(name, 'maxmemory of the target', limit);
  if (policy instanceof ReplyError) return unknown(name, 'maxmemory-policy of the target', policy);
  if (policy === null || limit === null)
    return warn(name, 'not checked: the target does not tell its policy');
  if (policy === 'noeviction') return ok(name, policy);
  if (limit === 0) return ok(name, `${printable(policy)}, but no maxmemory`);
  const hint = 'CONFIG SET maxmemory-policy noeviction on the target, until the cutover is done';
  const needed = context.sourceInfo.usedMemory;
  return needed === null || needed > limit * MEMORY_HEADROOM
    ? refuse(name, `${printable(policy)}: keys would be evicted while they are copied`, hint)
    : warn(name, `${printable(policy)}: keys are evicted if the target reaches its maxmemory`, hint);
};

export const databases: Check = async ({ source, target, sourceInfo }) => {
  const name = 'databases';
  const highest = sourceInfo.keyspace.at(-1)?.db ?? 0;
  const configured = await askConfig(target, 'databases');
  if (typeof configured === 'string') {
    if (highest >= Number(configured)) {
      return refuse(
        name,
        `the source uses database ${highest}, the target has ${printable(configured)} databases`,
        `set "databases ${highest + 1}" in the target's configuration and restart it`,
      );
    }
    const onSource = await askConfig(source, 'databases');
    return typeof onSource === 'string' && Number(onSource) > Number(configured)
      ? warn(name, `the source can use ${printable(onSource)} databases, the target ${printable(configured)}`)
      : ok(name, `highest in use ${highest}, the target has ${printable(configured)}`);
  }
  // Without CONFIG: try it on our own connection, which goes back to database 0 in the same breath.
  const [trial] = await target.pipeline([
    ['SELECT', highest],
    ['SELECT', 0],
  ]);
  return trial instanceof ReplyError
    ? refuse(
        name,
        `the source uses database ${highest}, the target refuses it: ${trial.reply}`,
        'take a target with more databases',
      )
    : ok(name, `highest in use ${highest}, and the target takes it`);
};

export const targetPermissions: Check = async ({ target, targetInfo, targetFence, options }) => {
  const name = 'target-permissions';
  // our own fence may be what takes them away
  if (options.resumes !== null) return ok(name, 'checked when the run began');
  const needed = options.flushTarget ? [...NEEDED, ['FLUSHALL'] as const] : NEEDED;
  const missing = await missingCommands(
    target,
    needed.map(([command]) => command),
  );
  if (missing !== null && missing.length > 0) {
    return refuse(
      name,
      `the target does not have ${missing.join(', ')}`,
      'take away rename-command for them on the target',
    );
  }
  const forbidden = targetInfo.atLeast(6, 0) ? await forbiddenCommands(target, needed) : [];
  if (forbidden !== null && forbidden.length > 0) {
    // a run that began in this very moment has set its fence since the lease was looked at
    const holder = await readLease(target).catch(() => null);
    if (holder !== null) {
      const { message, hint } = leaseHeldError(holder, target.where);
      return refuse('lease', message, hint);
    }
    const rules = forbidden.map((command) => `+${command.toLowerCase()}`).join(' ');
    return refuse(
      name,
      `our user on the target may not run ${forbidden.join(', ')}`,
      `ACL SETUSER <user> ${rules} ~*`,
    );
  }
  if (missing === null || forbidden === null) {
    return warn(
      name,
      'not checked: the target does not say what our user may do; the first write will show it',
    );
  }
  return ok(
    name,
    targetFence.kind === 'acl' ? 'a user of our own is made for the run' : 'our user may write',
  );
};

export const targetFenceCheck: Check = async ({ target, targetInfo, targetFence, feed }) => {
  const name = 'target-fence';
  if (feed === 'attach') return ok(name, 'a replica is read-only until e');
  if (targetFence.kind === 'acl') return ok(name, 'by ACL: other users lose write commands until e');
  const reason = targetFence.kind === 'none' ? `: ${targetFence.reason}` : '';
  const unwatched = await whyUnwatched(target, targetInfo);
  return warn(
    name,
    unwatched === null
      ? `none${reason}; the target takes writes of other clients while it is being filled: its counters are watched, and such writes stop the cutover`
      : `none${reason}; the target takes writes of other clients while it is being filled, and they would not be noticed: ${unwatched}`,
    'keep applications off the target until the cutover',
  );
};

async function maxmemory({ target, targetInfo }: CheckContext): Promise<number | ReplyError | null> {
  if (targetInfo.maxmemory !== null) return targetInfo.maxmemory;
  const value = await askConfig(target, 'maxmemory');
  return typeof value === 'string' ? Number(value) : value;
}

/** Our own two keys in database 0: what a run left behind does not make a target non-empty. */
async function countOwnKeys(target: ServerSession): Promise<number | ReplyError> {
  let count = 0;
  for (const key of [LEASE_KEY, CHECKPOINT_KEY]) {
    const reply = await ask(target, 'EXISTS', key);
    if (reply instanceof ReplyError) return reply;
    if (reply === 1) count += 1;
  }
  return count;
}
