/**
 * Who lets keys expire on a target that is fed by `write`. A replica never does: it waits for its master's word, so that
 * nothing dies there of an old TTL, however late the renewal comes. A target that we write to is a master, and is kept
 * from it while it follows, by one of
 *
 * - `import`: import mode of Valkey >= 8.1; the server expires nothing by itself, and what it holds is alive to us;
 * - `held`: expiries that are due soon are sent more than a thousand years too late (held-ttls.ts): with the snapshot what
 *   is due within an hour, with the stream within minutes; all are set right before the target is opened;
 * - `own-clock`: nothing; targets before 5.0, whose scripts may not write what they have read.
 *
 * open() is for the moment before applications write to the target, prepareToOpen() does most of its work beforehand.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ReplyError } from '../client/reply-error.ts';
import type { ServerInfo } from '../client/server-info.ts';
import type { BufferReply, ServerSession } from '../client/session.ts';
import { COPY_HORIZON_MS, HELD_BEFORE_MS, HeldTtls, SHIFT_MS } from '../target/write/held-ttls.ts';
import { LEASE_KEY } from '../target/write/lease.ts';
import type { WriteTally } from '../target/write/write-tally.ts';
import { within } from './steps.ts';

export type ExpiryKind = 'import' | 'held' | 'own-clock';

/** How the target's keys are kept, by its release. Import mode may still be refused when it is asked for. */
export function expiryKindOf(target: ServerInfo): ExpiryKind {
  if (target.family === 'valkey' && target.atLeast(8, 1)) return 'import';
  return target.atLeast(5, 0) ? 'held' : 'own-clock';
}

export interface ExpiryRequest {
  readonly info: ServerInfo;
  /** As the run's own user. */
  readonly session: ServerSession;
  /** For lists of keys that do not fit into memory. */
  readonly dir: string;
  /** True where applications write to the target already: it expires by its own clock. */
  readonly open: boolean;
  readonly tally: WriteTally;
  /** Durable before import mode is set, and after it was put back. */
  readonly journal: (importMode: boolean) => Promise<void>;
  readonly note: (message: string) => void;
  /** For each answer of the target while its expiry times are set right. */
  readonly answerLimitMs: number;
}

/** What is being sent, as far as it matters here. */
export interface ExpiryFeed {
  /** True where the snapshot is on the target, and the stream follows. */
  readonly streaming: boolean;
  /** Resolves when all that was sent until now is on the target. */
  whenSentIsApplied(): Promise<void>;
  /** Does `work` while nothing is sent; returns without having done it where there is no such moment now. */
  whileQuiet(work: () => Promise<void>): Promise<void>;
}

const IMPORT_MODE = 'import-mode';
/** Due so soon when applications are let in: set right at the last moment, not in the minutes before. */
const NEAR_MS = 30_000;
const SCAN_COUNT = 1000;
const PAGE_KEYS = 500;

/**
 * KEYS: what to look at. ARGV: shift; what is held lies before this; what is due within so many ms from now is held,
 * or stays so; 1: what is true and due so soon is held from now on, 0: it stays as it is; 1 where there is PEXPIRETIME
 * (7.0), before it the moment is known to the millisecond only. Returns how many were changed, and which are still held.
 * Read and write in one go: nothing can come in between.
 */
const KEYS_SCRIPT = `
local shift, before, stay, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changed, left = 0, {}
for i, key in ipairs(KEYS) do
  local at
  if ARGV[5] == '1' then
    at = redis.call('PEXPIRETIME', key)
  else
    at = redis.call('PTTL', key)
    if at >= 0 then at = at + now end
  end
  local to
  if at >= shift and at < shift + before then
    if at - shift > now + stay then to = at - shift else left[#left + 1] = i end
  elseif hold and at >= 0 and at < before and at <= now + stay then
    to = at + shift
  end
  if to then
    redis.call('PEXPIREAT', key, string.format('%.0f', to))
    changed = changed + 1
  end
end
return {changed, left}`;

/** The same for the fields of hashes (Redis >= 7.4, Valkey >= 9.0). */
const FIELDS_SCRIPT = `
local shift, before, stay, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changed, left = 0, {}
for i, key in ipairs(KEYS) do
  if redis.call('TYPE', key).ok == 'hash' then
    local fields = redis.call('HKEYS', key)
    local stays = false
    for from = 1, #fields, 500 do
      local some = {unpack(fields, from, math.min(from + 499, #fields))}
      local times = redis.call('HPEXPIRETIME', key, 'FIELDS', #some, unpack(some))
      for j, at in ipairs(times) do
        local to
        if at >= shift and at < shift + before then
          if at - shift > now + stay then to = at - shift else stays = true end
        elseif hold and at >= 0 and at < before and at <= now + stay then
          to = at + shift
        end
        if to then
          redis.call('HPEXPIREAT', key, string.format('%.0f', to), 'FIELDS', 1, some[j])
          changed = changed + 1
        end
      end
    end
    if stays then left[#left + 1] = i end
  end
end
return {changed, left}`;

