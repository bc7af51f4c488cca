/**
 * The way back behind a cutover, so that a rollback loses nothing. Either the old source is a replica of the new master
 * and the servers carry it by themselves (feed `attach`), or we follow the new master and write to the old source
 * (reverse-link.ts), for as long as we run.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerInfo } from '../client/server-info.ts';
import type { ServerSession } from '../client/session.ts';
import { addressOf, type Endpoint, type PairSpec } from '../core/endpoint.ts';
import { type CutoverError, SourceError } from '../core/errors.ts';
import type { RunOptions } from '../core/options.ts';
import { Fence } from '../target/write/fence.ts';
import { type CutoverBasics, cutOver, sourceOffset, swapRoles } from './cutover.ts';
import type { CheckedPair } from './pair-context.ts';
import type { PairFacts } from './preflight.ts';
import type { ReverseLink } from './reverse-link.ts';
import { follow, type ReplicationState, replicationState } from './roles.ts';
import type { Setting } from './settings.ts';
import type { StreamTail } from './stream-tail.ts';

/** What a rollback needs of its surroundings. */
export type RollbackBasics = Pick<CutoverBasics, 'steps' | 'timeoutMs' | 'signal' | 'note'> & {
  readonly tailCheck: (tail: StreamTail | null) => Promise<string>;
  /** What is fenced on the new master, durable before it is set; null: lifted again. */
  readonly journalFence: (fence: Fence | null) => Promise<void>;
  readonly journalSwap: (swap: { readonly pings: Setting | null } | null) => Promise<void>;
};

export interface WayBack {
  /** Whether a rollback loses nothing now, for people. */
  readonly description: string;
  /** Whether it goes on when this session ends. */
  readonly outlivesUs: boolean;
  /** Once a second. */
  tick(): Promise<void>;
  /** Makes the old source the master again, with everything that was written to the new one. Returns notes. */
  rollBack(basics: RollbackBasics): Promise<readonly string[]>;
  /** Ends what is ours of it. */
  close(): Promise<void>;
}

export interface Sides {
  readonly pair: PairSpec;
  readonly source: { readonly session: ServerSession; readonly info: ServerInfo };
  readonly target: { readonly session: ServerSession; readonly info: ServerInfo };
}

const POLL_MS = 20;
/** For the old source to have its link to the new master. */
const FOLLOW_LIMIT_MS = 10_000;

/** The old source follows the new master by itself. */
export class NativeWayBack implements WayBack {
  readonly outlivesUs = true;
  readonly #sides: Sides;
  description = 'the old source begins to follow';

  constructor(sides: Sides) {
    this.#sides = sides;
  }

  /** True once the old source follows; false where it did not within `timeoutMs`. */
  async established(timeoutMs: number): Promise<boolean> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      await this.tick();
      if (this.#following) return true;
      if (Date.now() > until) return false;
      await delay(POLL_MS);
    }
  }

  #following = false;

  async tick(): Promise<void> {
    const { source, target } = this.#sides;
    const state = await replicationState(source.session).catch(() => null);
    this.#following = state?.role === 'replica' && state.linkUp;
    if (state === null) this.description = 'the old source does not answer: no rollback now';
    else if (state.role === 'master') this.description = 'no rollback: the old source follows no more';
    else if (!state.linkUp) this.description = 'the old source has no link to the new master now';
    else {
      const offset = await sourceOffset(target.session).catch(() => state.offset);
      const behind = Math.max(0, offset - state.offset);
      this.description = `rollback lossless: the old source follows, ${behind} B behind`;
    }
  }

  async rollBack(basics: RollbackBasics): Promise<readonly string[]> {
    const { pair, source, target } = this.#sides;
    const fence = await Fence.prepare(target.session, target.info, { side: 'source', exceptUser: null });
    let applied: ReplicationState = await replicationState(source.session);
    if (applied.role === 'master' || !applied.linkUp) throw followsNoMore();
    const { notFollowing } = await swapRoles({
      ...basics,
      from: target,
      to: source,
      fence,
      journalFence: (set) => basics.journalFence(set ? fence : null),
      tailCheck: () => basics.tailCheck(null),
      hooks: { before: null, onCutover: null },
      followAs: pair.source,
      applier: {
        whenApplied: async (offset) => {
          for (;;) {
            applied = await replicationState(source.session);
            if (applied.role === 'master') throw followsNoMore();
            if (applied.linkUp && applied.offset >= offset) return;
            basics.signal.throwIfAborted();
          }
        },
        appliedOffset: () => applied.offset,
      },
      replid: () => applied.replid,
      demote: () => follow(source.session, source.info, pair.target),
    });
    if (notFollowing === null) {
      return ['rolled back: the source is the master again, and the target follows it as its replica'];
    }
    return [
      `rolled back: the source takes writes again; the target does not follow it (${notFollowing}) and stays fenced; to lift that, on the target:`,
      ...fence.liftCommands(),
    ];
  }

  async close(): Promise<void> {}
}

