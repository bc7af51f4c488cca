/**
 * Turns the entries of a snapshot into commands on the target: SET for strings, RESTORE with the value's own
 * bytes for the rest, or, where the target does not take these, with an older form of the value (rdb/transcode.ts);
 * plain commands in chunks for collections too big for one payload, or for another form. All of it may be sent again from the start of any
 * entry (SET, REPLACE, DEL before a rebuild), which is how every retry works.
 */

import { assertNever, InvariantError, TargetError } from '../../core/errors.ts';
import { keyDigest } from '../../core/key-digest.ts';
import { authorOfAux } from '../../rdb/authors.ts';
import { Crc64 } from '../../rdb/crc64.ts';
import { payloadLength, stampOf, writeFooter } from '../../rdb/dump-payload.ts';
import { holdsNothing } from '../../rdb/empty.ts';
import { EARLIEST_BYTES, earliestFieldExpiry, laterHead } from '../../rdb/field-ttls.ts';
import { FORM, type Form, familyOf, formOf, planForm, typeOf } from '../../rdb/forms.ts';
import { NEWEST_VERSION, type RdbFamily, TYPE } from '../../rdb/opcodes.ts';
import { withShortLengths } from '../../rdb/short-lengths.ts';
import type { ElementKind, RdbEntry, RdbSink } from '../../rdb/sink.ts';
import { checkHeldLength } from '../../rdb/strings.ts';
import { transcode } from '../../rdb/transcode.ts';
import type { CommandBuffer } from '../../resp/command-buffer.ts';
import type { TargetCapabilities } from './capabilities.ts';
import { CHECKPOINT_KEY } from './checkpoint.ts';
import type { TargetConnection } from './connection.ts';
import { type HeldTtls, heldHash, SHIFT_MS } from './held-ttls.ts';
import { noteLibrary } from './key-positions.ts';
import { LEASE_KEY } from './lease.ts';
import { Losses } from './losses.ts';
import { kindOf, lacking, type Skipped } from './skipped.ts';
import type { WrittenKeys } from './written-keys.ts';

/** What the rest of the program wants to know of the snapshot as it passes. */
export interface SnapshotListener {
  aux(name: string, value: Buffer): void;
  note(message: string): void;
}

const CHUNK_ELEMENTS = 512;
const CHUNK_BYTES = 64 * 1024;
/** A value that must be written in another form is held as a whole: not above this. */
const LONGEST_TRANSCODED = 64 << 20;

const ARGUMENTS_PER_ELEMENT: Record<ElementKind, number> = { list: 1, set: 1, zset: 2, hash: 2 };

const ascii = (text: string): Buffer => Buffer.from(text, 'latin1');
const SET = ascii('$3\r\nSET\r\n');
const PXAT = ascii('$4\r\nPXAT\r\n');
const RESTORE = ascii('$7\r\nRESTORE\r\n');
const REPLACE = ascii('$7\r\nREPLACE\r\n');
const ABSTTL = ascii('$6\r\nABSTTL\r\n');
const IDLETIME = ascii('$8\r\nIDLETIME\r\n');
const FREQ = ascii('$4\r\nFREQ\r\n');
const DEL = ascii('$3\r\nDEL\r\n');
const PEXPIREAT = ascii('$9\r\nPEXPIREAT\r\n');
const ADD: Record<ElementKind, Buffer> = {
  list: ascii('$5\r\nRPUSH\r\n'),
  set: ascii('$4\r\nSADD\r\n'),
  zset: ascii('$4\r\nZADD\r\n'),
  // HMSET: HSET takes one pair only before 4.0
  hash: ascii('$5\r\nHMSET\r\n'),
};

export class SnapshotWriter implements RdbSink {
  readonly #capabilities: TargetCapabilities;
  readonly #listener: SnapshotListener;
  readonly #ttls: HeldTtls | null;
  readonly #written: WrittenKeys | null;
  readonly #losses: Losses;
  #forms: ReadonlySet<Form>;
  #connection: TargetConnection | null = null;
  /** Database selected on the connection; -1: none yet. */
  #db = -1;
  #family: RdbFamily = 'redis';
  readonly #crc = new Crc64();
  readonly #scratch = Buffer.alloc(32);
  readonly #skipped: Skipped | null;
  /** Types of modules of which the target has refused a value. */
  readonly #lackingModules = new Set<string>();
  readonly #told = new Set<string>();

