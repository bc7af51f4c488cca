/**
 * The choice between the two feeds. `attach`: the target becomes our replica, and loads the source's snapshot and
 * stream byte for byte, with the source's replid and offsets. `write`: we write to it as a client. Attach is taken
 * where nothing speaks against it, because a replica ignores a stream command that it does not know and goes on,
 * with no sign that its data is wrong from then on (protocol.md 5.4). What cannot be seen from here, whether the
 * target reaches us above all, is tried when the run starts.
 */
import { ReplyError } from '../../client/reply-error.ts';
import type { ServerInfo } from '../../client/server-info.ts';
import type { ServerSession } from '../../client/session.ts';
import { assertNever } from '../../core/errors.ts';
import type { CheckResult } from '../../core/events.ts';
import type { RunOptions } from '../../core/options.ts';
import { offsetsCanBeTrusted } from '../../source/trust.ts';
import {
  askConfig,
  type CheckContext,
  type Feed,
  forbiddenCommands,
  missingCommands,
  ok,
  refuse,
} from './context.ts';
import { missingModules } from './modules.ts';

/** What is known of a pair before its feed is. */
type UndecidedContext = Omit<CheckContext, 'feed' | 'sourceFence' | 'targetFence'>;

interface FeedChoice {
  readonly feed: Feed;
  readonly result: CheckResult;
}

/** What the rules look at that need no question. */
interface FeedFacts {
  readonly source: ServerInfo;
  readonly target: ServerInfo;
  readonly options: Pick<RunOptions, 'allowNonempty' | 'throttle'>;
}

/** One reason why the target cannot be our replica, and when it holds. */
interface Obstacle {
  readonly reason: string;
  readonly holds: (facts: FeedFacts) => boolean;
}

/** In the order in which they are told: the first one that holds is the reason. */
const OBSTACLES: readonly Obstacle[] = [
  {
    reason: 'only Redis and Valkey follow each other natively',
    holds: ({ source, target }) => ![source, target].every(isRedisOrValkey),
  },
  {
    reason: 'the source is in cluster mode',
    holds: ({ source }) => source.clusterEnabled,
  },
  {
    // it answers "REPLICAOF not allowed in cluster mode"
    reason: 'the target is in cluster mode',
    holds: ({ target }) => target.clusterEnabled,
  },
  {
    reason: 'a replica drops the keys that it holds, and --allow-nonempty keeps them',
    holds: ({ options }) => options.allowNonempty,
  },
  {
    reason: 'keys a second (--throttle-keys) can be counted only where we write',
    holds: ({ options }) => options.throttle.keysPerSecond !== null,
  },
  {
    // no second replid: the target could not go on from the source's history as a master (protocol.md 1.13)
    reason: 'the source is older than 4.0',
    holds: ({ source }) => !source.atLeast(4, 0),
  },
  {
    reason: 'the target is older than 4.0',
    holds: ({ target }) => !target.atLeast(4, 0),
  },
  {
    reason: "the source's replication offsets cannot be trusted (6.0.0 to 6.0.3)",
    holds: ({ source }) => !offsetsCanBeTrusted(source.commandLevel),
  },
  {
    // patch releases too: some brought commands of the stream (8.6.2: XIDMPRECORD, protocol.md 2.4)
    reason: 'the target is older than the source: it would skip commands that it does not know',
    holds: ({ source, target }) => source.family === target.family && isOlder(target, source),
  },
  {
    // RDB 12 (protocol.md 3.1); the stream of field TTLs comes with it
    reason: 'Valkey cannot load what Redis 7.4 or later sends',
    holds: ({ source, target }) =>
      source.family === 'redis' && target.family === 'valkey' && source.atLeast(7, 4),
  },
  {
    // RDB 11
    reason: 'Redis before 7.2 cannot load what Valkey sends',
    holds: ({ source, target }) =>
      source.family === 'valkey' && target.family === 'redis' && !target.atLeast(7, 2),
  },
  {
    // run on Valkey 8.1.8 with Redis 7.2.4 and 8.2.3: SET … IFEQ goes into the stream as it is, and is lost there
    reason: 'Redis would skip commands of Valkey 8.1 or later that it does not know',
    holds: ({ source, target }) =>
      source.family === 'valkey' && target.family === 'redis' && source.atLeast(8, 1),
  },
];

/** What has to be asked: each gives a reason why the target cannot be our replica, or null. */
const QUESTIONS: readonly ((context: UndecidedContext) => Promise<string | null>)[] = [
  psyncObstacle,
  moduleObstacle,
  rightsObstacle,
  tlsObstacle,
  databasesObstacle,
];

/**
 * The feed of a pair, and the finding `feed` that says why in one line. A run that is gone on with keeps its feed.
 * `refuse` only where --feed attach was asked for and cannot work. Reads, changes nothing. Throws only when a
 * connection breaks.
 */
