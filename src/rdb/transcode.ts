/**
 * Writes a value in an older form, for targets that do not take its own (protocol.md 3.8; forms.ts says which form can
 * be which). Pure: the bytes of one value in, those of another out. What the older form has no place for is lost, and
 * told.
 *
 * What is damaged is refused here, not left to the target: a server before 6.2 ends itself where RESTORE brings it a field
 * of a hash twice, or a stream whose parts do not fit together (run on 2.8.17, 5.0.10 and 6.0.9).
 */
import { InvariantError, RdbFormatError } from '../core/errors.ts';
import { parseScore, textDouble } from './doubles.ts';
import type { VisitElement } from './encodings/element.ts';
import { forEachListpack } from './encodings/listpack.ts';
import { forEachQuicklistNode } from './encodings/quicklist.ts';
import { forEachZiplist } from './encodings/ziplist.ts';
import { type ExpiringForm, readExpiringHash, writeExpiringHash } from './field-ttls.ts';
import { FORM, type Form } from './forms.ts';
import { Names } from './names.ts';
import { TYPE } from './opcodes.ts';
import { decodeString } from './strings.ts';
import { ValueBuilder, ValueReader } from './value-bytes.ts';

/** What a value can lose on the way to an older form. */
export type Loss =
  /** Fields of a hash that would expire stay. */
  | 'field-ttls'
  /** Which messages of a stream came already, by their producers' own ids (Redis 8.6). */
  | 'stream-producers'
  /** Pending entries of a stream that nobody holds any more (Redis 8.8): a consumer named `nacked` holds them. */
  | 'stream-nacks'
  /** Counters of a stream (7.0: entries ever added, read by a group, highest deleted id), last activity (7.2). */
  | 'stream-counters';

export interface Transcoded {
  /** The one that was asked for, or one that every server takes, where the value needs no more. */
  readonly form: Form;
  readonly value: Buffer;
  readonly losses: readonly Loss[];
}

/** Who holds the pending entries that nobody holds, where there is no place for such; as a string of an RDB. */
const NACKED = Buffer.from('\x06nacked');
const NO_LOSS: readonly Loss[] = [];

/**
 * The value `bytes[start..end)` of form `from` in form `to`, which planForm() has chosen.
 * @param offset RDB offset of `bytes[start]`, for errors
 * @throws RdbFormatError where it is damaged
 */
export function transcode(
  from: Form,
  to: Form,
  bytes: Buffer,
  start: number,
  end: number,
  offset: number,
): Transcoded {
  const value = new ValueReader(bytes, start, end, offset);
  switch (from) {
    case TYPE.quicklist:
    case TYPE.quicklist2:
      return plain(to, list(from, value));
    case TYPE.setListpack:
      return plain(to, strings(value, 1));
    case TYPE.hashListpack:
      return plain(to, strings(value, 2));
    case TYPE.zset2:
      return plain(to, zset(value));
    case TYPE.zsetListpack:
      return plain(to, packedZset(value));
    case FORM.hashTtlsPreGa:
    case FORM.hashTtlsListpackPreGa:
    case FORM.hashTtls:
    case FORM.hashTtlsListpack:
    case FORM.hashTtlsValkey:
      return expiringHash(from, to, value);
    default:
      return stream(generationOf(from), to, value);
  }
}

function plain(form: Form, value: Buffer): Transcoded {
  return { form, value, losses: NO_LOSS };
}

/** What was built, with the number of its elements in front. */
function counted(count: number, body: ValueBuilder): Buffer {
  return new ValueBuilder().length(count).raw(body.bytes).bytes;
}

/** Lists of nodes as one of plain strings. */
function list(from: typeof TYPE.quicklist | typeof TYPE.quicklist2, value: ValueReader): Buffer {
  const body = new ValueBuilder();
  const add: VisitElement = (bytes, start, end) => void body.string(bytes, start, end);
  let elements = 0;
  for (let left = value.count(); left > 0; left--) {
    const { offset } = value;
    if (from === TYPE.quicklist) {
      const node = value.string();
      elements += forEachZiplist(node, 0, node.length, add, offset);
    } else {
      const container = value.length();
      const node = value.string();
      elements += forEachQuicklistNode(container, node, 0, node.length, add, offset);
    }
  }
  value.finish();
  return counted(elements, body);
}

