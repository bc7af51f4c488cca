/**
 * The way back of feed `write`: behind the cutover we follow the new master as a replica and feed the old source, which
 * stays fenced for everybody else, by the same WriteFeed in the other direction. What we ourselves brought to the new
 * master stays out (target/write/own-writes.ts).
 *
 * Order of use: prime() while the target is empty → connect() before the cutover → open() behind it → feed, for a
 * rollback → close().
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ServerSession } from '../client/session.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { type CutoverError, TargetError, toCutoverError } from '../core/errors.ts';
import type { ReplicationPosition } from '../core/position.ts';
import { type LinkSettings, type LinkSink, SourceLink } from '../source/link.ts';
import { Spool } from '../spool/spool.ts';
import { capabilitiesOf } from '../target/write/capabilities.ts';
import { CHECKPOINT_KEY, type Checkpoint, checkpointFields } from '../target/write/checkpoint.ts';
import { createRunUser, dropRunUser } from '../target/write/fence.ts';
import { levelOf, missingForms } from '../target/write/missing-forms.ts';
import { OwnWrites } from '../target/write/own-writes.ts';
import { WriteTally } from '../target/write/write-tally.ts';
import type { CheckedPair } from './pair-context.ts';
import { replicationState } from './roles.ts';
import { USUAL_SILENCE } from './silence.ts';
import { type Entrance, TargetDoor } from './target-door.ts';
import { Valve } from './valve.ts';
import { type Door, WriteFeed } from './write-feed.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const LINK_LIMIT_MS = 15_000;

/** For a source with ACL: our user must be let through its fence. */
export interface ReverseRequest extends CheckedPair {
  /** As whom to follow the target. */
  readonly targetAccess: Endpoint;
  readonly announceVersion: string | null;
  /** Where the stream of the target begins that counts; null: at the mark that is written before it is opened. */
  readonly from: ReplicationPosition | null;
  /** The way back is lost, for this reason. */
  readonly lost: (error: CutoverError) => void;
}

/**
 * Makes the target keep its stream from now on, so that it can be followed later without a copy: that begins with the
 * first replica that asks (protocol.md 1.11). Cheap as long as the target is empty.
 */
export async function primeBacklog(target: ServerSession, access: Endpoint): Promise<void> {
  if ((await target.info('replication')).number('repl_backlog_active') === 1) return;
  const ended = new AbortController();
  const link = new SourceLink(linkSettings(access, null), new Nothing());
  const running = link.run(ended.signal).catch(() => undefined);
  try {
    const until = Date.now() + CONNECT_TIMEOUT_MS;
    while (Date.now() < until) {
      if ((await target.info('replication')).number('repl_backlog_active') === 1) return;
      await delay(20);
    }
  } finally {
    ended.abort();
    await running;
  }
}

function linkSettings(endpoint: Endpoint, announceVersion: string | null): LinkSettings {
  return {
    endpoint,
    names: { psync: 'PSYNC', sync: 'SYNC', replconf: 'REPLCONF' },
    announceVersion,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    silenceMs: USUAL_SILENCE.sourceMs,
  };
}

/** Takes whatever comes, and keeps none of it. */
class Nothing implements LinkSink {
  readonly #space = Buffer.allocUnsafe(64 * 1024);
  reserve(): Buffer {
    return this.#space;
  }
  commit(): void {}
  append(): void {}
  async resumePosition(): Promise<null> {
    return null;
  }
  async fullResync(): Promise<void> {}
  continued(): void {}
  appliedOffset(): number {
    return 0;
  }
  interrupted(): void {}
}

export class ReverseLink {
  readonly #request: ReverseRequest;
  readonly #abort = new AbortController();
  readonly #spool: Spool;
  readonly #link: SourceLink;
  readonly #gate: Gate;
  readonly #session: ServerSession;
  readonly #from: Checkpoint;
  readonly feed: WriteFeed;
  readonly #following: Promise<void>;

