/**
 * Commands of a newer source for an older target (protocol.md 2.4): what each is replaced by, so that the target comes to
 * hold the same. What cannot be expressed there is left out, and told by its kind. stream-rules.ts has done its part
 * before: expiries are absolute, or held. Commands that stand here in no row go as they are; a target that does not know
 * one refuses it, which ends the run. Pure.
 */
import type { Form } from '../../rdb/forms.ts';
import type { HeldTtls } from './held-ttls.ts';
import { FIELD_TTLS_LOST, RESTORE_LOWERINGS } from './lowering-restore.ts';
import { STREAM_LOWERINGS } from './lowering-streams.ts';
import type { CommandForm, MissingForms } from './missing-forms.ts';
import { copyKey, hsetKeepttl, moveElement, setKeepttl, zaddIf } from './own-scripts.ts';
import { indexOfOption, lowerCase, type Word } from './words.ts';

/** Something of the source's stream that an older target has no place for. */
export interface StreamLoss {
  /** In few words for people. */
  readonly what: string;
  /** False where no application's data are less for it: it needs no --allow-loss. */
  readonly matters: boolean;
}

export interface LoweringContext {
  readonly missing: MissingForms;
  /** The forms of values that RESTORE takes on the target. */
  readonly forms: ReadonlySet<Form>;
  /** Which expiries are held back; null: none is. */
  readonly ttls: HeldTtls | null;
  /** In which database the command is. */
  readonly db: number;
  /** Something is left out. Asked again for each command. */
  lose(loss: StreamLoss): void;
  /** The target has no form at all for the value that `key` is to have: it is left out. Asked again for each. */
  lacks(what: string, key: Word): void;
}

/** @returns what to send, in this order; nothing where the command is left out */
export type Lowering = (words: readonly Word[], context: LoweringContext) => Word[][];

/** A command, and the forms of which one must be missing for it to be looked at. */
export type LoweringRow = readonly [name: string, forms: readonly CommandForm[], lowering: Lowering];

const ROWS: readonly LoweringRow[] = [
  ['set', ['setKeepttl', 'setPxat', 'setIfeq'], lowerSet],
  ['msetex', ['msetex'], lowerMsetex],
  // the source has decided on the condition
  ['pexpireat', ['expireFlags'], (words) => [words.slice(0, 3)]],
  ['unlink', ['unlink'], ([, ...keys]) => [['DEL', ...keys]]],
  ['copy', ['copy'], lowerCopy],
  ['lmove', ['lmove'], lowerLmove],
  ['lpop', ['popCount'], (words) => lowerPop(words, (count) => [String(count), '-1'])],
  ['rpop', ['popCount'], (words) => lowerPop(words, (count) => ['0', String(-count - 1)])],
  ['lpushx', ['pushxValues'], ([name, key, ...values]) => values.map((value) => [name!, key!, value])],
  ['rpushx', ['pushxValues'], ([name, key, ...values]) => values.map((value) => [name!, key!, value])],
  ['zadd', ['zaddOptions', 'zaddGt'], lowerZadd],
  // ranks are in the same order, from the lowest score on
  ['zpopmin', ['zpop'], (words) => lowerZpop(words, (count) => ['0', String(count - 1)])],
  ['zpopmax', ['zpop'], (words) => lowerZpop(words, (count) => [String(-count), '-1'])],
  ['hset', ['hsetPairs'], ([, ...rest]) => [['HMSET', ...rest]]],
  ['hsetex', ['hsetex'], lowerHsetex],
  // fields of which the expiry is not known stay until the source deletes them
  ['hpexpireat', ['fieldTtls'], leftOut(FIELD_TTLS_LOST)],
  ['hpersist', ['fieldTtls'], leftOut(FIELD_TTLS_LOST)],
  // HGETDEL key FIELDS n field …
  ['hgetdel', ['hgetdel'], (words) => [['HDEL', words[1]!, ...words.slice(4)]]],
  ['flushall', ['flushAsync', 'flushSync'], lowerFlush],
  ['flushdb', ['flushAsync', 'flushSync'], lowerFlush],
  ['function', ['functions'], leftOut({ what: 'function libraries', matters: true })],
  [
    'spublish',
    ['shardedPublish'],
    leftOut({ what: 'messages on sharded channels (SPUBLISH)', matters: false }),
  ],
  // SCRIPT LOAD goes as it is, SCRIPT FLUSH without ASYNC and SYNC
  ['script', ['flushSync'], (words) => [lowerCase(words[1]) === 'flush' ? words.slice(0, 2) : words.slice()]],
  ...RESTORE_LOWERINGS,
  ...STREAM_LOWERINGS,
];

