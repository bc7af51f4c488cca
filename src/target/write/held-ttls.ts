/**
 * Keys that must not die on the target before the source has had its say. A target expires keys by its own clock; one
 * whose TTL the source has renewed, or in which it goes on counting, may be gone there before the command that says so
 * arrives (protocol.md 2.3). So an expiry that is due soon is sent SHIFT_MS later than it is, as long as the target only
 * follows; before applications write to it, migrate/expiry.ts gives all keys their true ones. Such an expiry is recognised by
 * itself: no crash, no days between a quit and a resume, and no target that comes back with older data can make it
 * pass for a true one.
 *
 * The writers ask what to send, one question for each expiry.
 */
import path from 'node:path';
import { earliestFieldExpiry, laterFromListpack, laterHead } from '../../rdb/field-ttls.ts';
import { FORM, type Form } from '../../rdb/forms.ts';
import { KeyLog } from './key-log.ts';

/**
 * More than a thousand years; whole seconds, for EXAT. With HELD_BEFORE_MS it makes the window in which an expiry counts
 * as held, years 3241 to 3471: nobody's "forever" lies there (9999999999 s, years 3000 and 9999). Field expiries of
 * hashes may be as late as 2^46 ms (run on Redis 7.4 and 8.2), those of keys later still.
 */
export const SHIFT_MS = 40_123_456_789_000;
/** Expiries from the year 2200 on are true at once: nobody will miss them while a pair is synced. */
export const HELD_BEFORE_MS = 7_260_000_000_000;

/**
 * What a snapshot brings is held where it is due within this; the rest is true at once, and most snapshots need no look at
 * all their keys when they are through. Long against a usual copy: in one that takes half of it, migrate/expiry.ts looks.
 */
export const COPY_HORIZON_MS = 3_600_000;

type Holding =
  /** Every expiry: as long as nobody has looked at what the target holds from before. */
  | { readonly kind: 'all' }
  /** Those that are due within `withinMs`: while a snapshot is loaded. */
  | { readonly kind: 'copy'; readonly withinMs: number }
  /** Those that are due within `withinMs`: while the target follows. */
  | { readonly kind: 'soon'; readonly withinMs: number }
  /** Those that are due within `withinMs`, and their keys are noted: the others are being set right meanwhile. */
  | { readonly kind: 'near'; readonly withinMs: number }
  /** None: applications are about to write to the target, or do so. */
  | { readonly kind: 'none' };

export interface NotedPage {
  /** `hashes`: it is their fields that expire. */
  readonly kind: 'keys' | 'hashes';
  readonly db: number;
  readonly keys: readonly Buffer[];
}

export class HeldTtls {
  readonly #dir: string;
  readonly #now: () => number;
  #lists = 0;
  #noted: { readonly keys: KeyLog; readonly hashes: KeyLog };
  #holding: Holding = { kind: 'all' };
  /** True where SWAPDB or a script has moved keys about while they were being set right: all must be looked at again. */
  moved = false;

  /** @param dir for the lists of noted keys, as far as they do not fit into memory */
  constructor(dir: string, now: () => number = Date.now) {
    this.#dir = dir;
    this.#now = now;
    this.#noted = this.#emptyLists();
  }

  /** True where keys may be held that are not due soon: what a copy has held, or a target that came back with older data. */
  lookDue = true;

  /** False where nothing that the target has is held: no need to look for it. */
  holdsSome = true;

  /**
   * A snapshot is loaded.
   * @param ontoOthers true where the target holds keys already, of which nobody knows
   */
  beginCopy(withinMs: number, ontoOthers = false): void {
    this.#holding = { kind: 'copy', withinMs };
    this.lookDue = ontoOthers;
    this.holdsSome = ontoOthers;
    this.forget();
  }

  /** True from beginCopy() on, until something else is to be held. */
  get copying(): boolean {
    return this.#holding.kind === 'copy';
  }

  /** The target is another process, maybe with older data. */
  cameBack(): void {
    this.lookDue = true;
    this.holdsSome = true;
    this.movesKeys();
  }

  holdSoon(withinMs: number): void {
    this.#holding = { kind: 'soon', withinMs };
    this.lookDue = false;
    this.forget();
  }

  holdNear(withinMs: number): void {
    this.#holding = { kind: 'near', withinMs };
  }

