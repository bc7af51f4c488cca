/**
 * Are two servers equal? Every key of every database, or some, is read from both at the same time and compared by value.
 * The engine of `redis-cutover verify` and of the key **v**. It only reads, but for `repair` (repair.ts).
 *
 * Both may be written to meanwhile, and the target may follow a moment later. So a key that differs is only a suspect: it
 * is looked at again in rounds that come ever later, and counts when it differed in all of them and has not changed on
 * either side between the last two. One that was written to between these cannot be judged, and is counted apart.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ServerSession } from '../../client/session.ts';
import type { Endpoint } from '../../core/endpoint.ts';
import { assertNever, PreflightError } from '../../core/errors.ts';
import type { VerifyProgress, VerifyResult } from '../../core/events.ts';
import type { VerifyOptions } from '../../core/options.ts';
import { CHECKPOINT_KEY } from '../../target/write/checkpoint.ts';
import { LEASE_KEY } from '../../target/write/lease.ts';
import { BulkConnection } from './bulk-connection.ts';
import { compareKeys, type Difference } from './compare-keys.ts';
import { differingLibraries } from './functions.ts';
import { keyCommand, writeKeyCommand, writeManyKeys } from './key-command.ts';
import type { MismatchSink } from './mismatches.ts';
import { Repair } from './repair.ts';
import { type Server, type Side, type Sides, takesManyKeys } from './side.ts';
import { Throttle } from './throttle.ts';

export interface VerifyRequest {
  readonly source: Endpoint;
  readonly target: Endpoint;
  readonly options: VerifyOptions;
  /** Ends it: what is under way rejects with an AbortError. */
  readonly signal: AbortSignal;
  /** Called a few times a second at most. */
  readonly onProgress: (progress: VerifyProgress) => void;
  readonly onMismatch: MismatchSink;
}

/** Keys asked about at a time, and as many pages under way as keep both servers at work. */
const PAGE_KEYS = 500;
const PAGES_AT_ONCE = 4;
/** So many suspects are looked into before more are searched for: servers that have nothing in common end here. */
const MOST_SUSPECTS = 50_000;
const PROGRESS_EVERY_MS = 250;
const CONNECT_TIMEOUT_MS = 10_000;
/** Before 7.0 an expiry is told as what is left: true to a few ms, or to as long as another client's command takes. */
const TOLD_AS_REST_MS = 100;

const OUR_KEYS = [CHECKPOINT_KEY, LEASE_KEY].map((key) => Buffer.from(key));
const EXISTS = keyCommand('EXISTS');

/**
 * Compares two servers; leaves both as they were, unless `repair` is asked for.
 *
 * @throws PreflightError `same-server`, and those of repair.ts, before anything is read; ReplyError where a server refuses
 * a question (NOPERM, LOADING); SourceError, TargetError where one cannot be reached or a connection breaks; AbortError
 */
export async function verifyPair(request: VerifyRequest): Promise<VerifyResult> {
  const { signal } = request;
  signal.throwIfAborted();
  const opened: { close(): unknown }[] = [];
  let isOver = false;
  const close = (): void => {
    isOver = true;
    for (const each of opened) each.close();
  };
  const open = async <T extends { close(): unknown }>(opening: Promise<T>): Promise<T> => {
    const it = await opening;
    opened.push(it);
    // the other side may have failed meanwhile
    if (isOver) it.close();
    return it;
  };
  signal.addEventListener('abort', close);
  try {
    const [source, target] = await Promise.all([
      open(ServerSession.open(request.source, 'source', { connectTimeoutMs: CONNECT_TIMEOUT_MS })),
      open(ServerSession.open(request.target, 'target', { connectTimeoutMs: CONNECT_TIMEOUT_MS })),
    ]);
    const [reads, written] = await Promise.all([
      open(BulkConnection.open(request.source, 'source', signal)),
      open(BulkConnection.open(request.target, 'target', signal)),
    ]);
    return await new Comparison(
      request,
      { session: source, side: await sideOf(source, reads) },
      { session: target, side: await sideOf(target, written) },
    ).run();
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', close);
    close();
  }
}

async function sideOf(session: ServerSession, connection: BulkConnection): Promise<Side> {
  const [info, checkpoints] = await Promise.all([session.info(), session.call('EXISTS', CHECKPOINT_KEY)]);
  return { connection, info, holdsExpiries: checkpoints === 1 };
}

/** A key that differed in the latest look. */
interface Suspect {
  readonly db: number;
  readonly found: Difference;
  /** Neither side has changed since the look before. */
  readonly atRest: boolean;
}

