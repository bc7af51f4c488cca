/**
 * Finds where a value ends without decoding it (protocol.md 3.4). Each type is a small program of steps; one
 * resumable interpreter runs them, so that a value may arrive in any number of pieces.
 */
import { RdbFormatError } from '../core/errors.ts';
import { checkLzfLengths } from './lzf.ts';
import { OP, type RdbFamily } from './opcodes.ts';

type Step =
  | { readonly kind: 'length' }
  | { readonly kind: 'string' }
  /** Type 3's text double: one byte n, then n bytes unless n is 253..255. */
  | { readonly kind: 'textDouble' }
  | { readonly kind: 'bytes'; readonly count: number }
  /** A length n, then n times the steps. */
  | { readonly kind: 'repeat'; readonly steps: readonly Step[] }
  /** Items of a module's value up to the end marker (3.6). */
  | { readonly kind: 'moduleItems' }
  /** Redis 8.8 array: length, flag, [insert index], elements with tags. */
  | { readonly kind: 'array' }
  | { readonly kind: 'arrayElement' };

const L: Step = { kind: 'length' };
const S: Step = { kind: 'string' };
const D: Step = { kind: 'textDouble' };
const B8: Step = { kind: 'bytes', count: 8 };
const B16: Step = { kind: 'bytes', count: 16 };
const repeat = (...steps: Step[]): Step => ({ kind: 'repeat', steps });

/** Stream generations: 1 = type 15 (5.0), 2 = 19 (7.0), 3 = 21 (7.2), 4 = 26 (8.6), 5 = 27 (8.8). */
function streamProgram(generation: number): readonly Step[] {
  const since = (first: number, ...steps: Step[]): Step[] => (generation >= first ? steps : []);
  return [
    repeat(S, S),
    ...[L, L, L],
    ...since(2, L, L, L, L, L),
    repeat(
      ...[S, L, L],
      ...since(2, L),
      repeat(B16, B8, L),
      repeat(S, B8, ...since(3, B8), repeat(B16)),
      ...since(5, repeat(B16)),
    ),
    ...since(4, L, L, repeat(S, repeat(S, L, L)), L, L),
  ];
}

const COMMON: Record<number, readonly Step[]> = {
  0: [S],
  1: [repeat(S)],
  2: [repeat(S)],
  3: [repeat(S, D)],
  4: [repeat(S, S)],
  5: [repeat(S, B8)],
  7: [L, { kind: 'moduleItems' }],
  9: [S],
  10: [S],
  11: [S],
  12: [S],
  13: [S],
  14: [repeat(S)],
  15: streamProgram(1),
  16: [S],
  17: [S],
  18: [repeat(L, S)],
  19: streamProgram(2),
  20: [S],
  21: streamProgram(3),
};

const B4: Step = { kind: 'bytes', count: 4 };

/** What modules keep with the next key (Redis 8.6): for each a class, then its items. */
export const KEY_META_PROGRAM: readonly Step[] = [repeat(B4, { kind: 'moduleItems' })];

const PROGRAMS: Record<RdbFamily, Record<number, readonly Step[]>> = {
  redis: {
    ...COMMON,
    22: [repeat(L, S, S)],
    23: [S],
    24: [B8, repeat(L, S, S)],
    25: [B8, S],
    26: streamProgram(4),
    27: streamProgram(5),
    28: [{ kind: 'array' }],
    // KeyDB's cron: script, start, interval, keys, arguments
    64: [S, B8, B8, repeat(S), repeat(S)],
  },
  valkey: { ...COMMON, 22: [repeat(S, S, B8)] },
};

/** The items of a MODULE_AUX opcode's body: module id, the "when" marker, then items. */
export const MODULE_AUX_PROGRAM: readonly Step[] = [L, L, L, { kind: 'moduleItems' }];

/** Opcodes whose body is passed over: they say nothing that a target needs. */
export const OPCODE_PROGRAMS: Record<RdbFamily, Partial<Record<number, readonly Step[]>>> = {
  redis: { [OP.slotInfo]: [L, L, L] },
  valkey: { [OP.slotInfo]: [L, L, L], [OP.slotImportOrKeyMeta]: [S, repeat(L, L)] },
};

export function skipProgram(type: number, family: RdbFamily): readonly Step[] | null {
  return PROGRAMS[family][type] ?? null;
}

/** True where the whole value is one string: its extent is known from its first bytes. */
export function isSingleString(program: readonly Step[]): boolean {
  return program.length === 1 && program[0] === S;
}