  holdNone(): void {
    this.#holding = { kind: 'none' };
    this.forget();
  }

  /** What to send as the expiry of this key: `atMs`, or a later one. */
  hold(db: number, key: Buffer, start: number, end: number, atMs: number): number {
    return this.#held(this.#noted.keys, db, key, start, end, atMs);
  }

  /** The same for fields of a hash; `atMs`: the earliest of them. */
  holdFields(db: number, key: Buffer, start: number, end: number, atMs: number): number {
    return this.#held(this.#noted.hashes, db, key, start, end, atMs);
  }

  /** A key whose expiries stay held for the moment. */
  note(kind: NotedPage['kind'], db: number, key: Buffer): void {
    this.#noted[kind].add(db, key, 0, key.length);
  }

  /** A key that may have taken over the expiry of another (RENAME, COPY, MOVE). */
  inherits(db: number, key: Buffer): void {
    if (this.#holding.kind !== 'near') return;
    this.note('keys', db, key);
    this.note('hashes', db, key);
  }

  /** Keys that are not named are moved about (SWAPDB, a script). */
  movesKeys(): void {
    if (this.#holding.kind === 'near') this.moved = true;
  }

  /** How many keys are noted, each as often as it came. */
  get noted(): number {
    return this.#noted.keys.count + this.#noted.hashes.count;
  }

  /** Hands out the keys noted until now, at most `size` a page; a key that is noted from now on comes the next time. */
  *take(size: number): Generator<NotedPage> {
    const taken = this.#noted;
    this.#noted = this.#emptyLists();
    try {
      for (const kind of ['keys', 'hashes'] as const) {
        for (const page of taken[kind].pages(size)) yield { kind, ...page };
      }
    } finally {
      taken.keys.clear();
      taken.hashes.clear();
    }
  }

  /** Nothing is noted any more: the keys were set right, or are held like all others. */
  forget(): void {
    this.moved = false;
    this.#noted.keys.clear();
    this.#noted.hashes.clear();
  }

  #held(noted: KeyLog, db: number, key: Buffer, start: number, end: number, atMs: number): number {
    const holding = this.#holding;
    if (atMs < 0 || atMs >= HELD_BEFORE_MS || holding.kind === 'none') return atMs;
    if (holding.kind !== 'all' && atMs >= this.#now() + holding.withinMs) return atMs;
    if (holding.kind === 'near') noted.add(db, key, start, end);
    if (holding.kind === 'copy') this.lookDue = true;
    this.holdsSome = true;
    return atMs + SHIFT_MS;
  }

  #emptyLists(): { readonly keys: KeyLog; readonly hashes: KeyLog } {
    const log = (kind: NotedPage['kind']) =>
      new KeyLog(path.join(this.#dir, `expiring-${kind}-${this.#lists}`));
    this.#lists++;
    return { keys: log('keys'), hashes: log('hashes') };
  }
}

/** Whose value it is: the key is `key[keyStart..keyEnd)`. */
interface Owner {
  readonly db: number;
  readonly key: Buffer;
  readonly keyStart: number;
  readonly keyEnd: number;
}

/**
 * The value `buf[start..end)`, all its fields expiring later where the first of them does so too soon; null: it goes as it
 * is, as does every value that is no hash of Redis with such fields.
 * @param offset RDB offset of `buf[start]`, for errors
 * @throws RdbFormatError where it is damaged
 */
export function heldHash(
  ttls: HeldTtls,
  form: Form,
  { db, key, keyStart, keyEnd }: Owner,
  buf: Buffer,
  start: number,
  end: number,
  offset: number,
): { readonly form: Form; readonly value: Buffer } | null {
  if (form !== FORM.hashTtls && form !== FORM.hashTtlsListpack) return null;
  const atMs = earliestFieldExpiry(buf, start, offset);
  if (ttls.holdFields(db, key, keyStart, keyEnd, atMs) === atMs) return null;
  if (form === FORM.hashTtlsListpack) {
    return { form: FORM.hashTtls, value: laterFromListpack(buf, start, end, offset, SHIFT_MS) };
  }
  const value = Buffer.from(buf.subarray(start, end));
  laterHead(atMs, SHIFT_MS).copy(value);
  return { form, value };
}
