/**
 * What happens to each command of the source's stream (protocol.md 2.3): a table by name, and the rewrites.
 * Pure: no sockets, no clocks. Names come in any case; unknown names pass as they are.
 */

export type StreamAction =
  /** Goes to the target byte by byte. */
  | 'pass'
  | 'select'
  | 'multi'
  | 'exec'
  /** PING: only counted. */
  | 'consume'
  /** REPLCONF GETACK: counted and answered. */
  | 'replconf'
  | 'publish'
  /** Replaced by other commands: see rewriteCommand(). */
  | 'rewrite'
  /** Passes; where it sets a relative TTL, PEXPIREAT follows in the same transaction: see absoluteExpiry(). */
  | 'relative-ttl';

const ACTIONS: Readonly<Record<string, StreamAction>> = {
  select: 'select',
  multi: 'multi',
  exec: 'exec',
  ping: 'consume',
  replconf: 'replconf',
  publish: 'publish',
  spublish: 'publish',
  expire: 'rewrite',
  pexpire: 'rewrite',
  function: 'rewrite',
  swapdb: 'rewrite',
  setex: 'relative-ttl',
  psetex: 'relative-ttl',
  getex: 'relative-ttl',
  restore: 'relative-ttl',
  'restore-asking': 'relative-ttl',
};
/** From 7.0 on the server itself makes every TTL of SET absolute, so there SET may pass unseen: it is the commonest. */
const SET_ACTION: StreamAction = 'relative-ttl';

const LONGEST_NAME = 14;
const TABLE_SIZE = 1 << 12;

export class ActionTable {
  readonly #names: (Buffer | undefined)[] = new Array(TABLE_SIZE);
  readonly #actions: StreamAction[] = new Array(TABLE_SIZE).fill('pass');

  /** @param relativeTtls false where the source (>= 7.0) sends absolute ones only */
  constructor(relativeTtls: boolean) {
    const entries = Object.entries(ACTIONS);
    if (relativeTtls) entries.push(['set', SET_ACTION]);
    for (const [name, action] of entries) {
      const bytes = Buffer.from(name, 'latin1');
      let slot = hash(bytes, 0, bytes.length);
      while (this.#names[slot] !== undefined) slot = (slot + 1) % TABLE_SIZE;
      this.#names[slot] = bytes;
      this.#actions[slot] = action;
    }
  }

  /** The action for the name at buf[start..end). */
  of(buf: Buffer, start: number, end: number): StreamAction {
    if (end - start > LONGEST_NAME) return 'pass';
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

type Word = string | Buffer;

/** What a rewrite needs to know of its place in the stream. */
export interface RewriteContext {
  /** When the command was received, in ms since the epoch. */
  readonly receivedAtMs: number;
  readonly db: number;
  /** Our own keys, which a SWAPDB would carry away. */
  readonly ownKeys: readonly string[];
}

/** The commands that replace one of action `rewrite`. */
export function rewriteCommand(words: readonly Buffer[], context: RewriteContext): Word[][] {
  const name = lower(words[0]);
  switch (name) {
    case 'expire':
    case 'pexpire': {
      const amount = Number(lower(words[2]));
      if (words.length < 3 || !Number.isSafeInteger(amount)) return [[...words]];
      const at = context.receivedAtMs + (name === 'expire' ? amount * 1000 : amount);
      return [['PEXPIREAT', words[1]!, String(Math.max(1, at)), ...words.slice(3)]];
    }
    case 'function':
      // loading a library that exists needs REPLACE; after a retry it does exist
      return lower(words[1]) === 'load' && lower(words[2]) !== 'replace'
        ? [['FUNCTION', 'LOAD', 'REPLACE', ...words.slice(2)]]
        : [[...words]];
    case 'swapdb': {
      const touchesOurs = words.slice(1).some((word) => lower(word) === '0');
      if (!touchesOurs) return [[...words]];
      return [['SELECT', '0'], ['DEL', ...context.ownKeys], ['SELECT', String(context.db)], [...words]];
    }
    default:
      return [[...words]];
  }
}

/** A word of a command, or null where it is too long to be an option or a number. */
export type WordAt = (index: number) => string | null;

/**
 * The absolute expiry (ms) that a command of action `relative-ttl` means, or null where it sets none relatively.
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