/** Of the hashes of one page; only for the count of our writes, until it is known. */
const MOST_FIELDS = 1e6;
/** `release`: what is not due soon becomes true. `both`: and what is due soon is held. */
type Direction = 'both' | 'release';
const QUIET_RETRY_MS = 5;
const READY_LIMIT_MS = 1000;
const NEVER = new AbortController().signal;
/** How far ahead is held while the target follows, at least: so long may a link be down, or a run. */
const LEAST_HORIZON_MS = 120_000;
/** Part of the time in which the target may be looking through its keys for that. */
const SHARE = 0.05;
/** Everything is changed, whenever it is due. */
const NONE_STAYS = '-1e15';

export class Expiry {
  readonly #request: ExpiryRequest;
  readonly #fieldsExpire: boolean;
  readonly #exactTimes: boolean;
  readonly #kind: ExpiryKind;
  /** Which expiries the writers hold back; null: none. */
  readonly ttls: HeldTtls | null;
  #importing = false;
  /** True from prepareToOpen() on, until holdAgain(); and at the end. */
  #released = false;
  /** Expiries that are due within this are held. */
  #horizonMs = LEAST_HORIZON_MS;
  /** On the clock of performance.now(): when all keys are looked at again. */
  #nextLookMs = 0;
  /** The same for what a copy has brought that is still under way; null: none is. */
  #copyLookMs: number | null = null;
  /** The look that is under way, or was the last. */
  #look: Promise<void> = Promise.resolve();
  /** Until then it is waited for. */
  #readyMs = Number.POSITIVE_INFINITY;
  /** True where what was set right for an opening is to be held again. */
  #undone = false;
  /** One look at the keys at a time. */
  #looking: Promise<unknown> = Promise.resolve();

  private constructor(request: ExpiryRequest, kind: ExpiryKind) {
    const { info, dir } = request;
    this.#request = request;
    this.#kind = kind;
    this.ttls = kind === 'held' ? new HeldTtls(dir) : null;
    this.#fieldsExpire = info.family === 'valkey' ? info.atLeast(9, 0) : info.atLeast(7, 4);
    this.#exactTimes = info.atLeast(7, 0);
  }

  /**
   * The target expires nothing from now on that we bring to it.
   * @param former what an earlier process of this run may have left; null: there was none
   */
  static async take(
    request: ExpiryRequest,
    former: { readonly importMode: boolean } | null,
  ): Promise<Expiry> {
    const { info, session, open, journal, note } = request;
    const kind = expiryKindOf(info);
    if (former?.importMode) {
      await endImportMode(session);
      await journal(false);
    }
    if (open) return new Expiry(request, 'own-clock');
    if (kind !== 'import') return new Expiry(request, kind);
    const expiry = new Expiry(request, 'import');
    try {
      await journal(true);
      expiry.#importing = true;
      await expiry.ensure();
      return expiry;
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      await journal(false);
      note(`the target takes no import mode (${error.reply}): expiries are held back instead`);
      return new Expiry(request, 'held');
    }
  }

  /** True where our writers must say that they import. */
  get importing(): boolean {
    return this.#importing;
  }