class Comparison {
  readonly #request: VerifyRequest;
  readonly #source: Server;
  readonly #target: Server;
  readonly #repair: Repair | null;
  readonly #throttles: readonly Throttle[];
  #suspects = new Map<string, Suspect>();
  #compared = 0;
  #total = 0;
  #round = 0;
  #progressAtMs = 0;
  readonly #counts = { different: 0, missing: 0, extra: 0, unsettled: 0, repaired: 0 };

  constructor(request: VerifyRequest, source: Server, target: Server) {
    const { options } = request;
    this.#request = request;
    this.#source = source;
    this.#target = target;
    this.#throttles = [source, target].map(({ session }) => new Throttle(session, options.maxLatencyMs));
    this.#repair = options.repair === 'none' ? null : new Repair(source, target, options.repair);
  }

  async run(): Promise<VerifyResult> {
    const { mode } = this.#request.options;
    try {
      this.#refuseSameServer();
      await this.#repair?.begin();
      const databases = this.#databases();
      switch (mode) {
        case 'count':
          await this.#count(databases);
          break;
        case 'sample':
          await this.#sample(databases);
          break;
        case 'full':
          for (const db of databases) await this.#everyKey(db);
          break;
        default:
          assertNever(mode);
      }
      await this.#settle();
      if (mode !== 'count') await this.#functions();
      return { compared: this.#compared, ...this.#counts };
    } finally {
      for (const throttle of this.#throttles) throttle.stop();
    }
  }

  #refuseSameServer(): void {
    const [source, target] = [this.#source.side.info, this.#target.side.info];
    if (source.runId === null || source.runId !== target.runId) return;
    throw new PreflightError('source and target are one server (same run_id)', {
      code: 'same-server',
      hint: 'look at the addresses: both lead to the same data',
    });
  }

  /** Those in which one side has keys. */
  #databases(): number[] {
    const found = new Set<number>();
    for (const { side } of [this.#source, this.#target]) {
      for (const { db } of side.info.keyspace) found.add(db);
    }
    const sum = (counts: readonly { readonly keys: number }[]): number =>
      counts.reduce((keys, count) => keys + count.keys, 0);
    this.#total = sum(this.#source.side.info.keyspace);
    return [...found].sort((a, b) => a - b);
  }

  // ---- numbers ------------------------------------------------------------------------------------------

  async #count(databases: readonly number[]): Promise<void> {
    for (const db of databases) {
      let [here, there] = await this.#sizes(db);
      for (let round = 1; here !== there && round <= this.#request.options.rounds; round++) {
        await this.#pauseBefore(round);
        [here, there] = await this.#sizes(db);
      }
      this.#compared += Math.min(here, there);
      this.#counts.missing += Math.max(0, here - there);
      this.#counts.extra += Math.max(0, there - here);
    }
  }

  /** Numbers of keys in a database, without ours. */
  async #sizes(db: number): Promise<readonly [number, number]> {
    await this.#select(db);
    const sizeOf = async ({ side }: Server): Promise<number> => {
      const replies = await side.connection.commands(
        ['DBSIZE'],
        ...OUR_KEYS.map((key) => ['EXISTS', key] as const),
      );
      const ours = db === 0 ? replies.integer(1) + replies.integer(2) : 0;
      return replies.integer(0) - ours;
    };
    return Promise.all([sizeOf(this.#source), sizeOf(this.#target)]);
  }

  // ---- which keys ---------------------------------------------------------------------------------------

  async #everyKey(db: number): Promise<void> {
    await this.#pages(db, this.#scan(this.#source.side), (keys) => this.#look(db, keys));
    await this.#pages(db, this.#scan(this.#target.side), (keys) => this.#lookForExtra(db, keys));
  }

  async #sample(databases: readonly number[]): Promise<void> {
    const { sampleKeys } = this.#request.options;
    this.#total = Math.min(this.#total, sampleKeys);
    for (const [{ side }, look] of [
      [this.#source, this.#look],
      [this.#target, this.#lookForExtra],
    ] as const) {
      const all = side.info.keyspace.reduce((keys, count) => keys + count.keys, 0);
      for (const db of databases) {
        const keys = side.info.keyspace.find((count) => count.db === db)?.keys ?? 0;
        if (keys === 0) continue;
        const wanted = Math.ceil((sampleKeys * keys) / all);
        const pages = wanted >= keys ? this.#scan(side) : this.#random(side, wanted);
        await this.#pages(db, pages, (page) => look.call(this, db, page));
      }
    }
  }

  /** Every key of the selected database that is there from beginning to end; some of them twice. */
  async *#scan({ connection }: Side): AsyncGenerator<readonly Buffer[]> {
    let cursor = '0';
    do {
      const replies = await connection.commands(['SCAN', cursor, 'COUNT', PAGE_KEYS]);
      const [next, keys] = replies.value(0) as readonly [Buffer, readonly Buffer[]];
      cursor = next.toString('latin1');
      if (keys.length > 0) yield keys;
    } while (cursor !== '0');
  }

  async *#random({ connection }: Side, wanted: number): AsyncGenerator<readonly Buffer[]> {
    const seen = new Set<string>();
    for (let asked = 0; asked < wanted; asked += PAGE_KEYS) {
      const count = Math.min(PAGE_KEYS, wanted - asked);
      const replies = await connection.commands(
        ...Array.from({ length: count }, () => ['RANDOMKEY'] as const),
      );
      const page: Buffer[] = [];
      for (let at = 0; at < count; at++) {
        const key = replies.value(at);
        if (!Buffer.isBuffer(key) || seen.has(key.toString('latin1'))) continue;
        seen.add(key.toString('latin1'));
        page.push(key);
      }
      if (page.length > 0) yield page;
    }
  }

  /** Hands the pages to `look`, a few at a time, and looks into suspects where they become many. */
  async #pages(
    db: number,
    pages: AsyncGenerator<readonly Buffer[]>,
    look: (keys: readonly Buffer[]) => Promise<void>,
  ): Promise<void> {
    await this.#select(db);
    const underWay = new Set<Promise<void>>();
    const failures: unknown[] = [];
    for await (const page of pages) {
      const keys = db === 0 ? page.filter((key) => !OUR_KEYS.some((own) => own.equals(key))) : page;
      await this.#pace();
      const job = look(keys)
        .catch((error: unknown) => void failures.push(error))
        .finally(() => underWay.delete(job));
      underWay.add(job);
      if (underWay.size >= PAGES_AT_ONCE) await Promise.race(underWay);
      // a page that was not read must never pass for one that is equal
      if (failures.length > 0) break;
      if (this.#suspects.size >= MOST_SUSPECTS) {
        await Promise.all(underWay);
        await this.#settle();
        await this.#select(db);
      }
      this.#tellProgress();
    }
    await Promise.all(underWay);
    if (failures.length > 0) throw failures[0];
  }

