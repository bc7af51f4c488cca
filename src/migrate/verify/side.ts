/**
 * One server of a comparison: what its release can be asked, how its expiries are to be read, and the first questions
 * about each key: its type, its size, when it expires.
 */
import { createHash } from 'node:crypto';
import type { ServerInfo } from '../../client/server-info.ts';
import type { ServerSession } from '../../client/session.ts';
import type { Replies } from '../../resp/reply-batch.ts';
import { HELD_BEFORE_MS, SHIFT_MS } from '../../target/write/held-ttls.ts';
import type { BulkCommand, BulkConnection } from './bulk-connection.ts';
import { type KeyCommand, keyCommand, writeKeyCommand } from './key-command.ts';
import { strings } from './values.ts';

export interface Side {
  readonly connection: BulkConnection;
  readonly info: ServerInfo;
  /**
   * A write feed of ours has its checkpoint here: expiries that it holds back (held-ttls.ts) stand for the true ones.
   * Without a checkpoint such an expiry is wrong, and a difference.
   */
  readonly holdsExpiries: boolean;
}

/** A server with both ways to it: single questions, and many. */
export interface Server {
  readonly session: ServerSession;
  readonly side: Side;
}

/** What is compared, and how strictly. */
export interface Sides {
  readonly source: Side;
  readonly target: Side;
  readonly ttlToleranceMs: number;
  /** Before each question: resolves when the servers are to be asked again (throttle.ts). */
  readonly pace: () => Promise<void>;
  /** Fields of hashes expire on both servers (HPEXPIRETIME), and some do in this database. */
  readonly fieldsExpire: boolean;
}

/** MGET and EXISTS (3.0.3) take any keys in one command; in cluster mode only those of one slot. */
export function takesManyKeys({ info }: Side): boolean {
  return info.atLeast(3, 2) && !info.clusterEnabled;
}

/** The same commands on both sides at once. Throws ReplyError for the first error reply. */
export async function askBoth(
  { source, target, pace }: Sides,
  ...commands: readonly BulkCommand[]
): Promise<readonly [Replies, Replies]> {
  await pace();
  return Promise.all([source.connection.commands(...commands), target.connection.commands(...commands)]);
}

/** What two sides hold, so that it can be told later whether it is still that. */
export function digestOf(...parts: readonly (Buffer | string)[]): string {
  const hash = createHash('sha1');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('base64');
}

const TYPE = keyCommand('TYPE');
/** 4.0. By samples, in constant time, and without touching the key. */
const MEMORY_USAGE: KeyCommand = {
  name: 'MEMORY',
  head: Buffer.from('*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n', 'latin1'),
  tail: Buffer.alloc(0),
};
const STRLEN = keyCommand('STRLEN');
const PEXPIRETIME = keyCommand('PEXPIRETIME');
const PTTL = keyCommand('PTTL');
const REPLIES_PER_KEY = 3;

/** What is known of a number of keys on one side before their values are read. */
export class Heads {
  readonly #side: Side;
  readonly #replies: Replies;
  readonly #nowMs: number;

  private constructor(side: Side, replies: Replies, nowMs: number) {
    this.#side = side;
    this.#replies = replies;
    this.#nowMs = nowMs;
  }

  /** Throws ReplyError where the server does not answer TYPE or PTTL. */
  static async read(side: Side, keys: readonly Buffer[]): Promise<Heads> {
    const { connection, info } = side;
    const size = info.atLeast(4, 0) ? MEMORY_USAGE : STRLEN;
    const expiry = info.atLeast(7, 0) ? PEXPIRETIME : PTTL;
    const replies = await connection.ask(REPLIES_PER_KEY * keys.length + 1, (out) => {
      for (const key of keys) {
        writeKeyCommand(out, TYPE, key);
        writeKeyCommand(out, size, key);
        writeKeyCommand(out, expiry, key);
      }
      // behind them: what is left of a key's time was told a moment before
      out.command('TIME');
    });
    for (let at = 0; at < keys.length; at++) {
      connection.check(replies, REPLIES_PER_KEY * at, 'TYPE');
      connection.check(replies, REPLIES_PER_KEY * at + 2, expiry.name);
    }
    return new Heads(side, replies, timeOf(replies, REPLIES_PER_KEY * keys.length));
  }

  /** `none` where the key does not exist. */
  type(at: number): string {
    return this.#replies.line(REPLIES_PER_KEY * at);
  }

  /** Bytes in memory, roughly; null where the server does not tell (collections before 4.0, or no right to ask). */
  size(at: number): number | null {
    const bytes = this.#replies.integer(REPLIES_PER_KEY * at + 1);
    return Number.isNaN(bytes) ? null : bytes;
  }

  /** Unix time in ms; -1: never. */
  expiresAt(at: number): number {
    const told = this.#replies.integer(REPLIES_PER_KEY * at + 2);
    const absolute = told < 0 || this.#side.info.atLeast(7, 0) ? told : told + this.#nowMs;
    return trueExpiry(this.#side, absolute);
  }
}

/** The reply to TIME as ms. */
export function timeOf(replies: Replies, at: number): number {
  const [seconds = '', micros = ''] = strings(replies.value(at));
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}

/** An expiry as the source has it: one that our write feed holds back is so many years too late. */
export function trueExpiry(side: Side, atMs: number): number {
  const held = side.holdsExpiries && atMs >= SHIFT_MS && atMs < SHIFT_MS + HELD_BEFORE_MS;
  return held ? atMs - SHIFT_MS : atMs;
}

/** Both of two expiries never come, or they come within `toleranceMs` of each other. */
export function isSameExpiry(hereMs: number, thereMs: number, toleranceMs: number): boolean {
  if (hereMs < 0 || thereMs < 0) return hereMs < 0 && thereMs < 0;
  return Math.abs(hereMs - thereMs) <= toleranceMs;
}
