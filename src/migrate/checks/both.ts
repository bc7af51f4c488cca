/** Checks that look at the two servers of a pair together. */
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerInfo } from '../../client/server-info.ts';
import type { ServerSession } from '../../client/session.ts';
import { printable } from '../../core/text.ts';
import { CHECKPOINT_KEY } from '../../target/write/checkpoint.ts';
import { leaseHeldError, readLease, sourceIsTarget } from '../../target/write/lease.ts';
import { ask, type Check, ok, refuse, unknown, warn } from './context.ts';
import { countTypes } from './modules.ts';

/** Clocks further apart than this make keys expire at the wrong time. */
const CLOCK_TOLERANCE_SECONDS = 2;

export const versions: Check = ({ sourceInfo, targetInfo }) => {
  const detail = `${sourceInfo.family} ${printable(sourceInfo.version)} to ${targetInfo.family} ${printable(targetInfo.version)}`;
  if (targetInfo.text('redis_version') !== null && !targetInfo.atLeast(2, 6)) {
    return refuse('versions', `${detail}: the target has no RESTORE`, 'take a target of 2.6 or later');
  }
  const [major, minor] = sourceInfo.commandLevel;
  if (!targetInfo.atLeast(major, minor)) {
    return warn(
      'versions',
      `${detail}: the target is older; values are written in forms that it takes, but types of which it has none, and commands that it does not know, stop the run`,
      'take a target of the same or a later release where you can',
    );
  }
  return ok('versions', detail);
};

/** The same process on both sides, also behind an alias or a proxy, or a source that is fed by the target. */
export const sameServer: Check = ({ sourceInfo, targetInfo, resumesFeed }) => {
  const name = 'same-server';
  const hint = 'look at the addresses: both lead to the same data';
  const sameHistory = sourceInfo.masterReplid !== null && sourceInfo.masterReplid === targetInfo.masterReplid;
  if (sourceInfo.role === 'replica' && targetInfo.role === 'master' && sameHistory) {
    return refuse(name, 'the source is a replica of the target', hint);
  }
  if (sourceInfo.runId !== null && targetInfo.runId !== null) {
    // A target that was started from a copy of the source's RDB has its replid, and is another server (>= 7.0).
    return sourceInfo.runId === targetInfo.runId
      ? refuse(name, 'source and target are one server (same run_id)', hint)
      : ok(name, 'two different servers');
  }
  if (sameHistory && resumesFeed === 'attach')
    return ok(name, 'checked when the run began (run_id is hidden)');
  if (sameHistory) return refuse(name, 'source and target have one replication history', hint);
  return sourceInfo.masterReplid !== null && targetInfo.masterReplid !== null
    ? ok(name, 'two different servers (by replid; run_id is hidden)')
    : warn(name, 'not checked: a server hides its run_id', hint);
};

/** Redis Cluster: the writer sends transactions over all keys, which a cluster refuses. */
export const cluster: Check = async ({ source, sourceInfo, targetInfo }) => {
  const name = 'cluster';
  if (targetInfo.clusterEnabled) {
    return refuse(
      name,
      'the target is in cluster mode: batches over several slots are not built yet',
      'take a target with cluster-enabled no',
    );
  }
  if (!sourceInfo.clusterEnabled) return ok(name, 'none');
  const reply = await ask(source, 'CLUSTER', 'INFO');
  if (reply instanceof ReplyError) return unknown(name, 'how many shards the source has', reply);
  const shards = Number(/cluster_size:(\d+)/.exec(String(reply))?.[1] ?? 0);
  return shards > 1
    ? refuse(
        name,
        `the source is one of ${shards} shards: slots could move away while it is copied; this is not built yet`,
        'merge the cluster into one shard, or wait for cluster support',
      )
    : ok(name, 'a source of one shard');
};