/** We follow the new master and write to the old source, which is fenced for all others. */
export class WrittenWayBack implements WayBack {
  readonly outlivesUs = false;
  readonly #sides: Sides;
  readonly #reverse: ReverseLink;
  readonly #sourceFence: Fence;
  readonly #sourceFreed: () => Promise<void>;
  readonly #exceptUser: string | null;
  #lost: CutoverError | null = null;
  description = 'the way back is being opened';

  /**
   * @param sourceFreed notes that the old source was given its rights back
   * @param exceptUser our user on the new master: its fence must not stop us
   */
  constructor(
    sides: Sides,
    reverse: ReverseLink,
    sourceFence: Fence,
    sourceFreed: () => Promise<void>,
    exceptUser: string | null,
  ) {
    this.#sides = sides;
    this.#reverse = reverse;
    this.#sourceFence = sourceFence;
    this.#sourceFreed = sourceFreed;
    this.#exceptUser = exceptUser;
  }

  lost(error: CutoverError): void {
    this.#lost = error;
    this.description = `no rollback any more: ${error.message}`;
  }

  async tick(): Promise<void> {
    if (this.#lost !== null) return;
    this.#reverse.tick(Date.now());
    const offset = await sourceOffset(this.#sides.target.session).catch(() => null);
    if (offset === null || !this.#reverse.connected) {
      this.description = 'the way back has no connection to the new master now';
      return;
    }
    const behind = Math.max(0, offset - this.#reverse.feed.appliedOffset());
    this.description = `rollback lossless while this session runs: the old source is ${behind} B behind`;
  }

  async rollBack(basics: RollbackBasics): Promise<readonly string[]> {
    if (this.#lost !== null) throw this.#lost;
    const { target } = this.#sides;
    const fence = await Fence.prepare(target.session, target.info, {
      side: 'source',
      exceptUser: this.#exceptUser,
    });
    const { notes } = await cutOver({
      ...basics,
      from: target,
      fence,
      journalFence: (set) => basics.journalFence(set ? fence : null),
      tailCheck: () => basics.tailCheck(this.#reverse.feed.tail()),
      hooks: { before: null, onCutover: null },
      gates: {
        fenced: true,
        openGates: async () => {
          const lifted = await this.#sourceFence.lift();
          await this.#sourceFreed();
          return lifted;
        },
        closeGates: () => this.#sourceFence.set(),
      },
      feed: this.#reverse.feed,
      foreignWrites: null,
      expiry: null,
      mark: null,
    });
    return [
      ...notes,
      'rolled back: the source takes writes again; the target stays fenced; to lift that, on the target:',
      ...fence.liftCommands(),
    ];
  }

  async close(): Promise<void> {
    await this.#reverse.close();
  }
}

function followsNoMore(): SourceError {
  return new SourceError('the old source does not follow the new master', {
    code: 'way-back-lost',
    hint: 'see INFO replication on the old source: the link may come back by itself, or somebody has changed its role',
    recovery: 'operator',
  });
}

/** Why the old source cannot follow the new master by itself; null: it can. */
export function whyNoNativeWayBack(
  source: ReplicationState,
  sourceTls: string | null,
  target: Endpoint,
): string | null {
  if (source.role === 'replica') return 'the source is itself a replica of another server';
  if ((sourceTls === 'yes') !== (target.tls !== null)) {
    return `the source speaks ${sourceTls === 'yes' ? '' : 'no '}TLS to a master (tls-replication)`;
  }
  return null;
}

/**
 * Why the old source loses writes when it follows the new master, so that a rollback would, too; null: it does not. A
 * replica that does not understand a command goes on without it (measured: a 6.0 behind a 7.0 has no key of SET … EX).
 */
function whyLossyWayBack(infos: { readonly source: ServerInfo; readonly target: ServerInfo }): string | null {
  const { source, target } = infos;
  const unknown = rewrittenFor(target).find(({ since }) => !source.atLeast(...since));
  if (unknown === undefined) return null;
  return `a ${source.version} does not understand what a ${target.version} sends to its replicas (${unknown.what}), and loses such writes without a word; --feed write keeps a way back that does not`;
}

/** What ordinary writes become in the stream of a release, and since when that is understood. protocol.md 2.2. */
function rewrittenFor(
  master: ServerInfo,
): { readonly what: string; readonly since: readonly [number, number] }[] {
  const rewritten: { what: string; since: readonly [number, number] }[] = [];
  if (master.atLeast(6, 0)) rewritten.push({ what: 'SET … KEEPTTL of INCRBYFLOAT', since: [6, 0] });
  if (master.atLeast(7, 0)) rewritten.push({ what: 'SET … PXAT of SET … EX', since: [6, 2] });
  if (master.family === 'redis' && master.atLeast(8, 2)) {
    rewritten.push({ what: 'HSETEX … KEEPTTL of HINCRBYFLOAT', since: [8, 0] });
  }
  return rewritten;
}

/**
 * Behind swapRoles() the old source was told to follow: says whether it does, and whether that is a way back.
 * @param fullCopiesBefore `sync_full` of the new master before that
 */
export async function watchFollowing(
  wayBack: NativeWayBack,
  { pair, target, facts }: CheckedPair,
  fullCopiesBefore: number | null,
): Promise<{ readonly lossless: boolean; readonly note: string }> {
  const [from, to] = [addressOf(pair.source), addressOf(pair.target)];
  if (!(await wayBack.established(FOLLOW_LIMIT_MS))) {
    const note = `the old source does not reach the new master at ${to}: no way back yet; it is read-only, see master_link_status in its INFO replication`;
    return { lossless: false, note };
  }
  const copied = (await target.info('stats')).number('sync_full') !== fullCopiesBefore;
  const follows = `the old source ${from} follows the new master${copied ? ' after a full copy' : ''}`;
  const lossy = whyLossyWayBack(facts);
  return lossy === null
    ? {
        lossless: true,
        note: `${follows}: a rollback loses nothing; to end that, on it: REPLICAOF NO ONE`,
      }
    : { lossless: false, note: `${follows} and is read-only, but that is no way back: ${lossy}` };
}

/** Whether a way back is wanted that needs us: in a session that ends with the promotion it would have no use. */
export function keepsWrittenWayBack(options: RunOptions, facts: PairFacts): boolean {
  const { reverse, cutover, sourceFence } = options;
  return reverse && sourceFence && cutover === 'ask' && facts.sourceFence.kind === 'acl';
}

/** Why there is no way back that needs us, for people. @param fence the one of the old source; null: none */
export function whyNoWrittenWayBack(options: RunOptions, fence: Fence | null): string {
  if (!options.reverse) return '--no-reverse';
  if (fence === null) return '--no-source-fence leaves the source writable';
  if (fence.kind !== 'acl') return 'the source knows no users: nobody could be let through its fence';
  return options.cutover === 'ask'
    ? 'the target could not be followed before it was opened'
    : 'with feed write it needs a session that goes on (--cutover ask)';
}
