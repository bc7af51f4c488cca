/** For the tests of this folder: shows bytes to a reader the way the feed does, and writes down what it hands on. */
import assert from 'node:assert/strict';
import type { RdbFamily } from '../../../src/rdb/opcodes.ts';
import { RdbReader } from '../../../src/rdb/reader.ts';
import type { ElementKind, RdbEntry, RdbSink } from '../../../src/rdb/sink.ts';

export interface EntryRecord {
  readonly kind: 'string' | 'value' | 'blob' | 'elements';
  readonly start: number;
  readonly db: number;
  readonly type: number;
  readonly key: string;
  readonly expireAtMs: number;
  readonly idleSeconds: number;
  readonly freq: number;
  /** For blobs: what was announced; null elsewhere. */
  readonly form: string | null;
  /** The value's bytes, or its elements, latin1: every byte kept. */
  readonly value: string | readonly string[];
}

/** Every call as data that can be compared; the reader's slices are copied during the call. */
export class Recorder implements RdbSink {
  readonly entries: EntryRecord[] = [];
  readonly others: string[] = [];
  #parts: Buffer[] = [];
  #open: EntryRecord | null = null;
  #elements: string[] = [];
  #announced = 0;
  readonly #prefersElements: boolean;

  constructor(prefersElements = true) {
    this.#prefersElements = prefersElements;
  }

  prefersElements(): boolean {
    return this.#prefersElements;
  }
  header(family: RdbFamily, version: number): void {
    this.others.push(`header ${family} ${version}`);
  }
  aux(start: number, name: string, value: Buffer): void {
    this.others.push(`aux ${start} ${name}=${value.toString('latin1')}`);
  }
  resizeDb(keys: number, expires: number): void {
    this.others.push(`resizeDb ${keys} ${expires}`);
  }
  functionLibrary(start: number, code: Buffer): void {
    this.others.push(`function ${start} ${code.toString('latin1')}`);
  }
  skipped(what: string): void {
    this.others.push(`skipped ${what}`);
  }
  unbringable(start: number, what: string): void {
    this.others.push(`unbringable ${start} ${what}`);
  }
  string(entry: RdbEntry, buf: Buffer, start: number, end: number): void {
    this.#closed();
    this.entries.push(record(entry, 'string', null, buf.toString('latin1', start, end)));
  }
  value(entry: RdbEntry, buf: Buffer, start: number, end: number): void {
    this.#closed();
    assert.ok(end <= buf.length && start <= end);
    this.entries.push(record(entry, 'value', null, buf.toString('latin1', start, end)));
  }
  blobStart(entry: RdbEntry, form: 'string' | 'payload', length: number): void {
    this.#closed();
    this.#open = record(entry, 'blob', form, '');
    this.#announced = length;
    this.#parts = [];
  }
  blobData(buf: Buffer, start: number, end: number): void {
    this.#parts.push(Buffer.from(buf.subarray(start, end)));
  }
  blobEnd(): void {
    assert.ok(this.#open !== null);
    this.entries.push({ ...this.#open, value: this.#joined() });
    this.#open = null;
  }
  elementsStart(entry: RdbEntry, kind: ElementKind): void {
    this.#closed();
    this.#open = record(entry, 'elements', kind, '');
    this.#elements = [];
  }
  element(buf: Buffer, start: number, end: number): void {
    this.#elements.push(buf.toString('latin1', start, end));
  }
  elementStart(length: number): void {
    this.#announced = length;
    this.#parts = [];
  }
  elementData(buf: Buffer, start: number, end: number): void {
    this.blobData(buf, start, end);
  }
  elementEnd(): void {
    this.#elements.push(this.#joined());
  }
  elementsEnd(): void {
    assert.ok(this.#open !== null);
    this.entries.push({ ...this.#open, value: this.#elements });
    this.#open = null;
  }

  /** A reader that goes back leaves what it had begun; see rewind. */
  abandon(): void {
    this.#open = null;
  }

  #closed(): void {
    assert.equal(this.#open, null, 'an entry inside another');
  }
  #joined(): string {
    const bytes = Buffer.concat(this.#parts);
    assert.equal(bytes.length, this.#announced, 'as many bytes as announced');
    return bytes.toString('latin1');
  }
}

function record(entry: RdbEntry, kind: EntryRecord['kind'], form: string | null, value: string): EntryRecord {
  const { start, db, type, key, keyStart, keyEnd, expireAtMs, idleSeconds, freq } = entry;
  const name = key.toString('latin1', keyStart, keyEnd);
  return { kind, start, db, type, key: name, expireAtMs, idleSeconds, freq, form, value };
}

/**
 * A reader with bytes that arrive bit by bit, shown as the spool shows them: all there are up to a block's end, more
 * only where it wants more. Each view is a copy that is spoilt afterwards: who keeps a slice is found out.
 */
export class Feeding {
  readonly sink = new Recorder();
  readonly reader: RdbReader;
  readonly #bytes: Buffer;
  readonly #blockBytes: number;
  #received = 0;
  /** What the reader said that it does not need any more. */
  #released = 0;

  /** @param options.sink gets what the reader hands on, instead of `sink` */
  constructor(
    bytes: Buffer,
    blockBytes = 1 << 20,
    options: { readonly verify?: boolean; readonly sink?: RdbSink } = {},
  ) {
    this.reader = new RdbReader(options.sink ?? this.sink, { verify: options.verify ?? true });
    this.#bytes = bytes;
    this.#blockBytes = blockBytes;
  }

  /** Lets bytes up to `received` arrive and reads as far as possible, or until `stop` says so. */
  arrive(received: number, stop: () => boolean = () => false): void {
    this.#received = received;
    const { reader } = this;
    for (let idle = 0; !reader.done && !stop(); ) {
      const from = reader.position;
      const available = this.#received - from;
      if (available === 0) return;
      const view = this.#view(from, Math.min(reader.want, available));
      const moved = reader.consume(view);
      assert.equal(moved || reader.position === from, true, 'moved without saying so');
      assert.ok(reader.position <= from + view.length, 'moved beyond what it was shown');
      const shown = view.length;
      view.fill(0xee);
      this.#released = Math.max(this.#released, this.keptFrom);
      if (!moved && shown === available) return;
      idle = moved && reader.position === from ? idle + 1 : 0;
      assert.ok(idle < 3, 'the reader stands still');
    }
  }

  /** Up to here nothing is looked at again. */
  protected get keptFrom(): number {
    return this.reader.keepFrom;
  }

  rewind(start: number): void {
    assert.ok(start >= this.#released, `goes back to ${start}, released up to ${this.#released}`);
    this.sink.abandon();
    this.reader.rewind(start);
  }

  #view(from: number, want: number): Buffer {
    assert.ok(from >= this.#released, `looks at ${from}, released up to ${this.#released}`);
    const inBlock = this.#blockBytes - (from % this.#blockBytes);
    const length = Math.min(Math.max(want, inBlock), this.#received - from);
    return Buffer.from(this.#bytes.subarray(from, from + length));
  }
}

/** Everything that a reader hands on of these bytes; they may be cut anywhere, and end too early. */
export function read(chunks: readonly Buffer[], blockBytes?: number): Feeding {
  const feeding = new Feeding(Buffer.concat(chunks), blockBytes);
  let received = 0;
  for (const chunk of chunks) {
    received += chunk.length;
    feeding.arrive(received);
  }
  return feeding;
}