export const clock: Check = async ({ source, target }) => {
  const name = 'clock';
  const off: string[] = [];
  const sessions = [source, target];
  const differences = await Promise.all(sessions.map(clockDifference));
  for (const [index, session] of sessions.entries()) {
    const seconds = differences[index]!;
    if (seconds instanceof ReplyError) return unknown(name, `the time of the ${session.where}`, seconds);
    if (Math.abs(seconds) > CLOCK_TOLERANCE_SECONDS) {
      off.push(
        `the ${session.role} is ${Math.abs(seconds).toFixed(1)} s ${seconds > 0 ? 'ahead' : 'behind'}`,
      );
    }
  }
  return off.length === 0
    ? ok(name, `within ${CLOCK_TOLERANCE_SECONDS} s of ours`)
    : warn(
        name,
        `${off.join(', ')}: keys expire by the target's clock`,
        'set the clocks by NTP (chronyc tracking)',
      );
};

export const lease: Check = async ({ target, targetInfo, options, resumesFeed }) => {
  // what a replica holds, a lease too, it has from its master
  if (resumesFeed === 'attach' && targetInfo.role === 'replica') {
    return ok('lease', 'the target is a replica: no other run writes to it');
  }
  const holder = await readLease(target).catch(replyErrorAsValue);
  if (holder instanceof ReplyError) return unknown('lease', 'whether another run feeds the target', holder);
  if (holder === null || holder.runId === options.resumes)
    return ok('lease', 'no other run feeds the target');
  const error = leaseHeldError(holder, target.where);
  return refuse('lease', error.message, error.hint);
};

/** A→B while B→A. */
export const sourceAsTarget: Check = async ({ source }) => {
  const name = 'source-is-target';
  const refusal = await sourceIsTarget(source).catch(replyErrorAsValue);
  if (refusal instanceof ReplyError) return unknown(name, 'whether a run feeds the source', refusal);
  if (refusal !== null) return refuse(name, refusal.message, refusal.hint);
  const checkpoint = await ask(source, 'EXISTS', CHECKPOINT_KEY);
  if (checkpoint instanceof ReplyError) return unknown(name, 'whether a run fed the source', checkpoint);
  return checkpoint === 1
    ? warn(
        name,
        'the source was the target of a run that did not end: it may not be complete',
        `end that run (redis-cutover resume RUN_DIR), or remove its mark: DEL ${CHECKPOINT_KEY}`,
      )
    : ok(name, 'no run feeds the source');
};

export const functions: Check = async ({ source, sourceInfo, targetInfo, options }) => {
  const name = 'functions';
  if (!sourceInfo.atLeast(7, 0)) return ok(name, 'none: the source is older than functions');
  const libraries = await ask(source, 'FUNCTION', 'LIST');
  if (libraries instanceof ReplyError) return unknown(name, 'the functions of the source', libraries);
  const count = Array.isArray(libraries) ? libraries.length : 0;
  if (count === 0) return ok(name, 'none');
  if (targetInfo.atLeast(7, 0)) return ok(name, `${count} libraries`);
  const detail = `${count} libraries of functions, and the target has none before 7.0`;
  return options.allowLoss
    ? warn(name, `${detail}: they are left out (--allow-loss)`)
    : refuse(name, detail, 'take a target of 7.0 or later, or leave them out: --allow-loss');
};

/** The first stream would stop the run in the snapshot: better before anything is touched. */
export const streams: Check = async (context) => {
  const name = 'streams';
  const { sourceInfo, targetInfo, options } = context;
  if (targetInfo.atLeast(5, 0)) return ok(name, 'the target has them');
  if (!sourceInfo.atLeast(5, 0)) return ok(name, 'none: the source is older than streams');
  const found = await countTypes(context, (type) => type === 'stream');
  const hint = 'take a target of 5.0 or later; or leave the streams out: --skip-unknown';
  const stops = options.skipUnknown
    ? 'they are skipped and listed (--skip-unknown)'
    : 'one on the source stops the run';
  if (found === null) return warn(name, `the target has none before 5.0; ${stops}`, hint);
  const { keys, all } = found;
  const count = found.types.get('stream') ?? 0;
  if (count === 0) {
    return all
      ? ok(name, 'the target has none, the source holds none')
      : warn(name, `the target has none before 5.0; none of ${keys} keys looked at is one; ${stops}`, hint);
  }
  const detail = `the target has none before 5.0; of ${keys} keys looked at ${count} are streams`;
  return options.skipUnknown ? warn(name, `${detail}; ${stops}`, hint) : refuse(name, detail, hint);
};