  private constructor(
    request: ReverseRequest,
    access: { endpoint: Endpoint; session: ServerSession },
    from: Checkpoint,
  ) {
    const { facts, runId, runDir, options, lost, note } = request;
    this.#request = request;
    this.#session = access.session;
    this.#from = from;
    this.#spool = new Spool({
      dir: path.join(runDir, 'spool', `back-${from.replid.slice(0, 8)}`),
      memoryBytes: options.spoolMemoryBytes,
      limitBytes: options.spoolLimitBytes,
    });
    const tally = new WriteTally();
    this.#gate = new Gate(new TargetDoor({ ...access, regain: async () => false }, `${runId}-back`, tally));
    const [major, minor] = facts.source.commandLevel;
    const family = facts.source.family === 'valkey' ? 'valkey' : 'redis';
    this.feed = new WriteFeed(
      this.#spool,
      this.#gate,
      {
        run: runId,
        capabilities: { ...capabilitiesOf({ major, minor }, family), acl: true },
        relativeTtls: !facts.target.atLeast(7, 0),
        missing: missingForms(levelOf(facts.target), levelOf(facts.source)),
        forwardPublish: options.forwardPublish,
        allowLoss: options.allowLoss,
        skip: null,
        partialResync: true,
        begin: { kind: 'checkpoint', checkpoint: from },
        ttls: null,
        leaveOut: new OwnWrites({ run: runId, waitsForMark: request.from === null }),
        written: null,
        markBatches: false,
        tally,
        valve: new Valve(),
        silenceMs: USUAL_SILENCE.targetMs,
      },
      {
        copyBegins: async () => {
          throw noCopy();
        },
        prepareTarget: async () => {
          throw noCopy();
        },
        snapshotLoaded: () => undefined,
        keepCopy: null,
        waiting: () => undefined,
        note: (message) => note(`way back: ${message}`),
        divergence: ({ command, keyDigest, reply }) =>
          note(`way back: the old source answered ${command} of key ${keyDigest} with ${reply}`),
        failed: (error) => lost(error),
        redial: () => this.#link.redial(),
        acknowledge: () => this.#link.acknowledge(),
      },
      this.#abort.signal,
    );
    this.#link = new SourceLink(linkSettings(request.targetAccess, request.announceVersion), this.feed);
    this.#following = this.#link.run(this.#abort.signal).catch((error: unknown) => {
      if (!this.#abort.signal.aborted) lost(toCutoverError(error));
    });
  }

  /**
   * Follows the target from now on, and keeps what comes. The old source is not written yet.
   * @throws CutoverError where there can be no way back
   */
  static async connect(request: ReverseRequest): Promise<ReverseLink> {
    const { facts, runId, source, target, pair, journal } = request;
    const { replid, offset } = request.from ?? (await replicationState(target));
    await journal('source-user');
    const { username, password } = await createRunUser(source, facts.source, runId);
    const endpoint: Endpoint = { ...pair.source, username, password };
    const session = await ServerSession.open(endpoint, 'source', { connectTimeoutMs: CONNECT_TIMEOUT_MS });
    const from: Checkpoint = { replid, offset, db: 0, run: runId, phase: 'stream' };
    const reverse = new ReverseLink(request, { endpoint, session }, from);
    try {
      await reverse.#whenConnected();
      return reverse;
    } catch (error) {
      await reverse.close();
      throw error;
    }
  }

  /** Name of the user that writes to the old source: its fence must let it through. */
  get user(): string | null {
    return this.#session.endpoint.username;
  }

  /** True while what the new master takes arrives here. */
  get connected(): boolean {
    return this.#link.connected;
  }

  /** Begins to write to the old source: the forward stream has ended, and its fence lets our user through. */
  async open(): Promise<void> {
    await this.#session.call('DEL', CHECKPOINT_KEY);
    await this.#session.call('HMSET', CHECKPOINT_KEY, ...checkpointFields(this.#from));
    this.#gate.open();
  }

  tick(now: number): void {
    this.feed.tick(now);
  }

  /** Ends the link and takes our user and our mark from the old source. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#following;
    this.feed.close();
    this.#spool.close();
    const { source, runId, journal } = this.#request;
    if (this.#gate.isOpen) await this.#session.call('DEL', CHECKPOINT_KEY).catch(() => undefined);
    await this.#session.close();
    await dropRunUser(source, runId);
    await journal('source-user-dropped');
  }

  async #whenConnected(): Promise<void> {
    const until = Date.now() + LINK_LIMIT_MS;
    while (!this.#link.connected) {
      if (this.#abort.signal.aborted || Date.now() > until) throw noLink();
      await delay(10);
    }
  }
}

/** Keeps the feed from its door until it is opened. */
class Gate implements Door {
  readonly #door: TargetDoor;
  #open: () => void = () => undefined;
  readonly #opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });
  isOpen = false;

  constructor(door: TargetDoor) {
    this.#door = door;
  }

  open(): void {
    this.isOpen = true;
    this.#open();
  }

  async enter(signal: AbortSignal): Promise<Entrance> {
    const aborted = new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([this.#opened, aborted]);
    signal.throwIfAborted();
    return this.#door.enter(signal);
  }
}

function noCopy(): TargetError {
  return new TargetError('the new master has let go of the stream that the old source would need', {
    code: 'way-back-lost',
    hint: 'a rollback now needs a copy in the other direction: a new run with --src and --dst swapped',
    recovery: 'operator',
  });
}

function noLink(): TargetError {
  return new TargetError('the target cannot be followed', {
    code: 'no-way-back',
    hint: 'our user on the target needs the right to PSYNC and REPLCONF; --no-reverse does without a way back',
    recovery: 'operator',
  });
}
