/**
 * The guards before anything is touched: every check of a pair, in the order in which people read them. Reads only;
 * `redis-cutover check` is this and nothing else. What the checks learn goes on to the migration as PairFacts.
 */
import { performance } from 'node:perf_hooks';
import { ReplyError } from '../client/reply-error.ts';
import type { KeyspaceEntry, ServerInfo } from '../client/server-info.ts';
import type { ServerSession } from '../client/session.ts';
import type { PairSpec } from '../core/endpoint.ts';
import { PreflightError } from '../core/errors.ts';
import type { CheckResult, SettingProposal } from '../core/events.ts';
import type { RunOptions } from '../core/options.ts';
import { capabilitiesOf, type TargetCapabilities } from '../target/write/capabilities.ts';
import { type FenceMeans, fenceMeans } from '../target/write/fence.ts';
import {
  clock,
  cluster,
  functions,
  lease,
  loss,
  sameServer,
  sourceAsTarget,
  streams,
  versions,
} from './checks/both.ts';
import { type Check, type CheckContext, type Feed, ok, refuse, warn } from './checks/context.ts';
import { chooseFeed } from './checks/feed.ts';
import { type Lacking, lackingOn, modules, withSafeModules } from './checks/modules.ts';
import { stepRights } from './checks/rights.ts';
import { expiry, psync, sourceFenceCheck, sourceLoading, sourceRole } from './checks/source.ts';
import {
  forkMemory,
  sourceMinReplicas,
  sourceSentinel,
  targetClients,
  targetMinReplicas,
  targetReplicas,
  targetSentinel,
} from './checks/surroundings.ts';
import {
  databases,
  targetEmpty,
  targetFenceCheck,
  targetLoading,
  targetMemory,
  targetPermissions,
  targetPolicy,
  targetRole,
} from './checks/target.ts';
import { LOAD_CHECKS, measureLoad } from './checks/write-load.ts';

/** What the migration of a pair needs to know of its servers, as of the preflight. */
export interface PairFacts {
  readonly source: ServerInfo;
  readonly target: ServerInfo;
  /** Databases of the source that hold keys. */
  readonly keyspace: readonly KeyspaceEntry[];
  readonly keysTotal: number;
  /** Bytes that the source uses; null where it does not tell. */
  readonly usedMemory: number | null;
  readonly feed: Feed;
  readonly capabilities: TargetCapabilities;
  readonly lacking: Lacking;
  /** Settings of the source that the run would do better with. */
  readonly proposals: readonly SettingProposal[];
  readonly sourceFence: FenceMeans;
  readonly targetFence: FenceMeans;
}

export interface Preflight {
  readonly checks: readonly CheckResult[];
  /** null where a server does not answer INFO: the checks then say why. */
  readonly facts: PairFacts | null;
}

const CHECKS: readonly Check[] = [
  versions,
  login,
  sameServer,
  // before the rights: the fence of another run takes some of them
  lease,
  sourceAsTarget,
  sourceRole,
  sourceLoading,
  psync,
  sourceFenceCheck,
  sourceSentinel,
  sourceMinReplicas,
  forkMemory,
  expiry,
  targetRole,
  targetLoading,
  targetEmpty,
  targetMemory,
  targetPolicy,
  databases,
  targetPermissions,
  targetFenceCheck,
  targetReplicas,
  targetMinReplicas,
  targetSentinel,
  targetClients,
  stepRights,
  clock,
  cluster,
  modules,
  streams,
  functions,
  loss,
];

/**
 * All findings about one pair, and the facts. Throws only when a connection breaks (SourceError, TargetError): what
 * a server does not tell is a finding of status `warn`. `resumesFeed` is the feed of the run that is gone on with,
 * null for a new run: it is kept, and what an attached target looks like is then no objection.
 */
export async function preflight(
  source: ServerSession,
  target: ServerSession,
  options: RunOptions,
  resumesFeed: Feed | null = null,
): Promise<Preflight> {
  // all at once where nothing hangs on another answer: a copy begins so many round trips sooner
  const [[sourceInfo, beganMs], targetInfo] = await Promise.all([
    infoOf(source).then((info) => [info, performance.now()] as const),
    infoOf(target),
  ]);
  if ('status' in sourceInfo || 'status' in targetInfo) {
    return { checks: [sourceInfo, targetInfo].filter((result) => 'status' in result), facts: null };
  }
  const servers = { source, target, sourceInfo, targetInfo, options, resumesFeed };
  // before the checks: some of them ask for less where the target becomes our replica
  const [sourceFence, targetFence, choice] = await Promise.all([
    fenceMeans(source, sourceInfo, 'source'),
    fenceMeans(target, targetInfo, 'target'),
    chooseFeed(servers),
  ]);
  const context: CheckContext = { ...servers, sourceFence, targetFence, feed: choice.feed };
  const [lacking, ...checks] = await Promise.all([
    lackingOn(context),
    ...CHECKS.map(async (check) => check(context)),
  ]);
  // last: the more time has passed since the first look at the source, the better is what is measured
  const load = await measureLoad(source, sourceInfo, beganMs);
  checks.push(...(await Promise.all(LOAD_CHECKS.map(async (check) => check(context, load)))));
  checks.push(choice.result);
  const proposals = checks.flatMap(({ proposal }) => proposal ?? []);
  return { checks, facts: factsOf(context, lacking, proposals) };
}

/** Throws PreflightError for the first refusal, its code being the name of the check. Returns the facts. */
export function assertPreflight(pair: PairSpec, { checks, facts }: Preflight): PairFacts {
  const refusal = checks.find((check) => check.status === 'refuse');
  if (refusal !== undefined || facts === null) {
    throw new PreflightError(`${pair.name}: ${refusal?.detail ?? 'a server does not answer INFO'}`, {
      code: refusal?.name ?? 'info',
      hint: refusal?.hint ?? 'let our user run INFO: ACL SETUSER <user> +info',
    });
  }
  return facts;
}

function factsOf(context: CheckContext, lacking: Lacking, proposals: readonly SettingProposal[]): PairFacts {
  const { sourceInfo, targetInfo, sourceFence, targetFence, feed } = context;
  const [major, minor] = targetInfo.commandLevel;
  return {
    source: sourceInfo,
    target: targetInfo,
    keyspace: sourceInfo.keyspace,
    keysTotal: sourceInfo.keyspace.reduce((sum, entry) => sum + entry.keys, 0),
    usedMemory: sourceInfo.usedMemory,
    feed,
    capabilities: {
      ...withSafeModules(
        capabilitiesOf({ major, minor }, targetInfo.family === 'valkey' ? 'valkey' : 'redis'),
        context,
        lacking,
      ),
      acl: targetFence.kind === 'acl',
    },
    lacking,
    proposals,
    sourceFence,
    targetFence,
  };
}

async function infoOf(session: ServerSession): Promise<ServerInfo | CheckResult> {
  try {
    return await session.info();
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    return refuse(`${session.role}-info`, error.message, error.hint);
  }
}

function login({ source, target }: CheckContext): CheckResult {
  const ignored = [source, target].filter((session) => session.passwordIgnored);
  return ignored.length === 0
    ? ok('login', 'accepted')
    : warn(
        'login',
        `a password was given, and the ${ignored.map((session) => session.role).join(' and the ')} wants none`,
        'is it the right server? Otherwise leave the password out',
      );
}