export async function chooseFeed(context: UndecidedContext): Promise<FeedChoice> {
  const name = 'feed';
  const { resumesFeed, options } = context;
  if (resumesFeed !== null)
    return { feed: resumesFeed, result: ok(name, `${resumesFeed}: as the run began`) };
  if (options.feed === 'write') return { feed: 'write', result: ok(name, 'write: as asked for') };
  const reason = await reasonAgainstAttach(context);
  if (reason === null) {
    const detail =
      'attach: the target understands all that the source sends; that it reaches us is tried at the start';
    return { feed: 'attach', result: ok(name, detail) };
  }
  switch (options.feed) {
    case 'auto':
      return { feed: 'write', result: ok(name, `write: ${reason}`) };
    case 'attach':
      return {
        feed: 'attach',
        result: refuse(name, `attach cannot work: ${reason}`, '--feed write, or leave --feed out'),
      };
    default:
      return assertNever(options.feed);
  }
}

/** The first obstacle that releases, modes and options alone show; null: none. */
export function knownObstacle(facts: FeedFacts): string | null {
  return OBSTACLES.find(({ holds }) => holds(facts))?.reason ?? null;
}

async function reasonAgainstAttach(context: UndecidedContext): Promise<string | null> {
  const { sourceInfo, targetInfo, options } = context;
  const known = knownObstacle({ source: sourceInfo, target: targetInfo, options });
  if (known !== null) return known;
  const reasons = await Promise.all(QUESTIONS.map((question) => question(context)));
  return reasons.find((reason) => reason !== null) ?? null;
}

/** SYNC tells no replication id: the target would have none to carry on. */
async function psyncObstacle({ source, options }: UndecidedContext): Promise<string | null> {
  const { psync } = options.commandNames;
  const useless = await uselessCommands(source, [[psync, '?', '-1']]);
  return useless.length === 0 ? null : 'the source does not let us run PSYNC';
}

async function moduleObstacle(context: UndecidedContext): Promise<string | null> {
  const missing = await missingModules(context);
  if (missing instanceof ReplyError) return `the modules of the two servers are not known (${missing.reply})`;
  return missing.length === 0 ? null : `modules of the source are not on the target: ${missing.join(', ')}`;
}

async function rightsObstacle({ target, targetInfo }: UndecidedContext): Promise<string | null> {
  const useless = await uselessCommands(target, [
    [targetInfo.atLeast(5, 0) ? 'REPLICAOF' : 'SLAVEOF', 'host', '1'],
    ['CONFIG', 'SET', 'masterauth', ''],
  ]);
  return useless.length === 0 ? null : `the target does not let us run ${useless.join(', ')}`;
}

/** Its answer is the trial of CONFIG, too: services that block REPLICAOF block both (protocol.md 5.3). */
async function tlsObstacle({ target }: UndecidedContext): Promise<string | null> {
  const wanted = await askConfig(target, 'tls-replication');
  if (wanted instanceof ReplyError) return `the target does not let us run CONFIG GET (${wanted.reply})`;
  const { tls } = target.endpoint;
  const canShowCertificate = tls !== null && tls.cert !== null && tls.key !== null;
  return wanted === 'yes' && !canShowCertificate
    ? 'the target speaks TLS to its master (tls-replication), and there is no --cert and --key to show it'
    : null;
}

/** A SELECT that the target refuses is skipped: what follows would go into the wrong database. */
async function databasesObstacle({ source, target }: UndecidedContext): Promise<string | null> {
  const [from, to] = await Promise.all([askConfig(source, 'databases'), askConfig(target, 'databases')]);
  if (typeof from !== 'string' || typeof to !== 'string') {
    return 'a server does not tell how many databases it has';
  }
  return Number(from) > Number(to)
    ? `the source can use ${Number(from)} databases, the target ${Number(to)}`
    : null;
}

/** Which commands are known not to be there, or not to be allowed to us; where a server does not say, none. */
async function uselessCommands(
  session: ServerSession,
  commands: readonly (readonly [string, ...string[]])[],
): Promise<readonly string[]> {
  const missing = await missingCommands(
    session,
    commands.map(([command]) => command),
  );
  return missing !== null && missing.length > 0
    ? missing
    : ((await forbiddenCommands(session, commands)) ?? []);
}

function isRedisOrValkey({ family }: ServerInfo): boolean {
  return family === 'redis' || family === 'valkey';
}

function isOlder(one: ServerInfo, other: ServerInfo): boolean {
  const [theirs, ours] = [other.commandLevel, one.commandLevel];
  for (const [index, number] of ours.entries()) {
    const difference = number - (theirs[index] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