  /** The blob under way: what ends it. */
  #blob: Blob | null = null;
  /** The first bytes of a blob that begins with the expiry of its fields; null: they are through. */
  #blobHead: Buffer | null = null;
  #collection: Collection | null = null;
  /** What the target is told as the expiry of the key in hand; -1: none. */
  #expireAtMs = -1;

  /**
   * @param ttls which expiries are held back; null: none is
   * @param losses where it is counted what the target has no place for; left out: nothing may be lost
   * @param skipped where it is counted what the target has no type or module for; left out or null: such a value stops the run
   */
  constructor(
    capabilities: TargetCapabilities,
    listener: SnapshotListener,
    ttls: HeldTtls | null = null,
    written: WrittenKeys | null = null,
    losses = new Losses(false),
    skipped: Skipped | null = null,
  ) {
    this.#capabilities = capabilities;
    this.#forms = capabilities.forms;
    this.#losses = losses;
    this.#skipped = skipped;
    this.#listener = listener;
    this.#ttls = ttls;
    this.#written = written;
  }

  /** Writes to this connection from now on; the reader has been rewound to an entry's start. */
  attach(connection: TargetConnection): void {
    this.#connection = connection;
    this.#db = -1;
    this.#blob = null;
    this.#blobHead = null;
    this.#collection = null;
  }

  /** The forms of values that the target takes, as it has shown itself; before the first entry. */
  takeForms(forms: ReadonlySet<Form>): void {
    this.#forms = forms;
  }

  /** The target has refused a value of this type of a module: those that come are left out. */
  leaveOutModule(type: string): void {
    this.#lackingModules.add(type);
  }

  header(family: RdbFamily, version: number): void {
    this.#family = family;
    this.#losses.begin();
    this.#skipped?.begin();
    if (version > NEWEST_VERSION[family]) {
      this.#note(`the snapshot is of RDB version ${version}, which is not known: tried (--skip-unknown)`);
    }
  }

  aux(start: number, name: string, value: Buffer): void {
    this.#listener.aux(name, value);
    const author = authorOfAux(name);
    if (author !== null) this.#note(`this RDB was written by ${author}`);
    if (name === 'keydb-subexpire-key') this.#losses.meet(['member-ttls'], start, null);
    // 4.0-6.2: scripts that EVALSHA in the stream may name (protocol.md 3.2)
    if (name === 'lua') this.#plain(start, ['SCRIPT', 'LOAD', value], 0);
  }

  resizeDb(): void {}