/**
 * What values lose on the way to this target, as far as releases and the source's counters tell; functions have a check
 * of their own. The target itself is asked only when a run begins (target/write/probe.ts).
 */
export const loss: Check = ({ sourceInfo, targetInfo, options, feed }) => {
  const name = 'loss';
  if (feed === 'attach') return ok(name, 'nothing: the target loads what the source sends');
  const bookkeeping = lostBookkeeping(sourceInfo, targetInfo);
  const hashes = sourceInfo.keyspace.reduce((sum, { expiringHashes }) => sum + expiringHashes, 0);
  if (hashes > 0 && !expiresFields(targetInfo)) {
    const also = bookkeeping === null ? '' : `; and ${bookkeeping}`;
    const detail = `fields of ${hashes} hashes expire, and the target knows no such expiries: these fields would stay for ever${also}`;
    return options.allowLoss
      ? warn(name, `${detail} (--allow-loss)`)
      : refuse(
          name,
          detail,
          'take a target of Redis 7.4, Valkey 9.0 or later; or let them stay: --allow-loss',
        );
  }
  // RDB 13 and 14 (protocol.md 3.1)
  if (sourceInfo.family === 'redis' && sourceInfo.atLeast(8, 6) && !isRedisSince(targetInfo, 8, 8)) {
    return warn(
      name,
      "not known: streams may have producers' ids (IDMP) or pending entries without an owner (XNACK), for which the target may have no place",
      options.allowLoss
        ? 'the run counts what is lost and says so (--allow-loss)'
        : 'the first such value stops the run, but for --allow-loss',
    );
  }
  return ok(name, bookkeeping === null ? 'nothing that is known' : `nothing but ${bookkeeping}`);
};

/** What no application is told by any command but XINFO; null: nothing, or the target has no streams at all. */
function lostBookkeeping(source: ServerInfo, target: ServerInfo): string | null {
  if (!target.atLeast(5, 0)) return null;
  const lost = (major: number, minor: number): boolean =>
    source.atLeast(major, minor) && !target.atLeast(major, minor);
  const what = [
    ...(lost(7, 0) ? ['counters of streams (entries-added, entries-read)'] : []),
    ...(lost(7, 2) ? ['when consumers of streams were last active'] : []),
  ];
  return what.length === 0 ? null : what.join(', ');
}

/** HPEXPIREAT: Redis 7.4, Valkey 9.0. */
function expiresFields(info: ServerInfo): boolean {
  return info.family === 'valkey' ? info.atLeast(9, 0) : info.atLeast(7, 4);
}

function isRedisSince(info: ServerInfo, major: number, minor: number): boolean {
  return info.family === 'redis' && info.atLeast(major, minor);
}

/** How many seconds a server's clock is ahead of ours. */
async function clockDifference(session: ServerSession): Promise<number | ReplyError> {
  const before = Date.now();
  const reply = await ask(session, 'TIME');
  if (reply instanceof ReplyError) return reply;
  const ours = (before + Date.now()) / 2;
  const [seconds, micros] = Array.isArray(reply) ? reply : [];
  return Number(seconds) + Number(micros) / 1e6 - ours / 1000;
}

function replyErrorAsValue(error: unknown): ReplyError {
  if (error instanceof ReplyError) return error;
  throw error;
}
