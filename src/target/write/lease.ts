/**
 * The lease: a key on the target that says which run feeds it, so that a second one keeps off, also from another
 * machine. And the look at the source for the same key: a source that is being fed is no source (A→B while B→A).
 *
 * The key is a hash in database 0 that expires by itself; its owner renews it. A FLUSHALL in the source's stream
 * takes it away: the next renewal writes it anew, unless somebody else has it by then.
 */
import { hostname } from 'node:os';
import { ReplyError } from '../../client/reply-error.ts';
import type { Reply, ServerSession } from '../../client/session.ts';
import { type CutoverError, PreflightError } from '../../core/errors.ts';
import { printable } from '../../core/text.ts';
import { WriteTally } from './write-tally.ts';

/** Fixed by design.md; always in database 0; left out of comparisons, removed at promote. */
export const LEASE_KEY = 'redis-cutover:lease';

/** How long a lease outlives the last renewal. */
const LEASE_MS = 30_000;
const RENEW_EVERY_MS = 10_000;

/** One script for taking and renewing: nobody can come in between (EVAL: Redis >= 2.6). Returns 1, or the holder. */
const TAKE_OR_RENEW = `
local run = redis.call('HGET', KEYS[1], 'run')
if run and run ~= ARGV[1] then return redis.call('HGETALL', KEYS[1]) end
redis.call('HMSET', KEYS[1], 'run', ARGV[1], 'host', ARGV[2], 'pid', ARGV[3], 'pair', ARGV[4], 'expires', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1`;
/** Commands that write in it. */
const WRITES = 2;

const RELEASE = `
if redis.call('HGET', KEYS[1], 'run') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`;

/** Who holds a lease, as the key says. */
export interface LeaseHolder {
  readonly runId: string;
  readonly host: string;
  readonly pid: string;
  readonly pair: string;
}

export interface LeaseRequest {
  readonly runId: string;
  readonly pair: string;
  /** Called once when another run has taken the lease: stop writing. */
  readonly onLost: (error: CutoverError) => void;
  /** Where what renewals execute is counted; left out: nobody asks. */
  readonly tally?: WriteTally;
}

/**
 * Takes the lease of the target and keeps it. The same run may take its own again (resume).
 *
 * Throws PreflightError `target-lease` naming the other holder; `source-is-target` when the source holds a lease
 * itself (looked at after ours is in place, so that of two runs A→B and B→A at least one sees the other).
 */
export async function acquireLease(
  target: ServerSession,
  source: ServerSession,
  request: LeaseRequest,
): Promise<Lease> {
  const lease = new Lease(target, request);
  await lease.renew();
  try {
    const refusal = await sourceIsTarget(source);
    if (refusal !== null) throw refusal;
  } catch (error) {
    // a source that lets nobody read the key says nothing: the preflight has warned of it
    if (!(error instanceof ReplyError)) {
      await lease.release().catch(() => undefined);
      throw error;
    }
  }
  lease.keepRenewing();
  return lease;
}

export class Lease {
  readonly #session: ServerSession;
  readonly #request: LeaseRequest;
  readonly #tally: WriteTally;
  #timer: NodeJS.Timeout | null = null;

  /** Use acquireLease(). */
  constructor(session: ServerSession, request: LeaseRequest) {
    this.#session = session;
    this.#request = request;
    this.#tally = request.tally ?? new WriteTally();
  }

  /** Takes or renews the lease. Throws PreflightError `target-lease` where another run has it. */
  async renew(): Promise<void> {
    const { runId, pair } = this.#request;
    await this.#tally.around(WRITES, async () => {
      const reply = await this.#session.call(
        'EVAL',
        TAKE_OR_RENEW,
        1,
        LEASE_KEY,
        runId,
        hostname(),
        process.pid,
        pair,
        new Date(Date.now() + LEASE_MS).toISOString(),
        LEASE_MS,
      );
      if (reply !== 1) throw leaseHeldError(parseHolder(reply), this.#session.where);
    });
  }

  /** Starts the timer. A renewal that fails for a broken connection is tried again by the next one. */
  keepRenewing(): void {
    this.#timer = setInterval(() => {
      this.renew().catch((error: unknown) => {
        if (!(error instanceof PreflightError)) return;
        this.#stop();
        this.#request.onLost(error);
      });
    }, RENEW_EVERY_MS);
    this.#timer.unref();
  }

  /** Ends the renewals and removes the key if it is still ours. */
  async release(): Promise<void> {
    this.#stop();
    await this.#session.call('EVAL', RELEASE, 1, LEASE_KEY, this.#request.runId);
  }

  #stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** Who holds the lease of a server now; null: nobody. Reads only. */
export async function readLease(session: ServerSession): Promise<LeaseHolder | null> {
  const reply = await session.call('HGETALL', LEASE_KEY);
  return Array.isArray(reply) && reply.length > 0 ? parseHolder(reply) : null;
}

/** The refusal where the source is being fed by a run, else null. Reads only. */
export async function sourceIsTarget(source: ServerSession): Promise<PreflightError | null> {
  const holder = await readLease(source);
  if (holder === null) return null;
  return new PreflightError(`the ${source.where} is itself the target of a run: ${describeHolder(holder)}`, {
    code: 'source-is-target',
    hint: 'end that run first; a crashed run lets go after 30 s',
  });
}

/** The refusal for a target that another run feeds. */
export function leaseHeldError(holder: LeaseHolder, where: string): PreflightError {
  return new PreflightError(`the ${where} is fed by another run: ${describeHolder(holder)}`, {
    code: 'target-lease',
    hint: 'end that run, or go on with it (redis-cutover resume RUN_DIR); a crashed run lets go after 30 s',
  });
}

function describeHolder(holder: LeaseHolder): string {
  return `run ${printable(holder.runId)}, pair ${printable(holder.pair)}, process ${printable(holder.pid)} on ${printable(holder.host)}`;
}

function parseHolder(reply: Reply): LeaseHolder {
  const words = Array.isArray(reply) ? reply : [];
  const field = (name: string): string => {
    const index = words.findIndex((word, position) => position % 2 === 0 && word === name);
    return index === -1 ? '?' : String(words[index + 1] ?? '?');
  };
  return { runId: field('run'), host: field('host'), pid: field('pid'), pair: field('pair') };
}
