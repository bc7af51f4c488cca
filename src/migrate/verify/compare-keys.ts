/**
 * Compares some keys of one database on two servers: first type, size and expiry of all of them, then small values in a
 * few large requests, then, a few at a time, what is large (pieces.ts) and streams (streams.ts). Both sides are
 * read at the same time.
 */
import { randomUUID } from 'node:crypto';
import { ReplyError } from '../../client/reply-error.ts';
import type { Replies, ReplyValue } from '../../resp/reply-batch.ts';
import { differsInFieldExpiry } from './field-expiry.ts';
import { keyCommand, writeKeyCommand, writeManyKeys } from './key-command.ts';
import { compareInPieces } from './pieces.ts';
import { digestOf, Heads, isSameExpiry, type Side, type Sides, takesManyKeys } from './side.ts';
import { compareStreams } from './streams.ts';
import { isSameValue, readCommand } from './values.ts';

export type DifferenceKind = 'missing' | 'extra' | 'type' | 'value' | 'expiry' | 'field-expiry';

/** What was found about one key in one look. */
export interface Difference {
  readonly key: Buffer;
  readonly kind: DifferenceKind;
  /** On the source; on the target where the source has none. */
  readonly type: string;
  /** The same in another look where neither side has changed since. Holds no value. */
  readonly state: string;
  /** Expiries of both sides, Unix ms, -1: none. Where they are told as what is left, they are true to a few ms. */
  readonly expiries: readonly [number, number];
}

export interface Look {
  /** For each key whether both sides have it. */
  readonly onBoth: readonly boolean[];
  readonly different: readonly Difference[];
}

/** Larger values are read in pieces. */
const SMALL_BYTES = 32 * 1024;
/** Values are read in requests of about so many bytes. */
const REQUEST_BYTES = 1 << 20;
/** Values looked at in several steps at a time: of small ones as many as fill a write, of large ones what memory bears. */
const SMALL_AT_ONCE = 128;
const LARGE_AT_ONCE = 16;

/** Throws ReplyError where a server refuses a question, SourceError or TargetError where a connection breaks. */
export async function compareKeys(sides: Sides, keys: readonly Buffer[]): Promise<Look> {
  const [here, there] = await Promise.all([Heads.read(sides.source, keys), Heads.read(sides.target, keys)]);
  return new Page(sides, keys, here, there).look();
}

/** The keys of one look; they go by their place among all of them. */
class Page {
  readonly #sides: Sides;
  readonly #keys: readonly Buffer[];
  readonly #here: Heads;
  readonly #there: Heads;
  readonly #different: Difference[] = [];
  /** Their values are the same. */
  readonly #equal: number[] = [];

  constructor(sides: Sides, keys: readonly Buffer[], here: Heads, there: Heads) {
    this.#sides = sides;
    this.#keys = keys;
    this.#here = here;
    this.#there = there;
  }