  functionLibrary(start: number, code: Buffer): void {
    if (!this.#capabilities.functions) {
      this.#losses.meet(['functions'], start, null);
      return;
    }
    if (this.#written !== null) noteLibrary(code, this.#written);
    this.#plain(start, ['FUNCTION', 'LOAD', 'REPLACE', code], 1);
  }

  skipped(what: string): void {
    this.#note(`the snapshot holds ${what}: passed over`);
  }

  unbringable(start: number, what: string): void {
    if (this.#skipped === null) throw lacking(`the snapshot holds ${what}, which no command brings`, '?');
    this.#skipped.meet(what, start, '?');
  }

  /** Once each: entries, and whole copies, can come again. */
  #note(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#listener.note(message);
  }

  string(entry: RdbEntry, buf: Buffer, start: number, end: number): void {
    if (isOwnKey(entry)) return;
    this.#setExpiry(entry);
    if ((entry.expireAtMs >= 0 && !this.#capabilities.setPxat) || entry.idleSeconds >= 0 || entry.freq >= 0) {
      this.#restoreString(entry, buf, start, end);
      return;
    }
    const out = this.#begin(entry);
    out.begin(entry.expireAtMs >= 0 ? 5 : 3);
    out.raw(SET, 0, SET.length);
    out.bulk(entry.key, entry.keyStart, entry.keyEnd);
    out.bulk(buf, start, end);
    this.#pxat();
  }

  value(entry: RdbEntry, buf: Buffer, start: number, end: number): void {
    if (isOwnKey(entry)) return;
    const form = formOf(entry.type, this.#family);
    if (holdsNothing(form, buf, start, end)) {
      this.skipped('collections without any element, as servers before 6.2 could leave behind');
      return;
    }
    const wanted = this.#planned(entry, form);
    if (wanted === null) return;
    this.#setExpiry(entry);
    if (wanted === form) {
      // a target that takes this type is of 4.0 at least
      const before4 = !this.#forms.has(TYPE.zset2);
      const short = before4 ? withShortLengths(form, buf, start, end, entry.valueStart) : null;
      if (short === null) this.#valueAs(form, entry, buf, start, end);
      else this.#valueAs(form, entry, short, 0, short.length);
      return;
    }
    const older = transcode(form, wanted, buf, start, end, entry.valueStart);
    if (older.losses.length > 0) this.#losses.meet(older.losses, entry.start, digestOf(entry));
    this.#valueAs(older.form, entry, older.value, 0, older.value.length);
  }

  /**
   * The form in which a value goes to the target; null: it is left out.
   * @throws TargetError `target-lacks-type` where it takes none that would do
   */
  #planned(entry: RdbEntry, form: Form): Form | null {
    const wanted = this.#lackingModules.has(entry.module) ? null : planForm(form, this.#forms);
    if (wanted !== null) return wanted;
    const digest = digestOf(entry);
    const what = kindOf(form, entry.module);
    if (this.#skipped === null)
      throw lacking(`the target takes no ${what}, and key ${digest} is one`, digest);
    this.#skipped.meet(what, entry.start, digest);
    return null;
  }

  /** Fields of a hash that expire too soon do so later. */
  #valueAs(form: Form, entry: RdbEntry, buf: Buffer, start: number, end: number): void {
    const later =
      this.#ttls === null ? null : heldHash(this.#ttls, form, entry, buf, start, end, entry.valueStart);
    if (later === null) this.#restore(entry, form, buf, start, end);
    else this.#restore(entry, later.form, later.value, 0, later.value.length);
  }

  #restore(entry: RdbEntry, form: Form, buf: Buffer, start: number, end: number): void {
    const out = this.#restoreHead(entry, form, end - start);
    this.#crc.update(buf, start, end);
    out.raw(buf, start, end);
    this.#restoreTail(entry, form);
  }

  /** RESTORE costs the target a fraction of what commands do; another form needs the value as a whole in memory. */
  prefersElements(entry: RdbEntry): boolean {
    const form = formOf(entry.type, this.#family);
    return planForm(form, this.#forms) !== form || !this.#forms.has(TYPE.zset2);
  }

  blobStart(entry: RdbEntry, form: 'string' | 'payload', length: number): void {
    if (isOwnKey(entry)) {
      this.#blob = { kind: 'ignored' };
      return;
    }
    if (form === 'payload') {
      this.#payloadStart(entry, length);
      return;
    }
    this.#setExpiry(entry);
    const inline = entry.expireAtMs >= 0 && this.#capabilities.setPxat;
    const out = this.#begin(entry);
    out.begin(inline ? 5 : 3);
    out.raw(SET, 0, SET.length);
    out.bulk(entry.key, entry.keyStart, entry.keyEnd);
    out.bulkHeader(length);
    // without PXAT the key is needed for a second command, after the reader's view of it is gone
    this.#blob = { kind: 'string', entry: inline ? entry : ownKey(entry) };
  }

  #payloadStart(entry: RdbEntry, length: number): void {
    const form = formOf(entry.type, this.#family);
    const wanted = this.#planned(entry, form);
    if (wanted === null) {
      this.#blob = { kind: 'ignored' };
      return;
    }
    if (wanted !== form) {
      if (length > LONGEST_TRANSCODED) throw tooBigToTranscode(entry, length);
      this.#blob = { kind: 'gathered', entry: ownKey(entry), parts: [] };
      return;
    }
    this.#setExpiry(entry);
    this.#restoreHead(entry, form, length);
    // a listpack of this size is beyond any sensible setting: it goes as it is
    const held = this.#ttls !== null && form === FORM.hashTtls;
    this.#blobHead = held ? Buffer.alloc(0) : null;
    this.#blob = { kind: 'payload', entry: held ? ownKey(entry) : entry };
  }

  blobData(buf: Buffer, start: number, end: number): void {
    if (this.#blob === null) throw new InvariantError('blob data outside a blob');
    switch (this.#blob.kind) {
      case 'ignored':
        return;
      case 'gathered':
        this.#blob.parts.push(Buffer.from(buf.subarray(start, end)));
        return;
      case 'payload':
        if (this.#blobHead !== null) {
          this.#blobBegins(this.#blob.entry, this.#blobHead, buf.subarray(start, end));
          return;
        }
        this.#crc.update(buf, start, end);
        break;
      case 'string':
        break;
      default:
        assertNever(this.#blob);
    }
    this.#out.raw(buf, start, end);
  }

  /** Gathers the expiry in front of a big hash, and changes it where it is near. */
  #blobBegins(entry: RdbEntry, before: Buffer, piece: Buffer): void {
    const head = Buffer.concat([before, piece]);
    if (head.length < EARLIEST_BYTES) {
      this.#blobHead = head;
      return;
    }
    this.#blobHead = null;
    const atMs = earliestFieldExpiry(head, 0, entry.valueStart);
    const near = this.#ttls?.holdFields(entry.db, entry.key, entry.keyStart, entry.keyEnd, atMs) !== atMs;
    if (near) laterHead(atMs, SHIFT_MS).copy(head);
    this.blobData(head, 0, head.length);
  }

  blobEnd(): void {
    const blob = this.#blob;
    if (blob === null) throw new InvariantError('the end of a blob that was not begun');
    this.#blob = null;
    switch (blob.kind) {
      case 'ignored':
        return;
      case 'gathered': {
        const bytes = Buffer.concat(blob.parts);
        this.value(blob.entry, bytes, 0, bytes.length);
        return;
      }
      case 'payload':
        this.#restoreTail(blob.entry, formOf(blob.entry.type, this.#family));
        return;
      case 'string':
        this.#out.crlf();
        if (this.#capabilities.setPxat) this.#pxat();
        else this.#expire(blob.entry);
        return;
      default:
        assertNever(blob);
    }
  }

  elementsStart(entry: RdbEntry, kind: ElementKind): void {
    const own = ownKey(entry);
    this.#setExpiry(entry);
    const out = this.#begin(own);
    out.begin(2);
    out.raw(DEL, 0, DEL.length);
    out.bulk(own.key, own.keyStart, own.keyEnd);
    this.#collection = {
      entry: own,
      kind,
      chunk: new ElementChunk(ARGUMENTS_PER_ELEMENT[kind]),
      bigField: null,
    };
  }

  element(buf: Buffer, start: number, end: number): void {
    const { chunk } = this.#openCollection;
    chunk.add(buf, start, end);
    if (chunk.elements >= CHUNK_ELEMENTS || chunk.bytes >= CHUNK_BYTES) this.#sendElements();
  }

  elementStart(length: number): void {
    const collection = this.#openCollection;
    if (collection.kind === 'hash' && !collection.chunk.halfElement) {
      // a huge field must wait for its value: held in memory as it comes, nobody has such fields
      checkHeldLength(length, collection.entry.start);
      collection.bigField = [];
      return;
    }
    this.#sendElements();
    const { chunk } = collection;
    const out = this.#begin(collection.entry);
    out.begin(chunk.halfElement ? 4 : 3);
    out.raw(ADD[collection.kind], 0, ADD[collection.kind].length);
    out.bulk(collection.entry.key, collection.entry.keyStart, collection.entry.keyEnd);
    chunk.writeRest(out);
    out.bulkHeader(length);
  }

  elementData(buf: Buffer, start: number, end: number): void {
    const field = this.#openCollection.bigField;
    if (field === null) this.#out.raw(buf, start, end);
    else field.push(Buffer.from(buf.subarray(start, end)));
  }

  elementEnd(): void {
    const collection = this.#openCollection;
    const field = collection.bigField;
    if (field === null) {
      this.#out.crlf();
      return;
    }
    collection.bigField = null;
    const bytes = Buffer.concat(field);
    this.element(bytes, 0, bytes.length);
  }

  elementsEnd(): void {
    const { entry } = this.#openCollection;
    this.#sendElements();
    this.#collection = null;
    this.#expire(entry);
  }

  get #out(): CommandBuffer {
    return this.#live.out;
  }

  get #live(): TargetConnection {
    if (this.#connection === null) throw new InvariantError('the snapshot has no connection to go to');
    return this.#connection;
  }

  get #openCollection(): Collection {
    if (this.#collection === null) throw new InvariantError('an element outside a collection');
    return this.#collection;
  }

  /** Announces a command of this entry, after a SELECT where one is due. */
  #begin(entry: RdbEntry): CommandBuffer {
    const connection = this.#live;
    this.#written?.add(entry.db, entry.key, entry.keyStart, entry.keyEnd);
    if (entry.db !== this.#db) {
      connection.expect(entry.start);
      connection.out.command('SELECT', entry.db);
      this.#db = entry.db;
    }
    connection.expect(entry.start, 1);
    return connection.out;
  }

  #plain(start: number, args: readonly (string | Buffer)[], writes: 0 | 1): void {
    this.#live.expect(start, writes);
    this.#out.command(...args);
  }

  #setExpiry({ db, key, keyStart, keyEnd, expireAtMs }: RdbEntry): void {
    this.#expireAtMs =
      expireAtMs < 0 || this.#ttls === null
        ? expireAtMs
        : this.#ttls.hold(db, key, keyStart, keyEnd, expireAtMs);
  }

