/**
 * Takes a collection apart, element by element, for values too big to be sent as one payload. Resumable: each
 * element is complete in the given bytes, or is announced and passed on in pieces.
 */
import { InvariantError, RdbFormatError } from '../core/errors.ts';
import { formatDouble, parseTextDouble } from './doubles.ts';
import { forEachListpack } from './encodings/listpack.ts';
import { forEachZiplist } from './encodings/ziplist.ts';
import { LzfStream } from './lzf.ts';
import { TYPE } from './opcodes.ts';
import type { ElementKind, RdbSink } from './sink.ts';
import { lengthResult, readPlainLength, readStringLength, stringBodyLength } from './skip.ts';
import { checkLzfRatio, decodeString, integerText, lzfHeader } from './strings.ts';

/** Elements above this are passed on in pieces. */
const BIG_ELEMENT_BYTES = 1 << 20;

/** Compressed bytes taken at a time; LZF makes at most 88 times as much of them. */
const INFLATE_STEP_BYTES = 8 * 1024;

/** What one item of the type looks like. */
type Layout = 'strings' | 'memberTextScore' | 'memberScore' | 'ziplistNode' | 'taggedNode';

const LAYOUTS: Partial<
  Record<number, { readonly kind: ElementKind; readonly layout: Layout; readonly strings: 1 | 2 }>
> = {
  [TYPE.list]: { kind: 'list', layout: 'strings', strings: 1 },
  [TYPE.set]: { kind: 'set', layout: 'strings', strings: 1 },
  [TYPE.hash]: { kind: 'hash', layout: 'strings', strings: 2 },
  [TYPE.zset]: { kind: 'zset', layout: 'memberTextScore', strings: 1 },
  [TYPE.zset2]: { kind: 'zset', layout: 'memberScore', strings: 1 },
  [TYPE.quicklist]: { kind: 'list', layout: 'ziplistNode', strings: 1 },
  [TYPE.quicklist2]: { kind: 'list', layout: 'taggedNode', strings: 1 },
};

/** The kind of collection that a type can be taken apart into; null: only the whole payload will do. */
export function elementKind(type: number): ElementKind | null {
  return LAYOUTS[type]?.kind ?? null;
}

export class ElementReader {
  readonly #sink: RdbSink;
  #layout: Layout = 'strings';
  #stringsPerItem = 1;
  /** Strings or items still to come; -1: the count has not been read. */
  #remaining = -1;
  /** Bytes of the element that is passed on in pieces. */
  #pending = 0;
  #inflate: LzfStream | null = null;

  constructor(sink: RdbSink) {
    this.#sink = sink;
  }

  get done(): boolean {
    return this.#remaining === 0 && this.#pending === 0;
  }

  start(type: number): void {
    const layout = LAYOUTS[type];
    if (layout === undefined) throw new InvariantError(`type ${type} has no element layout`);
    this.#layout = layout.layout;
    this.#stringsPerItem = layout.strings;
    this.#remaining = -1;
    this.#pending = 0;
    this.#inflate = null;
  }

  /** Goes on from `at`, returns how far it came; short of `end` and not done: the next element is not complete. */
  run(buf: Buffer, at: number, end: number, base: number): number {
    let pos = at;
    if (this.#remaining < 0) {
      const count = readPlainLength(buf, pos, end, base);
      if (count < 0) return pos;
      this.#remaining = count * this.#stringsPerItem;
      pos = lengthResult.next;
    }
    while (!this.done) {
      if (this.#pending > 0) {
        const inflating = this.#inflate !== null;
        const piece = Math.min(
          this.#pending,
          end - pos,
          inflating ? INFLATE_STEP_BYTES : Number.POSITIVE_INFINITY,
        );
        if (piece === 0) return pos;
        this.#passOn(buf, pos, pos + piece);
        pos += piece;
        // a little goes in, a lot may come out: the caller looks whether there is room for more
        if (inflating) return pos;
        continue;
      }
      const next = this.#item(buf, pos, end, base);
      if (next < 0) return pos;
      pos = next;
    }
    return pos;
  }

