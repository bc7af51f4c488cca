/** Checks of what stands around the two servers: memory for the fork, sentinels, replicas, clients of the target. */
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerInfo } from '../../client/server-info.ts';
import type { ServerSession } from '../../client/session.ts';
import { assertNever } from '../../core/errors.ts';
import type { CheckResult } from '../../core/events.ts';
import { printable } from '../../core/text.ts';
import { clientsOn } from '../clients.ts';
import { ask, askConfig, type Check, megabytes, ok, unknown, warn } from './context.ts';

/** A fork that holds the source up for longer than this is felt by its applications. */
const LONG_FORK_MS = 500;
/** As the connections of a sentinel name themselves (sentinel.c, 2.8.9 and later). */
const SENTINEL_NAME = /^sentinel-[0-9a-f]{8}-(cmd|pubsub)$/;
/** On which sentinels tell each other of the servers that they watch. */
const SENTINEL_CHANNEL = '__sentinel__:hello';

/** A full copy forks the source: pages that are written meanwhile exist twice. INFO memory: 3.2 and later. */
export const forkMemory: Check = ({ sourceInfo }) => {
  const name = 'fork-memory';
  if (sourceInfo.text('rdb_last_bgsave_status') === 'err') {
    return warn(
      name,
      'the last BGSAVE of the source failed, and the copy needs one',
      "see why in the source's log; where it is memory: sysctl vm.overcommit_memory=1 on its machine",
    );
  }
  const machine = sourceInfo.number('total_system_memory');
  const used = sourceInfo.number('used_memory_rss') ?? sourceInfo.usedMemory;
  if (machine === null || machine === 0 || used === null)
    return warn(name, 'not checked: the source does not tell the memory of its machine');
  const forkMs = (sourceInfo.number('latest_fork_usec') ?? 0) / 1000;
  const last = forkMs > 0 ? `; the last fork held it up for ${forkMs.toFixed(forkMs < 10 ? 1 : 0)} ms` : '';
  const detail = `the source has ${megabytes(used)} of its machine's ${megabytes(machine)}${last}`;
  // all of it is written once while the copy is taken: the worst that can be
  if (2 * used > machine) {
    return warn(
      name,
      `${detail}; while the fork lives it may need up to as much again`,
      'copy at a quiet time, or from a replica; sysctl vm.overcommit_memory=1 on its machine, or the fork may be refused',
    );
  }
  return forkMs > LONG_FORK_MS
    ? warn(
        name,
        `${detail}: so will the copy's`,
        'copy at a quiet time, or from a replica; transparent huge pages off on its machine',
      )
    : ok(name, detail);
};

/** A sentinel that sees its master as a replica, or away, promotes another server. */
export const sourceSentinel: Check = ({ source, feed, options }) => {
  const after =
    feed === 'attach' && options.reverse
      ? 'the cutover makes it a replica, and they may promote one of its replicas instead'
      : 'a failover moves the applications elsewhere, and they go on naming it as the master behind the cutover';
  return sentinelOn(
    source,
    `${after}`,
    'before the cutover, on each sentinel: SENTINEL REMOVE <name>; behind it SENTINEL MONITOR <name> <host and port of the target> <quorum>',
  );
};

export const targetSentinel: Check = ({ target, feed }) =>
  sentinelOn(
    target,
    feed === 'attach'
      ? 'they may undo what makes it our replica, or promote one of its replicas, in the middle of the run'
      : 'a failover in the middle of the run leads the copy to another server',
    'until the cutover is done, on each sentinel: SENTINEL REMOVE <name>',
  );

async function sentinelOn(session: ServerSession, risk: string, hint: string): Promise<CheckResult> {
  const name = `${session.role}-sentinel`;
  const watching = await sentinelsOf(session);
  if (watching instanceof ReplyError)
    return unknown(name, `whether a sentinel watches the ${session.role}`, watching);
  if (watching === null) return ok(name, 'none watches it');
  return warn(name, `a sentinel watches the ${session.role}${watching}: ${risk}`, hint);
}