/**
 * The rows that count where these forms are missing, by name in lower case.
 * @param restores true where values of RESTORE must be looked into, whatever is missing
 */
export function loweringsFor(missing: MissingForms, restores = false): ReadonlyMap<string, Lowering> {
  const rows = ROWS.filter(
    (row) => row[1].some((form) => missing.has(form)) || (restores && RESTORE_LOWERINGS.includes(row)),
  );
  return new Map(rows.map(([name, , lowering]) => [name, lowering]));
}

function leftOut(loss: StreamLoss): Lowering {
  return (_words, context) => {
    context.lose(loss);
    return [];
  };
}

/** SET key value [NX|XX|IFEQ value] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL] */
function lowerSet(words: readonly Word[], { missing }: LoweringContext): Word[][] {
  const [, key, value] = words;
  if (key === undefined || value === undefined) return [words.slice()];
  const kept: Word[] = [];
  let changed = false;
  let atMs: string | null = null;
  let keepsTtl = false;
  for (let i = 3; i < words.length; i++) {
    const option = lowerCase(words[i]);
    const operand = words[i + 1];
    if (option === 'ifeq' && missing.has('setIfeq')) {
      changed = true;
      i++;
    } else if (option === 'keepttl' && missing.has('setKeepttl')) {
      changed = true;
      keepsTtl = true;
    } else if ((option === 'pxat' || option === 'exat') && missing.has('setPxat')) {
      changed = true;
      atMs = msOf(option, operand);
      i++;
    } else {
      kept.push(words[i]!);
    }
  }
  if (!changed) return [words.slice()];
  if (keepsTtl) return [setKeepttl(key, value)];
  // without a condition: it took effect on the source
  const options = kept.filter((word) => !['nx', 'xx', 'get'].includes(lowerCase(word)));
  const set: Word[] = ['SET', key, value, ...options];
  return atMs === null ? [set] : [set, ['PEXPIREAT', key, atMs]];
}

/** An absolute expiry in ms: PXAT's operand as it is, EXAT's counts seconds. */
function msOf(option: string, operand: Word | undefined): string {
  const text = lowerCase(operand);
  return option === 'exat' ? String(Number(text) * 1000) : text;
}

/** MSETEX n key value … [NX|XX] [PXAT ms|KEEPTTL]; the same on Redis 8.4 and Valkey 9.1. */
function lowerMsetex(words: readonly Word[], { missing }: LoweringContext): Word[][] {
  const end = 2 + 2 * Number(lowerCase(words[1]));
  const pairs = words.slice(2, end);
  const pxat = indexOfOption(words, 'pxat', end);
  if (indexOfOption(words, 'keepttl', end) < 0) {
    const keys = pairs.filter((_word, index) => index % 2 === 0);
    const at = pxat < 0 ? null : lowerCase(words[pxat + 1]);
    const expiries = at === null ? [] : keys.map((key) => ['PEXPIREAT', key, at]);
    return [['MSET', ...pairs], ...expiries];
  }
  const sets: Word[][] = [];
  for (let i = 0; i + 1 < pairs.length; i += 2) {
    const [key, value] = [pairs[i]!, pairs[i + 1]!];
    sets.push(missing.has('setKeepttl') ? setKeepttl(key, value) : ['SET', key, value, 'KEEPTTL']);
  }
  return sets;
}