  // ---- looking ------------------------------------------------------------------------------------------

  async #look(db: number, keys: readonly Buffer[]): Promise<void> {
    const { onBoth, different } = await compareKeys(this.#sidesIn(db), keys);
    this.#compared += onBoth.filter(Boolean).length;
    this.#suspect(db, different);
  }

  async #lookForExtra(db: number, keys: readonly Buffer[]): Promise<void> {
    const { connection } = this.#source.side;
    if (takesManyKeys(this.#source.side)) {
      const all = await connection.ask(1, (out) => writeManyKeys(out, EXISTS.name, keys));
      connection.check(all, 0, EXISTS.name);
      if (all.integer(0) === keys.length) return;
    }
    const replies = await connection.ask(keys.length, (out) => {
      for (const key of keys) writeKeyCommand(out, EXISTS, key);
    });
    const absent = keys.filter((_, at) => {
      connection.check(replies, at, EXISTS.name);
      return replies.integer(at) === 0;
    });
    if (absent.length === 0) return;
    this.#suspect(db, (await compareKeys(this.#sidesIn(db), absent)).different);
  }

  #suspect(db: number, different: readonly Difference[]): void {
    for (const found of different) {
      // a copy: the key is a slice of a whole page of them
      const key = Buffer.from(found.key);
      this.#suspects.set(`${db} ${key.toString('latin1')}`, { db, found: { ...found, key }, atRest: false });
    }
  }

  /** Looks at the suspects again until it is clear what each of them is. */
  async #settle(): Promise<void> {
    const { rounds } = this.#request.options;
    let suspects: readonly Suspect[] = [...this.#suspects.values()];
    for (this.#round = 1; suspects.length > 0 && this.#round <= rounds; this.#round++) {
      this.#tellProgress(suspects.length);
      await this.#pauseBefore(this.#round);
      suspects = await this.#lookAgain(suspects);
    }
    this.#round = 0;
    this.#suspects = new Map();
    const settled = suspects.filter(({ atRest }) => atRest || rounds === 0);
    for (const { db, found } of suspects.filter(({ atRest }) => !atRest && rounds > 0)) {
      this.#counts.unsettled++;
      this.#request.onMismatch({ db, key: found.key, kind: 'unsettled', type: found.type });
    }
    await this.#conclude(settled);
  }

  /** Those that differ still. */
  async #lookAgain(suspects: readonly Suspect[]): Promise<Suspect[]> {
    const left: Suspect[] = [];
    for (const db of new Set(suspects.map((suspect) => suspect.db))) {
      const ofDatabase = suspects.filter((suspect) => suspect.db === db);
      await this.#select(db);
      for (let from = 0; from < ofDatabase.length; from += PAGE_KEYS) {
        const page = ofDatabase.slice(from, from + PAGE_KEYS);
        const before = new Map(page.map(({ found }) => [found.key.toString('latin1'), found]));
        await this.#pace();
        const { onBoth, different } = await compareKeys(
          this.#sidesIn(db),
          page.map(({ found }) => found.key),
        );
        // those that one side lacked in the look before, less those that it lacks now
        for (const [at, { found }] of page.entries()) {
          this.#compared += Number(onBoth[at]) - Number(!isOnOneSide(found));
        }
        for (const found of different) {
          left.push({ db, found, atRest: isUnchanged(before.get(found.key.toString('latin1')), found) });
        }
      }
    }
    return left;
  }

  async #conclude(suspects: readonly Suspect[]): Promise<void> {
    const outcomes = (await this.#repair?.repair(suspects)) ?? null;
    if (outcomes === null) {
      for (const suspect of suspects) this.#countIt(suspect);
      return;
    }
    const remaining = new Set(
      (await this.#lookAgain(suspects)).map(({ db, found }) => `${db} ${found.key.toString('latin1')}`),
    );
    for (const [at, suspect] of suspects.entries()) {
      const { db, found } = suspect;
      if (!remaining.has(`${db} ${found.key.toString('latin1')}`)) {
        this.#counts.repaired++;
        this.#request.onMismatch({ db, key: found.key, kind: found.kind, type: found.type, repaired: true });
      } else {
        this.#countIt(suspect, outcomes[at] ?? 'it differs still');
      }
    }
  }

  #countIt({ db, found }: Suspect, notRepaired?: string): void {
    const { key, kind, type } = found;
    if (isOnOneSide(found)) this.#counts[found.kind]++;
    else this.#counts.different++;
    this.#request.onMismatch({
      db,
      key,
      kind,
      type,
      ...(notRepaired === undefined ? {} : { repaired: notRepaired }),
    });
  }

  /** Function libraries (7.0): the live stream brings them, too, so they are given the same time. */
  async #functions(): Promise<void> {
    const { rounds } = this.#request.options;
    const differing = (): Promise<readonly Buffer[]> =>
      differingLibraries(this.#source.session, this.#target.session);
    const known = [this.#source, this.#target].every(({ side }) => side.info.atLeast(7, 0));
    if (!known) return;
    let names = await differing();
    for (let round = 1; names.length > 0 && round <= rounds; round++) {
      await this.#pauseBefore(round);
      names = await differing();
    }
    if (names.length > 0) this.#counts.different++;
    for (const key of names) this.#request.onMismatch({ db: null, key, kind: 'library', type: '' });
  }

  // ---- helpers ------------------------------------------------------------------------------------------

  /** Half as long before each earlier round. */
  async #pauseBefore(round: number): Promise<void> {
    const { rounds, lastRoundMs } = this.#request.options;
    await delay(lastRoundMs / 2 ** (rounds - round), undefined, { signal: this.#request.signal });
  }

  /** A server that answers late is left alone for a while. */
  readonly #pace = async (): Promise<void> => {
    for (const throttle of this.#throttles) await throttle.wait();
  };

  /** A database that one server has no place for: SELECT is refused there, and that is the answer. */
  async #select(db: number): Promise<void> {
    await Promise.all(
      [this.#source, this.#target].map(({ side }) => side.connection.commands(['SELECT', db])),
    );
  }

  #sidesIn(db: number): Sides {
    const [source, target] = [this.#source.side, this.#target.side];
    const knows = ({ info }: Side): boolean =>
      info.family === 'valkey' ? info.atLeast(9, 0) : info.atLeast(7, 4);
    const has = ({ info }: Side): boolean =>
      info.keyspace.some((count) => count.db === db && count.expiringHashes > 0);
    return {
      source,
      target,
      pace: this.#pace,
      ttlToleranceMs: Math.max(
        this.#request.options.ttlToleranceMs,
        source.info.atLeast(7, 0) && target.info.atLeast(7, 0) ? 0 : TOLD_AS_REST_MS,
      ),
      fieldsExpire: knows(source) && knows(target) && (has(source) || has(target)),
    };
  }

  #tellProgress(suspects = this.#suspects.size): void {
    if (performance.now() - this.#progressAtMs < PROGRESS_EVERY_MS) return;
    this.#progressAtMs = performance.now();
    this.#request.onProgress({
      compared: this.#compared,
      total: this.#total,
      suspects,
      round: this.#round,
    });
  }
}

function isOnOneSide(found: Difference): found is Difference & { readonly kind: 'missing' | 'extra' } {
  return found.kind === 'missing' || found.kind === 'extra';
}

function isUnchanged(before: Difference | undefined, now: Difference): boolean {
  return (
    before !== undefined &&
    before.kind === now.kind &&
    before.state === now.state &&
    now.expiries.every((at, side) => Math.abs(at - (before.expiries[side] ?? -1)) <= TOLD_AS_REST_MS)
  );
}
