/**
 * Which keys a command of the source's stream may make on the target: for written-keys.ts. Most are where the target's
 * own COMMAND says; what it cannot say, or says of keys that are only read, stands in a table here (protocol.md 2.2,
 * 2.3). Commands that only take away (DEL, LPOP …) may be listed or not: their keys were written before.
 */
import { commandArguments } from '../../resp/arguments.ts';
import { frame, scanArgument } from '../../resp/command-frame.ts';
import type { WrittenKeys } from './written-keys.ts';

/** Keys at words first, first + step … last; a negative last counts from the end. The command's name is word 0. */
export interface KeyRange {
  readonly kind: 'range';
  readonly first: number;
  readonly last: number;
  readonly step: number;
}

type Rule =
  | KeyRange
  | { readonly kind: 'none' }
  /** The command must be looked into. */
  | {
      readonly kind: 'words';
      readonly note: (words: readonly Buffer[], db: number, keys: WrittenKeys) => void;
    }
  /** Nobody can say which keys. */
  | { readonly kind: 'lost' };

const NONE: Rule = { kind: 'none' };
const LOST: Rule = { kind: 'lost' };
/** The destination alone: the other keys are read. */
const FIRST: Rule = { kind: 'range', first: 1, last: 1, step: 1 };
const SECOND: Rule = { kind: 'range', first: 2, last: 2, step: 1 };

const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ...['del', 'unlink', 'flushall', 'flushdb', 'xreadgroup'].map((name) => [name, NONE] as const),
  ...['sdiffstore', 'sinterstore', 'sunionstore', 'zdiffstore', 'zinterstore', 'zunionstore'].map(
    (name) => [name, FIRST] as const,
  ),
  ...['pfmerge', 'geosearchstore', 'zrangestore'].map((name) => [name, FIRST] as const),
  ['bitop', SECOND],
  // what an older target does not know, and gets otherwise (lowering.ts)
  ...['lpop', 'rpop', 'zpopmin', 'zpopmax', 'hgetdel', 'xdelex', 'xackdel'].map(
    (name) => [name, NONE] as const,
  ),
  ...['hsetex', 'hpexpireat', 'hpersist', 'xnack', 'xcfgset', 'xidmprecord'].map(
    (name) => [name, FIRST] as const,
  ),
  ['lmove', SECOND],
  // its keys stand with its subcommands from 7.0 on
  ['xgroup', SECOND],
  ...['sort', 'georadius', 'georadiusbymember'].map((name) => [name, inWords(behindStore)] as const),
  // the keys that they declare; a script sent as it is (before 5.0) can write others
  ...['eval', 'evalsha'].map((name) => [name, inWords(numbered(2, 1))] as const),
  ['msetex', inWords(numbered(1, 2))],
  ['move', inWords((words) => [{ key: words[1], db: words[2] }])],
  ['copy', inWords((words) => [{ key: words[2], db: behind(words, 3, 'db') }])],
  ['function', { kind: 'words', note: noteFunction }],
  // keys of ours, and others, change places
  ['swapdb', LOST],
]);

export class KeyPositions {
  readonly keys: WrittenKeys;
  /** By name in lower case; only commands that write. */
  readonly #rules: ReadonlyMap<string, Rule>;

  /**
   * @param commands the target's reply to COMMAND; anything else where it does not answer that
   * @param leftOut commands, by name in lower case, that do not go to the target
   */
  constructor(keys: WrittenKeys, commands: unknown, leftOut: Iterable<string> = []) {
    this.keys = keys;
    this.#rules = new Map([
      ...(Array.isArray(commands) ? commands.map(ruleOf) : []),
      ...RULES,
      ...Array.from(leftOut, (name) => [name, NONE] as const),
    ]);
  }

  /** Notes the keys of the command in view[start..end), which scanCommand() has just found. */
  note(view: Buffer, start: number, end: number, db: number): void {
    const name = view.toString('latin1', frame.nameStart, frame.nameEnd);
    const rule = this.#ruleFor(name);
    switch (rule.kind) {
      case 'none':
        return;
      case 'lost':
        this.keys.lose(`the source sent ${name.toUpperCase()}`);
        return;
      case 'range':
        if (!frame.inline) {
          this.#noteRange(rule, view, start, end, db);
          return;
        }
        for (const [index, word] of commandArguments(view.subarray(start, end)).entries()) {
          if (isKeyAt(rule, index, frame.argumentCount)) this.keys.add(db, word, 0, word.length);
        }
        return;
      case 'words':
        rule.note(commandArguments(view.subarray(start, end)), db, this.keys);
    }
  }

  /** True where note() is needed: a command that comes in pieces must be held until it is whole. */
  mustSeeWhole(name: string): boolean {
    return this.#ruleFor(name).kind !== 'range' && this.#ruleFor(name).kind !== 'none';
  }

  /** For a command that comes in pieces: which of its words are to be noted; null: none. */
  rangeOf(name: string): KeyRange | null {
    const rule = this.#ruleFor(name);
    return rule.kind === 'range' ? rule : null;
  }

  #ruleFor(name: string): Rule {
    return this.#rules.get(name.toLowerCase()) ?? LOST;
  }

  #noteRange(range: KeyRange, view: Buffer, start: number, end: number, db: number): void {
    const { argumentCount } = frame;
    let at = view.indexOf(10, start) + 1;
    for (let index = 0; index < argumentCount; index++) {
      const length = scanArgument(view, at, end, 0);
      const body = frame.bodyStart;
      if (isKeyAt(range, index, argumentCount)) this.keys.add(db, view, body, body + length);
      at = body + length + 2;
    }
  }
}