  async look(): Promise<Look> {
    const [here, there] = [this.#here, this.#there];
    const onBoth: boolean[] = [];
    const onOne: number[] = [];
    const small: number[] = [];
    const streams: number[] = [];
    const large: number[] = [];
    for (let at = 0; at < this.#keys.length; at++) {
      const [type, other] = [here.type(at), there.type(at)];
      onBoth.push(type !== 'none' && other !== 'none');
      if (type === 'none' || other === 'none') {
        // on none: it has expired, or was deleted, since it was found
        if (type !== other) onOne.push(at);
      } else if (type !== other) {
        this.#differs(at, 'type', '');
      } else if (!isSmall(here, there, at)) {
        large.push(at);
      } else if (type === 'stream') {
        streams.push(at);
      } else {
        small.push(at);
      }
    }
    for (const request of requests(small, here)) await this.#compareSmall(request);
    await eachOf(streams, SMALL_AT_ONCE, (at) => this.#compareInPieces(at));
    await eachOf(large, LARGE_AT_ONCE, (at) => this.#compareInPieces(at));
    await this.#compareExpiries();
    await eachOf(onOne, SMALL_AT_ONCE, (at) => this.#lookAtAlone(at));
    return { onBoth, different: this.#different };
  }

  async #compareSmall(request: readonly number[]): Promise<void> {
    const { source, target } = this.#sides;
    const isString = (at: number): boolean => this.#here.type(at) === 'string';
    if (!takesManyKeys(source) || !takesManyKeys(target)) {
      await this.#compareOneByOne(request);
      return;
    }
    const [unsure] = await Promise.all([
      this.#compareTogether(request.filter(isString)),
      this.#compareOneByOne(request.filter((at) => !isString(at))),
    ]);
    await this.#compareOneByOne(unsure);
  }

  /**
   * Strings, by one command for all of them: most of what servers hold.
   *
   * @returns those that are to be looked at by themselves: MGET is silent about keys that are gone, or strings no more
   */
  async #compareTogether(strings: readonly number[]): Promise<readonly number[]> {
    if (strings.length === 0) return [];
    const read = async ({ connection }: Side): Promise<Replies> => {
      const replies = await connection.ask(1, (out) =>
        writeManyKeys(
          out,
          'MGET',
          strings.map((at) => this.#keys[at]!),
        ),
      );
      connection.check(replies, 0, 'MGET');
      return replies;
    };
    const { source, target } = this.#sides;
    const [left, right] = await Promise.all([read(source), read(target)]);
    if (left.isSame(0, right) && !left.mayHoldNull(0)) {
      this.#equal.push(...strings);
      return [];
    }
    const [here, there] = [left.value(0), right.value(0)] as readonly (readonly ReplyValue[])[];
    return strings.filter((at, index) => {
      const [value, other] = [here?.[index], there?.[index]];
      const isSame = Buffer.isBuffer(value) && Buffer.isBuffer(other) && value.equals(other);
      if (isSame) this.#equal.push(at);
      return !isSame;
    });
  }

  async #compareOneByOne(request: readonly number[]): Promise<void> {
    const read = ({ connection }: Side): Promise<Replies> =>
      connection.ask(request.length, (out) => {
        for (const at of request) writeKeyCommand(out, readCommand(this.#here.type(at)), this.#keys[at]!);
      });
    const { source, target } = this.#sides;
    const [left, right] = await Promise.all([read(source), read(target)]);
    for (const [index, at] of request.entries()) {
      if (left.error(index) === null && left.isSame(index, right)) {
        this.#equal.push(at);
        continue;
      }
      const type = this.#here.type(at);
      const state = await whileItStays(() => {
        source.connection.check(left, index, readCommand(type).name);
        target.connection.check(right, index, readCommand(type).name);
        if (isSameValue(type, left.value(index), right.value(index))) return null;
        return digestOf(left.raw(index), right.raw(index));
      });
      this.#judgeValue(at, state);
    }
  }

  async #compareInPieces(at: number): Promise<void> {
    const [key, type, size] = [this.#keys[at]!, this.#here.type(at), this.#here.size(at)];
    const state = await whileItStays(() =>
      type === 'stream'
        ? compareStreams(this.#sides, key, size)
        : compareInPieces(this.#sides, key, type, size),
    );
    this.#judgeValue(at, state);
  }

  /** Of keys whose values are the same. */
  async #compareExpiries(): Promise<void> {
    const { ttlToleranceMs, fieldsExpire } = this.#sides;
    const hashes: number[] = [];
    for (const at of this.#equal) {
      const isSame = isSameExpiry(this.#here.expiresAt(at), this.#there.expiresAt(at), ttlToleranceMs);
      if (!isSame) this.#differs(at, 'expiry', '');
      else if (fieldsExpire && this.#here.type(at) === 'hash') hashes.push(at);
    }
    await eachOf(hashes, SMALL_AT_ONCE, async (at) => {
      const state = await whileItStays(() => differsInFieldExpiry(this.#sides, this.#keys[at]!));
      if (state !== null) this.#differs(at, 'field-expiry', state);
    });
  }

  async #lookAtAlone(at: number): Promise<void> {
    const isMissing = this.#there.type(at) === 'none';
    const [side, heads] = isMissing ? [this.#sides.source, this.#here] : [this.#sides.target, this.#there];
    const state = await whileItStays(() => stateAlone(side, this.#keys[at]!, heads.type(at), heads.size(at)));
    this.#differs(at, isMissing ? 'missing' : 'extra', state ?? '');
  }

  #judgeValue(at: number, state: string | null): void {
    if (state === null) this.#equal.push(at);
    else this.#differs(at, 'value', state);
  }

  #differs(at: number, kind: DifferenceKind, state: string): void {
    const [type, other] = [this.#here.type(at), this.#there.type(at)];
    this.#different.push({
      key: this.#keys[at]!,
      kind,
      type: type === 'none' ? other : type,
      state: `${type} ${other} ${state}`,
      expiries: [this.#here.expiresAt(at), this.#there.expiresAt(at)],
    });
  }
}

function isSmall(here: Heads, there: Heads, at: number): boolean {
  const [size, other] = [here.size(at), there.size(at)];
  return size !== null && other !== null && size <= SMALL_BYTES && other <= SMALL_BYTES;
}

/** Small keys in groups of about REQUEST_BYTES. */
function* requests(small: readonly number[], heads: Heads): Generator<readonly number[]> {
  let bytes = 0;
  let from = 0;
  for (const [index, at] of small.entries()) {
    bytes += heads.size(at) ?? 0;
    if (bytes < REQUEST_BYTES && index < small.length - 1) continue;
    yield small.slice(from, index + 1);
    from = index + 1;
    bytes = 0;
  }
}

const STREAM_END = keyCommand('XREVRANGE', '+', '-', 'COUNT', '1');

/** Something that changes with a key that only one side has: its value where it is small, else its size. */
async function stateAlone(side: Side, key: Buffer, type: string, size: number | null): Promise<string> {
  if (size === null || size > SMALL_BYTES) return String(size);
  const command = type === 'stream' ? STREAM_END : readCommand(type);
  const replies = await side.connection.ask(1, (out) => writeKeyCommand(out, command, key));
  side.connection.check(replies, 0, command.name);
  return digestOf(replies.raw(0));
}

/**
 * `work` on a key that may be deleted meanwhile, or become one of another type: the state is then one that no other look
 * gives.
 */
async function whileItStays(work: () => string | null | Promise<string | null>): Promise<string | null> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    // a stream that is gone is ERR to XINFO, and nothing else that we ask of one is
    const gone = error.command.startsWith('X') && (error.prefix === 'ERR' || error.prefix === 'NOGROUP');
    if (!gone && error.prefix !== 'WRONGTYPE') throw error;
    return randomUUID();
  }
}

/** Does `work` for all of them, `atOnce` at a time. */
async function eachOf<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const lane = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, lane));
}
