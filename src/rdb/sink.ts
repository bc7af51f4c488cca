/** What the reader hands on. Slices are valid only during the call; nothing here allocates per key. */
import type { RdbFamily } from './opcodes.ts';

/** The key in hand: one mutable object per reader. */
export interface RdbEntry {
  /** Position of the entry's first byte (its expiry opcode, where it has one). */
  start: number;
  /** Position of the value's first byte, behind the key; for errors. */
  valueStart: number;
  db: number;
  type: number;
  /** The module's type, as TYPE names it, where the value is one of a module; '' for all others. */
  module: string;
  key: Buffer;
  keyStart: number;
  keyEnd: number;
  /** Absolute, ms since the epoch; -1: none. */
  expireAtMs: number;
  /** Seconds since the last use; -1: not told. */
  idleSeconds: number;
  /** LFU counter 0..255; -1: not told. */
  freq: number;
}

/** Collections that can be rebuilt from their elements, for values too big to be held. */
export type ElementKind = 'list' | 'set' | 'zset' | 'hash';

export interface RdbSink {
  header(family: RdbFamily, version: number): void;
  aux(start: number, name: string, value: Buffer): void;
  resizeDb(keys: number, expires: number): void;
  /** Source code of a function library, beginning `#!`. */
  functionLibrary(start: number, code: Buffer): void;
  /** Something that is passed over and that people should know of. */
  skipped(what: string): void;
  /** Something that no command brings to a target: passed over here, and not to be lost without a word. */
  unbringable(start: number, what: string): void;

  /** A string value, decoded. */
  string(entry: RdbEntry, buf: Buffer, start: number, end: number): void;
  /** Any other value, as it stands in the file: the body of a DUMP payload. */
  value(entry: RdbEntry, buf: Buffer, start: number, end: number): void;

  /**
   * True where a collection too big to be held is to come element by element, instead of as a payload in pieces; it comes
   * so in any case where it is very big.
   */
  prefersElements(entry: RdbEntry): boolean;
  /** A value too big to be held, in pieces: `string` plain bytes, `payload` as it stands in the file. */
  blobStart(entry: RdbEntry, form: 'string' | 'payload', length: number): void;
  blobData(buf: Buffer, start: number, end: number): void;
  blobEnd(): void;

  /** A collection too big to be held, element by element; zset: score text, then member; hash: field, value. */
  elementsStart(entry: RdbEntry, kind: ElementKind): void;
  element(buf: Buffer, start: number, end: number): void;
  elementStart(length: number): void;
  elementData(buf: Buffer, start: number, end: number): void;
  elementEnd(): void;
  elementsEnd(): void;
}

const nothing = (): void => undefined;

/** Hands nothing on: for a reader that is only to find where things end. */
export const IGNORING_SINK: RdbSink = {
  header: nothing,
  aux: nothing,
  resizeDb: nothing,
  functionLibrary: nothing,
  skipped: nothing,
  unbringable: nothing,
  string: nothing,
  value: nothing,
  // to find its end in one go
  prefersElements: () => true,
  blobStart: nothing,
  blobData: nothing,
  blobEnd: nothing,
  elementsStart: nothing,
  element: nothing,
  elementStart: nothing,
  elementData: nothing,
  elementEnd: nothing,
  elementsEnd: nothing,
};