/** The listpack of a set (`each` 1) or a hash (2) as plain strings. */
function strings(value: ValueReader, each: 1 | 2): Buffer {
  const { offset } = value;
  const names = new Names('element');
  const body = new ValueBuilder();
  let isContent = false;
  const elements = inListpack(value, each, (bytes, start, end) => {
    if (!isContent) names.add(bytes, start, end, offset);
    isContent = each === 2 && !isContent;
    body.string(bytes, start, end);
  });
  return counted(elements / each, body);
}

function zset(value: ValueReader): Buffer {
  const names = new Names('member');
  const body = new ValueBuilder();
  const members = value.count();
  for (let left = members; left > 0; left--) {
    const memberAt = value.offset;
    const member = value.rawString();
    names.add(member, 0, member.length, memberAt);
    body.raw(member);
    const { offset } = value;
    const score = value.raw(8).readDoubleLE();
    if (Number.isNaN(score)) throw new RdbFormatError('a sorted set holds the score NaN', offset);
    body.raw(textDouble(score));
  }
  value.finish();
  return counted(members, body);
}

function packedZset(value: ValueReader): Buffer {
  const { offset } = value;
  const names = new Names('member');
  const body = new ValueBuilder();
  let isScore = false;
  const elements = inListpack(value, 2, (bytes, start, end) => {
    if (isScore) {
      body.raw(textDouble(parseScore(bytes.toString('latin1', start, end), offset)));
    } else {
      names.add(bytes, start, end, offset);
      body.string(bytes, start, end);
    }
    isScore = !isScore;
  });
  return counted(elements / 2, body);
}

/** Visits the elements of the one listpack that is the value; there must be a multiple of `each`. */
function inListpack(value: ValueReader, each: 1 | 2, visit: VisitElement): number {
  const { offset } = value;
  const packed = value.listpack();
  value.finish();
  const elements = forEachListpack(packed, 0, packed.length, visit, offset);
  if (elements % each !== 0) throw new RdbFormatError('a listpack ends in the middle of a pair', offset);
  return elements;
}

function expiringHash(from: ExpiringForm, to: Form, value: ValueReader): Transcoded {
  const fields = readExpiringHash(from, value);
  const expires = fields.some(({ atMs }) => atMs > 0);
  if (expires && (to === FORM.hashTtls || to === FORM.hashTtlsValkey)) {
    return plain(to, writeExpiringHash(to, fields));
  }
  const body = new ValueBuilder();
  for (const { name, content } of fields) body.raw(name).raw(content);
  return {
    form: TYPE.hash,
    value: counted(fields.length, body),
    losses: expires ? ['field-ttls'] : NO_LOSS,
  };
}

/** Streams have grown by additions only: 5.0, 7.0, 7.2, 8.6, 8.8 (protocol.md 3.4). */
type Generation = 1 | 2 | 3 | 4 | 5;

function generationOf(form: Form): Generation {
  switch (form) {
    case TYPE.stream:
      return 1;
    case TYPE.stream2:
      return 2;
    case TYPE.stream3:
      return 3;
    case FORM.stream4:
      return 4;
    case FORM.stream5:
      return 5;
    default:
      throw new InvariantError(`form ${form} is not written in another one`);
  }
}

/** Bytes of an entry's id, where it stands as raw bytes. */
const ID_BYTES = 16;
const TIME_BYTES = 8;
/** The last activity of a consumer that has had none: -1. */
const NEVER = Buffer.alloc(TIME_BYTES, 0xff);

/** The nodes and all that both generations know stay byte for byte. */
function stream(from: Generation, to: Form, value: ValueReader): Transcoded {
  const wanted = generationOf(to);
  const losses = new Set<Loss>();
  const out = new ValueBuilder();
  const nodes = value.count();
  out.length(nodes);
  const ids = new Names('node of a stream');
  for (let left = nodes; left > 0; left--) streamNode(value, out, ids);
  // its length, its last id
  out.raw(value.rawLengths(3));
  if (from >= 2) {
    // its first id, its highest deleted one, how many entries were ever added
    const counters = value.rawLengths(5);
    if (wanted >= 2) out.raw(counters);
    else losses.add('stream-counters');
  }
  const groups = value.count();
  out.length(groups);
  const names = new Names('group');
  for (let left = groups; left > 0; left--) group(from, wanted, value, out, losses, names);
  if (from >= 4) {
    const producers = new ValueBuilder().raw(value.rawLengths(2));
    const count = value.count();
    producers.length(count);
    for (let left = count; left > 0; left--) producer(value, producers);
    producers.raw(value.rawLengths(2));
    if (wanted >= 4) out.raw(producers.bytes);
    else if (count > 0) losses.add('stream-producers');
  }
  value.finish();
  return { form: to, value: out.bytes, losses: [...losses] };
}