/** null: none; else where they come from, for people, or nothing where only their channel was seen. */
async function sentinelsOf(session: ServerSession): Promise<string | ReplyError | null> {
  const list = await ask(session, 'CLIENT', 'LIST');
  if (typeof list === 'string') {
    const hosts = new Set<string>();
    for (const line of list.split('\n')) {
      const client = / name=(\S*)/.exec(line)?.[1] ?? '';
      const address = /(?:^| )addr=(\S+)/.exec(line)?.[1] ?? '?';
      if (SENTINEL_NAME.test(client)) hosts.add(printable(address.replace(/:\d+$/, ''), 80));
    }
    return hosts.size === 0 ? null : ` (from ${[...hosts].slice(0, 3).join(', ')})`;
  }
  // without CLIENT LIST: they listen here on each server that they watch
  const listening = await ask(session, 'PUBSUB', 'NUMSUB', SENTINEL_CHANNEL);
  if (listening instanceof ReplyError) return listening;
  return Array.isArray(listening) && Number(listening[1]) > 0 ? '' : null;
}

/** While we follow it, the source counts us among its replicas (protocol.md 1.11). */
export const sourceMinReplicas: Check = ({ source, sourceInfo }) => {
  const name = `${source.role}-min-replicas`;
  return minReplicas(source, sourceInfo, name, (wanted, there) => {
    const detail = `the source takes writes only with ${wanted} replicas, and has ${there}`;
    return there < wanted
      ? warn(
          name,
          `${detail}: with us as one more it takes writes that it refuses now`,
          'see to its replicas first: INFO replication',
        )
      : ok(name, `${detail}; we count as one more while we follow it`);
  });
};

/** Too few replicas, and it refuses every write: ours at once, those of applications behind the cutover. */
export const targetMinReplicas: Check = ({ target, targetInfo, feed }) => {
  const name = `${target.role}-min-replicas`;
  return minReplicas(target, targetInfo, name, (wanted, there) => {
    const detail = `the target takes writes only with ${wanted} replicas, and has ${there}`;
    if (there >= wanted) return ok(name, detail);
    const hint = 'CONFIG SET min-slaves-to-write 0 on the target, until it has its replicas';
    switch (feed) {
      case 'write':
        return warn(name, `${detail}: it refuses ours, and the copy waits until it has more`, hint);
      case 'attach':
        return warn(name, `${detail}: behind the cutover it would refuse writes`, hint);
      default:
        return assertNever(feed);
    }
  });
};

/** INFO counts good replicas only where some are wanted (2.8 and later). */
async function minReplicas(
  session: ServerSession,
  info: ServerInfo,
  name: string,
  judge: (wanted: number, there: number) => CheckResult,
): Promise<CheckResult> {
  const there = info.number('min_slaves_good_slaves');
  if (there === null) return ok(name, 'it takes writes without replicas, too');
  // the name that all releases know
  const wanted = await askConfig(session, 'min-slaves-to-write');
  if (wanted instanceof ReplyError) return unknown(name, 'how many replicas are wanted for writes', wanted);
  return judge(Number(wanted ?? 0), there);
}

/** They get what the target gets, by themselves. */
export const targetReplicas: Check = ({ targetInfo, feed }) => {
  const name = 'target-replicas';
  const count = targetInfo.connectedReplicas;
  if (count === 0) return ok(name, 'none');
  return ok(
    name,
    feed === 'attach'
      ? `${count}: each takes a new full copy from the target when that has loaded ours`
      : `${count}: they get what we write through the target`,
  );
};

/** Applications that are there already write beside us, or read what is not complete. */
export const targetClients: Check = async ({ target, options }) => {
  const name = 'target-clients';
  // those of a target that was opened before belong there
  if (options.resumes !== null) return ok(name, 'checked when the run began');
  const clients = await clientsOn(target).catch((error: unknown) => {
    if (error instanceof ReplyError) return error;
    throw error;
  });
  if (clients instanceof ReplyError) return unknown(name, 'which clients the target has', clients);
  const others = clients.filter((client) => !SENTINEL_NAME.test(client.name));
  const writers = others.filter((client) => client.writing);
  const [first] = writers;
  if (first === undefined) return ok(name, others.length === 0 ? 'none' : `${others.length}, none writes`);
  return warn(
    name,
    `${writers.length} of ${others.length} wrote in the last seconds, ${first.addr} ${first.name} (${first.lastCommand}) among them: is it the right server?`,
    'CLIENT LIST on the target shows them; stop them until the cutover',
  );
};
