/**
 * What happens to each command of the source's stream (protocol.md 2.3): a table by name, and the rewrites that any target
 * needs; lowering.ts has those for older ones.
 * Pure: no sockets, no clocks. Names come in any case; unknown names pass as they are.
 */
import type { HeldTtls } from './held-ttls.ts';
import { indexOfOption, type Word } from './words.ts';

export type StreamAction =
  /** Goes to the target byte by byte. */
  | 'pass'
  | 'select'
  | 'multi'
  | 'exec'
  /** Passes; the target does not count it among the commands that write (WriteTally). */
  | 'aside'
  /** PING: only counted. */
  | 'consume'
  /** REPLCONF GETACK: counted and answered. */
  | 'replconf'
  | 'publish'
  /** KeyDB's envelope around commands: replay-frames.ts. */
  | 'rreplay'
  /** Replaced by other commands: see rewriteCommand(), and lowering.ts. */
  | 'rewrite'
  /**
   * May set an expiry. Passes; a relative one is followed by PEXPIREAT in the same transaction (absoluteExpiry()), an
   * absolute one is changed in its place where it is held back (expiryWord()). With three words or fewer: `pass`.
   */
  | 'ttl';

const ACTIONS: Readonly<Record<string, StreamAction>> = {
  select: 'select',
  multi: 'multi',
  exec: 'exec',
  ping: 'consume',
  replconf: 'replconf',
  publish: 'publish',
  spublish: 'publish',
  rreplay: 'rreplay',
  expire: 'rewrite',
  pexpire: 'rewrite',
  function: 'rewrite',
  swapdb: 'rewrite',
  setex: 'ttl',
  psetex: 'ttl',
  getex: 'ttl',
  restore: 'ttl',
  'restore-asking': 'ttl',
  // readonly, though it may renew its cached number, and is propagated then; SCRIPT LOAD comes from sources before 7.0
  pfcount: 'aside',
  script: 'aside',
  // verbatim only from sources before 5.0 (protocol.md 2.3): nobody knows what they do to which key
  eval: 'rewrite',
  evalsha: 'rewrite',
};
/**
 * Only where expiries are relative, or held back: from 7.0 on the server itself makes every TTL of SET absolute, so
 * that SET, the commonest, may pass unseen.
 */
const SET_ACTION: StreamAction = 'ttl';
/** What else sets an expiry, or carries one from key to key: only where they are held back. */
const HELD_ACTIONS: Readonly<Record<string, StreamAction>> = {
  expireat: 'rewrite',
  pexpireat: 'rewrite',
  hpexpireat: 'rewrite',
  hsetex: 'rewrite',
  msetex: 'rewrite',
  rename: 'rewrite',
  renamenx: 'rewrite',
  copy: 'rewrite',
  move: 'rewrite',
};

const TABLE_SIZE = 1 << 12;

export class ActionTable {
  readonly #names: (Buffer | undefined)[] = new Array(TABLE_SIZE);
  readonly #actions: StreamAction[] = new Array(TABLE_SIZE).fill('pass');
  #longest = 0;