/** The id of its first entry, and a listpack of all of them, which stays as it is. */
function streamNode(value: ValueReader, out: ValueBuilder, ids: Names): void {
  const idAt = value.offset;
  const id = value.string();
  if (id.length !== ID_BYTES) throw new RdbFormatError('a node of a stream has no id', idAt);
  ids.add(id, 0, ID_BYTES, idAt);
  const { offset } = value;
  const packed = value.rawString();
  // never null: rawString() has seen all of it
  const node = decodeString(packed, 0, packed.length, offset)!.bytes;
  if (forEachListpack(node, 0, node.length, () => undefined, offset) === 0) {
    throw new RdbFormatError('a node of a stream holds nothing', offset);
  }
  out.string(id).raw(packed);
}

function group(
  from: Generation,
  wanted: Generation,
  value: ValueReader,
  out: ValueBuilder,
  losses: Set<Loss>,
  names: Names,
): void {
  const nameAt = value.offset;
  const groupName = value.rawString();
  names.add(groupName, 0, groupName.length, nameAt);
  // the id that was delivered last
  out.raw(groupName).raw(value.rawLengths(2));
  if (from >= 2) {
    const entriesRead = value.rawLengths(1);
    if (wanted >= 2) out.raw(entriesRead);
  }
  const pending = value.count();
  out.length(pending);
  const unowned = new Names('pending entry');
  for (let left = pending; left > 0; left--) {
    const { offset } = value;
    const entry = value.raw(ID_BYTES + TIME_BYTES);
    unowned.add(entry, 0, ID_BYTES, offset);
    out.raw(entry).raw(value.rawLengths(1));
  }

  const consumers: Consumer[] = [];
  const consumerNames = new Names('consumer');
  for (let left = value.count(); left > 0; left--) {
    const { offset } = value;
    const name = value.rawString();
    consumerNames.add(name, 0, name.length, offset);
    const seen = value.raw(TIME_BYTES);
    const active = from >= 3 ? value.raw(TIME_BYTES) : NEVER;
    if (from >= 3 && wanted < 3) losses.add('stream-counters');
    consumers.push({ name, seen, active, held: [ownedIds(value, unowned)] });
  }
  if (from >= 5) {
    const nacked = ownedIds(value, unowned);
    if (nacked.length > 0) {
      losses.add('stream-nacks');
      const holder = consumers.find(({ name }) => name.equals(NACKED));
      if (holder !== undefined) holder.held.push(nacked);
      else consumers.push({ name: NACKED, seen: Buffer.alloc(TIME_BYTES), active: NEVER, held: [nacked] });
    }
  }
  out.length(consumers.length);
  for (const { name, seen, active, held } of consumers) {
    out.raw(name).raw(seen);
    if (wanted >= 3) out.raw(active);
    out.length(held.reduce((sum, ids) => sum + ids.length, 0) / ID_BYTES);
    for (const ids of held) out.raw(ids);
  }
}

/** A number of ids, and these; each of them is pending, and nobody else's. */
function ownedIds(value: ValueReader, unowned: Names): Buffer {
  const count = value.count();
  const { offset } = value;
  const ids = value.raw(count * ID_BYTES);
  for (let at = 0; at < ids.length; at += ID_BYTES) {
    unowned.take(ids, at, at + ID_BYTES, offset + at);
  }
  return ids;
}

/** Of a group; all as it stands in an RDB. */
interface Consumer {
  readonly name: Buffer;
  readonly seen: Buffer;
  readonly active: Buffer;
  /** The ids of its pending entries. */
  readonly held: Buffer[];
}

/** A producer: its name, then its own ids of messages, each with the id that the message got. */
function producer(value: ValueReader, out: ValueBuilder): void {
  out.raw(value.rawString());
  const ids = value.count();
  out.length(ids);
  for (let left = ids; left > 0; left--) out.raw(value.rawString()).raw(value.rawLengths(2));
}
