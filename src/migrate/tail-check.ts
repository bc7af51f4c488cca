/**
 * The proof, just before the target is made writable, that the source's last writes arrived: the keys of the last
 * commands of the stream are looked at on both servers. It comes on top of the offsets, which say the same by
 * counting; here the data are asked. Called by cutover.ts while writes on the source stand still.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ReplyError } from '../client/reply-error.ts';
import type { BufferReply, Command, ServerSession } from '../client/session.ts';
import { keyDigest } from '../core/key-digest.ts';
import { commandArguments } from '../resp/arguments.ts';
import { frame, scanCommand } from '../resp/command-frame.ts';

/** A key that one of the last commands wrote, and what to ask of it. */
export interface TailKey {
  readonly db: number;
  readonly key: Buffer;
  /** Read commands whose replies are short whatever the size of the value. One for most keys: each costs time. */
  readonly probes: readonly Command[];
}

export interface TailResult {
  /** Keys that were judged. Not among them: what a server would not answer, and keys about to expire. */
  readonly compared: number;
  readonly different: readonly { readonly db: number; readonly keyDigest: string }[];
  /** The first refusal, e.g. NOPERM for a user who may not read; null where every question was answered. */
  readonly refused: ReplyError | null;
}

const OWN_PREFIX = Buffer.from('redis-cutover:');
/** Commands per wanted key that are looked into: one hot key must not take all the time. */
const LOOK_BACK = 4;
/** Longer keys are not asked for: each is sent several times in the moment that counts. */
const LONGEST_KEY = 1024;
/**
 * What was written is read back where no word of the command was longer: nothing but that can be there now, since no
 * later command wrote the key.
 */
const SHORT_BYTES = 256;
/** Before keys that differ are looked at again. */
const SECOND_LOOK_MS = 5;
/**
 * A key that ends this soon may be gone on one side only: servers expire by their own clocks, and under CLIENT
 * PAUSE a source does not tell its replicas (protocol.md 7).
 */
const EXPIRING_MS = 5_000;

// ---- which keys ------------------------------------------------------------------------------------------

/** No key is their first argument; EVAL and FCALL may name some, but do not say which they write. */
const WITHOUT_KEY =
  /^(ping|replconf|multi|exec|s?publish|script|function|eval(sha)?(_ro)?|fcall(_ro)?|msetex)$/;
/** What was collected before is gone, or elsewhere. */
const OTHER_DATABASES = /^(flushall|flushdb|swapdb)$/;
const ALL_ARE_KEYS = /^(del|unlink)$/;
const EVERY_SECOND_IS_KEY = /^mset(nx)?$/;
const TWO_KEYS = /^(rename(nx)?|copy|smove|b?rpoplpush|b?lmove)$/;
const SECOND_IS_KEY = /^(bitop|xgroup)$/;
/** The value stays: an earlier command says more of it. */
const KEEPS_VALUE = /^(p?expire(at)?|persist)$/;

/**
 * The keys of the last write commands in `stream`, latest first, each once, at most `limit`. Our own keys and those
 * above 1 KiB are left out.
 *
 * @param stream begins at a command outside of a transaction; may end in the middle of one
 * @param db the database that is selected where it begins
 * @throws SourceError `stream-garbage`
 */
export function latestKeys(stream: Buffer, db: number, limit: number): TailKey[] {
  const found = new Map<string, TailKey & { readonly valueKnown: boolean }>();
  /** How many of them are there for their expiry only, as yet. */
  let unknown = 0;
  for (const command of commandsOf(stream, db)
    .slice(-LOOK_BACK * limit)
    .reverse()) {
    if (found.size >= limit && unknown === 0) break;
    const words = commandArguments(stream.subarray(command.start, command.end));
    const name = words[0]!.toString('latin1').toLowerCase();
    const valueKnown = !KEEPS_VALUE.test(name);
    for (const word of keysOf(name, words)) {
      if (word.length > LONGEST_KEY || word.subarray(0, OWN_PREFIX.length).equals(OWN_PREFIX)) continue;
      const id = `${command.db}:${word.toString('latin1')}`;
      const later = found.get(id);
      if (later === undefined ? found.size >= limit : later.valueKnown || !valueKnown) continue;
      if (later !== undefined) unknown--;
      else if (!valueKnown) unknown++;
      found.set(id, { db: command.db, ...questionsFor(name, words, word), valueKnown });
    }
  }
  return [...found.values()].map(({ db, key, probes }) => ({ db, key, probes }));
}

interface PlacedCommand {
  readonly db: number;
  readonly start: number;
  readonly end: number;
}