/** How far one level of a program has come: at which step, in how many rounds to go. */
interface Frame {
  steps: readonly Step[];
  index: number;
  remaining: number;
}

/** Result fields of readLength: module-level on purpose, the hot path allocates nothing. */
export const lengthResult = { next: 0, special: false };

/**
 * A length at `at` (3.3), or -1 where bytes are missing. `lengthResult.next` is the position behind it;
 * `lengthResult.special` means that the value is an encoding number (0..2 integers, 3 LZF).
 * Lengths beyond 2^53 come out as Infinity: no such value can follow.
 */
export function readLength(buf: Buffer, at: number, end: number): number {
  if (at >= end) return -1;
  const first = buf[at]!;
  lengthResult.special = false;
  switch (first >> 6) {
    case 0:
      lengthResult.next = at + 1;
      return first;
    case 1:
      if (at + 2 > end) return -1;
      lengthResult.next = at + 2;
      return ((first & 0x3f) << 8) | buf[at + 1]!;
    case 2: {
      if (first === 0x81) {
        if (at + 9 > end) return -1;
        lengthResult.next = at + 9;
        const high = buf.readUInt32BE(at + 1);
        return high < 0x200000 ? high * 0x100000000 + buf.readUInt32BE(at + 5) : Number.POSITIVE_INFINITY;
      }
      if (at + 5 > end) return -1;
      lengthResult.next = at + 5;
      return buf.readUInt32BE(at + 1);
    }
    default:
      lengthResult.next = at + 1;
      lengthResult.special = true;
      return first & 0x3f;
  }
}

/** First bytes below this are the length of a string, with nothing else to its header. */
const NOT_SHORT = 0x40;
const INT_BYTES = [1, 2, 4] as const;
/** Far above any server's limit: waiting for the end of such a string would be waiting forever. */
const LONGEST_STRING = 2 ** 40;
/** Likewise: each element takes a byte at least. */
const MOST_ELEMENTS = 2 ** 40;

/**
 * readLength where a string begins.
 * @throws RdbFormatError for a length that no string has
 */
export function readStringLength(buf: Buffer, at: number, end: number, base: number): number {
  const length = readLength(buf, at, end);
  if (length > LONGEST_STRING) throw new RdbFormatError(`a string of ${length} bytes`, base + at);
  return length;
}

/**
 * Body bytes of a string whose header starts at `at`; `lengthResult.next` is where the body begins. -1 where
 * the header is not complete. For LZF the body is the compressed data.
 * @throws RdbFormatError for an unknown encoding, and for lengths that no string has
 */
export function stringBodyLength(buf: Buffer, at: number, end: number, base: number): number {
  const length = readStringLength(buf, at, end, base);
  if (length < 0 || !lengthResult.special) return length;
  if (length < 3) return INT_BYTES[length]!;
  if (length !== 3) throw new RdbFormatError(`unknown string encoding ${length}`, base + at);
  const compressed = readPlainLength(buf, lengthResult.next, end, base);
  if (compressed < 0) return -1;
  const decoded = readPlainLength(buf, lengthResult.next, end, base);
  if (decoded < 0) return -1;
  checkLzfLengths(compressed, decoded, base + at);
  return compressed;
}

/** readLength where a string encoding is not allowed. */
export function readPlainLength(buf: Buffer, at: number, end: number, base: number): number {
  const length = readLength(buf, at, end);
  if (length >= 0 && lengthResult.special) throw new RdbFormatError('a length was expected', base + at);
  return length;
}

/**
 * A number of elements.
 * @throws RdbFormatError for more than any server holds: the rest of the file would be taken for the value
 */
export function readCount(buf: Buffer, at: number, end: number, base: number): number {
  const count = readPlainLength(buf, at, end, base);
  if (count > MOST_ELEMENTS) throw new RdbFormatError(`a value of ${count} elements`, base + at);
  return count;
}

export class Skipper {
  /** One for each level that any value had so far, used again and again: most values are too small to cost objects. */
  readonly #frames: Frame[] = [];
  /** How many of them are in use. */
  #depth = 0;
  /** Bytes of a string or field that are still to be passed over. */
  #pending = 0;
  #done = true;

  get done(): boolean {
    return this.#done;
  }

  start(program: readonly Step[]): void {
    this.#depth = 0;
    this.#enter(program, 1);
    this.#pending = 0;
    this.#done = false;
  }