  #passOn(buf: Buffer, start: number, end: number): void {
    this.#pending -= end - start;
    if (this.#inflate === null) this.#sink.elementData(buf, start, end);
    else this.#inflate.push(buf, start, end);
    if (this.#pending > 0) return;
    this.#inflate?.end();
    this.#inflate = null;
    this.#sink.elementEnd();
  }

  #item(buf: Buffer, pos: number, end: number, base: number): number {
    switch (this.#layout) {
      case 'strings':
        return this.#string(buf, pos, end, base);
      case 'memberTextScore':
      case 'memberScore':
        return this.#scored(buf, pos, end, base);
      case 'ziplistNode':
        return this.#node(buf, pos, end, base, 'ziplist');
      case 'taggedNode': {
        const container = readPlainLength(buf, pos, end, base);
        if (container < 0) return -1;
        const after = lengthResult.next;
        if (container === 1) return this.#string(buf, after, end, base);
        if (container === 2) return this.#node(buf, after, end, base, 'listpack');
        throw new RdbFormatError(`unknown quicklist container ${container}`, base + pos);
      }
    }
  }

  /** One string; a big one is announced here and passed on by run(). */
  #string(buf: Buffer, pos: number, end: number, base: number): number {
    const length = readStringLength(buf, pos, end, base);
    if (length < 0) return -1;
    const body = lengthResult.next;
    if (!lengthResult.special) {
      if (length > BIG_ELEMENT_BYTES) {
        this.#announce(length, length);
        return body;
      }
      if (body + length > end) return -1;
      this.#sink.element(buf, body, body + length);
      this.#remaining--;
      return body + length;
    }
    if (length < 3) {
      if (body + (1 << length) > end) return -1;
      const text = Buffer.from(integerText(buf, body, length), 'latin1');
      this.#sink.element(text, 0, text.length);
      this.#remaining--;
      return body + (1 << length);
    }
    const header = length === 3 ? lzfHeader(buf, body, end, base) : null;
    if (length === 3 && header === null) return -1;
    if (header !== null && header.length > BIG_ELEMENT_BYTES) {
      checkLzfRatio(header, base + pos);
      this.#announce(header.compressed, header.length);
      const emit = (chunk: Buffer): void => this.#sink.elementData(chunk, 0, chunk.length);
      this.#inflate = new LzfStream(header.length, emit, base + pos);
      return header.body;
    }
    const decoded = decodeString(buf, pos, end, base);
    if (decoded === null) return -1;
    this.#sink.element(decoded.bytes, 0, decoded.bytes.length);
    this.#remaining--;
    return decoded.next;
  }

  #announce(bodyBytes: number, elementBytes: number): void {
    this.#pending = bodyBytes;
    this.#remaining--;
    this.#sink.elementStart(elementBytes);
  }

  #scored(buf: Buffer, pos: number, end: number, base: number): number {
    const body = stringBodyLength(buf, pos, end, base);
    if (body < 0) return -1;
    const scoreAt = lengthResult.next + body;
    if (scoreAt >= end) return -1;
    let score: number;
    let next: number;
    if (this.#layout === 'memberScore') {
      next = scoreAt + 8;
      if (next > end) return -1;
      score = buf.readDoubleLE(scoreAt);
    } else {
      const length = buf[scoreAt]!;
      next = scoreAt + 1 + (length >= 253 ? 0 : length);
      if (next > end) return -1;
      score = parseTextDouble(buf, scoreAt, base);
    }
    if (Number.isNaN(score)) throw new RdbFormatError('a sorted set holds the score NaN', base + scoreAt);
    const member = decodeString(buf, pos, end, base);
    if (member === null) return -1;
    const text = Buffer.from(formatDouble(score), 'latin1');
    this.#sink.element(text, 0, text.length);
    this.#sink.element(member.bytes, 0, member.bytes.length);
    this.#remaining--;
    return next;
  }

  #node(buf: Buffer, pos: number, end: number, base: number, form: 'ziplist' | 'listpack'): number {
    const node = decodeString(buf, pos, end, base);
    if (node === null) return -1;
    const visit = (bytes: Buffer, start: number, stop: number): void =>
      this.#sink.element(bytes, start, stop);
    const forEach = form === 'ziplist' ? forEachZiplist : forEachListpack;
    forEach(node.bytes, 0, node.bytes.length, visit, base + pos);
    this.#remaining--;
    return node.next;
  }
}