/** Every complete command behind the last change of whole databases. */
function commandsOf(stream: Buffer, db: number): PlacedCommand[] {
  const commands: PlacedCommand[] = [];
  let selected = db;
  for (let start = 0; ; ) {
    const end = scanCommand(stream, start, stream.length, 0);
    if (end < 0) return commands;
    const { nameStart, nameEnd, argumentCount } = frame;
    // names of other lengths, most by far, need not be read
    const isCandidate = nameEnd - nameStart >= 'select'.length && nameEnd - nameStart <= 'flushall'.length;
    const name = isCandidate ? stream.toString('latin1', nameStart, nameEnd).toLowerCase() : '';
    if (name === 'select') {
      selected = Number(commandArguments(stream.subarray(start, end))[1]?.toString('latin1'));
    } else if (OTHER_DATABASES.test(name)) {
      commands.length = 0;
    } else if (argumentCount > 1) {
      commands.push({ db: selected, start, end });
    }
    start = end;
  }
}

function keysOf(name: string, words: readonly Buffer[]): readonly Buffer[] {
  if (WITHOUT_KEY.test(name)) return [];
  if (ALL_ARE_KEYS.test(name)) return words.slice(1);
  if (EVERY_SECOND_IS_KEY.test(name)) return words.filter((_word, index) => index % 2 === 1);
  if (SECOND_IS_KEY.test(name)) return words.slice(2, 3);
  // COPY … DB n: the copy lies in another database
  if (TWO_KEYS.test(name) && !(name === 'copy' && words.length > 4)) return words.slice(1, 3);
  return words.slice(1, 2);
}

// ---- what to ask -----------------------------------------------------------------------------------------

/**
 * What to ask of a key after this command wrote it: what was written, where that is short, else sizes and ends of the
 * value. Another type is answered with WRONGTYPE. Never HLEN: it counts fields whose time is over until the server
 * comes by, each side at its own moment (Redis 7.4, Valkey 9.0).
 */
function questionsFor(name: string, words: readonly Buffer[], word: Buffer): Pick<TailKey, 'key' | 'probes'> {
  // a copy: the stream's memory is used again
  const key = Buffer.from(word);
  const isShort = words.every((each) => each.length <= SHORT_BYTES);
  const second = Buffer.from(words[2] ?? '');
  const last = Buffer.from(isShort ? (words.at(-1) ?? '') : '');
  const probesOf = (): readonly Command[] => {
    // gone now, or as it was before; of HyperLogLogs the bytes depend on hll-sparse-max-bytes
    if (KEEPS_VALUE.test(name) || /^(del|unlink|getdel|move|pf.*)$/.test(name)) return [['TYPE', key]];
    // a byte more than could be written shows a longer value, too
    if (/^(m?set(nx|ex)?|psetex|getset|(incr|decr)(by)?)$/.test(name) && isShort) {
      return [['GETRANGE', key, 0, SHORT_BYTES]];
    }
    if (
      /^(m?set(nx|ex)?|psetex|getset|getex|append|incrbyfloat|setrange|setbit|bitfield|bitop)$/.test(name)
    ) {
      return stringProbes(key);
    }
    if (/^(hset(nx)?|hmset|hincrby|hdel)$/.test(name) && second.length <= SHORT_BYTES) {
      return [[isShort ? 'HGET' : 'HEXISTS', key, second]];
    }
    if (/^(sadd|srem)$/.test(name) && isShort) return [['SISMEMBER', key, last]];
    if (/^(sadd|srem|spop|smove|s(inter|union|diff)store)$/.test(name)) return [['SCARD', key]];
    if (/^(zadd|zincrby|zrem|geoadd)$/.test(name) && isShort) return [['ZSCORE', key, last]];
    if (/^z/.test(name)) return [['ZCARD', key]];
    if (/^[lr]pushx?$/.test(name) && isShort) {
      return [
        ['LLEN', key],
        ['LINDEX', key, name.startsWith('l') ? 0 : -1],
      ];
    }
    if (/^b?[lr](push|pushx|pop|set|trim|rem|insert|move|poplpush)$/.test(name)) return [['LLEN', key]];
    if (name === 'xadd' && isShort) return [['XREVRANGE', key, '+', '-', 'COUNT', 1]];
    if (name.startsWith('x')) return [['XLEN', key]];
    // of any type, or none
    return [['TYPE', key], ...stringProbes(key), ['LLEN', key], ['SCARD', key], ['ZCARD', key]];
  };
  return { key, probes: probesOf() };
}

function stringProbes(key: Buffer): readonly Command[] {
  return [
    ['STRLEN', key],
    ['GETRANGE', key, 0, SHORT_BYTES - 1],
    ['GETRANGE', key, -SHORT_BYTES, -1],
  ];
}

// ---- the comparison --------------------------------------------------------------------------------------