  #pxat(): void {
    if (this.#expireAtMs < 0) return;
    this.#out.raw(PXAT, 0, PXAT.length);
    // 0 is refused by SET; 1 is just as much in the past
    this.#out.bulkNumber(Math.max(1, this.#expireAtMs));
  }

  #expire(entry: RdbEntry): void {
    if (this.#expireAtMs < 0) return;
    const out = this.#begin(entry);
    out.begin(3);
    out.raw(PEXPIREAT, 0, PEXPIREAT.length);
    out.bulk(entry.key, entry.keyStart, entry.keyEnd);
    out.bulkNumber(Math.max(1, this.#expireAtMs));
  }

  /** A plain string as a payload: for what SET cannot express. */
  #restoreString(entry: RdbEntry, buf: Buffer, start: number, end: number): void {
    const length = end - start;
    const header = this.#scratch;
    header[0] = 0x80;
    header.writeUInt32BE(length, 1);
    const out = this.#restoreHead(entry, entry.type, length + 5);
    this.#crc.update(header, 0, 5);
    out.raw(header, 0, 5);
    this.#crc.update(buf, start, end);
    out.raw(buf, start, end);
    this.#restoreTail(entry, entry.type);
  }

  /** RESTORE up to and including the payload's type byte; the checksum has begun. */
  #restoreHead(entry: RdbEntry, form: Form, valueLength: number): CommandBuffer {
    const { restoreReplace, restoreAbsttl, restoreIdle } = this.#capabilities;
    if (!restoreReplace) {
      const del = this.#begin(entry);
      del.begin(2);
      del.raw(DEL, 0, DEL.length);
      del.bulk(entry.key, entry.keyStart, entry.keyEnd);
    }
    const out = this.#begin(entry);
    const absolute = entry.expireAtMs >= 0 && restoreAbsttl;
    const usage = restoreIdle && (entry.idleSeconds >= 0 || entry.freq >= 0);
    out.begin(4 + (restoreReplace ? 1 : 0) + (absolute ? 1 : 0) + (usage ? 2 : 0));
    out.raw(RESTORE, 0, RESTORE.length);
    out.bulk(entry.key, entry.keyStart, entry.keyEnd);
    if (this.#expireAtMs < 0) out.bulkNumber(0);
    else if (absolute) out.bulkNumber(Math.max(1, this.#expireAtMs));
    else out.bulkNumber(Math.max(1, this.#expireAtMs - Date.now()));
    out.bulkHeader(payloadLength(valueLength));
    this.#crc.reset();
    this.#scratch[31] = typeOf(form);
    this.#crc.update(this.#scratch, 31, 32);
    out.raw(this.#scratch, 31, 32);
    return out;
  }

  /** The payload's footer and the options announced by #restoreHead. */
  #restoreTail(entry: RdbEntry, form: Form): void {
    const out = this.#out;
    const stamp = stampOf(typeOf(form), familyOf(form));
    if (stamp === null) throw new InvariantError(`type ${typeOf(form)} has no stamp`);
    const end = writeFooter(this.#crc, this.#scratch, 8, stamp);
    out.raw(this.#scratch, 8, end);
    out.crlf();
    const { restoreReplace, restoreAbsttl, restoreIdle } = this.#capabilities;
    if (restoreReplace) out.raw(REPLACE, 0, REPLACE.length);
    if (entry.expireAtMs >= 0 && restoreAbsttl) out.raw(ABSTTL, 0, ABSTTL.length);
    if (!restoreIdle) return;
    if (entry.idleSeconds >= 0) {
      out.raw(IDLETIME, 0, IDLETIME.length);
      out.bulkNumber(entry.idleSeconds);
    } else if (entry.freq >= 0) {
      out.raw(FREQ, 0, FREQ.length);
      out.bulkNumber(entry.freq);
    }
  }

  /** Sends the whole elements gathered so far; half of one (a field without its value) stays. */
  #sendElements(): void {
    const { entry, kind, chunk } = this.#openCollection;
    if (chunk.elements === 0) return;
    const out = this.#begin(entry);
    out.begin(2 + chunk.elements * ARGUMENTS_PER_ELEMENT[kind]);
    out.raw(ADD[kind], 0, ADD[kind].length);
    out.bulk(entry.key, entry.keyStart, entry.keyEnd);
    chunk.writeWhole(out);
  }
}

/** A value that comes in pieces, and what is made of it. */
type Blob =
  | { readonly kind: 'string' | 'payload'; readonly entry: RdbEntry }
  /** It is written in another form as soon as it is whole. */
  | { readonly kind: 'gathered'; readonly entry: RdbEntry; readonly parts: Buffer[] }
  /** A key of ours, or a value that is left out. */
  | { readonly kind: 'ignored' };

interface Collection {
  readonly entry: RdbEntry;
  readonly kind: ElementKind;
  readonly chunk: ElementChunk;
  bigField: Buffer[] | null;
}

/** Elements waiting to go out together, as bulk strings. */
class ElementChunk {
  readonly #argumentsPerElement: number;
  #arguments = 0;
  #parts: Buffer[] = [];
  bytes = 0;

  constructor(argumentsPerElement: number) {
    this.#argumentsPerElement = argumentsPerElement;
  }

  get elements(): number {
    return Math.floor(this.#arguments / this.#argumentsPerElement);
  }

  get halfElement(): boolean {
    return this.#arguments % this.#argumentsPerElement !== 0;
  }

  add(buf: Buffer, start: number, end: number): void {
    this.#parts.push(Buffer.from(buf.subarray(start, end)));
    this.#arguments++;
    this.bytes += end - start;
  }

  writeWhole(out: CommandBuffer): void {
    const whole = this.elements * this.#argumentsPerElement;
    for (let i = 0; i < whole; i++) out.bulk(this.#parts[i]!, 0, this.#parts[i]!.length);
    this.#parts = this.#parts.slice(whole);
    this.#arguments -= whole;
    this.bytes = this.#parts[0]?.length ?? 0;
  }

  writeRest(out: CommandBuffer): void {
    for (const part of this.#parts) out.bulk(part, 0, part.length);
    this.#parts = [];
    this.#arguments = 0;
    this.bytes = 0;
  }
}

/** Our own two keys in the source's snapshot are left-overs of another run: they must not overwrite ours. */
function isOwnKey(entry: RdbEntry): boolean {
  const length = entry.keyEnd - entry.keyStart;
  if (entry.db !== 0 || (length !== CHECKPOINT_KEY.length && length !== LEASE_KEY.length)) return false;
  const key = entry.key.toString('latin1', entry.keyStart, entry.keyEnd);
  return key === CHECKPOINT_KEY || key === LEASE_KEY;
}

function digestOf({ key, keyStart, keyEnd }: RdbEntry): string {
  return keyDigest(key.subarray(keyStart, keyEnd));
}

function tooBigToTranscode(entry: RdbEntry, length: number): TargetError {
  const digest = digestOf(entry);
  return new TargetError(
    `the target is too old for the value of key ${digest}, and at ${length} bytes that is too big to be written in an older form (${LONGEST_TRANSCODED} at most)`,
    {
      code: 'value-too-big',
      hint: 'take a newer release for the target, or make this value smaller on the source (XTRIM for a stream)',
      keyDigest: digest,
    },
  );
}

/** The entry with a key of its own, for what outlives the reader's view. */
function ownKey(entry: RdbEntry): RdbEntry {
  const key = Buffer.from(entry.key.subarray(entry.keyStart, entry.keyEnd));
  return { ...entry, key, keyStart: 0, keyEnd: key.length };
}