  /**
   * @param relativeTtls false where the source (>= 7.0) sends absolute ones only
   * @param held true where expiries are held back
   * @param lowered names of commands that lowering.ts has something to do with, or that are left out
   */
  constructor(relativeTtls: boolean, held: boolean, lowered: Iterable<string> = []) {
    const actions = new Map(Object.entries(ACTIONS));
    if (relativeTtls || held) actions.set('set', SET_ACTION);
    if (held) for (const [name, action] of Object.entries(HELD_ACTIONS)) actions.set(name, action);
    for (const name of lowered) {
      const action = actions.get(name);
      if (name === 'set') actions.set(name, SET_ACTION);
      else if (action !== 'ttl' && action !== 'publish') actions.set(name, 'rewrite');
    }
    for (const [name, action] of actions) {
      const bytes = Buffer.from(name, 'latin1');
      this.#longest = Math.max(this.#longest, bytes.length);
      let slot = hash(bytes, 0, bytes.length);
      while (this.#names[slot] !== undefined) slot = (slot + 1) % TABLE_SIZE;
      this.#names[slot] = bytes;
      this.#actions[slot] = action;
    }
  }

  /** The action for the name at buf[start..end). */
  of(buf: Buffer, start: number, end: number): StreamAction {
    if (end - start > this.#longest) return 'pass';
    for (let slot = hash(buf, start, end); ; slot = (slot + 1) % TABLE_SIZE) {
      const name = this.#names[slot];
      if (name === undefined) return 'pass';
      if (sameName(name, buf, start, end)) return this.#actions[slot]!;
    }
  }
}

function hash(buf: Buffer, start: number, end: number): number {
  let value = end - start;
  for (let i = start; i < end; i++) value = (value * 31 + (buf[i]! | 0x20)) & 0xffffff;
  return value % TABLE_SIZE;
}

/** Whether the name at buf[start..end) is `name`, in any case. */
export function sameName(name: Buffer, buf: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = 0; i < name.length; i++) if ((buf[start + i]! | 0x20) !== (name[i]! | 0x20)) return false;
  return true;
}

/** What a rewrite needs to know of its place in the stream. */
export interface RewriteContext {
  /** When the command was received, in ms since the epoch. */
  readonly receivedAtMs: number;
  readonly db: number;
  /** Our own keys, which a SWAPDB would carry away. */
  readonly ownKeys: readonly string[];
  /** Which expiries are held back; null: none is. */
  readonly ttls: HeldTtls | null;
}

/** The commands that replace one of action `rewrite`. */
export function rewriteCommand(words: readonly Buffer[], context: RewriteContext): Word[][] {
  const name = lower(words[0]);
  const { ttls, db } = context;
  switch (name) {
    case 'expire':
    case 'pexpire':
    case 'expireat':
    case 'pexpireat': {
      const amount = Number(lower(words[2]));
      const key = words[1];
      if (words.length < 3 || key === undefined || !Number.isSafeInteger(amount)) return [[...words]];
      const ms = name.startsWith('p') ? amount : amount * 1000;
      const at = Math.max(1, name.endsWith('at') ? ms : context.receivedAtMs + ms);
      if (ttls === null) return [['PEXPIREAT', key, String(at), ...words.slice(3)]];
      // without NX, XX, GT, LT: the source has decided, and what it compared with is another expiry here
      return [['PEXPIREAT', key, String(ttls.hold(db, key, 0, key.length, at))]];
    }
    case 'hpexpireat':
    case 'hsetex':
      return [ttls === null ? [...words] : withFieldExpiry(words, ttls, db)];
    case 'msetex':
      return [ttls === null ? [...words] : withKeyExpiries(words, ttls, db)];
    case 'rename':
    case 'renamenx':
    case 'copy':
    case 'move': {
      const [, key, other] = words;
      if (ttls === null || key === undefined || other === undefined) return [[...words]];
      // COPY source destination [DB n]; MOVE key n
      const option = name === 'copy' ? indexOfOption(words, 'db', 3) : -1;
      const elsewhere = name === 'move' ? other : option < 0 ? undefined : words[option + 1];
      ttls.inherits(elsewhere === undefined ? db : Number(lower(elsewhere)), name === 'move' ? key : other);
      return [[...words]];
    }
    case 'eval':
    case 'evalsha':
      ttls?.movesKeys();
      return [[...words]];
    case 'function':
      // loading a library that exists needs REPLACE; after a retry it does exist
      return lower(words[1]) === 'load' && lower(words[2]) !== 'replace'
        ? [['FUNCTION', 'LOAD', 'REPLACE', ...words.slice(2)]]
        : [[...words]];
    case 'swapdb': {
      ttls?.movesKeys();
      const touchesOurs = words.slice(1).some((word) => lower(word) === '0');
      if (!touchesOurs) return [[...words]];
      return [['SELECT', '0'], ['DEL', ...context.ownKeys], ['SELECT', String(context.db)], [...words]];
    }
    default:
      return [[...words]];
  }
}

/** HPEXPIREAT key ms [NX|XX|GT|LT] FIELDS …, HSETEX key … [PXAT ms] … FIELDS …, their expiry held back where it is near. */
function withFieldExpiry(words: readonly Buffer[], ttls: HeldTtls, db: number): Word[] {
  const fields = indexOfOption(words, 'fields', 2);
  const expires = lower(words[0]) === 'hpexpireat';
  const at = expires ? 2 : 1 + indexOfOption(words.slice(0, fields), 'pxat', 2);
  const key = words[1];
  const atMs = Number(lower(words[at]));
  if (key === undefined || at < 2 || fields < at || !Number.isSafeInteger(atMs)) return [...words];
  const held = String(ttls.holdFields(db, key, 0, key.length, atMs));
  // conditions have been decided by the source, as above
  if (expires) return ['HPEXPIREAT', key, held, ...words.slice(fields)];
  return [...words.slice(0, at), held, ...words.slice(at + 1)];
}

/** MSETEX n key value … [NX|XX] PXAT ms: the expiry is that of all keys. */
function withKeyExpiries(words: readonly Buffer[], ttls: HeldTtls, db: number): Word[] {
  const end = 2 + 2 * Number(lower(words[1]));
  const at = 1 + indexOfOption(words, 'pxat', end);
  const atMs = Number(lower(words[at]));
  if (at < end || !Number.isSafeInteger(atMs)) return [...words];
  let held = atMs;
  for (let i = 2; i < end; i += 2) {
    const key = words[i]!;
    held = ttls.hold(db, key, 0, key.length, atMs);
  }
  return [...words.slice(0, at), String(held), ...words.slice(at + 1)];
}

/** A word of a command, or null where it is too long to be an option or a number. */
export type WordAt = (index: number) => string | null;

/** An absolute expiry that stands in a command. */
export interface ExpiryWord {
  readonly index: number;
  readonly atMs: number;
  /** 1000 where the word counts seconds. */
  readonly unitMs: number;
}

/**
 * Where a command of action `ttl` has an absolute expiry: SET and GETEX with EXAT or PXAT, RESTORE with ABSTTL, which
 * from 7.0 on all have (`relativeTtls` false). null: it has none.
 */
export function expiryWord(
  name: string,
  argumentCount: number,
  word: WordAt,
  relativeTtls: boolean,
): ExpiryWord | null {
  const at = (index: number, unitMs: number): ExpiryWord | null => {
    const text = word(index);
    const amount = text === null || text === '' ? Number.NaN : Number(text);
    return Number.isSafeInteger(amount) && amount > 0 ? { index, atMs: amount * unitMs, unitMs } : null;
  };
  switch (name) {
    case 'restore':
    case 'restore-asking': {
      if (!relativeTtls) return at(2, 1);
      for (let i = 4; i < argumentCount; i++) if (word(i)?.toLowerCase() === 'absttl') return at(2, 1);
      return null;
    }
    case 'set':
    case 'getex': {
      for (let i = name === 'set' ? 3 : 2; i + 1 < argumentCount; i++) {
        const option = word(i)?.toLowerCase();
        if (option === 'exat') return at(i + 1, 1000);
        if (option === 'pxat') return at(i + 1, 1);
      }
      return null;
    }
    default:
      return null;
  }
}

/**
 * The absolute expiry (ms) that a command of action `ttl` means, or null where it sets none relatively.
 * The key is the command's first argument in every case.
 */
export function absoluteExpiry(
  name: string,
  argumentCount: number,
  word: WordAt,
  receivedAtMs: number,
): number | null {
  const from = (text: string | null, unitMs: number): number | null => {
    const amount = text === null || text === '' ? Number.NaN : Number(text);
    return Number.isSafeInteger(amount) ? Math.max(1, receivedAtMs + amount * unitMs) : null;
  };
  switch (name) {
    case 'setex':
      return from(word(2), 1000);
    case 'psetex':
      return from(word(2), 1);
    case 'restore':
    case 'restore-asking': {
      for (let i = 4; i < argumentCount; i++) if (word(i)?.toLowerCase() === 'absttl') return null;
      return word(2) === '0' ? null : from(word(2), 1);
    }
    case 'set':
    case 'getex': {
      for (let i = name === 'set' ? 3 : 2; i + 1 < argumentCount; i++) {
        const option = word(i)?.toLowerCase();
        if (option === 'ex') return from(word(i + 1), 1000);
        if (option === 'px') return from(word(i + 1), 1);
      }
      return null;
    }
    default:
      return null;
  }
}

function lower(word: Buffer | undefined): string {
  return word === undefined ? '' : word.toString('latin1').toLowerCase();
}