/**
 * Looks at the keys on both servers at the same time, one round trip to each; at those that differ, once more after
 * 5 ms. Sends read commands only (see questionsFor, and PTTL), leaves both sessions in database 0, and does not
 * compare times to live. What a server refuses (NOPERM, NOAUTH, an unknown database) is no difference, see `refused`.
 *
 * @param types those of which a key may be, as TYPE names them: another one on the source was left out, and is not
 *   judged; null: every key is
 * @throws SourceError, TargetError with recovery `reconnect` where a connection broke
 */
export async function compareTail(
  source: ServerSession,
  target: ServerSession,
  keys: readonly TailKey[],
  types: ReadonlySet<string> | null = null,
): Promise<TailResult> {
  const first = await look(source, target, keys);
  if (first.different.length === 0) {
    return { compared: first.equal, different: [], refused: first.refused };
  }
  await delay(SECOND_LOOK_MS);
  const second = await look(source, target, first.different, { again: true, types });
  return {
    compared: first.equal + second.equal + second.different.length,
    different: second.different.map(({ db, key }) => ({ db, keyDigest: keyDigest(key) })),
    refused: first.refused ?? second.refused,
  };
}

interface Look {
  readonly equal: number;
  readonly different: readonly TailKey[];
  readonly refused: ReplyError | null;
}

async function look(
  source: ServerSession,
  target: ServerSession,
  keys: readonly TailKey[],
  {
    again = false,
    types = null,
  }: { readonly again?: boolean; readonly types?: ReadonlySet<string> | null } = {},
): Promise<Look> {
  const { commands, questions } = ask(keys, again);
  if (commands.length === 0) return { equal: 0, different: [], refused: null };
  const [onSource, onTarget] = await Promise.all([source.pipeline(commands), target.pipeline(commands)]);
  const different: TailKey[] = [];
  let equal = 0;
  let refused: ReplyError | null = null;
  for (const { key, select, first, end } of questions) {
    const answers = [select, ...range(first, end)]
      .filter((at) => at !== null)
      .map((at) => ({ name: commands[at]![0], left: onSource[at] ?? null, right: onTarget[at] ?? null }));
    const refusal = answers.flatMap(({ left, right }) => [left, right]).find(isRefusal);
    if (refusal !== undefined) {
      refused ??= refusal;
    } else if (answers.every(({ name, left, right }) => name === 'PTTL' || isSame(name, left, right))) {
      equal++;
    } else if (
      !answers.some(
        ({ name, left, right }) =>
          (name === 'PTTL' && (expires(left) || expires(right))) ||
          (name === 'TYPE' && types !== null && !types.has(String(left))),
      )
    ) {
      different.push(key);
    }
  }
  return { equal, different, refused };
}

interface Question {
  readonly key: TailKey;
  /** Where the SELECT before it lies among the commands; null: the sessions' own database 0. */
  readonly select: number | null;
  readonly first: number;
  readonly end: number;
}

/**
 * The questions of all keys, database by database, and back to 0, where the other users of the session are.
 * @param again also what tells why keys may differ: their time to live, their type
 */
function ask(keys: readonly TailKey[], again: boolean): { commands: Command[]; questions: Question[] } {
  const commands: Command[] = [];
  const questions: Question[] = [];
  let selected = 0;
  let select: number | null = null;
  for (const key of keys.toSorted((a, b) => a.db - b.db)) {
    if (key.db !== selected) {
      selected = key.db;
      select = commands.push(['SELECT', key.db]) - 1;
    }
    const first = commands.length;
    commands.push(...key.probes);
    if (again) commands.push(['PTTL', key.key], ['TYPE', key.key]);
    questions.push({ key, select, first, end: commands.length });
  }
  if (selected !== 0) commands.push(['SELECT', 0]);
  return { commands, questions };
}

function range(from: number, end: number): number[] {
  return Array.from({ length: end - from }, (_none, index) => from + index);
}

function isRefusal(reply: BufferReply): reply is ReplyError {
  return reply instanceof ReplyError && reply.prefix !== 'WRONGTYPE';
}

function expires(timeToLive: BufferReply): boolean {
  return typeof timeToLive === 'number' && timeToLive >= 0 && timeToLive < EXPIRING_MS;
}

/** Releases write the same score with another number of digits. */
function isSame(command: string, left: BufferReply, right: BufferReply): boolean {
  if (Buffer.isBuffer(left) && Buffer.isBuffer(right)) {
    return left.equals(right) || (command === 'ZSCORE' && Number(left) === Number(right));
  }
  if (left instanceof ReplyError) return right instanceof ReplyError;
  if (Array.isArray(left) && Array.isArray(right)) {
    return left.length === right.length && left.every((item, at) => isSame(command, item, right[at]!));
  }
  return left === right;
}