  /** Before each connection that writes: a restart has forgotten the setting. */
  async ensure(): Promise<void> {
    if (this.#importing) await this.#request.session.call('CONFIG', 'SET', IMPORT_MODE, 'yes');
  }

  /**
   * To be called now and then while the target follows. What is due soon is held, what is not is true: so that the
   * target can be looked at, and nothing dies on it while a link is down. Keys come nearer to their end, so all are
   * looked at again before the horizon has passed; where that takes long, it is done more rarely, and further ahead.
   */
  tick(feed: ExpiryFeed): void {
    const { ttls } = this;
    if (ttls === null || this.#released) return;
    const now = performance.now();
    if (!feed.streaming) {
      this.#tickInCopy(ttls, now);
      return;
    }
    this.#copyLookMs = null;
    if (ttls.lookDue) {
      this.#readyMs = now + READY_LIMIT_MS;
    } else if (ttls.copying) {
      // nothing that the copy brought is due soon
      ttls.holdSoon(this.#horizonMs);
      this.#readyMs = 0;
      this.#nextLookMs = now + this.#horizonMs / 2;
      return;
    } else if (now < this.#nextLookMs) {
      return;
    }
    this.#nextLookMs = Number.POSITIVE_INFINITY;
    ttls.holdSoon(this.#horizonMs);
    this.#look = this.#alone(() => this.#lookAhead(feed)).catch(() => {
      // the feed shows what is wrong with the target
      ttls.lookDue = true;
    });
  }

  /** A copy that takes long: what it brought first comes nearer to its end. */
  #tickInCopy(ttls: HeldTtls, now: number): void {
    if (!ttls.copying) return;
    this.#copyLookMs ??= now + COPY_HORIZON_MS / 2;
    if (now < this.#copyLookMs) return;
    this.#copyLookMs = now + COPY_HORIZON_MS / 2;
    this.#look = this.#alone(async () => {
      if ((await this.#lookAtAll('both', COPY_HORIZON_MS, NEVER)) > 0) ttls.lookDue = true;
    }).catch(() => {
      this.#copyLookMs = now;
    });
  }

  /** False for a moment behind a copy, while its expiry times are being set right: longer than that nobody waits. */
  get ready(): boolean {
    return this.ttls === null || this.#released || performance.now() > this.#readyMs;
  }

  /** Resolves when the look that is due, or under way, is done. */
  async settled(feed: ExpiryFeed): Promise<void> {
    this.tick(feed);
    await this.#look;
  }

  async #lookAhead(feed: ExpiryFeed): Promise<void> {
    const began = performance.now();
    if (this.#released) return;
    await feed.whenSentIsApplied();
    await this.#lookAtAll('both', this.#horizonMs, NEVER);
    const now = performance.now();
    const pauseMs = Math.max(LEAST_HORIZON_MS / 2, (now - began) / SHARE);
    this.#horizonMs = 2 * pauseMs;
    this.#nextLookMs = now + pauseMs;
    if (this.ttls?.lookDue === false) this.#readyMs = 0;
    if (!this.#undone) return;
    this.#undone = false;
    this.#request.note('expiry times are held back again');
  }

  /**
   * Sets right all expiries but those that are due within NEAR_MS, while the feed goes on: what remains for open() is
   * little. To be undone by holdAgain().
   * @param signal ends it early
   */
  async prepareToOpen(feed: ExpiryFeed, signal: AbortSignal): Promise<void> {
    const { ttls } = this;
    if (ttls === null) return;
    this.#released = true;
    await this.#alone(async () => {
      ttls.holdNear(NEAR_MS);
      await this.#within(feed.whenSentIsApplied(), signal);
      const changed = await this.#lookAtAll('release', NEAR_MS, signal);
      if (changed > 0) this.#request.note(`expiry times of ${changed} keys set right`);
    });
  }

  /**
   * All expiries are true, and from now on the target expires by its own clock. The feed holds nothing back behind it.
   * To be undone by holdAgain(). @param feed at rest, or going on
   */
  async open(feed: ExpiryFeed): Promise<void> {
    const { ttls } = this;
    if (ttls !== null) {
      this.#released = true;
      await this.#alone(async () => {
        ttls.holdNear(Number.NEGATIVE_INFINITY);
        if (ttls.noted > 0) await feed.whenSentIsApplied();
        await this.#releaseNoted(ttls);
        // the last look in a quiet moment: keys that are renamed could run away from it for ever
        let through = false;
        const lastLook = async (): Promise<void> => {
          while (ttls.moved || ttls.noted > 0) await this.#releaseNoted(ttls);
          if (this.#released) ttls.holdNone();
          through = true;
        };
        // holdAgain() may come while the target does not answer
        while (this.#released && !through) {
          await feed.whileQuiet(lastLook);
          if (!through) await delay(QUIET_RETRY_MS);
        }
      });
    }
    await this.#endImport();
  }

  async #releaseNoted(ttls: HeldTtls): Promise<void> {
    const all = ttls.moved;
    ttls.moved = false;
    if (all) await this.#lookAtAll('release', null, NEVER);
    for (const { kind, db, keys } of ttls.take(PAGE_KEYS)) {
      if (kind === 'keys' || this.#fieldsExpire) await this.#change(kind, db, keys, 'release', null);
    }
  }