/** Whether word `index` of a command of `count` words is a key. */
export function isKeyAt({ first, last, step }: KeyRange, index: number, count: number): boolean {
  const end = last < 0 ? count + last : last;
  return index >= first && index <= end && (index - first) % step === 0;
}

/** What COMMAND says of one command: name, arity, flags, first, last and step of its keys. */
function ruleOf(line: unknown): readonly [string, Rule] {
  const [name, , flags, first, last, step] = Array.isArray(line) ? (line as unknown[]) : [];
  const writes = Array.isArray(flags) && flags.some((flag) => String(flag) === 'write');
  return [String(name).toLowerCase(), writes ? rangeRule(Number(first), Number(last), Number(step)) : NONE];
}

function rangeRule(first: number, last: number, step: number): Rule {
  return first > 0 && step > 0 ? { kind: 'range', first, last, step } : LOST;
}

/** A key, and the database where it is another than the stream's. */
interface Place {
  readonly key: Buffer | undefined;
  readonly db?: Buffer | undefined;
}

function inWords(places: (words: readonly Buffer[]) => readonly Place[]): Rule {
  return {
    kind: 'words',
    note: (words, db, keys) => {
      for (const { key, db: other } of places(words)) {
        if (key !== undefined) keys.add(other === undefined ? db : Number(other), key, 0, key.length);
      }
    },
  };
}

/** `… STORE key` and `… STOREDIST key`. */
function behindStore(words: readonly Buffer[]): readonly Place[] {
  return ['store', 'storedist'].map((option) => ({ key: behind(words, 2, option) }));
}

/** `… count key [word] key [word] …`, the count being word `at`. */
function numbered(at: number, step: number): (words: readonly Buffer[]) => readonly Place[] {
  return (words) => {
    const count = Number(words[at]);
    const places: Place[] = [];
    for (let i = 0; i < count && at + 1 + i * step < words.length; i++) {
      places.push({ key: words[at + 1 + i * step] });
    }
    return places;
  };
}

/** The word behind an option, which stands at `from` or later. */
function behind(words: readonly Buffer[], from: number, option: string): Buffer | undefined {
  const at = words.findIndex((word, index) => index >= from && lower(word) === option);
  return at < 0 ? undefined : words[at + 1];
}

/** FUNCTION LOAD [REPLACE] code; the library's name stands in the first line of it. */
function noteFunction(words: readonly Buffer[], _db: number, keys: WrittenKeys): void {
  const what = lower(words[1]);
  if (what === 'restore') keys.lose('the source sent FUNCTION RESTORE');
  if (what === 'load') noteLibrary(words.at(-1) ?? Buffer.alloc(0), keys);
}

/** Notes the library whose code begins `#!lua name=…`. */
export function noteLibrary(code: Buffer, keys: WrittenKeys): void {
  const name = /^#!\S+.*?\sname=(?:"([^"\n]*)"|'([^'\n]*)'|(\S+))/.exec(code.toString('latin1', 0, 1000));
  const found = name?.[1] ?? name?.[2] ?? name?.[3];
  if (found !== undefined) keys.addLibrary(Buffer.from(found, 'latin1'));
}

function lower(word: Buffer | undefined): string {
  return word === undefined ? '' : word.toString('latin1').toLowerCase();
}
