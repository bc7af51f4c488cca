/**
 * Takes a collection apart, element by element, for values too big to be sent as one payload. Resumable: each
 * element is complete in the given bytes, or is announced and passed on in pieces.
 */
import { InvariantError, RdbFormatError } from '../core/errors.ts';
import { formatDouble, parseTextDouble } from './doubles.ts';
import { type VisitElement, visitInteger } from './encodings/element.ts';
import { forEachListpack, widthOfBacklen } from './encodings/listpack.ts';
import { forEachZiplist } from './encodings/ziplist.ts';
import { LzfStream } from './lzf.ts';
import { TYPE } from './opcodes.ts';
import type { ElementKind, RdbSink } from './sink.ts';
import { lengthResult, readCount, readPlainLength, readStringLength, stringBodyLength } from './skip.ts';
import { checkHeldLength, decodeString, lzfHeader } from './strings.ts';

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
  /** Bytes in the file of what is passed on in pieces, an element or a whole node. */
  #pending = 0;
  #taker: PieceTaker | null = null;
  #inflate: LzfStream | null = null;
  /** Room for the text of one score: the longest have 17 digits behind "-0.00000". */
  readonly #scoreText = Buffer.alloc(32);

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
      const count = readCount(buf, pos, end, base);
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
    if (this.#inflate === null) this.#taker?.take(buf, start, end);
    else this.#inflate.push(buf, start, end);
    if (this.#pending > 0) return;
    this.#inflate?.end();
    this.#inflate = null;
    this.#taker?.finish();
    this.#taker = null;
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
        if (container === 1) {
          if (readStringLength(buf, after, end, base) === 0) {
            throw new RdbFormatError('damaged quicklist: an empty node', base + after);
          }
          return this.#string(buf, after, end, base);
        }
        if (container === 2) return this.#node(buf, after, end, base, 'listpack');
        throw new RdbFormatError(`unknown quicklist container ${container}`, base + pos);
      }
    }
  }

  /** One string; a big one is announced here and passed on by run(). */
  #string(buf: Buffer, pos: number, end: number, base: number): number {
    const big = this.#bigString(buf, pos, end, base, this.#announceElement);
    if (big !== 0) return big;
    const next = this.#element(buf, pos, end, base);
    if (next >= 0) this.#remaining--;
    return next;
  }

  readonly #announceElement = (length: number): PieceTaker => {
    this.#sink.elementStart(length);
    return {
      take: (bytes, from, to) => this.#sink.elementData(bytes, from, to),
      finish: () => this.#sink.elementEnd(),
    };
  };

  /** Hands on the string at `pos` in one piece; the position behind it, or -1 where bytes are missing. */
  #element(buf: Buffer, pos: number, end: number, base: number): number {
    const length = readStringLength(buf, pos, end, base);
    if (length < 0) return -1;
    if (!lengthResult.special) {
      // nearly every element of a huge collection: no object for it
      checkHeldLength(length, base + pos);
      const start = lengthResult.next;
      if (length > end - start) return -1;
      this.#sink.element(buf, start, start + length);
      return start + length;
    }
    const decoded = decodeString(buf, pos, end, base);
    if (decoded === null) return -1;
    this.#sink.element(decoded.bytes, 0, decoded.bytes.length);
    return decoded.next;
  }

  /**
   * Where a big string stands at `pos`: begins to pass it on to the taker made for its decoded length, and returns
   * the position of its body. 0: it is not big; -1: its header is not complete.
   */
  #bigString(
    buf: Buffer,
    pos: number,
    end: number,
    base: number,
    takerFor: (length: number) => PieceTaker,
  ): number {
    const length = readStringLength(buf, pos, end, base);
    if (length < 0) return -1;
    const body = lengthResult.next;
    if (!lengthResult.special) {
      if (length <= BIG_ELEMENT_BYTES) return 0;
      this.#pending = length;
      this.#taker = takerFor(length);
      this.#remaining--;
      return body;
    }
    if (length !== 3) return 0;
    const header = lzfHeader(buf, body, end, base);
    if (header === null) return -1;
    if (header.length <= BIG_ELEMENT_BYTES) return 0;
    const taker = takerFor(header.length);
    this.#pending = header.compressed;
    this.#taker = taker;
    this.#inflate = new LzfStream(header.length, (chunk) => taker.take(chunk, 0, chunk.length), base + pos);
    this.#remaining--;
    return header.body;
  }

  #scored(buf: Buffer, pos: number, end: number, base: number): number {
    const body = stringBodyLength(buf, pos, end, base);
    if (body < 0) return -1;
    const scoreAt = lengthResult.next + body;
    if (scoreAt >= end) {
      checkHeldLength(body, base + pos);
      return -1;
    }
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
    this.#score(score);
    this.#element(buf, pos, end, base);
    this.#remaining--;
    return next;
  }

  #score(score: number): void {
    // the text of a whole number costs no string; what visitInteger does not know is the zero with a sign
    if (Number.isSafeInteger(score) && !Object.is(score, -0)) {
      visitInteger(score, this.#passOnText);
      return;
    }
    const length = this.#scoreText.write(formatDouble(score), 'latin1');
    this.#sink.element(this.#scoreText, 0, length);
  }

  readonly #passOnText: VisitElement = (text, start, end) => this.#sink.element(text, start, end);

  #node(buf: Buffer, pos: number, end: number, base: number, form: 'ziplist' | 'listpack'): number {
    const big = this.#bigString(
      buf,
      pos,
      end,
      base,
      (length) => new BigNode(this.#sink, form, length, base + pos),
    );
    if (big !== 0) return big;
    const node = decodeString(buf, pos, end, base);
    if (node === null) return -1;
    visitNode(this.#sink, form, node.bytes, base + pos);
    this.#remaining--;
    return node.next;
  }
}