/** COPY source destination [DB n] [REPLACE]; what it replaced on the source goes here as well. */
function lowerCopy(words: readonly Word[]): Word[][] {
  const [, from, to] = words;
  if (from === undefined || to === undefined) return [words.slice()];
  const option = indexOfOption(words, 'db', 3);
  return [copyKey(from, to, option < 0 ? null : (words[option + 1] ?? null))];
}

/** LMOVE source destination LEFT|RIGHT LEFT|RIGHT */
function lowerLmove(words: readonly Word[]): Word[][] {
  const [, from, to] = words;
  if (from === undefined || to === undefined) return [words.slice()];
  const [takes, puts] = [
    lowerCase(words[3]) === 'left' ? 'L' : 'R',
    lowerCase(words[4]) === 'left' ? 'L' : 'R',
  ];
  if (takes === 'R' && puts === 'L') return [['RPOPLPUSH', from, to]];
  return [moveElement(from, to, `${takes}POP`, `${puts}PUSH`)];
}

/** LPOP or RPOP key count: what is left is a range, whatever the list's length. */
function lowerPop(words: readonly Word[], left: (count: number) => Word[]): Word[][] {
  const [, key, count] = words;
  if (key === undefined || count === undefined) return [words.slice()];
  return [['LTRIM', key, ...left(Number(lowerCase(count)))]];
}

/** ZPOPMIN or ZPOPMAX key [count] */
function lowerZpop(words: readonly Word[], ranks: (count: number) => Word[]): Word[][] {
  const count = words.length < 3 ? 1 : Number(lowerCase(words[2]));
  return count === 0 ? [] : [['ZREMRANGEBYRANK', words[1] ?? '', ...ranks(count)]];
}

const ZADD_OPTIONS = ['nx', 'xx', 'gt', 'lt', 'ch', 'incr'];

/** ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member … */
function lowerZadd(words: readonly Word[], { missing }: LoweringContext): Word[][] {
  let at = 2;
  while (ZADD_OPTIONS.includes(lowerCase(words[at]))) at++;
  const options = words.slice(2, at).map(lowerCase);
  const unknown = missing.has('zaddOptions') ? ZADD_OPTIONS : ['gt', 'lt'];
  const key = words[1];
  if (key === undefined || !options.some((option) => unknown.includes(option))) return [words.slice()];
  const conditions = options.filter((option) => option !== 'ch');
  const pairs = words.slice(at);
  return [conditions.length === 0 ? ['ZADD', key, ...pairs] : zaddIf(key, conditions, pairs)];
}

/** HSETEX key [FNX|FXX] [PXAT ms|KEEPTTL] FIELDS n field value …; without an expiry, that of the fields goes. */
function lowerHsetex(words: readonly Word[], context: LoweringContext): Word[][] {
  const { missing } = context;
  const key = words[1];
  const fields = indexOfOption(words, 'fields', 2);
  if (key === undefined || fields < 0) return [words.slice()];
  const options = words.slice(2, fields);
  const pairs = words.slice(fields + 2);
  const names = pairs.filter((_word, index) => index % 2 === 0);
  const set: Word[] = [missing.has('hsetPairs') ? 'HMSET' : 'HSET', key, ...pairs];
  const pxat = indexOfOption(options, 'pxat', 0);
  const keeps = indexOfOption(options, 'keepttl', 0) >= 0;
  if (missing.has('fieldTtls')) {
    if (pxat >= 0) context.lose(FIELD_TTLS_LOST);
    return [set];
  }
  if (keeps) return [hsetKeepttl(key, pairs)];
  if (pxat < 0) return [set];
  return [set, ['HPEXPIREAT', key, options[pxat + 1] ?? '', 'FIELDS', String(names.length), ...names]];
}

/** FLUSHALL and FLUSHDB [ASYNC|SYNC] */
function lowerFlush(words: readonly Word[], { missing }: LoweringContext): Word[][] {
  const knows = lowerCase(words[1]) === 'async' && !missing.has('flushAsync');
  return [knows ? words.slice() : words.slice(0, 1)];
}