  /**
   * Goes on from `at`; returns how far it came. Not done and short of `end` means that the next header needs
   * more bytes than there are.
   * @param base RDB offset of buf[0], for errors
   */
  run(buf: Buffer, at: number, end: number, base: number): number {
    let pos = at;
    for (;;) {
      if (this.#pending > 0) {
        const step = Math.min(this.#pending, end - pos);
        pos += step;
        this.#pending -= step;
        if (this.#pending > 0) return pos;
      }
      if (this.#depth === 0) {
        this.#done = true;
        return pos;
      }
      const frame = this.#frames[this.#depth - 1]!;
      if (frame.index === frame.steps.length) {
        frame.remaining--;
        if (frame.remaining > 0) frame.index = 0;
        else this.#depth--;
        continue;
      }
      const step = frame.steps[frame.index]!;
      // Most of what there is are short plain strings, whose only byte of header is their length.
      const first = step === S && pos < end ? buf[pos]! : NOT_SHORT;
      if (first < NOT_SHORT && pos + 1 + first <= end) {
        frame.index++;
        pos += 1 + first;
        continue;
      }
      const next = this.#step(frame, step, buf, pos, end, base);
      if (next < 0) return pos;
      pos = next;
    }
  }

  #enter(steps: readonly Step[], rounds: number): void {
    const frame = this.#frames[this.#depth++];
    if (frame === undefined) {
      this.#frames.push({ steps, index: 0, remaining: rounds });
      return;
    }
    frame.steps = steps;
    frame.index = 0;
    frame.remaining = rounds;
  }

  /** One step: the position behind it (its body may be pending), or -1 where the header is not complete. */
  #step(frame: Frame, step: Step, buf: Buffer, pos: number, end: number, base: number): number {
    switch (step.kind) {
      case 'length':
        if (readPlainLength(buf, pos, end, base) < 0) return -1;
        frame.index++;
        return lengthResult.next;
      case 'string': {
        const body = stringBodyLength(buf, pos, end, base);
        if (body < 0) return -1;
        frame.index++;
        this.#pending = body;
        return lengthResult.next;
      }
      case 'textDouble': {
        if (pos >= end) return -1;
        const length = buf[pos]!;
        frame.index++;
        this.#pending = length >= 253 ? 0 : length;
        return pos + 1;
      }
      case 'bytes':
        frame.index++;
        this.#pending = step.count;
        return pos;
      case 'repeat': {
        const count = readCount(buf, pos, end, base);
        if (count < 0) return -1;
        frame.index++;
        if (count > 0) this.#enter(step.steps, count);
        return lengthResult.next;
      }
      case 'moduleItems':
        return this.#moduleItem(frame, buf, pos, end, base);
      case 'array': {
        const count = readCount(buf, pos, end, base);
        if (count < 0) return -1;
        const flag = readPlainLength(buf, lengthResult.next, end, base);
        if (flag < 0) return -1;
        if (flag !== 0 && readPlainLength(buf, lengthResult.next, end, base) < 0) return -1;
        frame.index++;
        if (count > 0) this.#enter(ARRAY_ELEMENT, count);
        return lengthResult.next;
      }
      case 'arrayElement':
        return this.#arrayElement(frame, buf, pos, end, base);
    }
  }

  #moduleItem(frame: Frame, buf: Buffer, pos: number, end: number, base: number): number {
    const opcode = readPlainLength(buf, pos, end, base);
    if (opcode < 0) return -1;
    const after = lengthResult.next;
    switch (opcode) {
      case 0:
        frame.index++;
        return after;
      case 1:
      case 2:
        return readPlainLength(buf, after, end, base) < 0 ? -1 : lengthResult.next;
      case 3:
        this.#pending = 4;
        return after;
      case 4:
        this.#pending = 8;
        return after;
      case 5: {
        const body = stringBodyLength(buf, after, end, base);
        if (body < 0) return -1;
        this.#pending = body;
        return lengthResult.next;
      }
      default:
        throw new RdbFormatError(`unknown module item ${opcode}`, base + pos);
    }
  }

  #arrayElement(frame: Frame, buf: Buffer, pos: number, end: number, base: number): number {
    if (readPlainLength(buf, pos, end, base) < 0) return -1;
    const tag = readPlainLength(buf, lengthResult.next, end, base);
    if (tag < 0) return -1;
    if (tag > 3) throw new RdbFormatError(`unknown array element ${tag}`, base + pos);
    if (tag === 1 || tag === 2) {
      this.#pending = 8;
    } else {
      const body = stringBodyLength(buf, lengthResult.next, end, base);
      if (body < 0) return -1;
      this.#pending = body;
    }
    frame.index++;
    return lengthResult.next;
  }
}

const ARRAY_ELEMENT: readonly Step[] = [{ kind: 'arrayElement' }];
