/**
 * Reads an RDB as it arrives. The caller shows it the bytes at `position`, again and again, and the reader
 * moves `position` on; it asks for more in one piece by `want`. Values are cut by extent, not decoded; what is
 * too big to be held is passed on in pieces (see sink.ts). `rewind` goes back to the start of an entry, for
 * entries that the target did not take.
 *
 * Facts: protocol.md 3.2-3.6. Next to read: skip.ts (where values end), elements.ts (big collections).
 */
import { RdbFormatError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import { type Author, authorOfAux, authorOfNumber } from './authors.ts';
import { Crc64 } from './crc64.ts';
import { ElementReader, elementKind } from './elements.ts';
import { type VisitElement, visitInteger } from './encodings/element.ts';
import { moduleTypeName } from './module-type.ts';
import { NEWEST_VERSION, OP, type RdbFamily, TYPE } from './opcodes.ts';
import type { RdbEntry, RdbSink } from './sink.ts';
import {
  isSingleString,
  KEY_META_PROGRAM,
  lengthResult,
  MODULE_AUX_PROGRAM,
  OPCODE_PROGRAMS,
  readPlainLength,
  readStringLength,
  Skipper,
  skipProgram,
  stringBodyLength,
} from './skip.ts';
import { checkHeldLength, decodeString, integerValue } from './strings.ts';

/** Values up to this size are held and sent as one payload. */
const HELD_BYTES = 1 << 20;
/** Collections above this come element by element: a server does nothing else while it takes in a payload. */
const LARGEST_PAYLOAD_BYTES = 32 << 20;
/** The end of a string is known from its first bytes, so that beyond this it need not be held to be sent. */
const HELD_STRING_BYTES = 64 * 1024;
/** An RDB begins with these many bytes of `REDIS` or `VALKEY` and its version. */
export const MAGIC_BYTES = 9;
/** What stands in front of a key is held until the key has come: expiry, usage, metadata of modules. */
const LONGEST_HEAD = 1 << 20;
/** Databases are numbered by a 32-bit integer in all releases. */
const HIGHEST_DB = 2 ** 31 - 1;

type State =
  | { readonly kind: 'magic' | 'opcodes' | 'checksum' | 'done' }
  /** Passing over an opcode's body. */
  | { readonly kind: 'skipping' }
  /** A value that is being scanned and held; offsets count from `position`. */
  | {
      readonly kind: 'holding';
      readonly keyStart: number;
      readonly keyEnd: number;
      readonly valueStart: number;
      scanned: number;
    }
  /** A big value whose end is looked for; it is sent from `valueStart` afterwards. */
  | { readonly kind: 'measuring'; readonly valueStart: number }
  | { readonly kind: 'blob'; remaining: number }
  | { readonly kind: 'elements' };

const OPCODES: State = { kind: 'opcodes' };
const SKIPPING: State = { kind: 'skipping' };
const ELEMENTS: State = { kind: 'elements' };

export interface ReaderOptions {
  /** False: the checksum is left to somebody else, who loads the same bytes. */
  readonly verify: boolean;
  /** True: a version of the format that is not known is tried (--skip-unknown). Left out: false. */
  readonly skipUnknown?: boolean;
}

export class RdbReader {
  readonly #sink: RdbSink;
  readonly #skipper = new Skipper();
  readonly #elements: ElementReader;
  readonly #verify: boolean;
  readonly #skipUnknown: boolean;
  readonly #crc = new Crc64();
  /** The checksum covers everything before this position. */
  #crcEnd = 0;
  #state: State = { kind: 'magic' };
  #family: RdbFamily = 'redis';
  #version = 0;
  /** Whose file it is, as AUX fields show; null: nothing tells. */
  #author: Author | null = null;
  #db = 0;
  /** Where each database begins, so that a rewind knows its own. */
  #dbStarts: { pos: number; db: number }[] = [{ pos: 0, db: 0 }];
  #keys = 0;
  readonly #entry: RdbEntry = {
    start: 0,
    valueStart: 0,
    db: 0,
    type: 0,
    module: '',
    key: Buffer.alloc(0),
    keyStart: 0,
    keyEnd: 0,
    expireAtMs: -1,
    idleSeconds: -1,
    freq: -1,
  };

  /** Offset of the next byte to be shown, from the first byte of the RDB. */
  position = 0;
  /** How many bytes from `position` on the reader would like to see in one piece. */
  want = 1;

  constructor(sink: RdbSink, options: ReaderOptions = { verify: true }) {
    this.#sink = sink;
    this.#verify = options.verify;
    this.#skipUnknown = options.skipUnknown ?? false;
    this.#elements = new ElementReader(sink);
  }

  get done(): boolean {
    return this.#state.kind === 'done';
  }

  /** Entries begun, counted once each also over rewinds. */
  get keys(): number {
    return this.#keys;
  }

  /** Lowest position that the reader may still look at. */
  get keepFrom(): number {
    return this.#state.kind === 'opcodes' ? this.position : Math.min(this.#entry.start, this.position);
  }

  /** Goes back to the start of an entry (RdbEntry.start), of an AUX field or a function, or of the file. */
  rewind(start: number): void {
    while (this.#dbStarts.length > 1 && this.#dbStarts.at(-1)!.pos > start) this.#dbStarts.pop();
    this.#db = this.#dbStarts.at(-1)!.db;
    this.#state = start === 0 ? { kind: 'magic' } : OPCODES;
    this.position = start;
    this.want = 1;
  }

  /**
   * Looks at `view`, the bytes from `position` on, and moves `position`. True where it came on.
   * @throws RdbFormatError
   */
  consume(view: Buffer): boolean {
    const base = this.position;
    const before = this.#state;
    const at = this.#run(view, base);
    const crcFrom = Math.max(this.#crcEnd - base, 0);
    if (this.#verify && at > crcFrom && before.kind !== 'checksum') {
      this.#crc.update(view, crcFrom, at);
      this.#crcEnd = base + at;
    }
    if (this.#state.kind === 'checksum' && before.kind !== 'checksum' && this.#version < 5) {
      this.#state = { kind: 'done' };
    }
    if (this.#jumpTo >= 0) {
      this.position = this.#jumpTo;
      this.#jumpTo = -1;
      this.want = 1;
      return true;
    }
    this.position = base + at;
    const moved = at > 0 || this.#state !== before;
    this.want = moved ? 1 : view.length * 2 + 4096;
    return moved;
  }

  #jumpTo = -1;

  /** Runs states until one needs more bytes; returns how much of the view is done with. */
  #run(buf: Buffer, base: number): number {
    const end = buf.length;
    let pos = 0;
    for (;;) {
      const state = this.#state;
      switch (state.kind) {
        case 'magic':
          if (end - pos < MAGIC_BYTES) return pos;
          this.#magic(buf, pos);
          pos += MAGIC_BYTES;
          this.#state = OPCODES;
          break;
        case 'opcodes':
          pos = this.#opcodes(buf, pos, end, base);
          if (this.#state === OPCODES) return pos;
          // a value is held from its entry's start, which must stay the start of the view
          if (this.#state.kind === 'holding' || this.#state.kind === 'checksum') return pos;
          break;
        case 'skipping':
          pos = this.#skipper.run(buf, pos, end, base);
          if (!this.#skipper.done) return pos;
          this.#state = OPCODES;
          break;
        case 'holding':
          pos = this.#hold(state, buf, end, base);
          if (this.#state === state) return 0;
          break;
        case 'measuring': {
          pos = this.#skipper.run(buf, pos, end, base);
          const length = base + pos - state.valueStart;
          if (this.#skipper.done) this.#startBlob('payload', length);
          else if (length <= LARGEST_PAYLOAD_BYTES || !this.#takenApart()) return pos;
          this.#jumpTo = state.valueStart;
          return pos;
        }
        case 'blob': {
          const piece = Math.min(state.remaining, end - pos);
          if (piece > 0) this.#sink.blobData(buf, pos, pos + piece);
          pos += piece;
          state.remaining -= piece;
          if (state.remaining > 0) return pos;
          this.#sink.blobEnd();
          this.#state = OPCODES;
          break;
        }
        case 'elements':
          pos = this.#elements.run(buf, pos, end, base);
          if (!this.#elements.done) return pos;
          this.#sink.elementsEnd();
          this.#state = OPCODES;
          break;
        case 'checksum':
          return this.#checksum(buf, pos, end, base);
        case 'done':
          return pos;
      }
    }
  }

  #magic(buf: Buffer, pos: number): void {
    const { family, version } = checkMagic(buf.subarray(pos), this.#skipUnknown);
    this.#family = family;
    this.#version = version;
    this.#sink.header(family, version);
  }

  /** Opcodes and entries from `pos` on; stops at the start of the first that is not complete. */
  #opcodes(buf: Buffer, from: number, end: number, base: number): number {
    let start = from;
    let pos = from;
    const entry = this.#entry;
    entry.expireAtMs = -1;
    entry.idleSeconds = -1;
    entry.freq = -1;
    while (pos < end) {
      if (pos - start > LONGEST_HEAD) throw endlessHead(base + start);
      const op = buf[pos]!;
      let next: number;
      switch (op) {
        case OP.expireMs:
          if (pos + 9 > end) return start;
          // beyond the year 287396 one moment is as good as another, but not every one is exact
          entry.expireAtMs = Math.min(
            buf.readUInt32LE(pos + 1) + buf.readInt32LE(pos + 5) * 0x100000000,
            Number.MAX_SAFE_INTEGER,
          );
          pos += 9;
          continue;
        case OP.expireSeconds:
          if (pos + 5 > end) return start;
          entry.expireAtMs = buf.readInt32LE(pos + 1) * 1000;
          pos += 5;
          continue;
        case OP.idle: {
          const seconds = readPlainLength(buf, pos + 1, end, base);
          if (seconds < 0) return start;
          if (seconds > Number.MAX_SAFE_INTEGER)
            throw new RdbFormatError('an endless idle time', base + pos + 1);
          entry.idleSeconds = seconds;
          pos = lengthResult.next;
          continue;
        }
        case OP.freq:
          if (pos + 2 > end) return start;
          entry.freq = buf[pos + 1]!;
          pos += 2;
          continue;
        case OP.eof:
          entry.start = base + pos;
          this.#state = { kind: 'checksum' };
          return pos + 1;
        case OP.selectDb:
        case OP.resizeDb:
        case OP.aux:
        case OP.function2:
          next = this.#record(op, buf, pos, end, base);
          break;
        case OP.ramLru: {
          if (this.#family !== 'redis') throw this.#unknownType(op, base + pos);
          if (readPlainLength(buf, pos + 1, end, base) < 0) return start;
          this.#sink.skipped('times of last use in a form of Redis Enterprise');
          pos = lengthResult.next;
          continue;
        }
        case OP.moduleAux: {
          const module = moduleTypeName(buf, pos + 1, end, base);
          if (module === null) return start;
          this.#sink.skipped(`auxiliary data of the module type ${module}`);
          this.#skipper.start(MODULE_AUX_PROGRAM);
          entry.start = base + pos;
          this.#state = SKIPPING;
          return pos + 1;
        }
        default: {
          if (op === OP.slotImportOrKeyMeta && this.#family === 'redis') {
            // it belongs to the next key, as its expiry does: read with that
            this.#skipper.start(KEY_META_PROGRAM);
            next = this.#skipper.run(buf, pos + 1, end, base);
            if (!this.#skipper.done) {
              if (end - pos > LONGEST_HEAD) throw endlessHead(base + start);
              return start;
            }
            this.#sink.unbringable(base + pos, 'metadata of keys, kept by modules (opcode 243)');
            pos = next;
            continue;
          }
          const program = OPCODE_PROGRAMS[this.#family][op];
          if (program !== undefined) {
            this.#skipper.start(program);
            entry.start = base + pos;
            this.#state = SKIPPING;
            return pos + 1;
          }
          entry.start = base + start;
          next = this.#value(op, buf, start, pos, end, base);
          if (next >= 0 && this.#state !== OPCODES) return next;
        }
      }
      if (next < 0) return start;
      pos = next;
      start = next;
      entry.expireAtMs = -1;
      entry.idleSeconds = -1;
      entry.freq = -1;
    }
    return start;
  }

  /** A small record that is read whole; the position behind it, or -1. */
  #record(op: number, buf: Buffer, pos: number, end: number, base: number): number {
    switch (op) {
      case OP.selectDb: {
        const db = readPlainLength(buf, pos + 1, end, base);
        if (db < 0) return -1;
        if (db > HIGHEST_DB) throw new RdbFormatError(`a database of number ${db}`, base + pos + 1);
        this.#db = db;
        if (this.#dbStarts.at(-1)!.pos < base + pos) this.#dbStarts.push({ pos: base + pos, db });
        return lengthResult.next;
      }
      case OP.resizeDb: {
        const keys = readPlainLength(buf, pos + 1, end, base);
        if (keys < 0) return -1;
        const expires = readPlainLength(buf, lengthResult.next, end, base);
        if (expires < 0) return -1;
        this.#sink.resizeDb(keys, expires);
        return lengthResult.next;
      }
      case OP.aux: {
        const name = decodeString(buf, pos + 1, end, base);
        const value = name === null ? null : decodeString(buf, name.next, end, base);
        if (name === null || value === null) return -1;
        const text = name.bytes.toString('latin1');
        this.#author ??= authorOfAux(text);
        this.#sink.aux(base + pos, text, Buffer.from(value.bytes));
        return value.next;
      }
      default: {
        const code = decodeString(buf, pos + 1, end, base);
        if (code === null) return -1;
        this.#sink.functionLibrary(base + pos, code.bytes);
        return code.next;
      }
    }
  }

  /**
   * An entry of type `type` at `pos`. Small strings are handed on at once; for others the state says how the
   * value goes on. The position to go on from, or -1 where the entry's head is not complete.
   */
  #value(type: number, buf: Buffer, start: number, pos: number, end: number, base: number): number {
    const program = skipProgram(type, this.#family);
    if (program === null) throw this.#unknownType(type, base + pos);
    const entry = this.#entry;
    const afterKey = this.#key(buf, pos + 1, end, base);
    if (afterKey < 0) return -1;
    entry.valueStart = base + afterKey;
    entry.db = this.#db;
    entry.type = type;
    entry.module = '';
    if (type === TYPE.string) {
      const next = this.#string(buf, afterKey, end, base);
      if (next >= 0) this.#countKey();
      return next;
    }
    if (type === TYPE.module2) {
      const module = moduleTypeName(buf, afterKey, end, base);
      if (module === null) return -1;
      entry.module = module;
    }
    this.#skipper.start(program);
    const scanned = this.#skipper.run(buf, afterKey, end, base);
    if (this.#skipper.done) {
      this.#sink.value(entry, buf, afterKey, scanned);
      this.#countKey();
      return scanned;
    }
    const ownKey = entry.key !== buf;
    this.#state = {
      kind: 'holding',
      keyStart: ownKey ? -1 : entry.keyStart - start,
      keyEnd: entry.keyEnd - start,
      valueStart: afterKey - start,
      scanned: scanned - start,
    };
    return start;
  }

  #unknownType(number: number, offset: number): RdbFormatError {
    const author = authorOfNumber(number) ?? this.#author;
    const whose = author === null ? '' : `this RDB was written by ${author}, which adds to the format: `;
    return new RdbFormatError(`${whose}unknown value type or opcode ${number}`, offset, {
      code: 'rdb-unknown-type',
      hint: `this source writes something that redis-cutover does not know (${author ?? this.#family} RDB ${this.#version}, number ${number}): look for a newer release. Where it ends is not known either: --skip-unknown cannot leave it out`,
    });
  }

  /** Counts an entry unless it was counted before a rewind. */
  #countKey(): void {
    if (this.#entry.start < this.#countedUpTo) return;
    this.#countedUpTo = this.#entry.start + 1;
    this.#keys++;
  }

  #countedUpTo = 0;

  /** The key at `pos`, left in the entry; the position behind it, or -1. */
  #key(buf: Buffer, pos: number, end: number, base: number): number {
    const entry = this.#entry;
    const length = readStringLength(buf, pos, end, base);
    if (length < 0) return -1;
    if (!lengthResult.special) {
      const next = lengthResult.next + length;
      if (next > end) {
        checkHeldLength(length, base + pos);
        return -1;
      }
      entry.key = buf;
      entry.keyStart = lengthResult.next;
      entry.keyEnd = next;
      return next;
    }
    const decoded = decodeString(buf, pos, end, base);
    if (decoded === null) return -1;
    entry.key = decoded.bytes;
    entry.keyStart = 0;
    entry.keyEnd = decoded.bytes.length;
    return decoded.next;
  }

  #string(buf: Buffer, pos: number, end: number, base: number): number {
    const length = readStringLength(buf, pos, end, base);
    if (length < 0) return -1;
    const body = lengthResult.next;
    if (!lengthResult.special) {
      if (body + length <= end) {
        this.#sink.string(this.#entry, buf, body, body + length);
        return body + length;
      }
      if (length <= HELD_STRING_BYTES) return -1;
      this.#startBlob('string', length);
      return body;
    }
    if (length < 3) {
      const next = body + (1 << length);
      if (next > end) return -1;
      visitInteger(integerValue(buf, body, length), this.#passInteger);
      return next;
    }
    const size = stringBodyLength(buf, pos, end, base);
    if (size < 0) return -1;
    const next = lengthResult.next + size;
    if (next <= end) {
      this.#sink.value(this.#entry, buf, pos, next);
      return next;
    }
    if (size <= HELD_STRING_BYTES) return -1;
    this.#startBlob('payload', next - pos);
    return pos;
  }

  readonly #passInteger: VisitElement = (text, start, end) =>
    this.#sink.string(this.#entry, text, start, end);

  #startBlob(form: 'string' | 'payload', length: number): void {
    this.#sink.blobStart(this.#entry, form, length);
    this.#state = { kind: 'blob', remaining: length };
  }

  /** Goes on with a held value: complete, still growing (state unchanged), or too big to be held. */
  #hold(state: State & { kind: 'holding' }, buf: Buffer, end: number, base: number): number {
    // a shorter view than the last: it ends at another place of the spool
    if (state.scanned > end) return 0;
    const entry = this.#entry;
    if (state.keyStart >= 0) {
      entry.key = buf;
      entry.keyStart = state.keyStart;
      entry.keyEnd = state.keyEnd;
    }
    state.scanned = this.#skipper.run(buf, state.scanned, end, base);
    if (this.#skipper.done) {
      this.#sink.value(entry, buf, state.valueStart, state.scanned);
      this.#countKey();
      this.#state = OPCODES;
      return state.scanned;
    }
    if (end <= HELD_BYTES) return 0;
    this.#countKey();
    return this.#tooBigToHold(state, buf, base);
  }

  #tooBigToHold(state: State & { kind: 'holding' }, buf: Buffer, base: number): number {
    const entry = this.#entry;
    const { valueStart } = state;
    if (this.#sink.prefersElements(entry) && this.#takenApart()) return valueStart;
    if (isSingleString(skipProgram(entry.type, this.#family)!)) {
      const body = stringBodyLength(buf, valueStart, buf.length, base);
      this.#startBlob('payload', lengthResult.next - valueStart + body);
      return valueStart;
    }
    // the sink may need the key after this view is gone
    entry.key = Buffer.from(entry.key.subarray(entry.keyStart, entry.keyEnd));
    entry.keyStart = 0;
    entry.keyEnd = entry.key.length;
    this.#state = { kind: 'measuring', valueStart: base + valueStart };
    return state.scanned;
  }

  /** Begins with the elements of the value in hand; false: it is not made of any. */
  #takenApart(): boolean {
    const kind = elementKind(this.#entry.type);
    if (kind === null) return false;
    this.#sink.elementsStart(this.#entry, kind);
    this.#elements.start(this.#entry.type);
    this.#state = ELEMENTS;
    return true;
  }

  /** The eight bytes behind EOF: all zero where the source computed none. */
  #checksum(buf: Buffer, pos: number, end: number, base: number): number {
    if (end - pos < 8) return pos;
    const computed = buf.subarray(pos, pos + 8).some((byte) => byte !== 0);
    if (this.#verify && computed && !this.#crc.equals(buf, pos)) {
      throw new RdbFormatError('the checksum of the snapshot is wrong', base + pos, {
        code: 'rdb-checksum',
        hint: 'bytes were damaged on the way or on the source: try again; if it stays, check the source with redis-check-rdb',
      });
    }
    this.#state = { kind: 'done' };
    return pos + 8;
  }
}

/**
 * The family and the version that the first bytes of an RDB tell.
 * @param skipUnknown true: a version that is not known is tried
 * @throws RdbFormatError `rdb-version` for one that is not known, another for what is no RDB
 */
export function checkMagic(
  bytes: Buffer,
  skipUnknown: boolean,
): { readonly family: RdbFamily; readonly version: number } {
  const text = bytes.toString('latin1', 0, MAGIC_BYTES);
  const match = /^(REDIS|VALKEY)(\d{3,4})$/.exec(text);
  if (match === null) throw new RdbFormatError(`no RDB begins with "${printable(text)}"`, 0);
  const family = match[1] === 'VALKEY' ? 'valkey' : 'redis';
  const version = Number(match[2]);
  const newest = NEWEST_VERSION[family];
  if (version < 1 || (version > newest && !skipUnknown)) {
    throw new RdbFormatError(`RDB version ${text} is not known (newest: ${newest})`, 0, {
      code: 'rdb-version',
      hint: 'this source is newer than redis-cutover: look for a newer release of redis-cutover; --skip-unknown tries this one, up to the first thing that is not known',
    });
  }
  return { family, version };
}

function endlessHead(offset: number): RdbFormatError {
  return new RdbFormatError(`more than ${LONGEST_HEAD} bytes of opcodes stand in front of a key`, offset);
}