type NodeForm = 'ziplist' | 'listpack';

function visitNode(sink: RdbSink, form: NodeForm, node: Buffer, base: number): void {
  const visit = (bytes: Buffer, start: number, end: number): void => sink.element(bytes, start, end);
  const forEach = form === 'ziplist' ? forEachZiplist : forEachListpack;
  forEach(node, 0, node.length, visit, base);
}

/** Takes the decoded bytes of a string that is too big to be held, in pieces. */
interface PieceTaker {
  take(bytes: Buffer, start: number, end: number): void;
  finish(): void;
}

/** Bytes in front of the data of a node's only element, where that is a string with a 32-bit length (3.4). */
const LONE_HEAD_BYTES: Record<NodeForm, number> = { listpack: 11, ziplist: 16 };
/** Of a listpack's entry its encoding and length, which its backward length covers, too. */
const LONE_ENTRY_HEAD_BYTES = 5;
/** A ziplist ends with one byte; a listpack with that and the backward length of its entry. */
const END_BYTES = 1;
/** Servers let neither form grow beyond this (6.2, 7.0). */
const LONGEST_NODE = 1 << 30;

/**
 * A list node beyond the limit. Servers make them of one huge element: that is passed on in pieces. A node of many
 * elements (an unusual list-max-listpack-size) is gathered and taken apart at its end.
 */
class BigNode implements PieceTaker {
  readonly #sink: RdbSink;
  readonly #form: NodeForm;
  readonly #length: number;
  readonly #offset: number;
  readonly #head: Buffer;
  #headFilled = 0;
  /** Bytes of the only element that are still to come; null: the node is gathered. */
  #loneLeft: number | null = null;
  /** What has come of a node that is gathered: its length is a claim, no reason to allocate anything. */
  readonly #gathered: Buffer[] = [];

  constructor(sink: RdbSink, form: NodeForm, length: number, offset: number) {
    this.#sink = sink;
    this.#form = form;
    this.#length = length;
    this.#offset = offset;
    this.#head = Buffer.alloc(LONE_HEAD_BYTES[form]);
  }

  take(bytes: Buffer, start: number, end: number): void {
    let at = start;
    if (this.#headFilled < this.#head.length) {
      const copied = bytes.copy(
        this.#head,
        this.#headFilled,
        at,
        Math.min(end, at + this.#head.length - this.#headFilled),
      );
      this.#headFilled += copied;
      at += copied;
      if (this.#headFilled < this.#head.length) return;
      this.#begin();
    }
    if (this.#loneLeft === null) {
      this.#gathered.push(Buffer.from(bytes.subarray(at, end)));
    } else if (this.#loneLeft > 0) {
      const piece = Math.min(this.#loneLeft, end - at);
      if (piece > 0) this.#sink.elementData(bytes, at, at + piece);
      this.#loneLeft -= piece;
      if (this.#loneLeft === 0) this.#sink.elementEnd();
    }
  }

  finish(): void {
    if (this.#loneLeft === null) {
      visitNode(this.#sink, this.#form, Buffer.concat(this.#gathered), this.#offset);
    }
  }

  #begin(): void {
    const head = this.#head;
    // both forms begin with their own length: a damaged one must not decide how much is allocated
    if (head.readUInt32LE(0) !== this.#length) {
      throw new RdbFormatError('a list node has another length than its string', this.#offset);
    }
    const lone =
      this.#form === 'listpack'
        ? head.readUInt16LE(4) === 1 && head[6] === 0xf0
        : head.readUInt16LE(8) === 1 && head[10] === 0 && head[11] === 0x80;
    if (lone) {
      const length = this.#form === 'listpack' ? head.readUInt32LE(7) : head.readUInt32BE(12);
      const backlen = this.#form === 'listpack' ? widthOfBacklen(LONE_ENTRY_HEAD_BYTES + length) : 0;
      if (head.length + length + backlen + END_BYTES !== this.#length) {
        throw new RdbFormatError('a list node has another length than its only element', this.#offset);
      }
      this.#loneLeft = length;
      this.#sink.elementStart(length);
      return;
    }
    if (this.#length > LONGEST_NODE) {
      throw new RdbFormatError(`a list node of ${this.#length} bytes`, this.#offset);
    }
    this.#gathered.push(head);
  }
}