  /**
   * Undoes prepareToOpen() and open(): the target follows again. What was set right is held again with the next tick:
   * returns at once, since applications may wait.
   */
  async holdAgain(): Promise<void> {
    if (this.ttls !== null && this.#released) {
      this.#released = false;
      this.#undone = true;
      this.#nextLookMs = 0;
      this.ttls.holdSoon(this.#horizonMs);
    }
    if (this.#kind !== 'import' || this.#importing) return;
    await this.#request.journal(true);
    this.#importing = true;
    await this.ensure();
  }

  /** Gives the target back as one that may be gone on with: the setting is as it was, held expiries stay. */
  async release(): Promise<void> {
    this.#released = true;
    this.ttls?.forget();
    await this.#endImport();
  }

  async #endImport(): Promise<void> {
    if (!this.#importing) return;
    // first: holdAgain() may come while the target does not answer, and its own word then follows ours
    this.#importing = false;
    await endImportMode(this.#request.session);
    // applications may wait for what comes next; a resume that does not find it puts it away once more
    void this.#request.journal(false).catch(() => undefined);
  }

  /** @throws TargetError `cutover-timeout`, the signal's reason */
  #within<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
    const { answerLimitMs } = this.#request;
    return within(work, {
      timeoutMs: answerLimitMs,
      untilMs: performance.now() + answerLimitMs,
      signal,
      missing: () => 'the target does not answer',
    });
  }

  /** All keys that expire, database by database. Returns how many were changed. */
  async #lookAtAll(direction: Direction, stayMs: number | null, signal: AbortSignal): Promise<number> {
    const { session } = this.#request;
    let changed = 0;
    // the lease expires, too: of most datasets it is the only key that does
    const leased = Number(await this.#within(session.call('PTTL', LEASE_KEY), signal)) > 0;
    const { keyspace } = await this.#within(session.info('keyspace'), signal);
    // here, so that a target that does not answer is found before anything is touched
    if (direction === 'release' && this.ttls?.holdsSome === false) return 0;
    for (const { db, expires: all, expiringHashes } of keyspace) {
      const expires = db === 0 && leased ? all - 1 : all;
      if (expires === 0 && expiringHashes === 0) continue;
      for (let cursor = '0'; !signal.aborted; ) {
        const [next, keys] = await this.#within(this.#scan(db, cursor), signal);
        for (let from = 0; from < keys.length; from += PAGE_KEYS) {
          const page = keys.slice(from, from + PAGE_KEYS);
          if (expires > 0)
            changed += await this.#within(this.#change('keys', db, page, direction, stayMs), signal);
          if (expiringHashes > 0)
            changed += await this.#within(this.#change('hashes', db, page, direction, stayMs), signal);
        }
        if (next === '0') break;
        cursor = next;
      }
    }
    return changed;
  }

  async #scan(db: number, cursor: string): Promise<[next: string, keys: Buffer[]]> {
    const { session } = this.#request;
    const [, reply] = await session.pipeline([
      ['SELECT', db],
      ['SCAN', cursor, 'COUNT', SCAN_COUNT],
      ['SELECT', 0],
    ]);
    if (reply instanceof ReplyError) throw reply;
    const [next, keys] = Array.isArray(reply) ? reply : [];
    const own = (key: Buffer) => db === 0 && key.toString('latin1') === LEASE_KEY;
    return [
      String(next),
      (Array.isArray(keys) ? keys : []).filter((key): key is Buffer => Buffer.isBuffer(key) && !own(key)),
    ];
  }

  /** @param stayMs what is due so soon stays and is noted, see NEAR_MS; null: everything is changed */
  async #change(
    kind: 'keys' | 'hashes',
    db: number,
    keys: readonly Buffer[],
    direction: Direction,
    stayMs: number | null,
  ): Promise<number> {
    const { session, tally } = this.#request;
    const script = kind === 'keys' ? KEYS_SCRIPT : FIELDS_SCRIPT;
    const words = [
      SHIFT_MS,
      HELD_BEFORE_MS,
      stayMs ?? NONE_STAYS,
      direction === 'both' ? 1 : 0,
      this.#exactTimes ? 1 : 0,
    ];
    const most = kind === 'keys' ? keys.length : MOST_FIELDS;
    tally.begin(most);
    let changed: BufferReply | undefined;
    let left: BufferReply | undefined;
    try {
      const [, reply] = await session.pipeline([
        ['SELECT', db],
        ['EVAL', script, keys.length, ...keys, ...words],
        ['SELECT', 0],
      ]);
      if (reply instanceof ReplyError) throw reply;
      [changed, left] = Array.isArray(reply) ? reply : [];
    } finally {
      tally.lost(most);
    }
    tally.settle(Number(changed), true);
    tally.settle(most - Number(changed), false);
    if (Number(changed) > 0 && this.ttls !== null) this.ttls.holdsSome = true;
    for (const index of Array.isArray(left) ? left : []) {
      const key = keys[Number(index) - 1];
      if (key !== undefined && direction === 'release') this.ttls?.note(kind, db, key);
    }
    return Number(changed);
  }

  #alone<Value>(work: () => Promise<Value>): Promise<Value> {
    const done = this.#looking.then(work);
    this.#looking = done.catch(() => undefined);
    return done;
  }
}

/** The target expires keys by itself from now on. */
export async function endImportMode(session: ServerSession): Promise<void> {
  await session.call('CONFIG', 'SET', IMPORT_MODE, 'no');
}
